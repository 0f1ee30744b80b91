"""Which rows are held out of training, and the threshold that scores out of sample make."""

from __future__ import annotations

from math import ceil, isfinite, log
from numbers import Real
from typing import Any, Generic, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from skgenad._warn import warn

from .large_tables import SameTable, rows_at

# What "auto" holds out: this share of the rows, at least and at most so many, and never more than
# a part of them that a small table can do without.
AUTO_SHARE, AUTO_LEAST, AUTO_MOST, AUTO_LARGEST_SHARE = 1 / 5, 20, 10_000, 1 / 3
# The share of new normal rows that contamination="auto" asks for.
AUTO_CONTAMINATION = 0.1
# With contamination=0 the threshold lies below the lowest score by this share of the distance from
# there to the median, so that another machine's rounding flags no row.
_MARGIN = 1e-6


# ---- thresholds ---------------------------------------------------------------------------


def threshold_of(scores: NDArray, contamination: Any) -> float:
    """Threshold below which a new row scores with the probability `contamination`.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Sorted scores, at least one, of rows that were not trained on.
    contamination : float or "auto"
        Probability in [0, 0.5]; 0: below all scores.

    Returns
    -------
    threshold : float
        A row is flagged if it scores lower, not if it scores the same: of scores with ties no more
        are flagged than asked for.

    Notes
    -----
    A new row scores below the k-th of n others with the probability k / (n + 1), on average over
    them. Between two of these places this is so for exponential tails: there the gap below the
    k + 1-st score is independent of that score, and has the rate k. Below the lowest score the tail
    goes on as it falls from the median to there.
    """
    n, lowest = len(scores), float(scores[0])
    if contamination == 0:
        return _below(lowest, float(np.median(scores)))
    place = _place(n, share_of(contamination))
    if place >= 1:
        k = int(place)
        low, high = float(scores[k - 1]), float(scores[min(k, n - 1)])
        share = (k + 1) * (1 - k / place)
        return min(max((1 - share) * low + share * high, low), high)
    # Python's floats overflow to infinity without a warning.
    scale = (float(np.median(scores)) - lowest) / log((n + 1) / 2) if n > 1 else 0.0
    return _finite(lowest + scale * log(place)) if isfinite(scale) else lowest


def threshold_in_sample(scores: NDArray, contamination: float | str) -> float:
    """Threshold below which the share `contamination` of these scores (n,) themselves lies."""
    share = share_of(contamination)
    if share * len(scores) < 0.5:  # less than a row: an interpolated percentile would flag one
        return threshold_of(np.sort(scores), 0)
    return float(np.percentile(scores, 100 * share))


def _below(lowest: float, median: float) -> float:
    """Threshold that flags neither the row of the lowest score nor any that scores higher."""
    with np.errstate(over="ignore", invalid="ignore"):
        threshold = lowest - _MARGIN * (median - lowest)
    return _finite(threshold) if threshold < lowest else float(np.nextafter(lowest, -np.inf))


def share_of(contamination: Any) -> float:
    """Share of rows that a value of `contamination` means: that of "auto" if it is no number."""
    return float(contamination) if isinstance(contamination, Real) else AUTO_CONTAMINATION


def _place(n: int, contamination: float) -> float:
    # 0.07 * 100 is 7 and not a little more, which would flag the 7th score, too.
    place = contamination * (n + 1)
    return round(place) if abs(place - max(1, round(place))) < 1e-9 else place


def _finite(value: float) -> float:
    return float(np.clip(value, np.finfo(np.float64).min, np.finfo(np.float64).max))


def warn_if_unresolved(n: int, contamination: Any, *, name: str = "contamination") -> None:
    """Warn if `n` scores out of sample are too few for the rate that is asked for by a name."""
    share = float(contamination) if isinstance(contamination, Real) else 0.0
    if share == 0 or _place(n, share) >= 1:
        return
    warn(
        f"{name}={share:g} needs {needed_for(1 / share)} rows that were not trained on, and there "
        f"are {n}: the threshold is a guess, and more new normal rows may be flagged. Fit more "
        "rows, hold out more of them (calibration_fraction), call calibrate(X) with fresh normal "
        f"rows, or ask for a larger {name}.",
    )


