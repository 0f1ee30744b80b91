"""``skgenad.save`` and ``load``: pipelines, adapters, and estimators of others by a list."""

import importlib
import json
import os
import pickle
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import NMF, PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_approximation import AdditiveChi2Sampler, PolynomialCountSketch
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import OneClassSVM
from sklearn.utils.discovery import all_estimators

import skgenad
import skgenad.pipeline
from skgenad import (
    CANCE,
    Autoencoder,
    Committee,
    GaussianMixtures,
    InconsistentVersionWarning,
    LikelihoodRatio,
    Mahalanobis,
    Neighbors,
)
from skgenad._core.foreign import _METRICS, cloned
from skgenad._core.registry import FOREIGN, key_of
from skgenad.compat import PyODDetector, ScoreDetector, as_pyod
from skgenad.likelihoods._png import PNGModel
from skgenad.preprocessing import LatentFeatures

from ._files import read_metadata, rewrite, write_text
from ._settings import EVERY, normal_rows, tiny

X = normal_rows()
NAMES = [(module, name) for module, names in FOREIGN.items() for name in names]
# Estimators of the list whose defaults are not enough, or that need other rows.
SETTINGS = {
    "KBinsDiscretizer": {"n_bins": 3, "quantile_method": "averaged_inverted_cdf"},
    "QuantileTransformer": {"n_quantiles": 20},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.01},
    "IsolationForest": {"n_estimators": 3, "random_state": 0},
    "LocalOutlierFactor": {"novelty": True},
    "GaussianRandomProjection": {"n_components": 2},
    "SparseRandomProjection": {"n_components": 2},
    "ColumnTransformer": {"transformers": [("a", StandardScaler(), [0, 1]), ("b", "drop", [2])]},
    "FeatureUnion": {"transformer_list": [("a", PCA(2)), ("b", PowerTransformer())]},
    "Pipeline": {"steps": [("a", SimpleImputer()), ("b", PCA(2))]},
    "FrozenEstimator": {"estimator": PCA(2).fit(X)},
    "FunctionTransformer": {"func": np.arctan, "inverse_func": np.tan},
    "MissingIndicator": {"features": "all"},
    "IForest": {"n_estimators": 3, "random_state": 0},
    "NMF": {"tol": 0.1},
    "Nystroem": {"n_components": 10},
}
CLASSIFIERS = ("GaussianNB", "LinearDiscriminantAnalysis", "LogisticRegression")
CLASSIFIERS += ("QuadraticDiscriminantAnalysis",)
WORDS = ["one two three", "two three", "three one one", "four"]


def rows_for(name):
    if name in ("CountVectorizer", "HashingVectorizer", "TfidfVectorizer"):
        return WORDS
    if name in ("NMF", "AdditiveChi2Sampler", "SkewedChi2Sampler", "TfidfTransformer"):
        return np.abs(X)
    if name in ("OneHotEncoder", "OrdinalEncoder"):
        return np.random.RandomState(0).choice(["a", "b", "c"], (60, 2)).astype(object)
    return X @ X.T if name == "KernelCenterer" else X


def outputs(estimator, rows):
    """Return all that an estimator says of rows."""
    names = ("transform", "decision_function", "score_samples", "predict", "apply", "kneighbors")
    names += ("mahalanobis", "predict_proba")
    found = [getattr(estimator, name)(rows) for name in names if hasattr(estimator, name)]
    flat = [a for out in found for a in (out if isinstance(out, tuple) else (out,))]
    return [np.asarray(a.toarray() if hasattr(a, "toarray") else a) for a in flat]


def saved_and_loaded(estimator, tmp_path):
    skgenad.save(estimator, tmp_path / "file")
    return skgenad.load(tmp_path / "file")


