"""NormalizingFlow: the likelihood of a neural spline flow of tables.

Some maps, one after the other, take a row x to z, which is standard normal. In a map every column
goes through a monotone rational-quadratic spline on [-5, 5], the identity beyond, whose knots and
slopes are functions of the columns before it (Durkan et al., 2019):

    z_j = spline(x_j; knots(x_1, ..., x_{j-1})),
    log p(x) = log N(z; 0, I) + sum over maps and columns of log d z_j / d x_j.

Training minimises the mean of -log p(x).
"""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from skgenad._core.checks import Interval, check_sizes
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.optimizers import adam
from skgenad._core.stopping import EarlyStopping
from skgenad._extras import require
from skgenad._tensors import draws
from skgenad._tensors.device import precise, shortened
from skgenad._tensors.twins import PreciselyScored

from ._densities import ColumnDensity, FlowDensity
from ._detector import FlowDetector


class SplineFlow(PreciselyScored):
    """zuko's neural spline flow with the methods that `ColumnDensity` asks of a flow.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    n_transforms, n_bins : int
        Numbers of autoregressive transformations and of pieces of each spline.
    hidden_sizes : sequence of int
        Widths of the hidden layers of the networks.
    """

    def __init__(
        self, n_columns: int, *, n_transforms: int, n_bins: int, hidden_sizes: tuple[int, ...]
    ) -> None:
        super().__init__()
        zuko = require("zuko", extra="flows")
        self.net = zuko.flows.NSF(
            n_columns, transforms=n_transforms, bins=n_bins, hidden_features=hidden_sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        """Log densities (n,), in nats, in the type of the parameters."""
        return self.net().log_prob(x)

    def contributions(self, x: Tensor) -> Tensor:
        """Log densities (n, 1): there is one scale."""
        if self.training:
            return self(x)[:, None]
        # The result is computed in float64 and rounded: its last bits depend on a row's place.
        return shortened(self.precise_twin(precise(x)))[:, None]

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows."""
        flow = self.net()
        mean = flow.base.mean  # of standard normal codes: n rows of its type, on its device
        return flow.transform.inv(draws.randn(n, *mean.shape, device=mean.device, dtype=mean.dtype))

    def initialize(self, x: Tensor) -> None:
        """Set nothing: no part of the flow depends on data before it is trained."""


class NormalizingFlow(FlowDetector):
    """Detect anomalies in tables by the likelihood of a neural spline flow (Durkan et al., 2019).

    Columns are mapped, one after the other, by monotone splines whose knots are functions of the
    columns before; after some such maps, in alternating order, rows are standard normal. It is the
    most exact density of a table in this package, and the first to overfit small ones. The flow is
    that of `zuko`, an optional package: ``pip install "skgenad[flows]"``.

    Parameters
    ----------
    n_transforms : int, default=3
        Number of autoregressive maps.
    n_bins : int, default=8
        Number of pieces of each spline, at least 2.
    hidden_sizes : tuple of int, default=(64, 64)
        Widths of the hidden layers of the networks that make the knots.
    validation_fraction : float, default=0.1
        Share of the rows, in [0, 1), at most 4,096 of them, that is not trained on but chooses the
        epoch that training ends with.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=1e-3
        Adam's learning rate at the start; it falls to 0 as half a cosine.
    batch_size : int, default=128
        Rows in a gradient step.
    stopping : EarlyStopping, default=None
        When the training ends early, by rows held out; None: never.
    standardize : {"auto", "mixed", "frozen"} or bool, default="auto"
        Whether columns are centred and scaled first ("mixed", "frozen": see guide). Splines bend
        what lies between -5 and 5 in these units: only set it False for columns that are in such
        units already.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    warm_start : bool, default=False
        Whether `fit` on a fitted detector goes on from its weights, with the rows that are given.
    device : str, default="auto"
        "auto" (CUDA, then MPS, then CPU) or the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of weights, batches and the choice of validation rows.
    verbose : int, default=0
        Whether to show a progress bar.
    callbacks : list of skorch callbacks, default=None
        They find the stage of training as ``net.stage``.

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        A row per epoch of 50 steps: stage, epoch, step, loss (mean of -log p, in nats, in
        standardised units), validation_loss, seconds.
    module_ : nn.Module
        The trained flow, with ``log_prob(x)`` and ``energy(x)`` in standardised units.
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
    Glow : A flow of images at several scales; its dense variant is one of tables.
    Mahalanobis : The likelihood of a Gaussian.

    Notes
    -----
    ``score_samples`` is log p(x) in nats, in standardised units. Beyond 5 standard deviations a
    column is mapped to itself: there the density has the tails of a Gaussian of variance 1.

    Sampling inverts the maps column by column: its time grows with their number.

    A column that was constant in training has no density. The likelihood is that of the other
    columns; in ``score_samples`` any other value is taken for 100 standard deviations away, which
    costs 5,000 nats.

    References
    ----------
    .. [1] C. Durkan, A. Bekasov, I. Murray and G. Papamakarios. Neural Spline Flows. NeurIPS 2019.
       https://arxiv.org/abs/1906.04032

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import NormalizingFlow
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = NormalizingFlow(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    >>> detector.sample(3, random_state=0).shape
    (3, 5)
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        "n_transforms": [Interval(Integral, 1, None, closed="left")],
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "hidden_sizes": [tuple, list],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        n_transforms: int = 3,
        n_bins: int = 8,
        hidden_sizes: tuple[int, ...] = (64, 64),
        validation_fraction: float = 0.1,
        max_steps: int = 1000,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        stopping: EarlyStopping | None = None,
        standardize: str | bool = "auto",
        contamination: float | str = "auto",
        calibration_fraction: float | str = "auto",
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: list[Any] | None = None,
    ) -> None:
        self.n_transforms = n_transforms
        self.n_bins = n_bins
        self.hidden_sizes = hidden_sizes
        self.validation_fraction = validation_fraction
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.stopping = stopping
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _make_module(self, n_features: int) -> ColumnDensity:
        check_sizes("hidden_sizes", self.hidden_sizes)
        make = partial(
            SplineFlow,
            n_transforms=self.n_transforms,
            n_bins=self.n_bins,
            hidden_sizes=tuple(self.hidden_sizes),
        )
        return ColumnDensity(make, n_features)

    def _optimizer(self, module: FlowDensity) -> torch.optim.Optimizer:
        return adam(module.parameters(), self.learning_rate)