def needed_for(n_places: float) -> str:
    """Write the number of scores that leave so many places for a new one, infinity as well."""
    return f"{ceil(round(n_places, 9)) - 1}" if n_places < 1e12 else f"about {n_places:.0e}"


def lowest_if_none(scores: NDArray) -> NDArray:
    """Scores in which those that are no number, as other libraries may give, are the lowest."""
    return np.where(np.isnan(scores), -np.inf, scores)


def p_values_of(scores: NDArray, calibration_scores: NDArray) -> NDArray:
    """Split-conformal p-values of scores (n,), by sorted scores (m,) of normal rows."""
    no_higher = np.searchsorted(calibration_scores, lowest_if_none(scores), side="right")
    return (1 + no_higher) / (1 + len(calibration_scores))


def p_values_by_class(scores: NDArray, calibration_scores: NDArray, codes: NDArray) -> NDArray:
    """Conformal p-values (n, classes) of scores (n,), by the sorted scores (m,) of each class.

    `codes` (m,) are the places of their classes, each of which has one at least.
    """
    own = [calibration_scores[codes == code] for code in range(codes.max() + 1)]
    return np.column_stack([p_values_of(scores, part) for part in own])


# ---- rows held out ------------------------------------------------------------------------


class Split(NamedTuple, Generic[SameTable]):
    """Rows to train on and rows held out, with the places of their classes where they have any."""

    train: SameTable
    labels: NDArray | None
    # None: training rows have scores out of sample, and none need be held out.
    held_out: SameTable | None
    held_out_labels: NDArray | None = None

    @classmethod
    def at(
        cls, X: SameTable, labels: NDArray | None, train: NDArray, held_out: NDArray
    ) -> Split[SameTable]:
        """Split rows at places of either kind."""
        parts = [None if labels is None else labels[places] for places in (train, held_out)]
        return cls(rows_at(X, train), parts[0], rows_at(X, held_out), parts[1])


def rows_held_out(
    n: int,
    fraction: float | str,
    seed: int,
    *,
    labels: NDArray | None = None,
    groups: ArrayLike | None = None,
    calibration: Any = "random",
) -> NDArray:
    """Choose rows to hold out of training.

    Parameters
    ----------
    n : int
        Number of rows.
    fraction : float or "auto"
        How many of them.
    seed : int
        Seed of the choice.
    labels : ndarray of shape (n,), default=None
        Classes: "auto" takes its share of each.
    groups : array-like of shape (n,), default=None
        Labels of groups, of which only whole ones are held out.
    calibration : {"random", "last", "none"} or array-like, default="random"
        "last": the last rows, or the groups that end last. Else a mask (n,) or places of rows.

    Returns
    -------
    places : ndarray
        Sorted; empty if no rows are held out.

    Raises
    ------
    ValueError
        If what is asked for cannot be, or would leave fewer than 2 rows.
    """
    if not isinstance(calibration, str):
        return _checked(_chosen(calibration, groups, n), n, "calibration")
    if calibration not in ("random", "last", "none"):
        raise ValueError(
            f"calibration={calibration!r} must be 'random', 'last', 'none', or a mask or places of "
            "rows."
        )
    if fraction == 0 or calibration == "none":
        if calibration == "last":
            raise ValueError(
                "calibration='last' has no use with calibration_fraction=0, which holds out no "
                "rows. Set calibration_fraction='auto' or a number above 0."
            )
        return np.empty(0, dtype=np.intp)
    count = n_held_out(n, fraction)
    if groups is not None:
        chosen = _whole_groups(groups, n, count, seed if calibration == "random" else None)
        return _checked(chosen, n, "groups")
    if calibration == "last":
        order = np.arange(n)[::-1]
    else:
        draws = np.random.RandomState(seed)
        order = draws.permutation(n)
        if labels is not None and fraction == "auto" and count:
            order = _of_every_class(order, labels, count, draws.random_sample())
    return _checked(np.sort(order[:count]), n, f"calibration_fraction={fraction}")


