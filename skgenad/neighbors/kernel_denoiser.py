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
from numbers import Real, Integral
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.sampling import PriorSamplingMixin
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

    @torch.no_grad()
    def finish(self, rows: Tensor, labels: Tensor | None) -> None:
        """Add rows (n, d) to those so far, choose the width, and score anchors left out."""
        self.anchors.take(rows)
        anchors = self.anchors.rows
        width = self.bandwidth if isinstance(self.bandwidth, float) else self._best_width()
        self.width = torch.as_tensor(width, dtype=torch.float64, device=rows.device)
        errors = torch.cat([self._errors(x) for x in anchors.split(_CHUNK)])
        for tail, column in zip(self.tails, errors.T, strict=True):
            tail.learn(column)

    def _best_width(self) -> Tensor:
        """Width of the smallest leave-one-out reconstruction error on a log grid.

        The grid goes from half a small distance to the nearest anchor to the spread of all.
        """
        anchors = precise(self.anchors.rows)
        tried = anchors[torch.randperm(len(anchors), device=anchors.device)[:_MOST_TRIED]]
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
        anchors, x64 = precise(self.anchors.rows), precise(x)
        distances = squared_distances(x64, anchors)
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
        """Log densities (n,) of rows (n, d) under kernels of width h, in nats."""
        anchors, width = precise(self.anchors.rows), precise(self.width)
        chunks = precise(x).split(_CHUNK)
        return shortened(torch.cat([kernel_log_density(c, anchors, width) for c in chunks]))

    def sample(self, n: int) -> Tensor:
        """Rows (n, d) of the kernel density."""
        chosen = self.anchors.rows[torch.randint(len(self.anchors), (n,))]
        return chosen + self.width.to(chosen) * torch.randn_like(chosen)


class KernelDenoiser(PriorSamplingMixin, BaseGenerativeDetector):
    """TODO"""

    trained_by_gradients: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict] = {
        "bandwidth": [Interval(Real, 0, None, closed="neither"), StrOptions({"loo"})],
        "factors": ["array-like"],
        "max_anchors": [Interval(Integral, 2, None, closed="left")],
        **{
            name: allowed
            for name, allowed in BaseGenerativeDetector._parameter_constraints.items()
            if name not in ("batch_size", "verbose", "callbacks")
        },
    }

    def __init__(
        self,
        *,
        bandwidth: float | str = "loo",
        factors: Sequence[float] = (0.5, 1.0, 2.0),
        max_anchors: int = 2000,
        standardize: str | bool = "auto",
        contamination: float = 0.1,
        calibration_fraction: float = 0.0,
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

    def _make_module(self, n_features: int) -> KernelModel:
        return KernelModel(
            n_features,
            bandwidth=self.bandwidth if isinstance(self.bandwidth, str) else float(self.bandwidth),
            factors=self.factors,
            max_anchors=self.max_anchors,
        )

    def _stages(self, module: KernelModel) -> list[Stage]:
        return []
