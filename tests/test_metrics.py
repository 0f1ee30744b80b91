import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    auc,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
    roc_curve,
)
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
    f1_at_contamination,
    make_anomaly_scorer,
    max_balanced_accuracy,
    on_manifold_scorer,
    partial_roc_auc,
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


@pytest.mark.parametrize(
    ("metric", "kwargs"),
    [
        (f1_at_contamination, {}),
        (max_balanced_accuracy, {}),
        (partial_roc_auc, {"max_fpr": 0.3}),
        (roc_auc_score, {"max_fpr": 0.3}),
    ],
)
def test_scorer_made_from_a_metric_hands_it_anomaly_scores(data, metric, kwargs):
    X, y = data
    detector = forest().fit(X)
    scorer = pickle.loads(pickle.dumps(make_anomaly_scorer(metric, **kwargs)))
    expected = metric(y, -detector.score_samples(X), **kwargs)
    assert scorer(detector, X, list(y)) == expected
    assert isinstance(scorer(detector, X, y), float)
    worse = make_anomaly_scorer(metric, greater_is_better=False, **kwargs)
    assert worse(detector, X, y) == -expected
    with pytest.raises(ValueError, match="All 105 rows have y = 0"):
        scorer(detector, X, 0 * y)


@pytest.mark.parametrize("routing", [False, True])
def test_search_with_scorers_made_from_metrics(data, routing):
    X, y = data
    scoring = {
        "f1": make_anomaly_scorer(f1_at_contamination),
        "loss": make_anomaly_scorer(average_precision_score, greater_is_better=False),
    }
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            forest(),
            {"max_samples": [8, 32]},
            scoring=scoring,
            refit="f1",
            cv=NormalOnlyCV(3),
            error_score="raise",
        ).fit(X, y)
    assert search.best_score_ > 0.8
    assert (search.cv_results_["mean_test_loss"] < -0.8).all()


def test_scorer_says_what_it_was_made_from():
    scorer = make_anomaly_scorer(partial_roc_auc, max_fpr=0.2, greater_is_better=False)
    made = "make_anomaly_scorer(partial_roc_auc, greater_is_better=False, max_fpr=0.2)"
    assert repr(scorer) == made
    assert repr(eval(made)) == made
    with pytest.raises(TypeError, match="metric must be a function.*'f1'"):
        make_anomaly_scorer("f1")


# ---- metrics -----------------------------------------------------------------

METRICS = [f1_at_contamination, partial_roc_auc, max_balanced_accuracy]
metrics = pytest.mark.parametrize("metric", METRICS)


def draw(seed, n_normal=60, n_anomalies=15, n_values=None):
    """Labels, and scores that tell them apart in part; integers where ties are wanted."""
    rng = np.random.RandomState(seed)
    y = rng.permutation(np.repeat([0, 1], [n_normal, n_anomalies]))
    scores = rng.normal(size=len(y)) + y
    return y, scores if n_values is None else np.floor(n_values * scores / 4)


@metrics
def test_metric_of_perfect_inverted_and_constant_scores(metric):
    y = np.repeat([0, 1], [30, 10])
    worst = 0.5 if metric is max_balanced_accuracy else 0.0
    tied = {f1_at_contamination: 0.25, partial_roc_auc: 0.0, max_balanced_accuracy: 0.5}
    assert metric(y, y + np.linspace(0, 0.5, 40)) == 1
    assert metric(y, -y - np.linspace(0, 0.5, 40)) == worst
    assert metric(y, np.full(40, 3.0)) == tied[metric]


@metrics
@pytest.mark.parametrize("n_values", [None, 3])
def test_metric_depends_on_the_ranking_alone(metric, n_values):
    y, scores = draw(0, n_values=n_values)
    expected = metric(y, scores)
    assert 0.05 < expected < 0.95
    assert isinstance(expected, float)
    for seed in range(20):
        order = np.random.RandomState(seed).permutation(len(y))
        assert metric(y[order], scores[order]) == expected
    for same in (10 * scores - 7, np.exp(scores), scores.astype(np.float32)):
        assert metric(y, same) == expected
    for form in (list, pd.Series, lambda values: np.asarray(values)[:, None]):
        assert metric(form(y), form(scores)) == expected
    assert metric(y == 1, scores) == expected


