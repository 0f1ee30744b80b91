"""The class behind `skgenad.compat.as_pyod`; imports pyod, which is an optional dependency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyod.models.base import BaseDetector
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skgenad._core.calibration import hold_out_nothing, threshold_of, warn_if_unresolved
from skgenad._core.versions import VersionedPickle


class PyODInterface(VersionedPickle, BaseDetector):
    """Give an outlier detector of scikit-learn, or one of ours, the interface of pyod.

    Made by `as_pyod`, which returns an instance that is also a ``pyod`` ``BaseDetector``. Only the
    signs and the names change: high scores are anomalies, labels are 0 and 1.

    Parameters
    ----------
    detector : estimator
        Unfitted outlier detector with ``fit`` and ``score_samples``.
    contamination : float in (0, 0.5], default=0.1
        Share of the training rows to label as anomalies. It sets `threshold_`; a parameter of the
        same name of `detector` has no influence on anything here.

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

    def calibrate(self, X: ArrayLike) -> PyODInterface:
        """Take the threshold from fresh normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows that the detector was not trained on.

        Returns
        -------
        self : PyODInterface
            The detector. `threshold_` and `labels_` are set anew, the scores are what they were.
        """
        scores = np.sort(-self.decision_function(X))
        warn_if_unresolved(len(scores), self.contamination)
        self.threshold_ = -threshold_of(scores, self.contamination)
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

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
