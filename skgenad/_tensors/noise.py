"""Noise on rows: Gaussian, of one size or of many, and within the levels of pixels."""

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


def dequantized(x: Tensor, n_levels: int, within: Tensor | float) -> Tensor:
    """Move pixels within the cells of their levels: ((L - 1) x + u) / L, in [0, 1).

    With u ~ U(0, 1) what training sees has a density, and levels are where they were: the floor of
    L times the result is (L - 1) x.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Pixels in [0, 1] at one of `n_levels` levels.
    n_levels : int
        L.
    within : Tensor of shape (n, d) or float
        u, the place of each pixel in its cell.
    """
    return ((n_levels - 1) * x + within) / n_levels
