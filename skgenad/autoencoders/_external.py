"""Latent features that an object of the user's computes, with numpy and in the units of the data.

The object is called as scikit-learn calls its own: a frame where it knows names of columns, `y`
where it takes one.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from torch import Tensor, nn

from skgenad._core.units import StandardUnits
from skgenad._tensors.chunks import Rows
from skgenad._tensors.device import on_device
from skgenad._tensors.seeds import seed_unseeded


class ExternalFeatures(nn.Module):
    """Latent features and reconstructions by an object with ``transform`` and its inverse.

    Parameters
    ----------
    features : object
        Has ``transform`` and ``inverse_transform``, and perhaps ``fit``. What is used is a clone.
    """

    units: StandardUnits
    names: NDArray | None
    # An object may remember what it is given, and knows rows of the data alone.
    takes_made_rows = False

    def __init__(self, features: Any) -> None:
        super().__init__()
        if isinstance(features, type):
            raise TypeError(
                f"features={features.__name__} is a class; needed is an object of it, such as "
                f"features={features.__name__}()."
            )
        self.features, self.latent_dim = clone(features, safe=False), 0

    def fit(
        self, rows: Rows, units: StandardUnits, *, seed: int, names: NDArray | None = None
    ) -> None:
        """Fit the object, if it can be.

        Parameters
        ----------
        rows : Tensor of shape (n, d_x)
            Rows in standard units.
        units : StandardUnits
            The units.
        seed : int
            Seed of those of the object's ``random_state`` that are None.
        names : ndarray of shape (d_x,), optional
            Names of the columns.
        """
        self.units, self.names = units, names
        if hasattr(self.features, "fit"):
            seed_unseeded(self.features, seed)
            X = self._named(units.from_standard(rows[:].cpu().numpy()))
            # As in pipelines y is passed where `fit` takes it, since some objects require it.
            self.features.fit(*((X, None) if _takes_two(self.features.fit) else (X,)))
        code, _ = self(rows[:1])
        self.latent_dim = code.shape[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent features, and reconstructions in standard units."""
        rows = self.units.from_standard(x.cpu().numpy())
        code = self.features.transform(self._named(rows))
        code = self._checked(code, "transform", (len(rows), None))
        back = self.features.inverse_transform(code)
        back = self.units.to_standard(self._checked(back, "inverse_transform", rows.shape))
        return on_device(code, x.device), on_device(back, x.device)

    def _named(self, rows: NDArray) -> ArrayLike:
        """Rows with names of columns for an object that was fitted to some.

        The names of the rows are passed on as they are; the object compares them with its own.
        """
        names = getattr(self.features, "feature_names_in_", None)
        if names is not None and self.names is not None:
            names = self.names
        if names is None or len(names) != rows.shape[1]:
            return rows
        return pd.DataFrame(rows, columns=names)

    def _checked(self, values: Any, method: str, shape: tuple[int, int | None]) -> NDArray:
        name = f"features.{method} of {type(self.features).__name__}"
        wanted = "(n, any)" if shape[1] is None else f"(n, {shape[1]})"
        if issparse(values):
            raise ValueError(
                f"{name} made a sparse matrix; needed is a dense array of shape {wanted}. "
                "Transformers that can do both have a parameter for it, as sparse_output=False."
            )
        values = np.asarray(values, dtype=np.float64)
        fits = values.ndim == 2 and len(values) == shape[0] and shape[1] in (None, values.shape[1])
        if not fits or values.shape[1] == 0:
            raise ValueError(
                f"{name} made an array of shape {values.shape} of n={shape[0]} rows; needed is one "
                f"of shape {wanted}."
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name} made NaN or infinity; it must be finite for finite rows.")
        # Frames return read-only arrays, of which torch warns.
        return np.require(values, requirements=["C", "W"])

    def __deepcopy__(self, memo: dict[int, Any]) -> ExternalFeatures:
        # The object is never trained again: copies of a detector in training can share it.
        twin = ExternalFeatures.__new__(ExternalFeatures)
        memo[id(self)] = twin
        memo[id(self.features)] = self.features
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin


def _takes_two(method: Any) -> bool:
    """Tell whether a method can be called with two positional arguments."""
    try:
        inspect.signature(method).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # compiled functions may have no signature
        pass
    return True
