"""Networks of images: the papers' convolutional autoencoders, of any width and any channels.

An architecture makes two modules: an encoder, (n, *shape) -> (n, d_z), and a decoder back. Those of
images want a shape (C, H, W); their decoders end in a sigmoid, pixels being in [0, 1].

=============  =========================================================================
"fcres"        NAE, Table 10, FCRes2; for tables as well, and without the sigmoid
"conv"         our own, for any size; CANCE's paper gives no table of its autoencoder
"conv28"       NAE, Table 10, Conv28, as in MPDR, Table 8, "MNIST"
"conv32"       NAE, Table 10, Conv32
"conv32big"    NAE, Table 10, Conv32Big; MPDR, Table 8, "CIFAR-10 Encoder / Decoder 2"
"conv64"       NAE, Table 10, Conv64
"cifar1"       MPDR, Table 8, "CIFAR-10 Encoder / Decoder 1"
=============  =========================================================================

Sizes other than the paper's: what a layer sees of the last map, or makes of the first, is the whole
map, whatever its size, so that all other layers are the paper's; a size that the strides of the
decoder cannot reach is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from .blocks import (
    LEAKY,
    AttentionBlock,
    DenseResBlock,
    ResBlock,
    group_norm,
    he_initialized,
    inplace_relu,
    with_spectral_norm,
)

Shape = tuple[int, ...]


class Architecture:
    """Makes encoders and decoders of one kind.

    Parameters
    ----------
    width : float, default=1.0
        Factor on all numbers of channels but those of images and latent vectors.
    """

    name: ClassVar[str]
    #: Says whether weights are drawn by :func:`he_initialized`; networks that are residual
    #: throughout keep those of torch.
    he: ClassVar[bool] = True
    #: Says in words which heights and widths fit; for error messages.
    sizes: ClassVar[str]

    def __init__(self, width: float = 1.0) -> None:
        self.width = width

    def channels(self, *paper: int) -> list[int]:
        """Numbers of channels, at least 1 each, for those of the paper."""
        return [max(1, round(self.width * n)) for n in paper]

    def fits(self, side: int) -> bool:
        """Whether a height or width can be encoded and decoded."""
        raise NotImplementedError

    def check(self, shape: Shape) -> None:
        """Raise ValueError unless the architecture takes `shape`."""
        if len(shape) != 3:
            raise ValueError(
                f"network={self.name!r} is for images: give image_shape=(channels, height, width), "
                "or use network='mlp' or 'fcres' for tables."
            )
        bad = [
            f"{word} {side}"
            for word, side in zip(("height", "width"), shape[1:], strict=True)
            if not self.fits(side)
        ]
        if bad:
            raise ValueError(
                f"network={self.name!r} does not fit image_shape={shape!r}: {' and '.join(bad)}. "
                f"It fits heights and widths of {self.sizes}. Resize or pad the images, or use "
                "network='conv', which fits any size."
            )

    def make_encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        """Make an encoder from (n, *shape) to (n, latent_dim)."""
        self.check(shape)
        net = self._encoder(shape, latent_dim)
        return he_initialized(net) if self.he else net

    def make_decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        """Make a decoder from (n, latent_dim) to (n, *shape)."""
        self.check(shape)
        net = self._decoder(latent_dim, shape)
        return he_initialized(net) if self.he else net

    def _encoder(self, shape: Any, latent_dim: int) -> nn.Module:
        raise NotImplementedError

    def _decoder(self, latent_dim: int, shape: Any) -> nn.Module:
        raise NotImplementedError


def _after(side: int, kernel: int, stride: int = 1) -> int:
    """Side of a map after a convolution without padding; 0 if the kernel does not fit."""
    return max(0, (side - kernel) // stride + 1)


def _each(sides: Sequence[int], kernels: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Sides of a map after several convolutions without padding, (kernel, stride) each."""
    height, width = sides
    for kernel, stride in kernels:
        height, width = _after(height, kernel, stride), _after(width, kernel, stride)
    return height, width


class FCRes(Architecture):
    """NAE's FCRes2: five residual blocks of two linear layers, 256 and 1024 wide."""

    name = "fcres"
    he = False
    n_blocks: ClassVar[int] = 5

    def check(self, shape: Shape) -> None:
        """Any shape fits."""

    def _blocks(self) -> list[nn.Module]:
        width, hidden = self.channels(256, 1024)
        return [*(DenseResBlock(width, hidden) for _ in range(self.n_blocks)), inplace_relu()]

    def _encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        (width,) = self.channels(256)
        first, last = nn.Linear(math.prod(shape), width), nn.Linear(width, latent_dim)
        return nn.Sequential(nn.Flatten(), first, *self._blocks(), last)

    def _decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        (width,) = self.channels(256)
        first, last = nn.Linear(latent_dim, width), nn.Linear(width, math.prod(shape))
        return nn.Sequential(first, *self._blocks(), last, nn.Unflatten(1, shape))


