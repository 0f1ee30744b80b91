"""How well a detector tells rows from others that are made of them: a stand-in for anomalies."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_array, check_random_state, check_scalar

from ._label_free import rows_like, scores_of

AGAINST = ("manifold", "shuffled", "uniform")
# Principal components hold this share of the variance.
_SHARE = 0.9


def contrast_auc(
    estimator: Any,
    X_train: ArrayLike,
    X: ArrayLike,
    *,
    against: str | ArrayLike = "manifold",
    n_points: int = 1000,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    r"""AUROC of telling rows from points that are made without labels. Higher = better.

    What `MPDR.on_manifold_score` is for MPDR detectors that share a manifold, for any detectors:
    the points depend on the training rows, and not on the detector, so that all can be compared.

    Parameters
    ----------
    estimator : estimator
        A detector fitted to `X_train`; see `anomaly_score`.
    X_train : array-like of shape (n_train, n_features)
        The rows that it is fitted to: numbers. Points are made of them.
    X : array-like of shape (n_samples, n_features)
        Rows that were not trained on, normal ones for the most part.
    against : str or array-like of shape (n_points, n_features), default="manifold"
        "manifold" draws points uniformly from the box of the training rows' principal components,
        as many as hold 90 % of the variance of standardised columns. "shuffled" draws each column's
        value from another training row: the columns' distributions stay what they are, and how
        they go together is lost. "uniform" draws from the box of the training rows. An array is
        taken as it is: rows that a detector has sampled, or anomalies that were made up.
    n_points : int, default=1000
        Points to draw.
    random_state : int, RandomState instance or None, default=0
        Draws the points. An integer gives all candidates the same ones.

    Returns
    -------
    float
        In [0, 1]: the probability that a point scores as more anomalous than a row, ties counted
        half.

    Raises
    ------
    ValueError
        If a parameter is none of these, rows are no finite numbers, or scores are not finite.
    TypeError
        If the estimator is no detector.

    See Also
    --------
    on_manifold_scorer : MPDR's own, on points of the detector's manifold.
    make_label_free_scorer : Makes it a scorer for searches.

    Notes
    -----
    With rows from a density :math:`p` and points from :math:`q`, what tells them apart best is
    :math:`p / q`. With uniform points the best detector orders rows as :math:`p` does; the score is
    then one minus the area under the whole `mass_volume_curve`.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Mahalanobis
    >>> from skgenad.metrics import contrast_auc
    >>> train, new = np.random.RandomState(0).normal(size=(2, 500, 2)) @ [[1.0, 0.9], [0.0, 0.4]]
    >>> detector = Mahalanobis().fit(train)
    >>> contrast_auc(detector, train, new, against="shuffled") > 0.6
    True
    """
    check_scalar(n_points, "n_points", Integral, min_val=1)
    train = check_array(X_train, dtype=np.float64)
    points = points_of(train, against, n_points, check_random_state(random_state))
    scores = [scores_of(estimator, X), scores_of(estimator, rows_like(points, X))]
    truth = np.repeat([0, 1], [len(part) for part in scores])
    return float(roc_auc_score(truth, np.concatenate(scores)))


def points_of(
    train: NDArray, against: str | ArrayLike, n_points: int, rng: np.random.RandomState
) -> NDArray:
    """Make points (n_points, d) of training rows (n, d)."""
    if not isinstance(against, str):
        return check_array(against, dtype=np.float64, input_name="against")
    if against == "shuffled":
        return np.stack([rng.choice(column, n_points) for column in train.T], axis=1)
    if against == "uniform":
        return rng.uniform(train.min(axis=0), train.max(axis=0), (n_points, train.shape[1]))
    if against == "manifold":
        return _on_components(train, n_points, rng)
    raise ValueError(f"against={against!r} is none of {', '.join(AGAINST)}, and no rows.")


def _on_components(train: NDArray, n_points: int, rng: np.random.RandomState) -> NDArray:
    """Points of the plane of principal components, from the box of the rows' projections."""
    centre, scale = train.mean(axis=0), train.std(axis=0)
    scale[scale == 0] = 1
    rows = (train - centre) / scale
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    shares = np.square(sizes).cumsum() / max(np.square(sizes).sum(), np.finfo(float).tiny)
    axes = axes[: np.searchsorted(shares, _SHARE) + 1]
    latent = rows @ axes.T
    drawn = rng.uniform(latent.min(axis=0), latent.max(axis=0), (n_points, len(axes)))
    return drawn @ axes * scale + centre
