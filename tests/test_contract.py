"""What every detector promises: scores of single rows, thresholds, p-values, copies."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from skgenad import MPDR, Autoencoder
from skgenad._core import calibration, contract, reference, streams
from skgenad._core.detector import SCORING_CHUNK, BaseGenerativeDetector
from skgenad.energies import Masked

from ._settings import DETECTORS, EVERY, VARIANTS, normal_rows, over_variants, takes, tiny

all_detectors = pytest.mark.parametrize("detector", DETECTORS)
every_detector = pytest.mark.parametrize("detector", EVERY)
all_variants = over_variants()


# ---- scores ---------------------------------------------------------------------------------


@all_variants
def test_the_scores_of_a_detector_agree_with_each_other(name, extra):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    scores = detector.score_samples(X)
    assert scores.dtype == np.float64 and scores.shape == (60,)
    decision = detector.decision_function(X)
    np.testing.assert_array_equal(decision, scores - detector.offset_)
    np.testing.assert_array_equal(detector.anomaly_score(X), -scores)
    np.testing.assert_array_equal(detector.predict(X), np.where(decision >= 0, 1, -1))
    np.testing.assert_array_equal(tiny(name, **extra).fit_predict(X), detector.predict(X))
    assert is_outlier_detector(detector)


@all_detectors
def test_far_rows_score_lower(detector):
    X = normal_rows(200)
    far = X.mean(axis=0) + 15 * X.std(axis=0) * np.random.RandomState(1).choice([-1, 1], (20, 4))
    fitted = tiny(detector).fit(X)
    scores = fitted.score_samples(np.vstack([X, far]))
    assert roc_auc_score(np.repeat([1, 0], [200, 20]), scores) > 0.95


def shapes_of_scoring():
    """Name, settings and number of columns, in which all widths of layers meet all of columns."""
    widths = [(1,), (3, 2), (16,), (33, 7), (128, 128)]
    cases = [(name, extra, 4) for name, extra in VARIANTS]
    for d in (1, 2, 3, 5, 8, 17, 30, 101):
        for sizes in widths if d in (2, 17) else [widths[d % len(widths)]]:
            cases.append(("Autoencoder", {"network": sizes}, d))
            cases.append(("MPDR", {"network": sizes}, d))
    for d in (2, 7, 30):
        cases += [("MPDR", {"energy": kind}, d) for kind in ("scalar", Masked(pretrain_steps=10))]
        cases += [("DAGMM", {"network": (20, 10)}, d)]
    return cases


CASES = shapes_of_scoring()


@pytest.mark.parametrize(
    ("name", "extra", "d"),
    CASES,
    ids=["-".join([name, str(d), *map(str, extra.values())]) for name, extra, d in CASES],
)
def test_any_split_and_order_of_rows_gives_the_same_bits(name, extra, d):
    detector = tiny(name, **extra).fit(normal_rows(40, d))
    rng = np.random.RandomState(1)
    X = normal_rows(SCORING_CHUNK + 300, d, seed=2)
    scores = detector.score_samples(X)
    order = rng.permutation(len(X))
    np.testing.assert_array_equal(detector.score_samples(X[order]), scores[order])
    for size in (1, 2, 7, 40):
        index = rng.randint(len(X), size=size)
        np.testing.assert_array_equal(detector.score_samples(X[index]), scores[index])
    part = slice(1000, 1200)
    np.testing.assert_array_equal(detector.score_samples(X[part]), scores[part])


def test_row_by_row_gives_the_same_bits():
    detector = tiny("MPDR").fit(normal_rows())
    X = normal_rows(50, seed=1)
    one_by_one = np.concatenate([detector.score_samples(row[None]) for row in X])
    np.testing.assert_array_equal(one_by_one, detector.score_samples(X))


@all_detectors
def test_the_memory_of_scoring_does_not_grow_with_the_rows(detector, monkeypatch):
    fitted = tiny(detector).fit(normal_rows())
    seen = []
    energy = fitted.module_.energy
    monkeypatch.setattr(fitted.module_, "energy", lambda x: seen.append(x.shape) or energy(x))
    if takes(detector, "batch_size"):
        fitted.set_params(batch_size=7)
    fitted.score_samples(normal_rows(2 * SCORING_CHUNK + 1))
    assert seen == [(SCORING_CHUNK, 4)] * 3


@all_variants
def test_scoring_changes_nothing_in_the_detector(name, extra):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    before, weights = dict(vars(detector)), copy.deepcopy(detector.module_.state_dict())
    for method in ("score_samples", "predict", "anomaly_score", "decision_function"):
        getattr(detector, method)(X)
    assert vars(detector).keys() == before.keys()
    assert all(vars(detector)[key] is before[key] for key in before)
    assert all((detector.module_.state_dict()[key] == weights[key]).all() for key in weights)


# ---- threshold ------------------------------------------------------------------------------


@every_detector
@pytest.mark.parametrize("contamination", [0.02, 0.25])
def test_a_number_is_the_share_of_rows_that_fit_predict_flags(detector, contamination):
    X = normal_rows(200)
    default = {"contamination": contamination, "calibration_fraction": "auto"}
    flagged = tiny(detector, **default).fit_predict(X) == -1
    assert flagged.sum() == 200 * contamination
    # All rows are trained on, and the threshold is theirs: as with no rows held out at all.
    twin = tiny(detector, contamination=contamination, calibration_fraction=0.0).fit(X)
    np.testing.assert_array_equal(twin.predict(X) == -1, flagged)


def test_the_threshold_can_be_moved():
    X = normal_rows()
    detector = tiny("Autoencoder").fit(X)
    detector.offset_ = np.median(detector.score_samples(X))
    assert (detector.predict(X) == -1).sum() == 30


# ---- p-values -------------------------------------------------------------------------------


def test_p_values_are_super_uniform_on_fresh_normal_rows_at_n_50():
    levels = np.array([0.05, 0.1, 0.2, 0.5])
    flagged = []
    for seed in range(80):
        rows = np.random.RandomState(seed).standard_t(3, size=(90, 3))
        detector = tiny("Autoencoder", random_state=seed, calibration_fraction=0.4, max_steps=10)
        p = detector.fit(rows[:50]).p_value(rows[50:])
        assert ((p > 0) & (p <= 1)).all()
        flagged.append((p[:, None] <= levels).mean(axis=0))
    # Given the 20 held-out rows the share of flagged rows varies; over fits it averages out.
    mean, error = np.mean(flagged, axis=0), np.std(flagged, axis=0) / np.sqrt(len(flagged))
    assert (mean <= levels + 3 * error).all()
    # Not by being too cautious: exact levels are multiples of 1 / 21.
    assert (mean >= np.floor(21 * levels) / 21 - 3 * error).all()


def test_p_values_count_the_held_out_rows_that_score_no_higher():
    X = normal_rows(50)
    detector = tiny("Autoencoder", calibration_fraction=0.3).fit(X)
    held_out = detector.calibration_scores_
    assert len(held_out) == 15 and (np.diff(held_out) >= 0).all()
    new = normal_rows(30, seed=1)
    by_hand = [(1 + (held_out <= score).sum()) / 16 for score in detector.score_samples(new)]
    np.testing.assert_allclose(detector.p_value(new), by_hand)
    # A row that scores as a held-out row does counts as no higher.
    ties = X[np.isin(detector.score_samples(X), held_out)]
    np.testing.assert_allclose(np.sort(detector.p_value(ties)), np.arange(2, 17) / 16)
    # They are training rows' scores under a model that never saw them.
    assert np.isin(held_out, detector.score_samples(X)).all()


def test_rows_that_were_held_out_have_no_part_in_training():
    X = normal_rows(50)
    detector = tiny("Autoencoder", calibration_fraction=0.2).fit(X)
    where = np.isin(detector.score_samples(X), detector.calibration_scores_)
    assert where.sum() == 10
    moved = X.copy()
    moved[where] += 1e6
    again = tiny("Autoencoder", calibration_fraction=0.2).fit(moved)
    np.testing.assert_array_equal(again.units_.mean, detector.units_.mean)
    np.testing.assert_array_equal(again.score_samples(X), detector.score_samples(X))


@all_detectors
def test_p_values_need_rows_that_were_held_out(detector):
    X = normal_rows()
    with pytest.raises(ValueError, match=r"calibration_fraction is 0\.0"):
        tiny(detector, calibration_fraction=0.0).fit(X).p_value(X)
    calibrated = tiny(detector, calibration_fraction="auto").fit(X)
    calibrated.p_value(X)
    calibrated.partial_fit(X).p_value(X)


@pytest.mark.parametrize("fraction", ["auto", 0.0])
@all_detectors
def test_of_very_many_rows_some_set_the_threshold(detector, fraction, monkeypatch):
    X, looked_at = np.random.RandomState(0).randn(1000, 3), []
    monkeypatch.setattr(contract, "MOST_THRESHOLD_ROWS", 150)
    monkeypatch.setattr(contract, "AUTO_MOST", 150)
    monkeypatch.setattr(calibration, "AUTO_MOST", 150)
    score = detector._score
    monkeypatch.setattr(detector, "_score", lambda self, X: looked_at.append(X) or score(self, X))
    fitted = tiny(detector, contamination=0.2, calibration_fraction=fraction).fit(X)
    assert len(looked_at[-1]) == 150
    assert (fitted.predict(X) == -1).mean() == pytest.approx(0.2, abs=0.07)


def test_calibration_must_leave_rows_to_train_on():
    with pytest.raises(ValueError, match="leaves 1 of 10 rows to train on; at least 2"):
        tiny("Autoencoder", calibration_fraction=0.9).fit(normal_rows(10))


# ---- life of a detector ---------------------------------------------------------------------


@every_detector
def test_nothing_works_before_fit(detector):
    X = normal_rows()
    unfitted = tiny(detector)
    for method in ("score_samples", "predict", "decision_function", "anomaly_score", "p_value"):
        with pytest.raises(NotFittedError):
            getattr(unfitted, method)(X)


@all_detectors
def test_fit_after_set_params_is_fit_from_the_start(detector):
    X, other = normal_rows(), normal_rows(40, 6, seed=1)
    used = tiny(detector, random_state=5, calibration_fraction=0.3).fit(other)
    used.set_params(**tiny(detector).get_params()).fit(X)
    fresh = tiny(detector).fit(X)
    np.testing.assert_array_equal(used.score_samples(X), fresh.score_samples(X))
    assert len(used.history_) == len(fresh.history_) and used.n_features_in_ == 4


@all_variants
def test_copies_score_bitwise_the_same(name, extra, tmp_path):
    X = normal_rows()
    detector = tiny(name, **extra, calibration_fraction=0.2).fit(X)
    joblib.dump(detector, tmp_path / "detector", compress=3)
    twins = {
        "pickle": pickle.loads(pickle.dumps(detector)),
        "joblib": joblib.load(tmp_path / "detector"),
        "deepcopy": copy.deepcopy(detector),
    }
    for way, twin in twins.items():
        for method in ("decision_function", "p_value"):
            found, wanted = getattr(twin, method)(X), getattr(detector, method)(X)
            np.testing.assert_array_equal(found, wanted, err_msg=f"{method}, {way}")
        before = twin.score_samples(X)
        twin.partial_fit(normal_rows(seed=1))
        assert not np.array_equal(twin.score_samples(X), before)
        np.testing.assert_array_equal(detector.score_samples(X), before)


@all_variants
def test_a_clone_is_unfitted_and_fits_the_same(name, extra):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    twin = clone(detector)
    assert not hasattr(twin, "module_") and twin.get_params() == detector.get_params()
    np.testing.assert_array_equal(twin.fit(X).score_samples(X), detector.score_samples(X))


@every_detector
def test_a_pickle_holds_no_optimizer_graph_and_bounded_rows(detector, monkeypatch):
    monkeypatch.setattr(streams, "MOST_KEPT_ROWS", 30)
    monkeypatch.setattr(reference, "MOST_ROWS", 30)
    small, large = (tiny(detector).fit(normal_rows(n)) for n in (50, 5000))
    sizes = [len(pickle.dumps(fitted)) for fitted in (small, large)]
    # A committee keeps a place and a height for each training row's score by each of two members.
    # Its own model compares each row out of fold: a score and a fold.
    numbers = {"Committee": 2 * 2, "CrossCalibrated": 2}.get(detector.__name__, 0)
    assert sizes[1] < sizes[0] + numbers * 8 * 5000 + 1000


@every_detector
def test_metadata_routing_may_be_on(detector):
    X = normal_rows()
    with sklearn.config_context(enable_metadata_routing=True):
        routed = tiny(detector).fit(X)
    np.testing.assert_array_equal(routed.score_samples(X), tiny(detector).fit(X).score_samples(X))


def test_labels_are_ignored():
    X = normal_rows()
    for y in (np.arange(60) % 2, ["a"] * 60):
        np.testing.assert_array_equal(
            tiny("Autoencoder").fit(X, y).score_samples(X),
            tiny("Autoencoder").fit(X).score_samples(X),
        )


def test_the_base_class_makes_no_detector():
    assert issubclass(MPDR, BaseGenerativeDetector)
    with pytest.raises(TypeError, match="abstract"):
        BaseGenerativeDetector()


def test_the_threshold_comes_from_the_rows_held_out_when_there_are_any():
    X = np.random.RandomState(0).randn(100, 3)
    detector = tiny(Autoencoder, calibration_fraction=0.5, contamination=0.2)
    detector.fit(X)
    held_out = detector.calibration_scores_
    assert len(held_out) == 50
    assert (held_out < detector.offset_).sum() == 10  # of 51 places a fifth
