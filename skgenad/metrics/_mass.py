"""Mass-volume and excess-mass curves of anomaly scores.

A threshold c makes a set of the rows whose score is at most c. Its mass is the share of the
distribution in it, estimated by scores of held-out rows; its volume is estimated by scores of rows
that are drawn uniformly from a box, as a share of that box. Of all sets of one mass those where the
density is highest have the least volume, so a score that orders rows as the density does has the
lowest mass-volume curve and the highest excess-mass curve there can be.
"""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import auc
from sklearn.utils import check_array, check_scalar, column_or_1d

# Criteria look at sets that hold this share of the rows, or more.
MIN_MASS = 0.9


def mass_volume_curve(
    anomaly_score: ArrayLike, uniform_score: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    r"""Least volume of a score's sets with at least some mass, for all masses.

    Parameters
    ----------
    anomaly_score : array-like of shape (n_samples,)
        Finite scores of rows that were not trained on, higher = more anomalous.
    uniform_score : array-like of shape (n_uniform,)
        Scores, of the same detector, of rows drawn uniformly from a box that holds the others.

    Returns
    -------
    mass : ndarray of shape (n_values + 1,)
        0, and the shares of rows at or below each value that `anomaly_score` has. Rising.
    volume : ndarray of shape (n_values + 1,)
        Shares of the box at or below that value. Between two masses the volume is that of the
        larger one: plot with ``drawstyle="steps-pre"``.

    Raises
    ------
    ValueError
        If a score is not finite, or there are none.

    See Also
    --------
    mass_volume : The area under the curve of a detector, as a criterion to choose by.
    excess_mass_curve : The other way to look at the same sets.

    Notes
    -----
    With masses :math:`\alpha_s(c) = P(s(X) \le c)` and volumes :math:`\lambda_s(c)`,

    .. math:: MV_s(\alpha) = \inf \{\lambda_s(c) : \alpha_s(c) \ge \alpha\}.

    The curve is the same for any strictly rising function of the scores. One minus the area under
    the whole of it is the AUROC of telling uniform rows from the others, where no scores tie.

    References
    ----------
    S. Clémençon, J. Jakubowicz. Scoring anomalies: a M-estimation formulation. AISTATS 2013.

    Examples
    --------
    >>> from skgenad.metrics import mass_volume_curve
    >>> mass, volume = mass_volume_curve([0.1, 0.2, 0.2, 0.9], [0.1, 0.15, 0.5, 0.7, 2.0])
    >>> mass.tolist(), volume.tolist()
    ([0.0, 0.25, 0.75, 1.0], [0.0, 0.2, 0.4, 0.8])
    """
    scores, uniform = _checked(anomaly_score, "anomaly_score"), _checked(uniform_score, "uniform")
    values, counts = np.unique(scores, return_counts=True)
    below = np.searchsorted(np.sort(uniform), values, side="right")
    mass = np.concatenate([[0], counts.cumsum()]) / len(scores)
    return mass, np.concatenate([[0], below]) / len(uniform)


def excess_mass_curve(
    anomaly_score: ArrayLike, uniform_score: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    r"""Largest mass in excess of a level times the volume, among a score's sets, for all levels.

    Parameters
    ----------
    anomaly_score : array-like of shape (n_samples,)
        Finite scores of rows that were not trained on, higher = more anomalous.
    uniform_score : array-like of shape (n_uniform,)
        Scores, of the same detector, of rows drawn uniformly from a box that holds the others.

    Returns
    -------
    level : ndarray of shape (n_knots,)
        Levels from 0 on where the curve bends: densities, where the uniform one in the box is 1.
    excess : ndarray of shape (n_knots,)
        The curve there, from 1 on falling. It is straight between the knots and constant behind the
        last one.

    Raises
    ------
    ValueError
        If a score is not finite, or there are none.

    See Also
    --------
    excess_mass : The area under the curve of a detector, as a criterion to choose by.
    mass_volume_curve : The other way to look at the same sets.

    Notes
    -----
    With masses :math:`\alpha_s(c)` and volumes :math:`\lambda_s(c)` of the sets,

    .. math:: EM_s(t) = \sup_c \{\alpha_s(c) - t \lambda_s(c)\},

    which is the largest of straight lines in t. Those that are the largest anywhere are the corners
    of the concave hull of (volume, mass), so the curve is computed exactly and not on a grid.

    References
    ----------
    N. Goix, A. Sabourin, S. Clémençon. On anomaly ranking and excess-mass curves. AISTATS 2015.

    Examples
    --------
    >>> from skgenad.metrics import excess_mass_curve
    >>> level, excess = excess_mass_curve([0.1, 0.2, 0.2, 0.9], [0.1, 0.15, 0.5, 0.7, 2.0])
    >>> level.round(3).tolist(), excess.round(3).tolist()
    ([0.0, 0.625, 1.875], [1.0, 0.5, 0.0])
    """
    mass, volume = mass_volume_curve(anomaly_score, uniform_score)
    corners = _concave_hull(volume, mass)
    x, y = volume[corners], mass[corners]
    levels = (np.diff(y) / np.diff(x))[::-1]
    # At the slope between two corners both of their lines are the largest.
    return np.append(0.0, levels), np.append(1.0, y[:-1][::-1] - levels * x[:-1][::-1])


def mass_volume_area(scores: NDArray, uniform: NDArray, min_mass: float) -> float:
    """Area under the mass-volume curve from a mass to 1."""
    mass, volume = mass_volume_curve(scores, uniform)
    return float((np.diff(mass.clip(min=min_mass)) * volume[1:]).sum())


def excess_mass_area(scores: NDArray, uniform: NDArray, min_mass: float) -> float:
    """Area under the excess-mass curve, from level 0 to where it falls to a mass.

    Sets that no uniform row is in have a volume that is not known: the levels end at the number of
    uniform rows, where one of them outweighs all mass.
    """
    level, excess = excess_mass_curve(scores, uniform)
    end = float(len(uniform))
    below = np.flatnonzero(excess <= min_mass)
    if len(below):
        k = below[0]
        # Straight between the knots; the first excess is 1, which is more than any `min_mass`.
        share = (excess[k - 1] - min_mass) / (excess[k - 1] - excess[k])
        end = min(end, level[k - 1] + share * (level[k] - level[k - 1]))
    knots = np.append(level[level < end], end)
    return float(auc(knots, np.interp(knots, level, excess)))


def check_min_mass(min_mass: float) -> None:
    check_scalar(min_mass, "min_mass", Real, min_val=0, max_val=1, include_boundaries="left")


def _concave_hull(x: NDArray, y: NDArray) -> list[int]:
    """Places of the corners of the upper hull of rising points, from left to right."""
    corners: list[int] = []
    for k in range(len(x)):
        while corners and (x[corners[-1]] == x[k] or _is_under(x, y, corners, k)):
            corners.pop()
        corners.append(k)
    return corners


def _is_under(x: NDArray, y: NDArray, corners: list[int], k: int) -> bool:
    """Whether the last corner is not above the line from the one before to point k."""
    if len(corners) < 2:
        return False
    i, j = corners[-2:]
    return bool((y[j] - y[i]) * (x[k] - x[i]) <= (y[k] - y[i]) * (x[j] - x[i]))


def _checked(scores: ArrayLike, name: str) -> NDArray:
    return check_array(column_or_1d(scores), ensure_2d=False, dtype=np.float64, input_name=name)
