"""True log densities of the normal rows of the toy problems, in closed form."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp
from sklearn.utils import check_array, check_scalar

_DIAGONAL = 2 * np.sqrt(2)
_EIGHT_MEANS = np.array(
    [
        *([_DIAGONAL, 0], [0, _DIAGONAL], [-_DIAGONAL, 0], [0, -_DIAGONAL]),
        *([2, 2], [-2, 2], [2, -2], [-2, -2]),
    ]
)
# sqrt(2) / 4 is the standard deviation in the code of the papers' authors.
_EIGHT_VARIANCE = 1 / 8
_GAP_MEANS = np.array([[-2.0, 0.0], [2.0, 0.0]])
_GAP_SCALES = np.array([0.5, 0.5])
_LOCAL_MEANS = np.array([[-2.0, 0.0], [3.0, 0.0]])
_LOCAL_SCALES = np.array([0.1, 1.0])


def eight_gaussians_log_density(X: ArrayLike, *, variance: float = _EIGHT_VARIANCE) -> np.ndarray:
    """Log density of the normal rows of `make_eight_gaussians`.

    Parameters
    ----------
    X : array-like of shape (n_samples, 2)
        Points.
    variance : float, default=1/8
        As in `make_eight_gaussians`.

    Returns
    -------
    numpy.ndarray of shape (n_samples,)
        In nats.

    Raises
    ------
    TypeError, ValueError
        If `X` is not an array of points in the plane or `variance` is out of range.

    Examples
    --------
    >>> from skgenad.datasets import eight_gaussians_log_density
    >>> eight_gaussians_log_density([[2.0, 2.0], [0.0, 0.0]]).round(2)
    array([ -1.84, -31.76])
    """
    _check_variance(variance)
    return _mixture_log_density(X, _EIGHT_MEANS, np.full(8, np.sqrt(variance)))


def ring_log_density(X: ArrayLike, *, noise: float = 0.1) -> np.ndarray:
    """Log density of the normal rows of `make_ring`.

    Parameters
    ----------
    X : array-like of shape (n_samples, 2)
        Points. At the origin itself the density is not bounded.
    noise : float, default=0.1
        As in `make_ring`.

    Returns
    -------
    numpy.ndarray of shape (n_samples,)
        In nats.

    Raises
    ------
    TypeError, ValueError
        If `X` is not an array of points in the plane or `noise` is out of range.

    Examples
    --------
    >>> from skgenad.datasets import ring_log_density
    >>> ring_log_density([[1.0, 0.0], [0.0, 0.5]]).round(2)
    array([ -0.45, -12.26])
    """
    _check_noise(noise)
    radius = np.linalg.norm(_check_points(X), axis=1)
    outward = -0.5 * ((radius - 1) / noise) ** 2
    folded = -0.5 * ((radius + 1) / noise) ** 2
    log_radius_density = np.logaddexp(outward, folded) - 0.5 * np.log(2 * np.pi) - np.log(noise)
    with np.errstate(divide="ignore"):  # the density has a pole at the origin
        return log_radius_density - np.log(2 * np.pi * radius)


def two_clusters_log_density(X: ArrayLike) -> np.ndarray:
    """Log density of the normal rows of `make_two_clusters`.

    Parameters
    ----------
    X : array-like of shape (n_samples, 2)
        Points.

    Returns
    -------
    numpy.ndarray of shape (n_samples,)
        In nats.

    Raises
    ------
    TypeError, ValueError
        If `X` is not an array of points in the plane.

    Examples
    --------
    >>> from skgenad.datasets import two_clusters_log_density
    >>> two_clusters_log_density([[2.0, 0.0], [0.0, 0.0]]).round(2)
    array([-1.14, -8.45])
    """
    return _mixture_log_density(X, _GAP_MEANS, _GAP_SCALES)


def local_anomalies_log_density(X: ArrayLike) -> np.ndarray:
    """Log density of the normal rows of `make_local_anomalies`.

    Parameters
    ----------
    X : array-like of shape (n_samples, 2)
        Points.

    Returns
    -------
    numpy.ndarray of shape (n_samples,)
        In nats.

    Raises
    ------
    TypeError, ValueError
        If `X` is not an array of points in the plane.

    Examples
    --------
    >>> from skgenad.datasets import local_anomalies_log_density
    >>> local_anomalies_log_density([[-2.0, 0.0], [3.0, 0.0]]).round(2)
    array([ 2.07, -2.53])
    """
    return _mixture_log_density(X, _LOCAL_MEANS, _LOCAL_SCALES)


def _mixture_log_density(X: ArrayLike, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
    squares = ((_check_points(X)[:, None] - means) ** 2).sum(axis=2)  # (n, components)
    log_normal = -0.5 * squares / scales**2 - np.log(2 * np.pi * scales**2)
    return logsumexp(log_normal, axis=1) - np.log(len(means))


def _check_points(X: ArrayLike) -> np.ndarray:
    points = check_array(X, dtype=np.float64)
    if points.shape[1] != 2:
        raise ValueError(
            f"X has shape {points.shape}; the density is one of the plane: (n_samples, 2)."
        )
    return points


def _check_noise(noise: float) -> None:
    check_scalar(noise, "noise", Real, min_val=0, max_val=0.2, include_boundaries="right")


def _check_variance(variance: float) -> None:
    # Larger variances would leave no room for anomalies in the square.
    check_scalar(variance, "variance", Real, min_val=0, max_val=1, include_boundaries="right")
