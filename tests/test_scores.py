"""ScoreDetector: estimators of others with the contract of this package's detectors."""

import pickle
from unittest import SkipTest

import numpy as np
import pytest
import sklearn
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.base import clone, is_outlier_detector
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from skgenad import Mahalanobis
from skgenad._core.calibration import threshold_of
from skgenad.compat import PyODDetector, ScoreDetector, as_pyod
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

from ._settings import normal_rows

ESTIMATORS = {
    "mixture": GaussianMixture(2, reg_covar=0.01),
    "kernels": KernelDensity(bandwidth=0.5),
    "forest": IsolationForest(n_estimators=20),
    "svm": OneClassSVM(),
    "neighbours": LocalOutlierFactor(novelty=True),
    "pyod": PyODDetector(KNN()),
    "pyod's forest": PyODDetector(IForest(n_estimators=20)),
    "pipeline": make_pipeline(PCA(3), IsolationForest(n_estimators=20)),
    "ours": Mahalanobis(device="cpu"),
}
SEEDED = {"forest", "pipeline", "pyod's forest"}
each = pytest.mark.parametrize("name", ESTIMATORS)


def made(name, **parameters):
    return ScoreDetector(ESTIMATORS[name], **{"random_state": 0, **parameters})


@parametrize_with_checks([ScoreDetector(GaussianMixture(2), random_state=0)])
def test_a_wrapped_mixture_passes_the_checks_of_scikit_learn(estimator, check):
    try:
        check(estimator)
    except SkipTest as skip:
        pytest.fail(f"skipped: {skip}")


def test_parameters_are_validated():
    check_param_validation("ScoreDetector", made("mixture"))


@each
def test_scores_are_those_of_the_estimator_on_standardised_columns(name, global_rng_untouched):
    X, new = normal_rows(200), normal_rows(50, seed=1)
    detector = made(name, calibration_fraction=0.0).fit(X)
    scores = detector.score_samples(new)
    theirs = detector.estimator_.score_samples(StandardScaler().fit(X).transform(new))
    np.testing.assert_allclose(scores, theirs, rtol=1e-4, atol=1e-5)
    assert scores.dtype == np.float64 and is_outlier_detector(detector)
    np.testing.assert_array_equal(detector.anomaly_score(new), -scores)
    np.testing.assert_array_equal(detector.decision_function(new), scores - detector.offset_)
    far = X.mean(axis=0) + 15 * X.std(axis=0) * np.random.RandomState(1).choice([-1, 1], (20, 4))
    everything = detector.anomaly_score(np.vstack([X, far]))
    assert roc_auc_score(np.repeat([0, 1], [200, 20]), everything) > 0.9


@each
def test_without_standardisation_rows_go_in_as_they_are(name):
    X = normal_rows(200) / 100 + 1000  # float32 would keep four digits
    detector = made(name, standardize=False, calibration_fraction=0.0).fit(X)
    theirs = clone(detector.estimator_).fit(X).score_samples(X)
    np.testing.assert_allclose(detector.score_samples(X), theirs, rtol=1e-6)


def test_units_can_be_mixed_as_those_of_other_detectors():
    X = normal_rows(200)
    X[:, 0] = np.arange(200) < 3  # hardly ever another value: its range is many deviations
    detector = made("mixture", standardize="mixed", calibration_fraction=0.0).fit(X)
    scale = np.sqrt(X.std(axis=0) * np.ptp(X, axis=0) / np.sqrt(12))
    theirs = detector.estimator_.score_samples((X - X.mean(axis=0)) / scale)
    np.testing.assert_allclose(detector.score_samples(X), theirs, rtol=1e-4, atol=1e-5)


def test_units_of_the_columns_have_no_say():
    X, unit = normal_rows(), np.ldexp(1.0, [20, -7, 3, -300])
    scores = made("kernels").fit(X).score_samples(X)
    np.testing.assert_array_equal(made("kernels").fit(X * unit).score_samples(X * unit), scores)


@each
@pytest.mark.parametrize("contamination", [0.02, 0.25])
def test_contamination_is_the_share_that_is_flagged(name, contamination):
    X = normal_rows(200)
    labels = made(name, contamination=contamination).fit_predict(X)
    # Scores of forests have ties.
    assert abs((labels == -1).sum() - 200 * contamination) <= 2 * ("forest" in name)


@each
def test_p_values_count_rows_that_were_held_out(name):
    X = normal_rows(100)
    detector = made(name, calibration_fraction=0.3, contamination=0.2).fit(X)
    held_out = detector.calibration_scores_
    assert len(held_out) == 30
    assert detector.offset_ == threshold_of(held_out, 0.2)
    new = normal_rows(30, seed=1)
    below = (held_out <= detector.score_samples(new)[:, None]).sum(axis=1)
    np.testing.assert_allclose(detector.p_value(new), (1 + below) / 31)


