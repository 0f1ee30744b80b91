"""Mahalanobis distance to the mean of the rows or of the nearest class, plain or relative.

With the mean mu_c of each class c of normal rows and one covariance Sigma within classes,

    energy(x) = min_c (x - mu_c)^T Sigma^-1 (x - mu_c)                     (Lee et al., 2018)

or, relative, that minus (x - mu)^T Sigma_0^-1 (x - mu) with mean and covariance of all rows (Ren
et al., 2021). Without labels all rows are one class. The density is the mixture

    p(x) = sum_c w_c N(x; mu_c, Sigma),    w_c = n_c / n.

Counts, means and scatters of batches add up, so that nothing but them is kept.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.closed_form import ClosedFormDetector
from skgenad._core.sampling import draw_rows
from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows
from skgenad._tensors.derived import DerivingModule
from skgenad._tensors.device import PreciseModule, precise
from skgenad._tensors.model import Model
from skgenad._tensors.moments import TiedMoments

from ._covariance import Axes, shrunk, squared_length

# Rows whose outer products are summed at once.
_CHUNK = 4096


class MahalanobisModel(DerivingModule, PreciseModule, Model):
    """Moments of the rows so far, in float64, and the matrices that turn rows into distances.

    Parameters
    ----------
    n_features : int
        Number of columns, d.
    n_classes : int, default=1
        Number of classes, K; 1 without labels.
    relative : bool, default=False
        Whether the distance to the mean of all rows is subtracted.
    shrink : float or "auto", default=0.0
        How far covariances are drawn to a multiple of the identity; "auto": by OAS.
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor
    shrinkage: Tensor
    whitener: Tensor
    centre: Tensor
    background: Tensor

    def __init__(
        self,
        n_features: int,
        *,
        n_classes: int = 1,
        relative: bool = False,
        shrink: float | str = 0.0,
    ) -> None:
        super().__init__()
        d, self.relative, self.shrink = n_features, relative, shrink
        sizes = {"counts": (n_classes,), "means": (n_classes, d), "scatter": (d, d)}
        sizes |= {"shrinkage": (), "whitener": (d, d)}
        if relative:
            sizes |= {"centre": (d,), "background": (d, d)}
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    @property
    def moments(self) -> TiedMoments:
        """Moments of all rows so far."""
        return TiedMoments(precise(self.counts), precise(self.means), precise(self.scatter))

    @torch.no_grad()
    def change_units(self, factor: Tensor, shift: Tensor) -> None:
        """Bring the moments to other units."""
        factor, shift = precise(factor), precise(shift)
        self.means.copy_((self.counts > 0)[:, None] * (precise(self.means) * factor + shift))
        self.scatter.copy_(precise(self.scatter) * torch.outer(factor, factor))
        self.forget()

    @torch.no_grad()
    def finish(self, rows: Rows, labels: Tensor | None) -> None:
        """Add rows (n, d) with `labels` (n,) to those so far, and compute the matrices anew."""
        moments, n_classes = self.moments, len(self.counts)
        if labels is None:
            labels = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
        for chunk, its_labels in zip(rows.split(_CHUNK), labels.split(_CHUNK), strict=True):
            z = precise(chunk)
            moments = moments.merge(TiedMoments.of(z, F.one_hot(its_labels, n_classes).to(z)))
        for name, value in moments._asdict().items():
            getattr(self, name).copy_(value)
        self.forget()
        if self.relative and int((moments.counts > 0).sum()) < 2:
            raise ValueError(
                "relative=True compares classes with all rows, but only one class has rows to "
                "train on: calibration_fraction holds out all of the others. Lower it, or leave "
                "it 0."
            )
        covariance, amount = shrunk(moments, self.shrink)
        self.shrinkage.copy_(amount)
        self.whitener.copy_(Axes.of(covariance).whitener)
        if self.relative:
            pooled = moments.pooled()
            self.centre.copy_(pooled.means[0])
            self.background.copy_(Axes.of(shrunk(pooled, self.shrink)[0]).whitener)

    def mixture(self, has_unit: tuple[bool, ...]) -> TiedMixture:
        """Density over the columns that vary, of those that have a unit."""

        def made() -> TiedMixture:
            spread = self.moments.pooled().scatter.diagonal() > 0
            return TiedMixture(self, spread & torch.tensor(has_unit, device=spread.device))

        return self.derived(has_unit, made)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d): the squared distance to the nearest class mean.

        The relative energy is that minus the squared distance to the mean of all rows, by the
        covariance of all rows. Float64 results are rounded to the type of `x`, since the last bits
        may depend on a row's place.
        """
        z, matrix = precise(x), precise(self.whitener)
        squared = [squared_length(z - mean, matrix) for mean in precise(self.means)]
        # A class has no row if all of its rows were held out.
        absent = self.counts[:, None] == 0
        energy = torch.stack(squared).masked_fill(absent, math.inf).amin(dim=0)
        if self.relative:
            centred = z - precise(self.centre)
            energy = energy - squared_length(centred, precise(self.background))
        largest = torch.finfo(x.dtype).max
        return energy.clamp(-largest, largest).to(x.dtype)


class TiedMixture:
    """Density of a mixture of Gaussians with one covariance, over some of the columns.

    Parameters
    ----------
    module : MahalanobisModel
        Its moments and its shrinkage are taken.
    columns : Tensor of shape (d,)
        Mask of the columns to use.
    """

    def __init__(self, module: MahalanobisModel, columns: Tensor) -> None:
        moments, self.columns = module.moments, columns
        part = moments._replace(
            means=moments.means[:, columns], scatter=moments.scatter[columns][:, columns]
        )
        self.weights, self.means = part.weights, part.means
        axes = Axes.of(shrunk(part, float(module.shrinkage))[0])
        self.log_constant = -0.5 * (len(axes.scales) * math.log(2 * math.pi) + axes.log_determinant)
        self.whitener, self.root = axes.whitener.to(self.means), axes.root.to(self.means)

    def log_density(self, x: Tensor) -> Tensor:
        """Log densities (n,) of rows (n, d) in standard units, in nats."""
        z = precise(x)[:, self.columns]
        squared = torch.stack([squared_length(z - mean, self.whitener) for mean in self.means])
        mixed = torch.logsumexp(self.weights.log()[:, None] - 0.5 * squared, dim=0)
        lowest = torch.finfo(x.dtype).min
        return (self.log_constant + mixed).clamp_min(lowest).to(x.dtype)

    def sample(self, n: int) -> Tensor:
        """Rows (n, number of columns used)."""
        means = self.means[draws.multinomial(self.weights, n)]
        return means + draws.randn_like(means) @ self.root


class Mahalanobis(ClosedFormDetector):
    """Detect anomalies by the Mahalanobis distance to the nearest class of normal rows.

    Every class is a Gaussian with a mean of its own and the covariance within classes that all
    share (Lee et al., 2018); without labels all rows are one class. Normal rows are described
    by closed formulas, batch after batch: nothing is trained by gradients.

    Parameters
    ----------
    use_labels : bool, default=False
        Whether `y` holds the classes of the rows in `fit` and `partial_fit`; if not, it is ignored.
    relative : bool, default=False
        Whether the squared distance to the mean of all rows, by the covariance of all rows, is
        subtracted (Ren et al., 2021). Needs ``use_labels=True`` and two or more classes.
    shrinkage : float or "auto", default=0.0
        How far, in [0, 1], covariances are drawn to a multiple of the identity with the same mean
        variance. 0: the empirical covariance. "auto": the oracle approximating shrinkage (OAS),
        for rows that are not many more than columns.
    standardize : {"auto", "mixed", "frozen"} or bool, default="auto"
        Whether columns are centred and scaled first; "auto" does. "mixed" scales by
        sqrt(standard deviation * range / sqrt(12)), "frozen" as in the guide. Without shrinkage
        distances do not depend on it.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    warm_start : bool, default=False
        Whether `fit` on a fitted detector adds the rows to those it has seen.
    device : str, default="auto"
        "auto" (CUDA, then MPS, then CPU) or the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the choice of the rows held out.

    Attributes
    ----------
    means_ : ndarray of shape (n_classes, n_features)
        Means of the classes, or of all rows, in the units of X. NaN for a class of which all rows
        were held out.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance within classes after shrinkage, in the units of X, with the number of rows as
        its divisor.
    shrinkage_ : float
        The shrinkage of `covariance_`.
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. There only with ``use_labels=True``.
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        Empty: there are no gradient steps. The columns are those of other detectors.
    module_ : nn.Module
        Counts, means and scatter of the rows so far, with ``energy(x)`` in standardised units.
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
    DAGMM : A mixture with covariances of its own, on learned features.

    Notes
    -----
    ``score_samples`` is minus the squared distance, min_c (x - mu_c)^T Sigma^-1 (x - mu_c), a pure
    number: squared standard deviations along the principal axes. With many rows from one Gaussian
    of d columns it follows a chi-squared distribution with d degrees of freedom. With
    ``relative=True`` the same expression for the mean and the covariance of all rows is subtracted
    from the distance, so that scores may be above 0.

    A covariance may be singular: with fewer rows than columns, or where columns depend on each
    other. Eigenvalues of the correlation matrix that are below 1e-10 of its largest are raised to
    that, so that leaving the plane of the training rows costs much. The same holds for
    columns that were constant in training: any other value is very far away. With few rows the
    distances of new normal rows are much larger than those of the training rows;
    ``shrinkage="auto"`` or ``calibration_fraction`` make up for it.

    `partial_fit` adds up counts, means and scatters: any division into batches gives the moments of
    all rows, but for rounding and, with shrinkage, units that are those of fewer rows.

    ``y`` is one array: where it holds classes it cannot hold anomaly labels, so that scorers and
    `NormalOnlyCV`, which want those, do not go together with ``use_labels=True``.

    The default of no shrinkage is the papers' form. On the ten ADBench tables on which defaults are
    chosen (``benchmarks/tune.py --protocols clean``) it has a mean AUROC of 0.707; with "auto" it
    is 0.689.

    References
    ----------
    .. [1] K. Lee et al. A Simple Unified Framework for Detecting Out-of-Distribution Samples and
       Adversarial Attacks. NeurIPS 2018. https://arxiv.org/abs/1807.03888
    .. [2] J. Ren et al. A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection.
       2021. https://arxiv.org/abs/2106.09022
    .. [3] Y. Chen et al. Shrinkage Algorithms for MMSE Covariance Estimation. IEEE Transactions on
       Signal Processing, 2010. https://arxiv.org/abs/0907.4698

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Mahalanobis
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> Mahalanobis().fit(X).predict(np.full((1, 5), 20.0))
    array([-1])

    Two classes, and a row between them:

    >>> y = np.repeat(["low", "high"], 100)
    >>> X[y == "high"] += 10
    >>> detector = Mahalanobis(use_labels=True).fit(X, y)
    >>> detector.predict(np.full((1, 5), 5.0))
    array([-1])
    """

    _parameter_constraints: ClassVar[dict] = {
        "use_labels": ["boolean"],
        "relative": ["boolean"],
        "shrinkage": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        **ClosedFormDetector._parameter_constraints,
    }

    def __init__(
        self,
        *,
        use_labels: bool = False,
        relative: bool = False,
        shrinkage: float | str = 0.0,
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.use_labels = use_labels
        self.relative = relative
        self.shrinkage = shrinkage
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state

    # Sums are brought to other units.
    _outlives_units: ClassVar[bool] = True

    def _make_module(self, n_features: int) -> MahalanobisModel:
        n_classes = len(self.classes_) if self.use_labels else 1
        if self.relative and n_classes == 1:
            got = f"one class, {self.classes_.tolist()}" if self.use_labels else "use_labels=False"
            raise ValueError(
                "relative=True subtracts the distance to the mean of all rows from that to the "
                f"nearest class: both are the same with {got}, and all scores 0. Pass the classes "
                "of the rows with use_labels=True, two or more, or set relative=False."
            )
        return MahalanobisModel(
            n_features, n_classes=n_classes, relative=self.relative, shrink=self.shrinkage
        )

    # ---- what was learned -----------------------------------------------------------------

    @property
    def means_(self) -> NDArray:
        """Means of the classes in the units of X."""
        moments = self.module_.moments
        means = self.units_.from_standard(moments.means.cpu().numpy())
        means[(moments.counts == 0).cpu().numpy()] = np.nan
        return means

    @property
    def covariance_(self) -> NDArray:
        """Covariance within classes after shrinkage, in the units of X."""
        covariance, _ = shrunk(self.module_.moments, self.shrinkage_)
        scale = self.units_.scale
        return covariance.cpu().numpy().astype(np.float64) * scale[:, None] * scale

    @property
    def shrinkage_(self) -> float:
        """The shrinkage of `covariance_`."""
        return float(self.module_.shrinkage)

    def _mixture(self) -> TiedMixture:
        """Density over the columns that vary."""
        return self.module_.mixture(tuple((self.units_.scale > 0).tolist()))

    def log_density(self, X: ArrayLike) -> NDArray:
        """Log density of rows: a Gaussian, or a mixture of one per class with one covariance.

        The classes weigh as much as they have rows. Columns that are constant in all
        training rows have no density and are left out.

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
        return self._by_chunks(X, self._mixture().log_density) - self.units_.log_scale

    def sample(
        self,
        n_samples: int = 1,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray:
        """Draw rows from the density of :meth:`log_density`; constant columns stay constant.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState or None, default=None
            Seed.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows in the units of X.
        """

        def draw(n: int) -> Tensor:
            mixture = self._mixture()
            rows = self.module_.moments.pooled().means.repeat(n, 1)
            rows[:, mixture.columns] = mixture.sample(n)
            return rows

        return draw_rows(self, n_samples, random_state, draw)
