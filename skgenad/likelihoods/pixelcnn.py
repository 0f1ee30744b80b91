"""PixelCNN++: the likelihood of images, pixel after pixel, and of rows, column after column.

A network sees, at each place i of a row x, nothing but the places before it, and says how likely
what comes is, by a mixture of K logistic distributions:

    log p(x) = sum_i log p(x_i | x_1, ..., x_{i-1}),
    p(x_i | x_1, ..., x_{i-1}) = sum_k pi_k [F_k(x_i + 1/255) - F_k(x_i - 1/255)],
    F_k(v) = sigmoid((v - mu_k) / s_k),

for pixels x_i in [-1, 1], of which each of 256 levels gets the part that is nearest to it. The
outer two get all that is beyond (Salimans et al., 2017, eq. 2), and the channels of a pixel depend
on those before by their means (eq. 3). For columns of a table the mixture's density takes the place
of the bracket. Training minimises the mean of -log p(x).

The networks are in ``_autoregression``, the mixtures in ``_logistics``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.optimizers import adam
from skgenad._core.papers import FromPaper
from skgenad._core.stopping import EarlyStopping

from ._autoregression import N_LEVELS, Autoregression, column_model, image_model
from ._densities import ColumnDensity, FlowDensity
from ._detector import FlowDetector
from ._papers import PIXELCNN, PIXELCNN_EPOCHS, with_passes

_MOST_SCALES = 3


class LevelDensity(FlowDensity):
    """Probability of an image of 256 levels, spread over the cells of its pixels.

    Parameters
    ----------
    model : Autoregression
        Gives log probabilities of rows (n, d).
    n_features : int
        Number of pixels times channels, d.
    """

    def __init__(self, model: Autoregression, n_features: int) -> None:
        super().__init__()
        self.model, self.n_features = model, n_features

    def contributions(self, x: Tensor) -> Tensor:
        """Log densities, in nats, in units of pixels in [0, 1], (n, 1)."""
        return self.model.contributions(x) + self.n_features * math.log(N_LEVELS - 1)

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows; every pixel is at one of its levels."""
        return self.model.sample(n)


