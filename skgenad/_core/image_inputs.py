"""Images as people have them, one by one, as tensors of one size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from skgenad._extras import require

from .pictures import is_opaque, is_picture, plain
from .units import PIXEL_TOLERANCE

_MOST_16_BITS = 65535


class Images(Sequence[Any]):
    """Images of any size, which are read when they are asked for.

    Parameters
    ----------
    X : array-like of shape (n, C, H, W), (n, H, W, C) or (n, H, W), or list of images
        Images of a list are paths of files, images of Pillow, or arrays.
    places : ndarray of shape (n,), default=None
        Their places in what they were taken from, for errors; None: from 0 on.

    Raises
    ------
    ValueError
        If `X` is a single image, or holds none.
    """

    def __init__(self, X: Any, places: NDArray | None = None) -> None:
        if isinstance(X, str | os.PathLike) or is_picture(X):
            raise ValueError(f"X is a single image, {X!r}. Pass [X], a list of images.")
        if isinstance(X, pd.Series | pd.Index):
            X = X.tolist()
        if isinstance(X, Tensor):
            X = _numbers_of(X)
        if isinstance(X, np.ndarray) and X.dtype.kind in "OUT":
            X = X.ravel().tolist() if X.ndim == 1 else X
        if isinstance(X, np.ndarray):
            if X.ndim not in (3, 4):
                raise ValueError(
                    f"X has the shape {X.shape}; images are (n, channels, height, width), with the "
                    "channels last or without any, or a list of files, images or arrays."
                )
            if X.ndim == 3 and X.shape[2] in (1, 3) and X.shape[1] > 3:
                raise ValueError(
                    f"X has the shape {X.shape}, that of a single image with its channels last. "
                    "Pass X[None], an array of one image."
                )
            if _has_channels_last(X):
                X = X.transpose(0, 3, 1, 2)
        elif not isinstance(X, list | tuple | Images):
            raise TypeError(
                f"X must hold images, got a {type(X).__name__}. Pass an array (n, channels, height,"
                " width), or a list of files, images of Pillow or arrays."
            )
        if not len(X):
            raise ValueError("X holds no images: at least one is needed.")
        self._images = X
        self._places = np.arange(len(X)) if places is None else places

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: Any) -> Any:
        """Images at some places, a slice or an array of them; one as it was given at a number."""
        if isinstance(key, slice | np.ndarray):
            places = np.arange(len(self))[key]
            if isinstance(self._images, np.ndarray):
                return Images(self._images[key], self._places[key])
            return Images([self._images[place] for place in places], self._places[key])
        return self._images[key]

    def pixels(self, place: int) -> NDArray:
        """Pixels (C, H, W) of the image at a place, float32 in [0, 1], of 1 or 3 channels.

        Raises
        ------
        ValueError
            If it is no such image; the message says which.
        """
        image = self._images[place]
        if isinstance(image, str | os.PathLike):
            name, image = f"'{os.fspath(image)}'", _read(Path(image))
        else:
            name = f"Image {self._places[place]}"
        try:
            if not is_picture(image):
                return _of_array(_numbers_of(image) if isinstance(image, Tensor) else image)
            return _of_picture(plain(image) if image is self._images[place] else image)
        except ValueError as error:
            raise ValueError(f"{name} {error}.") from None

    def digest(self, place: int) -> bytes:
        """Hash of what is in the image at a place, or in its file."""
        image = self._images[place]
        if isinstance(image, str | os.PathLike):
            try:
                with Path(image).open("rb") as file:
                    return hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                raise _unreadable(Path(image), error) from error
        pixels = self.pixels(place)
        shape = repr(pixels.shape).encode()
        return hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).digest()


def _has_channels_last(X: NDArray) -> bool:
    """Whether an array of images is (n, H, W, C), as far as its numbers tell."""
    return X.ndim == 4 and X.shape[1] not in (1, 3) and X.shape[3] in (1, 3)


def size_of(X: NDArray) -> tuple[int, int]:
    """Height and width of the images in an array, as :class:`Images` takes it."""
    height, width = X.shape[1:3] if _has_channels_last(X) else X.shape[-2:]
    return int(height), int(width)


def sized(pixels: NDArray, side: int) -> Tensor:
    """Bring pixels (C, H, W) to three channels and a square, (3, side, side); grey is repeated."""
    return resized(pixels, (side, side)).expand(3, -1, -1)


def resized(pixels: NDArray, size: tuple[int, int]) -> Tensor:
    """Bring pixels (C, H, W) to a height and a width.

    The whole image is resized, whatever its shape, by bilinear interpolation over all pixels that a
    new one covers.
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels))
    if image.shape[1:] == size:
        return image
    there = interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return there.clamp(0, 1)


def _read(path: Path) -> Any:
    """Read an image file whole, and turn it upright."""
    pillow = require("PIL.Image", extra="vision")
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        with pillow.open(path) as image:
            image.load()
            return plain(image)
    except Exception as error:  # each format has errors of its own for what it cannot read
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"'{path}' cannot be read as an image: {error}")


def _of_picture(image: Any) -> NDArray:
    """Pixels (C, H, W) of an image of Pillow, which is plain."""
    if not is_opaque(image):
        raise ValueError(
            "has transparent pixels. Lay it on a ground first, by PIL.Image.alpha_composite, or "
            "drop their alpha, image.convert('RGB')"
        )
    if image.mode.endswith("A"):
        image = image.convert(image.mode[:-1])
    values = np.asarray(image)
    if image.mode == "I;16":
        return (values / _MOST_16_BITS).astype(np.float32)[None]
    return _of_array(values)


def _numbers_of(image: Tensor) -> NDArray:
    image = image.detach().cpu()
    return (image.float() if image.dtype == torch.bfloat16 else image).numpy()


def _of_array(image: Any) -> NDArray:
    """Pixels (C, H, W) of an array (H, W), (C, H, W) or (H, W, C)."""
    if isinstance(image, np.ma.MaskedArray) and np.ma.getmaskarray(image).any():
        raise ValueError("is a masked array, and what is masked is missing. Fill it in, by filled")
    values = np.asarray(image)
    if values.dtype.kind not in "bfu" or (values.dtype.kind == "u" and values.dtype != np.uint8):
        raise ValueError(
            f"is an array of type {values.dtype}; pixels are uint8, or floats in [0, 1]"
        )
    if values.ndim == 3 and values.shape[0] not in (1, 3) and values.shape[2] in (1, 3):
        values = values.transpose(2, 0, 1)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[0] not in (1, 3) or 0 in values.shape:
        raise ValueError(
            f"has the shape {values.shape}, where 1 or 3 channels of pixels are wanted: (channels, "
            "height, width), (height, width, channels) or (height, width)"
        )
    if values.dtype == np.uint8:
        return values.astype(np.float32) / 255
    pixels = values.astype(np.float32)
    if not (pixels.min() >= -PIXEL_TOLERANCE and pixels.max() <= 1 + PIXEL_TOLERANCE):
        raise ValueError(
            f"has values from {pixels.min():.6g} to {pixels.max():.6g}, where floats lie in [0, 1]."
            " Divide by the largest value that a pixel can have, or pass uint8"
        )
    return pixels.clip(0, 1)
