"""The energy of rows under a Gaussian mixture, whose gradient goes through its moments."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skgenad._tensors.moments import positive

# This times the sum of 1 and the mean diagonal entry is added to a covariance's diagonal. Composite
# features are of order 1, so a narrow component stays narrow and a collapsed one becomes regular.
_RIDGE = 1e-6


def regularized(covariances: Tensor) -> Tensor:
    """Covariances (K, d, d) with a ridge that makes them positive definite."""
    level = 1 + covariances.diagonal(dim1=1, dim2=2).mean(dim=1)
    eye = torch.eye(covariances.shape[1], dtype=level.dtype, device=level.device)
    return covariances + _RIDGE * level[:, None, None] * eye


def mixture_energy(z: Tensor, weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Energies (n,) of rows `z` (n, d): -log sum_k phi_k N(z; mu_k, L_k L_k^T), in nats.

    Parameters
    ----------
    z : Tensor of shape (n, d)
        Rows.
    weights, means, factors : Tensor of shape (K,), (K, d) and (K, d, d)
        phi, mu and the Cholesky factors L of Sigma.
    """
    deviations = (z - means[:, None]).transpose(1, 2)
    whitened = torch.linalg.solve_triangular(factors, deviations, upper=False)
    log_volume = factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    log_constant = positive(weights).log() - log_volume - 0.5 * z.shape[1] * math.log(2 * math.pi)
    return -torch.logsumexp(log_constant[:, None] - 0.5 * whitened.square().sum(dim=1), dim=0)
