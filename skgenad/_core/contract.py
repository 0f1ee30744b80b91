"""What everything that scores rows promises: rows, labels, thresholds, p-values."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from skgenad._tensors.settings import own_settings

from .checks import Interval
from .rows import Shape, validate_rows

# The most training rows that a threshold is taken from: the share of rows that it flags is then as
# sharp as a thousandth, and the cost of a fit does not grow with their number.
MOST_THRESHOLD_ROWS = 100_000


class BaseDetector(OutlierMixin, BaseEstimator, metaclass=ABCMeta):
    """Base of detectors, of one model or of several; not to be instantiated.

    `fit` is the subclass's own. It validates rows, trains, and sets `calibration_scores_` and the
    offset.
    """

    classes_: NDArray
    calibration_scores_: NDArray | None
    contamination: float
    calibration_fraction: float
    seed_: int
    # Detectors whose constructor has no parameter `use_labels` read this one.
    use_labels: bool = False
    # Whether a training row gets the score that it would have if it had not been trained on.
    scores_leave_one_out: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict] = {
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
        "calibration_fraction": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    }

    # ---- fit ------------------------------------------------------------------------------

    @abstractmethod
    def _score(self, X: NDArray) -> NDArray:
        """Scores (n,) of validated rows (n, d)."""

    @property
    def _uses_labels(self) -> bool:
        """Whether `y` holds the classes of rows."""
        return bool(self.use_labels)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Run a fit under settings of its own; if it does not end well, nothing has changed."""
        before = dict(self.__dict__)
        try:
            with own_settings():
                yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _validate(self, X: ArrayLike, *, reset: bool, **checks: Any) -> NDArray:
        return validate_rows(self, X, image_shape=self._shape(reset), reset=reset, **checks)

    @abstractmethod
    def _shape(self, reset: bool) -> Shape | None:
        """Shape of images: that of the parameters with `reset`, else that of the fit."""

    def _validate_labelled(
        self, X: ArrayLike, y: ArrayLike | None, *, reset: bool, ensure_min_samples: int = 1
    ) -> tuple[NDArray, NDArray | None]:
        """Check rows, and return them with the places of their labels in `classes_`."""
        name, uses_labels = type(self).__name__, self._uses_labels
        if not reset and uses_labels != hasattr(self, "classes_"):
            raise ValueError(
                f"use_labels={uses_labels}, but this {name} was fitted with use_labels="
                f"{not uses_labels}. Set it back, or fit from the start (warm_start=False)."
            )
        if not uses_labels:
            if reset:
                self.__dict__.pop("classes_", None)
            return self._validate(X, reset=reset, ensure_min_samples=ensure_min_samples), None
        if y is None:
            raise ValueError(
                f"{name} with use_labels=True requires y to be passed, but the target y is None. "
                "Pass the class of every row, or set use_labels=False."
            )
        rows, classes = validate_rows(
            self,
            X,
            y,
            image_shape=self._shape(reset),
            reset=reset,
            ensure_min_samples=ensure_min_samples,
        )
        check_classification_targets(classes)
        return rows, self._encode(classes, reset=reset)

    def _encode(self, y: NDArray, *, reset: bool) -> NDArray:
        """Return places of labels in `classes_`, which `reset` makes the classes of `y`."""
        encoder = LabelEncoder()
        seen = encoder.fit(y).classes_
        if reset:
            self.classes_ = seen
        known = set(self.classes_.tolist())
        unknown = [label for label in seen.tolist() if label not in known]
        if unknown:
            raise ValueError(
                f"y holds the classes {unknown}, which the first fit did not see: it saw "
                f"{self.classes_.tolist()}. Leave their rows out, or fit anew on all classes."
            )
        encoder.classes_ = self.classes_
        return encoder.transform(y)

    def _split_calibration(
        self, X: NDArray, labels: NDArray | None
    ) -> tuple[NDArray, NDArray | None, NDArray | None]:
        """Return rows to train on, their labels, and the rows held out."""
        if self.calibration_fraction == 0:
            return X, labels, None
        n_held_out = int(np.ceil(self.calibration_fraction * len(X)))
        if len(X) - n_held_out < 2:
            raise ValueError(
                f"calibration_fraction={self.calibration_fraction} leaves "
                f"{len(X) - n_held_out} of {len(X)} rows to train on; at least 2 are needed."
            )
        order = np.random.RandomState(self.seed_).permutation(len(X))
        train, held_out = np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
        return X[train], None if labels is None else labels[train], X[held_out]

    def _set_offset(self, X: NDArray) -> None:
        """Flag the share `contamination` of the rows held out, or of `X` if none were."""
        scores = self.calibration_scores_
        if scores is None:
            if len(X) > MOST_THRESHOLD_ROWS:
                order = np.random.RandomState(self.seed_).permutation(len(X))
                X = X[np.sort(order[:MOST_THRESHOLD_ROWS])]
            scores = self._score(X)
        self.offset_ = float(np.percentile(scores, 100 * self.contamination))

    # ---- score ----------------------------------------------------------------------------

    def score_samples(self, X: ArrayLike) -> NDArray:
        """Score rows; higher is more normal.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of the training rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Float64, in the unit that the detector's notes name. A row's score depends on that row
            alone.
        """
        check_is_fitted(self)
        return self._score(self._validate(X, reset=False))

    def anomaly_score(self, X: ArrayLike) -> NDArray:
        """Negative of :meth:`score_samples`: higher is more anomalous.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Float64.
        """
        return -self.score_samples(X)

    def decision_function(self, X: ArrayLike) -> NDArray:
        """Scores shifted so that 0 is the threshold: ``score_samples(X) - offset_``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Negative for rows that `predict` calls anomalies.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray:
        """Label rows as normal (+1) or anomaly (-1).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 for normal rows and -1 for anomalies, of type int.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def p_value(self, X: ArrayLike) -> NDArray:
        """Split-conformal p-values of the hypothesis that a row is normal.

        The p-value of a row is ``(1 + #{held-out rows that score no higher}) / (n_held_out + 1)``.
        Flagging rows with a p-value of at most alpha flags a normal row with a probability of at
        most alpha, whatever the model and its quality.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            In (0, 1].

        Raises
        ------
        ValueError
            If no rows were held out of training (``calibration_fraction=0``), or the model has
            been trained on since then.
        """
        check_is_fitted(self)
        held_out = self.calibration_scores_
        if held_out is None:
            raise ValueError(
                "p_value needs rows held out of training: fit with calibration_fraction > 0 "
                f"(it is {self.calibration_fraction}), and without partial_fit or warm_start "
                "after that."
            )
        below = np.searchsorted(held_out, self.score_samples(X), side="right")
        return (1 + below) / (1 + len(held_out))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._uses_labels
        return tags