def check_same(estimator, loaded, rows):
    assert type(loaded) is type(estimator)
    expected = outputs(pickle.loads(pickle.dumps(estimator)), rows)  # as from a pickle, bit by bit
    assert expected
    for one, other in zip(expected, outputs(loaded, rows), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


# ---- the list -------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_estimator_of_the_list_comes_back_as_from_a_pickle(module, name, tmp_path):
    kind = getattr(importlib.import_module(module), name)
    if name == "make_column_selector":
        return  # a parameter; see below
    rows = rows_for(name)
    supervised = name in ("ExtraTreeRegressor", "FrozenEstimator", *CLASSIFIERS)
    y = np.arange(len(rows)) % (2 if name in CLASSIFIERS else len(rows)) if supervised else None
    fitted = kind(**SETTINGS.get(name, {})).fit(rows, *(() if y is None else (y,)))
    loaded = saved_and_loaded(fitted, tmp_path)
    check_same(fitted, loaded, rows)
    for other in (loaded, clone(loaded).fit(rows, *(() if y is None else (y,)))):
        # What vectorizers have once they have been used.
        assert set(vars(other)) ^ set(vars(fitted)) <= {"_stop_words_id"}


def test_the_list_has_the_transformers_that_tables_need():
    listed = {name for _, name in NAMES}
    modules = ("sklearn.preprocessing", "sklearn.impute")
    found = {n for n, k in all_estimators("transformer") if k.__module__.startswith(modules)}
    # Targets of supervised learning, and what is experimental.
    others = {"LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer", "TargetEncoder"}
    assert found - listed == others


VARIANTS = {
    "one hot, rare": (OneHotEncoder(min_frequency=15, handle_unknown="infrequent_if_exist"), "abc"),
    "one hot, dropped": (OneHotEncoder(drop="first", sparse_output=False), "abc"),
    "one hot, if binary": (OneHotEncoder(drop="if_binary"), "ab"),
    "one hot, numbers": (OneHotEncoder(dtype=np.float32), [1, 2, 3]),
    "one hot, given": (OneHotEncoder(categories=[["a", "b", "c", "d"]] * 2), "abc"),
    "ordinal": (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), "abc"),
    "ordinal, missing": (OrdinalEncoder(), ["a", np.nan]),
    "bins": (KBinsDiscretizer(4, encode="onehot-dense", strategy="uniform"), None),
    "spline": (SplineTransformer(n_knots=4, extrapolation="linear"), None),
    "imputer": (SimpleImputer(strategy="most_frequent", add_indicator=True), ["a", np.nan]),
    "neighbours": (KNNImputer(add_indicator=True), [1.0, 2.0, 5.0, np.nan]),
    "pandas": (StandardScaler().set_output(transform="pandas"), None),
    "ball tree": (KernelDensity(algorithm="ball_tree", metric="manhattan"), None),
    "minkowski": (LocalOutlierFactor(novelty=True, p=3), None),
    "chebyshev": (KernelDensity(metric="chebyshev"), None),
    "columns": (make_column_transformer((PCA(1), slice(0, 2)), remainder=StandardScaler()), None),
    "masks": (make_column_transformer((PCA(1), [True, True, False, False])), None),
    "union": (make_union(PCA(2), FunctionTransformer(np.tanh), "passthrough"), None),
    "float32": (StandardScaler(), np.float32),
    "weighted": (FunctionTransformer(), None),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_settings_of_estimators_come_back(name, tmp_path):
    estimator, kind = VARIANTS[name]
    if kind is None or kind is np.float32:
        rows = X.astype(kind or np.float64)
    else:
        values = list(kind)
        rows = np.random.RandomState(0).choice(np.array(values, dtype=object), (60, 2))
        rows = rows if any(isinstance(v, str) for v in values) else rows.astype(float)
    fitted = clone(estimator).fit(rows)
    check_same(fitted, saved_and_loaded(fitted, tmp_path), rows)


# ---- pipelines ------------------------------------------------------------------------------


def frame(n=60):
    rng = np.random.RandomState(0)
    table = pd.DataFrame(normal_rows(n), columns=list("abcd"))
    table["kind"] = pd.Categorical(rng.choice(list("xyz"), n))
    table["place"] = rng.choice(["here", "there"], n)
    table.loc[3, "a"] = np.nan
    return table


def preparation():
    numbers = make_pipeline(SimpleImputer(), QuantileTransformer(n_quantiles=10))
    codes = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include=np.number)),
        (codes, ["kind", "place"]),
        verbose_feature_names_out=False,
    )


@pytest.mark.parametrize("detector", EVERY, ids=lambda kind: kind.__name__)
def test_a_table_with_categories_and_any_detector_is_one_file(detector, tmp_path):
    table = frame()
    fitted = make_pipeline(preparation(), tiny(detector)).fit(table)
    loaded = saved_and_loaded(fitted, tmp_path)
    check_same(fitted, loaded, table)
    assert loaded.feature_names_in_.tolist() == list(table)
    with pytest.raises(ValueError, match="columns are missing"):
        loaded.predict(table.drop(columns="kind"))
    loaded.fit(table)


def test_text_pipelines_are_files(tmp_path):
    words = WORDS * 5
    for vectorizer in (TfidfVectorizer(), HashingVectorizer(n_features=16, alternate_sign=False)):
        dense = FunctionTransformer(accept_sparse=True)
        pipeline = make_pipeline(vectorizer, dense, IsolationForest(n_estimators=2, random_state=0))
        check_same(pipeline.fit(words), saved_and_loaded(pipeline, tmp_path), words)


def test_the_best_of_a_search_is_a_file_and_the_search_is_not(tmp_path):
    pipeline = make_pipeline(StandardScaler(), ScoreDetector(GaussianMixture(), random_state=0))
    grid = {"scoredetector__estimator__n_components": [1, 2]}
    search = GridSearchCV(pipeline, grid, scoring=lambda e, X, y=None: e.score_samples(X).mean())
    search.fit(X)
    with pytest.raises(TypeError, match="save its best_estimator_"):
        skgenad.save(search, tmp_path / "file")
    assert os.listdir(tmp_path) == []
    check_same(search.best_estimator_, saved_and_loaded(search.best_estimator_, tmp_path), X)


