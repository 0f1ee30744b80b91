"""DiscriminativeRatio: classifiers of normal rows against general ones as detectors."""

import pickle
from unittest import SkipTest

import numpy as np
import pytest
import sklearn
from scipy.special import expit
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks
from skorch import NeuralNetClassifier
from torch import nn

import skgenad
from skgenad import LikelihoodRatio, Mahalanobis
from skgenad._core.calibration import threshold_of
from skgenad.compat import DiscriminativeRatio
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

from ._settings import normal_rows

CLASSIFIERS = {
    "linear": LogisticRegression(),
    "linear discriminant": LinearDiscriminantAnalysis(),
    "quadratic": QuadraticDiscriminantAnalysis(reg_param=0.01),
    "bayes": GaussianNB(),
    "forest": RandomForestClassifier(n_estimators=10),
    "boosting": HistGradientBoostingClassifier(max_iter=5, early_stopping=False),
    "neighbours": KNeighborsClassifier(),
    "network": MLPClassifier((8,), max_iter=30, tol=1),
    "margin": LinearSVC(),
    "pipeline": make_pipeline(PolynomialFeatures(2), LogisticRegression()),
    "calibrated": CalibratedClassifierCV(LinearSVC(), cv=2),
}
PROBABLE = {"forest", "neighbours", "network", "bayes", "calibrated"}
SEEDED = {"forest", "network"}
each = pytest.mark.parametrize("name", CLASSIFIERS)
MEANS, COVARIANCE = np.array([[1.0, 0.0], [0.0, 0.5]]), np.array([[1.0, 0.6], [0.6, 2.0]])


def made(name="linear", **parameters):
    return DiscriminativeRatio(clone(CLASSIFIERS[name]), **{"random_state": 0, **parameters})


def wide_rows(n=90, seed=5):
    """Rows like the normal ones, farther apart and less dependent."""
    rows = normal_rows(n)
    return 2 * rows + rows.std(axis=0) * np.random.RandomState(seed).randn(n, 4)


def gaussians(n_normal, n_general, seed=0):
    """Rows of two Gaussians of one covariance."""
    rng = np.random.RandomState(seed)
    return [
        rng.multivariate_normal(mean, COVARIANCE, n)
        for mean, n in zip(MEANS, (n_normal, n_general), strict=True)
    ]


def log_ratio(rows):
    """Closed form of log N(x; m_1, S) - log N(x; m_0, S), which is linear in x."""
    precision = np.linalg.inv(COVARIANCE)
    norms = np.einsum("ij,jk,ik->i", MEANS, precision, MEANS)
    return rows @ precision @ (MEANS[0] - MEANS[1]) - (norms[0] - norms[1]) / 2


# ---- the score ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4000, 4000), (1000, 20000), (20000, 1000)], ids=str)
@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(),
        LogisticRegression(class_weight="balanced"),
        LogisticRegression(class_weight={0: 1, 1: 5}),
        make_pipeline(StandardScaler(), LogisticRegression(class_weight={1: 0.1})),
        LinearDiscriminantAnalysis(),
        LinearDiscriminantAnalysis(priors=[0.9, 0.1]),
    ],
    ids=str,
)
def test_two_gaussians_of_one_covariance_have_their_closed_form_whatever_the_sizes(
    classifier, sizes
):
    normal, general = gaussians(*sizes)
    detector = DiscriminativeRatio(classifier, calibration_fraction=0.0, random_state=0)
    scores = detector.fit(normal, X_general=general).score_samples(normal[:200])
    # Six standard deviations of an estimate from 1,000 rows of one kind.
    np.testing.assert_allclose(scores, log_ratio(normal[:200]), rtol=0.2, atol=0.25)
    assert detector.response_ == "log odds"


def test_quadratic_discriminants_are_the_ratio_of_two_gaussians():
    X, (G, _) = gaussians(300, 1)[0], gaussians(2000, 1, seed=1)
    settings = {"calibration_fraction": 0.0, "random_state": 0}
    ratio = LikelihoodRatio(Mahalanobis(device="cpu"), **settings).fit(X, X_general=2 * G)
    detector = DiscriminativeRatio(QuadraticDiscriminantAnalysis(), **settings)
    scores = detector.fit(X, X_general=2 * G).score_samples(X)
    # Their covariances are of n and not of n - 1 rows.
    np.testing.assert_allclose(scores, ratio.score_samples(X), rtol=0.01, atol=0.02)


