"""What files may name: a closed list of classes.

Classes of this package go by their name, classes that users derive from them by module and name, so
that none takes the place of another. Estimators of others are those of a list; nothing is imported
that is not in it, whatever a file says.
"""

from __future__ import annotations

import reprlib
from importlib import import_module
from typing import Any

from skgenad._extras import require

PACKAGE = __name__.partition(".")[0]
# Classes of this package that not every process has imported.
_LATER = {
    "DiscriminativeRatio": "skgenad.compat",
    "ImageFeatures": "skgenad.preprocessing",
    "LatentFeatures": "skgenad.preprocessing",
    "LogMelFrames": "skgenad.preprocessing",
    "Pipeline": "skgenad.pipeline",
    "PyODDetector": "skgenad.compat",
    "PyODInterface": "skgenad.compat",
    "ScoreDetector": "skgenad.compat",
    "SlidingWindows": "skgenad.preprocessing",
}
# Estimators of others, whose state is arrays, numbers and strings, by the module that users take
# them from.
FOREIGN = {
    "sklearn.compose": ("ColumnTransformer", "make_column_selector"),
    "sklearn.covariance": ("EllipticEnvelope", "MinCovDet"),
    "sklearn.decomposition": (
        *("FactorAnalysis", "FastICA", "IncrementalPCA", "KernelPCA", "NMF", "PCA", "SparsePCA"),
        "TruncatedSVD",
    ),
    "sklearn.discriminant_analysis": (
        *("LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"),
    ),
    "sklearn.ensemble": ("IsolationForest",),
    "sklearn.feature_extraction.text": (
        *("CountVectorizer", "HashingVectorizer", "TfidfTransformer", "TfidfVectorizer"),
    ),
    "sklearn.feature_selection": ("VarianceThreshold",),
    "sklearn.frozen": ("FrozenEstimator",),
    "sklearn.impute": ("KNNImputer", "MissingIndicator", "SimpleImputer"),
    "sklearn.kernel_approximation": (
        *("AdditiveChi2Sampler", "Nystroem", "PolynomialCountSketch", "RBFSampler"),
        "SkewedChi2Sampler",
    ),
    "sklearn.linear_model": ("LogisticRegression",),
    "sklearn.mixture": ("BayesianGaussianMixture", "GaussianMixture"),
    "sklearn.naive_bayes": ("GaussianNB",),
    "sklearn.neighbors": ("KernelDensity", "LocalOutlierFactor", "NearestNeighbors"),
    "sklearn.pipeline": ("FeatureUnion", "Pipeline"),
    "sklearn.preprocessing": (
        *("Binarizer", "FunctionTransformer", "KBinsDiscretizer", "KernelCenterer"),
        *("MaxAbsScaler", "MinMaxScaler", "Normalizer", "OneHotEncoder", "OrdinalEncoder"),
        *("PolynomialFeatures", "PowerTransformer", "QuantileTransformer", "RobustScaler"),
        *("SplineTransformer", "StandardScaler"),
    ),
    "sklearn.random_projection": ("GaussianRandomProjection", "SparseRandomProjection"),
    "sklearn.svm": ("OneClassSVM",),
    "sklearn.tree": ("ExtraTreeRegressor",),  # what an IsolationForest is made of
    "pyod.models.copod": ("COPOD",),
    "pyod.models.ecod": ("ECOD",),
    "pyod.models.gmm": ("GMM",),
    "pyod.models.iforest": ("IForest",),
    "pyod.models.inne": ("INNE",),
    "pyod.models.kde": ("KDE",),
    "pyod.models.knn": ("KNN",),
    "pyod.models.lof": ("LOF",),
    "pyod.models.mcd": ("MCD",),
    "pyod.models.ocsvm": ("OCSVM",),
    "pyod.models.pca": ("PCA",),
}
# What is installed for the packages of the list, by the names of their modules.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "pyod": "pyod"}

_own: dict[str, type] = {}


def brief(value: Any) -> str:
    """Representation of a value of a file that fits into a message, however large it is."""
    try:
        return reprlib.repr(value)
    except Exception:
        return f"a {type(value).__name__}"


def is_users(kind: type) -> bool:
    """Whether a class is defined outside this package."""
    return kind.__module__.partition(".")[0] != PACKAGE


def name_of(kind: type) -> str:
    """Name that files have for a detector's class."""
    return f"{kind.__module__}.{kind.__qualname__}" if is_users(kind) else kind.__name__


def register(kind: type) -> None:
    """Let files name a class of detectors; a later one of a user's replaces its like."""
    _own[name_of(kind)] = kind


def key_of(kind: type) -> str | None:
    """Name that files have for a class, or None if they have none."""
    key = name_of(kind)
    if _own.get(key) is kind:
        return key
    if key in _LATER and not is_users(kind):
        return key
    top = kind.__module__.partition(".")[0]
    for module, names in FOREIGN.items():
        if kind.__name__ in names and module.partition(".")[0] == top:
            if getattr(import_module(module), kind.__name__) is kind:
                return f"{module}.{kind.__name__}"
    return None


def class_of(key: Any) -> type:
    """Class that a file means by a name.

    Raises
    ------
    ValueError
        If there is no such name in the list.
    ImportError
        If it is a class of an optional package that is not installed.
    """
    if not isinstance(key, str):
        raise ValueError(f"a class is named {brief(key)}")
    if key in _LATER:
        return getattr(import_module(_LATER[key]), key)
    if key in _own:
        return _own[key]
    module, _, name = key.rpartition(".")
    if name in FOREIGN.get(module, ()):
        found = require(module, extra="bench") if module.startswith("pyod.") else None
        return getattr(found or import_module(module), name)
    raise ValueError(
        f"the class {brief(key)} is not known here. If it is one that you derived from a detector, "
        "import the module that defines it first"
    )


def is_foreign(key: str) -> bool:
    """Whether a name in a file is that of an estimator of others."""
    return key.rpartition(".")[0] in FOREIGN


def own_names() -> list[str]:
    """Names of the detectors that this process knows."""
    return sorted({*_own, *_LATER})
