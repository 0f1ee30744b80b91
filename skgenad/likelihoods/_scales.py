"""What the scales of a flow hold: their parts of the log density, and images made of their codes.

Equations and figures are those of Schirrmeister et al. (2020), named in
:mod:`skgenad.likelihoods.glow`.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgenad._core.rows import Shape
from skgenad._tensors.settings import own_settings

from ._detector import FlowDetector


class ScalesMixin(FlowDetector):
    """A detector whose flow has scales, of which some may be kept and others changed."""

    def scale_contributions(self, X: ArrayLike) -> NDArray:
        """Contributions of the scales to the log density (eq. 3).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_scales)
            Float64, in nats, from the first scale to the last. Their sum is
            :meth:`log_density`; the units of X have part in the first.
        """
        check_is_fitted(self)
        parts = self._by_chunks(self._validate(X, reset=False), self.module_.contributions)
        parts[:, 0] -= self.units_.log_scale
        return parts

    def mix_scales(self, early: ArrayLike, late: ArrayLike, *, n_late: int = 1) -> NDArray:
        """Images with the codes of some images at early scales and of others at late ones (fig. 3).

        What they look like shows what is in the codes of which scale.

        Parameters
        ----------
        early : array-like of shape (n_samples, C, H, W) or (n_samples, n_features)
            Images that give the codes of all scales but the last ones.
        late : array-like of the same shape
            Images that give the codes of the last ones.
        n_late : int, default=1
            Number of the last ones, at least 1 and below the number of scales.

        Returns
        -------
        images : ndarray of shape (n_samples, C, H, W)
            Float64, in [0, 1], each pixel at one of its levels.

        Raises
        ------
        ValueError
            If there are not as many images of the one kind as of the other, or not more scales than
            `n_late`.
        """
        check_is_fitted(self)
        shape = self._shape_to_change("n_late", n_late, "mix with")
        rows = [self._validate(X, reset=False) for X in (early, late)]
        if len(rows[0]) != len(rows[1]):
            raise ValueError(
                f"early has {len(rows[0])} images and late {len(rows[1])}; every mixed image needs "
                "one of each. Pass as many."
            )
        module: Any = self.module_
        d = rows[0].shape[1]

        def mixed(both: Tensor) -> Tensor:
            return module.mixed(both[:, :d], both[:, d:], n_late)

        both = np.hstack([self.units_.to_standard(X) for X in rows])
        return self._by_chunks(both, mixed, begin=np.asarray).reshape(-1, *shape)

    @own_settings()
    def likeliest(
        self, X: ArrayLike, *, n_late: int = 1, n_steps: int = 100, learning_rate: float = 0.05
    ) -> NDArray:
        """Likely images that keep the codes of images at the last scales (fig. 3B).

        Adam raises log p over the codes of all other scales, from those of the images on. What is
        left of an image is what the last scales hold; what is gone made it less likely.

        Parameters
        ----------
        X : array-like of shape (n_samples, C, H, W) or (n_samples, n_features)
            Images.
        n_late : int, default=1
            Number of the last scales whose codes stay, at least 1 and below the number of scales.
        n_steps : int, default=100
            Steps, at least 1. An image's likeliest one is returned.
        learning_rate : float, default=0.05
            Adam's learning rate, above 0. Codes have a standard deviation near 1.

        Returns
        -------
        images : ndarray of shape (n_samples, C, H, W)
            Float64, in [0, 1], each pixel at the level next to what was found. Their codes at the
            last scales are those of `X` up to that rounding.

        Raises
        ------
        ValueError
            If there are not more scales than `n_late`.
        """
        check_is_fitted(self)
        shape = self._shape_to_change("n_late", n_late, "change")
        check_scalar(n_steps, "n_steps", Integral, min_val=1)
        check_scalar(learning_rate, "learning_rate", Real, min_val=0, include_boundaries="neither")
        rows = self._validate(X, reset=False)
        module: Any = self.module_
        found = []
        for start in range(0, len(rows), self._chunk_size):
            chunk = self.units_.to_standard(rows[start : start + self._chunk_size])
            x = torch.from_numpy(chunk).to(self.device_)
            found.append(module.likeliest(x, n_late, n_steps, learning_rate).cpu().numpy())
        return np.concatenate(found).astype(np.float64).reshape(-1, *shape)

    def _shape_to_change(self, name: str, n_kept: int, purpose: str) -> Shape:
        """Shape of images, if their flow has more scales than are kept."""
        shape, n_scales = self._shape(reset=False), self.module_.n_scales
        check_scalar(n_kept, name, Integral, min_val=1)
        if shape is None or n_kept >= n_scales:
            raise ValueError(
                f"{name}={n_kept} of {n_scales} scales leaves none to {purpose}. Fit on images, "
                "with more scales."
            )
        return shape