@metrics
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_true": [0, 0, 0, 0]}, "All 4 rows have y = 0"),
        ({"y_true": [-1, 1, 1, -1]}, r"values -1, 1;.*`y == -1`"),
        ({"y_true": [0, 1, 1]}, r"inconsistent numbers of samples: \[3, 4\]"),
        ({"anomaly_score": [1, 2, np.nan, 4]}, "anomaly_score contains NaN"),
        ({"anomaly_score": [1, 2, np.inf, 4]}, "anomaly_score contains infinity"),
        ({"anomaly_score": np.ones((4, 2))}, "1d array"),
        ({"anomaly_score": list("abcd")}, "convert|numeric"),
    ],
)
def test_metric_of_bad_input_is_an_error_that_says_why(metric, change, message):
    arguments = {"y_true": [0, 0, 1, 1], "anomaly_score": [1.0, 2.0, 3.0, 4.0]} | change
    with pytest.raises(ValueError, match=message):
        metric(**arguments)


@pytest.mark.parametrize(
    ("anomalies", "normal", "expected"),
    [
        ([9, 8, 7], [6, 5, 4, 3], 1),
        ([9, 8, 2], [7, 5, 4, 3], 2 / 3),
        ([9, 2, 1], [8, 7, 5, 4], 1 / 3),
        ([9, 8, 6], [6, 5, 4, 3], (2 + 1 / 2) / 3),  # one place for two rows
        ([9, 6, 6], [6, 6, 6, 3], (1 + 2 * 2 / 5) / 3),  # two places for five rows
        ([9, 8, 7], [9, 9, 8, 1], 1 / 3),  # the tie fills the places
    ],
)
def test_f1_at_contamination_by_hand(anomalies, normal, expected):
    y = np.repeat([1, 0], [len(anomalies), len(normal)])
    assert f1_at_contamination(y, anomalies + normal) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_f1_at_contamination_is_the_f1_score_of_the_highest_rows(seed):
    y, scores = draw(seed)
    flagged = np.zeros(len(y), dtype=int)
    flagged[np.argsort(scores)[-y.sum() :]] = 1
    expected = f1_score(y, flagged)
    assert f1_at_contamination(y, scores) == pytest.approx(expected, abs=1e-15)


def test_f1_at_contamination_is_the_mean_over_random_choices_among_ties():
    y, scores = draw(3, n_values=3)
    rng = np.random.RandomState(0)
    values = [f1_at_contamination(y, scores + 0.01 * rng.uniform(size=len(y))) for _ in range(4000)]
    assert np.std(values) > 0.02
    error = np.std(values) / np.sqrt(len(values))
    assert f1_at_contamination(y, scores) == pytest.approx(np.mean(values), abs=4 * error)


@pytest.mark.parametrize(
    ("max_fpr", "expected"),
    [
        (0.25, 1 / 3),  # the normal row at 7: one anomaly above
        (0.49, 1 / 3),  # still one row
        (0.5, (1 + 1) / 6),  # and the row at 5, with which an anomaly ties
        (0.75, (1 + 1 + 2) / 9),
        (1.0, (1 + 1 + 2 + 3) / 12),
    ],
)
def test_partial_roc_auc_by_hand(max_fpr, expected):
    y, scores = [1, 1, 1, 0, 0, 0, 0], [9, 5, 2, 7, 5, 3, 1]
    assert partial_roc_auc(y, scores, max_fpr=max_fpr) == pytest.approx(expected, abs=1e-15)


def plain_area(y, scores, max_fpr):
    """Area under scikit-learn's curve up to a rate, by the trapezoidal rule, over the rate."""
    fpr, tpr, _ = roc_curve(y, scores, drop_intermediate=False)
    stop = np.searchsorted(fpr, max_fpr, side="right")
    end = np.interp(max_fpr, fpr, tpr)
    return auc(np.append(fpr[:stop], max_fpr), np.append(tpr[:stop], end)) / max_fpr


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_fpr", [0.05, 0.1, 0.5, 1.0])
def test_partial_roc_auc_is_the_plain_area_where_rows_are_whole_and_nothing_ties(seed, max_fpr):
    y, scores = draw(seed)
    ours = partial_roc_auc(y, scores, max_fpr=max_fpr)
    assert ours == pytest.approx(plain_area(y, scores, max_fpr), abs=1e-12)
    # scikit-learn rescales the area so that its smallest and largest values become 0.5 and 1.
    smallest = max_fpr**2 / 2
    rescaled = 0.5 * (1 + (ours * max_fpr - smallest) / (max_fpr - smallest))
    assert roc_auc_score(y, scores, max_fpr=max_fpr) == pytest.approx(rescaled, abs=1e-12)


