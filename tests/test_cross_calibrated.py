"""All rows train and calibrate: p-values by the models that have seen neither row."""

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

from skgenad import Committee, CrossCalibrated, DataWarning, Mahalanobis, Neighbors, load
from skgenad._core.calibration import p_values_of
from skgenad.committee import _members
from skgenad.compat import ScoreDetector
from skgenad.pipeline import make_pipeline

from ._files import rewrite
from ._settings import normal_rows, tiny

CPU = {"device": "cpu"}


class Recorder(OutlierMixin, BaseEstimator):
    """Distance from the mean of the rows; knows what it was fitted on."""

    def fit(self, X, y=None):
        self.rows_, self.mean_ = np.array(X), np.mean(X, axis=0)
        self.n_features_in_ = X.shape[1]
        return self

    def score_samples(self, X):
        return -np.linalg.norm(X - self.mean_, axis=1)


def naive(fitted, X, new):
    """P-values as the definition has them, with a loop over training rows."""
    higher = np.zeros(len(new))
    for row in X:
        unseen = [m for m in fitted.detectors_ if not (m.rows_ == row).all(axis=1).any()]
        (model,) = unseen
        higher += model.score_samples(row[None])[0] <= model.score_samples(new)
    return (1 + higher) / (1 + len(X))


@pytest.mark.parametrize("cv", [2, 5, 7, "loo"])
def test_each_row_is_compared_by_the_model_that_has_not_seen_it(cv):
    X, new = np.random.RandomState(0).randn(40, 2), 1.5 * np.random.RandomState(1).randn(30, 2)
    fitted = CrossCalibrated(Recorder(), cv=cv, random_state=0).fit(X)
    assert len(fitted.detectors_) == (40 if cv == "loo" else cv)
    sizes = [len(model.rows_) for model in fitted.detectors_]
    assert sum(40 - size for size in sizes) == 40 and max(sizes) - min(sizes) <= 1
    assert_array_equal(fitted.p_value(new), naive(fitted, X, new))
    scores = np.mean([model.score_samples(new) for model in fitted.detectors_], axis=0)
    np.testing.assert_allclose(fitted.score_samples(new), scores)


def test_ties_are_counted():
    X = np.repeat(np.arange(5.0), 4)[:, None] * [1, 1]
    fitted = CrossCalibrated(Recorder(), cv=4, random_state=0).fit(X)
    no_higher = sum(
        (m.score_samples(X[fitted_fold]) <= m.score_samples(X[:1])[0]).sum()
        for m, fitted_fold in zip(fitted.detectors_, _folds_of(fitted, X), strict=True)
    )
    assert fitted.p_value(X[:1])[0] == (1 + no_higher) / 21


def _folds_of(fitted, X):
    """Places of the rows that each model was not fitted on, where rows repeat."""
    order = np.argsort(_scores_out_of_fold(fitted, X), kind="stable")
    return [order[fitted._folds == k] for k in range(len(fitted.detectors_))]


def _scores_out_of_fold(fitted, X):
    from skgenad.committee._members import tasks_of

    scores = np.empty(len(X))
    tasks = tasks_of([("detector", Recorder())], len(X), 4, fitted.seed_, in_folds=True)
    for task, model in zip(tasks, fitted.detectors_, strict=True):
        scores[task.reference] = model.score_samples(X[task.reference])
    assert_array_equal(np.sort(scores), fitted.calibration_scores_)
    return scores


@pytest.mark.parametrize("cv", [3, "loo"])
def test_normal_rows_have_small_p_values_no_more_often_than_is_guaranteed(cv):
    """With few rows and many columns, where scores of the training rows themselves say nothing."""
    n, levels = 30, np.array([0.05, 0.1, 0.2])
    rates, in_sample = [], []
    for seed in range(25):
        X = np.random.RandomState(seed).standard_t(4, size=(n + 200, 8))
        fitted = CrossCalibrated(Mahalanobis(**CPU), cv=cv, random_state=seed).fit(X[:n])
        rates.append((fitted.p_value(X[n:])[:, None] <= levels).mean(axis=0))
        alone = Mahalanobis(calibration_fraction=0.0, **CPU).fit(X[:n])
        scores = np.sort(alone.score_samples(X[:n]))
        p_values = p_values_of(alone.score_samples(X[n:]), scores)
        in_sample.append((p_values[:, None] <= levels).mean(axis=0))
    mean, error = np.mean(rates, axis=0), np.std(rates, axis=0) / np.sqrt(25)
    assert (mean <= 1.2 * levels + 3 * error).all()  # the bound is twice the level, and more
    assert (mean >= 0.5 * levels - 3 * error).all()
    assert (np.mean(in_sample, axis=0) > 2 * levels).all()


