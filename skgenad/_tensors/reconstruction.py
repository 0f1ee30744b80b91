"""The reconstruction error of an autoencoder as an energy, with its input gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .distances import Distance, SquaredDistance
from .maps import AutoencoderNet
from .model import Model


class ReconstructionEnergy(Model):
    """Reconstruction error, E(x) = c dist(x, g_d(g_e(x))), a mean over columns.

    Parameters
    ----------
    net : AutoencoderNet
        The autoencoder g.
    distance : Distance, optional
        The distance; by default the squared one.
    learn_scale : bool, default=False
        Whether the factor c is a positive parameter that is trained, 1 at the start; else it is 1.
    free_scale : bool, default=False
        Whether penalties on energies take the error without c, which is then free.
    """

    def __init__(
        self,
        net: AutoencoderNet,
        distance: Distance | None = None,
        learn_scale: bool = False,
        free_scale: bool = False,
    ) -> None:
        super().__init__()
        self.free_scale = free_scale
        self.net = net
        self.distance = SquaredDistance() if distance is None else distance
        self.log_scale = nn.Parameter(torch.zeros(())) if learn_scale else None

    def _scaled(self, values: Tensor) -> Tensor:
        return values if self.log_scale is None else self.log_scale.exp() * values

    def error(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Distances (n,) of rows from reconstructions of them, without the factor."""
        return self.distance(x, reconstruction)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d) of rows (n, d)."""
        return self.net(x)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        return self._scaled(self.error(x, self.reconstruct(x)))

    def energy_and_level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (n,) of rows (n, d), and what a penalty squares: these, or errors alone."""
        error = self.error(x, self.reconstruct(x))
        energy = self._scaled(error)
        return energy, error if self.free_scale else energy

    @torch.no_grad()
    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and input gradient, by the slopes of the distance: v + J^T w."""
        reconstruction, pullback = self.net.value_and_pullback(x)
        error, on_x, on_reconstruction = self.distance.value_and_slopes(x, reconstruction)
        gradient = on_x.add_(pullback(on_reconstruction))
        return self._scaled(error), self._scaled(gradient)