IN_ANOTHER_PROCESS = """
import sys
import numpy as np
from skgenad import load

path, rows, scores = sys.argv[1:]
np.save(scores, load(path).decision_function(np.load(rows)))
"""


def test_another_process_imports_what_it_needs(tmp_path):
    members = [("pyod", PyODDetector(knn())), ("score", ScoreDetector(GaussianMixture(2)))]
    latent = make_pipeline(LatentFeatures(tiny("Autoencoder")), Neighbors(device="cpu"))
    fitted = Committee([*members, ("latent", latent)], random_state=0).fit(X)
    fitted.save(tmp_path / "file")
    np.save(tmp_path / "rows.npy", X)
    arguments = [str(tmp_path / name) for name in ("file", "rows.npy", "scores.npy")]
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), fitted.decision_function(X))


# ---- adapters, committees, ratios -----------------------------------------------------------


def knn():
    from pyod.models.knn import KNN

    return KNN()


def check_detector(fitted, tmp_path, rows=X):
    fitted.save(tmp_path / "own")
    loaded = type(fitted).load(tmp_path / "own")
    check_same(fitted, loaded, rows)
    check_same(fitted, saved_and_loaded(fitted, tmp_path), rows)
    assert set(vars(loaded)) == set(vars(fitted)) and loaded.offset_ == fitted.offset_
    assert loaded.get_params().keys() == fitted.get_params().keys()
    if getattr(fitted, "calibration_scores_", None) is not None:
        np.testing.assert_array_equal(loaded.p_value(rows), fitted.p_value(rows))
    again = clone(loaded).fit(rows)
    np.testing.assert_array_equal(again.score_samples(rows), fitted.score_samples(rows))
    return loaded


