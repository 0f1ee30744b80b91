import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

from skgenad.benchmark import make_fixed_split, make_split, split_rows


def make_data(n, anomalies, seed=0):
    rng = np.random.default_rng(seed)
    y = np.zeros(n, dtype=int)
    y[rng.choice(n, anomalies, replace=False)] = 1
    # The first column names the row, so that copies can be recognised after scaling, too.
    X = np.column_stack([np.arange(n), rng.normal(size=(n, 2)) + 3 * y[:, None]])
    return X, y


SIZES = [(50, 5), (999, 40), (1_000, 10), (3_000, 600), (10_001, 30)]
PROTOCOLS = ["adbench", "clean"]


@pytest.mark.parametrize(("n", "anomalies"), SIZES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_of_rows(n, anomalies, protocol):
    X, y = make_data(n, anomalies)
    split = make_split(X, y, protocol=protocol, seed=3)
    used = min(n, 10_000) if protocol == "clean" or n >= 1_000 else 1_000
    assert len(split.X_test) == len(split.y_test) == np.ceil(0.3 * used)
    assert set(split.y_test) == {0, 1}
    share = split.y_test.mean()
    kept = y[np.r_[split.train_index, split.test_index]]
    removed = used - len(split.X_test) - len(split.X_train)
    assert not y[split.train_index].any() and split.n_train_anomalies == 0
    assert share == pytest.approx((kept.sum() + removed) / used, abs=1 / len(split.X_test))


@pytest.mark.parametrize(("n", "anomalies"), SIZES)
@pytest.mark.parametrize("contaminate", [0.0, 0.1])
@pytest.mark.filterwarnings("ignore:contaminate=:UserWarning")
def test_clean_tests_no_row_that_it_trained_on(n, anomalies, contaminate):
    X, y = make_data(n, anomalies)
    split = make_split(X, y, protocol="clean", contaminate=contaminate, seed=1)
    assert not set(split.train_index) & set(split.test_index)
    assert len(set(split.train_index)) == len(split.train_index)
    assert len(set(split.test_index)) == len(split.test_index)


def test_adbench_tests_copies_of_training_rows_of_small_sets():
    X, y = make_data(200, 20)
    split = make_split(X, y, protocol="adbench", seed=1)
    normal = split.test_index[split.y_test == 0]
    assert np.isin(normal, split.train_index).mean() > 0.8


@pytest.mark.parametrize("n", [300, 2_000, 12_000])
def test_adbench_makes_the_splits_of_adbench_itself(n):
    X, y = make_data(n, n // 10)
    split = make_split(X, y, protocol="adbench", seed=7)
    # What ADBench does, with the global generator that it uses.
    np.random.seed(7)
    rows = np.arange(n)
    if n < 1_000:
        rows = np.random.choice(rows, 1_000, replace=True)
    if n > 10_000:
        rows = np.random.choice(rows, 10_000, replace=False)
    train, test = train_test_split(rows, test_size=0.3, shuffle=True, stratify=y[rows])
    scaler = MinMaxScaler().fit(X[train])
    np.testing.assert_array_equal(split.test_index, test)
    np.testing.assert_array_equal(split.train_index, train[y[train] == 0])
    np.testing.assert_array_equal(split.X_test, scaler.transform(X[test]))
    np.testing.assert_array_equal(split.X_train, scaler.transform(X[train[y[train] == 0]]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_seed_decides_and_nothing_else(protocol, global_rng_untouched):
    X, y = make_data(400, 40)
    first, again, other = (make_split(X, y, protocol=protocol, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.X_train, again.X_train)
    np.testing.assert_array_equal(first.X_test, again.X_test)
    assert not np.array_equal(first.test_index, other.test_index)


def test_test_rows_do_not_influence_the_scaling():
    X, y = make_data(500, 50)
    split = make_split(X, y, protocol="clean", seed=1)
    far = X.copy()
    far[split.test_index] += 1e6
    moved = make_split(far, y, protocol="clean", seed=1)
    np.testing.assert_array_equal(split.X_train, moved.X_train)
    assert split.X_train.min() >= 0 and split.X_train.max() <= 1
    assert moved.X_test.max() > 100


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_contaminate_leaves_that_share_of_anomalies_in_training(share, protocol):
    X, y = make_data(2_000, 400)
    split = make_split(X, y, protocol=protocol, contaminate=share, seed=1)
    anomalies = y[split.train_index].sum()
    assert anomalies == split.n_train_anomalies
    assert anomalies / len(split.train_index) == pytest.approx(share, abs=1e-3)
    assert split.note == ""
    clean = make_split(X, y, protocol=protocol, seed=1)
    np.testing.assert_array_equal(split.X_test, clean.X_test)


def test_too_few_anomalies_for_the_share_are_all_taken_and_said():
    X, y = make_data(1_000, 10)
    with pytest.warns(UserWarning, match="asks for 77 anomalies in training, only 7"):
        split = make_split(X, y, protocol="clean", contaminate=0.1, seed=1)
    assert split.n_train_anomalies == 7
    assert "only 7" in split.note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "dirty"}, "unknown protocol 'dirty'; choose one of adbench, clean"),
        ({"contaminate": 0.6}, r"contaminate must be a share in \[0, 0.5\], got 0.6"),
        ({"contaminate": -0.1}, "contaminate must be a share"),
        ({"y": np.zeros(40, dtype=int)}, "at least 2 normal rows and 2 anomalies"),
        ({"y": np.r_[1, np.zeros(39, dtype=int)]}, "got 39 and 1"),
        ({"y": np.repeat([-1, 1], 20)}, "y must hold 1 for anomalies and 0 for normal rows"),
        ({"X": np.full((40, 2), np.nan)}, "NaN"),
        ({"X": np.ones((39, 2))}, "inconsistent numbers of samples"),
    ],
)
def test_wrong_input_says_what_is_wanted(change, message):
    X, y = make_data(40, 10)
    arguments = {"X": X, "y": y, "protocol": "clean"} | change
    with pytest.raises(ValueError, match=message):
        make_split(**arguments)


def test_boolean_labels_mean_the_same():
    X, y = make_data(100, 10)
    np.testing.assert_array_equal(
        make_split(X, y, seed=1).X_test, make_split(X, y.astype(bool), seed=1).X_test
    )


# ---- splits that come with the data -------------------------------------------


def make_parts(n_train=50, n_test=30, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n_test - 10, 10])
    return 5 + 3 * rng.normal(size=(n_train, 3)), rng.normal(size=(n_test, 3)), labels


