"""Gaussian kernels around anchor rows: densities, the means they pull rows to, exact copies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .products import spans, steady_product

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Words of a row are multiplied by powers of this odd number, modulo 2^64, to make one key of them.
_FACTOR = 6364136223846793005


def squared_distances(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], lengths: Float[Tensor, " m"] | None = None
) -> Float[Tensor, "n m"]:
    """Squared Euclidean distances (n, m) of rows (n, d) and (m, d), by a matrix product.

    `lengths` are the squared ones of `y`, if they are known.
    """
    lengths = y.square().sum(dim=1) if lengths is None else lengths
    distances = x.square().sum(dim=1)[:, None] + lengths
    for span in spans(x.shape[1], x.dtype):
        distances.addmm_(x[:, span], y[:, span].T, alpha=-2)
    return distances.clamp_min_(0)


def keys_of(x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Keys (n,) of float32 rows (n, d): those of equal rows are equal, others hardly ever are."""
    words = (x.float() + 0.0).view(torch.int32).long()  # adding 0 makes -0 the same as 0
    factors = torch.ones(x.shape[1], dtype=torch.long, device=x.device)
    factors[1:] = _FACTOR
    return ((words + 1) * factors.cumprod(dim=0)).sum(dim=1)


class Copies:
    """Finds among anchor rows the one that a row is an exact copy of.

    Parameters
    ----------
    anchors : Tensor of shape (m, d)
        Float32 rows.
    """

    def __init__(self, anchors: Float[Tensor, "m d"]) -> None:
        self.anchors = anchors
        self.keys, self.order = keys_of(anchors).sort(stable=True)

    def places(self, x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """Places (n,) of an anchor equal to each row (n, d), -1 where there is none."""
        at = torch.searchsorted(self.keys, keys_of(x)).clamp_max(len(self.keys) - 1)
        places = self.order[at]
        return places.where((self.anchors[places] == x).all(dim=1), -1)


def weights_of(
    exponents: Float[Tensor, "n m"], left_out: Int[Tensor, " n"] | None = None
) -> Float[Tensor, "n m"]:
    """Weights exp(exponent), (n, m), the largest of a row being 1.

    The largest exponent is subtracted first: of a row so far away that all kernels vanish, the
    nearest anchor keeps its weight. `left_out` (n,) are places of anchors that count nothing for a
    row, -1 for none; it changes `exponents` in place.
    """
    if left_out is not None:
        rows = torch.nonzero(left_out >= 0).squeeze(1)
        exponents[rows, left_out[rows]] = -math.inf
    return exponents.sub_(exponents.amax(dim=1, keepdim=True)).exp_()


def kernel_mean(
    weights: Float[Tensor, "n m"], anchors: Float[Tensor, "m d"]
) -> Float[Tensor, "n d"]:
    """Means (n, d) of anchors (m, d) by weights (n, m): the estimate of Nadaraya and Watson.

    With Gaussian kernels of width h this is x + h^2 grad log p_h(x) for the kernel density p_h.
    """
    return steady_product(weights, anchors) / weights.sum(dim=1, keepdim=True)


def kernel_log_density(
    x: Float[Tensor, "n d"], anchors: Float[Tensor, "m d"], width: Tensor | float
) -> Float[Tensor, " n"]:
    """Log densities (n,) of rows (n, d): the mean of Gaussians of one width around anchors."""
    width = torch.as_tensor(width, dtype=x.dtype, device=x.device)
    exponents = squared_distances(x, anchors) / (-2 * width.square())
    constant = math.log(len(anchors)) + x.shape[1] * (width.log() + 0.5 * math.log(2 * math.pi))
    return torch.logsumexp(exponents, dim=1) - constant