def test_rows_that_are_far_have_the_smallest_p_value_there_is():
    X = normal_rows(40)
    fitted = CrossCalibrated(Neighbors(**CPU), random_state=0).fit(X)
    assert len(fitted.detectors_) == 5  # in folds, though it leaves rows out by itself
    assert fitted.p_value(1000 * X[:2]).tolist() == [1 / 41, 1 / 41]
    assert fitted.select(1000 * X[:2]).all()
    assert (fitted.predict(1000 * X[:2]) == -1).all()
    assert 0 < (fitted.predict(X) == -1).sum() < 12


@pytest.mark.parametrize("cv", [3, "loo"])
def test_files_pickles_and_jobs_change_nothing(cv, tmp_path):
    X, new = normal_rows(20), normal_rows(60)[20:]
    fitted = CrossCalibrated(tiny("Autoencoder"), cv=cv, random_state=0).fit(X)
    fitted.save(tmp_path / "detector")
    twins = [load(tmp_path / "detector"), pickle.loads(pickle.dumps(fitted))]
    twins += [clone(fitted).fit(X), clone(fitted).set_params(n_jobs=2).fit(X)]
    for twin in twins:
        assert_array_equal(twin.score_samples(new), fitted.score_samples(new))
        assert_array_equal(twin.p_value(new), fitted.p_value(new))
        assert twin.offset_ == fitted.offset_ and twin.cv == cv
        own, others = (d.history_.drop(columns="seconds") for d in (twin, fitted))
        pd.testing.assert_frame_equal(own, others)
    assert set(fitted.history_["fold"]) == set(range(len(fitted.detectors_)))
    other = clone(fitted).set_params(random_state=1).fit(X)
    assert (other.score_samples(new) != fitted.score_samples(new)).any()


@pytest.mark.parametrize(
    "change",
    [
        {"change_document": lambda d: d["state"]["_models"].update(n=5)},
        {"change_document": lambda d: d["state"]["_models"].update(n=2)},
        {"change_document": lambda d: d["state"]["_models"].update(n="3")},
        {"change_arrays": lambda a: a.update(_folds=a["_folds"] + 1)},
        {"change_arrays": lambda a: a.update(_folds=a["_folds"][1:])},
    ],
)
def test_files_whose_parts_do_not_fit_are_refused(change, tmp_path):
    CrossCalibrated(Mahalanobis(**CPU), cv=3).fit(normal_rows()).save(tmp_path / "detector")
    rewrite(tmp_path / "detector", **change)
    with pytest.raises(ValueError, match="does not describe a CrossCalibrated"):
        load(tmp_path / "detector")


def test_fresh_rows_and_shares_give_split_conformal_p_values():
    X, fresh, new = normal_rows(40), normal_rows(100)[40:], normal_rows(140)[100:]
    fitted = CrossCalibrated(Mahalanobis(**CPU), random_state=0).fit(X)
    before = fitted.p_value(new)
    fitted.calibrate(fresh)
    held_out = np.sort(fitted.score_samples(fresh))
    assert_array_equal(fitted.p_value(new), p_values_of(fitted.score_samples(new), held_out))
    assert (fitted.p_value(new) != before).any()
    split = CrossCalibrated(Mahalanobis(**CPU), calibration_fraction=0.25, random_state=0).fit(X)
    assert len(split.calibration_scores_) == 10
    expected = p_values_of(split.score_samples(new), split.calibration_scores_)
    assert_array_equal(split.p_value(new), expected)


