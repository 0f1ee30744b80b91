"""The exact denoiser of the training rows under Gaussian noise, and how far it moves a row.

The kernel density p_h of the training rows x_i with Gaussian kernels of width h is the density of
a training row with noise of standard deviation h added. The denoiser of the smallest mean squared
error is the mean of Nadaraya and Watson, and what it takes off a row is a score (Tweedie),

    r_h(x) = x - sum_i k_h(x, x_i) x_i / sum_i k_h(x, x_i) = -h^2 grad log p_h(x).

Denoising autoencoders, NAE and score matching learn this; here it is in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgenad._core.anomaly_maps import ReconstructionMixin
from skgenad._core.checks import Interval, StrOptions
from skgenad._core.closed_form import ClosedFormDetector
from skgenad._core.sampling import PriorSamplingMixin
from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, extremes
from skgenad._tensors.device import PreciseModule, precise, shortened
from skgenad._tensors.kernels import (
    kernel_log_density,
    kernel_mean,
    squared_distances,
    weights_of,
)
from skgenad._tensors.model import Model
from skgenad._tensors.tails import Tail

from ._anchors import Anchors

# Widths that are tried, and the most rows on which they are.
_N_WIDTHS, _MOST_TRIED = 15, 1000
# Rows in a pass over all anchors.
_CHUNK = 512


class KernelModel(PreciseModule, Model):
    """Anchors, the width, and what residuals are among those of training rows.

    Parameters
    ----------
    n_features : int
        Number of columns.
    bandwidth : float or "loo"
        h in standard units, or by the leave-one-out error.
    factors : sequence of float
        Widths whose residuals are averaged, in h.
    max_anchors : int
        The most training rows to keep.
    """

    width: Tensor
    varies: Tensor

    def __init__(
        self,
        n_features: int,
        *,
        bandwidth: float | str,
        factors: Sequence[float],
        max_anchors: int,
    ) -> None:
        super().__init__()
        # The widest comes first: the weights of the next are powers of its.
        self.bandwidth, self.factors = bandwidth, sorted(map(float, factors), reverse=True)
        self.anchors = Anchors(n_features, max_anchors)
        self.tails = nn.ModuleList([Tail() for _ in self.factors])
        self.register_buffer("width", torch.ones((), dtype=torch.float64))
        self.register_buffer("varies", torch.zeros(n_features, dtype=torch.bool))

    @torch.no_grad()
    def finish(self, rows: Rows, labels: Tensor | None) -> None:
        """Add rows (n, d) to those so far, choose the width, and score anchors left out."""
        if not len(self.anchors):
            low, high = extremes(rows)
            self.varies = high > low
        self.anchors.take(rows)
        anchors = self.anchors.rows
        width = self.bandwidth if isinstance(self.bandwidth, float) else self._best_width()
        self.width = self.width.new_tensor(float(width))  # not every device has float64
        errors = torch.cat([self._errors(x) for x in anchors.split(_CHUNK)])
        for tail, column in zip(self.tails, errors.T, strict=True):
            tail.learn(column)  # type: ignore[operator]

    def outgrown_by(self, rows: Tensor) -> bool:
        """Whether rows (n, d) vary in a column that the density leaves out."""
        return bool(((rows != self.anchors.rows[0]) & ~self.varies).any())

    def weigh(self, factor: float) -> None:
        """Let the rows so far count as `factor` times as many."""
        self.anchors.weigh(factor)

    def _best_width(self) -> Tensor:
        """Width of the smallest leave-one-out reconstruction error on a log grid.

        The grid goes from half a small distance to the nearest anchor to the spread of all.
        """
        anchors = self.anchors.precise_rows
        tried = anchors[draws.randperm(len(anchors), device=anchors.device)[:_MOST_TRIED]]
        itself = self.anchors.places(tried.float())
        distances = squared_distances(tried, anchors)
        distances[torch.arange(len(tried)), itself] = math.inf
        nearest = distances.amin(dim=1).sqrt()
        high = (anchors - anchors.mean(dim=0)).square().sum(dim=1).mean().sqrt()
        nearest = nearest[nearest > 1e-6 * high]
        if not len(nearest):  # all rows are copies of few
            return high.where(high > 0, torch.ones_like(high))
        low = 0.5 * nearest.quantile(0.1)
        steps = torch.linspace(0, 1, _N_WIDTHS, dtype=low.dtype, device=low.device)
        grid = low * (high / low) ** steps
        errors = [
            (tried - kernel_mean(weights_of(distances / (-2 * h * h)), anchors)).square().mean()
            for h in grid
        ]
        return grid[int(torch.stack(errors).argmin())]

    def denoised(self, x: Tensor) -> Iterator[Tensor]:
        """Denoised rows (n, d) of rows (n, d) for every factor, in float64, the widest first.

        An anchor that equals the row counts as the row itself and is left out.
        """
        anchors, x64 = self.anchors.precise_rows, precise(x)
        distances = squared_distances(x64, anchors, self.anchors.squared_lengths)
        left_out = self.anchors.places(x) if len(anchors) > 1 else None
        before, weights = math.nan, torch.empty(0)
        for factor in self.factors:
            if (before / factor) ** 2 == 4:  # k_h = (k_2h)^4: an exponential is dearer
                weights = weights.square_().square_()
            else:
                scale = -0.5 / (factor * precise(self.width)).square()
                weights = weights_of(distances * scale, left_out)
            before = factor
            yield kernel_mean(weights, anchors)

    def _errors(self, x: Tensor) -> Tensor:
        """Squared lengths (n, number of factors) of the residuals of rows (n, d)."""
        x64 = precise(x)
        errors = [(x64 - mean).square().sum(dim=1) for mean in self.denoised(x)]
        return shortened(torch.stack(errors, dim=1))

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d): means over the widths of -log tail probabilities."""
        errors = torch.cat([self._errors(chunk) for chunk in x.split(_CHUNK)])
        tails = [tail(column) for tail, column in zip(self.tails, errors.T, strict=True)]
        return torch.stack(tails).mean(dim=0)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Denoised rows (n, d) of rows (n, d): the mean over the widths."""
        chunks = x.split(_CHUNK)
        means = [torch.stack(list(self.denoised(chunk))).mean(dim=0) for chunk in chunks]
        return shortened(torch.cat(means)).to(x.dtype)

    def log_density(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d), in nats, over the columns that vary."""
        anchors = self.anchors.derived("varying", lambda: self.anchors.precise_rows[:, self.varies])
        width = precise(self.width)
        chunks = precise(x)[:, self.varies].split(_CHUNK)
        return shortened(torch.cat([kernel_log_density(c, anchors, width) for c in chunks]))

    def sample(self, n: int) -> Tensor:
        """Rows (n, d) of the kernel density; constant columns stay constant."""
        chosen = self.anchors.rows[draws.randint(len(self.anchors), (n,))]
        return chosen + self.width.to(chosen) * self.varies * draws.randn_like(chosen)


