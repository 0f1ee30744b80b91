"""Rows in chunks, for passes in which all at once would not fit into memory, or read so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

# The most rows, and the most numbers in them, of a pass without gradients: a row of an image has
# many numbers, and the maps made of it have more.
_MOST_ROWS, _MOST_NUMBERS = 4096, 2**20
# Of rows that are read, what is made of them is kept if it has no more numbers than this.
MOST_MADE = 2**22


class LazyRows:
    """Rows (n, d) on the CPU that are read when they are asked for.

    It has what training uses of a Tensor: ``len``, ``shape``, ``device``, rows by their places,
    chunks. All rows at once are ``rows[:]``.

    Parameters
    ----------
    read : callable
        Maps places (m,) to rows (m, d).
    shape : (int, int)
        Numbers of rows and of columns.
    """

    device = torch.device("cpu")

    def __init__(self, read: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
        self._read, self.shape = read, tuple(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, Tensor):
            return self._read(key)
        if isinstance(key, slice):
            return self._read(torch.arange(*key.indices(len(self))))
        return self._read(torch.tensor([key]))[0]

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Rows (m, d) at places (m,); `dim` is 0."""
        return self._read(index)

    def split(self, size: int) -> Iterator[Tensor]:
        """Chunks of at most `size` rows, one after another."""
        return map(self._read, torch.arange(len(self)).split(size))

    def at(self, places: Tensor) -> LazyRows:
        """Rows at places (m,), read when they are asked for, too."""
        return LazyRows(lambda index: self._read(places[index]), (len(places), self.shape[1]))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Rows:
        """Rows (n, d') as a function makes them of these, row by row; lazy if they are many."""

        def read(index: Tensor) -> Tensor:
            return function(self._read(index))

        made = LazyRows(read, (len(self), read(torch.arange(1)).shape[1]))
        if math.prod(made.shape) > MOST_MADE:
            return made
        return torch.cat(list(chunks_of(made)))

    def beside(self, columns: Tensor) -> LazyRows:
        """Rows with one more column of values (n,)."""

        def read(index: Tensor) -> Tensor:
            rows = self._read(index)
            return torch.column_stack([rows, columns[index].to(rows)])

        return LazyRows(read, (len(self), self.shape[1] + 1))


Rows = Tensor | LazyRows


def chunk_length(rows: Rows) -> int:
    """Return how many rows (n, d) a pass takes that needs no gradient."""
    return max(1, min(_MOST_ROWS, _MOST_NUMBERS // rows.shape[1]))


def chunks_of(rows: Rows) -> Any:
    """Split rows (n, d) into chunks for passes that need no gradient; one after another if lazy."""
    return rows.split(chunk_length(rows))


def rows_at(rows: Rows, places: Tensor | slice) -> Rows:
    """Rows at some places, lazy if the others are."""
    if isinstance(rows, Tensor):
        return rows[places]
    return rows if isinstance(places, slice) else rows.at(places)


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of all parts, one after another; lazy if a part is."""
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == len(parts):
        return torch.cat(tensors)
    starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)
    like = parts[0][:1]

    def read(index: Tensor) -> Tensor:
        rows = like.new_empty(len(index), like.shape[1])
        for part, start, end in zip(parts, starts[:-1], starts[1:], strict=True):
            here = (index >= start) & (index < end)
            if here.any():
                rows[here] = part.index_select(0, index[here] - start)
        return rows

    return LazyRows(read, (int(starts[-1]), parts[0].shape[1]))


def extremes(rows: Rows) -> tuple[Tensor, Tensor]:
    """Smallest and largest values (d,) of the columns of rows (n, d)."""
    if isinstance(rows, Tensor):
        return rows.amin(dim=0), rows.amax(dim=0)
    ends = [(chunk.amin(dim=0), chunk.amax(dim=0)) for chunk in chunks_of(rows)]
    low, high = (torch.stack(end) for end in zip(*ends, strict=True))
    return low.amin(dim=0), high.amax(dim=0)


def mean_square(rows: Rows) -> Tensor:
    """Mean () of the squares of all values of rows (n, d)."""
    if isinstance(rows, Tensor):
        return rows.square().mean()
    total = sum(chunk.double().square().sum() for chunk in chunks_of(rows))
    return (total / (len(rows) * rows.shape[1])).float()
