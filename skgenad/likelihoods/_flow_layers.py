"""Invertible layers with a tractable log-determinant: the pieces of Glow.

A layer maps rows (n, ...) to rows of as many numbers. ``forward(x)`` returns ``y`` and
``log |det dy/dx|``, one number for each row or one for all; ``inverse(y)`` returns ``x``;
``initialize(x)`` sets what depends on data from a batch and returns its ``y``.

In evaluation a row's place in its batch changes no bit: elementwise functions are computed in
float64 and rounded, sums are in float64, narrow products are padded (:func:`steady_linear`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors.device import precise
from skgenad._tensors.maps import steady_linear

# A smaller standard deviation means that a batch is constant, and is no scale to divide by.
_LEAST_DEVIATION = 1e-6
# A matrix product mixes maps of at most so many numbers faster than a convolution does.
_FEW_NUMBERS = 2**16


def row_sums(values: Tensor, training: bool) -> Tensor:
    """Sum (n, ...) over all but rows, in float64 but in training."""
    return (values if training else precise(values)).sum(dim=tuple(range(1, values.ndim)))


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, training: bool) -> Tensor:
    """Map the channels of every pixel of (n, C, H, W) by a matrix (C_out, C)."""
    if training and x.numel() <= _FEW_NUMBERS:
        # On small maps the set-up of a convolution costs more than the product. In evaluation the
        # convolution is used all the same, since its rounding does not depend on the batch.
        return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight[:, :, None, None], bias)


class FlowLayer(nn.Module):
    """An invertible map of rows; see the module's docstring."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map rows; return them with the log-determinants, (n,) or ()."""
        raise NotImplementedError

    def inverse(self, y: Tensor) -> Tensor:
        """Undo :meth:`forward`."""
        raise NotImplementedError

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Set what depends on data from rows `x`; map them."""
        return self(x)[0]


class ActNorm(FlowLayer):
    """Activation normalisation: y = exp(s) (x - m) / u + b.

    The centre m and the unit u are those of the first batch, and fixed; s and b start from 0 and
    are trained. Their gradients, and what weight decay draws them to, are free of units that way.

    Parameters
    ----------
    shape : tuple of int
        Shape of s and b, which broadcasts with rows: (d,) or (C, H, W) for one of each for every
        number of a row, (C, 1, 1) for one of each for every channel.
    """

    centre: Tensor
    log_unit: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("log_unit", torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Centre, factor and shift of y = (x - centre) * factor + shift."""
        return self.centre, (self.log_scale - self.log_unit).exp(), self.shift

    def log_det(self, x: Tensor) -> Tensor:
        """Log-determinant (), the same for all rows shaped like those of `x`."""
        n_positions = x[0].numel() // self.log_scale.numel()
        return (self.log_scale - self.log_unit).sum() * n_positions

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift."""
        # These are two operations: if fused, the last bits may depend on a row's place.
        centre, factor, shift = self.affine()
        return (x - centre) * factor + shift, self.log_det(x)

    def inverse(self, y: Tensor) -> Tensor:
        """Shift and scale back."""
        centre, factor, shift = self.affine()
        return (y - shift) / factor + centre

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Normalise `x` to mean 0 and variance 1; what does not vary in it is centred alone."""
        constant = [i + 1 for i, n in enumerate(self.shift.shape) if n == 1]
        across = tuple(dict.fromkeys([0, *constant]))
        values = precise(x)
        mean = values.mean(dim=across, keepdim=True)[0]
        deviation = (values - mean).square().mean(dim=across, keepdim=True)[0].sqrt()
        self.centre.copy_(mean)
        self.log_unit.copy_(torch.where(deviation > _LEAST_DEVIATION, deviation, 1.0).log())
        return self(x)[0]