class KernelDenoiser(ReconstructionMixin, PriorSamplingMixin, ClosedFormDetector):
    """Detect anomalies by what the exact denoiser of the training rows takes off a row.

    The closed form of what denoising autoencoders, score matching and NAE learn by gradients: of
    all maps it removes Gaussian noise from training rows with the smallest squared error.

    Parameters
    ----------
    bandwidth : float or "loo", default="loo"
        h, the standard deviation of the noise, in standard units, above 0. "loo": that of 15 on a
        log grid, from half a small distance between neighbours to the spread of all rows, by which
        anchors are best reconstructed from the others.
    factors : sequence of float, default=(0.5, 1.0, 2.0)
        Widths of kernels in units of h, each above 0, by whose residuals rows are scored.
    max_anchors : int, default=2000
        The most training rows, at least 2, that kernels are put around: a uniform sample.
    standardize : {"auto", "mixed", "frozen"} or bool, default="auto"
        Whether columns are centred and scaled first; "auto" does. Distances add up columns, so
        without it those of large units decide alone. "mixed" scales by
        sqrt(standard deviation * range / sqrt(12)). "frozen": see guide.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    warm_start : bool, default=False
        Whether `fit` on a fitted detector adds the rows to those it has seen.
    device : str, default="auto"
        "auto" (CUDA, then MPS, then CPU) or the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the choice of anchors, of those that try bandwidths.

    Attributes
    ----------
    bandwidth_ : float
        h, in standard units.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        Empty: there are no gradient steps. The columns are those of other detectors.
    module_ : nn.Module
        The anchors, with ``energy(x)`` in standardised units.
    units_ : object
        Means and scales of the columns.
    calibration_scores_ : ndarray or None
        Sorted scores, out of sample, that the threshold and p-values come from.
    seed_ : int
        Seed drawn from `random_state`.
    device_ : torch.device
        Device of the module.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if all are strings.

    See Also
    --------
    NAE : Learns such a residual, with negatives that correct it.
    Neighbors : The distance to the nearest rows alone.

    Notes
    -----
    For every width the length of the residual |r_h(x)| becomes minus the log of its tail
    probability among those of the anchors, each without itself; ``score_samples`` is minus the mean
    of these over the widths, in nats. Larger widths see a row's place among all, smaller ones its
    neighbourhood.

    The largest exponent is subtracted before exponentials are summed, so that a row too far away
    for any kernel is drawn to its nearest anchor, and not to the origin.

    A row that equals an anchor in all columns, bit by bit in standard units, counts as that anchor
    itself, which is then left out (one of them, if there are copies). So training rows are scored
    as if they had not been trained on, `predict` flags the share `contamination` of them, and the
    threshold is right for new rows.

    `partial_fit` adds rows, in units that follow them. Anchors are a uniform sample of all rows
    so far, however those were divided into batches.

    ``log_density`` is that of the kernel density itself, with all anchors and width h; it
    integrates to 1, and `sample` draws from it. ``reconstruct`` is the mean over the widths of the
    denoised rows, the normal version of a row.

    References
    ----------
    .. [1] E. Parzen. On Estimation of a Probability Density Function and Mode. Annals of
       Mathematical Statistics, 1962.
    .. [2] E. A. Nadaraya. On Estimating Regression. Theory of Probability and its Applications,
       1964.
    .. [3] P. Vincent. A Connection between Score Matching and Denoising Autoencoders. Neural
       Computation, 2011.
    .. [4] B. Efron. Tweedie's Formula and Selection Bias. Journal of the American Statistical
       Association, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import KernelDenoiser
    >>> rng = np.random.RandomState(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> X = np.column_stack([np.cos(angle), np.sin(angle)])
    >>> detector = KernelDenoiser(random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0], [0.0, 1.0]])
    array([-1,  1])
    >>> bool(np.linalg.norm(detector.reconstruct([[0.0, 1.5]])) < 1.1)
    True
    """

    scores_leave_one_out: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict] = {
        "bandwidth": [Interval(Real, 0, None, closed="neither"), StrOptions({"loo"})],
        "factors": [list, tuple],
        "max_anchors": [Interval(Integral, 2, None, closed="left")],
        **ClosedFormDetector._parameter_constraints,
    }

    def __init__(
        self,
        *,
        bandwidth: float | str = "loo",
        factors: Sequence[float] = (0.5, 1.0, 2.0),
        max_anchors: int = 2000,
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.bandwidth = bandwidth
        self.factors = factors
        self.max_anchors = max_anchors
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    @property
    def _room(self) -> int:
        return self.max_anchors

    def _make_module(self, n_features: int) -> KernelModel:
        factors = np.asarray(self.factors, dtype=np.float64)
        if factors.ndim != 1 or not len(factors) or not np.isfinite(factors).all():
            raise ValueError(f"factors={self.factors!r} must be a list of one or more numbers.")
        if factors.min() <= 0 or len(np.unique(factors)) < len(factors):
            raise ValueError(f"factors={self.factors!r} must be above 0, and no two the same.")
        return KernelModel(
            n_features,
            bandwidth=self.bandwidth if isinstance(self.bandwidth, str) else float(self.bandwidth),
            factors=factors.tolist(),
            max_anchors=self.max_anchors,
        )

    @property
    def bandwidth_(self) -> float:
        """Width of the kernels, h, in standard units."""
        return float(self.module_.width)

    def log_density(self, X: ArrayLike) -> NDArray:
        """Log density of rows: that of Gaussian kernels of width h around the anchors.

        Columns that are constant in all training rows have no density and are left out.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows in the units of the training rows.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Float64, in nats, of the density in the units of X.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._by_chunks(X, self.module_.log_density) - self.units_.log_scale
