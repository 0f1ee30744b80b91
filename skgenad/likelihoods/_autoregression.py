"""Networks that see, at each place, nothing but what comes before it: the parts of `PixelCNN`.

The order of pixels is that of reading; the channels of one pixel are left to its mixture of
logistic distributions. Two streams of gated residual blocks go through the image: one of the rows
above, "down", and one of those and of what is to the left, "down and right", which takes from the
first (Salimans et al., 2017). A table's row is an image of one line; its one stream sees what is to
the left through convolutions that reach twice as far from block to block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.device import precise

from ._logistics import LogisticMixture, n_parameters

Shape = tuple[int, ...]
Make = Callable[[int, int], nn.Module]

N_LEVELS = 256
_SAMPLE_CHUNK = 1024  # rows that `sample` draws at once


class CausalConv(nn.Conv2d):
    """Convolution whose kernel ends in the place itself, below or below and to the right.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel : (int, int)
        Height and width.
    right : bool
        Whether the kernel ends at the right, too; else it is centred.
    stride, reach : int, default=1
        Stride, and distance of the places that are seen, in width.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: tuple[int, int],
        right: bool,
        stride: int = 1,
        reach: int = 1,
    ) -> None:
        super().__init__(n_in, n_out, kernel, stride=stride, dilation=(1, reach))
        beside = reach * (kernel[1] - 1)
        left = beside if right else beside // 2
        self.margins = (left, beside - left, kernel[0] - 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, H, W) to (n, n_out, H, W), or half of both."""
        return super().forward(F.pad(x, self.margins))


def moved_down(x: Tensor) -> Tensor:
    """Move maps by a row, so that a place has what was above it."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def moved_right(x: Tensor) -> Tensor:
    """Move maps by a column, so that a place has what was to its left."""
    return F.pad(x, (1, 0))[..., :-1]


def _both_signs(x: Tensor) -> Tensor:
    """Activation: exponential linear units of x and of -x."""
    return F.elu(torch.cat([x, -x], dim=1))


