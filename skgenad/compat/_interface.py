"""The class behind `skgenad.compat.as_pyod`; imports pyod, which is an optional dependency."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyod.models.base import BaseDetector
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skgenad._core.calibration import (
    hold_out_nothing,
    lowest_if_none,
    threshold_of,
    warn_if_unresolved,
)
from skgenad._core.false_alarms import BoundsFalseAlarms
from skgenad._core.versions import VersionedPickle


class PyODInterface(VersionedPickle, BoundsFalseAlarms, BaseDetector):
    """Give an outlier detector of scikit-learn, or one of ours, the interface of pyod.

    Made by `as_pyod`, which returns an instance that is also a ``pyod`` ``BaseDetector``. Only the
    signs and the names change: high scores are anomalies, labels are 0 and 1.

    Parameters
    ----------
    detector : estimator
        Unfitted outlier detector with ``fit`` and ``score_samples``.
    contamination : float in (0, 0.5] or thresholder, default=0.1
        Share of the training rows to label as anomalies. It sets `threshold_`; a parameter of the
        same name of `detector` has no influence on anything here. A thresholder of PyThresh, which
        pyod fits to the scores of the training rows, labels rows itself.

    Attributes
    ----------
    detector_ : estimator
        The fitted clone of `detector`.
    decision_scores_ : ndarray of shape (n_samples,)
        Scores of the training rows; higher is more abnormal.
    threshold_ : float
        Rows that score higher are anomalies.
    labels_ : ndarray of shape (n_samples,)
        0 for normal training rows, 1 for anomalies.
    calibration_scores_ : ndarray
        Sorted ``score_samples``, high for normal rows, of the rows given to :meth:`calibrate`, that
        p-values come from. There only after it.

    Raises
    ------
    TypeError
        If `detector` has no ``fit`` or no ``score_samples``.

    See Also
    --------
    as_pyod : Makes one.
    PyODDetector : The opposite direction.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skgenad.compat import PyODInterface, as_pyod
    >>> isinstance(as_pyod(IsolationForest()), PyODInterface)
    True
    """

    def __init__(self, detector: Any, contamination: float = 0.1) -> None:
        if not (hasattr(detector, "fit") and hasattr(detector, "score_samples")):
            raise TypeError(
                "detector must be an outlier detector with fit and score_samples, "
                f"got {detector!r}; wrap it or pass for example MPDR()"
            )
        super().__init__(contamination=contamination)
        self.detector = detector

    def fit(self, X: ArrayLike, y: object = None) -> PyODInterface:
        """Fit a clone of the detector and label the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : object
            Ignored.

        Returns
        -------
        self : PyODInterface
            The fitted detector.
        """
        self._set_n_classes(None)
        self.detector_ = clone(self.detector)
        hold_out_nothing(self.detector_)
        self.detector_.fit(X)
        self.decision_scores_ = self.decision_function(X)
        self._process_decision_scores()
        self.__dict__.pop("calibration_scores_", None)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return how abnormal each row is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to score.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Minus ``score_samples`` of the wrapped detector; higher is more abnormal.
        """
        check_is_fitted(self, ["detector_"])
        return -np.asarray(self.detector_.score_samples(X), dtype=np.float64)

    def calibrate(self, X: ArrayLike, y: object = None) -> PyODInterface:
        """Take the threshold and the p-values from fresh normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows that the detector was not trained on.
        y : object
            Ignored.

        Returns
        -------
        self : PyODInterface
            The detector. `threshold_` and `labels_` are set anew, unless `contamination` is a
            thresholder; the scores are what they were.
        """
        scores = np.sort(lowest_if_none(self._normality(X)))
        if isinstance(self.contamination, Real):
            self._cut(scores, self.contamination)
        self.calibration_scores_ = scores
        return self

    def threshold(self, fpr: float) -> float:
        """Threshold above which pyod's score of a new normal row lies with a given probability.

        Parameters
        ----------
        fpr : float
            False positive rate in [0, 0.5]; 0: above all rows of :meth:`calibrate`.

        Returns
        -------
        threshold : float
            In the unit of ``decision_function``.

        Raises
        ------
        ValueError
            Before :meth:`calibrate`.

        Warns
        -----
        UserWarning
            If those rows are too few for the rate.
        """
        return -super().threshold(fpr)

    def _normality(self, X: ArrayLike) -> NDArray:
        return -self.decision_function(X)

    @property
    def _how_to_hold_out(self) -> str:
        return "Call calibrate(X) with fresh normal rows"

    def _take_rate(self, fpr: float, X: ArrayLike | None, y: object) -> None:
        if fpr == 0:
            raise ValueError("fpr=0 cannot be the contamination of pyod, which is above 0.")
        scores = (
            self.calibration_scores_ if X is None else np.sort(lowest_if_none(self._normality(X)))
        )
        assert scores is not None
        self._cut(scores, fpr)
        self.calibration_scores_, self.contamination = scores, fpr

    def _cut(self, scores: NDArray, rate: Any) -> None:
        """Set the threshold for a rate by sorted scores of normal rows, high for normal ones."""
        warn_if_unresolved(len(scores), rate)
        self.threshold_ = -threshold_of(scores, rate)
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)

    @available_if(lambda interface: hasattr(interface.detector, "explain"))
    def explain(self, X: ArrayLike, **options: Any) -> NDArray[np.float64]:
        """Say how much each column raises the anomaly score of a row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        **options
            As the wrapped detector takes them.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features)
            Those of the wrapped detector, which add up to ``decision_function(X) -
            decision_function(repair(X))``.
        """
        check_is_fitted(self, ["detector_"])
        return self.detector_.explain(X, **options)

    @available_if(lambda interface: hasattr(interface.detector, "repair"))
    def repair(self, X: ArrayLike, **options: Any) -> Any:
        """Change rows to their nearest normal versions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        **options
            As the wrapped detector takes them.

        Returns
        -------
        repaired : ndarray or DataFrame of shape (n_samples, n_features)
            Rows in the units of `X`.
        """
        check_is_fitted(self, ["detector_"])
        return self.detector_.repair(X, **options)

    def fit_predict(self, X: ArrayLike, y: object = None) -> NDArray[np.int64]:
        """Fit and return the labels of the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : object
            Ignored.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int
            0 for normal rows, 1 for anomalies.
        """
        return self.fit(X, y).labels_
