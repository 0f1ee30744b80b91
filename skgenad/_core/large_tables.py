"""Large tables, of which nothing is copied: their rows are read when training asks for them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Tables of more numbers are large, 32 MB in float64, and are looked at in pieces of so many.
MOST_NUMBERS, OF_PIECE = 2**22, 2**20
# Bytes of a file that are read before they are given back.
_AT_ONCE = 2**24


class SomeRows:
    """Rows of a large table, which are read when they are asked for.

    It has what is done with the rows of a fit: ``len``, ``shape``, slices and arrays of places, and
    single columns, ``rows[:, j]``. numpy makes an array of it where one is needed. Pages of a file
    that a table is mapped to are given back once they have been read.

    Parameters
    ----------
    table : ndarray of shape (n, d)
        The table.
    places : ndarray of shape (m,), default=None
        Places of the rows; None: all of them.
    bounds : dict of int to (float, float), default={}
        Columns whose values are cut off, and where.
    dtype : dtype, default=None
        Type that values are brought to; None: that of the table.
    """

    ndim = 2

    def __init__(
        self,
        table: NDArray,
        places: NDArray | None = None,
        bounds: Mapping[int, tuple[float, float]] | None = None,
        dtype: Any = None,
    ) -> None:
        self.table, self.places, self.bounds = table, places, dict(bounds or {})
        self.dtype = table.dtype if dtype is None else np.dtype(dtype)
        self.shape = (len(table) if places is None else len(places), table.shape[1])
        self._file = _file_of(table)

    @property
    def size(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray:
        if isinstance(key, tuple):
            return self._column(key[1])
        part = self._read(key, slice(None))
        for j, ends in self.bounds.items():
            part[..., j] = np.clip(part[..., j], *ends)
        return part

    def _column(self, j: int) -> NDArray:
        only = slice(j, j + 1)
        column = np.concatenate([self._read(part, only)[:, 0] for part in _parts(self)])
        return np.clip(column, *self.bounds[j]) if j in self.bounds else column

    def _read(self, rows: Any, columns: slice) -> NDArray:
        if self._file is not None:
            if isinstance(rows, slice) and self.places is None:  # all places may be very many
                rows = np.arange(*rows.indices(len(self.table)))
            else:
                rows = (np.arange(len(self)) if self.places is None else self.places)[rows]
            return _read_from_file(self._file, self.table, rows, columns, self.dtype)
        part = self.table[rows if self.places is None else self.places[rows], columns]
        return part if part.dtype == self.dtype and not self.bounds else part.astype(self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.asarray(self[:], dtype=dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return SomeRows, (self.table, self.places, self.bounds, self.dtype)

    def as_array(self) -> NDArray:
        """All rows, not to be written to: the table itself if nothing of it is changed."""
        as_it_is = self.places is None and not self.bounds and self.dtype == self.table.dtype
        return self.table if as_it_is else self[:]

    def at(self, places: NDArray) -> SomeRows:
        """Rows at some places among these."""
        places = places if self.places is None else self.places[places]
        return SomeRows(self.table, places, self.bounds, self.dtype)

    def clipped(self, bounds: Mapping[int, tuple[float, float]]) -> SomeRows:
        """Cut off values of columns beyond these bounds."""
        return SomeRows(self.table, self.places, self.bounds | dict(bounds), self.dtype)


# Rows of a fit, (n, d), whatever the size of the table.
Table = NDArray | SomeRows
SameTable = TypeVar("SameTable", bound=Table)


def _file_of(table: NDArray) -> mmap.mmap | None:
    """Return the mapping of a table's file, if its pages can be given back and read anew.

    Those of a private mapping hold what was written to them.
    """
    base: Any = table
    is_shared = False
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            is_shared = base.mode in ("r", "r+", "w+")
        base = base.base
    is_file = is_shared and isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")
    return base if is_file else None


def _read_from_file(
    file: mmap.mmap, table: NDArray, places: NDArray, columns: slice, dtype: np.dtype
) -> NDArray:
    """Rows of a table in a file, of which no more than `_AT_ONCE` bytes are in memory meanwhile.

    With a value may come those of two megabytes around it.
    """
    table = table[:, columns]
    down, across = map(abs, table.strides)
    width = table.shape[1] if across <= down else max(1, _AT_ONCE // (len(table) * down))
    order = np.argsort(places, kind="stable")
    here = places[order] * down // _AT_ONCE
    rows = np.empty((len(places), table.shape[1]), dtype=dtype)
    for group in np.split(order, np.flatnonzero(np.diff(here)) + 1):
        for start in range(0, table.shape[1], width):
            some = slice(start, start + width)
            rows[group, some] = table[places[group], some]
            file.madvise(mmap.MADV_DONTNEED)
    return rows


def give_back(table: Any) -> None:
    """Give pages of a file back that a table is mapped to, once its rows have been read."""
    file = _file_of(table) if isinstance(table, np.ndarray) else None
    if file is not None:
        file.madvise(mmap.MADV_DONTNEED)


def pieces_of(X: Table) -> Iterator[NDArray]:
    """Split rows (n, d), in their order, into pieces: one, unless the table is large."""
    return (X[part] for part in _parts(X))


def _parts(X: Table) -> list[slice]:
    size = len(X) if X.size <= MOST_NUMBERS else max(1, OF_PIECE // X.shape[1])
    return [slice(start, start + size) for start in range(0, len(X), size)]


def rows_at(X: SameTable, places: NDArray) -> SameTable:
    """Rows at some places; of a large table they are read when they are asked for."""
    rows: Any = X.at(places) if isinstance(X, SomeRows) else X[places]
    return rows


def is_large(X: Any) -> bool:
    """Whether a table is a large one of real numbers, all of one type."""
    if isinstance(X, pd.DataFrame):
        kind = X.dtypes.iloc[0] if X.size and X.dtypes.nunique() == 1 else None
    else:
        kind = X.dtype if isinstance(X, np.ndarray) and X.ndim == 2 else None
    return isinstance(kind, np.dtype) and kind.kind in "biuf" and X.size > MOST_NUMBERS
