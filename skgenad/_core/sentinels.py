"""Values that cannot be measurements: a -9999 for "missing" among numbers near 0.

One of them makes a column's standard deviation its own, so that all other rows become one point,
and its gradient outweighs theirs. Training looks at them as if they lay at the edge of the rest,
with a warning that names them; scores see rows as they are. One that many rows have may be what
normal rows are like, and every such row would be an anomaly: of these there is a warning alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from skgenad._warn import warn

from .large_tables import SameTable, SomeRows, Table, rows_at
from .units import ColumnMoments

# Sentinels of a column are at most this share of its rows, or a single one.
_MOST = 0.02
# Among fewer rows any two may happen to be close.
_FEWEST_ROWS = 10
# They lie so many times farther from the middle than all others: more times, the more there are.
_GAP, _GAP_SHARE = 15, 0.01
# At least this share of the others is not in the middle itself: a column that hardly ever leaves
# one value has no spread that a distance could be compared with.
_FEWEST_ELSEWHERE = 0.05
# They make the standard deviation so many times as large: then there is a warning; then training
# takes them for others. The second is where rows of the tables that defaults are chosen on lose
# nothing by it on average.
_WARNED, _RUINED = 10**0.5, 7.0
# The middle is the median of about so many rows.
_FOR_MIDDLE = 500
# Values that more rows have: at most so many, each in at least so many rows of the few hundred that
# are looked at, and in fewer than half of them all together.
_MOST_CODES, _FEWEST_OF_CODE = 3, 5
# Columns and values that a warning lists.
_LISTED = 3
# Whether those of the rows at hand have been warned of. Every thread has its own.
_WARNED_OF: ContextVar[bool] = ContextVar("_WARNED_OF", default=False)


class DataWarning(UserWarning):
    """Training rows hold values that look like codes, such as -9999 for "missing".

    Examples
    --------
    >>> import warnings
    >>> from skgenad import DataWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", DataWarning)  # rather no detector than one of such rows
    """


class Sentinels(NamedTuple):
    """Columns with values far beyond all others, and the ranges of the others there.

    A column's values are sentinels if they are few, if each is farther from the middle than 15
    times the farthest of the others, and if they make the standard deviation more than three times
    as large. The gap tells them from heavy tails, whose second largest value is never far from the
    largest. Up to three values, each of which is in many rows, may be in almost half of them.

    Attributes
    ----------
    columns : ndarray of shape (k,)
        Places of the columns.
    low, high : ndarray of shape (k,)
        Smallest and largest of the other values.
    factor : ndarray of shape (k,)
        Standard deviation of all values in units of that of the others.
    is_common : ndarray of shape (k,)
        Whether more than 2 % of the rows have them.
    """

    columns: NDArray
    low: NDArray
    high: NDArray
    factor: NDArray
    is_common: NDArray

    @classmethod
    def of(cls, X: Table, moments: ColumnMoments) -> Self:
        """Sentinels of rows (n, d) with these moments."""
        suspects = _suspects(len(X), moments)
        few = {j: rest for j in suspects if (rest := _rest(X[:, j])) is not None}
        many = {j: rest for j in _common(X) if (rest := _rest_of_codes(X[:, j])) is not None}
        found = {**many, **few}
        columns = np.array(sorted(found), dtype=int)
        low, high, factor = np.array([found[j] for j in sorted(found)]).reshape(-1, 3).T
        is_common = np.array([j not in few for j in sorted(found)], dtype=bool)
        return cls(columns, low, high, factor, is_common)

    @property
    def ruinous(self) -> NDArray:
        """Which of the columns (k,) would lose their units to them."""
        return (self.factor > _RUINED) & ~self.is_common

    def clipped(self, X: Any) -> Any:
        """Rows (n, d) with sentinels at the edge of the others where they are ruinous."""
        ends = zip(self.low.tolist(), self.high.tolist(), strict=True)
        every = zip(self.columns.tolist(), ends, self.ruinous, strict=True)
        bounds = {j: pair for j, pair, is_moved in every if is_moved}
        if not bounds:
            return X
        if isinstance(X, SomeRows):
            return X.clipped(bounds)
        X = X.copy()
        for j, (low, high) in bounds.items():
            X[:, j] = np.clip(X[:, j], low, high)
        return X

    def warn(self, X: Table, names: Sequence[str] | None) -> None:
        """Say which values of the training rows (n, d) are taken for sentinels."""
        if _WARNED_OF.get():
            return
        called = [f"{j}" if names is None else f"{names[j]!r}" for j in self.columns]
        parts = [
            f"column {name} holds {_listed(X[:, j], low, high)}"
            for name, j, low, high in zip(called, self.columns, self.low, self.high, strict=True)
        ]
        more = len(parts) - _LISTED
        moved = [name for name, is_moved in zip(called, self.ruinous, strict=True) if is_moved]
        warn(
            f"Training rows hold values far beyond all others: {'; '.join(parts[:_LISTED])}"
            f"{f'; {more} more columns do' if more > 0 else ''}. If they stand for missing values, "
            "write X = X.replace(-9999, np.nan), with the value, and put SimpleImputer() before "
            "the detector; if they are errors, drop these rows. Training has taken "
            + (
                f"those of column {', '.join(moved)} for the nearest of the others, and scores see "
                "all rows as they are."
                if moved
                else "all rows as they are, and such a column counts for less."
            ),
            DataWarning,
        )


@contextmanager
def warned_of(already: bool) -> Iterator[None]:
    """Run a block on a part of rows whose sentinels there may have been a warning of already."""
    token = _WARNED_OF.set(already or _WARNED_OF.get())
    try:
        yield
    finally:
        _WARNED_OF.reset(token)


def _listed(column: NDArray, low: float, high: float) -> str:
    values, counts = np.unique(column[(column < low) | (column > high)], return_counts=True)
    some = ", ".join(f"{value:.6g}" for value in values[:_LISTED])
    some += ", ..." if len(values) > _LISTED else ""
    rows = f"{counts.sum()} of {len(column)} rows"
    return f"{some} in {rows}, and values from {low:.6g} to {high:.6g} in the others"


def without_sentinels(
    X: SameTable, names: Sequence[str] | None = None
) -> tuple[SameTable, ColumnMoments]:
    """Training rows (n, d) with sentinels at the edge of the others, and their moments.

    `names` are those of the columns, for the warning.
    """
    moments = ColumnMoments.of(X)
    found = Sentinels.of(X, moments)
    if not len(found.columns):
        return X, moments
    found.warn(X, names)
    X = found.clipped(X)
    return X, ColumnMoments.of(X)


def _most(n: int) -> int:
    return max(1, int(_MOST * n))


def _suspects(n: int, moments: ColumnMoments) -> list[int]:
    """Columns with a value as far out, in standard deviations, as few enough rows can be."""
    farthest = np.maximum(moments.high - moments.mean, moments.mean - moments.low)
    # Of the variance a part is that of the others, and one of the mean, which they draw to them.
    share = _most(n) / n
    nearest = math.sqrt(max(0.0, 1 - _WARNED**-2 - share) / share)
    return np.flatnonzero(farthest > (1 - 1e-6) * nearest * moments.deviation).tolist()


def _rest(column: NDArray) -> tuple[float, float, float] | None:
    """Range of the values of a column that are no sentinels, and their factor; None if all are."""
    n, most = len(column), _most(len(column))
    if n < _FEWEST_ROWS:
        return None
    x, distance = _distances(column)
    farthest = -np.sort(-np.partition(distance, n - 1 - most)[n - 1 - most :])
    n_far = np.arange(1, most + 1)
    apart = farthest[:-1] > _GAP * np.maximum(1.0, n_far / (_GAP_SHARE * n)) * farthest[1:]
    # The largest number of them: a 1e30 hides a -9999.
    k = int(n_far[apart].max(initial=0))
    if k == 0 or np.count_nonzero(distance) - k < _FEWEST_ELSEWHERE * n:
        return None
    return _range_of(column, x, distance <= farthest[k])


def _distances(column: NDArray) -> tuple[NDArray, NDArray]:
    """Values (n,) of a column in a unit in which they are at most 1, and from their middle."""
    unit = np.ldexp(1.0, np.frexp(float(np.abs(column).max()))[1] - 1)
    x = np.divide(column, unit, dtype=np.float64)
    return x, np.abs(x - np.median(_some(x)))


def _some(X: Any) -> Any:
    return X[:: max(1, len(X) // _FOR_MIDDLE)]


def _range_of(column: NDArray, x: NDArray, rest: NDArray) -> tuple[float, float, float] | None:
    """Range of some values of a column, and the factor; None if the others do not matter."""
    spread = max(float(x[rest].std()), np.finfo(np.float64).tiny)
    if (factor := float(x.std()) / spread) <= _WARNED:
        return None
    return float(column[rest].min()), float(column[rest].max()), factor


# ---- values of many rows --------------------------------------------------------------------


def _common(X: Table) -> list[int]:
    """Columns in which some values may be far beyond all others in a good part of the rows."""
    if len(X) < _FEWEST_ROWS:
        return []
    some = np.asarray(rows_at(X, _some(np.arange(len(X)))), dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(some - np.median(some, axis=0))
        # Half of the rows are nearer than the median, and those values are beyond all of them.
        is_far = distance.max(axis=0) > _GAP * np.median(distance, axis=0)
    return [
        j
        for j in np.flatnonzero(is_far).tolist()
        if math.isfinite(_nearest_code(_distances(some[:, j])[1]))
    ]


def _nearest_code(distance: NDArray) -> float:
    """Least of the distances (n,) of values of many rows far beyond all others, or infinity."""
    n = len(distance)
    far, counts = np.unique(distance, return_counts=True)
    far, counts = far[::-1], counts[::-1]
    least = max(_FEWEST_OF_CODE, _most(n) / _MOST_CODES)
    found = 0
    for k in range(1, min(_MOST_CODES, len(far) - 2) + 1):
        n_far = counts[:k].sum()
        if counts[k - 1] < least or n_far >= n / 2:
            break
        elsewhere = np.count_nonzero(distance) - n_far
        if far[k - 1] > _GAP * far[k] and elsewhere >= _FEWEST_ELSEWHERE * n:
            found = k  # the largest number of them: a 1e30 hides a -9999
    return float(far[found - 1]) if counts[:found].sum() > _most(n) else math.inf


def _rest_of_codes(column: NDArray) -> tuple[float, float, float] | None:
    """Range of the values that are not of many rows, far off, and the factor; None if all are."""
    x, distance = _distances(column)
    nearest = _nearest_code(distance)
    return _range_of(column, x, distance < nearest) if math.isfinite(nearest) else None
