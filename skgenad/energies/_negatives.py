"""Modules that learn an energy from negatives: their chains, the range of data, energy limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, extremes, mean_square
from skgenad._tensors.distances import Distance
from skgenad._tensors.model import Model, autoencoders_in

from ._energies import energy_and_grad
from ._langevin import Bounds, EnergyAndGrad, Langevin, ReplayBuffer, tempered
from .chains import Chain

# If the mean energy of negatives exceeds so many mean squares of the data, a chain ran away.
_DIVERGENCE = 10.0
# The number of latest negatives that are kept, for `negatives_` and its plots.
_KEPT = 1000
# What noise="auto" of visible chains is, for tables in standard units and for pixels.
_TABLE_NOISE = 0.3
_PIXEL_NOISE = 0.005
# What step_size="auto" is for pixels: IGEBM, NAE and MPDR all have it in their papers.
PIXEL_STEP = 10.0
# For tables step_size="auto" is such that a step shortens a residual by this share of itself: that
# takes s * D / 2 where the energy is a mean of squares over D columns.
_RELATIVE_STEP = 0.2


def step_for_errors(n_columns: int, pixels: bool) -> float:
    """Step size for energies that are a mean over columns; pixels have the papers'."""
    return PIXEL_STEP if pixels else _RELATIVE_STEP / 2 * n_columns


def latent_langevin(chain: Chain, sphere: bool) -> Langevin:
    """Make the latent chain that a parameter describes, on a sphere or in a Euclidean space."""
    for field in ("step_size", "noise"):
        if isinstance(getattr(chain, field), str):
            raise ValueError(
                f"{field}={getattr(chain, field)!r} in latent_chain={chain!r}: a latent chain has "
                "no rule for it. Give a number."
            )
    return _langevin(chain, chain.step_size, chain.noise, sphere)  # type: ignore[arg-type]


def visible_langevin(chain: Chain, pixels: bool, auto_step: Callable[[float], float]) -> Langevin:
    """Make the visible chain that a detector's parameter describes.

    Parameters
    ----------
    chain : Chain
        With the detector's own values filled in.
    pixels : bool
        Whether rows are images.
    auto_step : callable
        Maps the noise to the step size that "auto" stands for.
    """
    noise, step = chain.noise, chain.step_size
    if isinstance(noise, str):
        noise = _PIXEL_NOISE if pixels else _TABLE_NOISE
    if isinstance(step, str):
        step = auto_step(noise)  # type: ignore[arg-type]
    return _langevin(chain, step, noise, sphere=False)  # type: ignore[arg-type]


