"""Recovery of data perturbed along a manifold: the conditional energy of MPDR and its chains.

The equations are those of Yoon et al., 2023; :mod:`skgenad.energies.mpdr` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors.maps import AutoencoderNet

from ._energies import MaskedEnergy, decoded_energy, energy_and_grad
from ._langevin import Langevin, ReplayBuffer
from ._negatives import NegativesModule

# Keeps the logarithm of an error finite; far below float32's rounding of one standard unit.
_TINY = 1e-12


class RecoveryEnergy:
    """The conditional energy E~(x | z~) of eq. 7 on a manifold, in either space.

    Parameters
    ----------
    energy : nn.Module
        E.
    manifold : AutoencoderNet
        (f_e, f_d).
    z_noisy : Tensor of shape (n, d_z)
        z~.
    weight : Tensor of shape (n, 1)
        1 / (2 sigma^2) of each row.
    """

    def __init__(
        self, energy: nn.Module, manifold: AutoencoderNet, z_noisy: Tensor, weight: Tensor
    ) -> None:
        self.base, self.manifold, self.z_noisy, self.weight = energy, manifold, z_noisy, weight

    def visible(self, x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        """E~ (n,) and its gradient (n, d_x) at `x`."""
        energy, gradient = energy_and_grad(self.base, x)
        if gamma == 0:
            return energy, gradient
        z, pull_encoder = self.manifold.encode_and_pullback(x)
        offset = z - self.z_noisy
        energy = energy + gamma * (self.weight * offset.square()).sum(dim=1)
        return energy, gradient + pull_encoder(2 * gamma * self.weight * offset)

    def latent(self, z: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        """E~ (n,) at f_d(z) and its gradient (n, d_z)."""
        x, pull_decoder = self.manifold.decode_and_pullback(z)
        energy, gradient = self.visible(x, gamma)
        return energy, pull_decoder(gradient)


class RecoveryModule(NegativesModule):
    """Energy, manifolds, data range and replay buffers.

    Parameters
    ----------
    base : nn.Module
        The energy E that is trained.
    manifolds : list of AutoencoderNet
        A batch is split evenly among them.
    n_features : int
        Number of columns.
    latent_dims : tuple of int
        Latent dimension of each manifold.
    replay_size : int
        Rows that each manifold's replay buffer keeps.
    replay_ratio : float
        Share of visible chains that start from it.
    manifold_weight : float, optional
        Weight of the manifolds' log reconstruction error in what is scored, log E having the rest;
        without it E is scored.
    pixels : bool, default=False
        Whether columns are pixels.
    """

    def __init__(
        self,
        base: nn.Module,
        manifolds: list[AutoencoderNet],
        n_features: int,
        latent_dims: tuple[int, ...],
        replay_size: int = 0,
        replay_ratio: float = 0.95,
        manifold_weight: float | None = None,
        pixels: bool = False,
    ) -> None:
        super().__init__(base, n_features, pixels)
        self.manifold_weight = manifold_weight
        self.manifolds: Any = nn.ModuleList(manifolds)
        self.latent_dims = latent_dims
        # A kept row is a chain's state with what it is conditioned on: x, z~ and 1 / (2 sigma^2).
        widths = [n_features + d_z + 1 for d_z in latent_dims] if replay_size else []
        self.buffers_: Any = nn.ModuleList(
            ReplayBuffer(replay_size, replay_ratio, w) for w in widths
        )

    @property
    def n_averaged(self) -> int:
        """Columns that the energy is a mean over: it has a scale of one over their number."""
        base = self.base
        return base.stop - base.start if isinstance(base, MaskedEnergy) else len(self.low)

    def energy(self, x: Tensor) -> Tensor:
        """Score rows, (n,): E, or a weighted mean of log E and the log manifold error."""
        energy = self.base.energy(x)
        if self.manifold_weight is None:
            return energy
        errors = [(x - net(x)).square().mean(dim=1) for net in self.manifolds]
        logs = torch.stack([(error + _TINY).log() for error in errors]).mean(dim=0)
        # Rounding takes a similarity to a bit beyond 1.
        energy = energy.clamp_min(0)
        return torch.lerp((energy + _TINY).log(), logs, self.manifold_weight)

    def uniform_latent(self, k: int, n: int) -> Tensor:
        """Latent vectors (n, d_z) to start chains from.

        Uniform on the sphere; in a Euclidean latent space, the codes of rows drawn uniformly
        within the range of the training rows.
        """
        manifold = self.manifolds[k]
        if manifold.spherical:
            z = torch.randn(n, self.latent_dims[k], device=self.low.device)
            return F.normalize(z, dim=1)
        return manifold.encode(self.uniform_rows(n))

    def perturb(self, k: int, x: Tensor, noise_range: tuple[float, float]) -> RecoveryEnergy:
        """Project and diffuse rows on the k-th manifold (eq. 5), a noise magnitude per row."""
        manifold = self.manifolds[k]
        low, high = noise_range
        sigma = low + (high - low) * torch.rand(len(x), 1, device=x.device)
        z = manifold.encode(x)
        z_noisy = z + sigma * torch.randn_like(z)
        if manifold.spherical:
            z_noisy = F.normalize(z_noisy, dim=1)
        return RecoveryEnergy(self.base, manifold, z_noisy, 0.5 / sigma.square())

    @torch.no_grad()
    def negatives(
        self,
        x: Tensor,
        noise_range: tuple[float, float],
        latent: tuple[Langevin, float],
        visible: tuple[Langevin, float],
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Negatives (n, d) of a batch: perturbation, latent chain, visible chain (algorithm 1).

        `latent` and `visible` are pairs of a chain and its gamma; `change` is made to rows (n, d)
        half-way through the visible chain.
        """
        shares = x.tensor_split(len(self.manifolds))
        negatives = torch.cat(
            [
                self._negatives_on(k, share, noise_range, latent, visible, change)
                for k, share in enumerate(shares)
                if len(share)
            ]
        )
        self.latest.push(negatives)
        return negatives

    def _negatives_on(
        self,
        k: int,
        x: Tensor,
        noise_range: tuple[float, float],
        latent: tuple[Langevin, float],
        visible: tuple[Langevin, float],
        change: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        (latent_chain, latent_gamma), (visible_chain, visible_gamma) = latent, visible
        target = self.perturb(k, x, noise_range)
        z = latent_chain.run(lambda z: target.latent(z, latent_gamma), target.z_noisy).x
        start = target.manifold.decode(z)
        if self.buffers_:
            rows = self.buffers_[k].draw(torch.cat([start, target.z_noisy, target.weight], dim=1))
            start, target.z_noisy, target.weight = rows.split(
                [start.shape[1], target.z_noisy.shape[1], 1], dim=1
            )

        def run(chain: Langevin, x: Tensor) -> Tensor:
            return chain.run(lambda x: target.visible(x, visible_gamma), x).x

        if change is None:
            end = run(visible_chain, start)
        else:
            half = visible_chain.n_steps // 2
            middle = run(replace(visible_chain, n_steps=half), start)
            rest = replace(visible_chain, n_steps=visible_chain.n_steps - half)
            end = run(rest, change(middle))
        if self.buffers_:
            self.buffers_[k].push(torch.cat([end, target.z_noisy, target.weight], dim=1))
        return end

    @torch.no_grad()
    def pulled_back_chain(self, k: int, chain: Langevin, n: int) -> Tensor:
        """Run a latent chain on E(f_d(z)) from all over the manifold; return rows (n, d_x)."""
        manifold = self.manifolds[k]
        start = self.uniform_latent(k, n)
        return manifold.decode(chain.run(lambda z: decoded_energy(self.base, manifold, z), start).x)
