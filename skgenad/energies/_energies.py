"""Energies: modules with ``energy(x) -> (n,)``, low where data is, and their input gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skgenad._tensors.maps import MLP, AutoencoderNet, Map, frozen


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


class ScalarEnergy(nn.Module):
    """A network with one output, c g(x) + b.

    Parameters
    ----------
    net : Map
        Network g from (n, d) to (n, 1).
    affine : bool, default=False
        Whether c, which is positive, and b are trained, 1 and 0 at the start; else they stay so.
    """

    def __init__(self, net: Map, affine: bool = False) -> None:
        super().__init__()
        self.net = net
        self.log_scale = nn.Parameter(torch.zeros(())) if affine else None
        self.shift = nn.Parameter(torch.zeros(())) if affine else None

    def _affine(self, output: Tensor) -> Tensor:
        if self.log_scale is None or self.shift is None:
            return output
        return torch.addcmul(self.shift, self.log_scale.exp(), output)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        return self._affine(self.net(x).squeeze(1))

    @torch.no_grad()
    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and input gradient in closed form."""
        output, pullback = self.net.value_and_pullback(x)
        slope = torch.ones_like(output)
        if self.log_scale is not None:
            slope = self.log_scale.exp() * slope
        return self._affine(output.squeeze(1)), pullback(slope)


class MaskedEnergy(nn.Module):
    """Mean squared error of a block of columns predicted from the other columns (IDNN).

    Parameters
    ----------
    net : MLP or AutoencoderNet
        Perceptron, or an encoder and a decoder, from the visible columns to the masked ones.
    start, stop : int
        The masked block is ``x[:, start:stop]``.
    """

    def __init__(self, net: MLP | AutoencoderNet, start: int, stop: int) -> None:
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
        Has ``energy(x) -> (n,)``; and ``energy_and_level(x) -> (n,), (n,)`` if what is penalised
        is another number of each row than its energy.
    x, negatives : Tensor of shape (n, d) and (m, d)
        Rows of data; samples of the model.
    penalty : float
        Weight of E(x-)^2, or of the level's.
    penalize_data : bool, default=False
        Whether E(x)^2 is penalised too (scalar energies, whose level is free).

    Returns
    -------
    dict of Tensor
        "loss" and its parts, all of shape ().
    """
    rows, sizes = torch.cat([x, negatives]), [len(x), len(negatives)]
    both = getattr(module, "energy_and_level", None)
    energies, levels = both(rows) if both else (module.energy(rows),) * 2
    energy, negative_energy = (part.mean() for part in energies.split(sizes))
    on_data, on_negatives = levels.split(sizes)
    regularizer = on_negatives.square().mean()
    if penalize_data:
        regularizer = regularizer + on_data.square().mean()
    return {
        "loss": energy - negative_energy + penalty * regularizer,
        "energy": energy,
        "negative_energy": negative_energy,
    }
