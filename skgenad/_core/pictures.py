"""Lists of images, of Pillow or as arrays, as one array of pixels.

Pillow is not imported: who has an image of it has it already.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]

# EXIF's tag of the orientation, and Pillow's number of the turn that undoes each.
_ORIENTATION = 0x0112
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SIDEWAYS = {2, 4, 5, 6}
# Pillow's modes of pictures, by what they are converted to without a loss.
_GREY = {"1": "L", "L": "L", "I;16": "I;16", "I;16L": "I;16", "I;16B": "I;16", "F": "F"}
_COLOUR = dict.fromkeys(("P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"), "RGB")
_CLEAR = {"LA": "LA", "La": "LA", **dict.fromkeys(("PA", "RGBA", "RGBa"), "RGBA")}
# Pixels of 16 bits are divided by this.
_MOST_16_BITS = 65535


def is_picture(image: Any) -> bool:
    """Tell whether this is an image of Pillow."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def turn_of(image: Any) -> int | None:
    """Return Pillow's number of the turn after which an image is upright, as viewers show it."""
    return _TURNS.get(image.getexif().get(_ORIENTATION, 1))


def upright_size(image: Any) -> tuple[int, int]:
    """Width and height of an image of Pillow after that turn."""
    width, height = image.size
    return (height, width) if turn_of(image) in _SIDEWAYS else (width, height)


def plain(image: Any) -> Any:
    """Turn an image of Pillow upright, and bring it to L, LA, RGB, RGBA, I;16 or F without a loss.

    Raises
    ------
    ValueError
        If it has another mode or several frames.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # in which cameras put a preview beside the photo
        raise ValueError(f"has {frames} frames; save each as an image of its own")
    turn = turn_of(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    mode = {**_GREY, **_COLOUR, **_CLEAR}.get(image.mode)
    if mode is None and image.mode.startswith("I"):  # which convert would cut off at 255
        raise ValueError(
            f"has Pillow's mode {image.mode!r}, which does not say what is white; pass an array in "
            "[0, 1], for 16 bits a pixel np.asarray(image) / 65535"
        )
    if mode is None:
        raise ValueError(
            f"has Pillow's mode {image.mode!r}; convert it to grey, image.convert('L'), or to "
            "colour, image.convert('RGB')"
        )
    return image if image.mode == mode else image.convert(mode)


def is_opaque(image: Any) -> bool:
    """Tell whether all pixels of a plain image are opaque."""
    return not image.mode.endswith("A") or image.getchannel("A").getextrema()[0] == 255


def stacked(images: Sequence[Any], image_shape: Shape) -> Any:
    """Make one array (n, C, H, W) of a list of images; lists of anything else come back.

    Arrays may have the channels first or last, and none if they are grey. Images of Pillow are
    turned upright. Grey serves as colour, and colour as grey where it is grey in all pixels.

    Raises
    ------
    ValueError
        If one does not fit `image_shape`; the message names it.
    """
    _refuse_others(images)
    if not len(images) or not all(map(_is_image, images)):
        return images
    if not any(map(is_picture, images)) and len({np.shape(image) for image in images}) == 1:
        # What does not fit of arrays of one shape is said of all of them.
        return _in_one_type([np.asarray(image) for image in images])
    pixels = []
    for k, image in enumerate(images):
        try:
            pixels.append(_pixels(image, image_shape))
        except ValueError as error:
            raise ValueError(f"Image {k} of X {error}.") from None
    return _in_one_type(pixels)


def channels_first(X: NDArray, image_shape: Shape) -> NDArray:
    """Return images (n, C, H, W) in this order of axes, if they are in another one.

    What fits in no order comes back as it is.
    """
    channels, height, width = image_shape
    if X.shape[1:] == image_shape:
        return X
    if X.shape[1:] == (height, width, channels):
        return X.transpose(0, 3, 1, 2)
    if X.shape[1:] == (height, width) and channels in (1, 3):
        return np.broadcast_to(X[:, None], (len(X), *image_shape))
    return X


def _is_image(image: Any) -> bool:
    return is_picture(image) or len(getattr(image, "shape", ())) >= 2


def _refuse_others(images: Sequence[Any]) -> None:
    for k, image in enumerate(images):
        if isinstance(image, np.ma.MaskedArray) and np.ma.getmaskarray(image).any():
            raise ValueError(
                f"Image {k} of X is a masked array, and what is masked is missing. Fill it in, "
                "image.filled(value)."
            )
    for image in images[:1]:
        if isinstance(image, str | PathLike):
            raise ValueError(
                f"X holds paths, such as {str(image)!r}. Pass the images, "
                "[PIL.Image.open(path) for path in X]."
            )
        if isinstance(image, tuple) and len(image) == 2 and _is_image(image[0]):
            raise ValueError(
                "X holds pairs of an image and something else. Pass the images alone, "
                "[image for image, _ in X]."
            )


def _in_one_type(images: Sequence[NDArray]) -> NDArray:
    """Stack arrays of one shape; bytes beside numbers in [0, 1] become such numbers."""
    if len({image.dtype for image in images}) > 1:
        images = [image / np.float32(255) if image.dtype == np.uint8 else image for image in images]
    return np.stack(images)


def _pixels(image: Any, image_shape: Shape) -> NDArray:
    """Pixels (C, H, W) of one image."""
    array = _pixels_of_picture(image, image_shape[0]) if is_picture(image) else np.asarray(image)
    fitted = channels_first(array[None], image_shape)[0]
    if fitted.shape == image_shape:
        return fitted
    height, width = fitted.shape[:2] if is_picture(image) else (None, None)
    if height is not None and (height, width) != image_shape[1:]:
        raise ValueError(
            f"is {height}x{width} (height x width), but image_shape={image_shape} wants "
            f"{image_shape[1]}x{image_shape[2]}. Resize or crop it, as "
            f"image.resize(({image_shape[2]}, {image_shape[1]}))"
        )
    raise ValueError(
        f"has the shape {array.shape}, but image_shape={image_shape} wants {image_shape} or "
        f"{(*image_shape[1:], image_shape[0])}. Resize or convert it"
    )


def _pixels_of_picture(image: Any, channels: int) -> NDArray:
    """Pixels (H, W) or (H, W, C) of an image of Pillow."""
    image = plain(image)
    if image.mode.endswith("A") and channels != len(image.getbands()):
        if not is_opaque(image):
            raise ValueError(
                f"has transparent pixels, and image_shape wants {channels} channels. Lay it on a "
                "ground first, by PIL.Image.alpha_composite, or drop their alpha, "
                "image.convert('RGB')"
            )
        image = image.convert(image.mode[:-1])
    pixels = np.asarray(image)
    if image.mode == "I;16":
        return (pixels / _MOST_16_BITS).astype(np.float32)
    if image.mode == "RGB" and channels == 1:
        if (pixels != pixels[..., :1]).any():
            raise ValueError(
                "is in colour, and image_shape wants 1 channel. Pass image.convert('L'), or set "
                f"image_shape=(3, {image.height}, {image.width})"
            )
        return pixels[..., 0]
    return pixels
