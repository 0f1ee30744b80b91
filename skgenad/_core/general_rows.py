"""Rows of all kinds, that normal ones are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def general_rows(detector: Any, train: NDArray, X_general: ArrayLike | None) -> NDArray:
    """Return checked rows (n, d) of the general distribution for a fit that has drawn its seed.

    Without any these are the rows of `train` with each column shuffled by itself.

    Raises
    ------
    TypeError, ValueError
        As for other rows, with the name of the argument.
    """
    if X_general is None:
        return np.random.default_rng(detector.seed_).permuted(train, axis=0)
    try:
        return detector._validate(X_general, reset=False, ensure_min_samples=2)
    except (TypeError, ValueError) as error:
        raise type(error)(f"X_general: {error}") from error
