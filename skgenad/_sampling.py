"""Drawing rows from models that decode a prior: nothing to run, no state to keep."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from ._random import draw_seed, seeded
from ._scaling import StandardUnits


class PriorSamplingMixin:
    """``sample`` of a detector whose module has ``sample(n) -> (n, d)`` in standardised units."""

    module_: Any
    units_: StandardUnits
    device_: torch.device

    def sample(
        self, n_samples: int = 1, *, random_state: int | np.random.RandomState | None = None
    ) -> NDArray:
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState or None, default=None
            Seed.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows in the units of X.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        with seeded(draw_seed(random_state), self.device_), torch.inference_mode():
            rows = self.module_.sample(int(n_samples))
        return self.units_.from_standard(rows.cpu().numpy())