@pytest.mark.parametrize(
    "estimator",
    [
        *(GaussianMixture(2), BayesianGaussianMixture(n_components=2), KernelDensity()),
        *(IsolationForest(n_estimators=3), OneClassSVM(), LocalOutlierFactor(novelty=True)),
        *(EllipticEnvelope(), PCA(2), make_pipeline(PCA(2), GaussianMixture())),
        *(Mahalanobis(device="cpu"), PyODDetector(knn())),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore:The covariance matrix associated:UserWarning")
def test_score_detectors_are_files(estimator, tmp_path):
    for standardize in (True, False, "mixed"):
        detector = ScoreDetector(
            estimator, standardize=standardize, calibration_fraction=0.2, random_state=0
        )
        check_detector(detector.fit(X), tmp_path)


def test_adapters_of_pyod_are_files(tmp_path):
    table = pd.DataFrame(X, columns=list("abcd"))
    loaded = check_detector(PyODDetector(knn(), random_state=0).fit(table), tmp_path, table)
    assert loaded.feature_names_in_.tolist() == list("abcd")
    ours = as_pyod(Mahalanobis(device="cpu")).fit(X)
    loaded = saved_and_loaded(ours, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), ours.predict(X))
    np.testing.assert_array_equal(loaded.labels_, ours.labels_)


RATIOS = {
    "default": lambda: LikelihoodRatio(random_state=0, calibration_fraction=0.2),
    "trained": lambda: LikelihoodRatio(tiny("VAE", random_state=None), random_state=0),
    "two kinds": lambda: LikelihoodRatio(
        Mahalanobis(device="cpu"), GaussianMixtures(device="cpu", n_components=(1, 2))
    ),
    "frozen": lambda: LikelihoodRatio(
        FrozenEstimator(Mahalanobis(device="cpu").fit(X)),
        FrozenEstimator(GaussianMixtures(device="cpu").fit(X)),
    ),
    "outliers": lambda: LikelihoodRatio(
        tiny("VAE"), outlier_loss="ratio", temperature=1.0, random_state=0
    ),
}


@pytest.mark.parametrize("name", RATIOS)
def test_ratios_are_files(name, tmp_path):
    table = pd.DataFrame(X, columns=list("abcd"))
    for rows in (X, table):
        fitted = RATIOS[name]().set_params(random_state=0).fit(rows)
        check_detector(fitted, tmp_path, rows)


def test_ratios_of_classes_and_of_image_files_are_files(tmp_path):
    y = np.repeat(["a", "b"], 30)
    model = Mahalanobis(use_labels=True, device="cpu")
    fitted = LikelihoodRatio(model, random_state=0).fit(X, y)
    loaded = saved_and_loaded(fitted, tmp_path)
    assert loaded.classes_.tolist() == ["a", "b"]
    check_same(fitted, loaded, X)
    images = np.random.RandomState(0).rand(12, 1, 4, 4).astype(np.float32)
    model = tiny("VAE", image_shape=(1, 4, 4))
    fitted = LikelihoodRatio(model, general="png", random_state=0).fit(images)
    loaded = saved_and_loaded(fitted, tmp_path)
    assert isinstance(loaded.general_, PNGModel)
    check_same(fitted, loaded, images)


def test_the_parameters_of_a_ratio_are_those_of_its_fit(tmp_path):
    fitted = LikelihoodRatio(Mahalanobis(device="cpu"), random_state=0).fit(X)
    fitted.set_params(finetune=False, detector=None)
    loaded = saved_and_loaded(fitted, tmp_path)
    assert loaded.finetune and isinstance(loaded.detector, Mahalanobis)


def test_committees_of_all_sorts_are_files(tmp_path):
    check_detector(Committee("robust", random_state=0).fit(X), tmp_path)
    members = [
        ("inner", Committee([("m", Mahalanobis()), ("n", Neighbors())])),
        ("pipe", make_pipeline(StandardScaler(), PCA(2), tiny("Autoencoder"))),
        ("score", ScoreDetector(GaussianMixture(2))),
        ("ratio", LikelihoodRatio()),
        ("forest", IsolationForest(n_estimators=3)),
        ("none", "drop"),
    ]
    loaded = check_detector(Committee(members, random_state=0).fit(X), tmp_path)
    assert [name for name, _ in loaded.members] == [name for name, _ in members]


def test_the_device_of_loading_is_that_of_all_detectors(tmp_path):
    pipeline = make_pipeline(StandardScaler(), Committee([("m", Mahalanobis())])).fit(X)
    skgenad.save(pipeline, tmp_path / "file")
    loaded = skgenad.load(tmp_path / "file", device="cpu")
    assert loaded[-1].members[0][1].device == loaded[-1].members_["m"][0].device == "cpu"
    with pytest.raises(ValueError, match=r"^device='cuda:99' cannot be used here"):
        skgenad.load(tmp_path / "file", device="cuda:99")


# ---- what is refused ------------------------------------------------------------------------


class Doubler(TransformerMixin, BaseEstimator):
    """A transformer of the user's own."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return 2 * X


class PCAOfMine(PCA):
    """A class that derives from one of the list."""


REFUSED = {
    "class": make_pipeline(Doubler(), Mahalanobis(device="cpu")),
    "derived": make_pipeline(PCAOfMine(2), Mahalanobis(device="cpu")),
    "function": make_pipeline(FunctionTransformer(abs), Mahalanobis(device="cpu")),
    "lambda": make_pipeline(FunctionTransformer(lambda X: X), Mahalanobis(device="cpu")),
    "features": CANCE(features=LatentFeatures(tiny("Autoencoder")), max_steps=3, device="cpu"),
    "ours": ScoreDetector(make_pipeline(Doubler(), Mahalanobis(device="cpu"))),
    "metric": KernelDensity(metric="canberra"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_is_named(name, tmp_path):
    fitted = clone(REFUSED[name]).fit(X)
    with pytest.raises(TypeError, match="cannot be saved.*[Uu]se pickle"):
        skgenad.save(fitted, tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_what_is_no_fitted_estimator_is_not_saved(tmp_path):
    path = tmp_path / "file"
    for unfitted in (Mahalanobis(), make_pipeline(PCA(), Mahalanobis()), StandardScaler()):
        with pytest.raises(NotFittedError):
            skgenad.save(unfitted, path)
    for thing in (3, None, "detector", {}, [Mahalanobis()], X, Mahalanobis):
        with pytest.raises(TypeError):
            skgenad.save(thing, path)
    assert os.listdir(tmp_path) == []


def test_metrics_that_trees_are_made_again_with_are_scikit_learns():
    from sklearn.neighbors import BallTree, KDTree

    assert set(_METRICS.values()) <= set(KDTree.valid_metrics) & set(BallTree.valid_metrics)


def changed_file(tmp_path, estimator, change):
    path = tmp_path / "file"
    skgenad.save(estimator, path)
    rewrite(path, change)
    return path


CHANGES = {
    "'Normalizer' has no attribute|has no attribute 'transform'": lambda d: d["attributes"].update(
        transform=3
    ),
    "has no attribute '__class__'": lambda d: d["attributes"].update(__class__=3),
    "has no attribute 'copy'": lambda d: d["attributes"].update(copy=3),
    r"unknown parameters \['shell'\] of Stand": lambda d: d["parameters"].update(shell=True),
    "'copy' parameter of StandardScaler must be": lambda d: d["parameters"].update(copy="yes"),
    "n_features_in_=0": lambda d: d["attributes"].update(n_features_in_=0),
    "the class 'sklearn.svm.SVC' is not known": lambda d: d["attributes"].update(
        mean_={"class": "sklearn.svm.SVC", "parameters": {}, "attributes": {}}
    ),
    "there is no value": lambda d: d["attributes"].update(mean_={"code": "import os"}),
    "there is no function 'array'": lambda d: d["attributes"].update(mean_={"ufunc": "array"}),
    "there is no type": lambda d: d["attributes"].update(mean_={"dtype": "<U999999999"}),
    "there is no value {'type': 'os'}": lambda d: d["attributes"].update(mean_={"type": "os"}),
    "Unexpected key 'var_'": lambda d: d["attributes"].pop("var_"),
    "is missing": lambda d: d.pop("parameters"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_changed_documents_of_others_are_refused(message, tmp_path):
    path = changed_file(tmp_path, StandardScaler().fit(X), CHANGES[message])
    with pytest.raises(ValueError, match=message):
        skgenad.load(path)


def change_array(tmp_path, estimator, name, change):
    path = tmp_path / "file"
    skgenad.save(estimator, path)
    rewrite(path, change_arrays=lambda a: a.update({n: change(a[n]) for n in a if name in n}))
    return path


def endless(children):
    changed = children.copy()
    changed[1] = 0
    return changed


# Arrays that compiled code would follow out of its memory, or round in circles.
FOLLOWED = {
    "left child": (IsolationForest(n_estimators=1), "0.tree_.left_child", lambda a: a + 10**6),
    "circle": (IsolationForest(n_estimators=1), "0.tree_.left_child", endless),
    "column": (IsolationForest(n_estimators=1), "0.tree_.feature", lambda a: a + 100),
    "columns": (IsolationForest(n_estimators=1), "estimators_features_", lambda a: a + 100),
    "threshold": (IsolationForest(n_estimators=1), "0.tree_.threshold", lambda a: a[:1]),
    "support": (OneClassSVM(), "_n_support", lambda a: a * 1000),
    "vectors": (OneClassSVM(), "support_vectors_", lambda a: a[:, :1]),
    "weights": (OneClassSVM(), "dual_coef_", lambda a: a[:, :1]),
    "rows": (LocalOutlierFactor(novelty=True, algorithm="brute"), "_fit_X", lambda a: a[:, :1]),
    "missing": (KNNImputer(), "_fit_X", lambda a: a[:, :1]),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_arrays_that_lead_out_of_memory_are_refused(name, tmp_path):
    estimator, array, change = FOLLOWED[name]
    path = change_array(tmp_path, clone(estimator).fit(X), array, change)
    with pytest.raises(ValueError, match="does not describe a"):
        skgenad.load(path)


def test_categories_have_the_columns_that_there_are(tmp_path):
    table = frame()[["kind", "place"]]
    fitted = OneHotEncoder(min_frequency=25, handle_unknown="infrequent_if_exist").fit(table)
    for key, value in {"_n_features_outs": [1, 1], "_infrequent_enabled": False}.items():
        path = changed_file(
            tmp_path, fitted, lambda d, k=key, v=value: d["attributes"].update({k: v})
        )
        with pytest.raises(ValueError, match="category|categories"):
            skgenad.load(path)
    path = change_array(tmp_path, fitted, "_default_to_infrequent", lambda a: a + 7)
    with pytest.raises(ValueError, match="category|categories"):
        skgenad.load(path)
    fitted = TfidfVectorizer().fit(WORDS)
    words = {"dict": {"one": 0, "two": 10**9}}
    path = changed_file(tmp_path, fitted, lambda d: d["attributes"].update(vocabulary_=words))
    with pytest.raises(ValueError, match="words without places"):
        skgenad.load(path)


def test_sparse_matrices_keep_to_their_shape(tmp_path):
    from sklearn.random_projection import SparseRandomProjection

    fitted = SparseRandomProjection(3).fit(X)
    path = change_array(tmp_path, fitted, "components_.indices", lambda a: a + 1000)
    with pytest.raises(ValueError, match="does not describe a SparseRandomProjection"):
        skgenad.load(path)


# ---- versions -------------------------------------------------------------------------------


def test_another_version_of_scikit_learn_is_warned_of_where_it_counts(tmp_path):
    def change(document):
        document["versions"]["scikit-learn"] = "0.1"

    path = changed_file(tmp_path, make_pipeline(PCA(2), Mahalanobis(device="cpu")).fit(X), change)
    with pytest.warns(InconsistentVersionWarning, match=r"scikit-learn '0\.1', and '.*' is inst"):
        skgenad.load(path)
    skgenad.load(changed_file(tmp_path, Mahalanobis(device="cpu").fit(X), change))  # no warning
    path = changed_file(tmp_path, PyODDetector(knn()).fit(X), lambda d: d["versions"].pop("pyod"))
    with pytest.warns(InconsistentVersionWarning, match="estimators of pyod None"):
        skgenad.load(path)


# ---- classes of the user's ------------------------------------------------------------------


def own_class(name, base=Autoencoder, module=__name__):
    return type(name, (base,), {"__module__": module, "__qualname__": name})


def test_a_class_of_the_users_does_not_take_the_place_of_ours(tmp_path):
    settings = {"max_steps": 3, "device": "cpu", "random_state": 0}
    ours, theirs = Autoencoder(**settings).fit(X), own_class("Autoencoder")(**settings).fit(X)
    ours.save(tmp_path / "ours")
    theirs.save(tmp_path / "theirs")
    for load in (Autoencoder.load, skgenad.load):
        assert type(load(tmp_path / "ours")) is Autoencoder
        assert type(load(tmp_path / "theirs")) is type(theirs)
    assert type(type(theirs).load(tmp_path / "theirs")) is type(theirs)
    with pytest.raises(ValueError, match="holds a 'Autoencoder', which is not a"):
        own_class("Other").load(tmp_path / "ours")
    committee = Committee([("a", clone(theirs))], random_state=0).fit(X)
    assert type(saved_and_loaded(committee, tmp_path).members_["a"][0]) is type(theirs)


def test_a_class_that_was_moved_is_loaded_by_itself(tmp_path):
    settings = {"max_steps": 3, "device": "cpu", "random_state": 0}
    before = own_class("Moved", module="__main__")(**settings).fit(X)
    before.save(tmp_path / "file")
    rewrite(tmp_path / "file", lambda d: d.update({"class": "nowhere.Moved"}))
    moved = own_class("Moved", module="elsewhere")
    assert type(moved.load(tmp_path / "file")) is moved
    with pytest.raises(ValueError, match=r"'nowhere\.Moved' is not known here.*import the module"):
        skgenad.load(tmp_path / "file")
    assert "nowhere" not in sys.modules


def test_files_of_format_2_are_read(tmp_path):
    """Format 2 has one digest over the document and all arrays."""
    import hashlib

    from safetensors.numpy import load_file, save_file

    path = tmp_path / "file"
    fitted = Committee([("m", Mahalanobis()), ("n", Neighbors())], random_state=0).fit(X)
    fitted.save(path)
    document, arrays = json.loads(read_metadata(path)["skgenad"]), load_file(path)
    del document["arrays"], document["at"]
    document["format"] = 2
    members = document["state"]["_fitted_parameters"]["members"]
    document["state"]["_fitted_parameters"]["members"] = [pair["tuple"] for pair in members]
    for key, member in document["state"]["_members"].items():
        if key != "names":
            del member["at"]
    text = json.dumps(document)
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(f"{name}|{arrays[name].dtype.str}|{arrays[name].shape}|".encode())
        digest.update(arrays[name].tobytes())
    for right in (True, False):
        sha = digest.hexdigest() if right else "0" * 64
        save_file(arrays, path, metadata={"skgenad": text, "sha256": sha})
        if right:
            check_same(fitted, skgenad.load(path), X)
        else:
            with pytest.raises(ValueError, match="digest does not match"):
                skgenad.load(path)
    write_text(path, text, arrays)
    with pytest.raises(ValueError, match="digest does not match"):
        skgenad.load(path)


def test_names_of_classes_in_files_are_unique():
    for kind in EVERY:
        assert key_of(kind) == kind.__name__
    assert key_of(PCAOfMine) is None and key_of(dict) is None


# ---- answers for one row --------------------------------------------------------------------


def test_every_estimator_of_the_list_has_a_row_that_it_answers(tmp_path):
    for module, name in NAMES:
        kind = getattr(importlib.import_module(module), name)
        if name in ("make_column_selector", "FrozenEstimator", "ExtraTreeRegressor"):
            continue
        classes = (np.arange(len(X)) % 2,) if name in CLASSIFIERS else ()
        fitted = kind(**SETTINGS.get(name, {})).fit(rows_for(name), *classes)
        skgenad.save(fitted, tmp_path / "file")
        answers = json.loads(read_metadata(tmp_path / "file")["skgenad"])["answers"]
        asked = {n for n in ("transform", "decision_function", "predict") if hasattr(fitted, n)}
        assert answers and asked <= set(answers["gives"]), name


# Attributes of a wrong kind, which failed in scikit-learn's words at the first score.
WRONG = {
    "no threshold": (IsolationForest(n_estimators=2), "offset_", None),
    "a list of thresholds": (IsolationForest(n_estimators=2), "offset_", [0.0, 1.0]),
    "an infinite threshold": (IsolationForest(n_estimators=2), "offset_", float("inf")),
    "text": (StandardScaler(), "mean_", "x"),
    "another length": (StandardScaler(), "scale_", [1.0, 2.0]),
    "no weights": (GaussianMixture(2), "weights_", []),
    "no parts": (PCA(2), "components_", None),
    "NaN": (StandardScaler(), "scale_", [1.0, 1.0, 1.0, float("nan")]),
    "large": (OneClassSVM(), "offset_", 10**400),
    "another step": (make_pipeline(PCA(2), StandardScaler()), "steps", [["a", 3]]),
}


@pytest.mark.parametrize("name", WRONG)
def test_attributes_of_a_wrong_kind_are_refused(name, tmp_path):
    estimator, attribute, value = WRONG[name]
    key = "parameters" if attribute == "steps" else "attributes"
    path = changed_file(tmp_path, estimator.fit(X), lambda d: d[key].update({attribute: value}))
    with pytest.raises(ValueError, match="does not describe a"):
        skgenad.load(path)


def test_answers_that_are_none_are_refused(tmp_path):
    for change in (
        lambda a: a["gives"].update(fit=["f", [1]]),
        lambda a: a["gives"].update(transform=["f", [1, 5]]),
        lambda a: a["gives"].update(transform=["i", [1, 4]]),
        lambda a: a.update(row=[1.0]),
        lambda a: a.update(columns=[1, 2, 3, 4]),
        lambda a: a.pop("gives"),
    ):
        path = changed_file(tmp_path, StandardScaler().fit(X), lambda d, c=change: c(d["answers"]))
        with pytest.raises(ValueError, match="does not describe a"):
            skgenad.load(path)


def test_what_no_made_up_row_fits_is_a_file_all_the_same(tmp_path):
    estimator = make_pipeline(FunctionTransformer(np.arccosh), StandardScaler())
    fitted = estimator.fit(2 + np.abs(X))
    check_same(fitted, saved_and_loaded(fitted, tmp_path), 2 + np.abs(X))
    rows = np.abs(X) + 1000
    shifted = make_pipeline(
        ColumnTransformer([("s", FunctionTransformer(np.log), [0]), ("p", "passthrough", [1])]),
        FunctionTransformer(np.log),
        Mahalanobis(device="cpu"),
    ).fit(rows)
    skgenad.save(shifted, tmp_path / "file")
    document = json.loads(read_metadata(tmp_path / "file")["skgenad"])
    assert document["answers"] is None
    check_same(shifted, skgenad.load(tmp_path / "file"), rows)


def test_a_row_starts_no_processes(tmp_path, monkeypatch):
    from pyod.models.copod import COPOD

    fitted = COPOD(n_jobs=2)
    fitted.n_jobs = 1
    fitted.fit(X)
    fitted.n_jobs = 2
    monkeypatch.setattr("joblib._parallel_backends.LokyBackend.configure", None)
    assert saved_and_loaded(fitted, tmp_path).n_jobs == 2
    path = changed_file(tmp_path, fitted, lambda d: d["parameters"].update(n_jobs=10**6))
    with pytest.raises(ValueError, match="n_jobs=1000000"):
        skgenad.load(path)


def test_polynomials_may_be_set_otherwise_since(tmp_path):
    X = normal_rows()
    polynomials = PolynomialFeatures(2).set_output(transform="pandas")
    pipe = make_pipeline(polynomials, Mahalanobis(random_state=0)).fit(X)
    skgenad.save(pipe, tmp_path / "file")
    loaded = skgenad.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.score_samples(X), pipe.score_samples(X))


def test_copies_of_parameters_keep_their_types():
    class Size(NamedTuple):
        width: int
        height: int

    assert cloned(Size(8, 8), safe=False) == Size(8, 8)


# ---- what a file asks for -------------------------------------------------------------------

ASKED = {
    "sketch": (PolynomialCountSketch(n_components=8), {"n_components": 3_000_000}),
    "large sketch": (PolynomialCountSketch(n_components=8), {"n_components": 10**10}),
    "other sketch": (PolynomialCountSketch(n_components=8), {"n_components": 7}),
    "degrees": (PolynomialCountSketch(n_components=8), {"degree": 10**6}),
    "samples": (AdditiveChi2Sampler(), {"sample_steps": 200_000, "sample_interval": 0.1}),
    "rounds": (NMF(2, init="random", max_iter=500), {"max_iter": 10**9, "tol": 0.0}),
    "splines": (SplineTransformer(4), {"degree": 10**9}),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ASKED)
def test_parameters_ask_for_no_more_than_was_fitted(name, tmp_path):
    estimator, parameters = ASKED[name]
    fitted = make_pipeline(clone(estimator), PCA(1)).fit(np.abs(X))
    check_same(fitted, saved_and_loaded(fitted, tmp_path), np.abs(X))

    def change(document):
        document["parameters"]["steps"][0]["tuple"][1]["parameters"].update(parameters)

    path = changed_file(tmp_path, fitted, change)
    with pytest.raises(
        ValueError,
        match=r"with (n_components|degree|sample_steps|max_iter) above|"
        "hashes of other components|splines that are none",
    ):
        skgenad.load(path)


@pytest.mark.parametrize("make", [make_pipeline, skgenad.pipeline.make_pipeline])
def test_no_file_says_where_pickles_are_kept(make, tmp_path):
    fitted = make(StandardScaler(), Mahalanobis(device="cpu"), memory=str(tmp_path / "kept")).fit(X)
    assert saved_and_loaded(fitted, tmp_path).memory is None
    path = changed_file(tmp_path, fitted, lambda d: d["parameters"].update(memory="elsewhere"))
    with pytest.raises(ValueError, match="keeps fitted steps in memory='elsewhere'"):
        skgenad.load(path)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (PolynomialFeatures(), "n_features_in_"),
        (PolynomialFeatures(), "_n_out_full"),
        (SplineTransformer(), "n_features_out_"),
    ],
)
def test_widths_of_rows_are_those_of_what_was_fitted(estimator, name, tmp_path):
    fitted = clone(estimator).fit(X)
    path = changed_file(tmp_path, fitted, lambda d: d["attributes"].update({name: 10**10}))
    with pytest.raises(ValueError, match="other columns|n_features_in_=10000000000"):
        skgenad.load(path)


def test_names_of_columns_are_there_once(tmp_path):
    table = pd.DataFrame(X, columns=list("abcd"))
    fitted = StandardScaler().fit(table)
    fitted.feature_names_in_[1] = "a"
    skgenad.save(fitted, tmp_path / "file")
    with pytest.raises(ValueError, match="4 columns and the names"):
        skgenad.load(tmp_path / "file")
    Mahalanobis(device="cpu").fit(table).save(tmp_path / "file")
    rewrite(tmp_path / "file", lambda d: d["state"].update(feature_names_in_=list("abca")))
    with pytest.raises(ValueError, match="the names"):
        skgenad.load(tmp_path / "file")


def test_text_that_a_pattern_is_tried_on_is_not_the_files(tmp_path):
    fitted = TfidfVectorizer(token_pattern=r"\w+").fit(WORDS)

    def change(document):
        document["parameters"]["token_pattern"] = "(a+)+$"
        document["answers"]["row"] = "a" * 60 + "b"

    with pytest.raises(ValueError, match="answers for another text"):
        skgenad.load(changed_file(tmp_path, fitted, change))


OF_OTHER_KINDS = {
    r"parts of no fitted OneHotEncoder \(AttributeError": lambda d: d.update(
        {"class": "sklearn.preprocessing.OneHotEncoder", "parameters": {}}
        | {"attributes": {"categories_": [], "n_features_in_": 1}}
    ),
    "there is no value {'array': 3}": lambda d: d["attributes"].update(mean_={"array": 3}),
    "there is no value {'sparse'": lambda d: d["attributes"].update(mean_={"sparse": [1]}),
    "StandardScaler has no state": lambda d: d.update(state={}),
    "the state 3": lambda d: d.update(state=3),
    r"the attributes \[\]": lambda d: d.update(attributes=[]),
    r"the parameters 'x'": lambda d: d.update(parameters="x"),
    "answers that are none": lambda d: d.update(answers=3),
    "answers that are none: .*row": lambda d: d["answers"].update(row=5),
}


@pytest.mark.parametrize("message", OF_OTHER_KINDS)
def test_values_of_other_kinds_are_refused_in_our_words(message, tmp_path):
    path = changed_file(tmp_path, StandardScaler().fit(X), OF_OTHER_KINDS[message])
    with pytest.raises(ValueError, match=message):
        skgenad.load(path)


OF_STATE = {
    "classes of calibration scores": ("_calibration_codes", "x"),
    "'mean' is no array": ("units_", {"mean": "x", "scale": "x", "tolerance": 0.0}),
    "units_|'mean' is no array": ("units_", "x"),
    "module_ cannot be read: 'x'": ("module_", "x"),
    "_reference cannot be read: 3": ("_reference", 3),
}


@pytest.mark.parametrize("message", OF_STATE)
def test_attributes_of_other_kinds_are_named(message, tmp_path):
    name, value = OF_STATE[message]
    fitted = Mahalanobis(device="cpu").fit(X)

    def drop(arrays):
        for key in [key for key in arrays if key.partition(".")[0] == name]:
            del arrays[key]

    fitted.save(tmp_path / "file")
    rewrite(tmp_path / "file", lambda d: d["state"].update({name: value}), drop)
    with pytest.raises(ValueError, match=message):
        skgenad.load(tmp_path / "file")


@pytest.mark.parametrize("tolerance", [1e308, 0.02, -1.0])
def test_units_have_a_tolerance_that_is_rounding(tolerance, tmp_path):
    Mahalanobis(device="cpu").fit(X).save(tmp_path / "file")
    rewrite(tmp_path / "file", lambda d: d["state"]["units_"].update(tolerance=tolerance))
    with pytest.raises(ValueError, match="a tolerance that is no rounding"):
        skgenad.load(tmp_path / "file")