class PixelCNN(FromPaper, FlowDetector):
    """Detect anomalies by an autoregressive likelihood, PixelCNN++ (Salimans et al., 2017).

    A network goes over the pixels in the order of reading. At each it sees nothing but those
    before, and says how likely the next one is: a mixture of logistic distributions, of which each
    of 256 levels gets the part that is nearest to it. The likelihood of an image is the product.

    Rows of a table are read from the first column to the last, with densities of any numbers.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables. Pixels
        count as the nearest of 256 levels.
    hidden : int, default=16
        Channels of the network's maps.
    n_blocks : int, default=1
        Number of gated residual blocks in each of the two streams at each scale, on the way to
        smaller maps, and back. In the one stream of a table the first of them stands for as many
        as let the last column see the first one.
    n_scales : int, default=None
        Number of sizes of maps, each half of the one before. Height and width must be multiples of
        2 to the power of ``n_scales - 1``. None: up to 3, as the image allows; tables have no more
        than 1.
    n_components : int, default=5
        Number of logistic distributions in a mixture.
    dropout : float, default=0.0
        Share of channels, in [0, 1), that are left out in a block in training.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=2e-3
        Adam's learning rate at the start.
    schedule : {"cosine", "constant"}, default="cosine"
        Whether the learning rate falls to 0 as half a cosine or stays.
    validation_fraction : float, default=0.1
        Share of the rows, in [0, 1), at most 4,096 of them, that is not trained on but chooses the
        epoch that training ends with.
    batch_size : int, default=64
        Rows in a gradient step.
    stopping : EarlyStopping, default=None
        When the training ends early, by rows held out; None: never.
    standardize : {"auto", "mixed", "frozen"} or bool, default="auto"
        Whether columns are centred and scaled; "auto": those of tables. Others: see guide.
    contamination : float or "auto", default="auto"
        Share, up to 0.5, of new normal rows that `predict` flags; 0: no row of `fit`; "auto": 0.1.
    calibration_fraction : float or "auto", default="auto"
        Share of rows held out of training for threshold and p-values. "auto": a fifth, if needed.
    warm_start : bool, default=False
        Whether `fit` on a fitted detector goes on from its weights, with the rows that are given.
    device : str, default="auto"
        "auto" (CUDA, then MPS, then CPU) or the name of a torch device.
    random_state : int, RandomState or None, default=None
        Seed of weights, batches, dropout and the choice of validation rows.
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
        The trained network, with ``log_prob(x)`` and ``energy(x)`` in standardised units.
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
    Glow : A flow: a density that looks at all pixels at once.
    LikelihoodRatio : The ratio of two likelihoods, which is better at images.

    Notes
    -----
    ``score_samples`` is log p(x) in nats, in standardised units. Images have a probability, that of
    their levels. It is spread over a cell of 1/255 in each pixel, so that :meth:`log_density` is
    the log probability plus log 255 for each number: a density in units of pixels in [0, 1]. Bits
    per dimension, which papers report, are
    ``np.log2(255) - log_density(X) / (n_features * np.log(2))``.

    The network is that of [1]_, but that maps grow by their nearest pixel and a convolution, and
    that weights are not normalised. A table's row is an image of one line; the one stream that
    remains has convolutions of two columns whose distance doubles from block to block, and a
    learned vector for each column.

    Drawing rows takes a pass through the network for each pixel or column.

    A column that was constant in training has no density; any other value in it costs 5,000 nats.

    References
    ----------
    .. [1] T. Salimans, A. Karpathy, X. Chen and D. P. Kingma. PixelCNN++: Improving the PixelCNN
       with Discretized Logistic Mixture Likelihood and Other Modifications. ICLR 2017.
       https://arxiv.org/abs/1701.05517
    .. [2] R. T. Schirrmeister et al. Understanding Anomaly Detection with Deep Invertible Networks
       through Hierarchies of Distributions and Features. NeurIPS 2020.
       https://arxiv.org/abs/2006.10848

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import PixelCNN
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = PixelCNN(hidden=8, max_steps=50, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _stage_name = "pixelcnn"
    _papers: ClassVar = PIXELCNN
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        "image_shape": [tuple, list, None],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "n_scales": [Interval(Integral, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"cosine", "constant"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        hidden: int = 16,
        n_blocks: int = 1,
        n_scales: int | None = None,
        n_components: int = 5,
        dropout: float = 0.0,
        max_steps: int = 1000,
        learning_rate: float = 2e-3,
        schedule: str = "cosine",
        validation_fraction: float = 0.1,
        batch_size: int = 64,
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
        self.image_shape = image_shape
        self.hidden = hidden
        self.n_blocks = n_blocks
        self.n_scales = n_scales
        self.n_components = n_components
        self.dropout = dropout
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.validation_fraction = validation_fraction
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

    @classmethod
    def from_paper(cls, experiment: str | None = None, **parameters: Any) -> Self:
        """Make a detector with the settings of [2]_ for an experiment (S1.2, S4.2).

        The number of steps is 120 passes over the data set's training images. The paper does not
        give the 5 residual blocks, 10 components and dropout of 0.5, which are those of [1]_, nor
        the batches of 64, which are those of the public code that it follows. Its learning rate
        falls by 5e-6 of itself in an epoch, and here not at all.

        Parameters
        ----------
        experiment : {"cifar10", "cifar100", "svhn"}, default=None
            Data set of the paper's experiments; None: "cifar10".
        **parameters
            Parameters that replace the paper's.

        Returns
        -------
        detector : PixelCNN
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the paper has no such experiment.
        """
        return super().from_paper(experiment, **parameters)

    @classmethod
    def _paper_settings(cls, experiment: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        settings = super()._paper_settings(experiment, parameters)
        return with_passes(settings, parameters, experiment, PIXELCNN_EPOCHS)

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> FlowDensity:
        settings: dict[str, Any] = {
            "width": self.hidden,
            "n_blocks": self.n_blocks,
            "n_components": self.n_components,
            "dropout": self.dropout,
        }
        shape = self._row_shape(n_features)
        if len(shape) == 3:
            model = image_model(shape, n_scales=self._checked_scales(shape), **settings)
            return LevelDensity(model, n_features)
        if self.n_scales not in (None, 1):
            raise ValueError(
                f"n_scales={self.n_scales!r} is for images: give image_shape=(channels, height, "
                "width), or set n_scales=None for tables."
            )
        return ColumnDensity(partial(column_model, **settings), n_features)

    def _checked_scales(self, shape: tuple[int, ...]) -> int:
        """Check the number of scales, or find one that the size of images allows."""
        halvings = min((size & -size).bit_length() - 1 for size in shape[1:])
        if self.n_scales is None:
            return min(_MOST_SCALES, 1 + halvings)
        if self.n_scales > 1 + halvings:
            raise ValueError(
                f"n_scales={self.n_scales} needs images whose height and width are multiples of "
                f"{2 ** (self.n_scales - 1)}; image_shape={shape} has {shape[1]} x {shape[2]}. Pad "
                f"or crop the images, or lower n_scales to {1 + halvings}."
            )
        return self.n_scales

    # ---- training -------------------------------------------------------------------------

    def _optimizer(self, module: FlowDensity) -> torch.optim.Optimizer:
        return adam(module.parameters(), self.learning_rate)
