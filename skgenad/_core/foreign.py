"""Estimators of scikit-learn and pyod in files: parameters and attributes, checked where it counts.

Their own code takes fitted attributes on trust. What is written in Python fails with an error on
wrong ones; compiled code would read or write outside its arrays, so all that reaches such code is
checked here or, as trees of neighbours, built anew from the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from sklearn.base import BaseEstimator, clone
from sklearn.neighbors import BallTree, KDTree

from .checks import Tree
from .registry import brief
from .work import excess

# Metrics of trees of neighbours, by the names of their compiled classes.
_METRICS = {
    "ChebyshevDistance64": "chebyshev",
    "EuclideanDistance64": "euclidean",
    "ManhattanDistance64": "manhattan",
    "MinkowskiDistance64": "minkowski",
}
# The most numbers that are made of one row, and the most processes; what is no rounding of a zero.
_MOST_COLUMNS, _MOST_JOBS, _ROUNDING = 2**24, 2**10, 1e-9


def state_of(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of an estimator, and its other attributes."""
    parameters = parameters_of(value)
    left_out = {*parameters, *getattr(type(value), "_made_anew", ())}
    attributes = {n: v for n, v in vars(value).items() if n not in left_out}
    # Where fitted steps are kept is a matter of the machine, and what is there are pickles.
    return {n: None if n == "memory" else v for n, v in parameters.items()}, attributes


def parameters_of(value: Any) -> dict[str, Any]:
    """Parameters of an estimator, those of its parts not included; {} of anything else.

    The ``get_params`` of pyod's detectors is not asked: it changes the warning filters of the
    process meanwhile, at which threads meet.
    """
    if _is_of_pyod(value):
        return BaseEstimator.get_params(value, deep=False)
    return value.get_params(deep=False) if hasattr(value, "get_params") else {}


def _is_of_pyod(value: Any) -> bool:
    module = getattr(getattr(type(value), "get_params", None), "__module__", "")
    return module.partition(".")[0] == "pyod"


def cloned(value: Any, *, safe: bool = True) -> Any:
    """Copy an estimator, unfitted, as scikit-learn's ``clone``, but pyod's as said above."""
    if type(value) in (list, tuple):
        return type(value)([cloned(item, safe=safe) for item in value])
    if _is_of_pyod(value):
        return type(value)(**{n: cloned(v, safe=False) for n, v in parameters_of(value).items()})
    return clone(value, safe=safe)


# What to write where an estimator of others has no score_samples.
HOW_TO_SCORE = (
    "LocalOutlierFactor has scores of new rows with novelty=True, and a detector of pyod with "
    "skgenad.compat.PyODDetector around it."
)


def fits_and_scores(value: Any) -> bool:
    """Whether it is an estimator, no class, with ``fit`` and ``score_samples``."""
    return not isinstance(value, type) and hasattr(value, "fit") and hasattr(value, "score_samples")


def rebuild_estimator(kind: Any, parameters: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """Make an estimator of what :func:`state_of` gave.

    Raises
    ------
    ValueError
        If parameters or attributes cannot be those of such an estimator.
    """
    try:
        return _rebuilt(kind, parameters, attributes)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ValueError(f"parts of no fitted {kind.__name__} ({problem})") from error


def _rebuilt(kind: Any, parameters: dict[str, Any], attributes: dict[str, Any]) -> Any:
    n_jobs = parameters.get("n_jobs")
    fits = n_jobs is None or (_is_whole(n_jobs, -_MOST_JOBS) and n_jobs <= _MOST_JOBS)
    require(fits, f"{kind.__name__} with n_jobs={brief(n_jobs)}")
    memory = parameters.get("memory")
    require(memory is None, f"{kind.__name__} that keeps fitted steps in memory={brief(memory)}")
    known = signature(kind).parameters
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values())
    unknown = [] if takes_any else sorted(set(parameters).difference(known))
    require(not unknown, f"unknown parameters {brief(unknown)} of {kind.__name__}")
    value = kind(**parameters)
    if hasattr(value, "_validate_params") and hasattr(kind, "_parameter_constraints"):
        value._validate_params()
    for name, content in attributes.items():
        # What the class has itself, such as a method, is no attribute of a fit.
        if name in parameters or name.startswith("__") or hasattr(kind, name):
            raise ValueError(f"{kind.__name__} has no attribute {brief(name)} of its own")
        vars(value)[name] = content
    _check_columns(value)
    problem = excess(value)
    require(problem is None, problem)
    for base in kind.__mro__:
        if base.__name__ in _CHECKS:
            _CHECKS[base.__name__](value)
    return value


