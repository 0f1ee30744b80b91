"""Factories of a detector's networks: perceptrons, an architecture, or an object of the user's.

A factory is any object with two methods:

    make_encoder(shape, latent_dim) -> nn.Module     (n, *shape) -> (n, latent_dim)
    make_decoder(latent_dim, shape) -> nn.Module     (n, latent_dim) -> (n, *shape)

where `shape` is (d,) for tables of d columns and (C, H, W) for images. :class:`Perceptrons` and the
architectures of :mod:`skgenad._tensors.architectures` are such objects. What they make sees images
as images; rows are flat everywhere else, and :class:`RowEncoder` and :class:`RowDecoder` stand
between the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .architectures import Architecture, Shape
from .blocks import with_free_last, with_spectral_norm
from .maps import MLP, AutoencoderNet, Identity, Map, Sphere, SteadyLinear, default_latent_dim

# The latent dimension of images, that of MPDR for MNIST, where a detector's is None.
_IMAGE_LATENT_DIM = 32


class Factory(Protocol):
    """Makes encoders and decoders."""

    def make_encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        """Make an encoder from (n, *shape) to (n, latent_dim)."""

    def make_decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        """Make a decoder from (n, latent_dim) to (n, *shape)."""


@dataclass(frozen=True)
class Perceptrons:
    """Makes multilayer perceptrons on flat rows.

    Parameters
    ----------
    hidden_sizes : sequence of int, default=(128, 128)
        Widths of the hidden layers of encoders; decoders mirror them.
    activation : str, default="leaky_relu"
        Their activation.
    """

    hidden_sizes: Sequence[int] = (128, 128)
    activation: str = "leaky_relu"

    def encoder(
        self, n_inputs: int, n_outputs: int, spectral: bool = False, free_last: bool = False
    ) -> MLP:
        """Make a perceptron from (n, n_inputs) to (n, n_outputs)."""
        sizes = [n_inputs, *self.hidden_sizes, n_outputs]
        return MLP(sizes, self.activation, spectral, free_last)

    def decoder(self, n_inputs: int, n_outputs: int) -> MLP:
        """Make the mirror image of an encoder, from (n, n_inputs) to (n, n_outputs)."""
        return MLP([n_inputs, *reversed(self.hidden_sizes), n_outputs], self.activation)

    def make_encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        """Make an encoder from (n, *shape) to (n, latent_dim)."""
        return nn.Sequential(nn.Flatten(), self.encoder(math.prod(shape), latent_dim))

    def make_decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        """Make a decoder from (n, latent_dim) to (n, *shape)."""
        return nn.Sequential(self.decoder(latent_dim, math.prod(shape)), nn.Unflatten(1, shape))


class RowEncoder(Map):
    """An encoder of (n, *shape) for flat rows.

    Parameters
    ----------
    net : nn.Module
        Maps (n, *shape) to (n, d_z).
    shape : tuple of int
        (d,) or (C, H, W).
    is_steady : bool, default=False
        Whether it does the same on the same tensors in each pass, and looks at no value.
    """

    def __init__(self, net: nn.Module, shape: Shape, *, is_steady: bool = False) -> None:
        super().__init__()
        self.net, self.shape, self.is_steady = _prepared(net), shape, is_steady

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n, d) to latent vectors (n, d_z)."""
        if len(self.shape) == 3:
            x = x.view(-1, *self.shape).contiguous(memory_format=torch.channels_last)
        return self.net(x)


class RowDecoder(Map):
    """A decoder to (n, *shape) that makes flat rows.

    Parameters
    ----------
    net : nn.Module
        Maps (n, d_z) to (n, *shape).
    is_steady : bool, default=False
        Whether it does the same on the same tensors in each pass, and looks at no value.
    """

    def __init__(self, net: nn.Module, *, is_steady: bool = False) -> None:
        super().__init__()
        self.net, self.is_steady = _prepared(net), is_steady

    def forward(self, z: Tensor) -> Tensor:
        """Map latent vectors (n, d_z) to rows (n, d)."""
        return self.net(z).flatten(1)


