"""Gaussian mixtures of rows: fitted by scikit-learn's EM, continued by sums that add up.

A component k is kept as the soft count, mean and scatter of its rows (n_k, mu_k, S_k), those of
:class:`skgenad._tensors.moments.Mixture`. Its density follows from them,

    w_k N(x; mu_k, S_k / n_k + r I),    w_k = n_k / sum_j n_j,

where r is added to the variances, so that more rows are learned by adding theirs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sklearn import config_context
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, extremes
from skgenad._tensors.derived import DerivingModule
from skgenad._tensors.device import PreciseModule, precise
from skgenad._tensors.model import Model
from skgenad._tensors.moments import Mixture
from skgenad._tensors.products import steady_product

from ._covariance import Axes, squared_length

# With more columns than this, components have covariances of their own along so many leading
# principal axes alone, since they cost a row the square of the number.
MOST_AXES = 64
# Rows whose outer products with themselves are summed at once.
_CHUNK = 1024


class _QuietMixture(GaussianMixture):
    """A mixture that does not warn if EM ended early: `has_converged` says it.

    The filters of warnings are the process's: other threads would see a change of them.
    """

    has_converged = False

    @property
    def converged_(self) -> bool:
        """Always true, which is what EM looks at before it warns."""
        return True

    @converged_.setter
    def converged_(self, value: bool) -> None:
        self.has_converged = bool(value)


class OneMixture(DerivingModule, PreciseModule):
    """A mixture of Gaussians: what its components have seen, and what they score by.

    Parameters
    ----------
    n_features : int
        Number of columns, d.
    n_components : int
        Number of components, K. Some have no rows where there are too few for all.
    regularization : float
        What is added to the variances, r.
    """

    counts: Tensor
    means: Tensor
    scatters: Tensor
    log_constants: Tensor
    whiteners: Tensor
    n_iter: Tensor
    converged: Tensor

    def __init__(self, n_features: int, n_components: int, regularization: float) -> None:
        super().__init__()
        self.regularization = regularization
        K, d = n_components, n_features
        sizes = {"counts": (K,), "means": (K, d), "scatters": (K, d, d)}
        sizes |= {"log_constants": (K,), "whiteners": (K, d, d)}
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self.register_buffer("n_iter", torch.zeros((), dtype=torch.int64))
        self.register_buffer("converged", torch.zeros((), dtype=torch.bool))

    @property
    def moments(self) -> Mixture:
        """What the components that have rows have seen, on the CPU in float64."""
        parts = (self.counts, self.means, self.scatters)
        return Mixture(*(part[: self.n_present].cpu().double() for part in parts))

    @property
    def n_present(self) -> int:
        """Number of components that have rows; they come first."""
        return int((self.counts > 0).sum())

    @property
    def axes(self) -> list[Axes]:
        """Covariances of the components, taken apart."""
        return self.derived("axes", self._axes)

    def _axes(self) -> list[Axes]:
        covariances = self.moments.covariances
        covariances.diagonal(dim1=1, dim2=2).add_(self.regularization)
        return [Axes.of(covariance) for covariance in covariances]

    def learn(self, rows: Tensor, n_rows: int, max_iter: int, seed: int) -> None:
        """Fit to rows (m, d) that stand for `n_rows`, by EM from the clusters of k-means."""
        m, K = len(rows), len(self.counts)
        # Of rows that are copies of few others, k-means would leave clusters empty, with a warning.
        most = min(m // (rows.shape[1] + 1), len(rows.unique(dim=0)))
        fitted = _QuietMixture(
            min(K, max(1, most)),
            reg_covar=self.regularization,
            max_iter=max_iter,
            random_state=seed,
        )
        try:
            # Rows are numpy's, which the start by k-means wants, whatever the caller's are.
            with config_context(array_api_dispatch=False):
                fitted.fit(rows.numpy())
        except ValueError as error:
            raise ValueError(
                f"regularization={self.regularization} is too small for these columns: a "
                "covariance is singular. Raise it; with standardize=False it is in squared units "
                "of X."
            ) from error
        weights, means, covariances = (
            torch.from_numpy(part) for part in (fitted.weights_, fitted.means_, fitted.covariances_)
        )
        covariances.diagonal(dim1=1, dim2=2).sub_(self.regularization)
        counts = n_rows * weights
        self.keep(Mixture(counts, means, counts[:, None, None] * covariances))
        self.n_iter.fill_(fitted.n_iter_)
        self.converged.fill_(fitted.has_converged)

    def add(self, rows: Tensor, n_rows: int) -> None:
        """Add rows (m, d) that stand for `n_rows`, each to the components it may come from."""
        moments, share = self.moments, n_rows / len(rows)
        for chunk in rows.split(_CHUNK):
            memberships = self.log_joint(chunk.to(self.means)).softmax(dim=0).T.cpu().double()
            moments = moments.merge(Mixture.of(chunk, share * memberships))
        self.keep(moments)

    def keep(self, moments: Mixture) -> None:
        """Take what components have seen, perhaps fewer than K: the others have seen nothing."""
        for name, part in moments._asdict().items():
            getattr(self, name).zero_()[: len(part)].copy_(part)
        self.forget()
        constant = -0.5 * self.means.shape[1] * math.log(2 * math.pi)
        for k, (axes, weight) in enumerate(zip(self.axes, self.moments.weights, strict=True)):
            self.whiteners[k].copy_(axes.whitener)
            self.log_constants[k] = weight.log() + constant - 0.5 * axes.log_determinant

    def log_joint(self, z: Tensor) -> Tensor:
        """Log densities (k, n) of components that have rows, for precise rows (n, d), in nats."""
        k = self.n_present
        squared = squared_length(z - precise(self.means[:k, None]), precise(self.whiteners[:k]))
        return precise(self.log_constants[:k, None]) - 0.5 * squared

    def log_prob(self, z: Tensor) -> Tensor:
        """Log densities (n,) of precise rows (n, d), in nats."""
        return self.log_joint(z).logsumexp(dim=0)

    def sample(self, n: int) -> Tensor:
        """Draw rows (n, d) on the CPU, in float64."""
        chosen = draws.multinomial(self.moments.weights, n)
        rows = self.moments.means[chosen]
        for k, axes in enumerate(self.axes):
            own = chosen == k
            noise = draws.randn(int(own.sum()), rows.shape[1], dtype=torch.float64)
            rows[own] += noise @ axes.root
        return rows


class GaussianMixturesModel(PreciseModule, Model):
    """Mixtures of different sizes of the same rows, and the density that is their mean.

    Parameters
    ----------
    n_features : int
        Number of columns, d.
    sizes : sequence of int
        Numbers of components of the mixtures.
    regularization : float
        What is added to the variances, r.
    max_iter : int
        The most steps of EM.
    max_rows : int
        The most rows that are learned from at a time.
    """

    levels: Tensor
    varies: Tensor
    rotation: Tensor

    def __init__(
        self,
        n_features: int,
        sizes: tuple[int, ...],
        *,
        regularization: float,
        max_iter: int,
        max_rows: int,
    ) -> None:
        super().__init__()
        self.regularization, self.max_iter, self.max_rows = regularization, max_iter, max_rows
        self.n_leading = min(n_features, MOST_AXES)
        self.mixtures: Any = nn.ModuleList(
            OneMixture(self.n_leading, size, regularization) for size in sizes
        )
        self.register_buffer("levels", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("varies", torch.zeros(n_features, dtype=torch.bool))
        self.rest: OneMixture | None = None
        if n_features > MOST_AXES:
            self.rest = OneMixture(n_features - MOST_AXES, 1, regularization)
            rotation = torch.zeros(n_features, n_features, dtype=torch.float64)
            self.register_buffer("rotation", rotation)

    @torch.no_grad()
    def finish(self, rows: Rows, labels: Tensor | None) -> None:
        """Learn rows (n, d), the first ones or more; a part of them if there are too many."""
        n, is_first = len(rows), self.mixtures[0].n_present == 0
        if is_first:
            self.levels.copy_(rows[0])
            low, high = extremes(rows)
            self.varies.copy_(high > low)
        if n > self.max_rows:
            rows = rows[draws.randperm(n)[: self.max_rows].to(rows.device)]
        # What was constant in the first rows stays a column of its own.
        z = self._known(rows[:]).cpu().double()
        if is_first:
            self._learn(z, n)
            return
        leading, others = self._parts(z)
        for mixture in self.mixtures:
            mixture.add(leading, n)
        if self.rest is not None:
            self.rest.add(others, n)

    def outgrown_by(self, rows: Tensor) -> bool:
        """Whether rows (n, d) vary in a column that is kept at its constant."""
        return bool(((rows != self.levels.to(rows)) & ~self.varies).any())

    @torch.no_grad()
    def weigh(self, factor: float) -> None:
        """Let the rows so far count as `factor` times as many."""
        for mixture in [*self.mixtures, *([] if self.rest is None else [self.rest])]:
            mixture.counts.mul_(factor)
            mixture.scatters.mul_(factor)

    def _learn(self, z: Tensor, n: int) -> None:
        """Learn the first rows (m, d), which stand for `n`, and their axes if columns are many."""
        if self.rest is not None:
            covariance = z.T.cov(correction=0)
            # A column without variance is an axis, and comes last.
            covariance.diagonal()[~self.varies.cpu()] = -1
            self.rotation.copy_(torch.linalg.eigh(covariance).eigenvectors.flip(1))
        leading, others = self._parts(z)
        for mixture in self.mixtures:
            seed = draws.seed()
            mixture.learn(leading, n, self.max_iter, seed)
        if self.rest is not None:
            self.rest.keep(Mixture.of(others, torch.full((len(z), 1), n / len(z)).double()))

    def _known(self, x: Tensor) -> Tensor:
        """Rows (n, d) with what was constant in training at that constant."""
        return torch.where(self.varies, x, self.levels.to(x))

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Precise rows (n, d) along the axes with covariances of components, and the others."""
        if self.rest is not None:
            z = steady_product(z, precise(self.rotation).to(z))
        return z[:, : self.n_leading], z[:, self.n_leading :]

    def log_probs(self, x: Tensor) -> Tensor:
        """Log densities (n, number of mixtures) of rows (n, d) in standard units, in nats."""
        leading, others = self._parts(precise(x))
        each = torch.stack([mixture.log_prob(leading) for mixture in self.mixtures], dim=1)
        return each if self.rest is None else each + self.rest.log_prob(others)[:, None]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d): of the mean of the mixtures, all columns counted."""
        return self.log_probs(x).logsumexp(dim=1) - math.log(len(self.mixtures))

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d): minus the log density, in nats.

        Float64 results are rounded to the type of `x`, since the last bits may depend on a row's
        place.
        """
        return -_rounded(self.log_prob(x), x)

    def log_density(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d), over the columns that vary."""
        n_constant = int((~self.varies).sum())
        constant = -0.5 * n_constant * math.log(2 * math.pi * self.regularization)
        return _rounded(self.log_prob(self._known(x)) - constant, x)

    def component_means(self) -> list[Tensor]:
        """Means (K, d) of the components of each mixture, on the CPU, in float64."""
        leading = [mixture.moments.means for mixture in self.mixtures]
        if self.rest is None:
            return leading
        others = self.rest.moments.means
        return [self._columns(part, others.expand(len(part), -1)) for part in leading]

    def sample(self, n: int) -> Tensor:
        """Draw rows (n, d) on the CPU, in float64; constant columns stay constant."""
        chosen = draws.randint(len(self.mixtures), (n,))
        each = torch.stack([mixture.sample(n) for mixture in self.mixtures])
        rows = each[chosen, torch.arange(n)]
        if self.rest is not None:
            rows = self._columns(rows, self.rest.sample(n))
        return torch.where(self.varies.cpu(), rows, self.levels.cpu().double())

    def _columns(self, leading: Tensor, others: Tensor) -> Tensor:
        """Rows (n, d) on the CPU of what :meth:`_parts` makes of them."""
        return torch.cat([leading, others], dim=1) @ self.rotation.cpu().double().T


def _rounded(values: Tensor, x: Tensor) -> Tensor:
    """`values` in the type of `x`, inside its range."""
    largest = torch.finfo(x.dtype).max
    return values.clamp(-largest, largest).to(x.dtype)
