"""Reconstructions of rows and maps of where images are reconstructed badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

__all__ = ["AnomalyMapMixin", "ReconstructionMixin"]


class ReconstructionMixin:
    """``reconstruct`` of a detector with an autoencoder.

    Its module has ``reconstruct(x) -> (n, d)`` in standard units, with a row's digits depending on
    that row alone. A detector that has a reconstruction in some of its settings only says so in
    :meth:`_check_reconstruction`.
    """

    module_: Any
    units_: Any
    _validate: Callable[..., NDArray]
    _by_chunks: Callable[..., NDArray]

    def _check_reconstruction(self) -> bool:
        """Return True, or raise AttributeError with what to do, if there is no reconstruction."""
        return True

    @available_if(lambda detector: detector._check_reconstruction())
    def reconstruct(self, X: ArrayLike) -> NDArray:
        """Reconstruct rows by the detector's autoencoder.

        What a row has in common with the training rows comes back; ``X - reconstruct(X)`` shows
        where it differs from them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of the training rows.

        Returns
        -------
        reconstructions : ndarray of shape (n_samples, n_features)
            Float64, in the units of X; of images flat rows of pixels in units of [0, 1], of
            ``uint8`` too. A row's reconstruction depends on that row alone.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._by_chunks(X, self.module_.reconstruct, self.units_.from_standard)


class AnomalyMapMixin(ReconstructionMixin):
    """``anomaly_map`` as well, of a detector that takes images.

    Its module has a `distance` (:mod:`skgenad._tensors.distances`) as well, whose values by column
    are mapped.
    """

    _shape: Callable[..., tuple[int, int, int] | None]

    @available_if(lambda detector: detector._check_reconstruction())
    def anomaly_map(self, X: ArrayLike) -> NDArray:
        """Map the reconstruction error over the pixels of images.

        The error is that of the detector's distance: squared, absolute, or one minus the structural
        similarity seen through the window around a pixel (in the frame of 5 pixels around which
        that window does not fit: of the nearest place where it does). An image's mean over pixels
        is its reconstruction error, for the similarity without that frame.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images, or their flat rows.

        Returns
        -------
        maps : ndarray of shape (n_samples, height, width)
            Float64; a mean over channels, high where an image is unlike the training images.

        Raises
        ------
        ValueError
            If the detector was fitted on tables.
        """
        check_is_fitted(self)
        shape = self._shape(reset=False)
        if shape is None:
            raise ValueError(
                "anomaly_map shows errors over images, but this "
                f"{type(self).__name__} was fitted on a table. Fit it with image_shape=(channels, "
                "height, width), or look at the columns of X - reconstruct(X)."
            )
        module = self.module_

        def error_maps(x: Tensor) -> Tensor:
            errors = module.distance.by_column(x, module.reconstruct(x))
            return errors.reshape(-1, *shape).mean(dim=1)

        return self._by_chunks(self._validate(X, reset=False), error_maps)


def marked_pixels(masks: ArrayLike) -> NDArray:
    """Masks of bool, True where they are not 0; ValueError where they are no number."""
    array = np.asarray(masks)
    if array.dtype.kind == "f" and np.isnan(array).any():
        first = np.argwhere(np.isnan(array))[0].tolist()
        raise ValueError(
            f"masks hold NaN, first at {first}: neither a defect nor none. Write 0 where there is "
            "no defect, or leave out images that nobody has looked at."
        )
    return array != 0
