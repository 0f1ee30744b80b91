"""Sliced Wasserstein distance of two samples, and draws from the prior that P-WAE holds against."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from skgenad._tensors import draws


def random_directions(n: int, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Draw `n` directions (n, dim), uniformly from the unit sphere."""
    return F.normalize(draws.randn(n, dim, device=device), dim=1)


def student_t(nu: float, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Draw from Student's t of `nu` degrees of freedom by Bailey's polar method (1994).

    The method uses uniform numbers alone, which every device can draw.
    """
    # torch draws from [0, 1); 1 - U is in (0, 1], where the logarithm is finite.
    u, v = 1 - draws.rand(*shape, device=device), draws.rand(*shape, device=device)
    radius = (nu * (u.pow(-2 / nu) - 1)).sqrt()
    return radius * (2 * math.pi * v).cos()


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, p: int = 2) -> Tensor:
    """Mean over directions of W_p^p between the projections of two samples (P-WAE, eq. 17 and 18).

    In one dimension the best transport sorts both samples: W_p^p is the mean of
    |x_(i) - y_(i)|^p.

    Parameters
    ----------
    x, y : Tensor of shape (n, ..., d)
        Samples of as many rows; the axes between are samples of their own.
    directions : Tensor of shape (m, d)
        Directions of length 1.
    p : int, default=2
        Order of the distance.

    Returns
    -------
    Tensor of shape (...)
        A distance for each pair of samples.
    """
    gap = (x @ directions.T).sort(dim=0).values - (y @ directions.T).sort(dim=0).values
    return gap.abs().pow(p).mean(dim=(0, -1))
