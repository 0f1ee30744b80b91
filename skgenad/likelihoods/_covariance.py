"""Covariances: drawn to a multiple of the identity, taken apart, and turned into distances."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from skgenad._tensors.moments import TiedMoments
from skgenad._tensors.products import steady_product

# Eigenvalues of a correlation matrix are raised to at least this share of the largest. Float32
# keeps a row to about 1e-7 of its length, so that its rounding then moves no squared distance by
# much; and only covariances that are singular for practical purposes are changed.
_FLOOR = 1e-10
# A product with so many columns, or a multiple, rounds a row the same wherever it is in a batch.
_WIDTH = 16


def oas_shrinkage(covariance: Tensor, n: float) -> Tensor:
    """Oracle approximating shrinkage of a covariance (d, d) of `n` rows (Chen et al., 2010).

    As in scikit-learn, a term of order 1 / d of the paper's equation 23 is left out.
    """
    d = len(covariance)
    spread, level = covariance.square().mean(), (covariance.diagonal().mean()).square()
    excess = (n + 1) * (spread - level / d)
    one = torch.ones_like(level)
    return one if excess <= 0 else torch.minimum(one, (spread + level) / excess)


def shrunk(moments: TiedMoments, shrinkage: float | str) -> tuple[Tensor, Tensor]:
    """Covariance (d, d) drawn to a multiple of the identity, and by how much.

    Columns without any variance have no part in it: they would lend the others none of theirs.
    """
    covariance = moments.covariance
    varying = covariance.diagonal() > 0
    if not varying.any():
        return covariance, covariance.new_zeros(())
    part = covariance[varying][:, varying]
    if isinstance(shrinkage, str):
        amount = oas_shrinkage(part, float(moments.counts.sum()))
    else:
        amount = torch.as_tensor(shrinkage, dtype=part.dtype, device=part.device)
    target = torch.where(varying, part.diagonal().mean(), 0.0).diag()
    return torch.lerp(covariance, target, amount), amount


class Axes(NamedTuple):
    """A covariance taken apart: scales of the columns, and their correlation's principal axes.

    Attributes
    ----------
    scales : Tensor of shape (d,)
        Standard deviations of the columns; 1 for a column that does not vary.
    variances : Tensor of shape (d,)
        Eigenvalues of the correlation, raised to the floor.
    vectors : Tensor of shape (d, d)
        Its eigenvectors, in the columns.
    """

    scales: Tensor
    variances: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> Axes:
        """Take a covariance (d, d) apart, on the CPU: not every device has float64."""
        covariance = covariance.cpu().double()
        diagonal = covariance.diagonal()
        # Columns are scaled first, so that their units do not decide what counts as singular.
        scales = torch.where(diagonal > 0, diagonal, 1.0).sqrt()
        variances, vectors = torch.linalg.eigh(covariance / scales[:, None] / scales)
        # If nothing varies at all, there is no scale, and any unit will do.
        largest = variances.amax().item() if (diagonal > 0).any() else 1.0
        return cls(scales, variances.clamp_min(_FLOOR * largest), vectors)

    @property
    def whitener(self) -> Tensor:
        """Matrix W (d, d) with which |(x - mu) W|^2 is the squared Mahalanobis distance."""
        return self.vectors / self.variances.sqrt() / self.scales[:, None]

    @property
    def root(self) -> Tensor:
        """Matrix R (d, d) with R^T R = Sigma."""
        return (self.vectors * self.variances.sqrt() * self.scales[:, None]).T

    @property
    def log_determinant(self) -> float:
        """The log determinant of Sigma."""
        return float(self.variances.log().sum() + 2 * self.scales.log().sum())


def squared_length(z: Tensor, matrix: Tensor) -> Tensor:
    """Squared lengths (..., n) of rows (..., n, d) times matrices (..., d, k)."""
    widened = F.pad(matrix, (0, -matrix.shape[-1] % _WIDTH))
    return steady_product(z, widened).square().sum(dim=-1)
