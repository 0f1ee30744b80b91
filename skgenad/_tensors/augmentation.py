"""Random changes of images that leave them images: flip, shift, resized crop, jitter, greyscale.

All take (n, C, H, W) in [0, 1] and return the same. Every image is changed on its own, with the
probability of the change; the settings are those of MPDR on CIFAR-10, which are SimCLR's, and for
shifts those of Glow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import draws
from .foreign import own_draws

Change = Callable[[Tensor], Tensor]

# Weights of red, green and blue in the luminance (ITU-R BT.601).
_LUMINANCE = (0.299, 0.587, 0.114)
_RATIOS = (3 / 4, 4 / 3)


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """Draw a number for each image, (n, 1, 1, 1)."""
    return low + (high - low) * draws.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)


def _in_some(changed: Tensor, x: Tensor, probability: float) -> Tensor:
    """Take each image of `changed` with a probability, that of `x` otherwise."""
    hit = draws.rand(len(x), 1, 1, 1, device=x.device) < probability
    return torch.where(hit, changed, x)


def flipped(x: Tensor, probability: float = 0.5) -> Tensor:
    """Mirror images, left to right."""
    return _in_some(x.flip(3), x, probability)


def shifted(x: Tensor, probability: float = 1.0, largest: float = 0.1) -> Tensor:
    """Move images by whole pixels, up to a share `largest` of their height and width each way.

    Pixels that come in from outside are 0. The largest move is a pixel at least, in small images.
    """
    n, channels, height, width = x.shape
    device = x.device
    most_y, most_x = (max(1, round(largest * size)) for size in (height, width))
    padded = F.pad(x, (most_x, most_x, most_y, most_y))
    from_y = draws.randint(2 * most_y + 1, (n, 1), device=device) + torch.arange(
        height, device=device
    )
    from_x = draws.randint(2 * most_x + 1, (n, 1), device=device) + torch.arange(
        width, device=device
    )
    image = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    moved = padded[image, channel, from_y[:, None, :, None], from_x[:, None, None, :]]
    return _in_some(moved, x, probability)


def cropped(
    x: Tensor,
    probability: float = 0.2,
    scale: tuple[float, float] = (0.08, 1.0),
    ratios: tuple[float, float] = _RATIOS,
) -> Tensor:
    """Cut out a random rectangle and enlarge it to the size of the image, bilinearly.

    Its area is a share `scale` of the image's, its width over its height in `ratios`, as far as
    the image is that wide and high.
    """
    area = _uniform(x, *scale)
    ratio = _uniform(x, math.log(ratios[0]), math.log(ratios[1])).exp()
    # From here on widths and heights are shares of the image's, and so is their ratio.
    ratio = ratio * x.shape[2] / x.shape[3]
    width = (area * ratio).sqrt().clamp_max(1)
    height = (area / ratio).sqrt().clamp_max(1)
    # The middle of the crop, in coordinates that run from -1 to 1 between the borders.
    at_x, at_y = _uniform(x, -1, 1) * (1 - width), _uniform(x, -1, 1) * (1 - height)
    zero = torch.zeros_like(width)
    rows = [torch.cat([width, zero, at_x], dim=3), torch.cat([zero, height, at_y], dim=3)]
    grid = F.affine_grid(torch.cat(rows, dim=2)[:, 0], list(x.shape), align_corners=False)
    crop = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return _in_some(crop, x, probability)


def jittered(
    x: Tensor,
    probability: float = 0.2,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.4,
) -> Tensor:
    """Change brightness, contrast and, in three channels, saturation and hue, in this order.

    The first three are multiplied by a factor up to so much above or below 1, hue is turned by up
    to so much of a full turn.
    """

    def blend(image: Tensor, other: Tensor, strength: float) -> Tensor:
        factor = _uniform(x, max(0.0, 1 - strength), 1 + strength)
        return torch.lerp(other, image, factor).clamp(0, 1)

    changed = blend(x, torch.zeros_like(x), brightness)
    mean = greyscale(changed).mean(dim=(1, 2, 3), keepdim=True)
    changed = blend(changed, mean.expand_as(x), contrast)
    if x.shape[1] == 3:
        changed = blend(changed, greyscale(changed), saturation)
        changed = turned_hue(changed, _uniform(x, -hue, hue))
    return _in_some(changed, x, probability)


def greyed(x: Tensor, probability: float = 0.2) -> Tensor:
    """Take the colour out of images."""
    return _in_some(greyscale(x), x, probability)


def greyscale(x: Tensor) -> Tensor:
    """Luminance in all channels; the mean of channels that are not red, green and blue."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True).expand_as(x)
    red, green, blue = (w * x[:, c : c + 1] for c, w in enumerate(_LUMINANCE))
    return (red + green + blue).expand_as(x)


def turned_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of red, green and blue (n, 3, H, W) by shares (n, 1, 1, 1) of a full turn.

    Saturation and value, in the sense of the HSV model, stay as they are.
    """
    value, at = x.max(dim=1, keepdim=True)
    chroma = value - x.amin(dim=1, keepdim=True)
    # The two other channels, in the order of the circle, say how far the hue is from that of the
    # largest one.
    following, preceding = x.gather(1, (at + 1) % 3), x.gather(1, (at + 2) % 3)
    sixths = 2 * at + (following - preceding) / chroma.clamp_min(torch.finfo(x.dtype).tiny)
    sixths = sixths + 6 * turn
    # A channel is at its largest within a sixth of a turn from its own hue, and falls off linearly.
    places = torch.arange(0, 6, 2, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
    distance = ((sixths - places + 3) % 6 - 3).abs()
    return value - chroma * (distance - 1).clamp(0, 1)


AUGMENTATIONS: dict[str, Change] = {
    "flip": flipped,
    "shift": shifted,
    "crop": cropped,
    "jitter": jittered,
    "grey": greyed,
}


def check_augmentation(augmentation: Any, image_shape: Sequence[int] | None) -> None:
    """Raise ValueError unless `augmentation` is None, or names or a callable for these images."""
    if augmentation is None:
        return
    if image_shape is None:
        raise ValueError(
            f"augmentation={augmentation!r} changes images: give image_shape=(channels, height, "
            "width), or leave it None for tables."
        )
    if callable(augmentation):
        return
    names = _names(augmentation)
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown or not names:
        raise ValueError(
            f"augmentation={augmentation!r} must be a callable or one or more of "
            f"{', '.join(AUGMENTATIONS)}."
        )
    if "grey" in names and image_shape[0] != 3:
        raise ValueError(
            f"augmentation='grey' takes the colour out of red, green and blue; image_shape="
            f"{tuple(image_shape)} has {image_shape[0]} channel(s). Leave it out."
        )


def _names(augmentation: Any) -> tuple[Any, ...]:
    return (augmentation,) if isinstance(augmentation, str) else tuple(augmentation)


def augmented(rows: Tensor, augmentation: Any, image_shape: tuple[int, ...]) -> Tensor:
    """Change rows (n, d) of images (C, H, W) by named changes, one after the other, or a callable.

    Raises
    ------
    ValueError
        If the callable makes another shape.
    """
    images = rows.view(-1, *image_shape)
    if callable(augmentation):
        with own_draws():
            images = augmentation(images)
    else:
        for name in _names(augmentation):
            images = AUGMENTATIONS[name](images)
    if images.shape != (len(rows), *image_shape):
        raise ValueError(
            f"augmentation made an array of {tuple(images.shape)} of images of "
            f"{(len(rows), *image_shape)}; the shape must stay the same."
        )
    return images.flatten(1).clamp(0, 1)