def test_fixed_split_keeps_every_row_and_standardises_on_the_training_rows():
    train, test, labels = make_parts()
    split = make_fixed_split(train, test, labels)
    np.testing.assert_allclose(split.X_train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(split.X_train.std(axis=0), 1)
    np.testing.assert_allclose(split.X_test, (test - train.mean(axis=0)) / train.std(axis=0))
    np.testing.assert_array_equal(split.y_test, labels)
    np.testing.assert_array_equal(split.train_index, np.arange(50))
    np.testing.assert_array_equal(split.test_index, np.arange(30))
    assert split.n_train_anomalies == 0 and split.note == ""
    moved = make_fixed_split(train, 1e6 * test, labels)
    np.testing.assert_array_equal(moved.X_train, split.X_train)


def test_fixed_split_chooses_training_rows_by_the_seed_where_there_are_too_many(
    global_rng_untouched,
):
    train, test, labels = make_parts(n_train=10_050)
    first, again, other = (make_fixed_split(train, test, labels, seed=s) for s in (1, 1, 2))
    assert len(first.X_train) == len(set(first.train_index)) == 10_000
    np.testing.assert_array_equal(first.X_train, again.X_train)
    assert not np.array_equal(first.train_index, other.train_index)
    kept = train[first.train_index]
    np.testing.assert_allclose(first.X_test, (test - kept.mean(axis=0)) / kept.std(axis=0))
    few = [make_fixed_split(train[:10_000], test, labels, seed=s).X_train for s in (1, 2)]
    np.testing.assert_array_equal(*few)


def test_values_that_are_not_finite_become_the_median_of_the_training_column():
    train, test, labels = make_parts()
    gaps, gaps_test = train.copy(), test.copy()
    gaps[:3, 0], gaps[:, 2], gaps_test[4, 0], gaps_test[5, 2] = np.nan, np.inf, -np.inf, np.nan
    filled, filled_test = train.copy(), test.copy()
    filled[:3, 0] = filled_test[4, 0] = np.median(train[3:, 0])
    filled[:, 2] = filled_test[5, 2] = 0  # nothing is known of this column
    split, expected = (
        make_fixed_split(gaps, gaps_test, labels),
        make_fixed_split(filled, filled_test, labels),
    )
    np.testing.assert_array_equal(split.X_train, expected.X_train)
    np.testing.assert_array_equal(split.X_test, expected.X_test)
    assert split.note.startswith("55 values that are not finite") and expected.note == ""
    assert np.isnan(gaps[0, 0])  # the rows that were given stay as they are


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": np.ones((30, 2))}, "train has 3 columns and test has 2"),
        ({"test_labels": np.zeros(30)}, r"30 normal row\(s\) and 0 anomalies"),
        ({"test_labels": np.ones(30)}, r"0 normal row\(s\) and 30 anomalies"),
        ({"test_labels": np.repeat([-1, 1], 15)}, "1 for anomalies and 0 for normal rows"),
        ({"test_labels": np.repeat([0, 1], 10)}, "inconsistent numbers of samples"),
        ({"train": np.ones((1, 3))}, "minimum of 2"),
        ({"train": np.ones(3)}, "Expected 2D array"),
    ],
)
def test_parts_that_make_no_split_are_refused(change, message):
    arguments = dict(zip(("train", "test", "test_labels"), make_parts(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        make_fixed_split(**arguments)


# ---- rows of other papers' tables --------------------------------------------

ROW_PROTOCOLS = ["dagmm", "goad", "goad-first", "drocc"]


def make_labels(n_normal, n_anomalies, seed=0):
    labels = np.repeat([0, 1], [n_normal, n_anomalies])
    return np.random.default_rng(seed).permutation(labels)


@pytest.mark.parametrize("protocol", ROW_PROTOCOLS)
def test_rows_train_or_test_once_and_training_rows_are_normal(protocol):
    y = make_labels(301, 40)
    train, test = split_rows(y, protocol)
    both = np.concatenate([train, test])
    assert len(set(both)) == len(both)
    assert not y[train].any()
    assert set(y[test]) == {0, 1}
    left_out = np.setdiff1d(np.arange(len(y)), both)
    assert y[left_out].all()  # anomalies of the training half, where there is one
    assert (len(left_out) > 0) == (protocol == "dagmm")


@pytest.mark.parametrize(
    ("protocol", "n_normal", "n_anomalies", "n_train", "n_test_normal", "n_test_anomalies"),
    [
        ("goad", 386, 66, 193, 193, 66),  # Arrhythmia
        ("goad", 3679, 93, 1839, 1840, 93),  # Thyroid
        ("goad-first", 3679, 93, 1839, 1840, 93),
        ("drocc", 1891, 29, 1862, 29, 29),  # Abalone
        ("drocc", 4, 3, 1, 3, 3),
    ],
)
def test_numbers_of_rows_are_those_of_the_papers(
    protocol, n_normal, n_anomalies, n_train, n_test_normal, n_test_anomalies
):
    y = make_labels(n_normal, n_anomalies)
    train, test = split_rows(y, protocol)
    assert len(train) == n_train
    assert np.bincount(y[test]).tolist() == [n_test_normal, n_test_anomalies]


@pytest.mark.parametrize("n_normal", [1000, 1001])
def test_half_of_all_rows_tests_in_dagmm(n_normal):
    y = make_labels(n_normal, 250)
    train, test = split_rows(y, "dagmm")
    assert len(test) == (n_normal + 251) // 2
    half = np.setdiff1d(np.arange(len(y)), test)
    assert set(train) == set(half[y[half] == 0])
    assert 90 < y[test].sum() < 160  # drawn, not stratified


@pytest.mark.parametrize("n_normal", [2, 300, 301])
def test_the_first_half_of_the_normal_rows_in_file_order_trains_in_goads_code(n_normal):
    y = make_labels(n_normal, 40)
    normal = np.flatnonzero(y == 0)
    parts = [split_rows(y, "goad-first", seed=seed) for seed in (1, 2)]
    for train, test in parts:
        assert sorted(train) == normal[: n_normal // 2].tolist()
        assert sorted(test) == np.setdiff1d(np.arange(len(y)), train).tolist()
    # Their order is random, which is all that the seed decides.
    assert n_normal == 2 or not np.array_equal(parts[0][0], parts[1][0])


@pytest.mark.parametrize("protocol", [name for name in ROW_PROTOCOLS if name != "goad-first"])
def test_rows_are_drawn_at_random_by_the_seed_alone(protocol, global_rng_untouched):
    y = make_labels(200, 30)
    first, again, other = (split_rows(y, protocol, seed=seed) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert set(a) != set(c)
    seen = np.zeros(len(y))
    for seed in range(200):
        seen[split_rows(y, protocol, seed=seed)[0]] += 1
    share = len(first[0]) / 200
    spread = np.sqrt(max(share * (1 - share), 0.1) / 200)
    assert abs(seen[y == 0] / 200 - share).max() < 5 * spread


def test_contaminated_rows_of_dagmm_are_that_share_and_leave_the_test_alone():
    y = make_labels(2_000, 500)
    clean, clean_test = split_rows(y, "dagmm")
    train, test = split_rows(y, "dagmm", contaminate=0.05)
    np.testing.assert_array_equal(test, clean_test)
    assert set(train[y[train] == 0]) == set(clean)
    assert y[train].mean() == pytest.approx(0.05, abs=1e-3)
    assert not set(train) & set(test)
    with pytest.warns(UserWarning, match="only .* are there") as record:
        most, _ = split_rows(y, "dagmm", contaminate=0.5)
    assert record[0].filename == __file__
    assert set(most) == set(range(len(y))) - set(test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"protocol": "clean"},
            "'clean'; choose one of dagmm, goad, goad-first, drocc",
        ),
        ({"contaminate": 0.6, "protocol": "dagmm"}, r"share in \[0, 0.5\], got 0.6"),
        ({"contaminate": 0.1}, "contaminate=0.1 has no meaning for protocol 'goad'"),
        ({"y": np.repeat([-1, 1], 20)}, "1 for anomalies and 0 for normal rows"),
        ({"y": np.zeros(40)}, "0 anomalies; each must be 1 or more"),
        ({"y": make_labels(1, 10)}, "leaves 0 normal row"),
        ({"y": make_labels(10, 10), "protocol": "drocc"}, "have 10 normal rows and 10 anomalies"),
        ({"y": make_labels(5, 10), "protocol": "drocc"}, "leaves 0 normal row"),
        ({"y": []}, "leaves 0 normal row"),
        ({"y": np.zeros((4, 2))}, "1d array"),
    ],
)
def test_rows_that_cannot_be_split_are_an_error_that_says_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_rows(**({"y": make_labels(40, 10), "protocol": "goad"} | arguments))


def test_labels_of_rows_may_be_a_list_or_booleans():
    y = make_labels(50, 10)
    for same in (y.tolist(), y == 1, y.astype(float)):
        for ours, expected in zip(split_rows(same, "goad"), split_rows(y, "goad"), strict=True):
            np.testing.assert_array_equal(ours, expected)