def n_held_out(n: int, fraction: float | str) -> int:
    """Count the rows to hold out of `n`."""
    if fraction != "auto":
        return ceil(float(fraction) * n)
    count = min(max(ceil(AUTO_SHARE * n), AUTO_LEAST), AUTO_MOST, int(AUTO_LARGEST_SHARE * n))
    return count if count > 1 else 0  # one score alone says nothing of their spread


def _checked(places: NDArray, n: int, name: str) -> NDArray:
    if n - len(places) < 2:
        raise ValueError(
            f"{name} leaves {n - len(places)} of {n} rows to train on; at least 2 are needed."
        )
    return places


def _chosen(calibration: Any, groups: ArrayLike | None, n: int) -> NDArray:
    """Places of the rows that a mask or a list of places names."""
    if groups is not None:
        raise ValueError("calibration names the rows to hold out: leave groups out.")
    given = np.asarray(calibration)
    if given.dtype == bool and given.shape == (n,):
        places = np.flatnonzero(given)
    elif given.ndim == 1 and given.dtype.kind in "iu" and _are_places(given, n):
        places = np.sort(given).astype(np.intp)
    else:
        raise ValueError(
            f"calibration of shape {given.shape} and type {given.dtype} names no rows: pass a mask "
            f"of {n} booleans, or places of rows from 0 to {n - 1}, each once. Labels of groups "
            "are passed as groups=; rows that are no training rows go to calibrate(X)."
        )
    if not len(places):
        raise ValueError("calibration names no row: leave it out, or set calibration_fraction=0.")
    return places


def _are_places(given: NDArray, n: int) -> bool:
    inside = len(given) == 0 or (given.min() >= 0 and given.max() < n)
    return bool(inside) and len(np.unique(given)) == len(given)


def _whole_groups(groups: ArrayLike, n: int, count: int, seed: int | None) -> NDArray:
    """Places of the rows of whole groups, at least `count`, but not all of the groups."""
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"groups of shape {labels.shape} must have a label for each of {n} rows.")
    missing = pd.isna(labels)
    if missing.any():
        raise ValueError(
            f"groups has no label for {int(missing.sum())} of {n} rows, row "
            f"{int(missing.argmax())} the first: give each a label, such as one of its own."
        )
    try:
        names, codes = np.unique(labels, return_inverse=True)
    except TypeError:  # labels of two kinds, which have no order
        codes, names = pd.factorize(labels)
    if len(names) < 2:
        raise ValueError(
            "groups has one group only, which cannot be both trained on and held out. Leave groups "
            "out, or set calibration_fraction=0."
        )
    if seed is None:
        last = np.zeros(len(names), dtype=np.intp)
        np.maximum.at(last, codes, np.arange(n))
        order = np.argsort(-last)
    else:
        order = np.random.RandomState(seed).permutation(len(names))
    sizes = np.bincount(codes)[order[:-1]].cumsum()
    enough = min(int(np.searchsorted(sizes, count)) + 1, len(sizes))
    return np.flatnonzero(np.isin(codes, order[:enough])) if count else np.empty(0, dtype=np.intp)


def _of_every_class(order: NDArray, labels: NDArray, count: int, start: float) -> NDArray:
    """Choose `count` places from an order of them, of every class its share, but for rounding.

    Steps of one length through the classes, one after another, begin at a share `start` of the
    first: so every row has the same chance, in the rarest class, too.
    """
    by_class = order[np.argsort(labels[order], kind="stable")]
    steps = (np.arange(count) + start) * (len(order) / count)
    return by_class[np.minimum(steps.astype(np.intp), len(order) - 1)]


def hold_out_nothing(estimator: Any) -> None:
    """Let a model, and those in it, train on all rows where the user left the choice to it.

    This is for models whose own thresholds have no part in what is made of them.
    """
    if not (hasattr(estimator, "get_params") and hasattr(estimator, "set_params")):
        return
    held = {
        name: 0.0
        for name, value in estimator.get_params(deep=True).items()
        if name.rpartition("__")[2] == "calibration_fraction" and value == "auto"
    }
    if held:
        estimator.set_params(**held)