def test_partial_roc_auc_rounds_the_number_of_normal_rows_down():
    y, scores = draw(1, n_normal=59)
    expected = partial_roc_auc(y, scores, max_fpr=5 / 59)
    assert partial_roc_auc(y, scores, max_fpr=0.1) == expected  # 5.9 rows
    assert plain_area(y, scores, 0.1) != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("n_normal", [100, 700])
def test_partial_roc_auc_loses_no_row_to_rounding_of_the_rate(n_normal):
    y, scores = draw(2, n_normal=n_normal)
    order = np.sort(scores[y == 0])[::-1]
    for percent in range(1, 101):
        k = percent * n_normal // 100
        expected = np.mean(scores[y == 1] > order[:k, None])
        ours = partial_roc_auc(y, scores, max_fpr=percent / 100)
        assert ours == pytest.approx(expected, abs=1e-12)


def test_partial_roc_auc_gives_ties_no_credit():
    y, scores = draw(4, n_values=3)
    normal, anomalies = scores[y == 0], scores[y == 1]
    tied = np.mean(anomalies == normal[:, None])
    assert tied > 0.05
    whole = partial_roc_auc(y, scores, max_fpr=1.0)
    assert whole == pytest.approx(roc_auc_score(y, scores) - tied / 2, abs=1e-12)


def test_partial_roc_auc_of_less_than_one_row_says_how_many_it_takes():
    y = np.repeat([0, 1], [9, 3])
    with pytest.raises(ValueError, match=r"max_fpr=0.1 of 9 normal row.*Score 10 .*>= 0.111"):
        partial_roc_auc(y, np.arange(12))
    assert partial_roc_auc(y, np.arange(12), max_fpr=1 / 9) == 1


@pytest.mark.parametrize(
    ("max_fpr", "error"), [(0, ValueError), (1.1, ValueError), (-0.1, ValueError), ("a", TypeError)]
)
def test_rate_out_of_range_is_an_error(max_fpr, error):
    with pytest.raises(error, match="max_fpr"):
        partial_roc_auc([0, 1], [0.0, 1.0], max_fpr=max_fpr)


@pytest.mark.parametrize(
    ("anomalies", "normal", "expected"),
    [
        ([9, 8, 2], [7, 5, 4, 3], (2 / 3 + 1) / 2),
        ([9, 6, 6], [6, 5, 4, 3], (1 + 3 / 4) / 2),  # the three at 6 are flagged together
        ([9, 6, 1], [6, 6, 6, 6], (1 / 3 + 1) / 2),
        ([1, 1, 1], [3, 4, 5, 6], 1 / 2),
    ],
)
def test_max_balanced_accuracy_by_hand(anomalies, normal, expected):
    y = np.repeat([1, 0], [len(anomalies), len(normal)])
    assert max_balanced_accuracy(y, anomalies + normal) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("n_values", [None, 3])
@pytest.mark.parametrize("seed", range(3))
def test_max_balanced_accuracy_is_the_best_over_all_thresholds(seed, n_values):
    y, scores = draw(seed, n_values=n_values)
    thresholds = [*np.unique(scores), np.inf]
    every = [balanced_accuracy_score(y, (scores >= t).astype(int)) for t in thresholds]
    assert max_balanced_accuracy(y, scores) == pytest.approx(max(every), abs=1e-12)


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
    with pytest.raises(ValueError, match="Expected `?cv`? as an integer"):
        NormalOnlyCV(cv)


def test_repr_says_what_is_wrapped():
    assert repr(NormalOnlyCV()) == "NormalOnlyCV(cv=5)"
    assert repr(NormalOnlyCV(GroupKFold(3))).startswith("NormalOnlyCV(cv=GroupKFold(")
