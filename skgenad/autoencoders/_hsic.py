"""Hilbert-Schmidt independence criterion (HSIC) of two paired samples, plain and normalised.

Both are estimated with Gaussian kernels exp(-|a - b|^2 / s), where s is the median of the squared
distances between different rows of the sample, so that units do not matter: in the form
exp(-|a - b|^2 / (2 sigma^2)) it is sigma^2 = s / 2. Where more than half of the pairs are of equal
rows, s is the mean in place of the median.

References
----------
Gretton, Fukumizu, Teo, Song, Schölkopf and Smola, "A kernel statistical test of independence",
NeurIPS 2007. Ma, Lewis and Kleijn, "The HSIC bottleneck: deep learning without back-propagation",
AAAI 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skgenad._tensors.device import precise

from ._kernels import make_kernel, squared_distances

# The regularisation of normalised HSIC. Public code for the bottleneck has 1e-5: both matrices are
# then nearly the identity, and the value is within 2 % of n - 1, dependence or not.
EPSILON = 0.1


def hsic(x: Tensor, z: Tensor) -> Tensor:
    """HSIC () of paired rows (n, d_x) and (n, d_z): tr(K_x H K_z H) / n^2 (P-WAE, eq. 8).

    At least 0; exactly 0 if one of the two is constant. Its mean is not 0 for independent rows, but
    falls as 1 / n.
    """
    return (centred_gram(x) * centred_gram(z)).sum() / len(x) ** 2


def normalized_hsic(x: Tensor, z: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Normalised HSIC () of paired rows (n, d_x) and (n, d_z) (P-WAE, eq. 14).

    tr(R_x R_z) with R = K (K + epsilon n I)^-1, where K is the centred kernel matrix. It lies
    between 0, exactly that if one of the two is constant, and n - 1, which it comes near to for
    all rows that differ as `epsilon` gets small: its square is at most the product of those of x
    with x and z with z.
    """
    return (_projection(centred_gram(x), epsilon) * _projection(centred_gram(z), epsilon)).sum()


def centred_gram(rows: Tensor) -> Tensor:
    """H K H (n, n) of the kernel matrix K of rows (n, d), in float64 where the device has it."""
    # Rows are moved near to the origin, so that equal rows have a distance of exactly 0.
    rows = precise(rows - rows[:1])
    squares = squared_distances(rows, rows)
    gram = make_kernel("rbf", _scale(squares.detach()))(squares)
    by_row = gram.mean(dim=1)
    return gram - by_row[:, None] - by_row + by_row.mean()


def _scale(squares: Tensor) -> Tensor:
    """Squared distance that is the unit of a kernel, of squared distances (n, n)."""
    n = len(squares)
    places = torch.triu_indices(n, n, offset=1, device=squares.device)
    different = squares[places[0], places[1]]
    if not len(different):
        return squares.new_ones(())
    median, mean = different.median(), different.mean()
    rounding = 1e3 * torch.finfo(squares.dtype).eps
    scale = torch.where(median > rounding * mean, median, mean)
    return torch.where(scale > 0, scale, 1.0)


def _projection(centred: Tensor, epsilon: float) -> Tensor:
    """K (K + epsilon n I)^-1, symmetric with eigenvalues in [0, 1), of a centred kernel matrix."""
    n = len(centred)
    shift = epsilon * n * torch.eye(n, dtype=centred.dtype, device=centred.device)
    return torch.linalg.solve(centred + shift, centred)
