"""Methods of all detectors whose score is an energy that was trained with negatives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.grid import check_axis, grid_points, normalized_on_grid

__all__ = ["EnergyBasedDetector"]


class EnergyBasedDetector(BaseGenerativeDetector):
    """Base of the detectors with a :class:`~skgenad.energies._negatives.NegativesModule`."""

    @property
    def negatives_(self) -> NDArray:
        """Negatives of the last steps of training, in the units of X."""
        check_is_fitted(self)
        return self.units_.from_standard(self.module_.latest.rows.cpu().numpy())

    def log_density_grid(self, xs: ArrayLike, ys: ArrayLike) -> NDArray:
        """Log density on a grid of the plane, normalised numerically over the grid.

        The density is proportional to exp(-E / T) for the temperature T that the visible chains of
        training have: the model's, times ``noise ** 2 / (2 * step)`` of a chain without
        Metropolis-Hastings. What lies beyond the grid counts as empty.

        Parameters
        ----------
        xs, ys : array-like of shape (n_columns,) and (n_rows,)
            Coordinates of the grid in rising order, in the units of X.

        Returns
        -------
        log_density : ndarray of shape (n_rows, n_columns)
            In nats, in the units of X; ``log_density[i, j]`` belongs to ``(xs[j], ys[i])``.

        Raises
        ------
        ValueError
            If the detector was not fitted on two columns or the coordinates do not rise.
        """
        check_is_fitted(self)
        if self.n_features_in_ != 2:
            raise ValueError(
                f"log_density_grid is for data in the plane: {type(self).__name__} was fitted on "
                f"{self.n_features_in_} features, it needs 2."
            )
        xs, ys = check_axis("xs", xs), check_axis("ys", ys)
        log_weights = -self._energies(grid_points(xs, ys)) / self._temperature()
        return normalized_on_grid(log_weights.reshape(len(ys), len(xs)), xs, ys)

    def _temperature(self) -> float:
        """T of the density that the chains of training have for their limit."""
        module = self.module_
        return float(torch.as_tensor(module.temperature * module.tempering).detach())

    def _energies(self, X: NDArray) -> NDArray:
        """Energies E (n,) of validated rows."""
        return self._by_chunks(X, self._energy_of(self.module_.base)).astype(np.float64)
