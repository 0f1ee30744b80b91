"""The nearest normal version of a row: a few columns take values of rows that are like the rest.

Of a row x, a group g of columns may take the values that it has in the normal rows x' nearest to x
in the *other* groups, by the sum of roots of distances,

    sum_{h != g} |x_h - x'_h|^(1/2),

in which a column that is far off counts little more than one that is off: so one wrong column does
not lead to the wrong neighbours of another. The group whose replacement lowers the energy most is
replaced, and so on, with neighbours found anew, as long as that is worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skgenad._tensors.tails import MOST_ENERGY

from .units import StandardUnits

# Neighbours whose middle value is taken.
_NEIGHBORS = 5
# A row that scores as normal ones do is changed further while a group lowers the energy by this
# share of what was lowered before.
_WORTH = 0.05
# Such a row's energy is no higher than those of this share of some of the normal rows.
_NORMAL_SHARE, _SOME = 0.9, 256
# Changes of a row at most, and the groups that are tried for each of them but the first.
_MOST_CHANGES, _MOST_TRIED = 32, 64
# Numbers in the rows that are scored at once.
_AT_ONCE = 2**22


@dataclass(frozen=True)
class Repairs:
    """Repairs rows by their scores and by normal rows.

    Parameters
    ----------
    score : callable
        Maps rows (n, d) to scores (n,), high for normal rows, each by that row alone.
    rows : ndarray of shape (m, d)
        Normal rows.
    low, high : ndarray of shape (d,)
        Ends of the ranges that repaired rows keep to.
    owner : ndarray of shape (d,)
        Number of the group that a column belongs to, from 0 on.
    units : StandardUnits
        Those in which distances are taken.
    """

    score: Callable[[NDArray], NDArray]
    rows: NDArray
    low: NDArray
    high: NDArray
    owner: NDArray
    units: StandardUnits

    @cached_property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.owner.max()) + 1

    @cached_property
    def level(self) -> float:
        """Energy up to which a row scores as normal ones do."""
        places = np.unique(np.linspace(0, len(self.rows) - 1, _SOME).astype(int))
        return float(np.quantile(self.energy(self.rows[places]), _NORMAL_SHARE))

    def energy(self, X: NDArray) -> NDArray:
        """Energies (n,) of rows (n, d), finite."""
        return np.nan_to_num(
            -self.score(X), nan=MOST_ENERGY, posinf=MOST_ENERGY, neginf=-MOST_ENERGY
        )

    def energies(self, X: NDArray) -> NDArray:
        """Energies (n, k) of rows (n, k, d)."""
        return self.energy(X.reshape(-1, X.shape[2])).reshape(X.shape[:2])

    def by_group(self, values: NDArray) -> NDArray:
        """Add up values of columns (n, d) by groups, (n, n_groups)."""
        if self.n_groups == len(self.owner):
            return values
        return np.add.reduceat(values[:, self._sorted], self._starts, axis=1)

    @cached_property
    def _sorted(self) -> NDArray:
        return np.argsort(self.owner, kind="stable")

    @cached_property
    def _starts(self) -> NDArray:
        return np.searchsorted(self.owner[self._sorted], np.arange(self.n_groups))

    @cached_property
    def _standard(self) -> NDArray:
        return self.units.to_standard(self.rows)

    # ---- repair ---------------------------------------------------------------------------

    def repaired(self, X: NDArray) -> NDArray:
        """Repaired rows (n, d) of rows (n, d)."""
        return np.concatenate([self._repaired(X[part]) for part in chunks(X, self.n_groups)])

    def _repaired(self, X: NDArray) -> NDArray:
        Z = np.clip(X, self.low, self.high)
        before, now = self.energy(X), self.energy(Z)
        left = np.arange(len(X))
        groups = np.tile(np.arange(self.n_groups), (len(X), 1))
        for _ in range(min(self.n_groups, _MOST_CHANGES)):
            falls, places = self._falls(Z[left], now[left], groups)
            order = np.argsort(-falls, axis=1, kind="stable")
            fall, place, group = (_along(a, order[:, :1])[:, 0] for a in (falls, places, groups))
            is_worth = fall > _WORTH * (before[left] - now[left])
            goes_on = (fall > 0) & (is_worth | (now[left] > self.level))
            groups = _along(groups, order[:, 1 : 1 + _MOST_TRIED])[goes_on]
            left, place, group = left[goes_on], place[goes_on], group[goes_on]
            if not len(left):
                break
            Z[left] = np.where(self.owner == group[:, None], self.rows[place], Z[left])
            now[left] = now[left] - fall[goes_on]
        self._take_whole_rows(Z, now)
        return Z

    def _falls(self, Z: NDArray, now: NDArray, groups: NDArray) -> tuple[NDArray, NDArray]:
        """How far energies `now` (n,) of rows (n, d) fall for each of some groups (n, t).

        Also the places (n, t) of the normal rows whose values a group takes.
        """
        z = self.units.to_standard(Z)
        pairs = zip(z, groups, strict=True)
        places = np.stack([self._middle(some, self._near(row, some)) for row, some in pairs])
        is_replaced = self.owner == groups[:, :, None]
        changed = np.where(is_replaced, self.rows[places], Z[:, None])
        return now[:, None] - self.energies(changed), places

    def _take_whole_rows(self, Z: NDArray, now: NDArray) -> None:
        """Let rows (n, d) that no group makes normal be one of the nearest normal rows.

        Far from all rows an energy may be flat, and no single change lowers it.
        """
        stuck = np.flatnonzero(now > self.level)
        if not len(stuck):
            return
        places = np.stack([self._nearest(row) for row in self.units.to_standard(Z[stuck])])
        energies = self.energies(self.rows[places])
        best = energies.argmin(axis=1)
        better = energies.min(axis=1) < now[stuck]
        Z[stuck[better]] = self.rows[_along(places, best[:, None])[:, 0][better]]

    # ---- neighbours -----------------------------------------------------------------------

    def _distances(self, row: NDArray) -> NDArray:
        """Roots (m, n_groups) of distances of normal rows from a row (d,)."""
        return np.sqrt(np.sqrt(self.by_group(np.square(self._standard - row))))

    def _near(self, row: NDArray, groups: NDArray) -> NDArray:
        """Places (t, k) of the normal rows near a row (d,) without each of some groups (t,)."""
        distances = self._distances(row)
        if self.n_groups == 1:  # there is nothing to be near in
            return np.arange(len(distances))[None]
        total = distances.sum(axis=1)
        return _smallest(total - distances.T[groups], total == 0)

    def _nearest(self, row: NDArray) -> NDArray:
        """Places (k,) of the normal rows near a row (d,)."""
        total = self._distances(row).sum(axis=1)
        return _smallest(total[None].copy(), total == 0)[0]

    def _middle(self, groups: NDArray, near: NDArray) -> NDArray:
        """Places (t,) of those among normal rows (t, k) whose values of each group are amid all."""
        k = near.shape[1]
        columns = self._sorted[self._starts[groups]]
        order = np.argsort(self._standard[near, columns[:, None]], axis=1, kind="stable")
        places = _along(near, order[:, (k - 1) // 2][:, None])[:, 0]
        for t in np.flatnonzero(np.bincount(self.owner)[groups] > 1):
            values = self._standard[near[t]][:, self.owner == groups[t]]
            apart = np.abs(values[:, None] - values).sum(axis=(1, 2))
            places[t] = near[t, apart.argmin()]
        return places


def chunks(X: NDArray, most: int) -> Iterator[slice]:
    """Parts of rows (n, d), of each of which `most` versions or more can be scored at once."""
    size = max(1, _AT_ONCE // (X.shape[1] * max(most, 16)))
    return (slice(start, start + size) for start in range(0, len(X), size))


def _along(values: NDArray, places: NDArray) -> NDArray:
    return np.take_along_axis(values, places, axis=1)


def _smallest(distances: NDArray, is_itself: NDArray) -> NDArray:
    """Places (t, k) of the smallest distances (t, m), which are changed.

    A training row must not be its own neighbour.
    """
    k = min(_NEIGHBORS, max(1, int((~is_itself).sum())))
    distances[:, is_itself] = np.inf
    return np.argpartition(distances, k - 1, axis=1)[:, :k]
