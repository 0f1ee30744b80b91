"""One cell of a benchmark: fit one detector on one split, score, measure. Runs in a child."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

import skgenad

_PACKAGES = ("scikit-learn", "pyod", "torch", "numpy")
_MESSAGE_LENGTH = 300


def run_cell(
    estimator: Any,
    X_train: NDArray[np.float64],
    X_test: NDArray[np.float64],
    y_test: NDArray[np.int64],
) -> dict[str, Any]:
    """Fit, score and measure one detector.

    Parameters
    ----------
    estimator : estimator
        Unfitted outlier detector with scikit-learn's signs.
    X_train, X_test : ndarray of shape (n, n_features)
        Training and test rows.
    y_test : ndarray of shape (n_test,)
        1 for anomalies.

    Returns
    -------
    measured : dict
        ``auroc``, ``average_precision``, ``fit_seconds``, ``score_seconds``, ``peak_memory_mb``
        (growth of this process's resident memory above what it was before `fit`, in MiB),
        ``versions`` and ``message`` (warnings that were raised).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skgenad.benchmark._cell import run_cell
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> run_cell(IsolationForest(), X, np.r_[X[:5], X[:5] + 9], np.repeat([0, 1], 5))["auroc"]
    1.0
    """
    before = _peak_memory()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        start = time.perf_counter()
        estimator.fit(X_train)
        fitted = time.perf_counter()
        scores = estimator.score_samples(X_test)
        scored = time.perf_counter()
    peak = _peak_memory() - before
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise ValueError(f"{count} of {len(scores)} scores are not finite")
    return {
        "auroc": float(roc_auc_score(y_test, -scores)),
        "average_precision": float(average_precision_score(y_test, -scores)),
        "fit_seconds": fitted - start,
        "score_seconds": scored - fitted,
        "peak_memory_mb": peak,
        "versions": versions(),
        "message": _summarise(caught),
    }


def versions() -> str:
    """Name Python and the packages that a result depends on, with their versions."""
    found = [f"python {platform.python_version()}", f"skgenad {skgenad.__version__}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "; ".join(found)


def _peak_memory() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    import resource  # the module is missing on Windows, where reports can still be made

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _summarise(caught: list[warnings.WarningMessage]) -> str:
    texts = dict.fromkeys(f"{item.category.__name__}: {item.message}" for item in caught)
    return " | ".join(" ".join(text.split()) for text in texts)[:_MESSAGE_LENGTH]
