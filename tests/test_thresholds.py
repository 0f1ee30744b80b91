"""Thresholds come from scores out of sample: of which rows, and at which place among them."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from pyod.models.knn import KNN
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import Autoencoder, Committee, KernelDenoiser, LikelihoodRatio, Mahalanobis, Neighbors
from skgenad._core.calibration import (
    rows_held_out,
    threshold_in_sample,
    threshold_of,
    warn_if_unresolved,
)
from skgenad.compat import DiscriminativeRatio, PyODDetector, ScoreDetector, as_pyod
from skgenad.preprocessing import LatentFeatures

from ._settings import DETECTORS, EVERY, normal_rows, tiny

DEFAULT = {"calibration_fraction": "auto"}
# Detectors whose training rows have scores out of sample, so that no rows are held out.
OUT_OF_SAMPLE = {"Committee", "CrossCalibrated", "KernelDenoiser", "LocalGaussian", "Neighbors"}
every_detector = pytest.mark.parametrize("detector", EVERY)


def made(detector, **parameters):
    """Make a detector with quick settings, but the default way to its threshold."""
    if detector is ScoreDetector:
        return ScoreDetector(GaussianMixture(2), **{"random_state": 0, **DEFAULT, **parameters})
    return tiny(detector, **{**DEFAULT, **parameters})


with_wrapper = pytest.mark.parametrize("detector", [*EVERY, DiscriminativeRatio, ScoreDetector])


# ---- the place among scores -----------------------------------------------------------------

LAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "exponential": lambda rng, shape: -rng.exponential(size=shape),
    "chi squared": lambda rng, shape: -rng.chisquare(3, shape),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    ("n", "contamination", "tolerance"),
    [
        (9, 0.1, 0.05),
        (15, 0.1, 0.05),
        (99, 0.1, 0.05),
        (50, 0.25, 0.05),
        # Fewer scores than tell such rates apart: the tail goes on below the lowest one.
        (5, 0.1, 0.25),
        (10, 0.05, 0.25),
        (50, 0.01, 0.5),
    ],
)
def test_new_scores_lie_below_the_threshold_with_the_probability_asked_for(
    law, n, contamination, tolerance
):
    rng = np.random.default_rng(0)
    new = np.sort(LAWS[law](rng, 200_000))
    samples = np.sort(LAWS[law](rng, (4000, n)), axis=1)
    found = [threshold_of(scores, contamination) for scores in samples]
    rate = np.searchsorted(new, found).mean() / len(new)
    assert rate == pytest.approx(contamination, rel=tolerance)


@pytest.mark.parametrize("levels", [1, 2, 3, 10, 10**6])
def test_with_ties_no_more_are_flagged_than_asked_for(levels):
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, contamination = rng.integers(1, 60), rng.choice([1e-9, 0.01, 0.07, 0.1, 0.3, 0.5])
        scores = np.sort(rng.integers(levels, size=n).astype(float))
        threshold = threshold_of(scores, contamination)
        assert (scores < threshold).sum() <= contamination * (n + 1) + 1e-9
        assert (scores < threshold_of(scores, 0)).sum() == 0


def test_a_place_that_is_whole_is_that_of_a_score():
    scores = np.arange(99.0)
    for k in range(1, 51):  # 0.07 * 100 is a little more than 7
        assert threshold_of(scores, k / 100) == k - 1


def test_thresholds_rise_with_the_share_and_are_finite_everywhere():
    shares = [0, 5e-324, 1e-46, 1e-9, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.5]
    # 0 is no rate, but a place: just below all scores.
    for scores in ([-1e308, 1e308], [3.0], [0.0, 0.0], [1e-300] * 5, list(range(30))):
        found = [threshold_of(np.array(scores, dtype=float), share) for share in shares]
        assert np.isfinite(found).all() and (np.diff(found[1:]) >= 0).all()
        assert found[0] < scores[0]


def test_less_than_a_row_of_training_rows_is_none():
    scores = np.arange(100.0)
    flagged = [
        (scores < threshold_in_sample(scores, share)).sum() for share in (0, 1e-9, 0.004, 0.01, 0.1)
    ]
    assert flagged == [0, 0, 0, 1, 10]


# ---- rows held out --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "count"),
    [(2, 0), (5, 0), (6, 2), (30, 10), (60, 20), (100, 20), (1000, 200), (10**6, 10_000)],
)
def test_the_default_holds_out_a_fifth_and_less_of_few_or_very_many(n, count):
    assert len(rows_held_out(n, "auto", 0)) == count


def test_last_rows_groups_masks_and_places():
    rng = np.random.default_rng(0)
    assert rows_held_out(100, 0.3, 0, calibration="last").tolist() == list(range(70, 100))
    groups = rng.permutation(np.repeat(list("abcdefghij"), 10))
    held_out = rows_held_out(100, 0.25, 0, groups=groups)
    assert len(held_out) == 30
    assert set(groups[held_out]).isdisjoint(groups[np.setdiff1d(range(100), held_out)])
    assert not np.array_equal(held_out, rows_held_out(100, 0.25, 1, groups=groups))
    sessions = np.repeat([3, 1, 2], [50, 30, 20])
    last = rows_held_out(100, 0.1, 0, groups=sessions, calibration="last")
    assert last.tolist() == list(range(80, 100))
    mask = rng.random(100) < 0.4
    np.testing.assert_array_equal(
        rows_held_out(100, 0.0, 0, calibration=mask), np.flatnonzero(mask)
    )
    assert rows_held_out(100, "auto", 0, calibration=[5, 2, 99]).tolist() == [2, 5, 99]
    assert len(rows_held_out(100, 0.5, 0, calibration="none")) == 0


BAD = {
    "must be 'random', 'last', 'none'": {"calibration": "first"},
    "'last' has no use with calibration_fraction=0": {"calibration": "last", "fraction": 0},
    "names no rows: pass a mask of 10 booleans": {"calibration": np.zeros(9, dtype=bool)},
    "places of rows from 0 to 9, each once": {"calibration": [3, 3]},
    "Labels of groups are passed as groups=": {"calibration": list("aabbccddee")},
    "names no row: leave it out": {"calibration": np.zeros(10, dtype=bool)},
    "leaves 1 of 10 rows to train on": {"calibration": np.arange(9)},
    "leave groups out": {"calibration": [1, 2], "groups": np.arange(10)},
    "must have a label for each of 10 rows": {"groups": np.arange(9)},
    "groups has one group only": {"groups": np.zeros(10)},
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_held_out_is_refused(message):
    given = {"fraction": "auto", **BAD[message]}
    with pytest.raises(ValueError, match=message):
        rows_held_out(10, given.pop("fraction"), 0, **given)


@with_wrapper
def test_rows_that_are_named_are_held_out(detector):
    X, mask = normal_rows(60), np.arange(60) % 3 == 0
    fitted = made(detector).fit(X, calibration=mask)
    trained = tiny(detector) if detector is not ScoreDetector else made(detector)
    trained.fit(X[~mask], calibration="none")
    np.testing.assert_array_equal(
        fitted.calibration_scores_, np.sort(trained.score_samples(X[mask]))
    )
    groups = made(detector).fit(X, groups=np.arange(60) // 6)
    assert len(groups.calibration_scores_) == 24  # whole groups, at least 20 rows
    assert len(made(detector).fit(X, calibration="last").calibration_scores_) == 20


def test_the_rows_do_not_depend_on_how_they_are_given():
    X = normal_rows(60).astype(np.float32)
    frame = pd.DataFrame(X, columns=list("abcd"))
    rows = [
        made("Autoencoder").fit(given).units_.mean
        for given in (X, X.astype(float), frame, X.tolist())
    ]
    for mean in rows[1:]:
        np.testing.assert_allclose(mean, rows[0], rtol=1e-6)


def test_every_class_keeps_rows_to_train_on():
    X, y = normal_rows(66), np.repeat([0, 1, 2], [60, 3, 3])
    detector = made("Mahalanobis", use_labels=True, relative=True).fit(X, y)
    assert (detector.module_.counts >= 2).all()
    assert len(detector.calibration_scores_) == 20


def test_groups_reach_a_detector_in_a_pipeline_and_a_search():
    X, groups = normal_rows(120), np.arange(120) // 12
    with sklearn.config_context(enable_metadata_routing=True):
        chain = make_pipeline(StandardScaler(), made("Mahalanobis")).fit(X, groups=groups)
        assert len(chain[-1].calibration_scores_) == 24
        found = cross_validate(
            chain,
            X,
            np.zeros(120),
            cv=GroupKFold(5),
            params={"groups": groups},
            scoring=lambda model, X, y: len(model[-1].calibration_scores_),
        )
        assert found["test_score"].tolist() == [24] * 5
    chain.fit(X, mahalanobis__groups=groups)
    assert len(chain[-1].calibration_scores_) == 24


# ---- what is flagged ------------------------------------------------------------------------


@with_wrapper
def test_new_normal_rows_are_flagged_as_often_as_asked_for(detector):
    rates = []
    for seed in range(4):
        X = normal_rows(460, seed=0)[np.random.RandomState(seed).permutation(460)]
        fitted = made(detector, random_state=seed).fit(X[:60])
        rates.append((fitted.predict(X[60:]) == -1).mean())
    assert 0.02 < np.mean(rates) < 0.22


@pytest.mark.parametrize("name", ["Mahalanobis", "GaussianMixtures"])
def test_models_that_know_their_rows_too_well_no_longer_flag_the_others(name):
    rates = {"auto": [], 0.0: []}
    for fraction, found in rates.items():
        for seed in range(20):
            X = np.random.RandomState(seed).randn(430, 15)
            fitted = tiny(name, calibration_fraction=fraction, random_state=seed).fit(X[:30])
            found.append((fitted.predict(X[30:]) == -1).mean())
    assert np.mean(rates[0.0]) > 0.5
    assert np.mean(rates["auto"]) == pytest.approx(0.1, abs=0.05)


@with_wrapper
def test_no_row_of_the_fit_is_flagged_with_contamination_0(detector):
    X = normal_rows(50)
    assert (made(detector, contamination=0.0).fit(X).predict(X) == 1).all()
    assert (made(detector, contamination=0).fit_predict(X) == 1).all()
    assert (made(detector, contamination=1e-9).fit_predict(X) == 1).all()
    far = X.mean(axis=0) + 30 * X.std(axis=0) * [[1, -1, 1, -1]]
    assert made(detector, contamination=0).fit(X).predict(far) == [-1]


@with_wrapper
def test_too_few_rows_for_a_number_are_warned_of(detector):
    X, needs = normal_rows(60), "contamination=0.01 needs 99 rows .* there are (20|60)"
    with pytest.warns(UserWarning, match=needs):
        made(detector, contamination=0.01).fit(X)
    fitted = made(detector, contamination=0.05).fit(X)  # 20 rows suffice, without a warning
    with pytest.warns(UserWarning, match="there are 5"):
        fitted.calibrate(X[:5])
    made(detector).fit(X[:8])  # "auto" asks for no more than there is


@pytest.mark.parametrize(
    "share, needed", [(0.07, "14"), (1e-46, "about 1e"), (5e-324, "about inf")]
)
def test_any_share_may_be_asked_for(share, needed):
    with pytest.warns(UserWarning, match=f"needs {needed}"):
        warn_if_unresolved(3, share)


def test_rows_that_are_too_few_to_hold_out_any():
    X = normal_rows(5)
    with pytest.warns(UserWarning, match="contamination=0.1 needs 9 rows .* there are 0"):
        made("Autoencoder", contamination=0.1).fit(X)
    fitted = made("Autoencoder").fit(X)
    assert fitted.calibration_scores_ is None
    with pytest.raises(ValueError, match="Call calibrate"):
        fitted.p_value(X)


@pytest.mark.parametrize("name", sorted(OUT_OF_SAMPLE))
def test_p_values_of_training_rows_scored_out_of_sample_are_valid(name):
    levels, flagged = np.array([0.05, 0.1, 0.2, 0.5]), []
    for seed in range(20):
        X = np.random.RandomState(seed).standard_t(3, size=(150, 3))
        fitted = made(name, random_state=seed).fit(X[:50])
        assert len(fitted.calibration_scores_) == 50
        flagged.append((fitted.p_value(X[50:])[:, None] <= levels).mean(axis=0))
    mean, error = np.mean(flagged, axis=0), np.std(flagged, axis=0) / np.sqrt(len(flagged))
    assert (mean <= levels + 3 * error).all()
    assert (mean >= 0.6 * levels - 3 * error).all()


@every_detector
def test_who_scores_training_rows_out_of_sample_holds_none_out(detector):
    fitted = made(detector).fit(normal_rows(60))
    n = len(fitted.calibration_scores_)
    assert n == (60 if detector.__name__ in OUT_OF_SAMPLE else 20)


def test_a_committee_in_folds_scores_rows_by_models_that_have_not_seen_them():
    X = np.random.RandomState(0).randn(60, 20)
    members = [("distance", Mahalanobis(device="cpu")), ("near", Neighbors(device="cpu"))]
    rates = []
    for seed in range(10):
        X = np.random.RandomState(seed).randn(460, 20)
        fitted = Committee(members, random_state=seed).fit(X[:60])
        assert len(fitted.calibration_scores_) == 60
        rates.append((fitted.predict(X[60:]) == -1).mean())
    assert 0.03 < np.mean(rates) < 0.15


# ---- what follows ---------------------------------------------------------------------------


@with_wrapper
def test_contamination_that_is_set_moves_the_threshold(detector, tmp_path):
    X = normal_rows(60)
    fitted = made(detector).fit(X)
    before = fitted.offset_
    fitted.set_params(contamination=0.4)
    assert fitted.offset_ == threshold_of(fitted.calibration_scores_, 0.4) > before
    assert (fitted.decision_function(X) == fitted.score_samples(X) - fitted.offset_).all()
    twins = [pickle.loads(pickle.dumps(fitted))]
    if hasattr(fitted, "save"):
        fitted.save(tmp_path / "detector")
        twins.append(type(fitted).load(tmp_path / "detector"))
    for twin in twins:
        assert twin.offset_ == fitted.offset_ and twin.contamination == 0.4
    assert fitted.set_params(contamination="auto").offset_ == before
    fitted.offset_ = -1.5  # the user's own, until contamination is another
    assert fitted.offset_ == -1.5
    assert fitted.set_params(contamination=0.2).offset_ != -1.5
    with pytest.raises(ValueError, match="contamination.*Got 0.7"):
        fitted.set_params(contamination=0.7).predict(X)
    assert not hasattr(clone(fitted), "offset_")


@every_detector
def test_a_threshold_of_training_rows_says_that_it_stays(detector):
    X = normal_rows(60)
    fitted = tiny(detector, contamination=0.1, calibration_fraction=0.0).fit(X)
    labels = fitted.predict(X)
    fitted.set_params(contamination=0.3)
    if fitted.calibration_scores_ is not None:
        pytest.skip("it has scores out of fold")
    with pytest.warns(UserWarning, match=r"contamination=0\.3 was set since the fit.*stays"):
        np.testing.assert_array_equal(fitted.predict(X), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (fitted.fit(X).predict(X) == -1).sum() == 18


@with_wrapper
def test_fresh_rows_set_threshold_and_p_values(detector, tmp_path):
    X, fresh, new = normal_rows(300, seed=0)[:60], normal_rows(300)[60:160], normal_rows(300)[160:]
    fitted = made(detector, contamination=0.2).fit(X)
    scores = fitted.score_samples(new)
    assert fitted.calibrate(fresh) is fitted
    np.testing.assert_array_equal(fitted.score_samples(new), scores)
    own = np.sort(fitted.score_samples(fresh))
    np.testing.assert_array_equal(fitted.calibration_scores_, own)
    assert fitted.offset_ == threshold_of(own, 0.2)
    assert (fitted.predict(fresh) == -1).mean() == pytest.approx(0.2, abs=0.02)
    if hasattr(fitted, "save"):
        fitted.save(tmp_path / "detector")
        loaded = type(fitted).load(tmp_path / "detector")
        np.testing.assert_array_equal(loaded.p_value(new), fitted.p_value(new))
        np.testing.assert_array_equal(
            loaded.calibrate(X).p_value(new), fitted.calibrate(X).p_value(new)
        )


@pytest.mark.parametrize("detector", DETECTORS)
def test_fresh_rows_give_p_values_back_after_more_training(detector):
    X, fresh = normal_rows(60), normal_rows(80, seed=0)[60:]
    fitted = made(detector).fit(X).partial_fit(X[:20])
    fitted.calibrate(fresh)
    assert (fitted.p_value(fresh) <= 1).all()
    np.testing.assert_array_equal(fitted.calibration_scores_, np.sort(fitted.score_samples(fresh)))


@every_detector
def test_a_calibration_that_fails_changes_nothing(detector):
    fitted = made(detector).fit(normal_rows(60))
    before = fitted.offset_, fitted.calibration_scores_
    for bad in (np.full((3, 4), np.nan), normal_rows(20, 5), np.empty((0, 4))):
        with pytest.raises(ValueError):
            fitted.calibrate(bad)
    assert fitted.offset_ == before[0] and fitted.calibration_scores_ is before[1]


def test_fresh_rows_calibrate_what_is_made_of_pyods_detectors():
    X, fresh = normal_rows(400)[:60], normal_rows(400)[60:]
    detector = PyODDetector(KNN(contamination=0.25)).fit(X)
    with pytest.raises(ValueError, match="call calibrate"):
        detector.p_value(fresh)
    assert detector.calibrate(fresh) is detector
    assert (detector.predict(fresh) == -1).mean() == pytest.approx(0.25, abs=0.01)
    assert (detector.p_value(fresh) <= 0.1).mean() == pytest.approx(0.1, abs=0.01)
    detector.fit(X)
    assert not hasattr(detector, "calibration_scores_")
    other = as_pyod(tiny("Mahalanobis"), contamination=0.25).fit(X).calibrate(fresh)
    assert other.predict(fresh).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(other.labels_, other.predict(X))


# ---- models inside others -------------------------------------------------------------------


def test_models_inside_others_hold_nothing_out():
    X = normal_rows(60)
    inner = made("Autoencoder")
    everything = tiny("Autoencoder").fit(X).score_samples(X)

    def scores(model):
        np.testing.assert_array_equal(model.score_samples(X), everything)

    scores(ScoreDetector(inner, standardize=False, calibration_fraction=0.0).fit(X).estimator_)
    scores(as_pyod(inner).fit(X).detector_)
    scores(LatentFeatures(inner).fit(X).detector_)
    alone = Committee([("one", inner), ("two", KernelDenoiser(device="cpu"))]).fit(X)
    assert [model.calibration_scores_ for model in alone.members_["one"]] == [None, None]
    ratio = LikelihoodRatio(made("Mahalanobis"), calibration_fraction=0.0, random_state=0).fit(X)
    assert ratio.detector_.calibration_scores_ is None
    assert inner.calibration_fraction == "auto"  # the user's object stays as it was


def test_a_fraction_that_the_user_chose_stays():
    model = Autoencoder(calibration_fraction=0.3)
    fitted = LatentFeatures(model.set_params(max_steps=2)).fit(normal_rows(60)).detector_
    assert len(fitted.calibration_scores_) == 18


def test_rows_too_few_for_the_default_rate_are_warned_of():
    fitted = tiny("Mahalanobis", contamination="auto").fit(normal_rows())
    with pytest.warns(UserWarning, match="contamination=0.1 needs 9 rows .* there are 2"):
        fitted.calibrate(normal_rows(2))
    fitted.calibrate(normal_rows(9))