def require(condition: Any, what: str | None) -> None:
    """Raise ValueError unless a condition holds."""
    if not condition:
        raise ValueError(what)


def _is_whole(value: Any, least: int = 0) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and bool(value >= least)


def _has_shape(array: Any, *shape: int | None) -> bool:
    """Whether it is an array of a shape, in which None is any length."""
    return (
        isinstance(array, np.ndarray)
        and len(array.shape) == len(shape)
        and all(wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True))
    )


# ---- what single estimators must hold -----------------------------------------------------


def _check_columns(value: Any) -> None:
    if "n_features_in_" not in vars(value):
        return
    name, n = type(value).__name__, value.n_features_in_
    require(_is_whole(n, 1) and n <= _MOST_COLUMNS, f"{name} with n_features_in_={brief(n)}")
    names = vars(value).get("feature_names_in_")
    if names is not None:
        fits = _has_shape(names, n) and all(isinstance(item, str) for item in names)
        fits = fits and len(set(names)) == n
        require(fits, f"{name} with {n} columns and the names {brief(names)}")


def _check_one_hot(encoder: Any) -> None:
    """Codes become places in a sparse matrix, whose width is the sum of `_n_features_outs`."""
    if "categories_" not in vars(encoder):
        return
    n = encoder.n_features_in_
    lists = (encoder.categories_, encoder._n_features_outs)
    require(all(isinstance(x, list) and len(x) == n for x in lists), "encoders without categories")
    mappings = (
        encoder._default_to_infrequent_mappings if encoder._infrequent_enabled else [None] * n
    )
    require(isinstance(mappings, list) and len(mappings) == n, "categories without their places")
    dropped = encoder._drop_idx_after_grouping
    dropped = [None] * n if dropped is None else dropped
    require(len(dropped) == n, "dropped categories of other columns")
    for j, (categories, mapping) in enumerate(zip(encoder.categories_, mappings, strict=True)):
        require(_has_shape(categories, None), "categories that are no list")
        places = np.arange(len(categories)) if mapping is None else mapping
        fits = _has_shape(places, len(categories)) and places.dtype.kind == "i"
        found = sorted(set(places.tolist())) if fits else [-1]
        require(found == list(range(len(found))), "categories whose columns have gaps")
        if dropped[j] is not None:
            require(dropped[j] in found, "a dropped category that is none")
            found.pop()
        require(encoder._n_features_outs[j] == len(found), "categories without a column")


def _check_categories(encoder: Any) -> None:
    """Categories of a column are of one kind, missing ones aside: they are sorted and compared."""
    for categories in vars(encoder).get("categories_", ()):
        require(_has_shape(categories, None), "categories that are no list")
        kinds = {type(v) for v in categories.tolist() if v is not None and v == v}
        require(kinds in ({str}, set()) or kinds <= {bool, int, float}, "categories of two kinds")


def _check_imputer(imputer: Any) -> None:
    _check_rows(imputer)
    rows, masked = vars(imputer).get("_fit_X"), vars(imputer).get("_mask_fit_X")
    if rows is None:
        return
    fits = len(rows) and _has_shape(masked, *rows.shape) and masked.dtype == np.bool_
    require(fits and np.isfinite(rows[~masked]).all(), "rows with other gaps than are noted")


def _check_splines(transformer: Any) -> None:
    for spline in vars(transformer).get("bsplines_", ()):
        fits = (
            isinstance(spline, BSpline)
            and spline.k == transformer.degree
            and np.ndim(spline.c) == 2
            and np.isfinite(spline.c).all()
        )
        require(fits, "splines that are none")
        n, width = transformer.n_features_in_, spline.c.shape[1]
        fits = transformer.n_features_out_ in (n * (width - 1), n * width, n * (width + 1))
        require(fits, "splines for other columns")


# `include_bias` may have been changed since, which the next fit looks at.
_OF_POLYNOMIALS = ("_max_degree", "_min_degree", "n_features_in_")


def _check_polynomials(transformer: Any) -> None:
    """All that a fit leaves follows from the parameters, and says how much memory a row takes."""
    if "n_features_in_" not in vars(transformer):
        return
    fresh = type(transformer)(**transformer.get_params())
    fresh.fit(np.zeros((1, transformer.n_features_in_)))
    same = all(vars(transformer).get(n) == getattr(fresh, n) for n in _OF_POLYNOMIALS)
    same = same and vars(transformer).get("_n_out_full") == fresh._n_out_full
    require(same, "polynomials of other columns or degrees")
    require(fresh._n_out_full <= _MOST_COLUMNS, f"more than {_MOST_COLUMNS} columns")


