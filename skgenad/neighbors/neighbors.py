"""The mean distance to the nearest training rows, plain or by the scale of the neighbourhood.

With the nearest training rows x_(1), ..., x_(k) of a row x,

    d_k(x) = (1 / k) sum_j |x - x_(j)|,        l_k(x) = d_k(x) / ((1 / k) sum_j d_k(x_(j))).

The mean is taken, not the k-th distance or the root of the mean square: both detect worse on the
tables that choices are made on. The local form is that of the simplified local outlier factor.
"""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._tensors.device import PreciseModule, precise, shortened
from skgenad._tensors.model import Model
from skgenad._tensors.tails import resize_buffers

from ._search import Search

# Rows whose own distances are computed at once.
_CHUNK = 4096
# Distances in the local form are raised by this share of the mean own distance of training rows, so
# that the scale of a neighbourhood of copies is not 0.
_FLOOR = 1e-3


class NeighborsModel(PreciseModule, Model):
    """Training rows and, for the local form, their own mean distances.

    Parameters
    ----------
    n_features : int
        Number of columns.
    n_neighbors : int
        k.
    local : bool
        Whether distances are divided by those of the neighbourhood.
    max_anchors : int
        The most rows to keep.
    """

    own: Tensor
    floor: Tensor

    def __init__(self, n_features: int, *, n_neighbors: int, local: bool, max_anchors: int) -> None:
        super().__init__()
        self.n_neighbors, self.local = n_neighbors, local
        self.anchors = Search(n_features, max_anchors)
        if local:
            self.register_buffer("own", torch.zeros(0, dtype=torch.float64))
            self.register_buffer("floor", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def finish(self, rows: Tensor, labels: Tensor | None) -> None:
        """Add rows (n, d) to those so far."""
        self.anchors.take(rows)
        if self.local:
            chunks = self.anchors.rows.split(_CHUNK)
            self.own = torch.cat([self._distances(chunk)[0] for chunk in chunks])
            mean = self.own.mean()
            self.floor = _FLOOR * mean.where(mean > 0, torch.ones_like(mean) / _FLOOR)

    def _distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean distances (n,) of rows (n, d) to their neighbours, whose places are (n, k)."""
        distances, places = self.anchors.nearest(x, self.n_neighbors)
        return distances.mean(dim=1), places

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d): the mean distance, or its ratio to the neighbours' own."""
        mean, places = self._distances(x)
        if self.local:
            floor = precise(self.floor)
            mean = (mean + floor) / (precise(self.own)[places].mean(dim=1) + floor)
        return shortened(mean)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        if self.local:
            resize_buffers(self, ("own",), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]


class Neighbors(BaseGenerativeDetector):
    """TODO"""

    trained_by_gradients: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "scale": [StrOptions({"none", "local"})],
        "max_anchors": [Interval(Integral, 2, None, closed="left")],
        **{
            name: allowed
            for name, allowed in BaseGenerativeDetector._parameter_constraints.items()
            if name not in ("batch_size", "verbose", "callbacks")
        },
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        scale: str = "none",
        max_anchors: int = 10_000,
        standardize: str | bool = "auto",
        contamination: float = 0.1,
        calibration_fraction: float = 0.0,
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.scale = scale
        self.max_anchors = max_anchors
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    def _make_module(self, n_features: int) -> NeighborsModel:
        return NeighborsModel(
            n_features,
            n_neighbors=self.n_neighbors,
            local=self.scale == "local",
            max_anchors=self.max_anchors,
        )

    def _stages(self, module: NeighborsModel) -> list[Stage]:
        return []
