"""What it costs a row to leave a column that was constant in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgenad._tensors.device import precise

from .units import StandardUnits

# In energies in nats a column that was constant in training counts as if it had this standard
# deviation: any other value, which standardised units put at a distance of 1 or more, is at least
# 100 deviations away.
CONSTANT_DEVIATION = 0.01


def cost_of(departure: Tensor) -> Tensor:
    """Costs (n,), in nats, of departures (n, c) from constants in standard units."""
    return 0.5 * (precise(departure) / CONSTANT_DEVIATION).square().sum(dim=1)


def with_departures(
    energy: Callable[[Tensor], Tensor], scale: NDArray
) -> Callable[[Tensor], Tensor]:
    """Energies of rows in standard units to which leaving constants is added.

    A network that has never seen a column vary has learned nothing about it: its weights there are
    those that it was made with. So `energy` gets the constants themselves.

    Parameters
    ----------
    energy : callable
        Maps rows (n, d) in standard units to (n,), in nats.
    scale : ndarray of shape (d,)
        Of the units; 0 marks a constant column.
    """
    constant = torch.from_numpy(scale == 0)
    if not constant.any():
        return energy

    def paid(x: Tensor) -> Tensor:
        mask = constant.to(x.device)
        return energy(x.masked_fill(mask, 0.0)) + cost_of(x[:, mask])

    paid.__wrapped__ = energy  # type: ignore[attr-defined]
    return paid


def apart_from_constants(X: NDArray, model: Any) -> tuple[NDArray, NDArray]:
    """Rows (n, d) with the constants of a model's training in place, and what leaving them costs.

    Returns
    -------
    rows : ndarray of shape (n, d)
        `X` itself if no column was constant.
    costs : ndarray of shape (n,)
        In nats.
    """
    units = getattr(model, "units_", None)
    if not isinstance(units, StandardUnits) or (units.scale > 0).all():
        return X, np.zeros(len(X))
    constant = units.scale == 0
    costs = cost_of(torch.from_numpy(units.to_standard(X)[:, constant]))
    return np.where(constant, units.mean.astype(X.dtype), X), costs.numpy()
