"""MPDR: manifold projection-diffusion recovery (Yoon, Jin, Noh and Park, NeurIPS 2023).

An energy E is trained by maximising the recovery likelihood of data that was perturbed along an
autoencoder's manifold (f_e, f_d):

    z = f_e(x),   z~ = z + sigma eps,   x~ = f_d(z~)                                        (eq. 5)
    E~(x | z~) = E(x) + gamma / (2 sigma^2) |z~ - f_e(x)|^2                                 (eq. 7)
    loss = E(x) - E(x-) + penalty * (E(x-)^2 [+ E(x)^2]),   x- ~ exp(-E~)                   (eq. 8)

Negatives x- come from a short latent chain on E~(f_d(z) | z~), which starts at z~, and then a
visible chain on E~(x | z~), which starts at the latent chain's end (section 3.3).

What this file adds to the paper: z~ is put back on the sphere; the visible step may be relative to the
number of columns (the paper's 10 is unstable when there are few, since E is a mean over them); the
visible chain may be kept within the range of the training data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ._base import BaseGenerativeDetector, Integral, Interval, Real, StrOptions
from ._energies import build_energy, energy_and_grad
from ._langevin import Langevin, ReplayBuffer
from ._networks import (
    ACTIVATIONS,
    AutoencoderNet,
    default_latent_dim,
    identity_manifold,
    mlp_autoencoder,
)
from ._objectives import contrastive_loss
from ._random import derived_seed, draw_seed, seeded
from ._training import Stage, adam, with_penalty


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


class MPDRModule(nn.Module):
    """Energy, manifolds, data range and replay buffers.

    Parameters
    ----------
    base : nn.Module
        The energy E that is trained.
    manifolds : list of AutoencoderNet
        A batch is split evenly among them.
    n_features : int
        Number of columns.
    replay_size : int
        Rows that each manifold's replay buffer keeps.
    replay_ratio : float
        Share of visible chains that start from it.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        base: nn.Module,
        manifolds: list[AutoencoderNet],
        n_features: int,
        latent_dims: tuple[int, ...],
        replay_size: int = 0,
        replay_ratio: float = 0.95,
    ) -> None:
        super().__init__()
        self.base, self.manifolds = base, nn.ModuleList(manifolds)
        self.latent_dims = latent_dims
        # A kept row is a chain's state with what it is conditioned on: x, z~ and 1 / (2 sigma^2).
        widths = [n_features + d_z + 1 for d_z in latent_dims] if replay_size else []
        self.buffers_ = nn.ModuleList(ReplayBuffer(replay_size, replay_ratio, w) for w in widths)
        self.register_buffer("low", torch.full((n_features,), -torch.inf))
        self.register_buffer("high", torch.full((n_features,), torch.inf))

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        return self.base.energy(x)

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
    ) -> Tensor:
        """Negatives (n, d) of a batch: perturbation, latent chain, visible chain (algorithm 1).

        `latent` and `visible` are pairs of a chain and its gamma.
        """
        shares = x.tensor_split(len(self.manifolds))
        return torch.cat(
            [
                self._negatives_on(k, share, noise_range, latent, visible)
                for k, share in enumerate(shares)
                if len(share)
            ]
        )

    def _negatives_on(
        self,
        k: int,
        x: Tensor,
        noise_range: tuple[float, float],
        latent: tuple[Langevin, float],
        visible: tuple[Langevin, float],
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
        end = visible_chain.run(lambda x: target.visible(x, visible_gamma), start).x
        if self.buffers_:
            self.buffers_[k].push(torch.cat([end, target.z_noisy, target.weight], dim=1))
        return end


class MPDR(BaseGenerativeDetector):
    """TODO docstring."""

    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        "energy": [StrOptions({"reconstruction", "scalar", "masked"}), callable],
        "manifold": [StrOptions({"autoencoder", "identity"})],
        "manifold_dims": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "hidden_sizes": [tuple, list],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "latent_space": [StrOptions({"sphere", "euclidean"})],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "noise_range": [tuple, list],
        "latent_steps": [Interval(Integral, 0, None, closed="left")],
        "latent_step_size": [Interval(Real, 0, None, closed="left")],
        "latent_noise": [Interval(Real, 0, None, closed="left")],
        "latent_gamma": [Interval(Real, 0, None, closed="left")],
        "visible_steps": [Interval(Integral, 0, None, closed="left")],
        "visible_step_size": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "visible_noise": [Interval(Real, 0, None, closed="left")],
        "visible_gamma": [Interval(Real, 0, None, closed="left")],
        "bounds": [StrOptions({"data"}), tuple, list, None],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "encoder_penalty": [Interval(Real, 0, None, closed="left")],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "replay_ratio": [Interval(Real, 0, 1, closed="both")],
        "energy_init": [StrOptions({"pretrain", "manifold", "random"})],
        "manifold_steps": [Interval(Integral, 1, None, closed="left")],
        "pretrain_steps": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "manifold_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"cosine", "constant"})],
    }

    def __init__(
        self,
        *,
        energy: str | Callable[[int], nn.Module] = "reconstruction",
        manifold: str = "autoencoder",
        manifold_dims: int | tuple[int, ...] | None = None,
        hidden_sizes: tuple[int, ...] = (128, 128),
        latent_dim: int | None = None,
        latent_space: str = "sphere",
        activation: str = "leaky_relu",
        noise_range: tuple[float, float] = (0.05, 0.3),
        latent_steps: int = 1,
        latent_step_size: float = 0.1,
        latent_noise: float = 0.05,
        latent_gamma: float = 1e-4,
        visible_steps: int = 5,
        visible_step_size: float | str = "auto",
        visible_noise: float = 0.3,
        visible_gamma: float = 1e-4,
        bounds: str | tuple[float, float] | None = "data",
        energy_penalty: float = 1.0,
        encoder_penalty: float = 0.0,
        replay_size: int = 0,
        replay_ratio: float = 0.95,
        energy_init: str = "pretrain",
        manifold_steps: int = 400,
        pretrain_steps: int = 400,
        max_steps: int = 400,
        manifold_learning_rate: float = 1e-3,
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        batch_size: int = 128,
        standardize: str | bool = "auto",
        contamination: float = 0.1,
        calibration_fraction: float = 0.0,
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: list[Any] | None = None,
    ) -> None:
        self.energy = energy
        self.manifold = manifold
        self.manifold_dims = manifold_dims
        self.hidden_sizes = hidden_sizes
        self.latent_dim = latent_dim
        self.latent_space = latent_space
        self.activation = activation
        self.noise_range = noise_range
        self.latent_steps = latent_steps
        self.latent_step_size = latent_step_size
        self.latent_noise = latent_noise
        self.latent_gamma = latent_gamma
        self.visible_steps = visible_steps
        self.visible_step_size = visible_step_size
        self.visible_noise = visible_noise
        self.visible_gamma = visible_gamma
        self.bounds = bounds
        self.energy_penalty = energy_penalty
        self.encoder_penalty = encoder_penalty
        self.replay_size = replay_size
        self.replay_ratio = replay_ratio
        self.energy_init = energy_init
        self.manifold_steps = manifold_steps
        self.pretrain_steps = pretrain_steps
        self.max_steps = max_steps
        self.manifold_learning_rate = manifold_learning_rate
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> MPDRModule:
        dims = self._latent_dims(n_features)
        if self.manifold == "identity":
            manifolds = [identity_manifold()]
        else:
            manifolds = [
                mlp_autoencoder(
                    n_features, d_z, self.hidden_sizes, self.activation, self.latent_space
                )
                for d_z in dims
            ]
        if callable(self.energy):
            base = self.energy(n_features)
        else:
            latent_dim = self.latent_dim or default_latent_dim(n_features)
            base = build_energy(
                self.energy, n_features, latent_dim, self.hidden_sizes, self.activation
            )
        return MPDRModule(
            base, manifolds, n_features, dims, self.replay_size, self.replay_ratio
        )

    def _latent_dims(self, n_features: int) -> tuple[int, ...]:
        if self.manifold == "identity":
            return (n_features,)
        if self.manifold_dims is None:
            return (default_latent_dim(n_features),)
        if isinstance(self.manifold_dims, Integral):
            return (int(self.manifold_dims),)
        return tuple(self.manifold_dims)

    def _before_training(self, module: MPDRModule, rows: Tensor) -> None:
        module.low.copy_(rows.min(dim=0).values)
        module.high.copy_(rows.max(dim=0).values)

    # ---- stages ---------------------------------------------------------------------------

    def _stages(self, module: MPDRModule) -> list[Stage]:
        stages = []
        cosine = self.schedule == "cosine"
        if self.manifold != "identity":
            groups = [
                group
                for net in module.manifolds
                for group in with_penalty(net.encoder, [net.decoder], self.encoder_penalty)
            ]
            optimizers = {"main": adam(groups, self.manifold_learning_rate)}
            stages.append(
                Stage("manifold", self._manifold_objective, optimizers, self.manifold_steps, cosine)
            )
        if self.energy_init == "pretrain" and self.energy in ("reconstruction", "masked"):
            optimizers = {"main": adam(module.base.parameters(), self.manifold_learning_rate)}
            stages.append(
                Stage("pretrain", self._pretrain_objective, optimizers, self.pretrain_steps, cosine)
            )
        optimizers = {"main": adam(module.base.parameters(), self.learning_rate)}
        stages.append(Stage("energy", self._energy_objective, optimizers, self.max_steps, cosine,
            energy_limit=10.0))
        return stages

    def _manifold_objective(self, module: MPDRModule, x: Tensor) -> dict[str, Tensor]:
        errors = [(x - net(x)).square().mean() for net in module.manifolds]
        return {"loss": torch.stack(errors).sum()}

    def _pretrain_objective(self, module: MPDRModule, x: Tensor) -> dict[str, Tensor]:
        return {"loss": module.base.energy(x).mean()}

    def _energy_objective(self, module: MPDRModule, x: Tensor) -> dict[str, Tensor]:
        negatives = module.negatives(x, self.noise_range, *self._chains(module))
        return contrastive_loss(
            module.base,
            x,
            negatives,
            penalty=self.energy_penalty,
            penalize_data=self.energy == "scalar",
        )

    def _chains(self, module: MPDRModule) -> tuple[tuple[Langevin, float], tuple[Langevin, float]]:
        n_features = len(module.low)
        step = self.visible_step_size
        latent = Langevin(
            self.latent_steps,
            self.latent_step_size,
            self.latent_noise,
            sphere=self.manifold != "identity" and self.latent_space == "sphere",
        )
        visible = Langevin(
            self.visible_steps,
            0.1 * n_features if step == "auto" else step,
            self.visible_noise,
            bounds=(module.low - 1, module.high + 1) if self.bounds == "data" else self.bounds,
        )
        return (latent, self.latent_gamma), (visible, self.visible_gamma)
