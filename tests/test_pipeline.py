"""Pipelines with the methods of their last step."""

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.pipeline
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import VarianceThreshold
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skgenad
from skgenad import Mahalanobis
from skgenad.metrics import anomaly_roc_auc, anomaly_score, on_manifold_scorer
from skgenad.pipeline import Pipeline, make_pipeline

from ._settings import EVERY, TINY, normal_rows, tiny

every = pytest.mark.parametrize("detector", EVERY, ids=lambda cls: cls.__name__)
# Of `fit` and of estimators alone; what asks for more than rows; and what has no rows.
NOT_FOR_ROWS = {
    "fit",
    "fit_from",
    "fit_predict",
    "from_paper",
    "get_metadata_routing",
    "get_params",
}
NOT_FOR_ROWS |= {"load", "part", "save", "set_params", "mix_scales", "log_density_grid"}
NOT_FOR_ROWS |= {"likeliest"}


NOT_OF_ROWS_ALONE = {"partial_fit", "calibrate", "sample", "forget_rows"}


def methods(cls):
    return {
        name
        for name, member in inspect.getmembers(cls, callable)
        if not name.startswith(("_", "set_")) and name not in NOT_FOR_ROWS
    }


@every
def test_a_pipeline_has_what_its_last_step_has(detector):
    """A method that a detector gets some day is to get here as well."""
    made = tiny(detector)
    pipe = make_pipeline(StandardScaler(), made)
    assert {name for name in methods(detector) if not hasattr(pipe, name)} == set()
    ours = {name for name in vars(Pipeline) if not name.startswith(("_", "set_"))} - {"save"}
    assert {name for name in ours if hasattr(pipe, name)} == ours & methods(detector)


@every
@pytest.mark.filterwarnings("ignore:None of 9 rows is selected")
def test_each_method_gives_what_the_last_step_gives(detector):
    X = normal_rows()
    scaler = RobustScaler().fit(X)
    alone = tiny(detector).fit(scaler.transform(X))
    pipe = make_pipeline(RobustScaler(), tiny(detector)).fit(X)
    rows = scaler.transform(X[:9])
    names = methods(detector) & set(vars(Pipeline)) - NOT_OF_ROWS_ALONE
    for name in sorted(names - {"anomaly_map", "scale_contributions"}):
        try:
            expected = getattr(alone, name)(rows)
        except (TypeError, ValueError) as error:
            with pytest.raises(type(error)):
                getattr(pipe, name)(X[:9])
            continue
        if name == "reconstruct":
            expected = scaler.inverse_transform(expected)
        if name == "repair":  # what is not repaired stays as it is, to the last bit
            back = scaler.inverse_transform(expected)
            expected = np.where(expected == rows, X[:9], back)
        assert_array_equal(getattr(pipe, name)(X[:9]), expected, err_msg=name)
    if hasattr(alone, "sample"):
        drawn = scaler.inverse_transform(alone.sample(3, random_state=0))
        assert_array_equal(pipe.sample(3, random_state=0), drawn)
    if hasattr(alone, "calibrate"):
        alone.calibrate(scaler.transform(X[30:]))
        assert pipe.calibrate(X[30:]) is pipe
        assert_array_equal(pipe.p_value(X[:9]), alone.p_value(rows))
    assert pipe.forget_rows() is pipe
    with pytest.raises(ValueError, match="reference="):
        pipe.explain(X[:1])
    if hasattr(alone, "partial_fit"):
        alone.partial_fit(scaler.transform(X[:20]))
        assert pipe.partial_fit(X[:20]) is pipe
        assert_array_equal(pipe.decision_function(X[:9]), alone.decision_function(rows))


def test_the_first_batch_fits_all_steps():
    X = normal_rows()
    pipe = make_pipeline(StandardScaler(), tiny("Mahalanobis"))
    fitted = clone(pipe).fit(X)
    assert_array_equal(pipe.partial_fit(X).score_samples(X), fitted.score_samples(X))


