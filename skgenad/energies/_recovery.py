"""Recovery of data perturbed along a manifold: the conditional energy of MPDR and its chains.

The equations are those of Yoon et al., 2023; :mod:`skgenad.energies.mpdr` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.augmentation import augmented
from skgenad._tensors.maps import AutoencoderNet

from ._energies import decoded_energy, energy_and_grad
from ._langevin import Langevin, ReplayBuffer
from ._negatives import NegativesModule, Settings


@dataclass(frozen=True, kw_only=True)
class RecoverySettings(Settings):
    """How rows are perturbed and recovered.

    Parameters
    ----------
    noise_range : (float, float)
        Interval of the noise magnitudes sigma.
    latent : Langevin
        The latent chain.
    latent_gamma, visible_gamma : float
        gamma of the two chains.
    augmentation : str, tuple of str or callable, default=None
        How images are changed half-way through the visible chain.
    image_shape : tuple of int, default=None
        Shape of those images.
    input_noise : float, default=0.0
        Standard deviation of the noise added to rows in every stage.
    """

    noise_range: tuple[float, float]
    latent: Langevin
    latent_gamma: float
    visible_gamma: float
    augmentation: Any = None
    image_shape: tuple[int, ...] | None = None
    input_noise: float = 0.0


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
    """An energy, the manifolds along which rows are perturbed, and the chains that recover them.

    Parameters
    ----------
    base : nn.Module
        The energy E that is trained.
    manifolds : list of AutoencoderNet
        A batch is split evenly among them.
    n_features : int
        Number of columns.
    settings : RecoverySettings
        Settings of training.
    latent_dims : tuple of int
        Latent dimension of each manifold.
    replay : (int, float), default=(0, 0.95)
        Rows that each manifold's replay buffer keeps, and the share of visible chains that start
        from it.
    pixels : bool, default=False
        Whether columns are pixels.
    """

    settings: RecoverySettings

    def __init__(
        self,
        base: nn.Module,
        manifolds: list[AutoencoderNet],
        n_features: int,
        settings: RecoverySettings,
        *,
        latent_dims: tuple[int, ...],
        replay: tuple[int, float] = (0, 0.95),
        pixels: bool = False,
    ) -> None:
        super().__init__(base, n_features, settings, pixels=pixels)
        self.manifolds: Any = nn.ModuleList(manifolds)
        self.latent_dims = latent_dims
        # A kept row is the state x of a chain with its condition: z~ and 1 / (2 sigma^2).
        widths = [n_features + d_z + 1 for d_z in latent_dims] if replay[0] else []
        self.buffers_: Any = nn.ModuleList(ReplayBuffer(*replay, width) for width in widths)

    def uniform_latent(self, k: int, n: int) -> Tensor:
        """Latent vectors (n, d_z) to start chains from.

        Uniform on the sphere; in a Euclidean latent space, the codes of rows drawn uniformly
        within the range of the training rows.
        """
        manifold = self.manifolds[k]
        if manifold.spherical:
            z = draws.randn(n, self.latent_dims[k], device=self.low.device)
            return F.normalize(z, dim=1)
        return manifold.encode(self.uniform_rows(n))

    def perturb(self, k: int, x: Tensor) -> RecoveryEnergy:
        """Project and diffuse rows on the k-th manifold (eq. 5), a noise magnitude per row."""
        manifold = self.manifolds[k]
        low, high = self.settings.noise_range
        sigma = low + (high - low) * draws.rand(len(x), 1, device=x.device)
        z = manifold.encode(x)
        z_noisy = z + sigma * draws.randn_like(z)
        if manifold.spherical:
            z_noisy = F.normalize(z_noisy, dim=1)
        return RecoveryEnergy(self.base, manifold, z_noisy, 0.5 / sigma.square())

    @torch.no_grad()
    def negatives(self, x: Tensor) -> Tensor:
        """Negatives (n, d) of a batch: perturbation, latent chain, visible chain (algorithm 1)."""
        shares = x.tensor_split(len(self.manifolds))
        negatives = torch.cat(
            [self._negatives_on(k, share) for k, share in enumerate(shares) if len(share)]
        )
        self.latest.push(negatives)
        return negatives

    def _negatives_on(self, k: int, x: Tensor) -> Tensor:
        settings, target = self.settings, self.perturb(k, x)
        on_latent = partial(target.latent, gamma=settings.latent_gamma)
        start = target.manifold.decode(settings.latent.run(on_latent, target.z_noisy).x)
        if not self.buffers_:
            return self._recovered(target, start)
        buffer = self.buffers_[k]
        rows = buffer.draw(torch.cat([start, target.z_noisy, target.weight], dim=1))
        start, target.z_noisy, target.weight = rows.split(
            [start.shape[1], target.z_noisy.shape[1], 1], dim=1
        )
        end = self._recovered(target, start)
        buffer.push(torch.cat([end, target.z_noisy, target.weight], dim=1))
        return end

    def _recovered(self, target: RecoveryEnergy, start: Tensor) -> Tensor:
        """Run the visible chain from `start` (n, d), images changed half-way through it."""
        settings, bounds = self.settings, self.bounds
        on_rows = partial(target.visible, gamma=settings.visible_gamma)
        if settings.augmentation is None or settings.image_shape is None:
            return settings.visible.run(on_rows, start, bounds).x
        first, second = settings.visible.halves()
        middle = first.run(on_rows, start, bounds).x
        changed = augmented(middle, settings.augmentation, tuple(settings.image_shape))
        return second.run(on_rows, changed, bounds).x

    @torch.no_grad()
    def sample(self, n: int, n_steps: int) -> Tensor:
        """Rows (n, d) after latent and visible chains of E, shared out among the manifolds."""
        shares = torch.arange(n).tensor_split(len(self.manifolds))
        starts = [self.pulled_back_chain(k, n_steps, len(s)) for k, s in enumerate(shares)]
        return self.visible_chain(torch.cat(starts), n_steps)

    @torch.no_grad()
    def pulled_back_chain(self, k: int, n_steps: int, n: int) -> Tensor:
        """Run a latent chain on E(f_d(z)) from all over the manifold; return rows (n, d_x)."""
        manifold, chain = self.manifolds[k], replace(self.settings.latent, n_steps=n_steps)
        start = self.uniform_latent(k, n)
        return manifold.decode(chain.run(lambda z: decoded_energy(self.base, manifold, z), start).x)
