import contextlib
import hashlib
import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score

from skgenad import datasets
from skgenad.datasets import (
    _adbench,
    _oddbench,
    fetch_adbench,
    fetch_oddbench,
    list_adbench,
    list_builtin,
    list_folder,
    list_oddbench,
    load_builtin,
    load_folder,
    load_npz,
)
from skgenad.datasets._npz import has_split, load_split_npz

# Maker, its true log density, half the side of a square that holds all of it.
TOYS = [
    (datasets.make_eight_gaussians, datasets.eight_gaussians_log_density, 8.0),
    (datasets.make_ring, datasets.ring_log_density, 2.0),
    (datasets.make_two_clusters, datasets.two_clusters_log_density, 6.0),
    (datasets.make_local_anomalies, datasets.local_anomalies_log_density, 9.0),
]
toys = pytest.mark.parametrize(("make", "log_density", "half_side"), TOYS)
GROUPS = {
    "Classical": 47,
    "CV_by_ResNet18": 61,
    "CV_by_ViT": 61,
    "NLP_by_BERT": 13,
    "NLP_by_RoBERTa": 13,
}
X_SMALL, Y_SMALL = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 0, 0, 1])


# ---- ADBench: names ----------------------------------------------------------


@pytest.mark.parametrize(("group", "n_sets"), GROUPS.items())
def test_groups_of_adbench_are_complete(group, n_sets):
    names = list_adbench(group)
    assert len(names) == len(set(names)) == n_sets
    assert set(names) <= set(list_adbench())


def test_tables_of_adbench_are_in_the_order_of_their_numbers():
    numbers = [int(name.split("_")[0]) for name in list_adbench("Classical")]
    assert numbers == list(range(1, 48))
    assert list_adbench()[:47] == list_adbench("Classical")


def test_unknown_group_is_an_error_that_lists_them():
    with pytest.raises(ValueError, match="CV_by_ViT"):
        list_adbench("classics")


@pytest.mark.parametrize("name", list_adbench())
def test_every_listed_name_means_itself(name):
    assert _adbench.resolve(name) == name


@pytest.mark.parametrize("name", list_adbench("Classical"))
def test_number_and_group_of_a_table_may_be_left_out(name):
    short = name.split("_", 1)[1]
    for alias in (short, short.upper(), f"Classical/{name}", f"classical/{short}"):
        assert _adbench.resolve(alias) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CIFAR10_0", "ambiguous; choose from CV_by_ResNet18/CIFAR10_0, CV_by_ViT/CIFAR10_0"),
        ("20news_3", "ambiguous.*NLP_by_RoBERTa/20news_3"),
        ("cardiology", "Did you mean 6_cardio"),
        ("thyr", r"Did you mean .*38_thyroid"),
        ("NLP_by_BERT/yelb", "Did you mean NLP_by_BERT/yelp"),
        ("qqqqqq", r"no data set 'qqqqqq'. list_adbench\(\)"),
        ("", "no data set ''"),
    ],
)
def test_ambiguous_or_unknown_name_is_an_error_that_helps(name, message):
    with pytest.raises(ValueError, match=message):
        fetch_adbench(name)


def test_addresses_and_ids_of_adbench_are_those_of_its_repository():
    file = _adbench._files()["6_cardio"]
    assert file.url() == (
        "https://raw.githubusercontent.com/Minqi824/ADBench/"
        "3dac8221081e190f157d78e93bfa8867f90d0965/adbench/datasets/Classical/6_cardio.npz"
    )
    assert file.digest == "git-blob:30f9e14ea169b1a97146e1d86863280b1191de36"
    digests = {file.digest for file in _adbench._files().values()}
    assert len(digests) > 190
    assert all(len(digest) == len("git-blob:") + 40 for digest in digests)


# ---- ADBench: files ----------------------------------------------------------


@contextlib.contextmanager
def serving(folder):
    """Address of a server of a folder's files."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def blob_of(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def cardio(monkeypatch):
    """Bytes that take cardio's place, here and in the table."""
    buffer = io.BytesIO()
    np.savez(buffer, X=X_SMALL.astype(np.int16), y=Y_SMALL.astype(np.int32))
    content = buffer.getvalue()
    files = {**_adbench._files()}
    files["6_cardio"] = _adbench._remote_file("Classical/6_cardio.npz", blob_of(content))
    monkeypatch.setattr(_adbench, "_files", lambda: files)
    return content