def _langevin(chain: Chain, step_size: float, noise: float, sphere: bool) -> Langevin:
    return Langevin(
        chain.steps,  # type: ignore[arg-type]
        step_size,
        noise,
        sphere=sphere,
        clip=chain.clip,
        normalize=bool(chain.normalize),
        anneal=bool(chain.anneal),
        metropolis=bool(chain.metropolis),
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an energy is trained with negatives: what detectors of this family have in common.

    Parameters
    ----------
    visible : Langevin
        The visible chain.
    bounds : {"data", "none"} or pair of float
        What it is clamped to: "data" is the range of each column, 1 wider on either side, and of
        pixels [0, 1].
    energy_penalty : float
        Weight of squared energies in the loss.
    """

    visible: Langevin
    bounds: str | tuple[float, float]
    energy_penalty: float


class NegativesModule(Model):
    """An energy, the range of the training rows and the latest negatives.

    Parameters
    ----------
    base : nn.Module
        The energy E that is trained.
    n_features : int
        Number of columns.
    settings : Settings
        Settings of training.
    pixels : bool, default=False
        Whether columns are pixels: their range is [0, 1], whatever the rows are.
    """

    # Without bounds these are infinite.
    unbounded = ("low", "high")
    low: Tensor
    high: Tensor
    mean_square: Tensor

    def __init__(self, base: Any, n_features: int, settings: Any, *, pixels: bool = False) -> None:
        super().__init__()
        self.base: Any = base
        self.settings = settings
        self.pixels = pixels
        self.register_buffer("low", torch.full((n_features,), -torch.inf))
        self.register_buffer("high", torch.full((n_features,), torch.inf))
        self.register_buffer("mean_square", torch.ones(()))
        self.latest = ReplayBuffer(_KEPT, 0.0, n_features)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d) of rows (n, d) by the energy's autoencoder."""
        return self.base.reconstruct(x)

    @property
    def distance(self) -> Distance:
        """Distance of the energy's reconstruction error."""
        return self.base.distance

    @property
    def autoencoders(self) -> list[nn.Module]:
        """Autoencoders of the energy; manifolds reconstruct no rows."""
        return autoencoders_in(self.base)

    def prepare(self, rows: Rows, labels: Tensor | None) -> None:
        """Take the range and the mean square of the training rows (n, d)."""
        low, high = (torch.zeros(()), torch.ones(())) if self.pixels else extremes(rows)
        self.low.copy_(low)
        self.high.copy_(high)
        self.mean_square.copy_(mean_square(rows))

    def change_units(self, factor: Tensor, shift: Tensor) -> None:
        """Bring the range of training rows to other units."""
        if not self.pixels:
            for bound in (self.low, self.high):
                bound.copy_(bound * factor.to(bound) + shift.to(bound))

    def resume(self, rows: Rows) -> None:
        """Widen the range of training rows to that of further ones (n, d)."""
        if not self.pixels:
            low, high = extremes(rows)
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))
        self.mean_square.copy_(torch.maximum(self.mean_square, mean_square(rows)))

    def is_steady_when_full(self) -> bool:
        """Whether a step does the same from now on: buffers grow until they are full."""
        buffers = [part for part in self.modules() if isinstance(part, ReplayBuffer)]
        return self.is_steady and all(buffer.is_full for buffer in buffers)

    def energy_limit(self) -> float:
        """Level of the negatives' mean energy that means divergence."""
        return _DIVERGENCE * max(1.0, float(self.mean_square))

    @property
    def temperature(self) -> Tensor | float:
        """Temperature T of the density exp(-E / T)."""
        return 1.0

    @property
    def tempering(self) -> Tensor:
        """Factor, of shape (), on T that makes it the temperature visible chains really have."""
        return torch.tensor(self.settings.visible.temperature)

    @property
    def bounds(self) -> Bounds | None:
        """Bounds of visible chains."""
        bounds = self.settings.bounds
        if not isinstance(bounds, str):
            return bounds
        if bounds == "none":
            return None
        return (0.0, 1.0) if self.pixels else (self.low - 1, self.high + 1)

    def uniform_rows(self, n: int) -> Tensor:
        """Rows (n, d) drawn uniformly within the range of the training rows."""
        share = draws.rand(n, len(self.low), device=self.low.device, dtype=self.low.dtype)
        return torch.lerp(self.low, self.high, share)

    def on_rows(self) -> EnergyAndGrad:
        """Energies E(x) / T and their gradients, for visible chains."""
        return tempered(lambda x: energy_and_grad(self.base, x), self.temperature)

    def visible_chain(self, x: Tensor, n_steps: int) -> Tensor:
        """Rows (n, d) after a chain on E(x) / T of so many steps from `x`."""
        chain = replace(self.settings.visible, n_steps=n_steps)
        return chain.run(self.on_rows(), x, self.bounds).x

    def visible_starts(self, x: Tensor, replayed: ReplayBuffer | None) -> Tensor:
        """First states (n, d) of visible chains for a batch of rows (n, d).

        The batch itself (contrastive divergence) or, with a buffer, replayed rows and uniform
        ones (persistent chains).
        """
        return x if replayed is None else replayed.draw(self.uniform_rows(len(x)))

    def visible_negatives(self, start: Tensor, replayed: ReplayBuffer | None = None) -> Tensor:
        """Run chains on E(x) / T from `start`; keep their ends (n, d), in `replayed` as well."""
        end = self.settings.visible.run(self.on_rows(), start, self.bounds).x
        if replayed is not None:
            replayed.push(end)
        self.latest.push(end)
        return end
