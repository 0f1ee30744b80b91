"""What training is given of the rows: without sentinels, and in units of their own."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import NDArray

from .sentinels import without_sentinels
from .units import PixelUnits, StandardUnits


def rows_and_units(
    rows: NDArray, standardize: str | bool, names: Sequence[str] | None, *, pixels: bool = False
) -> tuple[NDArray, StandardUnits]:
    """Return rows (n, d) to train on, and their units.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Training rows.
    standardize : {"auto", "mixed"} or bool
        As detectors have it.
    names : sequence of str or None
        Names of the columns, for warnings.
    pixels : bool, default=False
        Whether columns are pixels, which are bounded and have units already.
    """
    if pixels:
        return rows, PixelUnits.identity(rows.shape[1])
    rows, moments = without_sentinels(rows, names)
    if not standardize:
        return rows, StandardUnits.identity(rows.shape[1])
    return rows, StandardUnits.from_moments(moments, rows.dtype, mixed=standardize == "mixed")