@each
def test_scores_are_the_classifiers_log_odds_without_the_prior(name):
    X, G = normal_rows(), wide_rows()
    detector = made(name, calibration_fraction=0.0).fit(X, X_general=G)
    scores = detector.score_samples(X)
    assert scores.dtype == np.float64 and np.isfinite(scores).all()
    if name == "margin":
        assert detector.response_ == "margin" and detector.prior_odds_ == 1
        return
    assert detector.prior_odds_ == 60 / 90
    assert detector.response_ == ("probability" if name in PROBABLE else "log odds")
    both = StandardScaler().fit(np.vstack([X, G]))
    likely = detector.classifier_.predict_proba(both.transform(X))[:, 1]
    np.testing.assert_allclose(expit(scores + np.log(60 / 90)), likely, rtol=1e-4, atol=1e-6)


def test_odds_of_the_users_own_shift_scores_and_nothing_else():
    X, G = normal_rows(), wide_rows()
    one, ten = (made(prior_odds=odds).fit(X, X_general=G) for odds in (1.0, 10.0))
    shift = one.score_samples(X) - ten.score_samples(X)
    np.testing.assert_allclose(shift, np.log(10), rtol=1e-5)
    np.testing.assert_array_equal(one.p_value(X), ten.p_value(X))
    assert one.prior_odds_ == 1 and ten.prior_odds_ == 10


@pytest.mark.parametrize(
    ("classifier", "odds"),
    [
        (RandomForestClassifier(5, class_weight="balanced_subsample"), 1),
        (GaussianNB(priors=[0.8, 0.2]), 0.25),
        (LogisticRegression(class_weight={0: 3}), 60 / 90 / 3),
        (GridSearchCV(LogisticRegression(), {"class_weight": ["balanced"]}, cv=2), 1),
        (
            make_pipeline(
                StandardScaler(),
                GridSearchCV(GaussianNB(priors=[0.8, 0.2]), {"var_smoothing": [1e-9]}, cv=2),
            ),
            0.25,
        ),
        (CalibratedClassifierCV(LogisticRegression(class_weight="balanced"), cv=2), 60 / 90),
    ],
    ids=str,
)
def test_odds_are_those_that_the_classifier_was_fitted_with(classifier, odds):
    detector = DiscriminativeRatio(classifier, calibration_fraction=0.0, random_state=0)
    assert detector.fit(normal_rows(), X_general=wide_rows()).prior_odds_ == pytest.approx(odds)


def test_odds_have_digits_where_probabilities_have_none():
    normal, general = gaussians(500, 500)
    detector = made().fit(normal + [8, 0], X_general=general)
    far = [[100.0, 0], [200, 0]]
    assert (detector.classifier_.predict_proba(detector._rows(np.array(far)))[:, 1] == 1).all()
    one, two = detector.score_samples(far)
    assert two > one + 100


def test_a_probability_of_0_is_a_number():
    X = normal_rows()
    detector = made("neighbours").fit(X, X_general=X + 1e6)
    scores = detector.score_samples(np.vstack([X, X + 1e6]))
    limit = -np.log(np.finfo(float).tiny)
    np.testing.assert_allclose(scores, np.repeat([1, -1], 60) * limit, atol=1)


def test_without_general_rows_the_classifier_learns_how_columns_go_together():
    rng = np.random.RandomState(0)
    z = rng.randn(2000)
    X = np.c_[z, z + 0.3 * rng.randn(2000)]
    shuffled = np.c_[z, rng.permutation(X[:, 1])]
    for name, least, most in (("pipeline", 0.8, 1.0), ("linear", 0.4, 0.6)):
        detector = made(name).fit(X)
        scores = np.r_[detector.score_samples(X), detector.score_samples(shuffled)]
        assert least < roc_auc_score(np.repeat([1, 0], 2000), scores) < most