def test_what_the_last_step_lacks_is_lacking():
    pipe = make_pipeline(StandardScaler(), IsolationForest(n_estimators=5)).fit(normal_rows())
    with pytest.raises(AttributeError, match="'Pipeline' has no attribute 'p_value'"):
        pipe.p_value(normal_rows())
    assert not hasattr(pipe, "sample") and hasattr(pipe, "score_samples")
    one_way = make_pipeline(FunctionTransformer(np.tanh), VarianceThreshold(), tiny("VAE"))
    assert hasattr(one_way, "sample")

    class OneWay(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return X

    one_way = make_pipeline(OneWay(), tiny("VAE"))
    assert not hasattr(one_way, "sample") and hasattr(one_way, "log_density")


def test_unfitted_and_empty_steps():
    X = normal_rows()
    pipe = make_pipeline(StandardScaler(), "passthrough", tiny("Mahalanobis"))
    for name in ("p_value", "anomaly_score", "calibrate"):
        with pytest.raises(NotFittedError):
            getattr(pipe, name)(X)
    assert_array_equal(pipe.fit(X).anomaly_score(X), -pipe.score_samples(X))
    alone = make_pipeline(tiny("Mahalanobis")).fit(X)
    assert_array_equal(alone.anomaly_score(X), tiny("Mahalanobis").fit(X).anomaly_score(X))
    ends_in_none = Pipeline([("scale", StandardScaler()), ("last", "passthrough")]).fit(X)
    assert not hasattr(ends_in_none, "p_value") and ends_in_none.transform(X).shape == X.shape


def test_it_is_scikit_learns_estimator(tmp_path):
    X, y = normal_rows(), np.tile([0, 0, 1], 20)
    detector = tiny("Mahalanobis", calibration_fraction=0.3)
    pipe = make_pipeline(StandardScaler(), detector, memory=str(tmp_path))
    assert isinstance(pipe, sklearn.pipeline.Pipeline) and type(clone(pipe)) is Pipeline
    assert type(pipe[:1]) is Pipeline and list(pipe.named_steps) == [
        "standardscaler",
        "mahalanobis",
    ]
    search = GridSearchCV(pipe, {"mahalanobis__shrinkage": [0.0, 0.5]}, scoring=anomaly_roc_auc)
    best = search.fit(X, y).best_estimator_
    assert type(best) is Pipeline and best.p_value(X).shape == (60,)
    again = pickle.loads(pickle.dumps(best))
    assert_array_equal(again.p_value(X), best.p_value(X))
    assert_array_equal(anomaly_score(best, X), best.anomaly_score(X))
    pipe.set_params(mahalanobis__shrinkage=0.25).fit(X)
    assert pipe[-1].shrinkage == 0.25
    pipe.offset_ = 10.0
    assert pipe[-1].offset_ == 10 and (pipe.predict(X) == -1).all()


def test_frames_with_categories_and_names():
    rng = np.random.RandomState(0)
    X = pd.DataFrame({"a": rng.randn(80), "b": rng.randn(80), "kind": rng.choice(["x", "y"], 80)})
    encode = make_column_transformer((OneHotEncoder(sparse_output=False), ["kind"]))
    encode.set_params(remainder=StandardScaler(), verbose_feature_names_out=False)
    detector = tiny("Mahalanobis", shrinkage=0.1, calibration_fraction=0.3)
    pipe = make_pipeline(encode, detector).set_output(transform="pandas").fit(X)
    assert list(pipe[-1].feature_names_in_) == ["kind_x", "kind_y", "a", "b"]
    assert pipe.p_value(X).shape == (80,) and not hasattr(pipe, "sample")
    assert list(pipe[:-1].get_feature_names_out()) == list(pipe[-1].feature_names_in_)


def test_it_has_a_file(tmp_path):
    X = normal_rows()
    pipe = make_pipeline(StandardScaler(), "passthrough", tiny("Mahalanobis")).fit(X)
    pipe.calibrate(X[:30]).save(tmp_path / "pipe.safetensors")
    again = skgenad.load(tmp_path / "pipe.safetensors")
    assert type(again) is Pipeline
    assert_array_equal(again.p_value(X), pipe.p_value(X))
    assert_array_equal(again.sample(3, random_state=0), pipe.sample(3, random_state=0))


def test_the_label_free_scorer_goes_through_it():
    X = normal_rows()
    pipe = make_pipeline(StandardScaler(), tiny("MPDR")).fit(X)
    assert on_manifold_scorer(pipe, X) == pipe.on_manifold_score(X)


CHECKED = [
    make_pipeline(StandardScaler(), Mahalanobis(**TINY["Mahalanobis"])),
    make_pipeline(StandardScaler(), tiny("Autoencoder")),
]
# scikit-learn's own pipeline of the same steps fails these, too.
ALSO_OF_THEIRS = {"check_estimators_overwrite_params", "check_dont_overwrite_parameters"}


@parametrize_with_checks(
    CHECKED,
    expected_failed_checks=lambda _: dict.fromkeys(ALSO_OF_THEIRS, "steps are fitted in place"),
)
def test_estimator_checks(estimator, check):
    check(estimator)
