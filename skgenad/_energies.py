"""Energies: modules with ``energy(x) -> (n,)``, low where data is, and their input gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ._networks import MLP, AutoencoderNet, mlp_autoencoder


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Take a module's parameters out of autograd for the length of a block."""
    live = [p for p in module.parameters() if p.requires_grad]
    for p in live:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in live:
            p.requires_grad_(True)


def energy_and_grad(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (n,) and their gradient (n, d) with respect to `x`, and to nothing else.

    A module that has a method ``energy_and_grad`` is asked for it; any other is differentiated
    by autograd with its parameters frozen.
    """
    closed_form = getattr(module, "energy_and_grad", None)
    if closed_form is not None:
        return closed_form(x)
    with torch.enable_grad(), frozen(module):
        x = x.detach().requires_grad_(True)
        energy = module.energy(x)
        (gradient,) = torch.autograd.grad(energy.sum(), x)
    return energy.detach(), gradient


def decoded_energy(module: Any, net: AutoencoderNet, z: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (n,) of decoded latent vectors, E(f_d(z)), and their gradient (n, d_z)."""
    x, pullback = net.decode_and_pullback(z)
    energy, gradient = energy_and_grad(module, x)
    return energy, pullback(gradient)


def check_energy(module: Any, n_features: int) -> None:
    """Raise TypeError or ValueError unless `module` has ``energy(x) -> (n,)``."""
    if not isinstance(module, nn.Module) or not callable(getattr(module, "energy", None)):
        raise TypeError(
            f"an energy must be an nn.Module with a method energy(x), got {type(module).__name__}."
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError(f"the energy {type(module).__name__} has no parameters to train.")
    was_training = module.training
    with torch.no_grad():
        module.eval()
        energy: Tensor = module.energy(torch.zeros(2, n_features))  # type: ignore[operator]
        module.train(was_training)
    shape = tuple(energy.shape)
    if shape != (2,):
        raise ValueError(f"energy(x) of 2 rows must have the shape (2,), got {shape}.")


# Distances between a row and its reconstruction, as means over columns.
DISTANCES = ("l2", "l1")


class ReconstructionEnergy(nn.Module):
    """Mean reconstruction error, E(x) = |x - g_d(g_e(x))|^2 / D or its L1 form.

    Parameters
    ----------
    net : AutoencoderNet
        The autoencoder g.
    distance : {"l2", "l1"}, default="l2"
        Whether differences count by their squares or by their absolute values.
    """

    def __init__(self, net: AutoencoderNet, distance: str = "l2") -> None:
        super().__init__()
        self.net, self.distance = net, distance

    def _error(self, residual: Tensor) -> Tensor:
        parts = residual.square() if self.distance == "l2" else residual.abs()
        return parts.mean(dim=1)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        return self._error(x - self.net(x))

    @torch.no_grad()
    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and input gradient in closed form: v - J^T v for the distance's gradient v.

        With r = x - g(x) it is (2 / D) r for L2 and sign(r) / D for L1.
        """
        z, pull_encoder = self.net.encode_and_pullback(x)
        reconstruction, pull_decoder = self.net.decode_and_pullback(z)
        residual = x - reconstruction
        slope, scale = (residual, 2) if self.distance == "l2" else (residual.sign(), 1)
        gradient = (slope - pull_encoder(pull_decoder(slope))).mul_(scale / x.shape[1])
        return self._error(residual), gradient


class ScalarEnergy(nn.Module):
    """A perceptron with one output.

    Parameters
    ----------
    net : MLP
        Perceptron from (n, d) to (n, 1).
    """

    def __init__(self, net: MLP) -> None:
        super().__init__()
        self.net = net

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        return self.net(x).squeeze(1)

    @torch.no_grad()
    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and input gradient in closed form."""
        energy, pullback = self.net.value_and_pullback(x)
        return energy.squeeze(1), pullback(torch.ones_like(energy))


class MaskedEnergy(nn.Module):
    """Mean squared error of a block of columns predicted from the other columns (IDNN).

    Parameters
    ----------
    net : MLP
        Perceptron from the visible columns to the masked ones.
    start, stop : int
        The masked block is ``x[:, start:stop]``.
    """

    def __init__(self, net: MLP, start: int, stop: int) -> None:
        super().__init__()
        self.net, self.start, self.stop = net, start, stop

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rest = torch.cat([x[:, : self.start], x[:, self.stop :]], dim=1)
        return rest, x[:, self.start : self.stop]

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        rest, block = self._split(x)
        return (block - self.net(rest)).square().mean(dim=1)

    @torch.no_grad()
    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and input gradient in closed form."""
        rest, block = self._split(x)
        prediction, pullback = self.net.value_and_pullback(rest)
        residual = block - prediction
        on_block = residual * (2 / residual.shape[1])
        on_rest = -pullback(on_block)
        gradient = torch.cat([on_rest[:, : self.start], on_block, on_rest[:, self.start :]], dim=1)
        return residual.square().mean(dim=1), gradient


def masked_block(n_features: int) -> tuple[int, int]:
    """Start and stop of the middle fifth of the columns: frame 3 of IDNN's five frames."""
    width = max(1, n_features // 5)
    start = (n_features - width) // 2
    return start, start + width


def build_energy(
    kind: str, n_features: int, latent_dim: int, hidden_sizes: Sequence[int], activation: str
) -> nn.Module:
    """Build one of the named energies ("reconstruction", "scalar" or "masked") for tables."""
    if kind == "reconstruction":
        return ReconstructionEnergy(
            mlp_autoencoder(n_features, latent_dim, hidden_sizes, activation)
        )
    if kind == "scalar":
        return ScalarEnergy(MLP([n_features, *hidden_sizes, 1], activation, spectral=True))
    start, stop = masked_block(n_features)
    width = stop - start
    return MaskedEnergy(MLP([n_features - width, *hidden_sizes, width], activation), start, stop)
