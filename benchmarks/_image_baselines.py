"""Detectors of images without a network, which tables of other images have beside the others."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer

from skgenad import Mahalanobis, Neighbors
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.pipeline import make_pipeline

BASELINES = ("PCA", "kNN", "Mahalanobis")


def flat(images: NDArray) -> NDArray:
    """Images, uint8 of shape (n, C, H, W), as rows of pixels in [0, 1]."""
    return images.reshape(len(images), -1) / np.float32(255)


class PrincipalError(BaseEstimator):
    """Squared distance of a row to the span of its first principal components."""

    def __init__(self, n_components: int, random_state: int) -> None:
        self.n_components, self.random_state = n_components, random_state

    def fit(self, X: NDArray, y: object = None) -> Self:
        """Find the components."""
        self.pca_ = PCA(self.n_components, svd_solver="randomized", random_state=self.random_state)
        self.pca_.fit(X)
        return self

    def score_samples(self, X: NDArray) -> NDArray:
        """Minus the squared errors."""
        back = self.pca_.inverse_transform(self.pca_.transform(X))
        return -((X - back) ** 2).sum(axis=1)


def baseline(method: str, n_components: int, seed: int) -> Any:
    """Make one of `BASELINES`; images go in as they are, and `score_samples` comes out."""
    settings = {"random_state": seed, **ALL_ROWS}
    made = {
        "PCA": lambda: PrincipalError(n_components, seed),
        # Pixels have one unit, so that distances are taken as they are.
        "kNN": lambda: Neighbors(standardize=False, **settings),
        "Mahalanobis": lambda: Mahalanobis(**settings),
    }
    return make_pipeline(FunctionTransformer(flat), made[method]())
