"""Images as arrays, and the panels that they are drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar

from skgenad._core.anomaly_maps import marked_pixels
from skgenad._core.image_inputs import Images, resized
from skgenad._core.rows import flat_rows

from ._common import divided, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def fitted_image_shape(detector: Any) -> tuple[int, int, int] | None:
    """Shape (C, H, W) of the images that a detector was fitted on, None for tables."""
    parameters = getattr(detector, "_fitted_parameters", vars(detector))
    shape = parameters.get("image_shape")
    return None if shape is None else tuple(shape)


def image_shape_of(detector: Any, display: str) -> tuple[int, int, int]:
    """Shape (C, H, W) of the images that a detector was fitted on; ValueError for tables."""
    shape = fitted_image_shape(detector)
    if shape is None:
        raise ValueError(
            f"{display} draws images, but this {type(detector).__name__} was fitted on a table. "
            "Fit it with image_shape=(channels, height, width)."
        )
    return shape


def first_of(X: Any, most: int | None, name: str) -> Any:
    """Return the first images in `X`, at most `most`, a number that errors call `name`."""
    if most is not None:
        check_scalar(most, name, Integral, min_val=1)
    return X[:most]


def pixels_of(X: Any, shape: tuple[int, int, int]) -> NDArray:
    """Bring what a detector of images has accepted to images (n, C, H, W) in [0, 1]."""
    return _unit(np.asarray(flat_rows(X, shape))).reshape(-1, *shape)


def pictures_of(X: Any, size: tuple[int, int]) -> NDArray:
    """Bring images of any kind and size, files too, to images (n, C, H, W) in [0, 1]."""
    images = Images(X)
    found = [resized(images.pixels(place), size).numpy() for place in range(len(images))]
    if len({len(image) for image in found}) > 1:  # grey ones among those in colour
        found = [np.broadcast_to(image, (3, *size)) for image in found]
    return np.stack(found).astype(np.float64)


def as_images(X: Any) -> NDArray:
    """Bring images (n, C, H, W) or (n, H, W), uint8 or not, to (n, C, H, W) in [0, 1]."""
    array = _stacked(X)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or not array.size:
        raise ValueError(
            f"images of shape {np.shape(X)} must be an array (n, channels, height, width) or "
            "(n, height, width); reshape flat rows to that."
        )
    if array.shape[1] > 4 >= array.shape[3]:
        raise ValueError(
            f"images of shape {array.shape} have their channels last; pass them as "
            "images.transpose(0, 3, 1, 2)."
        )
    pixels = _unit(array)
    if not (0 <= pixels.min() and pixels.max() <= 1):  # NaN fails the comparison
        raise ValueError(
            f"images hold values from {pixels.min():.6g} to {pixels.max():.6g}; pixels must lie in "
            "[0, 1] or be of type uint8. Scale or clip them."
        )
    return pixels


def _stacked(X: Any) -> NDArray:
    """Make one array of a table, of an array, or of a list of images."""
    array = np.stack(list(X)) if isinstance(X, (list, tuple)) else np.asarray(X)
    return np.stack(list(array)) if array.dtype == object else array


def _unit(values: NDArray) -> NDArray:
    """Bring uint8 to [0, 1]; leave other pixels as they are."""
    return values / 255 if values.dtype == np.uint8 else values.astype(np.float64)


def show(ax: Axes, image: NDArray, **kwargs: Any) -> AxesImage:
    """Draw an image (C, H, W): three channels in colour, others as their mean in grey."""
    ax.set(xticks=[], yticks=[])
    if len(image) == 3:
        return ax.imshow(image.transpose(1, 2, 0).clip(0, 1), **kwargs)
    return ax.imshow(image.mean(axis=0), **(kwargs or {"cmap": "gray", "vmin": 0, "vmax": 1}))


def panels(
    ax: Axes | None,
    shape: tuple[int, int],
    size: tuple[float, float],
    beside: tuple[float, float] = (0, 0),
) -> tuple[NDArray, Axes, Any]:
    """Make panels of `shape` in the place of `ax`; return them, those axes, and the figure.

    Without `ax` the panels fill a new figure, which has room for panels of `size` and for what is
    `beside` them all (width and height, in inches).
    """
    if ax is None:
        ax = new_axes((shape[1] * size[0] + beside[0], shape[0] * size[1] + beside[1]))
    grid, figure = divided(ax, shape), ax.figure
    axes = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        axes[place] = figure.add_subplot(grid[place])
    return axes, ax, figure


def panel_size(shape: Sequence[int], side: float) -> tuple[float, float]:
    """Width and height, in inches, of a panel whose longer side is `side`, with a margin."""
    height, width = shape[-2:]
    # The bound leaves a panel of a very long image room for its title.
    scale = side / max(height, width)
    return max(0.4 * side, width * scale) + 0.1, max(0.4 * side, height * scale) + 0.1


def outline(mask: NDArray) -> NDArray:
    """Segments ((x, y), (x, y)), (m, 2, 2), between pixels inside and outside of a mask (H, W)."""
    padded = np.pad(mask.astype(bool), 1)
    y, x = np.nonzero(padded[:, 1:] != padded[:, :-1])
    upright = np.stack([np.stack([x, y - 1], axis=1), np.stack([x, y], axis=1)], axis=1)
    y, x = np.nonzero(padded[1:] != padded[:-1])
    level = np.stack([np.stack([x - 1, y], axis=1), np.stack([x, y], axis=1)], axis=1)
    # In matplotlib's coordinates the middle of the first pixel is (0, 0).
    return np.concatenate([upright, level]) - 0.5


def checked_masks(masks: ArrayLike | None, n: int, size: tuple[int, int]) -> NDArray | None:
    """Masks (n, H, W) of bool for `n` images."""
    if masks is None:
        return None
    array = np.asarray(masks)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (n, *size):
        raise ValueError(
            f"masks of shape {np.shape(masks)} do not fit the images; needed is a mask "
            f"{size} for each, as an array ({n}, {size[0]}, {size[1]}) that is not 0 on defects."
        )
    return marked_pixels(array)
