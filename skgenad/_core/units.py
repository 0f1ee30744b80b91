"""Standard units: columns centred and scaled in float64 before anything is cast to float32."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

# A column counts as constant if its standard deviation is below so many roundings of its mean: all
# that varies in it then is rounding.
_ROUNDINGS = 8
# A uniform column's range in standard deviations.
_UNIFORM = np.sqrt(12)
# Pixels may leave [0, 1] by so much, which is taken for rounding and cut off.
PIXEL_TOLERANCE = 1e-5
# Rows are clipped at this many standard units: no score tells rows apart out there, and the square
# is still far below float32's overflow.
_FARTHEST = 1e12


def _rounding(X: NDArray) -> float:
    """Relative departure from a constant that is rounding in the type of `X`."""
    return _ROUNDINGS * float(np.finfo(X.dtype).eps)


class StandardUnits:
    """Column-wise (x - mean) / scale with a rule for constant columns.

    The rule keeps scores free of units where there is no spread to take as the unit: a value of
    a column that was constant in training maps to 0 if it is that constant, and to plus or minus
    1 if it lies above or below it.

    Parameters
    ----------
    mean, scale : ndarray of shape (d,)
        Float64; a scale of 0 marks a constant column.
    tolerance : float, default=0
        Relative departure from a constant that is rounding.
    """

    def __init__(self, mean: NDArray, scale: NDArray, tolerance: float = 0.0) -> None:
        self.mean, self.scale, self.tolerance = mean, scale, tolerance

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
        tolerance = _rounding(X)
        X = X.astype(np.float64, copy=False)
        # Dividing by a power of two keeps squares inside float64's range and costs no bit.
        size = np.abs(X).max(axis=0)
        unit = np.ldexp(1.0, np.frexp(size)[1] - 1)
        mean = (X / unit).mean(axis=0)
        scale, spread = (X / unit).std(axis=0), np.ptp(X / unit, axis=0)
        # Over many rows the rounding of a mean adds up to a deviation; a range has no rounding.
        constant = np.minimum(scale, spread) <= tolerance * np.abs(mean)
        if mixed:
            scale = np.sqrt(scale * (spread / _UNIFORM))
        scale[constant] = 0.0
        return cls(mean * unit, scale * unit, tolerance)

    def to_standard(self, X: NDArray) -> NDArray:
        """Rows (n, d) in standard units, float32."""
        constant = self.scale == 0
        with np.errstate(over="ignore"):
            Z = np.subtract(X, self.mean, dtype=np.float64)
            Z /= np.where(constant, 1.0, self.scale)
        if constant.any():
            # Rows may come in a coarser type than the training rows: the coarser rounding counts.
            jitter = max(self.tolerance, _rounding(X)) * np.abs(self.mean[constant])
            off = Z[:, constant]
            Z[:, constant] = np.where(np.abs(off) <= jitter, 0.0, np.sign(off))
        return np.clip(Z, -_FARTHEST, _FARTHEST, out=Z).astype(np.float32)

    def kept_where_lost(self, other: StandardUnits) -> Self:
        """Take the units of `other` for columns that vary by those alone.

        A sample of rows may hold none of the few in which a column is not the same.
        """
        lost = (self.scale == 0) & (other.scale > 0)
        units = copy.copy(self)
        units.mean = np.where(lost, other.mean, self.mean)
        units.scale = np.where(lost, other.scale, self.scale)
        return units

    def seen_from(self, other: StandardUnits) -> tuple[NDArray, NDArray]:
        """Factors and shifts (d,) that take rows from these units to others: factor * z + shift."""
        varies = other.scale > 0
        unit = np.where(varies, other.scale, 1.0)
        factor = np.where(varies, self.scale / unit, 1.0)
        return factor, np.where(varies, (self.mean - other.mean) / unit, 0.0)

    def from_standard(self, Z: NDArray) -> NDArray:
        """Rows (n, d) in the units of X, float64."""
        return Z.astype(np.float64) * self.scale + self.mean

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
        return cls._LEVELS[X]

    def to_standard(self, X: NDArray) -> NDArray:
        """Rows (n, d) in [0, 1], float32."""
        if X.dtype == np.uint8:
            return self.levels(X)
        return np.clip(X, 0, 1).astype(np.float32, copy=False)
