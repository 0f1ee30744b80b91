"""False alarms are bounded: q-values and selections of rows together, thresholds, classes."""

import pickle
import threading
import warnings

import numpy as np
import pytest
from pyod.models.knn import KNN
from scipy.stats import false_discovery_control
from sklearn.base import BaseEstimator, clone
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from skgenad import Committee, CrossCalibrated, LikelihoodRatio, Mahalanobis
from skgenad._core.calibration import p_values_of, rows_held_out, threshold_of
from skgenad._core.discoveries import METHODS, q_values_of
from skgenad.compat import PyODDetector, ScoreDetector, as_pyod
from skgenad.pipeline import make_pipeline

from ._files import rewrite
from ._settings import EVERY, having, normal_rows, takes, tiny

LEVELS = (0.05, 0.1, 0.2)
every_method = pytest.mark.parametrize("method", METHODS)


def calibrated(detector, fresh):
    """Fit a detector, quickly, and calibrate it by fresh rows."""
    made = detector() if detector in OTHERS else tiny(detector)
    return made.fit(normal_rows(60)).calibrate(fresh)


def _scores():
    return ScoreDetector(GaussianMixture(2), random_state=0)


def _pyod():
    return PyODDetector(KNN())


def _as_pyod():
    return as_pyod(tiny("Mahalanobis"))


def _pipeline():
    return make_pipeline(StandardScaler(), tiny("Mahalanobis"))


OTHERS = [_scores, _pyod, _as_pyod, _pipeline]
every_kind = pytest.mark.parametrize(
    "detector", [*EVERY, *OTHERS], ids=lambda kind: kind.__name__.strip("_")
)


def scored(detector, X):
    """Scores that are high for normal rows."""
    if hasattr(detector, "score_samples"):
        return detector.score_samples(X)
    return -detector.decision_function(X)


# ---- q-values -------------------------------------------------------------------------------


