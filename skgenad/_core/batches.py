"""Batches of rows: endless, all of one size, each pass over the rows in a new order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from skgenad._tensors import draws
from skgenad._tensors.chunks import LazyRows, Rows

from .large_tables import OF_PIECE

# Batches of an epoch, whatever the number of rows.
STEPS_PER_EPOCH = 50


class RowBatches:
    """Endless batches of exactly `batch_size` rows, each pass over the rows in a new order.

    A batch may end one pass and begin the next, so that its size never changes, however few
    rows there are. Iterating yields the next ``STEPS_PER_EPOCH`` batches, or as many as the
    stage has left.
    """

    def __init__(self, rows: Rows, batch_size: int, n_steps: int) -> None:
        self.rows, self.batch_size, self.left = rows, batch_size, n_steps
        self._order = torch.empty(0, dtype=torch.long, device=rows.device)
        # The first rows in this order, where rows are read: of a file many at once are read faster.
        self._ahead = torch.empty(0)

    @property
    def order(self) -> Tensor:
        """Places of the rows that come next, as far as they have been drawn."""
        return self._order

    def go_on(self, order: Tensor, n_done: int) -> None:
        """Take the place of batches whose next rows are `order`, after so many of them."""
        self._order, self.left = order.to(self._order), self.left - n_done

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(min(STEPS_PER_EPOCH, self.left)):
            self.left -= 1
            yield self._next()

    def _next(self) -> Tensor:
        if len(self._order) < self.batch_size:
            passes = -(-self.batch_size // len(self.rows))
            order = [draws.randperm(len(self.rows), device=self.rows.device) for _ in range(passes)]
            self._order = torch.cat([self._order, *order])
        if isinstance(self.rows, LazyRows) and len(self._ahead) < self.batch_size:
            most = OF_PIECE // self.rows.shape[1] // self.batch_size
            n = self.batch_size * max(1, min(STEPS_PER_EPOCH, self.left + 1, most))
            self._ahead = self.rows[self._order[:n]]
        index, self._order = self._order.split(
            [self.batch_size, len(self._order) - self.batch_size]
        )
        if isinstance(self.rows, Tensor):
            return self.rows.index_select(0, index)
        batch, self._ahead = self._ahead[: self.batch_size], self._ahead[self.batch_size :]
        return batch
