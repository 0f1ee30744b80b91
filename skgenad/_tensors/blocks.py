"""Blocks of networks of images: residual, attention, spectral norms, normalised groups."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .maps import SpectralLinear, SpectralWeight

# The slope of leaky rectifiers, and the most groups that a map's channels are normalised in.
LEAKY = 0.2
_GROUPS = 8


class SpectralConv2d(SpectralWeight):
    """Convolution whose weight, as a matrix of as many rows as outputs, has the spectral norm 1.

    Parameters
    ----------
    conv : nn.Conv2d
        Gives weight, bias, stride, zero padding, dilation and groups.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.weight, conv.bias)
        if conv.padding_mode != "zeros":
            raise ValueError(
                f"spectral normalisation knows convolutions that are padded by zeros, got "
                f"padding_mode={conv.padding_mode!r}. Pad by a layer of its own."
            )
        self.how: tuple[Any, ...] = (conv.stride, conv.padding, conv.dilation, conv.groups)

    def freed(self) -> nn.Conv2d:
        """Convolution of the weight before the division."""
        n_out, per_group, *kernel = self.raw_weight.shape
        size: Any = tuple(kernel)
        with torch.device("meta"):
            free = nn.Conv2d(per_group * self.how[-1], n_out, size, *self.how)
        free.weight, free.bias = self.raw_weight, self.bias
        return free

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, H, W) to (n, out, H', W')."""
        return F.conv2d(x, self.weight, self.bias, *self.how)


def with_spectral_norm(module: nn.Module) -> nn.Module:
    """Replace, in place, all linear layers and convolutions of images in `module`; return it."""
    if isinstance(module, nn.Linear):
        return SpectralLinear(module)
    if isinstance(module, nn.Conv2d):
        return SpectralConv2d(module)
    for name, child in module.named_children():
        normalized = with_spectral_norm(child)
        if normalized is not child:
            setattr(module, name, normalized)
    return module


def with_free_last(module: nn.Module) -> nn.Module:
    """Take, in place, the spectral norm from the last of the layers that have one; return `module`.

    The last is that which stands last among the modules, in a row of layers the one at its end.
    """
    kinds = (SpectralLinear, SpectralConv2d)
    layers = [(p, m) for p, m in module.named_modules() if isinstance(m, kinds)]
    if not layers:
        raise ValueError(
            f"free_last=True would be ignored: {type(module).__name__} has no linear layer and no "
            "convolution of images with a spectral norm. Leave it None."
        )
    path, last = layers[-1]
    if not path:
        return last.freed()
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, last.freed())
    return module


class ResBlock(nn.Module):
    """Residual block of two convolutions, each after an activation: x + F2(a(F1(a(x)))).

    Parameters
    ----------
    n_in, n_out : int
        Channels. Where they differ, a 1x1 convolution without bias brings x to `n_out`.
    hidden : int, optional
        Channels between the convolutions; `n_out` unless given.
    slope : float, default=0.2
        Slope of the activation below 0.
    up : bool, default=False
        Whether maps are doubled, to their nearest pixel, after the first activation.
    groups : bool, default=False
        Whether groups of channels are normalised before the activations.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: int | None = None,
        slope: float = LEAKY,
        up: bool = False,
        groups: bool = False,
    ) -> None:
        super().__init__()
        hidden = n_out if hidden is None else hidden
        self.slope, self.up = slope, up
        self.first = nn.Conv2d(n_in, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, n_out, 3, padding=1)
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, bias=False)
        self.norms = nn.ModuleList(
            group_norm(n) if groups else nn.Identity() for n in (n_in, hidden)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_in, H, W) to (n, n_out, H, W), doubled sides with `up`."""
        change = F.leaky_relu(self.norms[0](x), self.slope)
        if self.up:
            x, change = F.interpolate(x, scale_factor=2), F.interpolate(change, scale_factor=2)
        change = F.leaky_relu(self.norms[1](self.first(change)), self.slope)
        return self.shortcut(x) + self.second(change)


class AttentionBlock(nn.Module):
    """NAE's ResAtt: x + R1(x) * sigmoid(R2(x)) with residual blocks R1 and R2.

    Parameters
    ----------
    channels, hidden : int
        Channels of x, and between the convolutions of the two blocks.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.value = ResBlock(channels, channels, hidden)
        self.gate = ResBlock(channels, channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, H, W) to the same shape."""
        return torch.addcmul(x, self.value(x), torch.sigmoid(self.gate(x)))


class DenseResBlock(nn.Module):
    """NAE's FCRes: x + F2(relu(F1(relu(x)))) with two linear layers.

    Parameters
    ----------
    width, hidden : int
        Widths of x, and between the layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width) to (n, width)."""
        return x + self.second(F.relu(self.first(F.relu(x))))


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalise eight groups of channels, or the largest divisor of eight that divides them."""
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


def inplace_relu() -> nn.ReLU:
    # The output overwrites the input, a convolution's output that nothing else needs.
    return nn.ReLU(inplace=True)


@torch.no_grad()
def he_initialized(net: nn.Module) -> nn.Module:
    """Draw the weights of `net` so that layers of ReLUs keep the scale of their input; return it.

    He et al., 2015: N(0, 2 / fan) and no biases. With torch's own weights a signal shrinks with
    every layer and the biases drown it: these networks then begin with hundreds of steps in
    which they reconstruct nothing but the mean.
    """
    before: nn.Module | None = None
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / _fan(module, before)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        before = module
    return net


def _fan(layer: nn.Module, before: nn.Module | None) -> float:
    """Count the inputs that an output of a layer sees."""
    if not isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[0].numel()  # type: ignore[index]
    # A latent vector is a map of a single pixel, so that each output sees only its channels.
    alone = isinstance(before, nn.Unflatten)
    taps = 1.0 if alone else math.prod(layer.kernel_size) / math.prod(layer.stride)
    return layer.in_channels * max(1.0, taps)
