"""Differentiable maps: multilayer perceptrons, the sphere, autoencoders.

Langevin chains need the gradient of an energy with respect to its *input* only. Every map here
offers ``value_and_pullback(x) -> (y, pullback)``, where ``pullback(v)`` is the vector-Jacobian
product ``v @ dy/dx``. :class:`Map` computes it with autograd; the maps below override it in closed
form, which spares the graph, the parameters' gradients and most temporary tensors. A test holds
the two equal for every map and activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .products import NARROW, is_long, spans

if TYPE_CHECKING:
    from jaxtyping import Float

Pullback = Callable[[Tensor], Tensor]

_SLOPE = 0.01
_NORM_FLOOR = 1e-12

# Maps a name to an activation, to whether its derivative is computed from its output (which then
# overwrites the input), and to a function that writes the gradient of the input over that of the
# output, given the tensor that the derivative is computed from.
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


class Map(nn.Module):
    """A differentiable map of rows, (n, d_in) -> (n, d_out)."""

    def value_and_pullback(
        self, x: Float[Tensor, "n d_in"]
    ) -> tuple[Float[Tensor, "n d_out"], Pullback]:
        """Value (n, d_out) and the function that pulls (n, d_out) gradients back to (n, d_in)."""
        with torch.enable_grad(), frozen(self):
            x = x.detach().requires_grad_(True)
            y = self(x)

        def pullback(v: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(y, x, v, retain_graph=True)
            return gradient

        return y.detach(), pullback


class Identity(Map):
    """The identity: the latent space is the input space, or a Euclidean latent space."""

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return `x`."""
        return x

    def value_and_pullback(
        self, x: Float[Tensor, "n d_in"]
    ) -> tuple[Float[Tensor, "n d_out"], Pullback]:
        """Value and pullback: both do nothing."""
        return x, lambda v: v


class Sphere(Map):
    """Projection on the unit sphere, z / |z|."""

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Project rows (n, d) on the unit sphere."""
        return F.normalize(z, dim=1, eps=_NORM_FLOOR)

    def value_and_pullback(self, z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Pullback]:
        """Value and closed-form pullback, (v - y (y . v)) / |z|."""
        norm = torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(_NORM_FLOOR)
        y = z / norm
        return y, lambda v: tangent(v, y) / norm


def tangent(v: Float[Tensor, "n d"], point: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Part of `v` (n, d) that is tangent to the unit sphere at `point` (n, d)."""
    return torch.addcmul(v, point, (v * point).sum(dim=1, keepdim=True), value=-1)


