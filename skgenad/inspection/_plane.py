"""Detectors of two columns, as functions on the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import validate_data

from skgenad._core.grid import grid_points

from ._common import unwrap


class Plane:
    """A fitted detector of two columns, on its own or behind the other steps of a pipeline."""

    def __init__(self, estimator: Any) -> None:
        self.scorer, self.detector, self.before = unwrap(estimator)
        self.name = type(self.detector).__name__
        if not hasattr(self.scorer, "score_samples"):
            raise TypeError(
                "EnergyDisplay needs a detector with score_samples, or a Pipeline or search that "
                f"ends in one; got {self.name}."
            )
        n_features = getattr(self.scorer, "n_features_in_", 2)
        if n_features != 2:
            raise ValueError(
                f"EnergyDisplay is for data in the plane: {type(self.scorer).__name__} was fitted "
                f"on {n_features} features, it needs 2."
            )

    def rows(self, X: ArrayLike) -> NDArray:
        """Rows (n, 2) as the detector would take them, refused with scikit-learn's messages."""
        return validate_data(self.scorer, X, dtype=np.float64, reset=False)

    def scores(self, xs: NDArray, ys: NDArray) -> NDArray:
        """Scores (len(ys), len(xs)) on a grid."""
        points = _with_names(self.scorer, grid_points(xs, ys))
        return np.asarray(self.scorer.score_samples(points)).reshape(len(ys), len(xs))

    def negatives(self) -> NDArray | None:
        """Negatives (n, 2) in the units of X; None without any, or without a way back to them."""
        rows = getattr(self.detector, "negatives_", None)
        if rows is None or not len(rows):
            return None
        for steps in reversed(self.before):
            if not hasattr(steps, "inverse_transform"):
                return None
            rows = steps.inverse_transform(rows)
        return np.asarray(rows)

    def density(self, xs: NDArray, ys: NDArray) -> NDArray:
        """Densities (len(ys), len(xs)) on a grid, in the units of X."""
        us, vs = self._axes_of_detector(xs, ys)
        if hasattr(self.detector, "log_density_grid"):
            log_density = self.detector.log_density_grid(us, vs)
        elif hasattr(self.detector, "log_density"):
            points = _with_names(self.detector, grid_points(us, vs))
            log_density = self.detector.log_density(points).reshape(len(vs), len(us))
        else:
            raise ValueError(
                f"{self.name} has no density, which needs a method log_density_grid, as "
                "energy-based detectors (NAE, MPDR) have it, or log_density; possible for it is "
                "response='energy'."
            )
        # By this change of variables, integrals over the grid stay what they were.
        stretch = np.outer(np.gradient(vs) / np.gradient(ys), np.gradient(us) / np.gradient(xs))
        return np.exp(log_density) * stretch

    def _axes_of_detector(self, xs: NDArray, ys: NDArray) -> tuple[NDArray, NDArray]:
        """Axes of the grid in the units that the detector was fitted in."""
        if not self.before:
            return xs, ys
        points: Any = _with_names(self.scorer, grid_points(xs, ys))
        for steps in self.before:
            points = steps.transform(points)
        grid = np.asarray(points).reshape(len(ys), len(xs), -1)
        us, vs = grid[0, :, 0], grid[:, 0, -1]
        rising = (np.diff(us) > 0).all() and (np.diff(vs) > 0).all()
        by_column = np.allclose(grid, np.stack(np.meshgrid(us, vs), axis=-1))
        if grid.shape[2] != 2 or not rising or not by_column:
            raise ValueError(
                "response='density' needs steps before the detector that scale each of the two "
                "columns by itself and keep its order, as StandardScaler does; possible for any "
                "steps is response='energy'."
            )
        return us, vs

    def labels(self, X: ArrayLike | None) -> Sequence[str]:
        """Names of the two columns."""
        names = getattr(self.scorer, "feature_names_in_", getattr(X, "columns", ("x0", "x1")))
        return [str(name) for name in names]


def _with_names(estimator: Any, points: NDArray) -> Any:
    """Points as a table if the estimator was fitted on one."""
    names = getattr(estimator, "feature_names_in_", None)
    return points if names is None else pd.DataFrame(points, columns=names)