def _check_precision(value: Any) -> None:
    """Squares of distances are not negative."""
    precision = vars(value).get("precision_")
    if precision is None:
        return
    n = value.n_features_in_
    fits = _has_shape(precision, n, n) and precision.dtype.kind == "f"
    require(fits, "a precision of other columns")
    values = np.linalg.eigvalsh(precision)
    require(values[0] >= -_ROUNDING * values[-1], "a precision that gives negative distances")


def _check_isolation(detector: Any) -> None:
    centroids = vars(detector).get("_centroids")
    fits = centroids is None or np.shape(centroids)[:1] == (detector.n_estimators,)
    require(fits, "as many sets of centres as the parameters ask for")


def _check_rows(value: Any) -> None:
    """Rows that others are compared with are those of as many columns."""
    rows = vars(value).get("_fit_X")
    if rows is None:
        return
    fits = _has_shape(rows, getattr(value, "n_samples_fit_", None), value.n_features_in_)
    require(fits and rows.dtype.kind == "f", f"{type(value).__name__} with rows of another table")
    require(isinstance(getattr(value, "effective_metric_", ""), str), "a metric that has no name")


def _check_support(machine: Any) -> None:
    """Support vectors of a machine with one class, which libsvm takes apart."""
    if "support_vectors_" not in vars(machine):
        return
    n, d = len(machine.support_vectors_), machine.n_features_in_
    fits = (
        _has_shape(machine.support_vectors_, n, d)
        and machine.support_vectors_.dtype == np.float64
        and _has_shape(machine.support_, n)
        and all(_has_shape(x, 1, n) for x in (machine.dual_coef_, machine._dual_coef_))
        and all(_has_shape(x, 1) for x in (machine.intercept_, machine._intercept_))
        and machine._dual_coef_.dtype == machine._intercept_.dtype == np.float64
        and machine.support_.dtype == machine._n_support.dtype == np.int32
        and _has_shape(machine._n_support, 2)
        and (machine._n_support == n).all()
        and machine._sparse is False
    )
    require(fits, "support vectors that do not fit together")


def _check_forest(forest: Any) -> None:
    if "estimators_" not in vars(forest):
        return
    trees, columns, n = forest.estimators_, forest.estimators_features_, forest.n_features_in_
    lists = isinstance(trees, list) and isinstance(columns, list)
    require(lists and len(trees) == len(columns), "a forest whose trees have no columns")
    for tree, places in zip(trees, columns, strict=True):
        fits = (
            type(tree).__name__ == "ExtraTreeRegressor"
            and _has_shape(places, tree.n_features_in_)
            and places.dtype.kind == "i"
            and ((places >= 0) & (places < n)).all()
        )
        require(fits, "trees of other columns than the forest's")
    sizes = (forest._max_features, forest._max_samples)
    require(all(_is_whole(size, 1) for size in sizes) and sizes[0] <= n, "a forest of no size")
    # What a row gets of the leaf it comes to: the answer for one row does not show the others.
    for name in ("_average_path_length_per_tree", "_decision_path_lengths"):
        lengths = getattr(forest, name)
        require(len(lengths) == len(trees), "a forest whose trees have no lengths of paths")
        for tree, length in zip(trees, lengths, strict=True):
            fits = _has_shape(length, tree.tree_.node_count) and length.dtype.kind in "fi"
            require(fits, "lengths of paths of another tree")


def _check_tree(tree: Any) -> None:
    if "tree_" not in vars(tree):
        return
    fits = isinstance(tree.tree_, Tree) and tree.tree_.n_features == tree.n_features_in_
    require(fits, "a tree of other columns")


def _check_vocabulary(vectorizer: Any) -> None:
    """Places of words become columns of a sparse matrix, of which there are as many as words."""
    words = vars(vectorizer).get("vocabulary_")
    if words is None:
        return
    fits = isinstance(words, dict) and all(isinstance(word, str) for word in words)
    places = sorted(words.values()) if fits and all(map(_is_whole, words.values())) else None
    require(places == list(range(len(words))), "words without places of their own")
    weights = getattr(getattr(vectorizer, "_tfidf", None), "idf_", None)
    require(weights is None or _has_shape(weights, len(words)), "words without weights")


# By the names of classes, those of bases included.
_CHECKS: dict[str, Callable[[Any], None]] = {
    "BaseLibSVM": _check_support,
    "CountVectorizer": _check_vocabulary,
    "ExtraTreeRegressor": _check_tree,
    "INNE": _check_isolation,
    "IsolationForest": _check_forest,
    "KNNImputer": _check_imputer,
    "MinCovDet": _check_precision,
    "NeighborsBase": _check_rows,
    "OneHotEncoder": _check_one_hot,
    "PolynomialFeatures": _check_polynomials,
    "SplineTransformer": _check_splines,
    "_BaseEncoder": _check_categories,
}