@pytest.mark.parametrize("folder", ["adbench/Classical", "Classical", "adbench/datasets/Classical"])
def test_adbench_set_is_read_from_the_data_home(cardio, tmp_path, monkeypatch, folder):
    path = tmp_path / folder / "6_cardio.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(cardio)
    monkeypatch.setenv("SKGENAD_DATA", str(tmp_path))
    bunch = fetch_adbench("cardio")
    assert (bunch.name, bunch.group, bunch.filename) == ("6_cardio", "Classical", str(path))
    assert bunch.url in bunch.DESCR
    assert bunch.data.dtype == np.float64
    assert bunch.target.dtype == np.int64
    X, y = fetch_adbench("cardio", data_home=tmp_path, return_X_y=True)
    np.testing.assert_array_equal(X, X_SMALL)
    np.testing.assert_array_equal(y, Y_SMALL)


def test_adbench_set_is_downloaded_to_the_data_home(cardio, tmp_path):
    source = tmp_path / "mirror/adbench/datasets/Classical/6_cardio.npz"
    source.parent.mkdir(parents=True)
    source.write_bytes(cardio)

    with serving(tmp_path / "mirror") as mirror:
        bunch = fetch_adbench("cardio", data_home=tmp_path / "home", base_url=mirror)
    kept = tmp_path / "home/adbench/Classical/6_cardio.npz"
    assert bunch.filename == str(kept)
    assert kept.read_bytes() == cardio
    np.testing.assert_array_equal(bunch.data, X_SMALL)


def test_tampered_adbench_file_is_refused(cardio, tmp_path):
    path = tmp_path / "Classical/6_cardio.npz"
    path.parent.mkdir()
    path.write_bytes(cardio + b"!")
    with pytest.raises(OSError, match="does not hold what it should"):
        fetch_adbench("cardio", data_home=tmp_path)


def test_missing_adbench_file_is_not_downloaded_against_the_users_will(tmp_path):
    with pytest.raises(FileNotFoundError, match="adbench/Classical/6_cardio.npz"):
        fetch_adbench("cardio", data_home=tmp_path, download_if_missing=False)


# ---- OddBench ----------------------------------------------------------------

PARTS = {"train": X_SMALL[:4], "test": X_SMALL, "test_labels": Y_SMALL.astype(np.int8)}


@pytest.fixture
def metrics_table(monkeypatch):
    """Bytes that take the place of CodeMetrics, here and in the table."""
    buffer = io.BytesIO()
    np.savez(buffer, **{**PARTS, "train": PARTS["train"].astype(np.int64)})
    content = buffer.getvalue()
    path = "benchmarks/oddbench/CodeMetrics.npz"
    files = {**_oddbench._files(), "CodeMetrics": _oddbench._remote_file(path, blob_of(content))}
    monkeypatch.setattr(_oddbench, "_files", lambda: files)
    return content


def test_names_of_oddbench_are_sorted_and_mean_themselves():
    names = list_oddbench()
    assert len(names) == 100 and names == sorted(set(names))
    for name in names:
        assert _oddbench.resolve(name) == _oddbench.resolve(name.lower()) == name


def test_addresses_and_ids_of_oddbench_are_those_of_its_repository():
    file = _oddbench._files()["CodeMetrics"]
    assert file.url() == (
        "https://raw.githubusercontent.com/psorus/Outformer/"
        "6d616c7dc737ee1cd24f18cdc0a4989ba1f3c049/benchmarks/oddbench/CodeMetrics.npz"
    )
    assert file.path == "oddbench/CodeMetrics.npz"
    digests = {file.digest for file in _oddbench._files().values()}
    assert len(digests) == 100
    assert all(len(digest) == len("git-blob:") + 40 for digest in digests)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("metrics", "Did you mean CodeMetrics, ConfidenceMetrics"),
        ("CodeMetric5", "Did you mean CodeMetrics"),
        ("6_cardio", r"OddBench has no data set '6_cardio'.* list_oddbench\(\) names"),
    ],
)
def test_unknown_table_of_oddbench_is_an_error_that_helps(name, message):
    with pytest.raises(ValueError, match=message):
        fetch_oddbench(name)