def random_p_values(rng):
    """P-values of some rows among some held out, often with ties; and how many are held out."""
    m, n = rng.integers(1, 60), rng.integers(1, 40)
    levels = rng.choice([2, 5, 10**6])
    held_out = np.sort(rng.integers(levels, size=m).astype(float))
    scores = rng.integers(levels, size=n) - rng.choice([0, levels // 2], n)
    return p_values_of(scores.astype(float), held_out), m


def stepped_up(p_values, levels):
    """Select by the step-up rule, written as it is in the papers."""
    order = np.argsort(p_values)
    passing = [k for k in range(len(order)) if p_values[order[k]] <= levels[k] + 1e-12]
    selected = np.zeros(len(p_values), dtype=bool)
    selected[order[: max(passing, default=-1) + 1]] = True
    return selected


@every_method
def test_q_values_select_what_the_step_up_rule_selects(method):
    rng = np.random.default_rng(0)
    for _ in range(300):
        p_values, m = random_p_values(rng)
        n = len(p_values)
        q_values = q_values_of(p_values, m, method)
        for fdr in (*LEVELS, 0.5):
            divisor = np.full(n, 1.0)
            if method == "by":
                divisor[:] = sum(1 / k for k in range(1, n + 1))
            if method == "storey":
                at = max((m + 1) // 2, 1)
                above = sum(round(p * (m + 1)) >= at for p in p_values)
                divisor[:] = (1 + above) / (n * (1 - at / (m + 1)))
            levels = fdr * np.arange(1, n + 1) / n / divisor
            np.testing.assert_array_equal(q_values <= fdr + 1e-12, stepped_up(p_values, levels))


def test_q_values_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p_values, m = random_p_values(rng)
        for method in ("bh", "by"):
            expected = false_discovery_control(p_values, method=method)
            np.testing.assert_array_equal(q_values_of(p_values, m, method), expected)


def test_storeys_are_those_made_by_hand():
    # None of four p-values is 1/2 or more: a share of 1 / (4 / 2) of normal rows.
    q_values = q_values_of(np.array([0.05, 0.05, 0.05, 0.3]), 19, "storey")
    np.testing.assert_allclose(q_values, [1 / 30, 1 / 30, 1 / 30, 0.15])
    # Two are: three halves, and no q-value above 1.
    q_values = q_values_of(np.array([0.05, 0.1, 0.5, 1.0]), 19, "storey")
    np.testing.assert_allclose(q_values, [0.3, 0.3, 1, 1])


@every_method
def test_one_row_and_one_held_out(method):
    for m, p_value in ((1, 0.5), (1, 1.0), (39, 1 / 40)):
        q_value = q_values_of(np.array([p_value]), m, method)
        assert q_value == pytest.approx(min(2 * p_value if method == "storey" else p_value, 1))


@pytest.mark.parametrize("levels", [10**9, 4])
@pytest.mark.parametrize("anomalies", [0, 3, 10])
@pytest.mark.parametrize(("m", "n"), [(1, 3), (19, 20), (100, 20)])
def test_false_discovery_rates_are_bounded(levels, anomalies, m, n):
    """Scores with ties and without, all normal rows and few: the proof's condition, and no more."""
    rng = np.random.default_rng(m + anomalies)
    repetitions = 1000
    is_normal = np.arange(n) >= min(anomalies, n)
    false = {method: np.empty((repetitions, len(LEVELS))) for method in METHODS}
    for r in range(repetitions):
        rows = np.floor(rng.random(m + n) * levels) / levels
        rows[m:][~is_normal] -= 0.7
        p_values = p_values_of(rows[m:], np.sort(rows[:m]))
        for method, rates in false.items():
            found = q_values_of(p_values, m, method)[:, None] <= np.add(LEVELS, 1e-12)
            rates[r] = (found & is_normal[:, None]).sum(axis=0) / found.sum(axis=0).clip(min=1)
    bound = {"bh": is_normal.mean(), "by": is_normal.mean(), "storey": 1.0}
    for method, rates in false.items():
        error = rates.std(axis=0) / np.sqrt(repetitions)
        assert (rates.mean(axis=0) <= np.multiply(LEVELS, bound[method]) + 3 * error).all()


def test_what_is_selected_where_all_is_normal_is_as_much_as_is_bounded():
    """Without ties, and with a level that p-values can have, "bh" uses all that it is given."""
    rng = np.random.default_rng(0)
    held_out, new = np.sort(rng.random((6000, 99)), axis=1), rng.random((6000, 5))
    any_selected = [
        (q_values_of(p_values_of(x, z), 99, "bh") <= 0.2 + 1e-12).any()
        for x, z in zip(new, held_out, strict=True)
    ]
    assert np.mean(any_selected) == pytest.approx(0.2, abs=0.02)


@every_kind
def test_every_detector_adjusts_its_p_values(detector):
    fresh, X = normal_rows(160)[60:], normal_rows(180)[160:]
    X[:6] += 30 * np.abs(X).max(axis=0)
    fitted = calibrated(detector, fresh)
    held_out = np.sort(scored(fitted, fresh))
    np.testing.assert_array_equal(
        fitted.calibration_scores_ if detector is not _pipeline else fitted[-1].calibration_scores_,
        held_out,
    )
    p_values = fitted.p_value(X)
    np.testing.assert_array_equal(p_values, p_values_of(scored(fitted, X), held_out))
    for method in METHODS:
        q_values = fitted.q_value(X, method=method)
        np.testing.assert_array_equal(q_values, q_values_of(p_values, 100, method))
        selected = fitted.select(X, fdr=0.4, method=method)
        assert selected.dtype == bool and selected[:6].all()
        np.testing.assert_array_equal(selected, q_values <= 0.4)
    np.testing.assert_array_equal(fitted.q_value(X), false_discovery_control(p_values))
    # With other rows beside it a row's q-value is another; its score is not.
    assert fitted.q_value(X[:1]) < fitted.q_value(np.concatenate([X[:1], X[6:]]))[0]


@every_kind
def test_what_cannot_be_asked_is_refused(detector):
    X = normal_rows()
    fitted = calibrated(detector, X)
    for call, bad in (
        (fitted.q_value, {"method": "holm"}),
        (fitted.select, {"fdr": 0.0}),
        (fitted.select, {"fdr": 1}),
        (fitted.select, {"by_class": "yes"}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}.*must be"):
            call(X, **bad)
    for bad in (-0.1, 0.6, "auto", None):
        with pytest.raises(ValueError, match="fpr.*must be"):
            fitted.threshold(bad)
        with pytest.raises(ValueError, match="fpr.*must be"):
            fitted.set_threshold(fpr=bad)
        with pytest.raises(ValueError, match="fpr.*must be"):
            fitted.set_threshold(fpr=bad, X=X)
    with pytest.raises(ValueError, match="p-values by class need"):
        fitted.select(X, by_class=True)
    with pytest.raises(ValueError, match="p-values by class need"):
        fitted.class_p_values(X)


@pytest.mark.parametrize("detector", [*EVERY, _pyod, _as_pyod])
def test_without_held_out_rows_it_is_said_what_to_do(detector):
    X = normal_rows()
    fitted = (tiny(detector, calibration_fraction=0.0) if detector in EVERY else detector()).fit(X)
    if getattr(fitted, "calibration_scores_", None) is None:
        for ask in ("p_value", "q_value", "select", "class_p_values"):
            with pytest.raises(ValueError, match=f"^{ask} needs rows .*all calibrate"):
                getattr(fitted, ask)(X)
        with pytest.raises(ValueError, match="^threshold needs rows .*all calibrate"):
            fitted.threshold(0.1)
        with pytest.raises(ValueError, match="^set_threshold without X needs .*all calibrate"):
            fitted.set_threshold(fpr=0.1)
    p_values = fitted.set_threshold(fpr=0.1, X=X).p_value(X)
    scores = scored(fitted, X)
    np.testing.assert_allclose(p_values, (1 + (scores <= scores[:, None]).sum(axis=1)) / 61)


def test_too_few_rows_for_a_discovery_are_warned_of():
    X = normal_rows(300)
    detector = tiny("Mahalanobis").fit(X[:60]).calibrate(X[60:160])
    far, near = 100 * X[160:170], X[160:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detector.select(np.concatenate([far, near]), fdr=0.2)[:10].all()
        assert not detector.select(X[:1], fdr=0.05).any()  # 19 rows would do for one
    with pytest.warns(UserWarning, match="None of 141 rows .* 28 at once .* needs 2819") as said:
        assert not detector.select(np.concatenate([far[:1], near])).any()
    assert said[0].filename == __file__
    detector.calibrate(X[60:75])
    with pytest.warns(UserWarning, match="With 15 rows .* none can be, and a single one needs 199"):
        assert not detector.select(far).any()
    with pytest.warns(UserWarning, match="a single one needs 585"):
        detector.select(far, method="by")


@pytest.mark.parametrize("fdr, needed", [(1e-300, r"about \de"), (5e-324, "about inf")])
@every_method
def test_any_rate_may_be_asked_for(method, fdr, needed):
    X = normal_rows(300)
    detector = tiny("Mahalanobis").fit(X[:60]).calibrate(X[60:160])
    with pytest.warns(UserWarning, match=f"none can be, and a single one needs {needed}"):
        assert not detector.select(X[160:162], fdr=fdr, method=method).any()


# ---- thresholds -----------------------------------------------------------------------------


@every_kind
def test_thresholds_flag_the_rows_that_they_say(detector):
    fresh = normal_rows(160)[60:]
    fitted = calibrated(detector, fresh)
    scores = scored(fitted, fresh)
    sign = -1 if detector is _as_pyod else 1
    for fpr in (0.01, 0.03, 0.1, 0.237, 0.5):
        threshold = fitted.threshold(fpr)
        assert isinstance(threshold, float)
        assert (scores < sign * threshold).sum() == np.ceil(round(fpr * 101, 9)) - 1
        assert sign * threshold == threshold_of(np.sort(scores), fpr)
    assert (scores >= sign * fitted.threshold(0)).all()
    with pytest.warns(UserWarning, match="fpr=0.001 needs 999 rows .* there are 100"):
        fitted.threshold(0.001)


@every_kind
def test_a_threshold_is_set_for_a_rate(detector):
    fresh, others = normal_rows(160)[60:], normal_rows(220)[160:]
    fitted = calibrated(detector, fresh)
    anomaly = 1 if detector is _as_pyod else -1
    assert fitted.set_threshold(fpr=0.25) is fitted
    assert (fitted.predict(fresh) == anomaly).sum() == 25
    assert fitted.set_threshold(fpr=0.4, X=others) is fitted
    assert (fitted.predict(others) == anomaly).sum() == 24
    np.testing.assert_array_equal(
        fitted.p_value(fresh), p_values_of(scored(fitted, fresh), np.sort(scored(fitted, others)))
    )
    twin = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(twin.predict(others), fitted.predict(others))
    rate = "fpr" if detector is _pyod else "contamination"
    with pytest.warns(UserWarning, match=f"{rate}=0.01 needs 99 rows .* there are 60"):
        fitted.set_threshold(fpr=0.01)
    with pytest.warns(UserWarning, match=f"{rate}=0.01 needs 99 rows .* there are 60"):
        fitted.set_threshold(fpr=0.01, X=others)


@pytest.mark.parametrize("detector", EVERY)
def test_the_rate_that_was_set_is_the_parameter(detector, tmp_path):
    X, fresh = normal_rows(60), normal_rows(160)[60:]
    fitted = tiny(detector, calibration_fraction="auto").fit(X).set_threshold(fpr=0.3, X=fresh)
    assert fitted.contamination == clone(fitted).contamination == 0.3
    same = tiny(detector, calibration_fraction="auto").fit(X).set_params(contamination=0.3)
    assert fitted.offset_ == same.calibrate(fresh).offset_
    fitted.save(tmp_path / "detector")
    loaded = type(fitted).load(tmp_path / "detector")
    assert loaded.offset_ == fitted.offset_ and loaded.contamination == 0.3
    np.testing.assert_array_equal(loaded.q_value(fresh), fitted.q_value(fresh))
    if hasattr(fitted, "partial_fit"):
        fitted.partial_fit(X[:20])
        assert fitted.offset_ == threshold_of(fitted.calibration_scores_, 0.3)


@pytest.mark.parametrize("detector", [*EVERY, _scores])
def test_a_rate_that_cannot_be_had_changes_nothing(detector):
    X = normal_rows()
    fitted = calibrated(detector, X)
    before = fitted.contamination, fitted.offset_, fitted.calibration_scores_
    with pytest.raises(ValueError):
        fitted.set_threshold(fpr=0.3, X=np.full((3, 4), np.nan))
    after = fitted.contamination, fitted.offset_, fitted.calibration_scores_
    assert after[:2] == before[:2] and after[2] is before[2]


# ---- classes --------------------------------------------------------------------------------


def two_classes(n, seed, share=0.8):
    """Rows of two classes, of which the second, rarer one lies wider."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < share, "many", "few")
    X = rng.standard_normal((n, 3)) * np.where(y == "many", 1, 2)[:, None]
    X[:, 0] += np.where(y == "many", 0, 20)
    return X, y


def by_labels(name, **parameters):
    if name == "Committee":
        members = [("classes", tiny("Mahalanobis", use_labels=True)), ("near", tiny("Neighbors"))]
        return tiny("Committee", members=members, **parameters)
    if name == "LikelihoodRatio":
        return LikelihoodRatio(tiny("Mahalanobis", use_labels=True), random_state=0, **parameters)
    return tiny(name, use_labels=True, **parameters)


LABELLED = [kind.__name__ for kind in having("use_labels")] + ["Committee", "LikelihoodRatio"]


@pytest.mark.parametrize("name", LABELLED)
def test_rows_are_compared_with_held_out_rows_of_each_class(name, tmp_path):
    (X, y), (fresh, its) = two_classes(150, 0), two_classes(80, 1)
    fitted = by_labels(name, calibration_fraction=0.4).fit(X, y)
    assert len(fitted.calibration_scores_) == 60
    assert fitted.class_p_values(X).shape == (150, 2)
    fitted.calibrate(fresh, its)
    scores = fitted.score_samples(X)
    expected = [
        p_values_of(scores, np.sort(fitted.score_samples(fresh[its == label])))
        for label in fitted.classes_
    ]
    found = fitted.class_p_values(X)
    np.testing.assert_array_equal(found, np.column_stack(expected))
    np.testing.assert_array_equal(fitted.p_value(X, by_class=True), found.max(axis=1))
    n_few = int((its == "few").sum())
    for method in METHODS:
        np.testing.assert_array_equal(
            fitted.q_value(X, method=method, by_class=True),
            q_values_of(found.max(axis=1), n_few, method),
        )
    fitted.save(tmp_path / "detector")
    for twin in (type(fitted).load(tmp_path / "detector"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(twin.class_p_values(X), found)


@pytest.mark.parametrize("name", [kind.__name__ for kind in having("use_labels")])
def test_classes_of_held_out_rows_outlive_later_batches(name):
    X, y = two_classes(200, 0)
    fitted = by_labels(name, calibration_fraction=0.4).fit(X[:150], y[:150])
    fitted.partial_fit(X[150:], y[150:])
    stream = fitted._stream.held_out
    for code, label in enumerate(fitted.classes_):
        own = np.sort(fitted.score_samples(stream.rows[stream.labels == code]))
        np.testing.assert_array_equal(
            fitted.class_p_values(X)[:, code], p_values_of(fitted.score_samples(X), own), str(label)
        )
    # Fresh rows without classes have no p-values by class, nor have they with other rows.
    fitted.calibrate(X[:30])
    for _ in range(2):
        with pytest.raises(ValueError, match="rows of known classes"):
            fitted.class_p_values(X)
        assert len(fitted.p_value(X)) == 200
        fitted.partial_fit(X[150:], y[150:])


def test_a_class_without_held_out_rows_is_named():
    X, y = two_classes(60, 0)
    y[:2] = "rare"
    detector = by_labels("Mahalanobis").fit(X, y).calibrate(X[2:], y[2:])
    with pytest.raises(ValueError, match=r"there are none of \['rare'\]"):
        detector.p_value(X, by_class=True)
    assert detector.set_threshold(fpr=0.2, X=X, y=y).class_p_values(X).shape == (60, 3)


def test_a_pipeline_knows_classes_too():
    (X, y), (fresh, its) = two_classes(150, 0), two_classes(80, 1)
    chain = (
        make_pipeline(StandardScaler(), by_labels("Mahalanobis")).fit(X, y).calibrate(fresh, its)
    )
    X = np.concatenate([X[:10], np.full((10, 3), 900.0)])
    rows = chain[:-1].transform(X)
    selected = chain.select(X, fdr=0.4, by_class=True)
    assert selected[10:].all() and not selected[:10].all()
    np.testing.assert_array_equal(selected, chain[-1].select(rows, fdr=0.4, by_class=True))
    np.testing.assert_array_equal(chain.class_p_values(X), chain[-1].class_p_values(rows))


def test_rows_of_each_class_are_flagged_as_rarely_as_asked_for():
    """By all rows together the rare, wide class is flagged too often; by class no class is."""
    flagged = {False: [], True: []}
    for seed in range(60):
        X, y = two_classes(1000, seed)
        detector = Mahalanobis(use_labels=True, calibration_fraction=0.3, device="cpu")
        detector.set_params(random_state=seed).fit(X[:300], y[:300])
        new, its = X[300:], y[300:]
        for by_class, rates in flagged.items():
            found = detector.p_value(new, by_class=by_class) <= 0.1
            rates.append([found[its == label].mean() for label in ("many", "few")])
    error = {key: np.std(rates, axis=0) / np.sqrt(60) for key, rates in flagged.items()}
    together, apart = (np.mean(flagged[key], axis=0) for key in (False, True))
    assert together[1] > 0.2  # of the wide class
    assert (apart <= 0.1 + 3 * error[True]).all() and apart[1] > 0.05


@pytest.mark.parametrize("codes", [[0, 2] * 10, [-1, 1] * 10, [0, 1], [0.0, 1.0] * 10])
def test_a_file_with_codes_of_no_class_is_refused(codes, tmp_path):
    X, y = two_classes(60, 0)
    path = tmp_path / "detector"
    by_labels("Mahalanobis").fit(X, y).calibrate(X[:20], y[:20]).save(path)
    assert Mahalanobis.load(path).class_p_values(X).shape == (60, 2)
    rewrite(path, change_arrays=lambda a: a.update(_calibration_codes=np.array(codes)))
    with pytest.raises(ValueError, match="does not describe a Mahalanobis"):
        Mahalanobis.load(path)


def test_only_those_with_labels_have_classes():
    assert takes(Mahalanobis, "use_labels") and not takes(Committee, "use_labels")
    X, y = two_classes(60, 0)
    detector = tiny("Mahalanobis").fit(X, y).calibrate(X, y)  # y has no use without use_labels
    with pytest.raises(ValueError, match="fit anew with use_labels=True"):
        detector.class_p_values(X)


@pytest.mark.filterwarnings("ignore:contamination")
@pytest.mark.parametrize("n_rare", [60, 20])
def test_rows_of_rare_classes_have_the_same_chance_of_being_held_out(n_rare):
    def rows(n, centres, rng):
        y = np.where(rng.rand(n) < 0.6, 0, 1 + rng.randint(n_rare, size=n))
        return centres[y] + rng.randn(n, 4), y

    shares = []
    for seed in range(25):
        rng = np.random.RandomState(seed)
        centres = 6 * rng.randn(n_rare + 1, 4)
        detector = Mahalanobis(use_labels=True, device="cpu", random_state=seed)
        detector.fit(*rows(300, centres, rng))
        shares.append((detector.p_value(rows(500, centres, rng)[0]) <= 0.1).mean())
    assert np.mean(shares) < 0.1 + 3 * np.std(shares) / 5


def test_all_classes_and_rows_are_held_out_alike():
    labels = np.repeat([0, 1, 2], [70, 28, 2])
    held = [rows_held_out(100, "auto", seed, labels=labels) for seed in range(2000)]
    assert all(len(np.unique(places)) == 20 for places in held)
    counts = np.bincount(np.concatenate(held), minlength=100)
    assert abs(counts / 2000 - 0.2).max() < 0.04
    by_class = np.array([np.bincount(labels[places], minlength=3) for places in held])
    assert by_class.max(axis=0).tolist() <= [15, 6, 1] and by_class.min(axis=0)[0] >= 13


class Numberless(BaseEstimator):
    """Scores that are no number for rows with a negative first value."""

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return np.where(X[:, 0] < 0, np.nan, -np.abs(X).sum(axis=1))


def test_rows_without_a_score_are_the_least_normal():
    X = np.abs(normal_rows(80))
    X[:4, 0] = -1
    new = np.array([[-1.0, 0, 0, 0], [0.1, 0, 0, 0]])
    detector = ScoreDetector(Numberless(), standardize=False, random_state=0).fit(X)
    detector.calibrate(X)
    assert detector.p_value(new)[0] == 5 / 81 and detector.p_value(new)[1] == 1
    assert detector.predict(new).tolist() == [-1, 1]


def test_no_row_of_a_fit_is_flagged_after_the_same_is_asked_for_again():
    X = np.random.RandomState(0).standard_t(2, size=(150, 3))
    detector = Mahalanobis(contamination=0, device="cpu", random_state=0).fit(X)
    assert (detector.set_threshold(fpr=0).predict(X) == 1).all()


def test_classes_without_rows_are_no_threshold():
    detector = Mahalanobis(device="cpu").fit(normal_rows())
    with pytest.raises(ValueError, match="pass X"):
        detector.set_threshold(fpr=0.1, y=np.zeros(60))


@pytest.mark.parametrize("crossed", [False, True])
def test_classes_can_be_asked_for_while_another_thread_calibrates(crossed):
    X, y = normal_rows(200), np.arange(200) % 3
    detector = Mahalanobis(use_labels=True, device="cpu", random_state=0)
    detector = (CrossCalibrated(detector, random_state=0) if crossed else detector).fit(X, y)
    ended = threading.Event()

    def calibrate():
        while not ended.is_set():
            detector.calibrate(X[:50], y[:50])
            detector.calibrate(X, y)

    thread = threading.Thread(target=calibrate)
    thread.start()
    try:
        for _ in range(300):
            assert detector.class_p_values(X[:2]).shape == (2, 3)
    finally:
        ended.set()
        thread.join()
