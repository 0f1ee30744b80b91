"""How many bits an image takes as a PNG file, read as the log density of a model of images.

One of the general models of `LikelihoodRatio`, after Serra et al. (2020).
"""

from __future__ import annotations

import io
import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skgenad._extras import require

# Pillow's modes of images that PNG can store, by the number of channels.
_MODES = {1: "L", 3: "RGB"}


class PNGModel:
    """Images compressed by PNG: log p(x) = -(bits of the file) log 2.

    Parameters
    ----------
    image_shape : (int, int, int)
        Channels (1 or 3), height and width.
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        if image_shape[0] not in _MODES:
            raise ValueError(
                f"general='png' takes images of 1 or 3 channels; image_shape={image_shape} has "
                f"{image_shape[0]}. Use a detector as the general model."
            )
        self.image_shape = image_shape
        require("PIL.Image", extra="images")  # an error must come before a long training

    def fit(self, X: Any, y: None = None) -> Self:
        """Learn nothing: the model is what it is."""
        return self

    def log_density(self, X: NDArray) -> NDArray:
        """Log densities (n,), in nats, of flat pixels (n, d), uint8 or in [0, 1].

        Pixels are rounded to 255ths. A file is the code of one image of that grid. Its probability
        is spread over a cell of 1/255 in each pixel, which makes a density larger by 255^d.
        """
        pixels = X if X.dtype == np.uint8 else np.rint(255 * X.clip(0, 1)).astype(np.uint8)
        level = X.shape[1] * math.log(255)
        return np.array([level - 8 * math.log(2) * self._n_bytes(row) for row in pixels])

    def _n_bytes(self, row: NDArray) -> int:
        image = require("PIL.Image", extra="images")
        channels = row.reshape(self.image_shape)
        array = channels[0] if len(channels) == 1 else channels.transpose(1, 2, 0)
        file = io.BytesIO()
        image.fromarray(np.ascontiguousarray(array)).save(file, format="PNG", compress_level=9)
        return file.getbuffer().nbytes