@pytest.mark.parametrize("folder", ["oddbench", "benchmarks/oddbench"])
def test_oddbench_table_is_read_from_the_data_home(metrics_table, tmp_path, monkeypatch, folder):
    path = tmp_path / folder / "CodeMetrics.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(metrics_table)
    monkeypatch.setenv("SKGENAD_DATA", str(tmp_path))
    bunch = fetch_oddbench("codemetrics")
    assert (bunch.name, bunch.filename) == ("CodeMetrics", str(path))
    assert bunch.url in bunch.DESCR and "4 normal rows to train on, 6 rows to test" in bunch.DESCR
    for name, array in PARTS.items():
        np.testing.assert_array_equal(bunch[name], array)
    assert (bunch.train.dtype, bunch.test_labels.dtype) == (np.float64, np.int64)
    path.write_bytes(metrics_table + b"!")
    with pytest.raises(OSError, match="does not hold what it should"):
        fetch_oddbench("CodeMetrics")


def test_oddbench_table_is_downloaded_to_the_data_home(metrics_table, tmp_path):
    source = tmp_path / "mirror/benchmarks/oddbench/CodeMetrics.npz"
    source.parent.mkdir(parents=True)
    source.write_bytes(metrics_table)
    home = tmp_path / "home"
    with pytest.raises(FileNotFoundError, match=r"oddbench/CodeMetrics\.npz"):
        fetch_oddbench("CodeMetrics", data_home=home, download_if_missing=False)
    with serving(tmp_path / "mirror") as mirror:
        bunch = fetch_oddbench("CodeMetrics", data_home=home, base_url=mirror)
    assert bunch.filename == str(home / "oddbench/CodeMetrics.npz")
    np.testing.assert_array_equal(bunch.test, X_SMALL)


# ---- what scikit-learn ships -------------------------------------------------


@pytest.mark.parametrize("name", list_builtin())
def test_builtin_problem_is_sound(name):
    bunch = load_builtin(name)
    X, y = load_builtin(name, return_X_y=True)
    np.testing.assert_array_equal(bunch.data, X)
    np.testing.assert_array_equal(bunch.target, y)
    assert X.shape == (len(y), len(bunch.feature_names))
    assert X.dtype == np.float64
    assert np.isfinite(X).all()
    assert 0.05 < y.mean() <= 0.2
    assert bunch.name == name
    assert bunch.DESCR.startswith(name)


def test_builtin_problems_need_no_down_sampling_where_anomalies_are_rare():
    digits = load_digits()
    X, y = load_builtin("digits_7", return_X_y=True)
    np.testing.assert_array_equal(X, digits.data)
    np.testing.assert_array_equal(y, digits.target == 7)


def test_malignant_tumours_are_the_anomalies_and_all_benign_ones_are_kept():
    source = load_breast_cancer()
    X, y = load_builtin("breast_cancer", return_X_y=True)
    rows = {row.tobytes(): name for row, name in zip(source.data, source.target, strict=True)}
    assert [source.target_names[rows[row.tobytes()]] for row in X[y == 1]] == ["malignant"] * 89
    assert len(np.unique(X, axis=0)) == len(X)  # each row once
    assert (y == 0).sum() == (source.target == 1).sum()


def test_unknown_builtin_problem_is_an_error_that_lists_them():
    with pytest.raises(ValueError, match="'diabetes'; choose from breast_cancer, wine_0"):
        load_builtin("diabetes")


# ---- toy problems ------------------------------------------------------------


@toys
@pytest.mark.parametrize("anomalies", [0, 0.25])
def test_toy_problem_has_the_rows_it_was_asked_for(make, log_density, half_side, anomalies):
    X, y = make(200, anomalies=anomalies, random_state=0)
    assert X.shape == (200, 2)
    assert y.sum() == 200 * anomalies
    if anomalies:
        assert 0 < y[:100].sum() < y.sum()  # mixed


@toys
def test_toy_problem_depends_on_its_seed_alone(make, log_density, half_side, global_rng_untouched):
    first, same, other = (make(50, anomalies=0.2, random_state=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], same[0])
    np.testing.assert_array_equal(first[1], same[1])
    assert not np.array_equal(first[0], other[0])


