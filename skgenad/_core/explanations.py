"""``repair`` and ``explain`` of everything that scores rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .contributions import contributions
from .frames import like
from .large_tables import Table
from .pictures import Shape
from .reference import Reference, forget_rows
from .repairs import Repairs
from .units import PixelUnits, StandardUnits

# Images have about so many patches at most, which are repaired as wholes.
_MOST_PATCHES = 64


class ExplainsRows:
    """What makes a row an anomaly, for whatever scores rows one by one."""

    _reference: Reference
    _validate: Callable[..., NDArray]
    _score: Callable[[Any], NDArray]

    def _shape(self, reset: bool) -> Shape | None:
        """Shape of images."""
        return None

    def _keep_reference(self, rows: Table, seed: int, *, goes_on: bool = False) -> None:
        """Keep some of the rows (n, d) that are trained on, beside those so far if it `goes_on`."""
        before = self.__dict__.get("_reference") if goes_on else None
        self._reference = Reference.of(rows, seed, before)

    # ---- what users call ------------------------------------------------------------------

    def forget_rows(self) -> Self:
        """Drop the sample of training rows that explanations compare with.

        Files that ``save`` writes then hold none of it. Pickles may hold other rows, which
        ``partial_fit`` goes on with, and detectors that measure distances to rows hold those.

        Returns
        -------
        self : object
            The detector. :meth:`explain` and :meth:`repair` need `reference` from now on, and
            ``fit`` and ``partial_fit`` keep rows again.
        """
        check_is_fitted(self)
        return forget_rows(self)

    def repair(
        self, X: ArrayLike, *, groups: ArrayLike | None = None, reference: ArrayLike | None = None
    ) -> Any:
        """Change rows to their nearest normal versions.

        The columns that lower the anomaly score most take the values that they have in training
        rows which are like the row in its other columns: one after another, as long as that is
        worth it, or until the row scores as training rows do. If no columns by themselves achieve
        that, the row becomes one of the training rows nearest to it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        groups : array-like of shape (n_features,), default=None
            Labels of columns that belong together and are changed together, such as those that
            one-hot encoding makes of one. None: each column for itself, and images in square
            patches, 64 at most.
        reference : array-like of shape (n_reference, n_features), default=None
            Normal rows to take values from. None: a sample of the training rows, of 2,000 at most,
            that the detector has kept.

        Returns
        -------
        repaired : ndarray or DataFrame of shape (n_samples, n_features)
            Rows in the units of `X`, each column within the range of the training rows; a frame if
            `X` is one, and flat rows of pixels in [0, 1] of images. A row's version depends on that
            row alone.

        Raises
        ------
        ValueError
            If `groups` has another length than there are columns, or if the detector has kept no
            rows.
        """
        check_is_fitted(self)
        repairs, rows, _ = self._repairs(X, groups, reference)
        return like(X, repairs.repaired(rows))

    def explain(
        self, X: ArrayLike, *, groups: ArrayLike | None = None, reference: ArrayLike | None = None
    ) -> NDArray:
        """Say how much each column raises the anomaly score of a row.

        The score of a row is compared with that of its repaired version: a column's contribution
        is its Shapley value, the mean fall of the anomaly score when the column takes its repaired
        value before, amid and after the other columns that are repaired.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        groups : array-like of shape (n_features,), default=None
            As for :meth:`repair`.
        reference : array-like of shape (n_reference, n_features), default=None
            As for :meth:`repair`.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features) or (n_samples, n_groups)
            Float64, in the unit of :meth:`score_samples`, of columns or, if `groups` are given, of
            groups in the order in which their labels come up. A row's contributions add up to
            ``score_samples(repair(X)) - score_samples(X)``, within a billionth of the scores
            themselves; they are 0 where the row is as its repaired version, and depend on that row
            alone. The contribution of a patch of an image is divided among its pixels by how far
            they are repaired.

        Raises
        ------
        ValueError
            If `groups` has another length than there are columns, or if the detector has kept no
            rows.
        """
        check_is_fitted(self)
        repairs, rows, divided = self._repairs(X, groups, reference)
        repaired = repairs.repaired(rows)
        values = contributions(repairs, rows, repaired)
        return _over_columns(repairs, values, rows, repaired) if divided else values

    # ---- how ------------------------------------------------------------------------------

    def _repairs(
        self, X: ArrayLike, groups: ArrayLike | None, reference: ArrayLike | None
    ) -> tuple[Repairs, NDArray, bool]:
        """Return what repairs rows, the rows (n, d), and whether groups are patches of images."""
        rows, shape = self._validate(X, reset=False), self._shape(reset=False)
        kept = self._reference_or(reference)
        ends = [kept.rows, kept.low, kept.high]
        if shape is not None:
            ends, rows = [_pixels(part) for part in ends], _pixels(rows)
        # In one type, as rounding in a coarser one is no departure from a constant.
        normal, low, high = (part.astype(rows.dtype, copy=False) for part in ends)
        d, divided = rows.shape[1], shape is not None and groups is None
        owner = _patches(shape) if shape is not None and groups is None else codes_of(groups, d)
        units = StandardUnits.of(normal) if shape is None else PixelUnits.identity(d)
        return Repairs(self._score, normal, low, high, owner, units), rows, divided

    def _reference_or(self, reference: ArrayLike | None) -> Reference:
        if reference is not None:
            return Reference.of(self._validate(reference, reset=False), 0)
        kept = self.__dict__.get("_reference")
        if kept is None:
            raise ValueError(
                f"This {type(self).__name__} has kept no training rows: it is a part of another "
                "model, or comes from a file that holds none. Pass normal rows, reference=rows."
            )
        return kept


def _pixels(values: NDArray) -> NDArray:
    return PixelUnits.identity(1).to_standard(values)


def codes_of(groups: ArrayLike | None, d: int) -> NDArray:
    """Numbers (d,) of the groups of `d` columns, from 0 on as their labels come up."""
    if groups is None:
        return np.arange(d)
    labels = np.asarray(groups)
    if labels.shape != (d,):
        raise ValueError(
            f"groups of shape {labels.shape} must have a label for each of {d} columns, the same "
            "one for columns that belong together."
        )
    codes = pd.factorize(labels)[0]
    if (codes < 0).any():
        raise ValueError(f"groups has no label for column {int(codes.argmin())}.")
    return codes


def _patches(shape: Shape) -> NDArray:
    """Numbers (d,) of the patches that pixels of images (C, H, W) lie in."""
    channels, height, width = shape
    side = math.ceil(math.sqrt(height * width / _MOST_PATCHES))
    across = math.ceil(width / side)
    rows, columns = np.arange(height)[:, None] // side, np.arange(width) // side
    return np.broadcast_to(rows * across + columns, (channels, height, width)).reshape(-1)


def _over_columns(repairs: Repairs, values: NDArray, rows: NDArray, repaired: NDArray) -> NDArray:
    """Contributions (n, d) of columns, of those of groups, by how far each is repaired."""
    moved = np.abs(rows.astype(np.float64) - repaired)
    whole = repairs.by_group(moved)
    shares = np.divide(values, whole, out=np.zeros_like(values), where=whole > 0)
    return shares[:, repairs.owner] * moved