def test_rows_that_are_held_out_train_nothing():
    X = normal_rows(100)
    detector = made("kernels", calibration_fraction=0.3).fit(X)
    assert detector.estimator_.tree_.data.shape == (70, 4)


def test_p_values_need_rows_that_were_held_out():
    X = normal_rows()
    with pytest.raises(ValueError, match=r"calibration_fraction is 0\.0"):
        made("mixture", calibration_fraction=0.0).fit(X).p_value(X)


@each
def test_a_seed_decides(name):
    X, all_rows = normal_rows(150), {"calibration_fraction": 0.0}
    one, two = (made(name, **all_rows).fit(X).score_samples(X) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    other = made(name, **all_rows, random_state=1).fit(X).score_samples(X)
    assert np.array_equal(one, other) != (name in SEEDED) or name == "mixture"


def test_seeds_of_the_users_own_stay():
    forest = IsolationForest(n_estimators=5, random_state=7)
    chain = make_pipeline(FunctionTransformer(), forest)
    detector = ScoreDetector(chain, random_state=0).fit(normal_rows())
    assert detector.estimator_.get_params()["isolationforest__random_state"] == 7
    forest.set_params(random_state=None)
    detector.fit(normal_rows())
    assert detector.estimator_.get_params()["isolationforest__random_state"] is not None
    assert forest.random_state is None


@each
def test_copies_score_the_same(name):
    X = normal_rows()
    detector = made(name, calibration_fraction=0.2).fit(X)
    copy = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copy.p_value(X), detector.p_value(X))
    np.testing.assert_array_equal(clone(detector).fit(X).p_value(X), detector.p_value(X))
    # What is set after a fit has no effect on its scores.
    changed = copy.set_params(standardize=False, estimator=GaussianMixture())
    np.testing.assert_array_equal(changed.score_samples(X), detector.score_samples(X))


@each
def test_a_rows_score_depends_on_it_alone(name):
    X, new = normal_rows(100), normal_rows(64, seed=1)
    detector = made(name).fit(X)
    scores = detector.score_samples(new)
    order = np.random.RandomState(0).permutation(64)
    np.testing.assert_array_equal(detector.score_samples(new[order]), scores[order])
    np.testing.assert_array_equal(
        np.concatenate([detector.score_samples(row[None]) for row in new]), scores
    )


def test_no_density_at_all_is_the_lowest_number():
    X = normal_rows()
    detector = ScoreDetector(KernelDensity(kernel="tophat"), contamination=0.1).fit(X)
    far = X[:3] * 1e6
    scores = detector.score_samples(far)
    assert (scores == np.finfo(np.float64).min).all()
    assert (detector.predict(far) == -1).all() and np.isfinite(
        detector.decision_function(far)
    ).all()


def test_parameters_are_searched_through_the_adapter():
    X, y = np.random.RandomState(0).randn(120, 2), np.repeat([0, 0, 1], 40)
    X[:40] += 12
    X[80:] += 6  # half-way
    search = GridSearchCV(
        made("mixture"),
        {"estimator__n_components": [1, 2]},
        scoring=anomaly_roc_auc,
        cv=NormalOnlyCV(3),
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_ == {"estimator__n_components": 2}
    assert search.best_estimator_.estimator_.n_components == 2


def test_a_failed_fit_leaves_what_was_there():
    X = normal_rows()
    detector = made("mixture").fit(X)
    before = detector.score_samples(X)
    with pytest.raises(ValueError, match="n_components"):
        detector.set_params(estimator=GaussianMixture(100)).fit(X)
    np.testing.assert_array_equal(detector.score_samples(X), before)


@pytest.mark.parametrize(
    "estimator",
    [KMeans(), StandardScaler(), LocalOutlierFactor(), KNN(), IsolationForest, "forest", None],
    ids=str,
)
def test_what_has_no_scores_is_refused(estimator):
    detector = ScoreDetector(estimator)
    with pytest.raises(TypeError, match=r"(?s)with fit and score_samples, got .* novelty=True"):
        detector.fit(normal_rows())
    assert not hasattr(detector, "n_features_in_")


def test_nothing_works_before_fit():
    for method in ("score_samples", "predict", "decision_function", "anomaly_score", "p_value"):
        with pytest.raises(NotFittedError):
            getattr(made("mixture"), method)(normal_rows())


def test_metadata_routing_may_be_on():
    X = normal_rows()
    with sklearn.config_context(enable_metadata_routing=True):
        routed = made("mixture").fit(X)
    np.testing.assert_array_equal(routed.score_samples(X), made("mixture").fit(X).score_samples(X))


def test_pyod_takes_it():
    X = normal_rows()
    assert as_pyod(made("kernels"), contamination=0.1).fit(X).labels_.sum() == 6
