"""Training rows that are kept to compare with: a uniform sample of bounded size."""

from __future__ import annotations

import torch
from torch import Tensor

from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows
from skgenad._tensors.derived import DerivingModule
from skgenad._tensors.device import precise
from skgenad._tensors.kernels import Copies
from skgenad._tensors.tails import resize_buffers


class Anchors(DerivingModule):
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

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def take(self, rows: Rows) -> None:
        """Add rows (n, d) to those so far, and keep a sample."""
        keys = torch.cat([self.keys, draws.rand(len(rows), device=rows.device)])
        if len(keys) > self.most:
            kept = keys.topk(self.most).indices.sort().values
            old, new = kept[kept < len(self.rows)], kept[kept >= len(self.rows)]
            rows = torch.cat([self.rows[old], rows[new - len(self.rows)]])
            keys = keys[kept]
        else:
            rows = torch.cat([self.rows, rows[:]])
        self.rows, self.keys = rows, keys
        self.forget()

    @property
    def precise_rows(self) -> Tensor:
        """The anchors in float64, where their device has it."""
        return self.derived("precise rows", lambda: precise(self.rows))

    @property
    def squared_lengths(self) -> Tensor:
        """Squared lengths (m,) of the precise anchors."""
        return self.derived("lengths", lambda: self.precise_rows.square().sum(dim=1))

    @torch.no_grad()
    def weigh(self, factor: float) -> None:
        """Let the rows so far count as `factor` times as many, of which they are a sample."""
        self.keys = 1 - (1 - self.keys) / factor

    def places(self, x: Tensor) -> Tensor:
        """Places (n,) of an anchor that equals each row (n, d) in all bits, -1 if none does."""
        return self.derived("copies", lambda: Copies(self.rows)).places(x)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        resize_buffers(self, ("rows", "keys"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)
