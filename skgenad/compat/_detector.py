"""Detectors with scikit-learn's signs for pyod's users, and pyod's signs for scikit-learn's.

scikit-learn: ``score_samples`` is high for normal rows, ``predict`` gives +1 and -1. pyod:
``decision_function`` is high for anomalies, ``predict`` gives 0 and 1. `PyODDetector` makes the
first out of the second, `PyODInterface` the second out of the first.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skgenad._core.forks import leave_parents_threads
from skgenad._extras import require

if TYPE_CHECKING:
    from ._interface import PyODInterface

__all__ = ["PyODDetector", "as_pyod"]


class PyODDetector(OutlierMixin, BaseEstimator):
    """Wrap a detector of pyod as a scikit-learn outlier detector.

    The detector is cloned before it is fitted, so that this estimator can itself be cloned,
    searched over and put into a pipeline. Some detectors of pyod draw from the global generators
    of numpy and torch, or seed them when they are constructed; fitting here leaves the global
    generators as they were.

    Parameters
    ----------
    detector : pyod.models.base.BaseDetector
        Unfitted detector. Its parameters are reached as ``detector__<name>``. A parameter named
        ``n_features`` (DeepSVDD has one) is set to the number of columns in `fit`.
    random_state : int, RandomState instance or None, default=None
        Seeds the detector, whether it has a ``random_state`` of its own or draws from global
        generators. None leaves the parameters of `detector` as they are.

    Attributes
    ----------
    detector_ : pyod.models.base.BaseDetector
        The fitted detector.
    offset_ : float
        Minus pyod's threshold: ``decision_function = score_samples - offset_``. pyod takes it from
        the scores of the training rows, for neighbour methods with each row left out; `predict`
        on the training rows can therefore flag another share than ``contamination``.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, when all are strings.

    See Also
    --------
    PyODInterface : The opposite direction.

    Examples
    --------
    >>> import numpy as np
    >>> from pyod.models.knn import KNN
    >>> from skgenad.compat import PyODDetector
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = PyODDetector(KNN(n_neighbors=10)).fit(X)
    >>> detector.predict([[0.0, 0.0], [9.0, 9.0]])
    array([ 1, -1])
    >>> detector.get_params()["detector__n_neighbors"]
    10
    """

    def __init__(self, detector: Any, *, random_state: Any = None) -> None:
        self.detector = detector
        self.random_state = random_state

    def __sklearn_clone__(self) -> PyODDetector:
        with global_seeds(None):  # clone calls a constructor, and pyod's may seed generators
            detector = clone(self.detector, safe=False)
        return type(self)(detector, random_state=clone(self.random_state, safe=False))

    def fit(self, X: ArrayLike, y: object = None) -> PyODDetector:
        """Fit a clone of the detector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : object
            Ignored.

        Returns
        -------
        self : PyODDetector
            The fitted estimator.

        Raises
        ------
        TypeError
            If `detector` is not one of pyod's.
        """
        if not isinstance(self.detector, require("pyod.models.base", extra="bench").BaseDetector):
            raise TypeError(
                f"detector must be an unfitted detector of pyod, got {self.detector!r}; pass for "
                "example KNN(). Detectors of scikit-learn have the right signs already."
            )
        leave_parents_threads()
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        with global_seeds(self.random_state) as seed:
            detector = clone(self.detector)
            own = detector.get_params(deep=False)
            if "n_features" in own:
                detector.set_params(n_features=rows.shape[1])
            if seed is not None and "random_state" in own:
                detector.set_params(random_state=seed)
                # pyod's networks seed themselves when constructed, with their own default.
                _seed_everything(seed)
            detector.fit(rows)
        self.detector_ = detector
        self.offset_ = -float(detector.threshold_)
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return how normal each row is: minus pyod's score, in the unit of the detector.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Higher is more normal.
        """
        check_is_fitted(self)
        leave_parents_threads()
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        # Scoring gets generators of its own as well, because some detectors of pyod draw in it.
        with global_seeds(0):
            scores = self.detector_.decision_function(rows)
        return -np.asarray(scores, dtype=np.float64).reshape(len(rows))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative for anomalies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        decision : ndarray of shape (n_samples,), float64
            Below zero for rows that pyod's threshold makes anomalies.
        """
        scores = self.score_samples(X)
        return scores - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return +1 for normal rows and -1 for anomalies.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to judge.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int
            +1 or -1.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)


def as_pyod(detector: Any, *, contamination: float = 0.1) -> PyODInterface:
    """Hand a detector with scikit-learn's signs to code that wants one of pyod's.

    Parameters
    ----------
    detector : estimator
        Unfitted outlier detector with ``fit`` and ``score_samples``: one of ours, one of
        scikit-learn's, or a pipeline that ends in one.
    contamination : float in (0, 0.5], default=0.1
        Share of the training rows to label as anomalies.

    Returns
    -------
    detector : PyODInterface
        Unfitted; an instance of ``pyod.models.base.BaseDetector`` with ``decision_scores_``,
        ``labels_`` and ``threshold_`` after `fit`.

    Raises
    ------
    ImportError
        If pyod is not installed.
    TypeError
        If `detector` has no ``score_samples``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skgenad.compat import as_pyod
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> detector = as_pyod(IsolationForest(random_state=0), contamination=0.05).fit(X)
    >>> int(detector.labels_.sum())
    5
    """
    require("pyod", extra="bench")
    from ._interface import PyODInterface

    return PyODInterface(detector, contamination=contamination)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextlib.contextmanager
def global_seeds(random_state: Any) -> Iterator[int | None]:
    """Run a block under global generators of its own and put the caller's back afterwards."""
    seed = None
    if random_state is not None:
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            if seed is not None:
                _seed_everything(seed)
            yield seed
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
