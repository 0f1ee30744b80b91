"""Two-dimensional toy problems that show what detectors do.

Every problem is a density of normal rows and a region of the plane where anomalies lie, away from
that density's bulk.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from ._toy_densities import (
    _EIGHT_MEANS,
    _EIGHT_VARIANCE,
    _GAP_MEANS,
    _GAP_SCALES,
    _LOCAL_MEANS,
    _LOCAL_SCALES,
    _check_noise,
    _check_variance,
)

_Draw = Callable[[int, np.random.RandomState], np.ndarray]


def make_eight_gaussians(
    n_samples: int = 1000,
    *,
    anomalies: float = 0.0,
    variance: float = _EIGHT_VARIANCE,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Draw rows from the mixture of eight Gaussians of the NAE paper.

    The components are equally likely, isotropic, and lie evenly on a circle of radius
    :math:`2\sqrt{2}`. Anomalies are uniform in the square of side 12 around the circle, at least
    three standard deviations from every mean, its centre included.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows, anomalies included.
    anomalies : float, default=0.0
        Share of anomalies among the rows, in [0, 1).
    variance : float, default=1/8
        Variance of a component along each axis, in (0, 1]. The default is that of the data in the
        code of NAE's and MPDR's authors and of Grathwohl et al. (FFJORD), where ``sqrt(2) / 4`` is
        the standard deviation; NAE's appendix D.1 prints ``sqrt(2) / 4`` as the variance.
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible rows.

    Returns
    -------
    X : numpy.ndarray of shape (n_samples, 2)
        Rows in random order.
    y : numpy.ndarray of shape (n_samples,)
        1 = anomaly, 0 = normal.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of range.

    See Also
    --------
    eight_gaussians_log_density : True density of the normal rows.

    References
    ----------
    S. Yoon, Y.-K. Noh, F. C. Park. Autoencoding Under Normalization Constraints. ICML 2021.
    https://arxiv.org/abs/2105.05735

    Examples
    --------
    >>> from skgenad.datasets import make_eight_gaussians
    >>> X, y = make_eight_gaussians(200, anomalies=0.1, random_state=0)
    >>> X.shape, int(y.sum())
    ((200, 2), 20)
    """
    _check_variance(variance)
    scale = np.sqrt(variance)

    def draw_anomalies(n: int, rng: np.random.RandomState) -> np.ndarray:
        return _draw_away(n, rng, _EIGHT_MEANS, 3 * scale, half_side=6.0)

    draw_normal = _mixture(_EIGHT_MEANS, np.full(8, scale))
    return _make(n_samples, anomalies, draw_normal, draw_anomalies, random_state)


