"""Normal rows that explanations compare with: a small, uniform sample of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .files import Stored
from .large_tables import Table, pieces_of
from .registry import brief
from .streams import Reservoir
from .units import PixelUnits

# The most rows, and the most numbers in them: four megabytes of a file at most.
MOST_ROWS, MOST_NUMBERS = 2000, 2**19
_TYPES = (np.float64, np.float32, np.uint8)


@dataclass(frozen=True, eq=False)
class Reference:
    """A sample of training rows, and the ranges of the columns of all of them.

    It never changes: more rows make another one.

    Attributes
    ----------
    sample : Reservoir
        Rows (m, d) in the units and the type of X, and how many they are a sample of.
    low, high : ndarray of shape (d,)
        Smallest and largest values of all rows so far.
    """

    sample: Reservoir
    low: NDArray
    high: NDArray

    @classmethod
    def of(cls, rows: Table, seed: int, before: Reference | None = None) -> Self:
        """Take rows (n, d), and those `before` them."""
        ends = [(piece.min(axis=0), piece.max(axis=0)) for piece in pieces_of(rows)]
        low, high = (np.stack(end) for end in zip(*ends, strict=True))
        sample = Reservoir()
        if before is not None:
            sample, low, high = before.sample, _joined(before.low, low), _joined(before.high, high)
        most = min(MOST_ROWS, max(2, MOST_NUMBERS // rows.shape[1]))
        rng, places = np.random.default_rng(seed), np.arange(len(rows))
        return cls(sample.take(rng, rows, places, most=most), low.min(axis=0), high.max(axis=0))

    @property
    def rows(self) -> NDArray:
        """The sample of rows (m, d)."""
        return self.sample.rows


def _joined(ends: NDArray, others: NDArray) -> NDArray:
    """Put ends (d,) of columns above others (k, d); pixels of unlike types become floats."""
    if ends.dtype != others.dtype:
        ends, others = (PixelUnits.levels(e) if e.dtype == np.uint8 else e for e in (ends, others))
    return np.vstack([ends, others])


def reference_to_file(reference: Reference) -> dict[str, Any]:
    """Take a reference apart, as files hold it."""
    arrays = {"rows": reference.rows, "low": reference.low, "high": reference.high}
    return {
        **{name: np.ascontiguousarray(array) for name, array in arrays.items()},
        "n_seen": reference.sample.n_seen,
    }


def reference_of_file(kept: dict[str, Any], detector: Any) -> Reference:
    """Check what a file holds of a reference, and make it."""
    d, stored = detector.n_features_in_, [kept[name] for name in ("rows", "low", "high")]
    if not all(isinstance(array, Stored) and array.dtype in _TYPES for array in stored):
        raise ValueError("normal rows that are no numbers")
    if len(stored[0].shape) != 2 or stored[0].shape[1] != d or stored[0].shape[0] < 1:
        raise ValueError(f"normal rows of shape {stored[0].shape} for {d} columns")
    rows, low, high = (array.read(s) for array, s in zip(stored, (None, (d,), (d,)), strict=True))
    if not ((low <= rows) & (rows <= high)).all():
        raise ValueError("normal rows outside of their range")
    n_seen = kept["n_seen"]
    if type(n_seen) is not int or not len(rows) <= n_seen < 2**63:
        raise ValueError(f"normal rows of {brief(n_seen)} rows")
    return Reference(Reservoir(rows, None, n_seen), low, high)


def forget_rows(model: Any) -> Any:
    """Let a model that is a part of another one keep no rows; return it."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    getattr(last, "__dict__", {}).pop("_reference", None)
    return model