# ---- compiled objects ---------------------------------------------------------------------


@dataclass(frozen=True)
class Compiled:
    """How objects of compiled classes are taken apart and made again.

    Parameters
    ----------
    kinds : tuple of type
        The classes.
    write : callable
        Maps an object to a dict of plain values and arrays.
    read : callable
        Maps such a dict to an object; raises ValueError if it cannot be one.
    """

    kinds: tuple[type, ...]
    write: Callable[[Any], dict[str, Any]]
    read: Callable[[dict[str, Any]], Any]


def _tree_parts(tree: Tree) -> dict[str, Any]:
    state = tree.__getstate__()
    nodes = {name: state["nodes"][name].copy() for name in state["nodes"].dtype.names}
    return {"n_features": tree.n_features, "max_depth": state["max_depth"], **nodes} | {
        "values": state["values"]
    }


def _make_tree(kept: dict[str, Any]) -> Tree:
    n_features, max_depth = kept.pop("n_features"), kept.pop("max_depth")
    values = kept.pop("values")
    require(_is_whole(n_features, 1) and _is_whole(max_depth), "a tree of no columns or depth")
    tree = Tree(n_features, np.ones(1, dtype=np.intp), 1)
    kind = tree.__getstate__()["nodes"].dtype
    require(set(kept) == set(kind.names), "the nodes of another version of scikit-learn")
    n = len(kept["left_child"])
    for name in kind.names:
        fits = _has_shape(kept[name], n) and kept[name].dtype == kind[name]
        require(fits, f"{name} of other nodes")
    nodes = np.zeros(n, dtype=kind)
    for name in kind.names:
        nodes[name] = kept[name]
    _check_nodes(nodes, n_features)
    require(_has_shape(values, n, 1, 1) and values.dtype == np.float64, "values of other nodes")
    tree.__setstate__(
        {"max_depth": int(max_depth), "node_count": n, "nodes": nodes, "values": values}
    )
    return tree


def _check_nodes(nodes: NDArray, n_features: int) -> None:
    """Require that a row finds its way from the first node to a leaf, by columns it has."""
    left, right, column = nodes["left_child"], nodes["right_child"], nodes["feature"]
    place, inner = np.arange(len(nodes)), left != -1
    children = np.stack([left[inner], right[inner]])
    fits = (
        len(nodes) > 0
        and (children > place[inner]).all()
        and (children < len(nodes)).all()
        and (right[~inner] == -1).all()
        and ((column[inner] >= 0) & (column[inner] < n_features)).all()
    )
    require(fits, "a tree whose nodes lead nowhere")


def _search_parts(tree: KDTree | BallTree) -> dict[str, Any]:
    state = tree.__getstate__()
    metric = _METRICS.get(type(state[11]).__name__)
    if metric is None:
        raise TypeError(
            f"A tree of neighbours with the metric {type(state[11]).__name__} cannot be saved; "
            f"files know {', '.join(sorted(_METRICS.values()))}. Use pickle."
        )
    order = {"p": float(state[11].__getstate__()[0])} if metric == "minkowski" else {}
    return {"data": np.asarray(state[0]), "leaf_size": int(state[4]), "metric": metric, **order} | {
        "sample_weight": None if state[12] is None else np.asarray(state[12])
    }


def _make_search(kind: type) -> Callable[[dict[str, Any]], Any]:
    def make(kept: dict[str, Any]) -> Any:
        data, metric = kept.pop("data"), kept.pop("metric")
        require(set(kept) <= {"leaf_size", "p", "sample_weight"}, "a tree of other parts")
        fits = _has_shape(data, None, None) and data.dtype == np.float64 and data.size
        require(fits and np.isfinite(data).all(), "a tree of neighbours without rows")
        require(metric in _METRICS.values(), f"the unknown metric {brief(metric)}")
        return kind(data, metric=metric, **kept)

    return make


COMPILED = {
    "tree": Compiled((Tree,), _tree_parts, _make_tree),
    "kd_tree": Compiled((KDTree,), _search_parts, _make_search(KDTree)),
    "ball_tree": Compiled((BallTree,), _search_parts, _make_search(BallTree)),
    "spline": Compiled(
        (BSpline,),
        lambda s: {"t": s.t, "c": s.c, "k": s.k, "extrapolate": s.extrapolate, "axis": s.axis},
        lambda kept: BSpline(**kept),
    ),
}
