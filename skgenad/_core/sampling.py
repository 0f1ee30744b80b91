"""Drawing rows from fitted models: seeds and units; the model is left as it is."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgenad._tensors.seeds import draw_seed, seeded
from skgenad._tensors.settings import own_settings

from .forks import leave_parents_threads


def draw_rows(
    detector: Any,
    n_samples: int,
    random_state: int | np.random.RandomState | None,
    draw: Callable[[int], Tensor],
) -> NDArray:
    """Rows (n_samples, n_features), in the units of X, of a function of their number.

    `draw` returns rows in standardised units; it runs seeded and without gradients.
    """
    leave_parents_threads()
    check_is_fitted(detector)
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    seed = draw_seed(random_state)
    with own_settings(), seeded(seed, detector.device_), torch.no_grad():
        rows = draw(int(n_samples))
    return detector.units_.from_standard(rows.cpu().numpy())


class PriorSamplingMixin:
    """``sample`` of a detector whose module has ``sample(n) -> (n, d)`` in standardised units."""

    module_: Any

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
        return draw_rows(self, n_samples, random_state, lambda n: self.module_.sample(n))