def test_units_of_columns_have_no_say_and_can_be_left_alone():
    X, G, unit = normal_rows(), wide_rows(), np.ldexp(1.0, [20, -7, 3, -30])
    scores = made().fit(X, X_general=G).score_samples(X)
    other = made().fit(X * unit, X_general=G * unit)
    np.testing.assert_array_equal(other.score_samples(X * unit), scores)
    raw = made("linear discriminant", standardize=False).fit(X, X_general=G)
    theirs = raw.classifier_.decision_function(X) - np.log(raw.prior_odds_)
    np.testing.assert_allclose(raw.score_samples(X), theirs, rtol=1e-5, atol=1e-5)
    mixed = made(standardize="mixed").fit(X, X_general=G).score_samples(X)
    assert not np.array_equal(mixed, scores)


# ---- the contract ---------------------------------------------------------------------------


@parametrize_with_checks(
    [DiscriminativeRatio(QuadraticDiscriminantAnalysis(reg_param=0.01), random_state=0)]
)
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    try:
        check(estimator)
    except SkipTest as skip:
        pytest.fail(f"skipped: {skip}")


def test_parameters_are_validated():
    check_param_validation("DiscriminativeRatio", made())


@each
def test_p_values_count_rows_that_were_held_out_and_trained_nothing(name):
    X, G = normal_rows(100), wide_rows()
    detector = made(name, calibration_fraction=0.3, contamination=0.2).fit(X, X_general=G)
    held_out = detector.calibration_scores_
    assert len(held_out) == 30 and detector.offset_ == threshold_of(held_out, 0.2)
    if name != "margin":
        assert detector.prior_odds_ == 70 / 90
    below = (held_out <= detector.score_samples(G)[:, None]).sum(axis=1)
    np.testing.assert_allclose(detector.p_value(G), (1 + below) / 31)


@each
def test_a_seed_decides_and_copies_score_the_same(name, global_rng_untouched):
    X, G = normal_rows(150), wide_rows()
    everything = {"calibration_fraction": 0.0}
    fitted = made(name, **everything).fit(X, X_general=G)
    scores = fitted.score_samples(X)
    np.testing.assert_array_equal(clone(fitted).fit(X, X_general=G).score_samples(X), scores)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(X), scores)
    other = made(name, **everything, random_state=1).fit(X, X_general=G).score_samples(X)
    assert np.array_equal(other, scores) == (name not in SEEDED)


@each
def test_a_rows_score_depends_on_it_alone(name):
    X, new = normal_rows(100), normal_rows(64, seed=1)
    detector = made(name).fit(X, X_general=wide_rows())
    scores = detector.score_samples(new)
    order = np.random.RandomState(0).permutation(64)
    np.testing.assert_array_equal(detector.score_samples(new[order]), scores[order])
    one_by_one = np.concatenate([detector.score_samples(row[None]) for row in new])
    np.testing.assert_array_equal(one_by_one, scores)


@pytest.mark.parametrize("name", ["linear", "linear discriminant", "quadratic", "bayes"])
def test_classifiers_of_the_list_are_files(name, tmp_path):
    X = normal_rows()
    fitted = made(name).fit(X, X_general=wide_rows())
    skgenad.save(fitted, tmp_path / "file")
    loaded = skgenad.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    np.testing.assert_array_equal(loaded.p_value(X), fitted.p_value(X))
    assert loaded.prior_odds_ == fitted.prior_odds_ and loaded.response_ == fitted.response_


def test_a_failed_fit_leaves_what_was_there():
    X, G = normal_rows(), wide_rows()
    detector = made().fit(X, X_general=G)
    before = detector.score_samples(X)
    with pytest.raises(ValueError, match="solver"):
        detector.set_params(classifier__solver="none such").fit(X, X_general=G)
    np.testing.assert_array_equal(detector.score_samples(X), before)


