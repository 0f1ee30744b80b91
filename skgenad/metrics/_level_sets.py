"""Excess mass and mass volume of a detector: criteria of which detector orders rows like a density.

Volumes are estimated by rows drawn uniformly from a box, which says nothing in many columns:
nearly all of a box is far from all rows. So clones are fitted to a few columns at a time, and the
mean over several such subspaces is taken (Goix, 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_random_state, check_scalar

from ._label_free import refitted, rows_like, scores_of
from ._mass import MIN_MASS, check_min_mass, excess_mass_area, mass_volume_area


def excess_mass(
    estimator: Any,
    X_train: ArrayLike,
    X: ArrayLike,
    *,
    min_mass: float = MIN_MASS,
    n_uniform: int = 10_000,
    max_columns: int = 8,
    n_subspaces: int = 20,
    n_columns: int = 3,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    r"""Area under a detector's excess-mass curve, where it is above a mass. Higher = better.

    Needs no labels. It is largest for detectors that order rows as their density does, and compares
    detectors on the same rows alone. That a detector finds anomalies is another matter: see the
    user guide for how often the two agree.

    Parameters
    ----------
    estimator : estimator
        A detector fitted to `X_train`; see `anomaly_score`. With more than `max_columns` columns it
        is not asked, but clones that are fitted to some columns of `X_train`.
    X_train : array-like of shape (n_train, n_features)
        The rows that it is fitted to: numbers. They and `X` span the box of the uniform rows.
    X : array-like of shape (n_samples, n_features)
        Rows that were not trained on, normal ones for the most part.
    min_mass : float in [0, 1), default=0.9
        The area ends at the level where the curve falls to this.
    n_uniform : int, default=10_000
        Uniform rows to draw, in each subspace. Their number bounds the densities that can be told
        apart.
    max_columns : int, default=8
        With more columns, subspaces are looked at.
    n_subspaces : int, default=20
        Subspaces, of columns drawn without replacement among those that are not constant.
    n_columns : int, default=3
        Columns of a subspace.
    random_state : int, RandomState instance or None, default=0
        Draws uniform rows and subspaces. An integer gives all candidates the same ones.

    Returns
    -------
    float
        At least 0. The unit is that of a density which is 1 for the uniform one in the box.

    Raises
    ------
    ValueError
        If a parameter is out of range, rows are no finite numbers, or scores are not finite.
    TypeError
        If the estimator is no detector.

    See Also
    --------
    excess_mass_curve : The curve itself.
    mass_volume : The same sets, looked at by volume.
    make_label_free_scorer : Makes it a scorer for searches.

    Notes
    -----
    :math:`\int_0^{t_{max}} EM_s(t)\, dt`, where :math:`EM_s(t_{max})` is `min_mass`. Volumes are
    shares of the box, so that units of columns have no part in it. Columns of few values, such as
    one-hot codes, have sets without volume, of which the criterion says nothing.

    References
    ----------
    N. Goix. How to evaluate the quality of unsupervised anomaly detection algorithms? ICML 2016
    workshop on anomaly detection. https://arxiv.org/abs/1607.01152

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Mahalanobis, Neighbors
    >>> from skgenad.metrics import excess_mass
    >>> train, new = np.random.RandomState(0).normal(size=(2, 500, 2)) @ [[1.0, 0.9], [0.0, 0.4]]
    >>> areas = [excess_mass(d.fit(train), train, new) for d in (Neighbors(), Mahalanobis())]
    >>> areas[0] < areas[1]  # the rows are Gaussian
    True
    """
    check_min_mass(min_mass)
    pairs = level_scores(
        estimator,
        X_train,
        X,
        n_uniform=n_uniform,
        max_columns=max_columns,
        n_subspaces=n_subspaces,
        n_columns=n_columns,
        random_state=random_state,
    )
    return float(np.mean([excess_mass_area(*pair, min_mass) for pair in pairs]))


def mass_volume(
    estimator: Any,
    X_train: ArrayLike,
    X: ArrayLike,
    *,
    min_mass: float = MIN_MASS,
    n_uniform: int = 10_000,
    max_columns: int = 8,
    n_subspaces: int = 20,
    n_columns: int = 3,
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    r"""Area under a detector's mass-volume curve, above a mass. Lower = better.

    Needs no labels. It is smallest for detectors that order rows as their density does, and
    compares detectors on the same rows alone. For searches:
    ``make_label_free_scorer(mass_volume, greater_is_better=False)``.

    Parameters
    ----------
    estimator : estimator
        A detector fitted to `X_train`; see `anomaly_score`. With more than `max_columns` columns it
        is not asked, but clones that are fitted to some columns of `X_train`.
    X_train : array-like of shape (n_train, n_features)
        The rows that it is fitted to: numbers. They and `X` span the box of the uniform rows.
    X : array-like of shape (n_samples, n_features)
        Rows that were not trained on, normal ones for the most part.
    min_mass : float in [0, 1), default=0.9
        The area begins at this mass.
    n_uniform : int, default=10_000
        Uniform rows to draw, in each subspace. The smallest volume that is not 0 is one of them.
    max_columns : int, default=8
        With more columns, subspaces are looked at.
    n_subspaces : int, default=20
        Subspaces, of columns drawn without replacement among those that are not constant.
    n_columns : int, default=3
        Columns of a subspace.
    random_state : int, RandomState instance or None, default=0
        Draws uniform rows and subspaces. An integer gives all candidates the same ones.

    Returns
    -------
    float
        In [0, 1 - min_mass]: volumes are shares of the box.

    Raises
    ------
    ValueError
        If a parameter is out of range, rows are no finite numbers, or scores are not finite.
    TypeError
        If the estimator is no detector.

    See Also
    --------
    mass_volume_curve : The curve itself.
    excess_mass : The same sets, looked at by level. Its notes hold here as well.
    make_label_free_scorer : Makes it a scorer for searches.

    Notes
    -----
    :math:`\int_{\alpha}^1 MV_s(a)\, da`, where :math:`\alpha` is `min_mass`.

    References
    ----------
    N. Goix. How to evaluate the quality of unsupervised anomaly detection algorithms? ICML 2016
    workshop on anomaly detection. https://arxiv.org/abs/1607.01152

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Mahalanobis, Neighbors
    >>> from skgenad.metrics import mass_volume
    >>> train, new = np.random.RandomState(0).normal(size=(2, 500, 2)) @ [[1.0, 0.9], [0.0, 0.4]]
    >>> areas = [mass_volume(d.fit(train), train, new) for d in (Neighbors(), Mahalanobis())]
    >>> areas[0] > areas[1]  # the rows are Gaussian
    True
    """
    check_min_mass(min_mass)
    pairs = level_scores(
        estimator,
        X_train,
        X,
        n_uniform=n_uniform,
        max_columns=max_columns,
        n_subspaces=n_subspaces,
        n_columns=n_columns,
        random_state=random_state,
    )
    return float(np.mean([mass_volume_area(*pair, min_mass) for pair in pairs]))


def level_scores(
    estimator: Any,
    X_train: Any,
    X: Any,
    *,
    n_uniform: int = 10_000,
    max_columns: int = 8,
    n_subspaces: int = 20,
    n_columns: int = 3,
    random_state: int | np.random.RandomState | None = 0,
) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield scores of rows (n,) and of uniform ones (n_uniform,), in all columns or in some."""
    counts = {"n_uniform": n_uniform, "max_columns": max_columns}
    counts |= {"n_subspaces": n_subspaces, "n_columns": n_columns}
    for name, count in counts.items():
        check_scalar(count, name, Integral, min_val=1)
    rng = check_random_state(random_state)
    train, rows = (check_array(table, dtype=np.float64) for table in (X_train, X))
    if train.shape[1] != rows.shape[1]:
        raise ValueError(
            f"X has {rows.shape[1]} columns, and X_train has {train.shape[1]}: pass rows of one "
            "table."
        )
    low = np.minimum(train.min(axis=0), rows.min(axis=0))
    high = np.maximum(train.max(axis=0), rows.max(axis=0))
    if train.shape[1] <= max_columns:
        uniform = rng.uniform(low, high, (n_uniform, len(low)))
        yield scores_of(estimator, X), scores_of(estimator, rows_like(uniform, X))
        return
    for _ in range(n_subspaces):
        some = _columns(low, high, n_columns, rng)
        uniform = rng.uniform(low[some], high[some], (n_uniform, len(some)))
        made = refitted(estimator, train[:, some])
        yield scores_of(made, rows[:, some]), scores_of(made, uniform)


def _columns(low: NDArray, high: NDArray, n: int, rng: np.random.RandomState) -> NDArray:
    """Draw places of columns, constant ones only where there are no others."""
    order = rng.permutation(len(low))
    order = order[np.argsort(low[order] == high[order], kind="stable")]
    return np.sort(order[:n])
