"""Kernels between rows and the maximum mean discrepancy (MMD) of two samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# A kernel is a function of squared distances, elementwise.
Kernel = Callable[[Tensor], Tensor]

# The least scale of a kernel, so that nothing is divided by 0 where all rows are the same.
_TINY = 1e-30

KERNELS = ("rbf", "imq")


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances (n, m) between rows (n, d) and (m, d)."""
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return torch.addmm(lengths, x, y.T, alpha=-2).clamp_min(0)


def median_scale(rows: Tensor) -> Tensor:
    """Median of the squared distances between different rows (n, d), without gradient."""
    return torch.pdist(rows.detach()).median().square().clamp_min(_TINY)


def make_kernel(kind: str, scale: Tensor | float) -> Kernel:
    """Kernel of squared distances s, 1 at s = 0.

    Parameters
    ----------
    kind : {"rbf", "imq"}
        exp(-s / scale), the Gaussian; or scale / (scale + s), the inverse multiquadratic.
    scale : Tensor of shape () or float
        Squared distance that is the unit.
    """
    if kind == "rbf":
        return lambda s: torch.exp(-s / scale)
    return lambda s: scale / (scale + s)


def unbiased_mmd(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Unbiased estimate () of the squared MMD of the distributions of rows (n, d) and (m, d).

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j): a row is
    not compared with itself. Its mean is 0 if both distributions are the same, so it is negative
    about half the time then. Both samples need two rows.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"samples of {len(x)} and {len(y)} rows: each needs at least 2.")
    within = _mean_of_pairs(kernel(squared_distances(x, x)))
    within = within + _mean_of_pairs(kernel(squared_distances(y, y)))
    return within - 2 * kernel(squared_distances(x, y)).mean()


def _mean_of_pairs(values: Tensor) -> Tensor:
    """Mean of a square matrix without its diagonal."""
    n = len(values)
    return (values.sum() - values.diagonal().sum()) / (n * (n - 1))
