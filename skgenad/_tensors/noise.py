"""Gaussian noise on rows, of one size or of many."""

from __future__ import annotations

import torch
from torch import Tensor

from . import draws

# A standard deviation, or an interval of them.
Noise = float | tuple[float, float]
# The share of rows that are left as they are where the others' noise is of many sizes.
_CLEAN = 0.5


def noisy(x: Tensor, noise: Noise) -> Tensor:
    """Add noise to the rows (n, d) of a batch.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows.
    noise : float or (float, float)
        Standard deviation; or an interval (low, high): each row is left as it is, with a
        probability of one half, or gets noise whose standard deviation is drawn log-uniformly from
        it.
    """
    if not isinstance(noise, tuple):
        return x + noise * draws.randn_like(x) if noise else x
    low, high = noise
    draw = draws.rand(len(x), 1, device=x.device, dtype=x.dtype)
    sigma = low * (high / low) ** ((draw - _CLEAN) / (1 - _CLEAN))
    return x + torch.where(draw < _CLEAN, 0.0, sigma) * draws.randn_like(x)
