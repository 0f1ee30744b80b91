import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skgenad.metrics import (
    NormalOnlyCV,
    anomaly_average_precision,
    anomaly_roc_auc,
    anomaly_score,
    on_manifold_scorer,
)

SCORERS = {
    anomaly_roc_auc: roc_auc_score,
    anomaly_average_precision: average_precision_score,
}


@pytest.fixture
def data():
    rng = np.random.RandomState(0)
    X = np.concatenate([rng.normal(size=(90, 3)), rng.normal(3, 1, size=(15, 3))])
    y = np.repeat([0, 1], [90, 15])
    order = rng.permutation(len(y))
    return X[order], y[order]


def forest():
    return IsolationForest(n_estimators=20, random_state=0)


# ---- scorers for labels ------------------------------------------------------


def test_roc_auc_of_scikit_learn_is_inverted_and_ours_is_not(data):
    X, y = data
    cv = NormalOnlyCV(3)
    inverted = cross_val_score(forest(), X, y, scoring="roc_auc", cv=cv)
    ours = cross_val_score(forest(), X, y, scoring=anomaly_roc_auc, cv=cv)
    assert inverted.max() < 0.2
    np.testing.assert_allclose(ours, 1 - inverted)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(
    "detector",
    [
        forest(),
        OneClassSVM(),
        LocalOutlierFactor(novelty=True),
        GaussianMixture(),
        make_pipeline(StandardScaler(), PCA(2), forest()),
        GridSearchCV(forest(), {"max_samples": [16]}, scoring=anomaly_roc_auc, cv=NormalOnlyCV(2)),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_scorer_is_the_metric_of_the_negated_score(data, scorer, detector):
    X, y = data
    detector.fit(X, y)
    expected = SCORERS[scorer](y, -detector.score_samples(X))
    assert scorer(detector, X, y) == expected
    assert expected > 0.5
    assert isinstance(scorer(detector, X, y), float)


class DecisionOnly(OutlierMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X):
        return -np.abs(X[:, 0])


def test_decision_function_serves_where_there_is_no_score_samples(data):
    X, _ = data
    np.testing.assert_array_equal(anomaly_score(DecisionOnly(), X), np.abs(X[:, 0]))
    scores = anomaly_score(Pipeline([("detect", DecisionOnly())]).fit(X), X)
    np.testing.assert_array_equal(scores, np.abs(X[:, 0]))


class ForeignSign:
    """The interface of pyod: decision_function is higher for anomalies."""

    def decision_function(self, X):
        return np.abs(X[:, 0])


def test_score_of_unknown_sign_is_refused(data):
    X, y = data
    for estimator in (LogisticRegression().fit(X, y), ForeignSign(), StandardScaler().fit(X)):
        with pytest.raises(TypeError, match=f"{type(estimator).__name__} is no detector"):
            anomaly_roc_auc(estimator, X, y)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(
    ("relabel", "message"),
    [
        (lambda y: 1 - 2 * y, r"values -1, 1;.*`y == -1`"),
        (lambda y: y + 1, "values 1, 2;"),
        (lambda y: np.where(y, "anomaly", "normal"), "values anomaly, normal;"),
        (lambda y: 0 * y, "All 105 rows have y = 0"),
        (lambda y: 0 * y + 1, "All 105 rows have y = 1"),
    ],
)
def test_labels_that_are_not_both_of_0_and_1_are_an_error(data, scorer, relabel, message):
    X, y = data
    with pytest.raises(ValueError, match=message):
        scorer(forest().fit(X), X, relabel(y))


@pytest.mark.parametrize("convert", [list, pd.Series, lambda y: y == 1, lambda y: y.astype(float)])
def test_labels_may_come_in_any_form_that_is_0_and_1(data, convert):
    X, y = data
    detector = forest().fit(X)
    assert anomaly_roc_auc(detector, X, convert(y)) == anomaly_roc_auc(detector, X, y)


def test_search_with_labels_over_a_pipeline(data):
    X, y = data
    pipeline = Pipeline([("scale", StandardScaler()), ("pca", PCA()), ("detect", forest())])
    search = GridSearchCV(
        pipeline,
        {"pca__n_components": [1, 3]},
        scoring={"auroc": anomaly_roc_auc, "ap": anomaly_average_precision},
        refit="auroc",
        cv=NormalOnlyCV(3),
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ > 0.9
    assert set(search.cv_results_) >= {"mean_test_auroc", "mean_test_ap"}
    assert search.n_splits_ == 3


# ---- label-free scorer -------------------------------------------------------


class Manifold(BaseEstimator):
    """Scores the mean of what the scorer hands over, plus a parameter."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y=None):
        return self

    def on_manifold_score(self, X, y=None):
        assert y is None
        return np.mean(X) + self.shift


class Double(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return 2 * X


def test_label_free_scorer_transforms_by_the_steps_before(data):
    X = np.ones((6, 2))
    for estimator, expected in [
        (Manifold(), 1),
        (Pipeline([("detect", Manifold())]), 1),
        (Pipeline([("double", Double()), ("detect", Manifold())]), 2),
        (Pipeline([("double", Double()), ("nothing", "passthrough"), ("detect", Manifold())]), 2),
        (make_pipeline(Double(), make_pipeline(Double(), Manifold())), 4),
    ]:
        assert on_manifold_scorer(estimator.fit(X), X) == expected
        assert on_manifold_scorer(estimator, X, np.zeros(6)) == expected


def test_search_without_labels_takes_the_best_by_the_label_free_score():
    X = np.ones((6, 2))
    pipeline = Pipeline([("double", Double()), ("detect", Manifold())])
    search = GridSearchCV(
        pipeline, {"detect__shift": [0.0, 3.0, 1.0]}, scoring=on_manifold_scorer, cv=2
    ).fit(X)
    assert search.best_params_ == {"detect__shift": 3.0}
    assert search.best_score_ == 5


@pytest.mark.parametrize("estimator", [forest(), make_pipeline(StandardScaler(), forest())])
def test_label_free_scorer_refuses_detectors_without_a_manifold(data, estimator):
    with pytest.raises(TypeError, match="IsolationForest has no on_manifold_score"):
        on_manifold_scorer(estimator.fit(data[0]), data[0])


# ---- splits ------------------------------------------------------------------

GROUPS = np.arange(105) % 7
SPLITTERS = [
    4,
    None,
    KFold(3),
    StratifiedKFold(3, shuffle=True, random_state=0),
    RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    GroupKFold(3),
    LeaveOneGroupOut(),
    [(np.arange(50), np.arange(50, 105)), (np.arange(50, 105), np.arange(50))],
    [(np.arange(105) < 50, np.arange(50, 105))],
]


@pytest.mark.parametrize("cv", SPLITTERS, ids=str)
def test_training_parts_are_the_normal_rows_and_test_parts_are_whole(data, cv):
    X, y = data
    wrapped = sklearn.model_selection.check_cv(cv, y, classifier=True)
    groups = GROUPS if "Group" in type(cv).__name__ else None  # others warn of groups
    ours = NormalOnlyCV(cv)
    expected = list(wrapped.split(X, y, groups))
    got = list(ours.split(X, y, groups))
    assert ours.get_n_splits(X, y, groups) == len(got) == len(expected)
    for (train, test), (whole_train, whole_test) in zip(got, expected, strict=True):
        np.testing.assert_array_equal(test, whole_test)
        np.testing.assert_array_equal(train, np.arange(105)[whole_train][y[whole_train] == 0])


def test_every_test_fold_has_its_share_of_anomalies(data):
    X, y = data
    assert [y[test].sum() for _, test in NormalOnlyCV(5).split(X, y)] == [3] * 5


def test_iterator_of_splits_can_be_split_again(data):
    X, y = data
    cv = NormalOnlyCV(iter([(np.arange(50), np.arange(50, 105))]))
    assert cv.get_n_splits() == 1
    assert len(list(cv.split(X, y))) == len(list(cv.split(X, y))) == 1


class NoAnomaliesSeen(IsolationForest):
    def fit(self, X, y=None):
        assert (y == 0).all()
        return super().fit(X)


def test_detector_in_a_search_sees_no_anomaly_until_the_refit(data):
    X, y = data
    search = GridSearchCV(
        make_pipeline(StandardScaler(), NoAnomaliesSeen(random_state=0)),
        {"noanomaliesseen__n_estimators": [5, 10]},
        scoring=anomaly_roc_auc,
        cv=NormalOnlyCV(3),
        refit=False,
        error_score="raise",
    )
    assert (search.fit(X, y).cv_results_["mean_test_score"] > 0.9).all()


@pytest.mark.parametrize("routing", [False, True])
def test_groups_reach_the_wrapped_splitter(data, routing):
    X, y = data
    arguments = {"params": {"groups": GROUPS}} if routing else {"groups": GROUPS}
    with sklearn.config_context(enable_metadata_routing=routing):
        results = cross_validate(
            forest(),
            X,
            y,
            scoring=anomaly_roc_auc,
            cv=NormalOnlyCV(GroupKFold(3)),
            return_indices=True,
            **arguments,
        )
    for train, test in zip(*results["indices"].values(), strict=True):
        assert not set(GROUPS[train]) & set(GROUPS[test])
        assert not y[train].any()


def test_split_without_usable_labels_is_an_error(data):
    X, y = data
    with pytest.raises(ValueError, match="needs y"):
        next(NormalOnlyCV(3).split(X))
    with pytest.raises(ValueError, match="values -1, 1"):
        next(NormalOnlyCV(3).split(X, 1 - 2 * y))
    with pytest.raises(ValueError, match="needs y"):
        GridSearchCV(forest(), {}, scoring=anomaly_roc_auc, cv=NormalOnlyCV(3)).fit(X)


def test_training_part_without_a_normal_row_is_an_error():
    y = np.repeat([0, 1], 4)
    splits = NormalOnlyCV(KFold(2)).split(np.zeros((8, 1)), y)
    with pytest.raises(ValueError, match="training part of fold 0 has no normal row.*4 rows"):
        list(splits)


@pytest.mark.parametrize("cv", ["five", 2.5])
def test_what_is_no_cross_validator_is_an_error(cv):
    with pytest.raises(ValueError, match="Expected `cv`"):
        NormalOnlyCV(cv)


def test_repr_says_what_is_wrapped():
    assert repr(NormalOnlyCV()) == "NormalOnlyCV(cv=5)"
    assert repr(NormalOnlyCV(GroupKFold(3))).startswith("NormalOnlyCV(cv=GroupKFold(")