class Conv(Architecture):
    """Three 3x3 convolutions of stride 2 and a linear layer, mirrored; fits any size."""

    name = "conv"

    def fits(self, side: int) -> bool:
        """All sides fit: transposed convolutions are padded to those that the encoder had."""
        return True

    def _maps(self, shape: Shape) -> list[tuple[int, int, int]]:
        """Channels and sides of the maps from the image to the smallest."""
        maps = [(shape[0], shape[1], shape[2])]
        for n in self.channels(32, 64, 128):
            maps.append((n, -(-maps[-1][1] // 2), -(-maps[-1][2] // 2)))
        return maps

    def _encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        maps = self._maps(shape)
        layers: list[nn.Module] = []
        for (n_in, *_), (n_out, *_) in zip(maps[:-1], maps[1:], strict=True):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), inplace_relu()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(math.prod(maps[-1]), latent_dim))

    def _decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        maps = self._maps(shape)[::-1]
        layers: list[nn.Module] = [nn.Linear(latent_dim, math.prod(maps[0]))]
        layers += [nn.Unflatten(1, maps[0])]
        for (n_in, h, w), (n_out, height, width) in zip(maps[:-1], maps[1:], strict=True):
            odd = (height - 2 * h + 1, width - 2 * w + 1)
            up = nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=odd)
            layers += [inplace_relu(), up]
        return nn.Sequential(*layers, nn.Sigmoid())


