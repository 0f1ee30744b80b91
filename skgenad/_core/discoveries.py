"""Many rows at once: adjusted p-values, and how few held-out rows are too few for any discovery.

With s_i the scores of the rows asked about together, and m scores held out, conformal p-values are
p_i = #{z in Z_i : z <= s_i} / (m + 1), where Z_i are the held-out scores and s_i itself. If, given
all other rows asked about, s_i is any of Z_i with the same probability (row i is normal), then by
Z_i and the others all p-values, and the number R of rows that a step-up rule selects, are functions
of which z of Z_i is s_i: the p-values rise with z, R falls, so that row i is selected for z up to
some z*, and

    E[1{i is selected} / R]  <=  sum_{z <= z*} 1 / ((m + 1) R(z*))  =  p_i(z*) / R(z*)  <=  fdr / n.

The sum over normal rows is the false discovery rate of the Benjamini-Hochberg rule. The argument
asks for no continuous scores: ties make p-values larger on both sides of it. With Storey's estimate
of the share of normal rows the last step is fdr (1 - c) / (1 + N_i), N_i the number of other rows
with a p-value of at least c, and the expectation of 1 / (1 + N_i) is at most 1 / (n_0 (1 - c)) for
n_0 normal rows if they are exchangeable with those held out, and if c is one of the p-values that
there are (Marandon et al., 2024).
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from skgenad._warn import warn

from .calibration import needed_for

METHODS = ("bh", "by", "storey")
# Storey's estimate counts p-values from here on.
_FROM = 0.5


def q_values_of(p_values: NDArray, n_held_out: int, method: str) -> NDArray:
    """Adjust p-values.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        Of all rows that are asked about together.
    n_held_out : int
        Number of scores that they come from, so that the least of them is 1 / (n_held_out + 1).
    method : {"bh", "by", "storey"}
        Benjamini-Hochberg, Benjamini-Yekutieli, or the first times Storey's share of normal rows.

    Returns
    -------
    q_values : ndarray of shape (n,)
        The least `fdr` at which the step-up rule selects the row.
    """
    if method == "storey":
        share = share_of_normal_rows(p_values, n_held_out)
        return np.minimum(share * false_discovery_control(p_values), 1.0)
    return np.asarray(false_discovery_control(p_values, method=method))


def share_of_normal_rows(p_values: NDArray, n_held_out: int) -> float:
    """Storey's estimate of the share of normal rows, (1 + #{p >= c}) / (n (1 - c)), c about 1/2.

    It may be a little above 1, as it must be for the false discovery rate to be bounded.
    """
    steps = n_held_out + 1
    place = max(int(_FROM * steps), 1)
    # p-values are whole numbers of steps, but for rounding.
    n_above = int((p_values > (place - 1e-6) / steps).sum())
    return (1 + n_above) / (len(p_values) * (1 - place / steps))


def held_out_for_one(p_values: NDArray, n_held_out: int, fdr: float, method: str) -> float:
    """Held-out rows, and one more, of which a single row's p-value could be small enough."""
    n = len(p_values)
    factor = 1.0
    if method == "by":
        factor = float((1 / np.arange(1, n + 1)).sum())
    elif method == "storey":
        factor = share_of_normal_rows(p_values, n_held_out)
    return round(factor * n / fdr, 6)


def warn_if_none_could_be(p_values: NDArray, n_held_out: int, fdr: float, method: str) -> None:
    """Warn, where no row was selected, if that is for want of held-out rows."""
    n, needed = len(p_values), held_out_for_one(p_values, n_held_out, fdr, method)
    fewest = round(needed / (n_held_out + 1), 9)
    if fewest <= 1:
        return
    can = "none can be"
    if fewest <= n:
        can = f"{ceil(fewest)} at once are the fewest that can be"
    warn(
        f"None of {n} rows is selected at fdr={fdr:g}. With {n_held_out} rows that were not "
        f"trained on, {can}, and a single one needs {needed_for(needed)}. Hold out more rows "
        "(calibration_fraction), call calibrate(X) with more normal rows, ask about fewer rows at "
        "a time, or for a larger fdr.",
    )
