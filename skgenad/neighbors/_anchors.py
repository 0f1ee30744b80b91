"""Training rows that are kept to compare with: a uniform sample of bounded size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.kernels import Copies
from skgenad._tensors.tails import resize_buffers


class Anchors(nn.Module):
    """A uniform sample of all rows so far, however they were divided into batches.

    Every row gets a random key, and the rows of the largest keys stay (a reservoir).

    Parameters
    ----------
    n_features : int
        Number of columns.
    most : int
        The most rows to keep.
    """

    rows: Tensor
    keys: Tensor

    def __init__(self, n_features: int, most: int) -> None:
        super().__init__()
        self.most = most
        self.register_buffer("rows", torch.zeros(0, n_features))
        self.register_buffer("keys", torch.zeros(0))
        self._copies: Copies | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def take(self, rows: Tensor) -> None:
        """Add rows (n, d) to those so far, and keep a sample."""
        keys = torch.cat([self.keys, draws.rand(len(rows), device=rows.device)])
        if len(keys) > self.most:
            kept = keys.topk(self.most).indices.sort().values
            old, new = kept[kept < len(self.rows)], kept[kept >= len(self.rows)]
            rows = torch.cat([self.rows[old], rows[new - len(self.rows)]])
            keys = keys[kept]
        else:
            rows = torch.cat([self.rows, rows])
        self.rows, self.keys, self._copies = rows, keys, None

    @torch.no_grad()
    def weigh(self, factor: float) -> None:
        """Let the rows so far count as `factor` times as many, of which they are a sample."""
        self.keys = 1 - (1 - self.keys) / factor

    def places(self, x: Tensor) -> Tensor:
        """Places (n,) of an anchor that equals each row (n, d) in all bits, -1 if none does."""
        if self._copies is None or self._copies.anchors is not self.rows:
            self._copies = Copies(self.rows)
        return self._copies.places(x)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_copies": None}

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        resize_buffers(self, ("rows", "keys"), state_dict, prefix)
        self._copies = None
        super()._load_from_state_dict(state_dict, prefix, *rest)
