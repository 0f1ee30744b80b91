"""What training is given of the rows: without sentinels, in units of their own, on a device.

Of large tables nothing is copied: rows are read when training asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skgenad._tensors.chunks import LazyRows, Rows

from .sentinels import without_sentinels
from .units import PixelUnits, StandardUnits

# Tables of more numbers are large: 32 MB in float32.
MOST_NUMBERS = 2**23


class SomeRows:
    """Some rows of a large table, which are read when they are asked for.

    It has what is done with the rows of a fit: ``len``, ``shape``, slices and arrays of places, and
    single columns, ``rows[:, j]``. numpy makes an array of all rows of it where one is needed.

    Parameters
    ----------
    table : ndarray of shape (n, d)
        The table.
    places : ndarray of shape (m,) or None
        Places of the rows; None: all of them.
    bounds : dict of int to (float, float), default={}
        Columns whose values are cut off, and where.
    """

    ndim = 2

    def __init__(
        self,
        table: NDArray,
        places: NDArray | None,
        bounds: dict[int, tuple[float, float]] | None = None,
    ) -> None:
        self.table, self.places, self.bounds = table, places, bounds or {}
        self.dtype = table.dtype
        self.shape = (len(table) if places is None else len(places), table.shape[1])

    @property
    def size(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray:
        if isinstance(key, tuple):  # a column of all rows
            column = self.table[:, key[1]] if self.places is None else self.table[self.places, key[1]]
            return np.clip(column, *self.bounds[key[1]]) if key[1] in self.bounds else column
        rows = self.table[key if self.places is None else self.places[key]]
        if self.bounds:
            rows = rows.copy()
            for j, (low, high) in self.bounds.items():
                rows[:, j] = np.clip(rows[:, j], low, high)
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.asarray(self[:], dtype=dtype)

    def clipped(self, bounds: dict[int, tuple[float, float]]) -> SomeRows:
        """Cut off values of columns beyond these bounds."""
        return SomeRows(self.table, self.places, bounds)


def large(table: Any, places: NDArray | None = None) -> Any:
    """Return rows of a table: as an array, or if they are many as :class:`SomeRows`."""
    if isinstance(table, SomeRows) or table.size <= MOST_NUMBERS:
        return table if places is None else table[places]
    return SomeRows(table, places)


def in_standard_units(rows: Any, units: StandardUnits, device: torch.device) -> Rows:
    """Return rows (n, d) in standard units on a device; of a large table, on the CPU, lazily."""
    if not isinstance(rows, SomeRows):
        return torch.from_numpy(units.to_standard(rows)).to(device)
    if device.type == "cpu":
        return LazyRows(
            lambda index: torch.from_numpy(units.to_standard(rows[index.numpy()])), len(rows)
        )
    whole = torch.empty(rows.shape, device=device)
    size = max(1, MOST_NUMBERS // rows.shape[1])
    for start in range(0, len(rows), size):
        piece = units.to_standard(rows[start : start + size])
        whole[start : start + size] = torch.from_numpy(piece)
    return whole


def rows_and_units(
    rows: Any, standardize: str | bool, names: Sequence[str] | None, *, pixels: bool = False
) -> tuple[Any, StandardUnits]:
    """Return rows (n, d) to train on, and their units.

    Parameters
    ----------
    rows : ndarray or SomeRows of shape (n, d)
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