@toys
def test_true_density_integrates_to_one(make, log_density, half_side):
    axis = np.linspace(-half_side, half_side, 1000)  # an even number: not through the origin
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    cell = (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(np.exp(log_density(grid)).sum() * cell, 1, atol=2e-3)


@toys
def test_true_density_is_that_of_the_rows(make, log_density, half_side):
    """The share of rows in each cell of a coarse grid is the density's integral over it."""
    X, _ = make(20_000, random_state=0)
    n_cells, n_points = 12, 40
    edges = np.linspace(-half_side, half_side, n_cells + 1)
    counts, _, _ = np.histogram2d(X[:, 0], X[:, 1], bins=[edges, edges])
    width = 2 * half_side / (n_cells * n_points)
    axis = -half_side + width * (np.arange(n_cells * n_points) + 0.5)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(log_density(grid)).reshape(n_cells, n_points, n_cells, n_points)
    expected = density.sum(axis=(1, 3)) * width**2
    error = counts / len(X) - expected
    assert (np.abs(error) < 5 * np.sqrt(expected / len(X)) + 2e-3).all()


@toys
def test_true_density_tells_anomalies_from_normal_rows(make, log_density, half_side):
    X, y = make(2000, anomalies=0.1, random_state=0)
    assert roc_auc_score(y, -log_density(X)) > 0.99


@pytest.mark.parametrize("variance", [None, np.sqrt(2) / 4])
def test_eight_gaussians_are_those_of_the_papers_code(variance):
    # The authors draw numbers of variance 1/4 around means of length 4 and divide by sqrt(2).
    given = {} if variance is None else {"variance": variance}
    X, _ = datasets.make_eight_gaussians(40_000, **given, random_state=0)
    log_density = datasets.eight_gaussians_log_density([[2.0, 2.0]], **given)[0]
    variance = variance or 1 / 8
    assert log_density == pytest.approx(-np.log(8 * 2 * np.pi * variance), abs=5e-3)
    angles = np.arange(8) * np.pi / 4
    means = np.sqrt(8) * np.column_stack([np.cos(angles), np.sin(angles)])
    offsets = X[:, None] - means
    nearest = (offsets**2).sum(axis=2).argmin(axis=1)
    np.testing.assert_allclose(np.bincount(nearest, minlength=8) / len(X), 1 / 8, atol=0.01)
    # Variance around the centre of all: that of the means along an axis, 4, and of a component.
    np.testing.assert_allclose(X.var(axis=0), 4 + variance, rtol=0.02)
    near = (X - means[nearest]).var(axis=0)
    np.testing.assert_allclose(near, variance, rtol=0.03 if variance < 0.2 else 0.2)


@pytest.mark.parametrize("variance", [1 / 8, 1.0])
def test_variance_of_eight_gaussians_reaches_density_and_anomalies(variance):
    X, y = datasets.make_eight_gaussians(2000, anomalies=0.2, variance=variance, random_state=0)
    log_density = datasets.eight_gaussians_log_density(X, variance=variance)
    assert roc_auc_score(y, -log_density) > 0.99


@toys
@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"n_samples": 0}, ValueError),
        ({"n_samples": 10.5}, TypeError),
        ({"anomalies": 1.0}, ValueError),
        ({"anomalies": -0.1}, ValueError),
        ({"anomalies": "some"}, TypeError),
    ],
)
def test_bad_parameter_of_a_toy_problem_is_named(make, log_density, half_side, kwargs, error):
    with pytest.raises(error, match=next(iter(kwargs))):
        make(**kwargs)


@pytest.mark.parametrize("value", [0.0, -1.0, 2.0])
def test_spread_of_a_toy_problem_is_checked(value):
    for call in (
        lambda: datasets.make_eight_gaussians(10, variance=value),
        lambda: datasets.eight_gaussians_log_density([[0.0, 0.0]], variance=value),
        lambda: datasets.make_ring(10, noise=value),
        lambda: datasets.ring_log_density([[1.0, 0.0]], noise=value),
    ):
        with pytest.raises(ValueError, match="variance|noise"):
            call()


@toys
def test_density_wants_points_of_the_plane(make, log_density, half_side):
    with pytest.raises(ValueError, match=r"shape \(4, 3\)"):
        log_density(np.zeros((4, 3)))


