"""Counts, means and scatters of weighted rows, which add up over sets of rows.

Merging keeps the deviations from the means, so that nothing cancels as in sums of squares (Chan,
Golub and LeVeque, 1979).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


class Mixture(NamedTuple):
    """Soft counts and moments of K components in d dimensions; those of two sets of rows add up.

    Attributes
    ----------
    counts : Tensor of shape (K,)
        Sums of the memberships.
    means : Tensor of shape (K, d)
        Means of the rows, weighted by the memberships: mu.
    scatters : Tensor of shape (K, d, d)
        Weighted sums of the outer products of deviations from the means.
    """

    counts: Float[Tensor, " K"]
    means: Float[Tensor, "K d"]
    scatters: Float[Tensor, "K d d"]

    @classmethod
    def of(cls, z: Float[Tensor, "n d"], memberships: Float[Tensor, "n K"]) -> Mixture:
        """Moments of rows `z` (n, d) with `memberships` (n, K) that add up to 1 in a row."""
        counts, means = _means(z, memberships)
        deviations = z - means[:, None]
        weighted = memberships.T[:, :, None] * deviations
        return cls(counts, means, weighted.transpose(1, 2) @ deviations)

    def merge(self, other: Mixture) -> Mixture:
        """Moments of both sets of rows, without the cancellation of summed squares."""
        counts, means, shift, weight = _merged(self, other)
        between = weight[:, None, None] * (shift[:, :, None] * shift[:, None])
        return Mixture(counts, means, self.scatters + other.scatters + between)

    @property
    def weights(self) -> Float[Tensor, " K"]:
        """Shares (K,) of the components: phi."""
        return self.counts / self.counts.sum()

    @property
    def covariances(self) -> Float[Tensor, "K d d"]:
        """Covariances (K, d, d) of the components: Sigma, perhaps singular."""
        return self.scatters / positive(self.counts)[:, None, None]


class TiedMoments(NamedTuple):
    """Counts and means of K classes and one scatter within all of them; those of two sets add up.

    Attributes
    ----------
    counts : Tensor of shape (K,)
        Numbers of rows.
    means : Tensor of shape (K, d)
        Means of the rows of each class; 0 where there are none.
    scatter : Tensor of shape (d, d)
        Sum of the outer products of deviations from the mean of the row's class.
    """

    counts: Float[Tensor, " K"]
    means: Float[Tensor, "K d"]
    scatter: Float[Tensor, "d d"]

    @classmethod
    def of(cls, z: Float[Tensor, "n d"], memberships: Float[Tensor, "n K"]) -> TiedMoments:
        """Moments of rows `z` (n, d) with `memberships` (n, K), a 1 and zeros in a row."""
        counts, means = _means(z, memberships)
        deviations = z - memberships @ means
        return cls(counts, means, deviations.T @ deviations)

    def merge(self, other: TiedMoments) -> TiedMoments:
        """Moments of both sets of rows, without the cancellation of summed squares."""
        counts, means, shift, weight = _merged(self, other)
        between = (shift * weight[:, None]).T @ shift
        return TiedMoments(counts, means, self.scatter + other.scatter + between)

    def pooled(self) -> TiedMoments:
        """Moments of the same rows taken as one class."""
        mean = self.weights @ self.means
        shift = self.means - mean
        between = (shift * self.counts[:, None]).T @ shift
        return TiedMoments(self.counts.sum()[None], mean[None], self.scatter + between)

    @property
    def weights(self) -> Float[Tensor, " K"]:
        """Shares (K,) of the classes."""
        return self.counts / self.counts.sum()

    @property
    def covariance(self) -> Float[Tensor, "d d"]:
        """Covariance (d, d) within the classes, with the number of rows as divisor."""
        return self.scatter / self.counts.sum()


def _means(
    z: Float[Tensor, "n d"], memberships: Float[Tensor, "n K"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K d"]]:
    counts = memberships.sum(dim=0)
    return counts, (memberships.T @ z) / positive(counts)[:, None]


def _merged(
    one: Mixture | TiedMoments, other: Mixture | TiedMoments
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K d"], Float[Tensor, "K d"], Float[Tensor, " K"]]:
    """Return counts and means of both, the shift of the means, and its weight in the scatter."""
    counts = one.counts + other.counts
    share = other.counts / positive(counts)
    shift = other.means - one.means
    return counts, one.means + share[:, None] * shift, shift, one.counts * share


def positive(counts: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
    """Move `counts` away from 0, so that components without rows can be divided by them."""
    return counts.clamp_min(torch.finfo(counts.dtype).tiny)
