"""Noise-contrastive estimation of a density, with Gaussian noise that can be trained against it.

A network T tells data from noise; where it does so as well as can be, the data's log density is
T + log nu p_n. Everything is computed in noise coordinates u, features less their mean over their
standard deviation, in which the noise is N(0, K R K) with the correlations R.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.device import precise
from skgenad._tensors.maps import MLP
from skgenad._tensors.moments import TiedMoments, positive

# Eigenvalues of the noise's correlations are raised to at least this share of the largest.
CONDITION_FLOOR = 1e-5
# A feature varies if its standard deviation is beyond this share of its mean's size.
_VARIES = 1e-6
# K starts no nearer to 1 than this: any nearer, and softplus has no slope to leave it by.
_NEAREST = 1e-3
# Noise coordinates are clipped here for the network, which was trained within some units of 0: its
# output must be finite, and hardly matters beside the noise's density this far out.
_FARTHEST = 1e6
_LOG_2_PI = math.log(2 * math.pi)


def lognormal_mode(mean: Tensor, variance: Tensor) -> Tensor:
    """Mode of log-normal distributions by their moments (CANCE, appendix C); 0 for a mean of 0."""
    return mean * (1 + (variance.sqrt() / positive(mean)).square()).pow(-1.5)


def truncated_normal(n: int, mode: Tensor, scale: Tensor) -> Tensor:
    """Draw (n, k) values of k normal distributions N(mode, scale^2), cut to [0, mode]."""
    scale = positive(scale)
    low = torch.special.ndtr(-mode / scale)
    uniform = draws.rand(n, len(mode), dtype=low.dtype, device=low.device)
    values = mode + scale * torch.special.ndtri(low + (0.5 - low) * uniform)
    return torch.minimum(values.clamp_min(0), mode)


class Degeneracy(NamedTuple):
    """What made a covariance ill-conditioned.

    Attributes
    ----------
    constant : list of int
        Features that do not vary.
    dependent : list of int
        Features of the combination that varies least, if that is too little.
    n_rows : int
        Rows behind the covariance.
    """

    constant: list[int]
    dependent: list[int]
    n_rows: int


class GaussianNoise(nn.Module):
    """Noise N(mu, K Sigma K) with the moments of the data and a diagonal K >= 1.

    Parameters
    ----------
    d : int
        Number of features.
    start : float
        Entries of K at the start, at least 1.
    """

    mean: Tensor
    scale: Tensor
    factor: Tensor

    def __init__(self, d: int, start: float) -> None:
        super().__init__()
        self.start = start
        above = max(start - 1, _NEAREST)
        psi = above + math.log(-math.expm1(-above))
        self.psi = nn.Parameter(torch.full((d,), psi))
        self.register_buffer("mean", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(d, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(d, dtype=torch.float64))

    @property
    def spread(self) -> Tensor:
        """Diagonal (d,) of K."""
        return 1 + F.softplus(self.psi)

    def fit(self, moments: TiedMoments) -> Degeneracy:
        """Take mu and Sigma from moments; raise the eigenvalues of a Sigma that has no inverse."""
        mean, covariance = moments.means[0], moments.covariance
        deviation = covariance.diagonal().clamp_min(0).sqrt()
        varies = deviation > _VARIES * mean.abs() + torch.finfo(mean.dtype).tiny
        # If a feature did not vary in training, any difference beyond rounding counts.
        scale = torch.where(varies, deviation, _VARIES * mean.abs().clamp_min(1))
        correlation = covariance / torch.outer(scale, scale)
        correlation[~varies] = 0
        correlation[:, ~varies] = 0
        correlation[~varies, ~varies] = 1
        values, vectors = torch.linalg.eigh(correlation.cpu())
        floor = CONDITION_FLOOR * float(values[-1])
        dependent: list[int] = []
        if values[0] < floor:
            dependent = _main_parts(vectors[:, 0])
            raised = (vectors * values.clamp_min(floor)) @ vectors.T
            correlation = ((raised + raised.T) / 2).to(scale.device)
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.factor.copy_(torch.linalg.cholesky(correlation))
        constant = torch.nonzero(~varies).flatten().tolist()
        return Degeneracy(constant, dependent, int(moments.counts.sum()))

    def coordinates(self, z: Tensor) -> Tensor:
        """Noise coordinates (n, d) of features (n, d)."""
        return (precise(z) - precise(self.mean)) / precise(self.scale)

    def draw(self, n: int) -> Tensor:
        """Noise (n, d) of K = 1 in noise coordinates."""
        factor = self.factor.to(self.psi.dtype)
        return draws.randn(n, len(factor), device=factor.device) @ factor.T

    def log_density(self, u: Tensor, spread: Tensor) -> Tensor:
        """Log density (n,) of features at noise coordinates `u` (n, d), in nats of the features.

        Parameters
        ----------
        u : Tensor of shape (n, d)
            Noise coordinates.
        spread : Tensor of shape (d,)
            Diagonal of K.
        """
        scaled = (precise(u) / precise(spread)).T
        factor = precise(self.factor)
        whitened = torch.linalg.solve_triangular(factor, scaled, upper=False)
        log_volume = (precise(spread) * precise(self.scale) * factor.diagonal()).log().sum()
        return -0.5 * whitened.square().sum(dim=0) - log_volume - 0.5 * len(scaled) * _LOG_2_PI


def _main_parts(vector: Tensor) -> list[int]:
    """Places of the entries of a unit vector that make up most of it, largest first."""
    order = vector.abs().argsort(descending=True)
    share = vector[order].square().cumsum(0)
    return order[: 1 + int((share < 0.9).sum())].tolist()


class NoiseContrast(nn.Module):
    """A density: Gaussian noise times the ratio that a network learns against it.

    The network gives log p / p_n, so that T is it less log nu, and untrained weights mean about
    the noise itself.

    Parameters
    ----------
    d : int
        Number of features.
    hidden_sizes : sequence of int
        Widths of the network's hidden layers.
    activation : str
        Their activation.
    noise_ratio : int
        nu: draws of noise for each row of data.
    noise_scale : float
        Entries of K at the start.
    augment : bool
        Whether the last two features are errors, and data are augmented by rows of low ones.
    """

    mode: Tensor
    error_scale: Tensor

    def __init__(
        self,
        d: int,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        noise_ratio: int,
        noise_scale: float,
        augment: bool,
    ) -> None:
        super().__init__()
        self.noise_ratio, self.augment = noise_ratio, augment
        self.network = MLP([d, *hidden_sizes, 1], activation)
        self.noise = GaussianNoise(d, noise_scale)
        self.register_buffer("mode", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("error_scale", torch.ones(2, dtype=torch.float64))

    def fit_noise(self, moments: TiedMoments) -> Degeneracy:
        """Take the moments of the noise and, from the last two features, those of augmentation."""
        if self.augment:
            variance = moments.covariance.diagonal()[-2:].clamp_min(0)
            self.mode.copy_(lognormal_mode(moments.means[0, -2:], variance))
            self.error_scale.copy_(variance.sqrt())
        return self.noise.fit(moments)

    def augmented(self, z: Tensor) -> Tensor:
        """Features with the last two redrawn from [0, mode] in about half of the rows (eq. 8)."""
        if not self.augment:
            return z
        low = truncated_normal(len(z), self.mode, self.error_scale)
        artificial = draws.rand(len(z), 1, device=z.device) < 0.5
        return torch.cat([z[:, :-2], torch.where(artificial, low, z[:, -2:])], dim=1)

    def log_ratio(self, u: Tensor) -> Tensor:
        """Log of density over noise (n,) at noise coordinates: T + log nu."""
        u = u.clamp(-_FARTHEST, _FARTHEST).to(self.noise.psi.dtype)
        return self.network(u).squeeze(1)

    def log_density(self, z: Tensor) -> Tensor:
        """Log density (n,) of features (n, d): T + log nu p_n, in nats."""
        u = self.noise.coordinates(z)
        return precise(self.log_ratio(u)) + self.noise.log_density(u, self.noise.spread)

    def loss(self, z: Tensor) -> Tensor:
        """NCE loss (eq. 9) of features (n, d), which weights descend and K ascends (eq. 10).

        K's gradient is reversed on its way, so that one pass serves both. At the data it flows
        through L_K alone and not through its inverse, which has undone it.
        """
        u = self.noise.coordinates(self.augmented(z)).to(self.noise.psi.dtype)
        spread = self.noise.spread
        reverse = 2 * spread.detach() - spread
        data = reverse * (u / spread.detach())
        noise = reverse * self.noise.draw(self.noise_ratio * len(u))
        logits = self.log_ratio(torch.cat([data, noise])) - math.log(self.noise_ratio)
        return _nce_loss(logits[: len(u)], logits[len(u) :], self.noise_ratio)

    def reference_loss(self, z: Tensor) -> Tensor:
        """NCE loss of the density against the noise that training began with.

        Losses against noises of different K say nothing about which density is the better one.
        """
        start = torch.full_like(self.noise.spread, self.noise.start)
        u = self.noise.coordinates(self.augmented(z))
        noise = precise(self.noise.draw(self.noise_ratio * len(u))) * start
        everywhere = torch.cat([u, noise])
        log_density = precise(self.log_ratio(everywhere))
        log_density = log_density + self.noise.log_density(everywhere, self.noise.spread)
        logits = log_density - self.noise.log_density(everywhere, start)
        logits = logits - math.log(self.noise_ratio)
        return _nce_loss(logits[: len(u)], logits[len(u) :], self.noise_ratio)


def _nce_loss(on_data: Tensor, on_noise: Tensor, noise_ratio: int) -> Tensor:
    return F.softplus(-on_data).mean() + noise_ratio * F.softplus(on_noise).mean()
