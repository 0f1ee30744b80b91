"""How alike detectors rank rows: a detector and itself fitted again, a detector and another."""

from __future__ import annotations

from itertools import combinations
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.utils import (
    check_array,
    check_consistent_length,
    check_random_state,
    check_scalar,
    column_or_1d,
)

from ._label_free import refitted, rows_at, scores_of, seeds_in

MEASURES = ("rank", "tail")
VARY = ("rows", "seed")


def tail_overlap(first: ArrayLike, second: ArrayLike, *, share: float = 0.1) -> float:
    """Share of the most anomalous rows of one score that are so by another score, too.

    Parameters
    ----------
    first, second : array-like of shape (n_samples,)
        Finite scores of the same rows, higher = more anomalous. The order has no part in it.
    share : float in (0, 1], default=0.1
        Share of the rows that is looked at; rounded, and one row at least.

    Returns
    -------
    float
        In [0, 1]. Chance is about `share`.

    Raises
    ------
    ValueError
        If scores are not finite, differ in number, or `share` is out of range.

    See Also
    --------
    scipy.stats.spearmanr : Agreement over all rows.

    Notes
    -----
    Where rows tie at the threshold, the result is its mean over random choices among them, made for
    either score apart. A score that is the same for all rows has `share` with any other.

    Examples
    --------
    >>> from skgenad.metrics import tail_overlap
    >>> tail_overlap([1, 2, 3, 4, 5, 6], [6, 1, 2, 3, 4, 5], share=1 / 3)
    0.5
    """
    check_scalar(share, "share", Real, min_val=0, max_val=1, include_boundaries="right")
    scores = [check_array(column_or_1d(s), ensure_2d=False, dtype=float) for s in (first, second)]
    check_consistent_length(*scores)
    n_top = max(1, round(share * len(scores[0])))
    weights = [_in_top(values, n_top) for values in scores]
    return float(weights[0] @ weights[1] / n_top)