def test_classes_have_their_own_p_values():
    X, y = normal_rows(60), np.repeat(["a", "b"], [40, 20])
    X[y == "b"] += 50 * X.std(axis=0)
    detector = Mahalanobis(use_labels=True, **CPU)
    fitted = CrossCalibrated(detector, cv=4, random_state=0).fit(X, y)
    assert fitted.classes_.tolist() == ["a", "b"]
    assert [model.classes_.tolist() for model in fitted.detectors_] == [["a", "b"]] * 4
    p_values = fitted.class_p_values(1e6 * X[:1])
    np.testing.assert_allclose(p_values, [[1 / 41, 1 / 21]])
    assert fitted.p_value(1e6 * X[:1], by_class=True) == p_values.max()
    with pytest.raises(ValueError, match="requires y to be passed"):
        clone(fitted).fit(X)


@pytest.mark.parametrize(
    "detector",
    [
        IsolationForest(n_estimators=5),
        make_pipeline(StandardScaler(), tiny("Mahalanobis")),
        ScoreDetector(IsolationForest(n_estimators=5)),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_detectors_of_others_and_pipelines_are_taken(detector):
    X = pd.DataFrame(normal_rows(30), columns=list("abcd"))
    fitted = CrossCalibrated(detector, cv=3, random_state=0).fit(X)
    assert_array_equal(clone(fitted).fit(X).p_value(X), fitted.p_value(X))
    assert fitted.feature_names_in_.tolist() == list("abcd")
    assert fitted.get_params()["detector"] is detector
    assert not hasattr(detector, "n_features_in_")  # copies are fitted


@pytest.mark.parametrize("bad", [object(), Mahalanobis, StandardScaler(), "Mahalanobis"])
def test_what_is_no_detector_is_refused(bad):
    with pytest.raises(TypeError, match="detector must be an unfitted detector with fit and"):
        CrossCalibrated(bad).fit(normal_rows())


@pytest.mark.parametrize("around", [CrossCalibrated, lambda bad: Committee([("bad", bad)])])
def test_what_scores_with_novelty_alone_is_refused_with_what_to_write(around):
    with pytest.raises((TypeError, ValueError), match=r"novelty=True.*compat\.PyODDetector"):
        around(LocalOutlierFactor()).fit(normal_rows())


def test_with_very_few_rows_there_are_no_folds():
    X = normal_rows(6)
    for n in (2, 3):
        fitted = CrossCalibrated(Mahalanobis(shrinkage=0.5, **CPU), random_state=0).fit(X[:n])
        assert fitted.calibration_scores_ is None and len(fitted.detectors_) == 1
        with pytest.raises(ValueError, match="Call calibrate"):
            fitted.p_value(X)
    loo = CrossCalibrated(Mahalanobis(shrinkage=0.5, **CPU), cv="loo", random_state=0)
    assert [len(loo.fit(X[:n]).detectors_) for n in (2, 3, 6)] == [1, 3, 6]


def with_codes(n, seed, share=0.014):
    """Normal rows, some of which have -9999 for "missing" in a column."""
    X = np.random.RandomState(seed).randn(n, 3)
    X[np.random.RandomState(seed + 1000).rand(n) < share, 1] = -9999.0
    return X


@pytest.mark.parametrize("cv", [5, "loo"])
def test_rows_with_sentinels_are_compared_as_new_ones_are_scored(cv):
    """Else no training row is as far out as a new one with one, and each is flagged."""
    n, rates = 72, []
    for seed in range(4):
        X = with_codes(n, seed, share=0)
        X[0, 1] = -9999.0  # one in 72, as among the new rows
        fitted = CrossCalibrated(Mahalanobis(**CPU), cv=cv, random_state=seed)
        with pytest.warns(DataWarning) as caught:
            fitted.fit(X)
        assert len(caught) == 1  # not one for each fold
        p_values = fitted.p_value(with_codes(4000, 100 + seed))
        rates.append((p_values <= 1 / (n + 1)).mean())
    # That of a row with a sentinel is 2 / 73 at least; before, these alone made a rate of 1.4 %.
    assert np.mean(rates) <= 1 / (n + 1)


@pytest.mark.parametrize(("cv", "n_models"), [(3, 3), (19, 19), (28, 20), ("loo", 20)])
def test_of_many_rows_some_of_every_fold_are_compared_with(cv, n_models, monkeypatch):
    """Drawn of all rows alike they left small folds without one, and no scores to take."""
    monkeypatch.setattr(_members, "MOST_REFERENCES", 20)
    X, y = normal_rows(60), np.repeat([0, 1], 30)
    detector = Mahalanobis(use_labels=True, **CPU)
    for seed in range(2):
        fitted = CrossCalibrated(detector, cv=cv, random_state=seed).fit(X, y)
        assert len(fitted.detectors_) == n_models
        sizes = np.bincount(fitted._folds, minlength=n_models)
        assert sizes.sum() == 20 and sizes.max() - sizes.min() <= 1
        assert np.bincount(fitted._calibration_codes).min() >= 2
        assert fitted.p_value(1e6 * X[:1]) == 1 / 21


@pytest.mark.parametrize("labelled", [False, True])
def test_where_no_rows_are_held_out_scores_out_of_fold_are_kept(labelled):
    X, y = normal_rows(40), np.repeat([0, 1], 20)
    detector = CrossCalibrated(
        Mahalanobis(use_labels=labelled, **CPU), contamination=0.25, random_state=0
    )
    default = clone(detector).fit(X, y)
    asked = [
        clone(detector).fit(X, y, calibration="none"),
        clone(detector).set_params(calibration_fraction=0).fit(X, y),
        clone(detector),
    ]
    assert (asked[-1].fit_predict(X, y) == -1).sum() == 10
    for fitted in asked:
        assert_array_equal(fitted.calibration_scores_, default.calibration_scores_)
        assert_array_equal(fitted.p_value(X), default.p_value(X))
        assert (fitted.predict(X) == -1).sum() == 10  # the threshold is that of these rows
        if labelled:
            assert_array_equal(fitted.class_p_values(X), default.class_p_values(X))
    assert asked[0].offset_ != default.offset_
    assert asked[0].set_threshold(fpr=0.25).offset_ == default.offset_


def test_classes_reach_the_last_step_of_a_pipeline(tmp_path):
    X, y = normal_rows(60), np.repeat(["a", "b"], [40, 20])
    piped = make_pipeline(StandardScaler(), Mahalanobis(use_labels=True, **CPU))
    fitted = CrossCalibrated(make_pipeline(StandardScaler(), piped), cv=4, random_state=0).fit(X, y)
    assert fitted.classes_.tolist() == ["a", "b"]
    np.testing.assert_allclose(fitted.class_p_values(1e6 * X[:1]), [[1 / 41, 1 / 21]])
    committee = Committee([("piped", piped)], random_state=0).fit(X, y)
    assert committee.class_p_values(X).shape == (60, 2)
    for detector in (fitted, committee):
        with pytest.raises(ValueError, match="requires y to be passed"):
            clone(detector).fit(X)
        detector.save(tmp_path / type(detector).__name__)
        twin = load(tmp_path / type(detector).__name__)
        assert_array_equal(twin.class_p_values(X), detector.class_p_values(X))


class Broken(Recorder):
    def score_samples(self, X):
        return np.full(len(X), np.nan)


def test_a_detector_without_numbers_is_named():
    with pytest.raises(ValueError, match=r"Broken\(\) gave NaN as a score.*Take another detector"):
        CrossCalibrated(Broken()).fit(normal_rows())


@pytest.mark.parametrize("name", ["p_value", "class_p_values", "select"])
def test_what_is_guaranteed_is_said_where_it_differs(name):
    own, base = getattr(CrossCalibrated, name), getattr(Mahalanobis, name)
    assert inspect.signature(own) == inspect.signature(base)
    assert 'cv="loo"' in own.__doc__ and 'cv="loo"' not in base.__doc__


def test_more_folds_than_half_the_rows_are_cut():
    assert len(CrossCalibrated(Recorder(), cv=30).fit(normal_rows(20)).detectors_) == 10
