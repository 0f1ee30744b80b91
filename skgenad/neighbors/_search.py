"""The nearest of the training rows, without the row itself where it is one of them."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ._anchors import Anchors


class Search(Anchors):
    """Anchors among which the nearest ones of a row are found, by scikit-learn's trees."""

    def __init__(self, n_features: int, most: int) -> None:
        super().__init__(n_features, most)
        self._trees: tuple[Tensor, NearestNeighbors] | None = None

    def _tree(self) -> NearestNeighbors:
        if self._trees is None or self._trees[0] is not self.rows:
            rows = self.rows.cpu().numpy().astype(np.float64)
            self._trees = self.rows, NearestNeighbors().fit(rows)
        return self._trees[1]

    def nearest(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and places, (n, k), of the anchors nearest to rows (n, d), nearest first.

        An anchor that equals the row counts as the row itself and is left out, one of them if
        there are several. With fewer than k + 1 anchors k is what remains.
        """
        k = max(1, min(k, len(self) - 1))
        wanted = min(k + 1, len(self))
        rows = x.detach().cpu().numpy().astype(np.float64)
        distances, places = (
            torch.from_numpy(found).to(x.device)
            for found in self._tree().kneighbors(rows, n_neighbors=wanted)
        )
        if wanted == k:
            return distances, places
        itself = (self.places(x) >= 0)[:, None]
        return (
            torch.where(itself, distances[:, 1:], distances[:, :-1]),
            torch.where(itself, places[:, 1:], places[:, :-1]),
        )

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_trees": None}
