"""Differentiable maps: multilayer perceptrons, the sphere, autoencoders.

Langevin chains need the gradient of an energy with respect to its *input* only. Every map here
offers ``value_and_pullback(x) -> (y, pullback)``, where ``pullback(v)`` is the vector-Jacobian
product ``v @ dy/dx``. :class:`Map` computes it with autograd; the maps below override it in closed
form, which spares the graph, the parameters' gradients and most temporary tensors. A test holds
the two equal for every map and activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pullback = Callable[[Tensor], Tensor]

_SLOPE = 0.01
# Kernels for fewer outputs than this may round a row by its place in the batch.
_NARROW = 16
_NORM_FLOOR = 1e-12

# name -> (activation, whether its derivative is read off the output, which then overwrites the
#          input; gradient of the input, written over that of the output, given the tensor to read)
_aten = torch.ops.aten
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], bool, Callable[..., Tensor]]] = {
    "relu": (
        F.relu_,
        True,
        lambda g, y: _aten.threshold_backward.grad_input(g, y, 0, grad_input=g),
    ),
    "leaky_relu": (
        lambda x: F.leaky_relu_(x, _SLOPE),
        True,
        lambda g, y: _aten.leaky_relu_backward.grad_input(g, y, _SLOPE, True, grad_input=g),
    ),
    "tanh": (torch.tanh_, True, lambda g, y: _aten.tanh_backward.grad_input(g, y, grad_input=g)),
    "sigmoid": (
        torch.sigmoid_,
        True,
        lambda g, y: _aten.sigmoid_backward.grad_input(g, y, grad_input=g),
    ),
    "silu": (
        F.silu,
        False,
        lambda g, x: _aten.silu_backward.grad_input(g, x, grad_input=g),
    ),
}
ACTIVATIONS = tuple(_ACTIVATIONS)


class Map(nn.Module):
    """A differentiable map of rows, (n, d_in) -> (n, d_out)."""

    def value_and_pullback(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Value (n, d_out) and the function that pulls (n, d_out) gradients back to (n, d_in)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            y = self(x)

        def pullback(v: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(y, x, v, retain_graph=True)
            return gradient

        return y.detach(), pullback


class Identity(Map):
    """The identity: the latent space is the input space, or a Euclidean latent space."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def value_and_pullback(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Value and pullback: both do nothing."""
        return x, lambda v: v


class Sphere(Map):
    """Projection on the unit sphere, z / |z|."""

    def forward(self, z: Tensor) -> Tensor:
        """Project rows (n, d) on the unit sphere."""
        return F.normalize(z, dim=1, eps=_NORM_FLOOR)

    def value_and_pullback(self, z: Tensor) -> tuple[Tensor, Pullback]:
        """Value and closed-form pullback, (v - y (y . v)) / |z|."""
        norm = torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(_NORM_FLOOR)
        y = z / norm
        return y, lambda v: tangent(v, y) / norm


def tangent(v: Tensor, point: Tensor) -> Tensor:
    """Part of `v` (n, d) that is tangent to the unit sphere at `point` (n, d)."""
    return torch.addcmul(v, point, (v * point).sum(dim=1, keepdim=True), value=-1)


