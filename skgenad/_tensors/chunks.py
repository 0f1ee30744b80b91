"""Rows in pieces, where all at once would be too many."""

from __future__ import annotations

from torch import Tensor

# Rows, and numbers in them, of a pass that needs no gradient: images are wide, their maps wider.
_MOST_ROWS, _MOST_NUMBERS = 4096, 2**20


def chunks_of(rows: Tensor) -> tuple[Tensor, ...]:
    """Split rows (n, d) into chunks for passes that need no gradient."""
    return rows.split(max(1, min(_MOST_ROWS, _MOST_NUMBERS // rows.shape[1])))
