"""Mahalanobis distance to a Gaussian fitted to the training rows nearest to a row.

With mean m and covariance S of the k nearest training rows of x, in d columns,

    energy(x)^2 = (x - m)^T Sigma^-1 (x - m),      Sigma = (1 - s) S + s (tr S / d) I.

The neighbourhood says in which directions normal rows vary, and how far.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from skgenad._core.checks import Interval
from skgenad._core.closed_form import ClosedFormDetector
from skgenad._tensors.chunks import Rows
from skgenad._tensors.device import PreciseModule, precise, shortened
from skgenad._tensors.model import Model

from ._search import Search

# The most numbers in the neighbourhoods that are held at once.
_MOST_NUMBERS = 2**22
# Anchors by whose neighbourhoods the smallest variance is set, and its share of their mean.
_SOME, _FLOOR = 1000, 1e-6


class LocalGaussianModel(PreciseModule, Model):
    """Training rows, and the smallest variance of a neighbourhood.

    Parameters
    ----------
    n_features : int
        Number of columns, d.
    n_neighbors : int
        k.
    shrinkage : float
        s, in (0, 1].
    max_anchors : int
        The most rows to keep.
    """

    floor: Tensor

    def __init__(
        self, n_features: int, *, n_neighbors: int, shrinkage: float, max_anchors: int
    ) -> None:
        super().__init__()
        self.n_neighbors, self.shrinkage = n_neighbors, shrinkage
        self.anchors = Search(n_features, max_anchors)
        self.register_buffer("floor", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def finish(self, rows: Rows, labels: Tensor | None) -> None:
        """Add rows (n, d) to those so far."""
        self.anchors.take(rows)
        anchors = self.anchors.rows
        mean = self._mean_variance(anchors[:_SOME])
        if not mean > 0:  # the first rows are copies of each other, but others may not be
            mean = self._mean_variance(anchors)
        self.floor = (_FLOOR * mean).where(mean > 0, torch.ones_like(mean))

    def _mean_variance(self, rows: Tensor) -> Tensor:
        """Mean, (), of the variances in the neighbourhoods of rows (n, d)."""
        chunks = rows.split(self._chunk)
        return torch.cat([self._neighbourhoods(chunk)[2] for chunk in chunks]).mean()

    @property
    def _chunk(self) -> int:
        """Rows whose neighbourhoods are held at once."""
        return max(1, _MOST_NUMBERS // (self.n_neighbors * self.anchors.rows.shape[1]))

    def _neighbourhoods(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means (n, d), deviations (n, k, d) from them and mean variances (n,) around rows."""
        _, places = self.anchors.nearest(x, self.n_neighbors)
        near = precise(self.anchors.rows[places])
        mean = near.mean(dim=1)
        deviations = near - mean[:, None]
        return mean, deviations, deviations.square().mean(dim=(1, 2))

    def weigh(self, factor: float) -> None:
        """Let the rows so far count as `factor` times as many."""
        self.anchors.weigh(factor)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d): the Mahalanobis distances."""
        return shortened(torch.cat([self._distances(chunk) for chunk in x.split(self._chunk)]))

    def _distances(self, x: Tensor) -> Tensor:
        mean, deviations, variances = self._neighbourhoods(x)
        offset = precise(x) - mean
        isotropic = self.shrinkage * variances + precise(self.floor)
        factor = (1 - self.shrinkage) / deviations.shape[1]
        return _squared(offset, deviations, factor, isotropic).clamp_min(0).sqrt()


def _squared(offset: Tensor, deviations: Tensor, factor: float, isotropic: Tensor) -> Tensor:
    """Squared distances (n,) by the covariances factor * Z^T Z + isotropic * I.

    Of Z (n, k, d) the smaller product is solved with: d x d, or k x k by Woodbury's identity.
    """
    _, k, d = deviations.shape
    if d <= k:
        matrix = factor * deviations.mT @ deviations
        matrix.diagonal(dim1=1, dim2=2).add_(isotropic[:, None])
        root = torch.linalg.cholesky(matrix)
        return (
            torch.linalg.solve_triangular(root, offset[..., None], upper=False).square().sum((1, 2))
        )
    matrix = factor * deviations @ deviations.mT
    matrix.diagonal(dim1=1, dim2=2).add_(isotropic[:, None])
    inner = deviations @ offset[..., None]
    root = torch.linalg.cholesky(matrix)
    explained = torch.linalg.solve_triangular(root, inner, upper=False).square().sum((1, 2))
    return (offset.square().sum(dim=1) - factor * explained) / isotropic


class LocalGaussian(ClosedFormDetector):
    """Detect anomalies by the Mahalanobis distance to a Gaussian of the nearest training rows.

    A neighbourhood says how normal rows vary around a row: along a curve or a plane, say. A step
    across it counts more than one along it. Nothing is trained by gradients.

    Parameters
    ----------
    n_neighbors : int, default=25
        k, the number of neighbours, at least 2; all other anchors if there are fewer.
    shrinkage : float, default=0.1
        s, in (0, 1]: how far the covariance is drawn to a multiple of the identity with the same
        mean variance. 1 divides the distance to the neighbours' mean by their spread alone.
    max_anchors : int, default=10000
        The most training rows, at least 2, that are kept to compare with: a uniform sample.
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
        Seed of the choice of anchors.

    Attributes
    ----------
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
    Mahalanobis : One Gaussian for all rows.
    Neighbors : The mean distance to the neighbours.

    Notes
    -----
    ``score_samples`` is minus the distance, a pure number: standard deviations of the
    neighbourhood. The covariance has the number of neighbours as its divisor, and a millionth of
    the mean variance of neighbourhoods is added to its diagonal, so that it is regular in a
    neighbourhood of copies. With fewer neighbours than columns it is inverted by Woodbury's
    identity, so that the cost of a row is linear in the number of columns.

    A row that equals an anchor in all columns, bit by bit in standard units, counts as that anchor
    itself, which is then left out (one of them, if there are copies). So training rows are scored
    as if they had not been trained on, `predict` flags the share `contamination` of them, and the
    threshold is right for new rows.

    Neighbours are found on the CPU, whatever the device is.

    `partial_fit` adds rows, in units that follow them. Anchors are a uniform sample of all rows
    so far, however those were divided into batches.

    Examples
    --------
    Rows near a circle, one inside it and one on it:

    >>> import numpy as np
    >>> from skgenad import LocalGaussian
    >>> rng = np.random.RandomState(0)
    >>> angle = rng.uniform(0, 2 * np.pi, 500)
    >>> X = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.05 * rng.randn(500, 2)
    >>> LocalGaussian().fit(X).predict([[0.0, 0.7], [0.0, 1.0]])
    array([-1,  1])
    """

    scores_leave_one_out: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 2, None, closed="left")],
        "shrinkage": [Interval(Real, 0, 1, closed="right")],
        "max_anchors": [Interval(Integral, 2, None, closed="left")],
        **ClosedFormDetector._parameter_constraints,
    }

    def __init__(
        self,
        *,
        n_neighbors: int = 25,
        shrinkage: float = 0.1,
        max_anchors: int = 10_000,
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.shrinkage = shrinkage
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

    def _make_module(self, n_features: int) -> LocalGaussianModel:
        return LocalGaussianModel(
            n_features,
            n_neighbors=self.n_neighbors,
            shrinkage=self.shrinkage,
            max_anchors=self.max_anchors,
        )
