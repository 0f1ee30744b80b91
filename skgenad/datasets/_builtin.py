"""The data sets that scikit-learn ships, as anomaly problems: they need no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn import datasets
from sklearn.utils import Bunch

_LARGEST_SHARE = 0.2  # the largest share of anomalies among the rows


@dataclass(frozen=True)
class _Problem:
    load: Callable[[], Bunch]
    anomaly_class: int
    text: str


def _one_vs_rest(load: Callable[[], Bunch], prefix: str, noun: str) -> dict[str, _Problem]:
    return {
        f"{prefix}_{k}": _Problem(load, k, f"{noun} {label} is the anomaly, the others are normal")
        for k, label in enumerate(load().target_names)
    }


def _problems() -> dict[str, _Problem]:
    # In the breast cancer data, class 0 is malignant.
    cancer = _Problem(datasets.load_breast_cancer, 0, "malignant is the anomaly, benign is normal")
    return {
        "breast_cancer": cancer,
        **_one_vs_rest(datasets.load_wine, "wine", "cultivar"),
        **_one_vs_rest(datasets.load_iris, "iris", "species"),
        **_one_vs_rest(datasets.load_digits, "digits", "digit"),
    }


def list_builtin() -> list[str]:
    """List the anomaly problems made from data sets that scikit-learn ships.

    Returns
    -------
    list of str
        ``"breast_cancer"`` and, with the class that is the anomaly, ``"wine_0"`` to ``"wine_2"``,
        ``"iris_0"`` to ``"iris_2"``, ``"digits_0"`` to ``"digits_9"``.

    Examples
    --------
    >>> from skgenad.datasets import list_builtin
    >>> list_builtin()[:4]
    ['breast_cancer', 'wine_0', 'wine_1', 'wine_2']
    """
    return list(_problems())


def source_of(name: str) -> str:
    """Return what a problem was made from: ``"digits"`` of ``"digits_4"``."""
    source = name.partition("_")[0]
    return source if source in ("wine", "iris", "digits") else name


def load_builtin(name: str, *, return_X_y: bool = False) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load an anomaly problem made from a data set that scikit-learn ships.

    Nothing is downloaded. One class is the anomaly and all others together are normal: malignant
    tumours in breast cancer, each class in turn in wine, iris and digits. The hold-out of a digit
    is how the MPDR and NAE papers use MNIST; the normal rows have several clusters then, which is
    harder than one class as normal. Where anomalies are more than 20 % of the rows, a part of them
    is left out, drawn with a fixed seed: the same rows on every machine.

    Parameters
    ----------
    name : str
        A name of `list_builtin`.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` alone.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, float64 of shape (n_samples, n_features); ``target``, int64 of shape (n_samples,),
        1 = anomaly; ``feature_names``; ``name``; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If there is no such problem.

    Examples
    --------
    >>> from skgenad.datasets import load_builtin
    >>> X, y = load_builtin("digits_4", return_X_y=True)
    >>> X.shape, int(y.sum())
    ((1797, 64), 181)
    """
    problems = _problems()
    if name not in problems:
        raise ValueError(f"No builtin data set {name!r}; choose from {', '.join(problems)}.")
    problem = problems[name]
    source = problem.load()
    target = (source.target == problem.anomaly_class).astype(np.int64)
    kept = _rows_to_keep(target)
    X, y = source.data[kept].astype(np.float64), target[kept]
    if return_X_y:
        return X, y
    description = (
        f"{name}: {problem.text}. {len(y)} rows, {X.shape[1]} features, {y.sum()} anomalies "
        f"({y.mean():.1%}; {target.sum()} before the cut to {_LARGEST_SHARE:.0%}).\n\n"
        f"{source.DESCR}"
    )
    return Bunch(
        data=X, target=y, feature_names=list(source.feature_names), name=name, DESCR=description
    )


def _rows_to_keep(target: np.ndarray) -> np.ndarray:
    """Rows in their order: all normal ones, and anomalies up to the largest share."""
    normal, anomalies = np.flatnonzero(target == 0), np.flatnonzero(target == 1)
    allowed = int(len(normal) * _LARGEST_SHARE / (1 - _LARGEST_SHARE))
    if len(anomalies) > allowed:
        anomalies = np.random.RandomState(0).choice(anomalies, allowed, replace=False)
    return np.sort(np.concatenate([normal, anomalies]))
