"""Mahalanobis distance to a Gaussian fitted to the training rows nearest to a row.

With mean m and covariance S of the k nearest training rows of x, in d columns,

    energy(x)^2 = (x - m)^T Sigma^-1 (x - m),      Sigma = (1 - s) S + s (tr S / d) I.

The neighbourhood says in which directions normal rows vary, and how far.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skgenad._core.checks import Interval
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._tensors.device import PreciseModule, precise, shortened
from skgenad._tensors.model import Model

from ._search import Search

# The most numbers in the neighbourhoods that are held at once.
_MOST_NUMBERS = 2**22
# Anchors by whose neighbourhoods the smallest variance is set, and its share of their mean.
_SOME, _FLOOR = 1000, 1e-6


class LocalGaussianModel(PreciseModule, Model):
    """Training rows, and the smallest variance of a neighbourhood.

    Parameters
    ----------
    n_features : int
        Number of columns, d.
    n_neighbors : int
        k.
    shrinkage : float
        s, in (0, 1].
    max_anchors : int
        The most rows to keep.
    """

    floor: Tensor

    def __init__(
        self, n_features: int, *, n_neighbors: int, shrinkage: float, max_anchors: int
    ) -> None:
        super().__init__()
        self.n_neighbors, self.shrinkage = n_neighbors, shrinkage
        self.anchors = Search(n_features, max_anchors)
        self.register_buffer("floor", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def finish(self, rows: Tensor, labels: Tensor | None) -> None:
        """Add rows (n, d) to those so far."""
        self.anchors.take(rows)
        some = self.anchors.rows[:_SOME]
        variances = [self._neighbourhoods(x)[2] for x in some.split(self._chunk)]
        mean = torch.cat(variances).mean()
        self.floor = (_FLOOR * mean).where(mean > 0, torch.ones_like(mean))

    @property
    def _chunk(self) -> int:
        """Rows whose neighbourhoods are held at once."""
        return max(1, _MOST_NUMBERS // (self.n_neighbors * self.anchors.rows.shape[1]))

    def _neighbourhoods(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means (n, d), deviations (n, k, d) from them and mean variances (n,) around rows."""
        _, places = self.anchors.nearest(x, self.n_neighbors)
        near = precise(self.anchors.rows)[places]
        mean = near.mean(dim=1)
        deviations = near - mean[:, None]
        return mean, deviations, deviations.square().mean(dim=(1, 2))

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d): the Mahalanobis distances."""
        return shortened(torch.cat([self._distances(chunk) for chunk in x.split(self._chunk)]))

    def _distances(self, x: Tensor) -> Tensor:
        mean, deviations, variances = self._neighbourhoods(x)
        offset = precise(x) - mean
        isotropic = self.shrinkage * variances + precise(self.floor)
        factor = (1 - self.shrinkage) / deviations.shape[1]
        return _squared(offset, deviations, factor, isotropic).clamp_min(0).sqrt()


def _squared(offset: Tensor, deviations: Tensor, factor: float, isotropic: Tensor) -> Tensor:
    """Squared distances (n,) by the covariances factor * Z^T Z + isotropic * I.

    Of Z (n, k, d) the smaller product is solved with: d x d, or k x k by Woodbury's identity.
    """
    _, k, d = deviations.shape
    if d <= k:
        matrix = factor * deviations.mT @ deviations
        matrix.diagonal(dim1=1, dim2=2).add_(isotropic[:, None])
        root = torch.linalg.cholesky(matrix)
        return (
            torch.linalg.solve_triangular(root, offset[..., None], upper=False).square().sum((1, 2))
        )
    matrix = factor * deviations @ deviations.mT
    matrix.diagonal(dim1=1, dim2=2).add_(isotropic[:, None])
    inner = deviations @ offset[..., None]
    root = torch.linalg.cholesky(matrix)
    explained = torch.linalg.solve_triangular(root, inner, upper=False).square().sum((1, 2))
    return (offset.square().sum(dim=1) - factor * explained) / isotropic


class LocalGaussian(BaseGenerativeDetector):
    """TODO"""

    trained_by_gradients: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 2, None, closed="left")],
        "shrinkage": [Interval(Real, 0, 1, closed="right")],
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
        n_neighbors: int = 25,
        shrinkage: float = 0.3,
        max_anchors: int = 10_000,
        standardize: str | bool = "auto",
        contamination: float = 0.1,
        calibration_fraction: float = 0.0,
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.shrinkage = shrinkage
        self.max_anchors = max_anchors
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    def _make_module(self, n_features: int) -> LocalGaussianModel:
        return LocalGaussianModel(
            n_features,
            n_neighbors=self.n_neighbors,
            shrinkage=self.shrinkage,
            max_anchors=self.max_anchors,
        )

    def _stages(self, module: LocalGaussianModel) -> list[Stage]:
        return []