class Conv28(Architecture):
    """NAE's Conv28 in the form that comes out at 28x28, MPDR's "MNIST" (Table 8).

    The encoder's last convolution covers the whole map, 4x4 at 28x28, and is written as the linear
    layer that it is; the decoder's first one makes a map of the same size.
    """

    name = "conv28"
    sizes = "4k + 12 pixels (16, 20, 24, 28, 32, ...)"

    def fits(self, side: int) -> bool:
        """Whether the decoder comes out where the encoder started."""
        return side >= 16 and side % 4 == 0

    def _encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        a, b, c, d = self.channels(32, 64, 128, 1024)
        height, width = ((side - 12) // 4 for side in shape[1:])
        return nn.Sequential(
            nn.Conv2d(shape[0], a, 3),
            inplace_relu(),
            nn.Conv2d(a, b, 3),
            # Pooling before the activation gives the same as after it, on a fourth of the pixels.
            nn.MaxPool2d(2),
            inplace_relu(),
            nn.Conv2d(b, b, 3),
            inplace_relu(),
            nn.Conv2d(b, c, 3),
            nn.MaxPool2d(2),
            inplace_relu(),
            nn.Flatten(),
            nn.Linear(c * height * width, d),
            inplace_relu(),
            nn.Linear(d, latent_dim),
        )

    def _decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        a, b, c = self.channels(128, 64, 32)
        first = ((shape[1] - 12) // 4, (shape[2] - 12) // 4)
        return nn.Sequential(
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, a, first),
            inplace_relu(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.ConvTranspose2d(a, b, 3),
            inplace_relu(),
            nn.ConvTranspose2d(b, b, 3),
            inplace_relu(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.ConvTranspose2d(b, c, 3),
            inplace_relu(),
            nn.ConvTranspose2d(c, shape[0], 3),
            nn.Sigmoid(),
        )


class Conv32(Architecture):
    """NAE's Conv32: strided convolutions, and residual attention on the latent vector.

    The encoder's fourth convolution covers the whole map, 2x2 at 32x32; the decoder's first one
    makes a map of a fourth of the sides less 2, 6x6 at 32x32.
    """

    name = "conv32"
    sizes = "4k pixels from 24 on (24, 28, 32, ...)"
    strides: ClassVar[list[tuple[int, int]]] = [(4, 2), (4, 2), (4, 2)]

    def fits(self, side: int) -> bool:
        """Whether three strided convolutions leave something, and the decoder comes out there."""
        return side >= 24 and side % 4 == 0

    def _trunk(self, shape: Shape) -> list[nn.Module]:
        """Four convolutions, the last one onto a single pixel."""
        a, b, c, d = self.channels(32, 64, 128, 256)
        return [
            nn.Conv2d(shape[0], a, 4, 2),
            inplace_relu(),
            nn.Conv2d(a, b, 4, 2),
            inplace_relu(),
            nn.Conv2d(b, c, 4, 2),
            inplace_relu(),
            nn.Conv2d(c, d, _each(shape[1:], self.strides)),
            inplace_relu(),
        ]

    def _encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        d, hidden = self.channels(256, 1024)
        onto_latent = nn.Conv2d(d, latent_dim, 1)
        attention = AttentionBlock(latent_dim, hidden)
        return nn.Sequential(
            *self._trunk(shape), onto_latent, inplace_relu(), attention, nn.Flatten()
        )

    def _decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        a, b, c = self.channels(256, 128, 64)
        return nn.Sequential(
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, a, ((shape[1] - 8) // 4, (shape[2] - 8) // 4)),
            inplace_relu(),
            nn.ConvTranspose2d(a, b, 4, 2),
            inplace_relu(),
            nn.ConvTranspose2d(b, c, 4, 2),
            inplace_relu(),
            nn.ConvTranspose2d(c, shape[0], 3),
            nn.Sigmoid(),
        )


class Cifar1(Conv32):
    """MPDR's "CIFAR-10 Encoder 1" and "Decoder 1" (Table 8): Conv32 with a linear last layer.

    The decoder's first convolution makes a map of a fourth of the sides, 8x8 at 32x32.
    """

    name = "cifar1"

    def _encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        (d,) = self.channels(256)
        return nn.Sequential(*self._trunk(shape), nn.Flatten(), nn.Linear(d, latent_dim))

    def _decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        a, b, c = self.channels(256, 128, 64)
        return nn.Sequential(
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, a, (shape[1] // 4, shape[2] // 4)),
            inplace_relu(),
            nn.ConvTranspose2d(a, b, 4, 2, 1),
            inplace_relu(),
            nn.ConvTranspose2d(b, c, 4, 2, 1),
            inplace_relu(),
            nn.ConvTranspose2d(c, shape[0], 1),
            nn.Sigmoid(),
        )


class Conv32Big(Architecture):
    """NAE's Conv32Big, MPDR's "CIFAR-10 Encoder 2" and "Decoder 2": residual networks.

    Spectral normalisation in the encoder; eight groups normalised in the decoder, before each
    activation. The encoder averages over the whole last map; the decoder's first convolution makes
    a map of an eighth of the sides, 4x4 at 32x32.
    """

    name = "conv32big"
    he = False
    sizes = "8k pixels from 16 on (16, 24, 32, ...)"

    def fits(self, side: int) -> bool:
        """Whether sides can be halved three times, and leave more than a pixel to normalise."""
        return side >= 16 and side % 8 == 0

    def _encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        a, b = self.channels(128, 256)
        return with_spectral_norm(
            nn.Sequential(
                nn.Conv2d(shape[0], a, 3, padding=1),
                ResBlock(a, a),
                nn.AvgPool2d(2),
                ResBlock(a, a),
                ResBlock(a, b),
                nn.AvgPool2d(2),
                ResBlock(b, b),
                ResBlock(b, b),
                nn.AvgPool2d(2),
                ResBlock(b, b),
                nn.LeakyReLU(LEAKY),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(b, latent_dim),
            )
        )

    def _decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        (a,) = self.channels(128)
        return nn.Sequential(
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, a, (shape[1] // 8, shape[2] // 8)),
            *(ResBlock(a, a, slope=0.0, up=True, groups=True) for _ in range(3)),
            group_norm(a),
            inplace_relu(),
            nn.Conv2d(a, shape[0], 3, padding=1),
            nn.Sigmoid(),
        )


class Conv64(Architecture):
    """NAE's Conv64: 5x5 convolutions of stride 2, eight groups normalised before each activation.

    The encoder's linear layer sees the whole last map, 1x1 at 64x64; the decoder's first
    convolution makes a map of an eighth of the sides, 8x8 at 64x64.
    """

    name = "conv64"
    sizes = "8k pixels from 64 on (64, 72, 80, ...)"
    strides: ClassVar[list[tuple[int, int]]] = [(5, 2)] * 4

    def fits(self, side: int) -> bool:
        """Whether four strided convolutions leave something, and the decoder comes out there."""
        return side >= 64 and side % 8 == 0

    def _encoder(self, shape: Shape, latent_dim: int) -> nn.Module:
        sizes = [shape[0], *self.channels(256, 512, 1024, 2048)]
        layers: list[nn.Module] = []
        for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Conv2d(n_in, n_out, 5, 2), group_norm(n_out), inplace_relu()]
        left = sizes[-1] * math.prod(_each(shape[1:], self.strides))
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(left, latent_dim))

    def _decoder(self, latent_dim: int, shape: Shape) -> nn.Module:
        sizes = self.channels(1024, 512, 256, 128)
        first = nn.ConvTranspose2d(latent_dim, sizes[0], (shape[1] // 8, shape[2] // 8))
        layers: list[nn.Module] = [nn.Unflatten(1, (latent_dim, 1, 1)), first]
        layers += [group_norm(sizes[0]), inplace_relu()]
        for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.ConvTranspose2d(n_in, n_out, 4, 2, 1), group_norm(n_out), inplace_relu()]
        return nn.Sequential(*layers, nn.ConvTranspose2d(sizes[-1], shape[0], 1), nn.Sigmoid())
