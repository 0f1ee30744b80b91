import pickle

import numpy as np
import pytest
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.base import BaseDetector
from pyod.models.cblof import CBLOF
from pyod.models.deep_svdd import DeepSVDD
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.lscp import LSCP
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from pyod.utils.utility import check_detector, standardizer
from sklearn.base import BaseEstimator, clone, is_outlier_detector
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgenad import MPDR, Autoencoder
from skgenad._core.calibration import p_values_of
from skgenad.compat import PyODDetector, PyODInterface, as_pyod
from skgenad.energies import Manifold
from skgenad.metrics import NormalOnlyCV, anomaly_roc_auc

rng = np.random.default_rng(0)
X_TRAIN = rng.normal(size=(150, 3))
X_TEST = np.r_[rng.normal(size=(60, 3)), rng.normal(size=(20, 3)) + 6]
Y_TEST = np.repeat([0, 1], [60, 20])

DETECTORS = {
    "IForest": IForest(n_estimators=20),
    "KNN": KNN(),
    "LOF": LOF(),
    "OCSVM": OCSVM(),
    "PCA": PCA(),
    "ECOD": ECOD(),
    "CBLOF": CBLOF(n_clusters=3, alpha=0.6),
    "DeepSVDD": DeepSVDD(n_features=1, epochs=3, verbose=0),
    "AutoEncoder": AutoEncoder(epoch_num=2, verbose=0),
}


@pytest.fixture(params=DETECTORS)
def name(request):
    return request.param


def wrap(name, seed=0):
    return PyODDetector(DETECTORS[name], random_state=seed)


@parametrize_with_checks([PyODDetector(IForest(n_estimators=5), random_state=0)])
def test_wrapped_forest_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_signs_are_those_of_scikit_learn(name):
    detector = wrap(name).fit(X_TRAIN)
    scores = detector.score_samples(X_TEST)
    assert is_outlier_detector(detector)
    assert scores.dtype == np.float64 and scores.shape == (80,)
    assert roc_auc_score(Y_TEST, -scores) > 0.9
    np.testing.assert_array_equal(detector.decision_function(X_TEST), scores - detector.offset_)
    np.testing.assert_array_equal(
        detector.predict(X_TEST), np.where(scores >= detector.offset_, 1, -1)
    )
    assert set(detector.predict(X_TEST)) == {1, -1}


def test_agrees_with_pyod_itself(name):
    detector = wrap(name).fit(X_TRAIN)
    inner = detector.detector_
    np.testing.assert_allclose(
        -detector.score_samples(X_TEST), inner.decision_function(X_TEST).ravel()
    )
    np.testing.assert_array_equal(detector.predict(X_TEST) == -1, inner.predict(X_TEST) == 1)


def test_clones_repeat_and_other_seeds_differ(name, global_rng_untouched):
    detector = wrap(name)
    first, again = (clone(detector).fit(X_TRAIN).score_samples(X_TEST) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = wrap(name, seed=1).fit(X_TRAIN).score_samples(X_TEST)
    random = name in ("IForest", "DeepSVDD", "AutoEncoder", "CBLOF")
    assert random or np.array_equal(first, other)
    assert name == "CBLOF" or np.array_equal(first, other) != random


def test_fitting_twice_is_fitting_once(name):
    detector = wrap(name).fit(X_TRAIN)
    first = detector.score_samples(X_TEST)
    np.testing.assert_array_equal(detector.fit(X_TRAIN).score_samples(X_TEST), first)


def test_fitting_leaves_the_wrapped_detector_as_it_was(name):
    detector = clone(wrap(name))
    before = pickle.dumps(detector.get_params(deep=True))
    detector.fit(X_TRAIN)
    assert pickle.dumps(detector.get_params(deep=True)) == before
    assert not hasattr(detector.detector, "decision_scores_")


def test_fitted_wrapper_pickles(name):
    detector = wrap(name).fit(X_TRAIN)
    copy = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copy.score_samples(X_TEST), detector.score_samples(X_TEST))


def test_number_of_columns_is_set_where_pyod_wants_it():
    assert wrap("DeepSVDD").fit(X_TRAIN).detector_.n_features == 3