def _prepared(net: nn.Module) -> nn.Module:
    """Make a network fast and its scores steady, without changing what it computes.

    Weights of convolutions get their channels last, which CPUs are far faster with.
    """
    return _steady(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _steady(module: nn.Module) -> nn.Module:
    """Replace, in place, linear layers by :class:`SteadyLinear` ones."""
    if type(module) is nn.Linear:
        return SteadyLinear.of(module)
    for name, child in module.named_children():
        steady = _steady(child)
        if steady is not child:
            setattr(module, name, steady)
    return module


@dataclass(frozen=True)
class Networks:
    """Makes the networks of one detector for rows of one shape.

    Parameters
    ----------
    factory : Factory
        Perceptrons, an architecture, or a factory of the user's.
    shape : tuple of int
        (d,) for tables, (C, H, W) for images.

    Raises
    ------
    ValueError
        If the architecture does not take the shape.
    """

    factory: Factory
    shape: Shape

    def __post_init__(self) -> None:
        if isinstance(self.factory, Architecture):
            self.factory.check(self.shape)

    @property
    def is_own(self) -> bool:
        """Whether the factory is one of this package, whose modules are known to be sound."""
        return isinstance(self.factory, Perceptrons | Architecture)

    @property
    def n_features(self) -> int:
        """Length of a flat row."""
        return math.prod(self.shape)

    @property
    def latent_dim(self) -> int:
        """Latent dimension where a detector's parameter is None."""
        return _IMAGE_LATENT_DIM if len(self.shape) == 3 else default_latent_dim(self.n_features)

    def encoder(self, n_outputs: int, spectral: bool = False, free_last: bool = False) -> Map:
        """Make a network from rows (n, d) to (n, n_outputs).

        Its layers have spectral norms of 1 if asked, all or, with `free_last`, all but the last.
        """
        if isinstance(self.factory, Perceptrons):
            return self.factory.encoder(self.n_features, n_outputs, spectral, free_last)
        net = self._made("make_encoder", self.shape, n_outputs)
        net = with_spectral_norm(net) if spectral else net
        net = with_free_last(net) if spectral and free_last else net
        encoder = RowEncoder(net, self.shape, is_steady=self.is_own)
        self._check("make_encoder", encoder, self.n_features, n_outputs)
        return encoder

    def decoder(self, latent_dim: int) -> Map:
        """Make a network from latent vectors (n, latent_dim) to rows (n, d)."""
        if isinstance(self.factory, Perceptrons):
            return self.factory.decoder(latent_dim, self.n_features)
        net = self._made("make_decoder", latent_dim, self.shape)
        decoder = RowDecoder(net, is_steady=self.is_own)
        self._check("make_decoder", decoder, latent_dim, self.n_features)
        return decoder

    def autoencoder(self, latent_dim: int, latent_space: str = "sphere") -> AutoencoderNet:
        """Make encoder and decoder with a "sphere" or "euclidean" latent space."""
        latent = Sphere() if latent_space == "sphere" else Identity()
        return AutoencoderNet(self.encoder(latent_dim), self.decoder(latent_dim), latent)

    def _made(self, method: str, *arguments: Any) -> nn.Module:
        """Ask the factory for a module."""
        module = getattr(self.factory, method)(*arguments)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"{type(self.factory).__name__}.{method} must make an nn.Module, got "
                f"{type(module).__name__}."
            )
        return module

    def _check(self, method: str, net: Map, n_inputs: int, n_outputs: int) -> None:
        """Raise ValueError unless what a user's factory made maps two rows as it should."""
        if self.is_own:
            return
        was_training = net.training
        with torch.no_grad():
            y = net.eval()(torch.zeros(2, n_inputs))
        net.train(was_training)
        if y.shape != (2, n_outputs):
            wanted = (2, n_outputs) if method == "make_encoder" else (2, *self.shape)
            raise ValueError(
                f"the network of {type(self.factory).__name__}.{method} maps 2 rows to an array "
                f"of {tuple(y.shape)}, needed is {wanted}."
            )
