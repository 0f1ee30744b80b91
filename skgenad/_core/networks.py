"""What makes a detector's networks, from its parameters and the shape of its rows."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from skgenad._tensors.networks import NETWORKS, Networks

from .checks import HasMethods, Interval, StrOptions
from .rows import check_image_shape

# Constructor parameters of the detectors that take images.
IMAGE_CONSTRAINTS: dict[str, list[Any]] = {
    "image_shape": [tuple, list, None],
    "network": [StrOptions(set(NETWORKS)), HasMethods(["make_encoder", "make_decoder"])],
    "network_width": [Interval(Real, 0, None, closed="neither")],
}


def row_shape(detector: Any, n_features: int) -> tuple[int, ...]:
    """Shape of a detector's rows: (d,), or (C, H, W) of images."""
    if detector.image_shape is None:
        return (n_features,)
    shape = check_image_shape(detector.image_shape)
    if math.prod(shape) != n_features:  # rows are checked before, a file's numbers are not
        raise ValueError(f"image_shape={shape} does not make {n_features} columns.")
    return shape


def networks_of(
    detector: Any, n_features: int, kind: Any = None, shape: tuple[int, ...] | None = None
) -> Networks:
    """Find what makes the networks that a detector's parameters ask for.

    `kind` stands in for the parameter `network`, `shape` for that of a row: what sees its parts.
    """
    _check_width(detector, kind)
    shape = row_shape(detector, n_features) if shape is None else shape
    return Networks(
        detector.network if kind is None else kind,
        shape,
        detector.network_width,
        detector.hidden_sizes,
        detector.activation,
    )


def _check_width(detector: Any, kind: Any = None) -> None:
    """Raise ValueError for a width that no network takes; `kind` stands in for `network`."""
    kinds = (detector.network, kind, getattr(detector, "energy_network", None))
    named = [k for k in kinds if isinstance(k, str) and k not in ("mlp", "auto")]
    if detector.network_width == 1 or named:
        return
    name = kinds[0] if isinstance(kinds[0], str) else type(kinds[0]).__name__
    raise ValueError(
        f"network_width={detector.network_width!r} is a factor on the channels of a named "
        f"architecture, and network={name!r} has widths of its own. Set network_width=1.0."
    )