def stability(
    estimator: Any,
    X_train: ArrayLike,
    X: ArrayLike,
    *,
    vary: str = "rows",
    measure: str = "rank",
    share: float = 0.1,
    n_fits: int = 5,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    """How alike a detector ranks rows when it is fitted again. Higher = more stable.

    A detector may be stable and wrong: one that looks at a single column is very stable.

    Parameters
    ----------
    estimator : estimator
        A detector; see `anomaly_score`. Clones of it are fitted.
    X_train : array-like of shape (n_train, n_features)
        Rows to fit them to.
    X : array-like of shape (n_samples, n_features)
        Rows to rank, which were not trained on.
    vary : {"rows", "seed"}, default="rows"
        "rows" fits each clone to another random half of `X_train`, with all of its seeds the same;
        "seed" fits to all rows, with other seeds.
    measure : {"rank", "tail"}, default="rank"
        "rank" is Spearman's rank correlation over all rows, 0 if all scores of a fit are the same;
        "tail" is `tail_overlap`, which looks at the rows that would be flagged.
    share : float in (0, 1], default=0.1
        Share of the rows in the tail.
    n_fits : int, default=5
        Clones to fit; 2 at least.
    random_state : int, RandomState instance or None, default=0
        Draws halves and seeds. An integer gives all candidates the same ones.

    Returns
    -------
    float
        Mean over all pairs of clones; at most 1.

    Raises
    ------
    ValueError
        If a parameter is none of these, or the seed is to vary of a detector that has none.
    TypeError
        If the estimator is no detector.

    See Also
    --------
    make_label_free_scorer : Makes it a scorer for searches.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skgenad.metrics import stability
    >>> train, new = np.random.RandomState(0).normal(size=(2, 200, 3))
    >>> few, many = IsolationForest(n_estimators=5), IsolationForest(n_estimators=100)
    >>> stability(few, train, new, vary="seed") < stability(many, train, new, vary="seed")
    True
    """
    _check(measure, share)
    fits = refit_scores(estimator, X_train, X, vary=vary, n_fits=n_fits, random_state=random_state)
    return float(np.mean([alike(*pair, measure, share) for pair in combinations(fits, 2)]))


def agreement(
    estimator: Any,
    X_train: ArrayLike,
    X: ArrayLike,
    *,
    reference: Any,
    measure: str = "rank",
    share: float = 0.1,
) -> float:
    """How alike a detector and another, such as a committee, rank rows. Higher = more alike.

    Parameters
    ----------
    estimator : estimator
        A detector fitted to `X_train`; see `anomaly_score`.
    X_train : array-like of shape (n_train, n_features)
        The rows that it is fitted to.
    X : array-like of shape (n_samples, n_features)
        Rows to rank, which were not trained on.
    reference : estimator
        An unfitted detector, such as :class:`skgenad.Committee`, of which a clone is fitted to
        `X_train`.
    measure : {"rank", "tail"}, default="rank"
        "rank" is Spearman's rank correlation over all rows, 0 if all scores of a detector are the
        same; "tail" is `tail_overlap`, which looks at the rows that would be flagged.
    share : float in (0, 1], default=0.1
        Share of the rows in the tail.

    Returns
    -------
    float
        At most 1, which the reference itself has.

    Raises
    ------
    ValueError
        If a parameter is none of these.
    TypeError
        If the estimator is no detector.

    See Also
    --------
    make_label_free_scorer : Makes it a scorer for searches.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Committee, Neighbors
    >>> from skgenad.metrics import agreement
    >>> train, new = np.random.RandomState(0).normal(size=(2, 200, 3))
    >>> detector = Neighbors().fit(train)
    >>> agreement(detector, train, new, reference=Committee(random_state=0)) > 0.8
    True
    """
    _check(measure, share)
    others = scores_of(clone(reference).fit(X_train), X)
    return alike(scores_of(estimator, X), others, measure, share)


def refit_scores(
    estimator: Any,
    X_train: Any,
    X: Any,
    *,
    vary: str,
    n_fits: int,
    random_state: int | np.random.RandomState | None,
) -> NDArray:
    """Scores (n_fits, n) of rows by clones that are fitted to halves, or with other seeds."""
    if vary not in VARY:
        raise ValueError(f"vary={vary!r} is none of {', '.join(VARY)}.")
    if vary == "seed" and not seeds_in(estimator):
        raise ValueError(
            f"{type(estimator).__name__} has no random_state to vary; use vary='rows'."
        )
    check_scalar(n_fits, "n_fits", Integral, min_val=2)
    rng = check_random_state(random_state)
    n = len(X_train)
    if vary == "rows" and n < 4:
        raise ValueError(f"{n} training rows have no halves of 2 rows; 4 are needed.")
    same, fits = int(rng.randint(2**31)), []
    for _ in range(n_fits):
        if vary == "seed":
            fitted = refitted(estimator, X_train, int(rng.randint(2**31)))
        else:
            some = np.sort(rng.permutation(n)[: n // 2])
            fitted = refitted(estimator, rows_at(X_train, some), same)
        fits.append(scores_of(fitted, X))
    return np.stack(fits)


def alike(first: NDArray, second: NDArray, measure: str, share: float) -> float:
    """Rank correlation or tail overlap of two scores (n,)."""
    if measure == "tail":
        return tail_overlap(first, second, share=share)
    ranks = [rankdata(scores) - (len(scores) + 1) / 2 for scores in (first, second)]
    size = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / size) if size > 0 else 0.0


def _check(measure: str, share: float) -> None:
    if measure not in MEASURES:
        raise ValueError(f"measure={measure!r} is none of {', '.join(MEASURES)}.")
    check_scalar(share, "share", Real, min_val=0, max_val=1, include_boundaries="right")


def _in_top(scores: NDArray, n_top: int) -> NDArray:
    """Probability (n,) of each row to be among the top, where ties are broken by chance."""
    threshold = np.partition(scores, -n_top)[-n_top]
    above, tied = scores > threshold, scores == threshold
    return above + tied * ((n_top - above.sum()) / tied.sum())
