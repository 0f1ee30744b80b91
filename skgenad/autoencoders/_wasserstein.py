"""Losses that methods share."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    module: Any,
    x: Tensor,
    negatives: Tensor,
    *,
    penalty: float,
    penalize_data: bool = False,
) -> dict[str, Tensor]:
    """Maximum-likelihood objective of an energy, E(x) - E(x-), with its penalty on energies.

    Its gradient is eq. 8 of MPDR, and T times eq. 7 of NAE: the parameters' gradient of the energy
    at data minus the one at negatives. Data and negatives go through the network in one pass.

    Parameters
    ----------
    module : nn.Module
        Has ``energy(x) -> (n,)``.
    x, negatives : Tensor of shape (n, d) and (m, d)
        Rows of data; samples of the model.
    penalty : float
        Weight of E(x-)^2.
    penalize_data : bool, default=False
        Whether E(x)^2 is penalised too (scalar energies, whose level is free).

    Returns
    -------
    dict of Tensor
        "loss" and its parts, all of shape ().
    """
    on_data, on_negatives = module.energy(torch.cat([x, negatives])).split([len(x), len(negatives)])
    energy, negative_energy = on_data.mean(), on_negatives.mean()
    regularizer = on_negatives.square().mean()
    if penalize_data:
        regularizer = regularizer + on_data.square().mean()
    return {
        "loss": energy - negative_energy + penalty * regularizer,
        "energy": energy,
        "negative_energy": negative_energy,
    }


def ratio_loss(log_in: Tensor, log_general: Tensor, temperature: float) -> Tensor:
    """Cross-entropies (n,) of calling outliers outliers by the likelihood ratio.

    -log sigmoid((log p_g - log p_in) / T): equation 2 of hierarchical flows, without its weight.

    Parameters
    ----------
    log_in, log_general : Tensor of shape (n,)
        Log densities of the outliers under the model that is trained and under the other, in the
        same units.
    temperature : float
        T, in nats.
    """
    return F.softplus((log_in - log_general) / temperature)


def margin_loss(log_data: Tensor, log_outliers: Tensor, margin: float) -> Tensor:
    """Hinges (n,) on how far outliers are below data in log density, max(0, m + log q - log p).

    The loss of Hendrycks et al. (2019) that hierarchical flows compare with.

    Parameters
    ----------
    log_data, log_outliers : Tensor of shape (n,)
        Log densities, log p and log q, in pairs.
    margin : float
        Wanted difference m, in nats.
    """
    return F.relu(margin + log_outliers - log_data)


def random_directions(n: int, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Draw `n` directions (n, dim), uniformly from the unit sphere."""
    return F.normalize(torch.randn(n, dim, device=device), dim=1)


def student_t(nu: float, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Draw from Student's t of `nu` degrees of freedom by Bailey's polar method (1994).

    Of uniform numbers alone, which every device can draw.
    """
    # 1 - U is in (0, 1].
    u, v = 1 - torch.rand(shape, device=device), torch.rand(shape, device=device)
    radius = (nu * (u.pow(-2 / nu) - 1)).sqrt()
    return radius * (2 * math.pi * v).cos()


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, p: int = 2) -> Tensor:
    """Mean over directions of W_p^p between the projections of two samples (P-WAE, eq. 17 and 18).

    In one dimension the best transport sorts both samples: W_p^p is the mean of
    |x_(i) - y_(i)|^p.

    Parameters
    ----------
    x, y : Tensor of shape (n, ..., d)
        Samples of as many rows; the axes between are samples of their own.
    directions : Tensor of shape (m, d)
        Of length 1.
    p : int, default=2
        Order of the distance.

    Returns
    -------
    Tensor of shape (...)
        A distance for each pair of samples.
    """
    gap = (x @ directions.T).sort(dim=0).values - (y @ directions.T).sort(dim=0).values
    return gap.abs().pow(p).mean(dim=(0, -1))
