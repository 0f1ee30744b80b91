"""Coupling layers: one part of a row is changed as a network of the other part says.

Which network it is makes the difference between Glow's variants: convolutions see the pixels
around (S1.1), perceptrons all of the row (S2.2). A row of one number has no other part:
:class:`Elementwise` bends it by a learned monotone function.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors.device import precise
from skgenad._tensors.maps import MLP, steady_linear

from ._flow_layers import ActNorm, FlowLayer, pointwise, row_sums

# Scales are sigmoid(raw + 2), near 1 at the start, as in Glow's published code.
_RAW_AT_START = 2.0
# Networks see numbers clipped here, in units of the batch that initialised the flow, so that their
# output stays finite through any number of layers.
_FARTHEST_SEEN = 1e3
_BISECTIONS = 60
# Factors on last layers are exp(3 s), as in Glow's published code.
_FACTOR_RATE = 3.0


class Coupling(FlowLayer):
    """Affine or additive coupling: x = (x_a, x_b) -> (x_a, (x_b + t(x_a)) s(x_a)).

    Parameters
    ----------
    net : nn.Module
        Maps x_a to t and, if the coupling is affine, as many numbers r with s = sigmoid(r).
    n_kept : int
        Channels or columns of x_a, the first ones.
    affine : bool
        Whether there is s, which is below 1; else it is 1.
    """

    def __init__(self, net: nn.Module, n_kept: int, affine: bool) -> None:
        super().__init__()
        self.net, self.n_kept, self.affine = net, n_kept, affine

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = x.split([self.n_kept, x.shape[1] - self.n_kept], dim=1)
        return kept, moved

    def _coefficients(self, kept: Tensor) -> tuple[Tensor, Tensor | None]:
        """Shift t and, if there is one, log s."""
        out = self.net(kept)
        if not self.affine:
            return out, None
        shift, raw = out.chunk(2, dim=1)
        if self.training:
            return shift, F.logsigmoid(raw)
        return shift, F.logsigmoid(precise(raw)).to(raw.dtype)

    def _exp(self, x: Tensor) -> Tensor:
        return x.exp() if self.training else precise(x).exp().to(x.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Change the second part."""
        kept, moved = self._halves(x)
        shift, log_scale = self._coefficients(kept)
        moved = moved + shift
        if log_scale is None:
            return torch.cat([kept, moved], dim=1), x.new_zeros(())
        moved = moved * self._exp(log_scale)
        return torch.cat([kept, moved], dim=1), row_sums(log_scale, self.training)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> Tensor:
        """Let a network with normalisations start from what it is given; map `x`."""
        if isinstance(self.net, NormalizedNet):
            self.net.initialize(self._halves(x)[0])
        return self(x)[0]

    def inverse(self, y: Tensor) -> Tensor:
        """Change it back."""
        kept, moved = self._halves(y)
        shift, log_scale = self._coefficients(kept)
        if log_scale is not None:
            moved = moved / self._exp(log_scale)
        return torch.cat([kept, moved - shift], dim=1)


