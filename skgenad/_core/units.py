"""Standard units: columns centred and scaled in float64 before anything is cast to float32."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .large_tables import Table, pieces_of

# A column counts as constant if its standard deviation is below so many roundings of its mean: all
# that varies in it then is rounding.
_ROUNDINGS = 8
_FLOAT64 = np.dtype(np.float64)
# No type that a table may have rounds as much.
COARSEST = 0.01
# A uniform column's range in standard deviations.
_UNIFORM = np.sqrt(12)
# Pixels may leave [0, 1] by so much, which is taken for rounding and cut off.
PIXEL_TOLERANCE = 1e-5
# Rows are clipped at this many standard units: no score tells rows apart out there, and the square
# is still far below float32's overflow.
_FARTHEST = 1e12


def _rounding(kind: np.dtype) -> float:
    """Relative departure from a constant that is rounding in the type `kind`."""
    return _ROUNDINGS * float(np.finfo(kind).eps)


class ColumnMoments(NamedTuple):
    """What units are made of: moments and ranges of the columns of a table.

    Attributes
    ----------
    unit : ndarray of shape (d,)
        Powers of two near the largest value of each column. All else is in these units, so that
        squares stay inside float64's range; it costs no bit.
    mean, deviation : ndarray of shape (d,)
        Means and standard deviations.
    low, high : ndarray of shape (d,)
        Smallest and largest values.
    """

    unit: NDArray
    mean: NDArray
    deviation: NDArray
    low: NDArray
    high: NDArray

    @classmethod
    def of(cls, X: Table) -> Self:
        """Moments of rows (n, d), which are read in pieces."""
        ends = [(piece.min(axis=0), piece.max(axis=0)) for piece in pieces_of(X)]
        low = np.min([end[0] for end in ends], axis=0).astype(np.float64)
        high = np.max([end[1] for end in ends], axis=0).astype(np.float64)
        unit = np.ldexp(1.0, np.frexp(np.maximum(np.abs(low), np.abs(high)))[1] - 1)
        mean = sum(_scaled(piece, unit).sum(axis=0) for piece in pieces_of(X)) / len(X)
        squares = 0.0
        for piece in pieces_of(X):
            off = _scaled(piece, unit)
            off -= mean
            off *= off
            squares = squares + off.sum(axis=0)
        return cls(unit, mean, np.sqrt(squares / len(X)), low / unit, high / unit)


def _scaled(X: NDArray, unit: NDArray) -> NDArray:
    return np.divide(X, unit, dtype=np.float64)


class StandardUnits:
    """Column-wise (x - mean) / scale with a rule for constant columns.

    Where there is no spread to take as the unit, a value of a column that was the constant c in
    training maps to 0 if it is c, and else to plus or minus 1 + log(1 + |x - c| / |c|), or with
    |x| where c is 0: at least 1, and the larger, the further it is away. Sizes of any order of
    magnitude stay numbers that other columns can be compared with.

    Parameters
    ----------
    mean, scale : ndarray of shape (d,)
        Float64; a scale of 0 marks a constant column.
    tolerance : float, default=0
        Relative departure from a constant that is rounding.
    """

    def __init__(self, mean: NDArray, scale: NDArray, tolerance: float = 0.0) -> None:
        self.mean, self.scale, self.tolerance = mean, scale, tolerance
        # What every request divides by, and where it is nothing to divide by.
        self._constant = np.flatnonzero(scale == 0)
        self._divisor = np.where(scale == 0, 1.0, scale)
        # Where differences may overflow that are not as far away as rows are clipped anyway.
        self._wide = np.flatnonzero(scale > np.finfo(_FLOAT64).max / _FARTHEST)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.mean, self.scale, self.tolerance)

    def __setstate__(self, state: dict[str, Any]) -> None:  # of pickles of before
        StandardUnits.__init__(self, state["mean"], state["scale"], state.get("tolerance", 0.0))

    @classmethod
    def identity(cls, n_features: int) -> Self:
        """Make units that change nothing."""
        return cls(np.zeros(n_features), np.ones(n_features))

    @classmethod
    def of(cls, X: NDArray, mixed: bool = False) -> Self:
        """Units of the training rows (n, d).

        The scale of a column is its standard deviation or, if `mixed`, the geometric mean of that
        and of range / sqrt(12), which are the same for a uniform column. So a column that hardly
        ever leaves one value has a larger scale, and counts for less where it does.
        """
        return cls.from_moments(ColumnMoments.of(X), X.dtype, mixed=mixed)

    @classmethod
    def from_moments(cls, moments: ColumnMoments, kind: np.dtype, mixed: bool = False) -> Self:
        """Units of training rows of the type `kind` that have these moments; see :meth:`of`."""
        tolerance, spread = _rounding(kind), moments.high - moments.low
        scale = moments.deviation
        # Over many rows the rounding of a mean adds up to a deviation; a range has no rounding.
        constant = np.minimum(scale, spread) <= tolerance * np.abs(moments.mean)
        if mixed:
            scale = np.sqrt(scale * (spread / _UNIFORM))
        scale = np.where(constant, 0.0, scale)
        return cls(moments.mean * moments.unit, scale * moments.unit, tolerance)

    def to_standard(self, X: NDArray) -> NDArray:
        """Rows (n, d) in standard units, float32 in C order."""
        constant = self._constant
        with np.errstate(over="ignore"):
            Z = np.subtract(X, self.mean, dtype=np.float64)
            Z /= self._divisor
        if len(wide := self._wide):  # halves, which are exact
            Z[:, wide] = (X[:, wide] / 2.0 - self.mean[wide] / 2) / (self._divisor[wide] / 2)
        if len(constant):
            Z[:, constant] = self._departures(Z[:, constant], np.abs(self.mean[constant]), X.dtype)
        return np.clip(Z, -_FARTHEST, _FARTHEST, out=Z).astype(np.float32, order="C")

    def kept_where_lost(self, other: StandardUnits) -> Self:
        """Take the units of `other` for columns that vary by those alone.

        A sample of rows may hold none of the few in which a column is not the same.
        """
        lost = (self.scale == 0) & (other.scale > 0)
        mean = np.where(lost, other.mean, self.mean)
        return type(self)(mean, np.where(lost, other.scale, self.scale), self.tolerance)

    def seen_from(self, other: StandardUnits) -> tuple[NDArray, NDArray]:
        """Factors and shifts (d,) that take rows from these units to others: factor * z + shift.

        No farther than rows are clipped at, so that moments of rows that were moved stay finite.
        """
        varies = other.scale > 0
        unit = np.where(varies, other.scale, 1.0)
        factor = np.where(varies, self.scale / unit, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            shift = (self.mean - other.mean) / unit
            apart = self.mean / unit - other.mean / unit  # of means near the ends of float64
        shift = np.where(varies, np.where(np.isfinite(shift), shift, apart), 0.0)
        return factor.clip(max=_FARTHEST), np.clip(shift, -_FARTHEST, _FARTHEST)

    def _departures(self, off: NDArray, size: NDArray, kind: np.dtype) -> NDArray:
        """Map distances (n, c) from constants of sizes (c,), in a type, to standard units."""
        unit = np.where(size > 0, size, 1.0)
        # Rows may come in a coarser type than the training rows: the coarser rounding counts. In
        # every type 0 is what it is, but as a difference of other numbers it has their rounding.
        rounding = np.where(size > 0, max(self.tolerance, _rounding(kind)), _rounding(_FLOAT64))
        with np.errstate(over="ignore"):
            distance = np.minimum(np.abs(off) / unit, np.finfo(_FLOAT64).max)
        return np.where(distance <= rounding, 0.0, np.sign(off) * (1 + np.log1p(distance)))

    def from_standard(self, Z: NDArray) -> NDArray:
        """Rows (n, d) in the units of X, float64; what is beyond its range at the range's end."""
        with np.errstate(over="ignore"):
            X = Z.astype(np.float64) * self.scale + self.mean
        if len(wide := self._wide):
            half = Z[:, wide].astype(np.float64) * (self.scale[wide] / 2) + self.mean[wide] / 2
            end = np.finfo(_FLOAT64).max / 2
            X[:, wide] = np.clip(half, -end, end) * 2
        return X

    @property
    def log_scale(self) -> float:
        """Sum of the log scales of columns that vary, which log densities in units of X lose."""
        return float(np.log(self.scale[self.scale > 0]).sum())


class PixelUnits(StandardUnits):
    """Units of pixels: [0, 1], in which uint8 counts 255ths."""

    # The level of each uint8, rounded as the same pixel given in [0, 1] would be.
    _LEVELS = (np.arange(256) / 255).astype(np.float32)

    @classmethod
    def levels(cls, X: NDArray) -> NDArray:
        """Pixels of type uint8 in [0, 1], float32."""
        return np.ascontiguousarray(cls._LEVELS[X])

    def to_standard(self, X: NDArray) -> NDArray:
        """Rows (n, d) in [0, 1], float32."""
        if X.dtype == np.uint8:
            return self.levels(X)
        return np.clip(X, 0, 1).astype(np.float32, order="C", copy=False)
