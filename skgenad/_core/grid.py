"""Densities on grids of the plane, normalised numerically."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp


def check_axis(name: str, values: ArrayLike) -> NDArray:
    """Return the coordinates of an axis; raise ValueError unless they rise and are 2 at least."""
    axis = np.asarray(values, dtype=np.float64)
    rising = axis.ndim == 1 and len(axis) > 1 and np.isfinite(axis).all()
    if not rising or not (np.diff(axis) > 0).all():
        raise ValueError(
            f"{name} must hold at least 2 finite numbers in rising order, got an array of shape "
            f"{axis.shape}."
        )
    return axis


def grid_points(xs: NDArray, ys: NDArray) -> NDArray:
    """Points (len(ys) * len(xs), 2) of the grid, row by row of constant y."""
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def normalized_on_grid(log_weights: NDArray, xs: NDArray, ys: NDArray) -> NDArray:
    """Log densities (len(ys), len(xs)) of log weights on a grid, with an integral of 1 over it.

    Every point stands for the cell around it; those on an edge count as if the grid went on.
    """
    cells = np.log(np.gradient(ys))[:, None] + np.log(np.gradient(xs))
    return log_weights - logsumexp(log_weights + cells)