class SpectralLinear(nn.Module):
    """Linear layer whose weight is divided by its largest singular value.

    What torch's own parametrization makes of a layer cannot be pickled.

    Parameters
    ----------
    in_features, out_features : int
        Widths of input and output.
    """

    left: Tensor
    right: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        linear = nn.Linear(in_features, out_features)
        self.out_features = out_features
        self.raw_weight, self.bias = linear.weight, linear.bias
        # Singular vectors by power iteration: many steps now, one more in each use in training.
        self.register_buffer("left", torch.empty(out_features))
        self.register_buffer("right", F.normalize(torch.randn(in_features), dim=0))
        self._iterate(15)

    @torch.no_grad()
    def _iterate(self, n_steps: int) -> None:
        for _ in range(n_steps):
            self.left = F.normalize(self.raw_weight @ self.right, dim=0, eps=_NORM_FLOOR)
            self.right = F.normalize(self.left @ self.raw_weight, dim=0, eps=_NORM_FLOOR)

    @property
    def weight(self) -> Tensor:
        """Normalised weight (out_features, in_features)."""
        if self.training:
            self._iterate(1)
        return self.raw_weight / torch.dot(self.left, self.raw_weight @ self.right)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_features) to (n, out_features)."""
        return F.linear(x, self.weight, self.bias)


class MLP(Map):
    """Multilayer perceptron with a linear last layer.

    Parameters
    ----------
    sizes : sequence of int
        Widths from input to output, at least two.
    activation : str, default="leaky_relu"
        One of ``ACTIVATIONS``.
    spectral : bool, default=False
        Whether every layer's weight is divided by its largest singular value.
    """

    def __init__(
        self, sizes: Sequence[int], activation: str = "leaky_relu", spectral: bool = False
    ) -> None:
        super().__init__()
        self.activation = activation
        layer = SpectralLinear if spectral else nn.Linear
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.layers: Any = nn.ModuleList(layer(a, b) for a, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, sizes[0]) to (n, sizes[-1])."""
        activate = _ACTIVATIONS[self.activation][0]
        *hidden, last = self.layers
        for layer in hidden:
            x = activate(self._linear(layer, x))
        return self._linear(last, x)

    def _linear(self, layer: nn.Linear | SpectralLinear, x: Tensor) -> Tensor:
        """One layer; when scoring, with outputs enough that a row's place changes no bit."""
        missing = _NARROW - layer.out_features
        if self.training or missing <= 0:
            return layer(x)
        weight, bias = F.pad(layer.weight, (0, 0, 0, missing)), F.pad(layer.bias, (0, missing))
        return F.linear(x, weight, bias)[:, : layer.out_features]

    @torch.no_grad()
    def value_and_pullback(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Value and closed-form pullback; see :class:`Map`."""
        activate, from_output, backward = _ACTIVATIONS[self.activation]
        # Read once: with spectral normalisation every access computes the weight anew.
        weights = [layer.weight for layer in self.layers]
        *hidden, last = self.layers
        kept: list[Tensor] = []
        for layer, weight in zip(hidden, weights, strict=False):
            before = F.linear(x, weight, layer.bias)
            x = activate(before)
            kept.append(x if from_output else before)
        y = F.linear(x, weights[-1], last.bias)

        def pullback(v: Tensor) -> Tensor:
            # As a block: decorating a function anew in each call costs more than a small layer.
            with torch.no_grad():
                for weight, at in zip(weights[:0:-1], reversed(kept), strict=True):
                    v = backward(v @ weight, at)
                return v @ weights[0]

        return y, pullback


class AutoencoderNet(nn.Module):
    """Encoder, latent space and decoder.

    Parameters
    ----------
    encoder, decoder : Map
        Networks between the input and the latent space.
    latent : Map
        :class:`Sphere` or :class:`Identity`, applied to the encoder's output.
    """

    def __init__(self, encoder: Map, decoder: Map, latent: Map) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, latent

    @property
    def spherical(self) -> bool:
        """Whether latent vectors lie on the unit sphere."""
        return isinstance(self.latent, Sphere)

    def encode(self, x: Tensor) -> Tensor:
        """Latent vectors (n, d_z) of rows (n, d_x)."""
        return self.latent(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Rows (n, d_x) of latent vectors (n, d_z)."""
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of `x`."""
        return self.decode(self.encode(x))

    def encode_and_pullback(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Latent vectors and the pullback from latent space to input space."""
        raw, pull_encoder = self.encoder.value_and_pullback(x)
        z, pull_latent = self.latent.value_and_pullback(raw)
        return z, lambda v: pull_encoder(pull_latent(v))

    def decode_and_pullback(self, z: Tensor) -> tuple[Tensor, Pullback]:
        """Rows and the pullback from input space to latent space."""
        return self.decoder.value_and_pullback(z)


def default_latent_dim(n_features: int) -> int:
    """Latent dimension for tables (MPDR, section 4.5): all columns, 70 % of them beyond 100.

    At least 2, since a sphere in one dimension is two points.
    """
    return max(2, n_features if n_features <= 100 else round(0.7 * n_features))


def mlp_autoencoder(
    n_features: int,
    latent_dim: int,
    hidden_sizes: Sequence[int],
    activation: str = "leaky_relu",
    latent_space: str = "sphere",
) -> AutoencoderNet:
    """Autoencoder of two mirrored perceptrons with a "sphere" or "euclidean" latent space."""
    sizes = [n_features, *hidden_sizes, latent_dim]
    return AutoencoderNet(
        MLP(sizes, activation),
        MLP(sizes[::-1], activation),
        Sphere() if latent_space == "sphere" else Identity(),
    )


def identity_manifold() -> AutoencoderNet:
    """Make the manifold that is the whole input space: MPDR's Gaussian special case."""
    return AutoencoderNet(Identity(), Identity(), Identity())
