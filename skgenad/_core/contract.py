"""What everything that scores rows promises: rows, labels, thresholds, p-values."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from skgenad._tensors.settings import own_settings
from skgenad._warn import warn

from .calibration import (
    AUTO_MOST,
    Split,
    lowest_if_none,
    rows_held_out,
    share_of,
    threshold_in_sample,
    threshold_of,
    warn_if_unresolved,
)
from .checks import (
    CheckedParameters,
    Interval,
    Options,
    StrOptions,
    as_before,
    check_parameter,
    fit_context,
)
from .chunks_of_rows import TakesChunks
from .explanations import ExplainsRows
from .false_alarms import BoundsFalseAlarms
from .large_tables import SameTable, Table, rows_at
from .rows import Shape, validate_rows

# The most training rows that a threshold is taken from: the share of rows that it flags is then as
# sharp as a thousandth, and the cost of a fit does not grow with their number.
MOST_THRESHOLD_ROWS = 100_000


class JudgesRows(TakesChunks, ExplainsRows, OutlierMixin):
    """What follows from scores of rows and a threshold, whoever made them."""

    score_samples: Callable[[ArrayLike], NDArray]
    offset_: float

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


class BaseDetector(BoundsFalseAlarms, JudgesRows, CheckedParameters, metaclass=ABCMeta):
    """Base of detectors, of one model or of several; not to be instantiated.

    `fit` is the subclass's own. It validates rows, trains, and sets `calibration_scores_` and the
    offset.
    """

    classes_: NDArray
    # Places in `classes_` of the rows that `calibration_scores_` are of, where they are known.
    _calibration_codes: NDArray | None
    contamination: float | str
    calibration_fraction: float | str
    seed_: int
    # Detectors whose constructor has no parameter `use_labels` read this one.
    use_labels: bool | str = False
    # In pipelines and searches these reach `fit` without being asked for.
    __metadata_request__fit: ClassVar[dict] = {"groups": True, "calibration": True}
    # Whether a training row gets the score that it would have if it had not been trained on.
    scores_leave_one_out: ClassVar[bool] = False
    # Whether `fit` takes large tables as `SomeRows`.
    _reads_lazily: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict] = {
        "contamination": [
            Interval(Real, 0, 0.5, closed="right"),
            Options(Real, {0}),
            StrOptions({"auto"}),
        ],
        "calibration_fraction": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "random_state": ["random_state"],
    }

    # ---- fit ------------------------------------------------------------------------------

    @abstractmethod
    def _score(self, X: Any) -> NDArray:
        """Scores (n,) of validated rows (n, d), a `Table` where those of a fit are one."""

    @property
    def _names(self) -> Any:
        """Names of the columns, if they have names."""
        return getattr(self, "feature_names_in_", None)

    @property
    def _uses_labels(self) -> bool:
        """Whether `y` holds the classes of rows."""
        return bool(self.use_labels)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Run a fit under settings of its own; if it does not end well, nothing has changed."""
        with as_before(self), own_settings():
            yield

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
            checks = {"ensure_min_samples": ensure_min_samples, "lazily": self._reads_lazily}
            return self._validate(X, reset=reset, **checks), None
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
            lazily=self._reads_lazily,
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
        self,
        X: SameTable,
        labels: NDArray | None,
        groups: ArrayLike | None = None,
        calibration: Any = "random",
    ) -> Split[SameTable]:
        """Split rows into those to train on and those to hold out.

        None are held out if training rows have scores out of sample.
        """
        fraction = self.calibration_fraction
        left_to_us = groups is None and isinstance(calibration, str) and calibration == "random"
        if fraction == "auto" and left_to_us and self._scores_training_rows:
            return Split(X, labels, None)
        held_out = rows_held_out(
            len(X), fraction, self.seed_, labels=labels, groups=groups, calibration=calibration
        )
        if not len(held_out):
            if fraction == "auto" and calibration != "none":
                warn_if_unresolved(0, self.contamination)
            return Split(X, labels, rows_at(X, held_out))
        is_trained_on = np.ones(len(X), dtype=bool)
        is_trained_on[held_out] = False
        return Split.at(X, labels, np.flatnonzero(is_trained_on), held_out)

    def fit_predict(self, X: ArrayLike, y: ArrayLike | None = None, **fit_params: Any) -> NDArray:
        """Fit, and label the training rows themselves as normal (+1) or anomaly (-1).

        With a number as `contamination`, and with ``calibration_fraction="auto"``, all rows are
        trained on and that share of them is flagged; else it is ``fit(X).predict(X)``, whose
        threshold is for new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, at least 2.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``; all others ignore it.
        **fit_params
            As `fit` takes them.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 for normal rows and -1 for anomalies, of type int.
        """
        if self.calibration_fraction == "auto" and not isinstance(self.contamination, str):
            fit_params = {"calibration": "none", **fit_params}
        return self.fit(X, y, **fit_params).predict(X)

    @property
    def novelty(self) -> bool:
        """Whether the threshold is for new rows, as scikit-learn's checks ask.

        Else the share `contamination` of training rows lies below it.
        """
        return self.calibration_fraction != 0

    @property
    def _scores_training_rows(self) -> bool:
        """Whether training rows get scores as new rows do, so that none need be held out."""
        return self.scores_leave_one_out

    @property
    def _how_to_hold_out(self) -> str:
        fraction = self.calibration_fraction
        better = "more rows"
        if fraction != "auto":
            better = "with calibration_fraction='auto' or a number above 0"
        return (
            f"No rows were held out (calibration_fraction is {fraction!r}). Call calibrate(X) with "
            f"fresh normal rows, or fit {better}"
        )

    def _some(self, X: SameTable, most: int) -> SameTable:
        if len(X) <= most:
            return X
        order = np.random.RandomState(self.seed_).permutation(len(X))
        return rows_at(X, np.sort(order[:most]))

    def _set_threshold(
        self,
        X: Table,
        held_out: Table | None,
        scores: NDArray | None = None,
        *,
        labels: NDArray | None = None,
    ) -> None:
        """Take the threshold from rows held out, from training rows as if they were, or as is.

        `X` (n, d) are all rows of a fit, those held out among them, and `scores` those of training
        rows by models that were not trained on them, where a detector has such. `labels` are the
        places of the classes of the rows held out or, if there are none, of `scores`.
        """
        if held_out is not None:
            scores = self._score(held_out) if len(held_out) else None
        elif scores is None and self.scores_leave_one_out:
            scores = self._score(self._some(X, AUTO_MOST))
        self._keep_scores(scores, labels)
        if self.contamination == 0:  # no row that was seen is flagged, be it trained on or not
            self.offset_ = threshold_of(np.sort(self._score(X)), 0)
        elif scores is not None:
            self._set_offset()
        else:
            self._set_offset_in_sample(X)

    def _keep_scores(self, scores: NDArray | None, labels: NDArray | None) -> None:
        """Keep scores out of sample, in their order, and the places of their classes."""
        kept, codes = None, None
        if scores is not None:
            scores = lowest_if_none(scores)
            order = np.argsort(scores, kind="stable")
            kept, codes = scores[order], None if labels is None else labels[order]
        # At once: another thread may ask for p-values meanwhile.
        self.__dict__.update(calibration_scores_=kept, _calibration_codes=codes)

    def _set_offset(self, asked: float | None = None) -> None:
        """Take the threshold from the scores out of sample, for a rate that is asked for.

        "auto" asks for no more than the rows of a fit are enough for.
        """
        assert self.calibration_scores_ is not None
        asked_for = self.contamination if asked is None else asked
        warn_if_unresolved(len(self.calibration_scores_), asked_for)
        self.offset_ = threshold_of(self.calibration_scores_, self.contamination)

    def _set_offset_in_sample(self, X: Table) -> None:
        """Flag the share `contamination` of rows that were trained on."""
        scores = self._score(self._some(X, MOST_THRESHOLD_ROWS))
        self.offset_ = threshold_in_sample(scores, self.contamination)

    def _threshold_now(self) -> tuple[float, float | str]:
        """Threshold and the `contamination` that it is for: that set since the fit, if it can."""
        try:
            offset = self.__dict__["offset_"]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no offset_ before fit") from None
        now, then = self.contamination, self.__dict__.get("_offset_is_for", self.contamination)
        if now == then or self.calibration_scores_ is None:
            return offset, then
        allowed = self._parameter_constraints["contamination"]
        check_parameter(allowed, "contamination", now, type(self).__name__)
        return threshold_of(self.calibration_scores_, now), now

    @property
    def offset_(self) -> float:
        """Threshold: ``decision_function(X) = score_samples(X) - offset_``."""
        offset, contamination = self._threshold_now()
        if share_of(contamination) != share_of(self.contamination):
            warn(
                f"contamination={self.contamination!r} was set since the fit, whose threshold "
                f"({contamination!r}) comes from the training rows and stays: fit anew, or call "
                "calibrate(X) with fresh normal rows.",
            )
        return offset

    @offset_.setter
    def offset_(self, value: float) -> None:
        self.__dict__.update(offset_=float(value), _offset_is_for=self.contamination)

    @fit_context(prefer_skip_nested_validation=True)
    def calibrate(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Take the threshold and the p-values from fresh normal rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows that the detector was not trained on, as they come up in use. `predict`
            then flags the share `contamination` of such rows. They take the place of those that
            were held out before, for later calls of ``partial_fit``, too.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows for a detector with ``use_labels=True``; all others ignore it.
            None: there are no p-values by class.

        Returns
        -------
        self : object
            The detector. Its scores are what they were.
        """
        check_is_fitted(self)
        with self._all_or_nothing():
            if y is None or not self._uses_labels:
                X, labels = self._validate(X, reset=False), None
            else:
                X, labels = self._validate_labelled(X, y, reset=False)
            self._keep_scores(self._score(X), labels)
            self._set_offset(share_of(self.contamination))
            self._keep_held_out(X, labels)
        return self

    def _keep_held_out(self, X: Table, labels: NDArray | None) -> None:
        """Keep fresh rows, for a detector whose training goes on."""

    def _take_rate(self, fpr: float, X: ArrayLike | None, y: ArrayLike | None) -> None:
        if X is None and fpr == 0 == self.contamination == self.__dict__["_offset_is_for"]:
            return  # 0 in a fit is below the training rows, too
        with self._all_or_nothing():
            self.contamination = fpr
            if X is None:
                self._set_offset()
            else:
                self.calibrate(X, y)

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
        if "offset_" not in self.__dict__:  # the check alone takes as long as a small network
            check_is_fitted(self)
        return self._score(self._validate(X, reset=False, lazily=self._reads_lazily))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._uses_labels
        return tags