def steady_linear(
    x: Float[Tensor, "n d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None,
    training: bool,
) -> Float[Tensor, "n d_out"]:
    """Linear map (n, d_in) -> (n, d_out); a row's place changes no bit of it but in training.

    Narrow products are made with columns of zeros beside them, which are then cut off, and long
    ones in parts; see :mod:`skgenad._tensors.products`.
    """
    if training:
        return F.linear(x, weight, bias)
    missing = NARROW - len(weight)
    if missing > 0:
        padded = None if bias is None else F.pad(bias, (0, missing))
        widened = F.pad(weight, (0, 0, 0, missing))
        return steady_linear(x, widened, padded, training)[:, : len(weight)]
    if not is_long(x.shape[1], x.dtype):
        return F.linear(x, weight, bias)
    first, *rest = spans(x.shape[1], x.dtype)
    y = F.linear(x[:, first], weight[:, first], bias)
    for span in rest:
        y += F.linear(x[:, span], weight[:, span])
    return y


class SteadyLinear(nn.Linear):
    """Linear layer that scores a row alike wherever it is in the batch."""

    @classmethod
    def of(cls, linear: nn.Linear) -> SteadyLinear:
        """Layer with the parameters of another."""
        layer = cls(linear.in_features, linear.out_features, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        return layer.train(linear.training)

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Map (n, in_features) to (n, out_features)."""
        return steady_linear(x, self.weight, self.bias, self.training)


class SpectralWeight(nn.Module):
    """A layer's weight, divided by its largest singular value as a matrix (out, everything else).

    What torch's own parametrization makes of a layer cannot be pickled.

    Parameters
    ----------
    weight : Tensor of shape (out, ...)
        Weight before the division, a parameter.
    bias : Tensor of shape (out,) or None
        Bias, a parameter.
    """

    left: Tensor
    right: Tensor
    # A step in training changes the singular vectors, so that no recorded step can stand for all.
    is_steady = False

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.raw_weight, self.bias = weight, bias
        # Power iteration finds singular vectors: many steps now, one more in each use in training.
        self.register_buffer("left", torch.empty(len(weight)))
        n_right = weight[0].numel()
        self.register_buffer("right", F.normalize(torch.randn(n_right), dim=0))
        self._iterate(15)

    @property
    def _matrix(self) -> Tensor:
        """Weight (out, everything else) in an order that costs no copy with channels last."""
        weight = self.raw_weight
        return weight if weight.ndim == 2 else weight.movedim(1, -1).flatten(1)

    @torch.no_grad()
    def _iterate(self, n_steps: int) -> None:
        matrix = self._matrix
        for _ in range(n_steps):
            self.left = F.normalize(matrix @ self.right, dim=0, eps=_NORM_FLOOR)
            self.right = F.normalize(self.left @ matrix, dim=0, eps=_NORM_FLOOR)

    @property
    def weight(self) -> Tensor:
        """Normalised weight."""
        if self.training:
            self._iterate(1)
        return self.raw_weight / torch.dot(self.left, self._matrix @ self.right)


class SpectralLinear(SpectralWeight):
    """Linear layer of spectral norm 1.

    Parameters
    ----------
    linear : nn.Linear
        Gives weight and bias.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.weight, linear.bias)
        self.out_features = linear.out_features

    def freed(self) -> nn.Linear:
        """Linear layer of the weight before the division."""
        free = nn.Linear(self.raw_weight.shape[1], self.out_features, device="meta")
        free.weight, free.bias = self.raw_weight, self.bias  # type: ignore[assignment]
        return free

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Map (n, in_features) to (n, out_features)."""
        return steady_linear(x, self.weight, self.bias, self.training)


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
    free_last : bool, default=False
        Whether the last layer's is not.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "leaky_relu",
        spectral: bool = False,
        free_last: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        linear = (nn.Linear(a, b) for a, b in pairs)
        layers: list[Any] = [SpectralLinear(layer) if spectral else layer for layer in linear]
        if spectral and free_last:
            layers[-1] = layers[-1].freed()
        self.layers: Any = nn.ModuleList(layers)

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Map (n, sizes[0]) to (n, sizes[-1])."""
        activate = _ACTIVATIONS[self.activation][0]
        *hidden, last = self.layers
        for layer in hidden:
            x = activate(steady_linear(x, layer.weight, layer.bias, self.training))
        return steady_linear(x, last.weight, last.bias, self.training)

    @torch.no_grad()
    def value_and_pullback(
        self, x: Float[Tensor, "n d_in"]
    ) -> tuple[Float[Tensor, "n d_out"], Pullback]:
        """Value and closed-form pullback; see :class:`Map`."""
        activate, from_output, backward = _ACTIVATIONS[self.activation]
        # Weights are read once: with spectral normalisation every access computes them anew.
        weights = [layer.weight for layer in self.layers]
        *hidden, last = self.layers
        kept: list[Tensor] = []
        for layer, weight in zip(hidden, weights, strict=False):
            before = F.linear(x, weight, layer.bias)
            x = activate(before)
            kept.append(x if from_output else before)
        y = F.linear(x, weights[-1], last.bias)

        def pullback(v: Tensor) -> Tensor:
            # A decorator would be made anew in each call, which costs more than a small layer.
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

    def encode(self, x: Float[Tensor, "n d_x"]) -> Float[Tensor, "n d_z"]:
        """Latent vectors (n, d_z) of rows (n, d_x)."""
        return self.latent(self.encoder(x))

    def decode(self, z: Float[Tensor, "n d_z"]) -> Float[Tensor, "n d_x"]:
        """Rows (n, d_x) of latent vectors (n, d_z)."""
        return self.decoder(z)

    def forward(self, x: Float[Tensor, "n d_x"]) -> Float[Tensor, "n d_x"]:
        """Reconstruction of `x`."""
        return self.decode(self.encode(x))

    def encode_and_pullback(
        self, x: Float[Tensor, "n d_x"]
    ) -> tuple[Float[Tensor, "n d_z"], Pullback]:
        """Latent vectors and the pullback from latent space to input space."""
        raw, pull_encoder = self.encoder.value_and_pullback(x)
        z, pull_latent = self.latent.value_and_pullback(raw)
        return z, lambda v: pull_encoder(pull_latent(v))

    def decode_and_pullback(
        self, z: Float[Tensor, "n d_z"]
    ) -> tuple[Float[Tensor, "n d_x"], Pullback]:
        """Rows and the pullback from input space to latent space."""
        return self.decoder.value_and_pullback(z)

    def value_and_pullback(
        self, x: Float[Tensor, "n d_x"]
    ) -> tuple[Float[Tensor, "n d_y"], Pullback]:
        """Reconstruction of `x`, or what else the decoder makes, and the pullback to `x`."""
        z, pull_encoder = self.encode_and_pullback(x)
        y, pull_decoder = self.decode_and_pullback(z)
        return y, lambda v: pull_encoder(pull_decoder(v))


def default_latent_dim(n_features: int) -> int:
    """Latent dimension for tables (MPDR, section 4.5): all columns, 70 % of them beyond 100.

    At least 2, since a sphere in one dimension is two points.
    """
    return max(2, n_features if n_features <= 100 else round(0.7 * n_features))


def identity_manifold() -> AutoencoderNet:
    """Make the manifold that is the whole input space: MPDR's Gaussian special case."""
    return AutoencoderNet(Identity(), Identity(), Identity())