class GatedBlock(nn.Module):
    """Residual block, x + a sigmoid(b), where a and b are of x and of maps beside it.

    Parameters
    ----------
    width : int
        Channels.
    conv : callable
        Makes a convolution of so many channels to so many.
    n_beside : int
        Channels of the maps beside.
    dropout : float
        Share of channels that are left out in training.
    """

    def __init__(self, width: int, conv: Make, n_beside: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = conv(2 * width, width), conv(2 * width, 2 * width)
        self.beside = nn.Conv2d(2 * n_beside, width, 1) if n_beside else None
        self.dropout = draws.Dropout2d(dropout)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Map (n, width, H, W) with maps (n, n_beside, H, W) to (n, width, H, W)."""
        y = self.first(_both_signs(x))
        if self.beside is not None:
            assert beside is not None
            y = y + self.beside(_both_signs(beside))
        a, b = self.second(self.dropout(_both_signs(y))).chunk(2, dim=1)
        return x + a * torch.sigmoid(b)


def _down(n_in: int, n_out: int) -> CausalConv:
    return CausalConv(n_in, n_out, (2, 3), right=False)


def _down_right(n_in: int, n_out: int) -> CausalConv:
    return CausalConv(n_in, n_out, (2, 2), right=True)


class Level(nn.Module):
    """Pairs of blocks at one size of the maps, on the way to smaller ones or back.

    Parameters
    ----------
    width, n_blocks : int
        Channels, and pairs of blocks.
    back : bool
        Whether the maps of the way there come in beside.
    dropout : float
        See :class:`GatedBlock`.
    """

    def __init__(self, width: int, n_blocks: int, back: bool, dropout: float) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            GatedBlock(width, _down, width if back else 0, dropout) for _ in range(n_blocks)
        )
        self.right = nn.ModuleList(
            GatedBlock(width, _down_right, 2 * width if back else width, dropout)
            for _ in range(n_blocks)
        )


class ImageNet(nn.Module):
    """Parameters of a mixture at each pixel, of the pixels before it.

    Parameters
    ----------
    n_channels, n_out : int
        Channels of images, and numbers for each pixel.
    width, n_blocks, n_scales : int
        Channels of maps, pairs of blocks at each size on each way, and number of sizes, each half
        of the one before.
    dropout : float
        See :class:`GatedBlock`.
    """

    def __init__(
        self,
        n_channels: int,
        n_out: int,
        *,
        width: int,
        n_blocks: int,
        n_scales: int,
        dropout: float,
    ) -> None:
        super().__init__()
        n_in = n_channels + 1  # a channel of ones tells pixels from the margin
        self.above = CausalConv(n_in, width, (2, 3), right=False)
        self.row_above = CausalConv(n_in, width, (1, 3), right=False)
        self.left = CausalConv(n_in, width, (2, 1), right=True)
        steps = range(n_scales - 1)
        self.there = nn.ModuleList(Level(width, n_blocks, False, dropout) for _ in range(n_scales))
        self.shrink_down = nn.ModuleList(
            CausalConv(width, width, (2, 3), right=False, stride=2) for _ in steps
        )
        self.shrink_right = nn.ModuleList(
            CausalConv(width, width, (2, 2), right=True, stride=2) for _ in steps
        )
        self.back = nn.ModuleList(
            Level(width, n_blocks + (i > 0), True, dropout) for i in range(n_scales)
        )
        self.grow_down = nn.ModuleList(_down(width, width) for _ in steps)
        self.grow_right = nn.ModuleList(_down_right(width, width) for _ in steps)
        self.last = nn.Conv2d(width, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, C, H, W) to (n, n_out, H, W)."""
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        u = moved_down(self.above(x))
        v = moved_down(self.row_above(x)) + moved_right(self.left(x))
        kept = [(u, v)]
        for i, level in enumerate(self.there):
            for down, right in zip(level.down, level.right, strict=True):  # type: ignore[arg-type]
                u = down(u)
                v = right(v, u)
                kept.append((u, v))
            if i < len(self.shrink_down):
                u, v = self.shrink_down[i](u), self.shrink_right[i](v)
                kept.append((u, v))
        u, v = kept.pop()
        for i, level in enumerate(self.back):
            for down, right in zip(level.down, level.right, strict=True):  # type: ignore[arg-type]
                old_u, old_v = kept.pop()
                u = down(u, old_u)
                v = right(v, torch.cat([u, old_v], dim=1))
            if i < len(self.grow_down):
                # The nearest place of the small map has seen no pixel that comes after this one.
                u, v = (F.interpolate(maps, scale_factor=2, mode="nearest") for maps in (u, v))
                u, v = self.grow_down[i](u), self.grow_right[i](v)
        return self.last(F.elu(v))


class ColumnNet(nn.Module):
    """Parameters of a mixture for each column of a table, of the columns before it.

    Parameters
    ----------
    n_columns, n_out : int
        Columns, and numbers for each.
    width : int
        Channels.
    n_blocks : int
        Number of blocks, at least 1: the first stands for as many as let the last column see the
        first one, and each other for itself.
    dropout : float
        See :class:`GatedBlock`.
    """

    def __init__(
        self, n_columns: int, n_out: int, *, width: int, n_blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 1)
        # Columns, unlike pixels, mean different things, so each has a learned vector.
        self.place = nn.Parameter(0.1 * torch.randn(1, width, 1, n_columns))
        n_needed = max(1, math.ceil(math.log2(n_columns)))
        self.blocks = nn.ModuleList(
            GatedBlock(width, self._conv(2 ** (i % n_needed)), dropout=dropout)
            for i in range(n_needed + n_blocks - 1)
        )
        self.last = nn.Conv2d(width, n_out, 1)

    @staticmethod
    def _conv(reach: int) -> Make:
        return lambda n_in, n_out: CausalConv(n_in, n_out, (1, 2), right=True, reach=reach)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n, 1, 1, D) to (n, n_out, 1, D)."""
        # asinh brings rows far away nearer; otherwise the blocks' output would overflow.
        h = moved_right(self.first(torch.asinh(x))) + self.place
        for block in self.blocks:
            h = block(h)
        return self.last(F.elu(h))


class Autoregression(nn.Module):
    """The density, or probability, of rows as the product over places of those of mixtures.

    Parameters
    ----------
    net : nn.Module
        Maps (n, C, H, W) to the mixtures' parameters, (n, n_parameters, H, W).
    shape : (int, int, int)
        C, H and W.
    n_components : int
        Components of a mixture.
    n_levels : int or None
        Number of levels that pixels in [0, 1] have; None for any numbers.
    """

    def __init__(
        self, net: nn.Module, shape: Shape, n_components: int, n_levels: int | None
    ) -> None:
        super().__init__()
        self.net, self.shape, self.n_levels = net, shape, n_levels
        self._spread(n_components)

    @torch.no_grad()
    def _spread(self, n_components: int) -> None:
        """Let the components begin at different places, whatever the input."""
        last, c = self.net.last, self.shape[0]
        last.weight.mul_(0.1)  # type: ignore[union-attr, operator]
        bias = torch.zeros(n_components, n_parameters(1, c))
        bias[:, 1 : 1 + c] = torch.linspace(-1, 1, n_components + 2)[1:-1, None]
        bias[:, 1 + c : 1 + 2 * c] = -1.0
        last.bias.copy_(bias.flatten())  # type: ignore[union-attr, operator]

    def _places(self, x: Tensor) -> Tensor:
        """Rows (n, d) as images; pixels at their levels, in [-1, 1]."""
        if self.n_levels is not None:
            x = (x * (self.n_levels - 1)).round() / ((self.n_levels - 1) / 2) - 1
        return x.unflatten(1, self.shape)

    def mixture(self, places: Tensor) -> LogisticMixture:
        """Mixtures of images (n, C, H, W)."""
        parameters = self.net(places)
        return LogisticMixture.of(
            parameters if self.training else precise(parameters), self.shape[0]
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d) in nats; log probabilities of pixels."""
        places = self._places(x)
        mixture = self.mixture(places)
        places = places.to(mixture.means)
        if self.n_levels is not None:
            each = mixture.log_probability(places, self.n_levels)
        else:
            each = mixture.log_density(places)
        return each.flatten(1).sum(dim=1)

    def contributions(self, x: Tensor) -> Tensor:
        """Log densities of rows (n, d) as those of one scale, (n, 1)."""
        return self.log_prob(x)[:, None]

    def initialize(self, x: Tensor) -> None:
        """Set nothing: unlike a flow, this does not depend on data before it is trained."""

    def sample(self, n: int) -> Tensor:
        """Draw rows (n, d), one place after the other."""
        return torch.cat(
            [self._draw(min(_SAMPLE_CHUNK, n - i)) for i in range(0, n, _SAMPLE_CHUNK)]
        )

    def _draw(self, n: int) -> Tensor:
        like = next(self.parameters())
        channels, height, width = self.shape
        x = torch.zeros(n, channels, height, width, device=like.device, dtype=like.dtype)
        for row in range(height):
            for column in range(width):
                drawn = self.mixture(x).sample(self.n_levels)
                x[:, :, row, column] = drawn[:, :, row, column].to(x)
        if self.n_levels is None:
            return x.flatten(1)
        steps = self.n_levels - 1
        return ((x.flatten(1) + 1) * (steps / 2)).round() / steps


def image_model(
    shape: Shape, *, n_components: int, n_levels: int = N_LEVELS, **settings: Any
) -> Autoregression:
    """Make a model of images (C, H, W) of pixels in [0, 1] with so many levels.

    The other settings are those of :class:`ImageNet`.
    """
    net = ImageNet(shape[0], n_parameters(n_components, shape[0]), **settings)
    return Autoregression(net, shape, n_components, n_levels)


def column_model(n_columns: int, *, n_components: int, **settings: Any) -> Autoregression:
    """Make a model of a table's rows of any numbers.

    The other settings are those of :class:`ColumnNet`.
    """
    net = ColumnNet(n_columns, n_parameters(n_components, 1), **settings)
    return Autoregression(net, (1, 1, n_columns), n_components, n_levels=None)
