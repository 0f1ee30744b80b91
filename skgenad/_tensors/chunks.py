"""Rows in chunks, for passes in which all at once would not fit into memory."""

from __future__ import annotations

from torch import Tensor

# The most rows, and the most numbers in them, of a pass without gradients: a row of an image has
# many numbers, and the maps made of it have more.
_MOST_ROWS, _MOST_NUMBERS = 4096, 2**20


def chunks_of(rows: Tensor) -> tuple[Tensor, ...]:
    """Split rows (n, d) into chunks for passes that need no gradient."""
    return rows.split(max(1, min(_MOST_ROWS, _MOST_NUMBERS // rows.shape[1])))
