"""One number out of the members': mean, maximum, median, Cauchy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# (n, members) of -log tail probabilities, and weights (members,) whose sum is 1, to (n,).
Combine = Callable[[NDArray, NDArray], NDArray]
# A p-value above this counts as this: near 1 it would outvote any small one (Fang et al., 2023).
_MOST_P = 0.99
# From here on tan((1/2 - p) pi) is 1 / (p pi) to the last digit.
_FAR = 20.0


def weighted(values: NDArray, weights: NDArray) -> NDArray:
    """Weighted sums (n,) of rows (n, members), whose digits depend on that row alone."""
    # A matrix product would add up in an order that depends on the number of rows.
    total = np.zeros(len(values))
    for column, weight in zip(values.T, weights, strict=True):
        total += weight * column
    return total


def mean(tails: NDArray, weights: NDArray) -> NDArray:
    """Weighted mean: with equal weights Fisher's statistic over twice the number of members."""
    return weighted(tails, weights)


def largest(tails: NDArray, weights: NDArray) -> NDArray:
    """Smallest p-value of a member."""
    return tails.max(axis=1)


def median(tails: NDArray, weights: NDArray) -> NDArray:
    """Median member."""
    return np.median(tails, axis=1)


def cauchy(tails: NDArray, weights: NDArray) -> NDArray:
    """Minus log p of the Cauchy combination, T = sum_j w_j tan((1/2 - p_j) pi).

    Under the null T is nearly a standard Cauchy variable, however the members depend on each
    other (Liu and Xie, 2020). Far out, where p is too small for floating point, T is the sum of
    w_j / (p_j pi), and its logarithm is taken instead. Large p-values, of rows more normal than
    most training rows, count as 0.99, so that one member cannot outvote all others; they stay in
    order.
    """
    # A member without weight has no say in which of the two forms is computed.
    tails, weights = tails[:, weights > 0], weights[weights > 0]
    inside = np.clip(tails, 0, _FAR)
    p = np.minimum(np.exp(-inside), _MOST_P)
    statistic = weighted(np.tan((0.5 - p) * math.pi), weights)
    near = -np.log(0.5 - np.arctan(statistic) / math.pi)
    shift = tails.max(axis=1)
    with np.errstate(under="ignore"):
        far = shift + np.log(weighted(np.exp(tails - shift[:, None]), weights))
    order = 1e-9 * weighted(np.minimum(tails + math.log(_MOST_P), 0), weights)
    return np.where(shift > _FAR, far, near + order)


COMBINE: dict[str, Combine] = {
    "mean": mean,
    "max": largest,
    "median": median,
    "cauchy": cauchy,
}
