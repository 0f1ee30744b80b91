"""False alarms, bounded: p-values of rows, false discovery rates, thresholds for a rate."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .calibration import (
    p_values_by_class,
    p_values_of,
    threshold_of,
    warn_if_unresolved,
)
from .checks import Interval, Options, StrOptions, check_parameter
from .discoveries import METHODS, q_values_of, warn_if_none_could_be

_ALLOWED: dict[str, Any] = {
    "fdr": [Interval(Real, 0, 1, closed="neither")],
    "fpr": [Interval(Real, 0, 0.5, closed="right"), Options(Real, {0})],
    "method": [StrOptions(set(METHODS))],
    "by_class": ["boolean"],
}


class BoundsFalseAlarms:
    """What follows from scores of normal rows that a model was not trained on."""

    calibration_scores_: NDArray | None

    @property
    @abstractmethod
    def _how_to_hold_out(self) -> str:
        """What to do without such scores, for an error."""

    def _normality(self, X: ArrayLike) -> NDArray:
        """Scores (n,) of rows, high for normal ones, as `calibration_scores_` are."""
        return self.score_samples(X)  # type: ignore[attr-defined]

    def _scores_held_out(self, wanted: str, **values: Any) -> NDArray:
        """Sorted scores out of sample, once the values of a method's parameters are checked."""
        check_is_fitted(self)
        name = f"{type(self).__name__}.{wanted}"
        for key, value in values.items():
            check_parameter(_ALLOWED[key], key, value, name)
        scores = vars(self).get("calibration_scores_")
        if scores is None:
            raise ValueError(
                f"{wanted} needs rows that were not trained on, and there are none. "
                f"{self._how_to_hold_out}."
            )
        return scores

    def _by_class(self, wanted: str, **values: Any) -> tuple[NDArray, NDArray]:
        """Return sorted scores out of sample and the places of their classes in `classes_`."""
        self._scores_held_out(wanted, **values)
        # As they are at one moment: another thread may calibrate meanwhile.
        kept = dict(vars(self))
        scores, codes = kept["calibration_scores_"], kept.get("_calibration_codes")
        if codes is None:
            raise ValueError(
                "p-values by class need rows of known classes that were not trained on, and there "
                "are none: fit anew with use_labels=True, or call calibrate(X, y) with fresh "
                "normal rows and their classes."
            )
        classes = self.classes_  # type: ignore[attr-defined]
        lacking = classes[np.bincount(codes, minlength=len(classes)) == 0].tolist()
        if lacking:
            raise ValueError(
                f"p-values by class need rows of every class that were not trained on, and there "
                f"are none of {lacking}: hold out more rows (calibration_fraction), or call "
                "calibrate(X, y) with fresh normal rows of every class."
            )
        return scores, codes

    def _p_values(self, X: ArrayLike, wanted: str, by_class: bool, **values: Any) -> Any:
        """P-values of rows, and how many scores the least of them may come from."""
        if not by_class:
            held_out = self._scores_held_out(wanted, by_class=by_class, **values)
            return self._p_values_among(X, held_out, None), len(held_out)
        held_out, codes = self._by_class(wanted, by_class=by_class, **values)
        p_values = self._p_values_among(X, held_out, codes)
        return p_values.max(axis=1), int(np.bincount(codes).min())

    def _p_values_among(self, X: ArrayLike, held_out: NDArray, codes: NDArray | None) -> NDArray:
        """P-values (n,) of rows by sorted scores, or (n, classes) by those of each class."""
        if codes is None:
            return p_values_of(self._normality(X), held_out)
        return p_values_by_class(self._normality(X), held_out, codes)

    # ---- rows one by one ------------------------------------------------------------------

    def p_value(self, X: ArrayLike, *, by_class: bool = False) -> NDArray:
        """Split-conformal p-values of the hypothesis that a row is normal.

        The p-value of a row is ``(1 + #{held-out rows that score no higher}) / (n_held_out + 1)``.
        Flagging rows with a p-value of at most alpha flags a normal row with a probability of at
        most alpha, whatever the model and its quality, if these rows were held out of training or
        given to ``calibrate``. Detectors that score training rows as if they had not been trained
        on compare with those: that comes close to it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        by_class : bool, default=False
            Whether to take the largest of the row's :meth:`class_p_values`: then a normal row of
            *each* class is flagged with a probability of at most alpha, not one of all classes.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            In (0, 1].

        Raises
        ------
        ValueError
            If there are no scores out of sample, since no rows were held out of training, or none
            of one of the classes.
        """
        return self._p_values(X, "p_value", by_class)[0]

    def class_p_values(self, X: ArrayLike) -> NDArray:
        """Split-conformal p-values of the hypotheses that a row is a normal row of each class.

        Held-out rows of the class alone are compared with (Mondrian conformal prediction), so that
        its normal rows have a p-value of at most alpha with a probability of at most alpha.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        p_values : ndarray of shape (n_samples, n_classes)
            In (0, 1], a column for each of `classes_`.

        Raises
        ------
        ValueError
            If the detector does not use labels, or has no held-out rows of one of the classes.
        """
        return self._p_values_among(X, *self._by_class("class_p_values"))

    # ---- rows together --------------------------------------------------------------------

    def q_value(self, X: ArrayLike, *, method: str = "bh", by_class: bool = False) -> NDArray:
        """Adjust p-values of rows for their number: the least `fdr` at which a row is selected.

        Unlike a score, a row's q-value depends on the rows that are asked about with it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, all that a decision is made about.
        method : {"bh", "by", "storey"}, default="bh"
            As for :meth:`select`.
        by_class : bool, default=False
            As for :meth:`p_value`.

        Returns
        -------
        q_values : ndarray of shape (n_samples,)
            In (0, 1].

        Raises
        ------
        ValueError
            If there are no scores out of sample, as for :meth:`p_value`.
        """
        p_values, n_held_out = self._p_values(X, "q_value", by_class, method=method)
        return q_values_of(p_values, n_held_out, method)

    def select(
        self, X: ArrayLike, *, fdr: float = 0.05, method: str = "bh", by_class: bool = False
    ) -> NDArray:
        """Flag rows so that the false discovery rate is at most `fdr`.

        That is the expected share of normal rows among those that are flagged, 0 where none is.
        Whether a row is flagged depends on the rows that are asked about with it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, all that a decision is made about.
        fdr : float, default=0.05
            In (0, 1). The expectation is one over held-out rows, too.
        method : {"bh", "by", "storey"}, default="bh"
            Step-up rules. "bh", of Benjamini and Hochberg, if the normal rows among those asked
            about and the held-out ones are exchangeable given the anomalies, as when all rows are
            drawn independently. "storey" is "bh" with an estimate of the share of normal rows,
            under the same condition; it finds more where many rows are anomalies. "by", of
            Benjamini and Yekutieli, holds for rows that depend on each other, if each normal one
            is exchangeable with those held out; it finds the fewest.
        by_class : bool, default=False
            As for :meth:`p_value`. Proved for "by" alone.

        Returns
        -------
        selected : ndarray of shape (n_samples,)
            Of type bool, true for rows with a :meth:`q_value` of at most `fdr`.

        Raises
        ------
        ValueError
            If there are no scores out of sample, as for :meth:`p_value`.

        Warns
        -----
        UserWarning
            If no row is selected, and the held-out rows are too few for one row to be.
        """
        p_values, n_held_out = self._p_values(X, "select", by_class, fdr=fdr, method=method)
        # A sum of tenths is a little more than what it stands for.
        selected = q_values_of(p_values, n_held_out, method) <= fdr * (1 + 1e-12)
        if not selected.any():
            warn_if_none_could_be(p_values, n_held_out, fdr, method)
        return selected

    # ---- thresholds -----------------------------------------------------------------------

    def threshold(self, fpr: float) -> float:
        """Threshold below which a new normal row scores with a given probability.

        Parameters
        ----------
        fpr : float
            False positive rate in [0, 0.5]; 0: below all held-out rows.

        Returns
        -------
        threshold : float
            In the unit of ``score_samples``. Of n held-out rows without ties ``ceil(fpr * (n + 1))
            - 1`` score lower, none with 0.

        Raises
        ------
        ValueError
            If there are no scores out of sample, as for :meth:`p_value`.

        Warns
        -----
        UserWarning
            If the held-out rows are too few for the rate.
        """
        scores = self._scores_held_out("threshold", fpr=fpr)
        warn_if_unresolved(len(scores), fpr, name="fpr")
        return threshold_of(scores, fpr)

    def set_threshold(
        self, *, fpr: float, X: ArrayLike | None = None, y: ArrayLike | None = None
    ) -> Self:
        """Let `predict` flag another share of new normal rows, without another fit.

        This sets the parameter `contamination`, so that copies, files and later training keep the
        rate, and with `X` it does what :meth:`calibrate` does. A `PyODDetector`, which has no such
        parameter, keeps the rate until it is fitted or calibrated again.

        Parameters
        ----------
        fpr : float
            False positive rate in [0, 0.5]; 0: below all held-out rows. What `as_pyod` makes takes
            no 0, as pyod does not.
        X : array-like of shape (n_samples, n_features), default=None
            Fresh normal rows, which take the place of those held out; None: those held out.
        y : array-like of shape (n_samples,), default=None
            Classes of `X` for a detector with ``use_labels=True``; all others ignore it.

        Returns
        -------
        self : object
            The detector. If the rate cannot be had, nothing has changed.

        Raises
        ------
        ValueError
            If there are no scores out of sample and no `X`, or `y` without `X`.

        Warns
        -----
        UserWarning
            If the rows are too few for the rate.
        """
        if X is None:
            if y is not None:
                raise ValueError("y holds the classes of X: pass X, too, or leave y out.")
            self._scores_held_out("set_threshold without X", fpr=fpr)
        else:
            check_is_fitted(self)
            name = f"{type(self).__name__}.set_threshold"
            check_parameter(_ALLOWED["fpr"], "fpr", fpr, name)
        self._take_rate(float(fpr), X, y)
        return self

    @abstractmethod
    def _take_rate(self, fpr: float, X: ArrayLike | None, y: ArrayLike | None) -> None:
        """Set the threshold for a rate, by fresh rows if there are any."""