def test_parameters_are_searched_through_the_wrapper():
    y = np.r_[np.zeros(150, dtype=int), Y_TEST]
    pipe = make_pipeline(StandardScaler(), PyODDetector(KNN()))
    search = GridSearchCV(
        pipe,
        {"pyoddetector__detector__n_neighbors": [100, 1]},
        scoring=anomaly_roc_auc,
        cv=NormalOnlyCV(3),
        error_score="raise",
    )
    search.fit(np.r_[X_TRAIN, X_TEST], y)
    (best,) = search.best_params_.values()
    assert search.best_score_ > 0.95
    assert search.best_estimator_[-1].detector_.n_neighbors == best != 5
    assert pipe.get_params()["pyoddetector__detector__n_neighbors"] == 5


@pytest.mark.parametrize("detector", [IsolationForest(), KNN, "KNN", None])
def test_what_is_not_a_detector_of_pyod_is_refused(detector):
    with pytest.raises(TypeError, match="must be an unfitted detector of pyod, got"):
        PyODDetector(detector).fit(X_TRAIN)


OTHERS = {
    "forest": IsolationForest(n_estimators=20, random_state=0),
    "svm": OneClassSVM(),
    "pipeline": make_pipeline(StandardScaler(), IsolationForest(n_estimators=5, random_state=0)),
    # The interface has a threshold of its own, and lets detectors of ours train on all rows.
    "autoencoder": Autoencoder(max_steps=20, random_state=0),
    "mpdr": MPDR(manifold=Manifold(steps=20), max_steps=3, random_state=0),
    "round trip": PyODDetector(KNN()),
}


@pytest.fixture(params=OTHERS)
def other(request):
    return OTHERS[request.param]


def test_interface_is_that_of_pyod(other):
    detector = as_pyod(other, contamination=0.1)
    assert isinstance(detector, BaseDetector) and isinstance(detector, PyODInterface)
    check_detector(detector)
    assert detector.fit(X_TRAIN) is detector
    scores = detector.decision_function(X_TEST)
    fitted = clone(other)
    if "calibration_fraction" in fitted.get_params():
        fitted.set_params(calibration_fraction=0.0)
    fitted.fit(X_TRAIN)
    np.testing.assert_array_equal(scores, -fitted.score_samples(X_TEST))
    np.testing.assert_array_equal(detector.decision_scores_, detector.decision_function(X_TRAIN))
    np.testing.assert_array_equal(detector.predict(X_TEST), scores > detector.threshold_)
    assert detector.labels_.sum() == 15
    assert detector.predict(X_TEST)[Y_TEST == 1].mean() > 0.9


def test_probabilities_and_confidence_of_pyod_work(other):
    detector = as_pyod(other).fit(X_TRAIN)
    for method in ("linear", "unify"):
        chances = detector.predict_proba(X_TEST, method=method)
        assert chances.shape == (80, 2)
        np.testing.assert_allclose(chances.sum(axis=1), 1)
        assert roc_auc_score(Y_TEST, chances[:, 1]) > 0.9
    assert (detector.predict_confidence(X_TEST) >= 0).all()
    np.testing.assert_array_equal(detector.fit_predict(X_TRAIN), detector.labels_)


def test_interface_clones_and_pickles(other):
    detector = as_pyod(other, contamination=0.2)
    assert clone(detector).contamination == 0.2
    copy = pickle.loads(pickle.dumps(detector.fit(X_TRAIN)))
    np.testing.assert_array_equal(
        copy.decision_function(X_TEST), detector.decision_function(X_TEST)
    )


def test_scores_are_combined_with_those_of_pyod():
    detectors = [as_pyod(OTHERS["mpdr"]), as_pyod(OTHERS["forest"]), KNN(), IForest(random_state=0)]
    columns = [detector.fit(X_TRAIN).decision_function(X_TEST) for detector in detectors]
    train = np.column_stack([detector.decision_scores_ for detector in detectors])
    _, scores = standardizer(train, np.column_stack(columns))
    assert roc_auc_score(Y_TEST, scores.mean(axis=1)) > 0.9


def test_selection_of_detectors_by_pyod_takes_ours():
    detectors = [as_pyod(OTHERS["forest"]), as_pyod(OTHERS["svm"]), KNN()]
    lscp = LSCP(detectors, n_bins=3, random_state=0).fit(X_TRAIN)
    assert roc_auc_score(Y_TEST, lscp.decision_function(X_TEST)) > 0.9