class InvertibleConv(FlowLayer):
    """Invertible 1x1 convolution: an invertible C x C matrix W applied to every pixel.

    W = P L (U + diag(sign exp(s))) with a fixed permutation P, a lower triangle L with ones on its
    diagonal and an upper triangle U without, so that log |det W| is the sum of s: O(C) in place of
    O(C^3). It starts as a random rotation.

    Parameters
    ----------
    n_channels : int
        Number of channels C.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(random_rotation(n_channels))
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        # One matrix holds both triangles; its diagonal is not used.
        self.triangles = nn.Parameter(lower.tril(-1) + upper.triu(1))

    def _factors(self) -> tuple[Tensor, Tensor]:
        """L and U with their diagonals."""
        one = torch.ones_like(self.sign).diag()
        upper = self.triangles.triu(1) + (self.sign * self.log_diagonal.exp()).diag()
        return self.triangles.tril(-1) + one, upper

    def weight(self) -> Tensor:
        """W (C, C)."""
        lower, upper = self._factors()
        return self.permutation @ (lower @ upper)

    def inverse_weight(self) -> Tensor:
        """Inverse of W by its triangles, in float64 where the device has it."""
        lower, upper = (precise(factor) for factor in self._factors())
        unmixed = torch.linalg.solve_triangular(
            lower, precise(self.permutation).T, upper=False, unitriangular=True
        )
        inverse = torch.linalg.solve_triangular(upper, unmixed, upper=True)
        return inverse.to(self.triangles.dtype)

    def log_det(self, x: Tensor) -> Tensor:
        """Log-determinant (), the same for all rows shaped like those of `x`."""
        return self.log_diagonal.sum() * (x[0, 0].numel())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the channels of (n, C, H, W)."""
        return pointwise(x, self.weight(), None, self.training), self.log_det(x)

    def inverse(self, y: Tensor) -> Tensor:
        """Mix them back."""
        return pointwise(y, self.inverse_weight(), None, self.training)


class NormalizedConv(FlowLayer):
    """Activation normalisation, then an invertible 1x1 convolution, as one convolution.

    Parameters
    ----------
    n_channels : int
        Number of channels C.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.norm, self.conv = ActNorm((n_channels, 1, 1)), InvertibleConv(n_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise and mix the channels of (n, C, H, W)."""
        centre, factor, shift = (values.flatten() for values in self.norm.affine())
        weight = self.conv.weight()
        bias = weight @ (shift - centre * factor)
        weight = weight * factor
        y = pointwise(x, weight, bias, self.training)
        return y, self.norm.log_det(x) + self.conv.log_det(x)

    def inverse(self, y: Tensor) -> Tensor:
        """Undo both."""
        return self.norm.inverse(self.conv.inverse(y))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Normalise `x` and mix its channels."""
        return self.conv.initialize(self.norm.initialize(x))


class NormalizedRotation(FlowLayer):
    """Activation normalisation, then a fixed random rotation of all numbers of a row (S2.2).

    Parameters
    ----------
    n_features : int
        Length d of rows.
    """

    rotation: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.norm = ActNorm((n_features,))
        # As in the paper's dense variant the rotation is not trained, which keeps training stable.
        self.register_buffer("rotation", random_rotation(n_features))

    def _rotated(self, x: Tensor) -> Tensor:
        return steady_linear(x, self.rotation, None, self.training)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise and rotate (n, d)."""
        y, log_det = self.norm(x)
        return self._rotated(y), log_det

    def inverse(self, y: Tensor) -> Tensor:
        """Rotate back and undo the normalisation."""
        return self.norm.inverse(y @ self.rotation)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Normalise `x` and rotate it."""
        return self._rotated(self.norm.initialize(x))


def random_rotation(n: int) -> Tensor:
    """Draw an orthogonal matrix (n, n) uniformly."""
    q, r = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))
    # The type that the layers beside it are made in, whatever decides it.
    return (q * r.diagonal().sign()).to(torch.empty(0).dtype)


class Squeeze(FlowLayer):
    """Invertible subsampling: 2x2 pixels of (n, C, H, W) become channels, (n, 4C, H/2, W/2)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Move pixels into channels."""
        y = F.pixel_unshuffle(x, 2)
        # CPUs are far faster with channels last, and slow where a layer gets both formats.
        return y.contiguous(memory_format=torch.channels_last), x.new_zeros(())

    def inverse(self, y: Tensor) -> Tensor:
        """Move channels back to pixels."""
        return F.pixel_shuffle(y, 2)


class Flatten(FlowLayer):
    """Images (n, C, H, W) as rows (n, d).

    Parameters
    ----------
    shape : (int, int, int)
        C, H and W.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Flatten."""
        return x.flatten(1), x.new_zeros(())

    def inverse(self, y: Tensor) -> Tensor:
        """Make images of rows."""
        return y.unflatten(1, self.shape)


class Chain(FlowLayer):
    """Layers one after the other.

    Parameters
    ----------
    layers : sequence of FlowLayer
        Layers in the order from data to latent code.
    """

    def __init__(self, layers: list[FlowLayer]) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layers from first to last."""
        total = x.new_zeros(())
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor) -> Tensor:
        """Undo them from last to first."""
        for layer in reversed(self.layers):
            y = layer.inverse(y)
        return y

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Initialise one layer after the other, each on what those before make of `x`."""
        for layer in self.layers:
            x = layer.initialize(x)
        return x