def _start_as_identity(last: nn.Conv2d | nn.Linear, affine: bool) -> None:
    """Let a network's last layer say no shift and a scale near 1, whatever the input."""
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    if affine:
        nn.init.constant_(last.bias[len(last.bias) // 2 :], _RAW_AT_START)


class PointwiseConv(nn.Linear):
    """Convolution with kernels of one pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_features, H, W) to (n, out_features, H, W)."""
        return pointwise(x, self.weight, self.bias, self.training)


class LinearMap(nn.Module):
    """Weights of a linear map of pixels or of rows, which is made with other ones in each pass.

    Parameters
    ----------
    n_in, n_out : int
        Channels or columns.
    kernel : int
        Height and width of the kernel, 1 or 3; 0 for rows without pixels.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        made = nn.Conv2d(n_in, n_out, kernel) if kernel else nn.Linear(n_in, n_out)
        self.weight = made.weight

    def apply_scaled(self, x: Tensor, factor: Tensor, bias: Tensor) -> Tensor:
        """Map `x`; each output is multiplied by a factor (n_out,), and `bias` is added."""
        weight = self.weight * factor.view(-1, *[1] * (self.weight.ndim - 1))
        if self.kernel == 0:
            return steady_linear(x, weight, bias, self.training)
        if self.kernel == 1:
            return pointwise(x, weight[:, :, 0, 0], bias, self.training)
        return F.conv2d(x, weight, bias, padding=self.kernel // 2)


class NormalizedMap(nn.Module):
    """Linear map and activation normalisation of its output, as one map.

    Parameters
    ----------
    n_in, n_out, kernel
        See :class:`LinearMap`.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.linear = LinearMap(n_in, n_out, kernel)
        self.norm = ActNorm((n_out, 1, 1) if kernel else (n_out,))

    def forward(self, x: Tensor) -> Tensor:
        """Map and normalise."""
        centre, factor, shift = (values.flatten() for values in self.norm.affine())
        return self.linear.apply_scaled(x, factor, shift - centre * factor)

    def initialize(self, x: Tensor) -> Tensor:
        """Normalise what becomes of `x` to mean 0 and variance 1; return it."""
        weight = self.linear.weight
        ones, zeros = weight.new_ones(len(weight)), weight.new_zeros(len(weight))
        return self.norm.initialize(self.linear.apply_scaled(x, ones, zeros))


class ScaledLast(nn.Module):
    """Last layer (W x + b) exp(3 s) + constant of a network, which starts as the constant.

    Outputs learn their own pace by s, which is 0 at the start, as are W and b.

    Parameters
    ----------
    n_in, n_out, kernel
        See :class:`LinearMap`.
    affine : bool
        Whether the second half of the outputs are raw scales, which start as 2.
    """

    start: Tensor

    def __init__(self, n_in: int, n_out: int, kernel: int, affine: bool) -> None:
        super().__init__()
        self.linear = LinearMap(n_in, n_out, kernel)
        nn.init.zeros_(self.linear.weight)
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.log_scale = nn.Parameter(torch.zeros(n_out))
        start = torch.zeros(n_out)
        start[n_out - affine * (n_out // 2) :] = _RAW_AT_START
        self.register_buffer("start", start, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, ...) to (n, n_out, ...)."""
        factor = (_FACTOR_RATE * self.log_scale).exp()
        return self.linear.apply_scaled(x, factor, self.bias * factor + self.start)


class NormalizedNet(nn.Module):
    """Network of a coupling with activation normalisation after each hidden layer, as Glow's.

    Parameters
    ----------
    n_in, hidden, n_out : int
        Channels or columns of the input, of the two hidden layers, and of the output.
    kernels : (int, int, int)
        Kernels of the layers; see :class:`LinearMap`.
    affine : bool
        See :class:`ScaledLast`.
    """

    def __init__(
        self, n_in: int, hidden: int, n_out: int, kernels: tuple[int, int, int], affine: bool
    ) -> None:
        super().__init__()
        self.first = NormalizedMap(n_in, hidden, kernels[0])
        self.second = NormalizedMap(hidden, hidden, kernels[1])
        self.last = ScaledLast(hidden, n_out, kernels[2], affine)
        self.is_dense = kernels[0] == 0

    def _seen(self, x: Tensor) -> Tensor:
        return x.clamp(-_FARTHEST_SEEN, _FARTHEST_SEEN) if self.is_dense else x

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, ...) to (n, n_out, ...)."""
        return self.last(F.relu(self.second(F.relu(self.first(self._seen(x))))))

    def initialize(self, x: Tensor) -> None:
        """Let the hidden layers have mean 0 and variance 1 at the rows `x`, before their ReLUs."""
        self.second.initialize(F.relu(self.first.initialize(self._seen(x))))


def conv_coupling(n_channels: int, hidden: int, affine: bool, *, norm: bool = False) -> Coupling:
    """Coupling of images by convolutions 3x3, 1x1 and 3x3 with `hidden` channels between.

    With `norm` there is activation normalisation after the first two, and the last one is scaled.
    """
    n_kept = n_channels // 2
    n_out = (1 + affine) * (n_channels - n_kept)
    if norm:
        return Coupling(NormalizedNet(n_kept, hidden, n_out, (3, 1, 3), affine), n_kept, affine)
    last = nn.Conv2d(hidden, n_out, 3, padding=1)
    _start_as_identity(last, affine)
    net = nn.Sequential(
        nn.Conv2d(n_kept, hidden, 3, padding=1),
        nn.ReLU(inplace=True),
        PointwiseConv(hidden, hidden),
        nn.ReLU(inplace=True),
        last,
    )
    return Coupling(net, n_kept, affine)


class Conditioner(MLP):
    """Perceptron with two hidden layers of ReLUs that sees no number farther from 0 than some."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, sizes[0]) to (n, sizes[-1])."""
        return super().forward(x.clamp(-_FARTHEST_SEEN, _FARTHEST_SEEN))


def dense_coupling(n_features: int, hidden: int, affine: bool, *, norm: bool = False) -> Coupling:
    """Coupling of rows of at least two numbers by a perceptron (S2.2); `norm` as above."""
    n_kept = -(-n_features // 2)
    n_out = (1 + affine) * (n_features - n_kept)
    if norm:
        return Coupling(NormalizedNet(n_kept, hidden, n_out, (0, 0, 0), affine), n_kept, affine)
    net = Conditioner([n_kept, hidden, hidden, n_out], "relu")
    _start_as_identity(net.layers[-1], affine)
    return Coupling(net, n_kept, affine)


class Elementwise(FlowLayer):
    """Every column by itself: y = x + sum_k a_k tanh((x - c_k) / w_k) with a_k, w_k > 0.

    It is steeper than 1 around the c_k, which draws probability there, and the identity plus a
    constant far away.

    Parameters
    ----------
    n_features : int
        Number of columns.
    n_units : int
        Number of terms K.
    """

    def __init__(self, n_features: int, n_units: int) -> None:
        super().__init__()
        centres = torch.linspace(-2, 2, n_units).repeat(n_features, 1)
        self.centres = nn.Parameter(centres)
        self.log_heights = nn.Parameter(torch.full_like(centres, -3.0))
        self.log_widths = nn.Parameter(torch.full_like(centres, -1.0))

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values and slopes (n, d) of the sum."""
        x = x if self.training else precise(x)
        heights, widths = self.log_heights.exp(), self.log_widths.exp()
        bends = torch.tanh((x[:, :, None] - self.centres) / widths)
        slopes = (1 - bends.square()) * (heights / widths)
        return (bends * heights).sum(dim=2), slopes.sum(dim=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Bend the columns of (n, d)."""
        value, slope = self._terms(x)
        y = (x + value).to(x.dtype)
        log_slope = slope.log1p()
        if not self.training:
            log_slope = log_slope.to(x.dtype)
        return y, row_sums(log_slope, self.training)

    def inverse(self, y: Tensor) -> Tensor:
        """Find by bisection what :meth:`forward` maps to `y`."""
        target = precise(y)
        reach = precise(self.log_heights).exp().sum(dim=1)
        low, high = target - reach, target + reach
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = middle + self._terms(middle)[0] < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (0.5 * (low + high)).to(y.dtype)
