"""How a sample in the plane lies to another and to the modes of the eight Gaussians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sliced_wasserstein(a: NDArray, b: NDArray, n_directions: int = 100) -> float:
    """Distance of order 2 between two samples of one size, over directions evenly spread."""
    angles = np.pi * np.arange(n_directions) / n_directions
    directions = np.stack([np.cos(angles), np.sin(angles)])
    gaps = np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0)
    return float(np.sqrt((gaps**2).mean()))


def mode_shares(x: NDArray, weights: NDArray | None = None) -> NDArray:
    """Share of rows, weighted or not, that are nearest to each of the eight means."""
    angles = np.pi / 4 * np.arange(8)
    means = 2 * np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    nearest = ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, weights, minlength=8)
    return counts / counts.sum()
