"""Scores in searches and curves: a number that means what it says, or an error."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skgenad.pipeline
from skgenad import MPDR, Mahalanobis
from skgenad.metrics import (
    NormalOnlyCV,
    anomaly_average_precision,
    anomaly_roc_auc,
    f1_at_contamination,
    make_anomaly_scorer,
    max_balanced_accuracy,
    on_manifold_scorer,
    partial_roc_auc,
)

from ._settings import tiny

RANKINGS = {
    "roc_auc": anomaly_roc_auc,
    "average_precision": anomaly_average_precision,
    "f1": make_anomaly_scorer(f1_at_contamination),
    "partial": make_anomaly_scorer(partial_roc_auc, max_fpr=0.3),
    "balanced": make_anomaly_scorer(max_balanced_accuracy),
    "negated": make_anomaly_scorer(roc_auc_score, greater_is_better=False),
}
LABEL_FREE = {"on_manifold": on_manifold_scorer, "method": MPDR.on_manifold_score}


def _search(kind, **options):
    def run(detector, grid, X, y, **given):
        search = kind(detector, grid, refit=False, **options, **given).fit(X, y)
        return {k: v for k, v in search.cv_results_.items() if "_score" in k}

    return run


def _learning(detector, grid, X, y, **given):
    sizes, train, test = learning_curve(detector, X, y, train_sizes=[0.8, 1.0], **given)
    return {"mean_train_score": train.mean(1), "mean_test_score": test.mean(1)}


def _validation(detector, grid, X, y, **given):
    [(name, values)] = grid.items()
    train, test = validation_curve(detector, X, y, param_name=name, param_range=values, **given)
    return {"mean_train_score": train.mean(1), "mean_test_score": test.mean(1)}


def _cross(detector, grid, X, y, **given):
    scores = cross_validate(detector, X, y, return_train_score=True, **given)
    return {k: v for k, v in scores.items() if k.startswith(("test_", "train_"))}


halving = {"min_resources": 60, "random_state": 0, "factor": 2}
SEARCHES = {
    "grid": _search(GridSearchCV, return_train_score=True),
    "random": _search(RandomizedSearchCV, n_iter=2, random_state=0, return_train_score=True),
    "halving": _search(HalvingGridSearchCV, **halving),
    "halving random": _search(HalvingRandomSearchCV, n_candidates=2, **halving),
    "learning_curve": _learning,
    "validation_curve": _validation,
    "cross_validate": _cross,
}
ONE_SCORER = [_learning, _validation, SEARCHES["halving"], SEARCHES["halving random"]]
searches = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
GRID = {"shrinkage": [0.0, 0.5]}


@pytest.fixture
def data():
    rng = np.random.RandomState(0)
    X = np.concatenate([rng.normal(size=(100, 3)), rng.normal(1, 2, size=(40, 3))])
    order = rng.permutation(140)
    return X[order], np.repeat([0, 1], [100, 40])[order]


def detector():
    return Mahalanobis(device="cpu", random_state=0)


@searches
@pytest.mark.parametrize("scorer", RANKINGS.values(), ids=RANKINGS)
def test_every_ranking_scores_normal_training_rows_without_a_warning(data, search, scorer):
    found = search(detector(), GRID, *data, scoring=scorer, cv=NormalOnlyCV(2))
    assert any("train" in name for name in found)
    assert any("test" in name for name in found)
    assert all(np.isfinite(values).all() for values in found.values())


@searches
@pytest.mark.parametrize("scorer", LABEL_FREE.values(), ids=LABEL_FREE)
def test_scores_without_labels_serve_every_search(data, search, scorer):
    if search is SEARCHES["halving random"]:
        return  # two fits of MPDR more that show nothing else
    grid = {"energy_penalty": [0.5, 1.0]}
    found = search(tiny("MPDR"), grid, data[0], None, scoring=scorer, cv=2)
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("make", [np.asarray, pd.DataFrame])
def test_training_rows_are_ranked_against_the_anomalies_of_their_test_part(data, several, make):
    X, y = make(data[0]), data[1]
    cv = NormalOnlyCV(StratifiedKFold(2))
    scoring = {"a": anomaly_roc_auc} if several else anomaly_roc_auc
    scores = cross_validate(detector(), X, y, scoring=scoring, cv=cv, return_train_score=True)
    for fold, (train, test) in enumerate(cv.split(X, y)):
        fitted = detector().fit(data[0][train])
        rows = np.concatenate([train, test[y[test] == 1]])
        expected = roc_auc_score(y[rows], -fitted.score_samples(data[0][rows]))
        assert scores["train_a" if several else "train_score"][fold] == pytest.approx(expected)


def without_anomalies_in_a_fold(X, y):
    return X, np.sort(y)


BAD = {  # what is wrong -> (estimator, grid, what becomes of the data, the scorer's error)
    "labels of -1 and 1": (detector, GRID, lambda X, y: (X, 1 - 2 * y), "values -1, 1"),
    "no labels": (detector, GRID, lambda X, y: (X, None), "needs y"),
    "a fold of one kind": (detector, GRID, without_anomalies_in_a_fold, "All .* rows have y = "),
    "no detector": (
        lambda: KMeans(2, n_init=1),
        {"n_clusters": [2, 3]},
        lambda X, y: (X, y),
        "KMeans is no detector",
    ),
}


@searches
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_no_candidate_can_be_scored_by_stops_the_search(data, search, several, case):
    make, grid, change, message = case
    if several and search in ONE_SCORER:
        return
    scoring = {"only": anomaly_roc_auc} if several else anomaly_roc_auc
    X, y = change(*data)
    with pytest.raises((TypeError, ValueError), match=message):
        search(make(), grid, X, y, scoring=scoring, cv=KFold(2))


@searches
@pytest.mark.parametrize("scorer", LABEL_FREE.values(), ids=LABEL_FREE)
def test_a_score_of_one_detector_stops_the_search_of_another(data, search, scorer):
    with pytest.raises(TypeError, match="on_manifold_score"):
        search(detector(), GRID, *data, scoring=scorer, cv=2)


@searches
def test_a_metric_that_refuses_its_arguments_stops_the_search(data, search):
    refused = make_anomaly_scorer(partial_roc_auc, max_fpr=0.001)
    no_number = make_anomaly_scorer(lambda y, scores: np.nan)
    for scorer, message in [(refused, "less than one row"), (no_number, "metric is NaN")]:
        with pytest.raises(ValueError, match=message):
            search(detector(), GRID, *data, scoring=scorer, cv=NormalOnlyCV(2))


class Broken(IsolationForest):
    """A forest whose scores are NaN where it has few trees."""

    def score_samples(self, X):
        return super().score_samples(X) * (1 if self.n_estimators > 5 else np.nan)


def test_a_candidate_whose_scores_are_no_numbers_loses(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = GridSearchCV(
            Broken(random_state=0),
            {"n_estimators": [2, 10]},
            scoring=anomaly_roc_auc,
            cv=NormalOnlyCV(2),
            refit=False,
        ).fit(*data)
    assert search.best_params_ == {"n_estimators": 10}
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False]


def test_errors_come_out_of_pipelines(data):
    X, y = data
    for pipeline in (make_pipeline, skgenad.pipeline.make_pipeline):
        steps = pipeline(StandardScaler(), detector())
        with pytest.raises(TypeError, match="Mahalanobis has no on_manifold_score"):
            cross_val_score(steps, X, scoring=on_manifold_scorer, cv=2)
        with pytest.raises(ValueError, match="All .* rows have y = "):
            cross_val_score(steps, X, np.sort(y), scoring=anomaly_roc_auc, cv=KFold(2))


def test_errors_are_raised_to_everybody_else(data):
    X, y = data
    fitted = detector().fit(X)
    for scorer in RANKINGS.values():
        with pytest.raises(ValueError, match="All 140 rows have y = 0"):
            scorer(fitted, X, 0 * y)
        with pytest.raises(ValueError, match="All .* rows have y = 1"):
            (lambda *rows, scorer=scorer: scorer(fitted, *rows))(X, 0 * y + 1)
    for scorer in LABEL_FREE.values():
        with pytest.raises(TypeError, match="on_manifold_score"):
            scorer(fitted, X)
    # A function around a scorer gets an error, too, which scikit-learn's own words then show.
    with pytest.warns(UserWarning, match="All .* rows have y = "):
        scores = cross_val_score(
            fitted, X, np.sort(y), scoring=lambda *rows: anomaly_roc_auc(*rows), cv=KFold(2)
        )
    assert np.isnan(scores).tolist() == [True, False]


def test_a_candidate_that_fails_in_scoring_loses():
    rng = np.random.RandomState(0)
    kinds = rng.choice(list("abc"), 80).astype(object)
    kinds[70] = "rare"
    X, y = pd.DataFrame({"kind": kinds}), np.repeat([0, 1], [60, 20])
    forest = IsolationForest(n_estimators=5, random_state=0)
    pipe = make_pipeline(OneHotEncoder(handle_unknown="ignore"), forest)
    grid = {"onehotencoder__handle_unknown": ["error", "ignore"]}
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(pipe, grid, scoring=anomaly_roc_auc, cv=folds, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of the one that failed
        search.fit(X, y)
    assert search.best_params_ == {"onehotencoder__handle_unknown": "ignore"}
