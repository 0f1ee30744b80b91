"""The nearest of the training rows, without the row itself where it is one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from skgenad._tensors.device import on_device

from ._anchors import Anchors

# With more columns, or fewer anchors, a tree looks at all anchors, and is slower than without one.
_MOST_OF_A_TREE, _FEWEST_OF_A_TREE = 15, 12
# Squared distances by products of matrices are wrong by less than this share of squared lengths.
_ROUNDING = 1e-12


class _Found(NamedTuple):
    """Rows that were asked for last, and what was found: (n, d), and twice (n, k)."""

    rows: Tensor
    distances: Tensor
    places: Tensor

    def first(self, k: int) -> tuple[Tensor, Tensor]:
        return self.distances[:, :k], self.places[:, :k]


class Search(Anchors):
    """Anchors among which the nearest ones of a row are found, by scikit-learn's trees.

    What was found last is kept for models that share a search; see :func:`share`.
    """

    def __init__(self, n_features: int, most: int) -> None:
        super().__init__(n_features, most)
        self.most_neighbors = 0
        self._last: _Found | None = None

    def nearest(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and places, (n, k), of the anchors nearest to rows (n, d), nearest first.

        An anchor that equals the row counts as the row itself and is left out, one of them if
        there are several. With fewer than k + 1 anchors k is what remains.
        """
        k = max(1, min(k, len(self) - 1))
        last = self._last
        if last is not None and last.distances.shape[1] >= k and torch.equal(last.rows, x):
            return last.first(k)
        found = self._query(x, max(k, min(self.most_neighbors, len(self) - 1)))
        if self.most_neighbors:
            self._last = found
        return found.first(k)

    def _query(self, x: Tensor, k: int) -> _Found:
        wanted = min(k + 1, len(self))
        rows = x.detach().cpu().numpy().astype(np.float64)
        found = self._found_by_tree(rows, wanted)
        distances, places = on_device(found[0], x.device), torch.from_numpy(found[1]).to(x.device)
        if wanted > k:
            kept = _all_but(self._column_of_itself(x, places), wanted)
            distances, places = distances.gather(1, kept), places.gather(1, kept)
        return _Found(x, distances, places)

    def _found_by_tree(self, rows: NDArray, k: int) -> tuple[NDArray, NDArray]:
        """Distances and places, (n, k), of the k nearest anchors; of equally near ones the first.

        Without a tree scikit-learn multiplies matrices, whose rounding depends on the rows beside
        one. It has no say here: where it could choose other neighbours, differences are taken.
        """
        tree = self.derived("tree", self._fitted_tree)
        if tree.algorithm != "brute" or k == len(self):
            return tree.kneighbors(rows, n_neighbors=k)
        distances, places = tree.kneighbors(rows, n_neighbors=k + 1)
        order = np.lexsort((places, distances), axis=1)
        distances, places = (np.take_along_axis(a, order, axis=1) for a in (distances, places))
        anchors = self.rows.cpu().numpy().astype(np.float64)
        size = np.square(rows).sum(axis=1) + np.square(anchors).sum(axis=1).max()
        unsure = distances[:, k] ** 2 - distances[:, k - 1] ** 2 <= _ROUNDING * size
        if unsure.any():
            distances[unsure, :k], places[unsure, :k] = _nearest_by_differences(
                rows[unsure], anchors, k
            )
        return distances[:, :k], places[:, :k]

    def _column_of_itself(self, x: Tensor, places: Tensor) -> Tensor:
        """Columns (n,) of `places` (n, k + 1) to leave out: the row itself, or else the last."""
        itself = self.places(x)
        is_there = places == itself[:, None]
        # Among many copies of a row its own place need not be found: any copy is as good.
        column = is_there.int().argmax(dim=1)
        return column.where(itself >= 0, places.shape[1] - 1)

    def _fitted_tree(self) -> NearestNeighbors:
        n, d = self.rows.shape
        algorithm = "brute" if d > _MOST_OF_A_TREE or n < _FEWEST_OF_A_TREE else "kd_tree"
        rows = self.rows.cpu().numpy().astype(np.float64)
        return NearestNeighbors(algorithm=algorithm).fit(rows)

    def forget(self) -> None:
        """Search anew from now on."""
        super().forget()
        self._last = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_last": None}


def _nearest_by_differences(rows: NDArray, anchors: NDArray, k: int) -> tuple[NDArray, NDArray]:
    """Distances and places, (n, k), of the nearest anchors; of equally near ones the first."""
    # Where many distances are the same, so are many rows.
    rows, which = np.unique(rows, axis=0, return_inverse=True)
    distances, places = np.empty((len(rows), k)), np.empty((len(rows), k), dtype=np.int64)
    for i in range(len(rows)):
        of_row = cdist(rows[i : i + 1], anchors)[0]
        near = np.flatnonzero(of_row <= np.partition(of_row, k - 1)[k - 1])
        places[i] = near[np.argsort(of_row[near], kind="stable")[:k]]
        distances[i] = of_row[places[i]]
    which = which.reshape(-1)
    return distances[which], places[which]


def _all_but(column: Tensor, n: int) -> Tensor:
    """Numbers of all of `n` columns but one, (rows, n - 1), given which, (rows,)."""
    numbers = torch.arange(n - 1, device=column.device).expand(len(column), -1)
    return numbers + (numbers >= column[:, None])


def share(models: Iterable[Any]) -> None:
    """Give models with equal anchors one search, so that neighbours are looked for once.

    Parameters
    ----------
    models : iterable of detectors
        Fitted; those that search among no anchors stay as they are.
    """
    shared: list[Search] = []
    for model in models:
        module: Any = getattr(model, "module_", None)
        own = getattr(module, "anchors", None)
        if not isinstance(own, Search):
            continue
        # A search keeps as many rows as its model asks for, in later training as well.
        same = (s for s in shared if s.most == own.most and s.rows.device == own.rows.device)
        search = next((s for s in same if torch.equal(s.rows, own.rows)), own)
        search.most_neighbors = max(search.most_neighbors, module.n_neighbors)
        module.anchors = search
        if search is own:
            shared.append(own)
