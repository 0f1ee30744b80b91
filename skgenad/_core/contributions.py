"""What each group of columns adds to a score on the way from a row to its repaired version.

Shapley's values of the game in which coalitions of groups take their repaired values: they add up
to the whole difference, groups that are as they were get 0, and where an energy is a sum over
groups, each gets its own term. Among few groups all coalitions are asked; among more, those along
four orders of the groups and their reverses, which is exact for energies of pairs of groups.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .repairs import Repairs, chunks

# Groups of which all coalitions are asked, and the orders that are taken of more.
_MOST_EXACT, _N_ORDERS = 4, 4


def contributions(repairs: Repairs, X: NDArray, repaired: NDArray) -> NDArray:
    """Divide the energies of rows among groups of columns.

    Parameters
    ----------
    repairs : Repairs
        Energies and groups.
    X, repaired : ndarray of shape (n, d)
        Rows, and their repaired versions.

    Returns
    -------
    contributions : ndarray of shape (n, n_groups)
        Float64; a row's sum is its energy less that of its repaired version.
    """
    changed = repairs.by_group((X != repaired).astype(np.intp)) > 0
    counts = changed.sum(axis=1)
    values = np.zeros(changed.shape)
    for m in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == m)
        members = np.nonzero(changed[rows])[1].reshape(len(rows), m)
        for part in chunks(X[rows], len(_plan(m)[0])):
            some = rows[part]
            shares, order = _shared(repairs, X[some], repaired[some], members[part])
            values[some[:, None], order] = shares
    return values


def _shared(
    repairs: Repairs, X: NDArray, repaired: NDArray, members: NDArray
) -> tuple[NDArray, NDArray]:
    """Contributions (n, m) of groups, and their numbers (n, m), for groups (n, m) that change."""
    m = members.shape[1]
    if m > _MOST_EXACT:  # the numbers of columns have no say in the orders
        alone = _energies(repairs, X, repaired, members, np.eye(m, dtype=bool))
        order = np.argsort(alone, axis=1, kind="stable")
        members = np.take_along_axis(members, order, axis=1)
    coalitions, weights = _plan(m)
    energies = _energies(repairs, X, repaired, members, coalitions)
    above = energies - energies[:, :1]
    # A product of matrices would round a row's sums by how many rows there are.
    return (above[:, :, None] * weights).sum(axis=1), members


def _energies(
    repairs: Repairs, X: NDArray, repaired: NDArray, members: NDArray, coalitions: NDArray
) -> NDArray:
    """Energies (n, c) of rows (n, d) in which coalitions (c, m) of groups (n, m) are repaired."""
    n, m = members.shape
    place = np.full((n, repairs.n_groups), m)
    place[np.arange(n)[:, None], members] = np.arange(m)
    # No coalition holds the groups that are no members.
    wide = np.hstack([coalitions, np.zeros((len(coalitions), 1), dtype=bool)])
    is_taken = wide[:, place[:, repairs.owner]].swapaxes(0, 1)
    return repairs.energies(np.where(is_taken, repaired[:, None], X[:, None]))


@cache
def _plan(m: int) -> tuple[NDArray, NDArray]:
    """Coalitions (c, m) of `m` groups, the empty one first, and weights (c, m) of their energies.

    Energies times weights, added up, are the contributions.
    """
    return _all(m) if m <= _MOST_EXACT else _along_orders(m)


def _all(m: int) -> tuple[NDArray, NDArray]:
    coalitions = (np.arange(2**m)[:, None] >> np.arange(m)) % 2 == 1
    sizes = coalitions.sum(axis=1)
    # A group's contribution is taken from coalitions without it to the same ones with it.
    before = np.where(coalitions, sizes[:, None] - 1, sizes[:, None])
    shares = np.array([1 / (m * math.comb(m - 1, size)) for size in range(m)])
    return coalitions, np.where(coalitions, -1, 1) * shares[before]


def _along_orders(m: int) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(m)
    orders = [np.arange(m), *(rng.permutation(m) for _ in range(_N_ORDERS - 1))]
    orders += [order[::-1] for order in orders]
    ranks = np.argsort(orders, axis=1)
    # After t of the m steps of an order the groups of ranks below t are repaired.
    steps = np.arange(m + 1)[:, None]
    coalitions = (ranks[:, None] < steps).reshape(-1, m)
    weights = (1.0 * (ranks[:, None] == steps) - (ranks[:, None] == steps - 1)).reshape(-1, m)
    return coalitions, weights / len(orders)
