"""Detectors with scikit-learn's signs for pyod's users, and pyod's signs for scikit-learn's.

scikit-learn: ``score_samples`` is high for normal rows, ``predict`` gives +1 and -1. pyod:
``decision_function`` is high for anomalies, ``predict`` gives 0 and 1. `PyODDetector` makes the
first out of the second, `PyODInterface` the second out of the first.
"""

from __future__ import annotations

from contextlib import ExitStack
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from skgenad._core.calibration import lowest_if_none, threshold_of, warn_if_unresolved
from skgenad._core.checks import takes_no_weights
from skgenad._core.contract import JudgesRows
from skgenad._core.false_alarms import BoundsFalseAlarms
from skgenad._core.foreign import cloned, parameters_of
from skgenad._core.rows import validate_rows
from skgenad._core.saving import SavingMixin
from skgenad._extras import require
from skgenad._tensors.seeds import draw_seed
from skgenad._tensors.settings import own_settings

from ._files import PYOD
from ._globals import (
    chance_in,
    own_globals,
    seed_globals,
    seed_parts,
    uses_globals,
    without_chance,
)

if TYPE_CHECKING:
    from ._interface import PyODInterface

__all__ = ["PyODDetector", "as_pyod"]


class PyODDetector(SavingMixin, BoundsFalseAlarms, JudgesRows, BaseEstimator):
    """Wrap a detector of pyod as a scikit-learn outlier detector.

    The detector is cloned before it is fitted, so that this estimator can itself be cloned,
    searched over and put into a pipeline. What it draws is decided by its ``random_state``, and
    global generators are left alone. pyod's networks know no other: they seed the generators of
    torch, numpy and Python when they are constructed and fitted. These are fitted one after
    another, and the generators are put back; meanwhile, what other threads draw from them is
    changed. Scoring changes nothing.

    Parameters
    ----------
    detector : pyod.models.base.BaseDetector
        Unfitted detector. Its parameters are reached as ``detector__<name>``. A parameter named
        ``n_features`` (DeepSVDD has one) is set to the number of columns in `fit`.
    random_state : int, RandomState instance or None, default=None
        Seeds the detector, whether it has a ``random_state`` of its own or draws from global
        generators, and every ``random_state`` of its parts that is None. None leaves the parameters
        of `detector` as they are.

    Attributes
    ----------
    detector_ : pyod.models.base.BaseDetector
        The fitted detector.
    offset_ : float
        Minus pyod's threshold: ``decision_function = score_samples - offset_``. pyod takes it from
        the scores of the training rows, for neighbour methods with each row left out; `predict`
        on the training rows can therefore flag another share than ``contamination``. With a
        thresholder of PyThresh for that, minus the largest score that it takes for normal.
    calibration_scores_ : ndarray
        Sorted scores of the rows given to :meth:`calibrate`. There only after it.
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

    _table = PYOD
    _parameter_constraints: ClassVar[dict] = {
        "detector": "no_validation",
        "random_state": ["random_state"],
    }

    def __init__(self, detector: Any, *, random_state: Any = None) -> None:
        self.detector = detector
        self.random_state = random_state

    def __sklearn_clone__(self) -> PyODDetector:
        with ExitStack() as stack:
            if uses_globals(self.detector):  # clone calls a constructor, which may seed generators
                stack.enter_context(own_globals(None))
            detector = cloned(self.detector, safe=False)
        return type(self)(detector, random_state=clone(self.random_state, safe=False))

    @takes_no_weights
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
        rows = self._validate(X, reset=True, ensure_min_samples=2)
        seed = None if self.random_state is None else draw_seed(self.random_state)
        draws_globally = uses_globals(self.detector)
        with ExitStack() as stack:
            stack.enter_context(own_settings())
            if draws_globally:
                stack.enter_context(own_globals(seed))
            detector = cloned(self.detector)
            own = parameters_of(detector)
            if "n_features" in own:
                detector.set_params(n_features=rows.shape[1])
            if seed is not None:
                if "random_state" in own:
                    detector.set_params(random_state=seed)
                    if draws_globally:
                        # pyod's networks seed themselves when constructed, with their own default.
                        seed_globals(seed)
                seed_parts(detector, seed)
            detector.fit(rows)
            # Few of those that draw in `fit` draw in scoring, too.
            draws_from = "nothing"
            if draws_globally:
                draws_from = chance_in(detector.decision_function, rows[:2])
        self._keep_reference(rows, 0 if seed is None else seed)
        self._draws_from = draws_from
        self._fitted_parameters = clone(self).get_params(deep=False)
        self.detector_ = detector
        self.offset_ = -_threshold_of(detector)
        self.__dict__.pop("calibration_scores_", None)
        return self

    def calibrate(self, X: ArrayLike, y: object = None) -> PyODDetector:
        """Take the threshold and the p-values from fresh normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows that the detector was not trained on. `predict` then flags the share
            `contamination` of such rows; 0.1 where pyod's parameter is no number.
        y : object
            Ignored.

        Returns
        -------
        self : PyODDetector
            The detector. Its scores are what they were.
        """
        scores = np.sort(lowest_if_none(self.score_samples(X)))
        contamination = self.detector_.contamination
        warn_if_unresolved(len(scores), contamination)
        self.calibration_scores_, self.offset_ = scores, threshold_of(scores, contamination)
        return self

    @property
    def _how_to_hold_out(self) -> str:
        return (
            "pyod's detectors hold none out: call calibrate(X) with fresh normal rows, or use "
            "ScoreDetector(PyODDetector(...)), which holds rows out"
        )

    def _take_rate(self, fpr: float, X: ArrayLike | None, y: ArrayLike | None) -> None:
        scores = (
            self.calibration_scores_
            if X is None
            else np.sort(lowest_if_none(self.score_samples(X)))
        )
        assert scores is not None
        warn_if_unresolved(len(scores), fpr, name="fpr")
        self.calibration_scores_, self.offset_ = scores, threshold_of(scores, fpr)

    def _validate(self, X: ArrayLike, *, reset: bool, **checks: Any) -> NDArray[np.float64]:
        rows = validate_rows(self, X, image_shape=None, reset=reset, **checks)
        return rows.astype(np.float64, copy=False)

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
        return self._score(self._validate(X, reset=False))

    def _score(self, rows: NDArray) -> NDArray[np.float64]:
        # Some detectors of pyod draw in scoring, too, and torch's loaders of rows in any case.
        with without_chance(self._draws_from):
            scores = self.detector_.decision_function(rows)
        return -np.asarray(scores, dtype=np.float64).reshape(len(rows))


def _threshold_of(detector: Any) -> float:
    """Score above which a fitted detector of pyod takes a row for an anomaly."""
    if isinstance(detector.contamination, Real):
        return float(detector.threshold_)
    # A thresholder of PyThresh, whose threshold is one of scores that it has scaled, if it has any.
    normal = np.asarray(detector.labels_) == 0
    return float(np.max(np.asarray(detector.decision_scores_)[normal], initial=-np.inf))


def as_pyod(detector: Any, *, contamination: Any = 0.1) -> PyODInterface:
    """Hand a detector with scikit-learn's signs to code that wants one of pyod's.

    Parameters
    ----------
    detector : estimator
        Unfitted outlier detector with ``fit`` and ``score_samples``: one of ours, one of
        scikit-learn's, or a pipeline that ends in one.
    contamination : float in (0, 0.5] or thresholder, default=0.1
        Share of the training rows to label as anomalies, or a thresholder of PyThresh.

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