def test_bagging_and_combination_of_pyod_take_ours():
    pytest.importorskip("combo", reason="pyod's combination code needs the package combo")
    from pyod.models.combination import aom, average, maximization
    from pyod.models.feature_bagging import FeatureBagging

    bagging = FeatureBagging(as_pyod(OTHERS["autoencoder"]), n_estimators=2, random_state=0)
    assert roc_auc_score(Y_TEST, bagging.fit(X_TRAIN).decision_function(X_TEST)) > 0.9
    made = [as_pyod(OTHERS[name]).fit(X_TRAIN) for name in ("forest", "svm", "pipeline", "mpdr")]
    scores = np.column_stack([detector.decision_function(X_TEST) for detector in made])
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    for combined in (average(scores), maximization(scores), aom(scores, 2, random_state=0)):
        assert roc_auc_score(Y_TEST, combined) > 0.9


class Threshold(BaseEstimator):
    """What pyod expects of an object in place of the share; scales scores as PyThresh's do."""

    def fit(self, scores):
        self.limits_ = scores.min(), scores.max()
        self.thresh_ = float(np.median(self._scaled(scores)))
        self.labels_ = self.predict(scores)
        return self

    def predict(self, scores):
        return (self._scaled(scores) > self.thresh_).astype(int)

    def _scaled(self, scores):
        low, high = self.limits_
        return (scores - low) / (high - low)


@pytest.fixture(params=["ours", "IQR", "FILTER", "KARCH"])
def thresholder(request):
    if request.param == "ours":
        return Threshold()
    module = pytest.importorskip(f"pythresh.thresholds.{request.param.lower()}")
    return getattr(module, request.param)()


def test_thresholds_of_pythresh_can_replace_the_share(thresholder):
    detector = as_pyod(OTHERS["forest"], contamination=thresholder).fit(X_TRAIN)
    alone = clone(thresholder).fit(detector.decision_scores_)
    np.testing.assert_array_equal(detector.labels_, alone.labels_)
    np.testing.assert_array_equal(
        detector.predict(X_TEST), alone.predict(detector.decision_function(X_TEST))
    )
    # Fresh rows give p-values, and the thresholder goes on with its threshold ...
    labels = detector.predict(X_TRAIN)
    assert detector.calibrate(X_TRAIN[:40]).p_value(X_TRAIN[:40]).max() == 1
    np.testing.assert_array_equal(detector.predict(X_TRAIN), labels)
    # ... until a rate takes its place.
    assert detector.set_threshold(fpr=0.25).predict(X_TRAIN[:40]).sum() == 10
    assert detector.contamination == 0.25


def test_thresholds_of_pythresh_in_detectors_of_pyod(thresholder):
    detector = PyODDetector(KNN(contamination=thresholder)).fit(X_TRAIN)
    labels = KNN(contamination=clone(thresholder)).fit(X_TRAIN).labels_
    flagged = detector.detector_.decision_scores_ > -detector.offset_
    assert 0 < labels.sum() < len(labels)
    np.testing.assert_array_equal(flagged, labels == 1)


@pytest.mark.parametrize("name", ["mpdr", "forest", "pipeline"])
def test_nonconform_takes_what_as_pyod_makes(name):
    """It compares scores as we do, and takes high ones for anomalies, as pyod does."""
    nonconform = pytest.importorskip("nonconform")
    made = nonconform.ConformalDetector(
        as_pyod(OTHERS[name]), strategy=nonconform.Split(n_calib=0.4), seed=0
    ).fit(X_TRAIN)
    expected = p_values_of(
        -made.detector_set[0].decision_function(X_TEST), np.sort(-np.asarray(made.calibration_set))
    )
    np.testing.assert_allclose(made.compute_p_values(X_TEST), expected)
    assert (expected[Y_TEST == 1] < 0.1).mean() > (expected[Y_TEST == 0] < 0.1).mean()


@pytest.mark.parametrize("detector", [StandardScaler(), object(), KNN()])
def test_what_has_no_scores_of_scikit_learn_is_refused(detector):
    with pytest.raises(TypeError, match="outlier detector with fit and score_samples, got"):
        as_pyod(detector)


def test_contamination_out_of_range_is_refused():
    with pytest.raises(ValueError, match="contamination must be in"):
        as_pyod(OTHERS["forest"], contamination=0.7)