# ---- files of one's own ------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("f4", "f4"), ("f8", "f8"), ("f2", "f8"), ("u1", "f8"), ("i2", "f8"), ("?", "f8")],
)
@pytest.mark.parametrize("y", [Y_SMALL, Y_SMALL == 1, Y_SMALL.astype("f4")])
def test_npz_is_loaded_whatever_its_dtypes(tmp_path, dtype, expected, y):
    np.savez(tmp_path / "mine.npz", X=X_SMALL.astype(dtype), y=y, other=np.ones(3))
    bunch = load_npz(tmp_path / "mine.npz")
    assert bunch.data.dtype == np.dtype(expected)
    np.testing.assert_array_equal(bunch.data, X_SMALL.astype(dtype))
    assert bunch.target.dtype == np.int64
    np.testing.assert_array_equal(bunch.target, Y_SMALL)
    assert bunch.name == "mine"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X_SMALL}, "no array y; it has X"),
        ({"data": X_SMALL}, "no array X and no array y; it has data"),
        ({"X": X_SMALL, "y": Y_SMALL[:-1]}, "X has 6 rows and y has 5"),
        ({"X": X_SMALL, "y": 2 * Y_SMALL - 1}, "values -1, 1"),
        ({"X": X_SMALL, "y": np.arange(6)}, r"values 0, 1, 2, 3, 4, \.\.\.;"),
        ({"X": X_SMALL, "y": np.where(Y_SMALL, np.nan, 0)}, "values 0.0, nan"),
        ({"X": X_SMALL, "y": Y_SMALL.astype(str)}, "1 for anomalies"),
        ({"X": X_SMALL, "y": np.eye(6)}, "1d array"),
        ({"X": X_SMALL[:, 0], "y": Y_SMALL}, r"X has shape \(6,\)"),
        ({"X": np.zeros((6, 2, 2)), "y": Y_SMALL}, "Flatten"),
        ({"X": np.zeros((0, 2)), "y": Y_SMALL[:0]}, r"X has shape \(0, 2\)"),
        ({"X": X_SMALL.astype(str), "y": Y_SMALL}, "real numbers"),
        ({"X": X_SMALL.astype(complex), "y": Y_SMALL}, "real numbers"),
        ({"X": X_SMALL.astype(object), "y": Y_SMALL}, "X holds Python objects"),
    ],
)
def test_bad_arrays_are_an_error_that_names_the_file(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=rf"bad\.npz' is not a data set: .*{message}"):
        load_npz(tmp_path / "bad.npz")


def test_split_is_loaded_with_values_that_are_not_finite(tmp_path):
    gaps = np.where(X_SMALL == 3, np.nan, X_SMALL).astype(np.float32)
    np.savez(tmp_path / "parts.npz", **{**PARTS, "test": gaps})
    bunch = load_split_npz(tmp_path / "parts.npz")
    np.testing.assert_array_equal(bunch.test, gaps)
    assert bunch.test.dtype == np.float32 and bunch.train.dtype == np.float64
    assert has_split(tmp_path / "parts.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": None}, "no array test; it has .* It needs train, test and test_labels"),
        ({"test": X_SMALL[:, :1]}, "train has 2 columns and test has 1"),
        ({"test": X_SMALL[:5]}, "test has 5 rows and test_labels has 6"),
        ({"train": X_SMALL[:, 0]}, r"train has shape \(6,\)"),
        ({"test_labels": 2 * Y_SMALL - 1}, "values -1, 1"),
    ],
)
def test_bad_parts_are_an_error_that_names_the_file(tmp_path, change, message):
    arrays = {name: array for name, array in (PARTS | change).items() if array is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=rf"bad\.npz' is not a data set: .*{message}"):
        load_split_npz(tmp_path / "bad.npz")


def test_column_of_labels_is_accepted(tmp_path):
    np.savez(tmp_path / "column.npz", X=X_SMALL, y=Y_SMALL[:, None])
    np.testing.assert_array_equal(load_npz(tmp_path / "column.npz").target, Y_SMALL)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_file_that_is_no_npz_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz' is not a data set"):
        load_npz(tmp_path / "bad.npz")


def test_damaged_npz_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, X=X_SMALL, y=Y_SMALL)
    content = bytearray(path.read_bytes())
    content[150] ^= 0xFF  # in the values of X: the archive's checksum does not fit any more
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz' is not a data set"):
        load_npz(path)


def test_missing_npz_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_npz(tmp_path / "none.npz")


def test_folder_is_every_npz_in_it(tmp_path):
    for name in ("b", "a"):
        np.savez(tmp_path / f"{name}.npz", X=X_SMALL, y=Y_SMALL)
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / "._a.npz").write_bytes(b"what macOS leaves on other disks")
    assert list_folder(tmp_path) == ["a", "b"]
    sets = load_folder(str(tmp_path))
    assert [(name, bunch.name) for name, bunch in sets.items()] == [("a", "a"), ("b", "b")]
    np.savez(tmp_path / "c.npz", X=X_SMALL)
    with pytest.raises(ValueError, match=r"c\.npz"):
        load_folder(tmp_path)


def test_folder_without_data_is_an_error_that_says_where_some_is(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no \.npz file\.$"):
        load_folder(tmp_path)
    (tmp_path / "inside").mkdir()
    np.savez(tmp_path / "inside/a.npz", X=X_SMALL, y=Y_SMALL)
    with pytest.raises(FileNotFoundError, match="There are some in: .*inside"):
        load_folder(tmp_path)