@pytest.mark.parametrize(
    "classifier",
    [
        *(StandardScaler(), LinearRegression(), IsolationForest(), LogisticRegression, None),
        FrozenEstimator(LogisticRegression()),
    ],
    ids=str,
)
def test_what_is_no_classifier_is_refused(classifier):
    detector = DiscriminativeRatio(classifier)
    with pytest.raises(TypeError, match=r"(?s)unfitted classifier with fit and .* got "):
        detector.fit(normal_rows())
    assert not hasattr(detector, "n_features_in_")


def test_margins_have_no_prior():
    with pytest.raises(ValueError, match=r"prior_odds=2 has no use.*CalibratedClassifierCV"):
        made("margin", prior_odds=2).fit(normal_rows(), X_general=wide_rows())


def test_bad_general_rows_are_named():
    for bad, message in (
        (wide_rows()[:, :3], "X_general: X has 3 features, but DiscriminativeRatio is expecting 4"),
        (wide_rows()[:1], r"X_general: .*1 sample\(s\)"),
        (np.full((5, 4), np.nan), "X_general: Input X contains NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            made().fit(normal_rows(), X_general=bad)


def as_float32(X):
    return X.astype(np.float32)


def test_a_network_of_torch_is_a_classifier_as_others(global_rng_untouched):
    network = NeuralNetClassifier(
        nn.Linear,
        module__in_features=4,
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
        lr=0.1,
        max_epochs=5,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    chain = make_pipeline(FunctionTransformer(as_float32), network)
    X, G = normal_rows(100), wide_rows()
    one, two = (
        DiscriminativeRatio(chain, random_state=0).fit(X, X_general=G).score_samples(X)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one)) == 100


# ---- pipelines and searches -----------------------------------------------------------------


def test_general_rows_are_routed_through_pipelines():
    X, G = normal_rows(), wide_rows()
    scaler = StandardScaler().fit(X)
    alone = made().fit(scaler.transform(X), X_general=scaler.transform(G))
    with sklearn.config_context(enable_metadata_routing=True):
        steps = [("scale", StandardScaler()), ("in", made().set_fit_request(X_general=True))]
        routed = Pipeline(steps, transform_input=["X_general"]).fit(X, X_general=G)
    np.testing.assert_allclose(routed.score_samples(X), alone.score_samples(scaler.transform(X)))
    old = make_pipeline(StandardScaler(), made())
    old.fit(X, discriminativeratio__X_general=scaler.transform(G))
    np.testing.assert_array_equal(old.score_samples(X), routed.score_samples(X))


def test_a_search_chooses_a_classifier():
    rng = np.random.RandomState(0)
    X, y = rng.randn(200, 2), np.repeat([0, 1], 100)
    X[100:] *= 4
    grid = {"classifier": [LogisticRegression(), QuadraticDiscriminantAnalysis()]}
    general = 4 * rng.randn(400, 2)
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            made().set_fit_request(X_general=True),
            grid,
            scoring=anomaly_roc_auc,
            cv=NormalOnlyCV(3),
            error_score="raise",
        )
        best = search.fit(X, y, X_general=general).best_estimator_
    assert isinstance(best.classifier, QuadraticDiscriminantAnalysis)
    assert search.best_score_ > 0.85


def test_a_search_divides_general_rows_only_if_they_are_as_many_as_the_others():
    seen = []

    class Spy(DiscriminativeRatio):
        """Notes how many general rows there are."""

        def fit(self, X, y=None, X_general=None):
            seen.append(len(X_general))
            return super().fit(X, y, X_general=X_general)

    spy = Spy(clone(CLASSIFIERS["linear"]), random_state=0)
    X, y = normal_rows(), np.repeat([0, 1], 30)
    for n, most in ((90, 90), (60, 59)):
        seen.clear()
        with sklearn.config_context(enable_metadata_routing=True):
            search = GridSearchCV(
                spy.set_fit_request(X_general=True),
                {"prior_odds": [1.0]},
                scoring=anomaly_roc_auc,
                cv=NormalOnlyCV(3),
                refit=False,
                error_score="raise",
            )
            search.fit(X, y, X_general=wide_rows(n))
        assert len(seen) == 3 and max(seen) <= most and (n == 60 or min(seen) == 90)