def make_ring(
    n_samples: int = 1000,
    *,
    anomalies: float = 0.0,
    noise: float = 0.1,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw normal rows from a ring of radius 1 and anomalies from its hole.

    The mean of the data is its most anomalous place, so whatever models normal rows as one
    ellipsoid ranks the anomalies as the most normal rows. Anomalies are uniform in the disc of
    radius 1/2.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows, anomalies included.
    anomalies : float, default=0.0
        Share of anomalies among the rows, in [0, 1).
    noise : float, default=0.1
        Standard deviation of the radius of normal rows, in (0, 0.2].
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible rows.

    Returns
    -------
    X : numpy.ndarray of shape (n_samples, 2)
        Rows in random order.
    y : numpy.ndarray of shape (n_samples,)
        1 = anomaly, 0 = normal.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of range.

    See Also
    --------
    ring_log_density : True density of the normal rows.

    Examples
    --------
    >>> from skgenad.datasets import make_ring
    >>> X, y = make_ring(200, anomalies=0.1, random_state=0)
    >>> bool((X[y == 1] ** 2).sum(axis=1).max() < 0.25)
    True
    """
    _check_noise(noise)

    def draw_normal(n: int, rng: np.random.RandomState) -> np.ndarray:
        # Negative radii, one in two million at the largest noise, are folded over.
        return _on_circles(np.abs(rng.normal(1.0, noise, size=n)), rng)

    def draw_anomalies(n: int, rng: np.random.RandomState) -> np.ndarray:
        return _on_circles(0.5 * np.sqrt(rng.uniform(size=n)), rng)

    return _make(n_samples, anomalies, draw_normal, draw_anomalies, random_state)


def make_two_clusters(
    n_samples: int = 1000,
    *,
    anomalies: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two clusters of normal rows and anomalies from the gap between them.

    The clusters are Gaussians of standard deviation 1/2 around (-2, 0) and (2, 0). Anomalies are
    uniform in the rectangle [-1/2, 1/2] x [-1, 1], at least three standard deviations from both
    means, in the range of the data along each axis and next to its mean.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows, anomalies included.
    anomalies : float, default=0.0
        Share of anomalies among the rows, in [0, 1).
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible rows.

    Returns
    -------
    X : numpy.ndarray of shape (n_samples, 2)
        Rows in random order.
    y : numpy.ndarray of shape (n_samples,)
        1 = anomaly, 0 = normal.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of range.

    See Also
    --------
    two_clusters_log_density : True density of the normal rows.

    Examples
    --------
    >>> from skgenad.datasets import make_two_clusters
    >>> X, y = make_two_clusters(200, anomalies=0.1, random_state=0)
    >>> bool((abs(X[y == 1, 0]) <= 0.5).all())
    True
    """

    def draw_anomalies(n: int, rng: np.random.RandomState) -> np.ndarray:
        return rng.uniform([-0.5, -1.0], [0.5, 1.0], size=(n, 2))

    draw_normal = _mixture(_GAP_MEANS, _GAP_SCALES)
    return _make(n_samples, anomalies, draw_normal, draw_anomalies, random_state)


def make_local_anomalies(
    n_samples: int = 1000,
    *,
    anomalies: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a tight and a wide cluster of normal rows and anomalies close to the tight one.

    The clusters are equally likely Gaussians around (-2, 0) and (3, 0) with standard deviations
    1/10 and 1. Anomalies lie around the tight one at distances uniform in [1/2, 1], which is far
    for its rows and near for those of the wide one: one distance for all is not enough.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows, anomalies included.
    anomalies : float, default=0.0
        Share of anomalies among the rows, in [0, 1).
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible rows.

    Returns
    -------
    X : numpy.ndarray of shape (n_samples, 2)
        Rows in random order.
    y : numpy.ndarray of shape (n_samples,)
        1 = anomaly, 0 = normal.

    Raises
    ------
    TypeError, ValueError
        If a parameter has the wrong type or is out of range.

    See Also
    --------
    local_anomalies_log_density : True density of the normal rows.

    Examples
    --------
    >>> from skgenad.datasets import make_local_anomalies
    >>> X, y = make_local_anomalies(200, anomalies=0.1, random_state=0)
    >>> X[y == 1].mean(axis=0).round()
    array([-2.,  0.])
    """

    def draw_anomalies(n: int, rng: np.random.RandomState) -> np.ndarray:
        return _LOCAL_MEANS[0] + _on_circles(rng.uniform(0.5, 1.0, size=n), rng)

    draw_normal = _mixture(_LOCAL_MEANS, _LOCAL_SCALES)
    return _make(n_samples, anomalies, draw_normal, draw_anomalies, random_state)


def _make(
    n_samples: int,
    anomalies: float,
    draw_normal: _Draw,
    draw_anomalies: _Draw,
    random_state: int | np.random.RandomState | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Put rows of both kinds and their labels in random order."""
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    check_scalar(anomalies, "anomalies", Real, min_val=0, max_val=1, include_boundaries="left")
    rng = check_random_state(random_state)
    n_anomalies = round(n_samples * anomalies)
    y = np.repeat([0, 1], [n_samples - n_anomalies, n_anomalies])
    X = np.concatenate(
        [draw_normal(n_samples - n_anomalies, rng), draw_anomalies(n_anomalies, rng)]
    )
    order = rng.permutation(n_samples)
    return X[order], y[order]


def _mixture(means: np.ndarray, scales: np.ndarray) -> _Draw:
    """Draw from equally likely isotropic Gaussians."""

    def draw(n: int, rng: np.random.RandomState) -> np.ndarray:
        component = rng.randint(len(means), size=n)
        return means[component] + scales[component, None] * rng.normal(size=(n, means.shape[1]))

    return draw


def _on_circles(radius: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, size=len(radius))
    return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def _draw_away(
    n: int, rng: np.random.RandomState, means: np.ndarray, distance: float, half_side: float
) -> np.ndarray:
    """Draw uniformly from a centred square, further than `distance` from every mean."""
    rows = np.empty((0, 2))
    while len(rows) < n:
        new = rng.uniform(-half_side, half_side, size=(max(4 * n, 100), 2))
        nearest = np.linalg.norm(new[:, None] - means, axis=2).min(axis=1)
        rows = np.concatenate([rows, new[nearest > distance]])
    return rows[:n]
