"""Glow: a flow of images at several scales, or of tables; its likelihood, or one scale's part.

An invertible network maps a row x, over representations h_1, h_2, ... at ever smaller scales, to
codes z_1, z_2, ..., each of which is standard normal and independent of the others:

    log p(x) = sum_i c_i(x),                                                            (eq. 3)
    c_i(x) = log N(z_i; 0, I) + log |det d(h_i, z_i) / d h_{i-1}|,        h_0 = x.

Training minimises the mean of -log p(x). At scale i, h_{i-1} is squeezed and goes through steps:

    activation normalisation    y = exp(s) (x - m) / u + b
    mixing                      y = W x, with an invertible matrix W
    coupling                    (x_a, x_b) -> (x_a, (x_b + t(x_a)) sigmoid(r(x_a)))     (S1.1)

With classes y the codes of the last scale have a mode for each, z ~ N(mu_y, I) (section 3.2), or
those of all scales have, z_i ~ N(mu_iy, diag(sigma_iy^2)). Then p(x) is the mean of p(x | y) over
classes, and log p(z_i | z_1, ..., z_i-1) stands for log N(z_i; 0, I), so that eq. 3 holds.
Equations and sections are those of Schirrmeister et al. (2020), whose Glow (Kingma and Dhariwal,
2018) this is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.optimizers import adamax
from skgenad._core.papers import FromPaper
from skgenad._core.rows import Shape, check_image_shape
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors.augmentation import AUGMENTATIONS, check_augmentation

from ._densities import ColumnDensity, FlowDensity, PixelDensity
from ._flows import Flow, PatchFlow, Steps
from ._papers import GLOW, GLOW_COUPLINGS, GLOW_EPOCHS, with_passes
from ._scales import ScalesMixin

_N_SCALES, _PATCH_SIZE, _N_LEVELS = 3, 8, 256


def column_flow(
    n_columns: int, *, steps: Steps, n_classes: int | None, modes_of_all: bool = False
) -> Flow:
    """Make the flow of so many columns of a table: one scale, which sees all of the row (S2.2)."""
    return Flow((n_columns,), steps, n_classes=n_classes, modes_of_all=modes_of_all)


def scale_of(score_type: str | int, n_scales: int) -> int | None:
    """Place of the scale whose contribution is the score; None for the sum of all."""
    if score_type == "likelihood":
        return None
    if score_type != "last_scale" and int(score_type) > n_scales:
        raise ValueError(
            f"score_type={score_type!r} is the contribution of a scale, but there are {n_scales}. "
            "Choose one of them, 'last_scale' or 'likelihood'."
        )
    if n_scales == 1:
        raise ValueError(
            f"score_type={score_type!r} would be ignored: with one scale its contribution is the "
            "likelihood. Leave it 'likelihood', or fit images with n_scales=2 or more."
        )
    return n_scales - 1 if score_type == "last_scale" else int(score_type) - 1


class Glow(FromPaper, ScalesMixin):
    """Detect anomalies by the likelihood of a normalizing flow, or by what its last scale adds.

    An invertible network maps rows to codes that are standard normal, at several scales of an
    image, so that the log likelihood is a sum with a part of every scale. Early scales see local
    structure that all images share and make up most of it; the last one sees what is in it [1]_.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    score_type : {"likelihood", "last_scale"} or int, default="likelihood"
        What is scored: the log likelihood log p or, with two scales or more, the contribution of
        the last one to it or that of another, an integer from 1 to the number of scales.
    use_labels : bool or "all_scales", default=False
        Whether `y` holds classes, each with a mode of the codes of the last scale or of all.
    n_scales : int, default=None
        Number of scales. Height and width must be multiples of 2 to the power of it. None: 3 for
        images, 1 for patches and for tables, which have no more.
    n_couplings : int, default=8
        Steps of flow in each scale: normalisation, mixing and coupling.
    hidden : int, default=128
        Width of the two hidden layers of the networks in couplings.
    coupling : {"auto", "conv", "dense", "patch"}, default="auto"
        What couplings see: "conv" the pixels around, also those inside of independent squares,
        "patch"; "dense" the whole row. "auto": "conv", and "dense" for tables.
    affine : bool, default=True
        Whether couplings scale besides shifting. Without, the map stretches all rows alike.
    coupling_norm : "auto" or bool, default="auto"
        Whether networks in couplings normalise their hidden layers; "auto": convolutional ones.
    patch_size : int, default=None
        Height and width of the patches of ``coupling="patch"``; None: 8.
    trained_scales : int, default=None
        How many of the last scales are trained; the others stay as they start. None: all.
    n_levels : int, default=None
        Number of levels that pixels have, at least 2; None: 256. Noise makes them continuous.
    augmentation : str, tuple of str or callable, default=None
        How images are changed in every step of training: some of "flip", "shift", "crop", "jitter",
        "grey" (guide to images) or a callable of (n, C, H, W).
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=2e-3
        Adamax's learning rate at the start.
    schedule : {"cosine", "constant"}, default="cosine"
        Whether the learning rate falls to 0 as half a cosine or stays.
    weight_decay : float, default=5e-5
        Weight of all parameters in the gradients that Adamax gets.
    validation_fraction : float, default=0.1
        Share of the rows, in [0, 1), at most 4,096, that is not trained on but chooses the epoch.
    batch_size : int, default=128
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
        Seed of weights, batches, noise and the choice of validation rows.
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
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes. There only with ``use_labels=True``.
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
    NormalizingFlow : A neural spline flow for tables.

    Notes
    -----
    ``score_samples`` is log p(x), or the contribution of a scale to it, in nats, in standardised
    units; for images in units of pixels in [0, 1]. Bits per dimension, which papers report, are
    ``np.log2(255) - log_density(X) / (n_features * np.log(2))``. With ``use_labels=True`` scores
    are those of the mixture of all classes. A column that was constant in training has no density;
    any other value in it costs 5,000 nats.

    References
    ----------
    .. [1] R. T. Schirrmeister et al. Understanding Anomaly Detection with Deep Invertible Networks
       through Hierarchies of Distributions and Features. NeurIPS 2020.
       https://arxiv.org/abs/2006.10848

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Glow
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = Glow(n_couplings=2, max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _papers: ClassVar = GLOW
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        "image_shape": [tuple, list, None],
        "score_type": [
            StrOptions({"likelihood", "last_scale"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "use_labels": ["boolean", StrOptions({"all_scales"})],
        "n_scales": [Interval(Integral, 1, None, closed="left"), None],
        "n_couplings": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "coupling": [StrOptions({"auto", "conv", "dense", "patch"})],
        "affine": ["boolean"],
        "coupling_norm": ["boolean", StrOptions({"auto"})],
        "patch_size": [Interval(Integral, 1, None, closed="left"), None],
        "trained_scales": [Interval(Integral, 1, None, closed="left"), None],
        "n_levels": [Interval(Integral, 2, None, closed="left"), None],
        "augmentation": [StrOptions(set(AUGMENTATIONS)), tuple, list, callable, None],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"cosine", "constant"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        score_type: str | int = "likelihood",
        use_labels: bool | str = False,
        n_scales: int | None = None,
        n_couplings: int = 8,
        hidden: int = 128,
        coupling: str = "auto",
        affine: bool = True,
        coupling_norm: str | bool = "auto",
        patch_size: int | None = None,
        trained_scales: int | None = None,
        n_levels: int | None = None,
        augmentation: Any = None,
        max_steps: int = 1000,
        learning_rate: float = 2e-3,
        schedule: str = "cosine",
        weight_decay: float = 5e-5,
        validation_fraction: float = 0.1,
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
        self.image_shape = image_shape
        self.score_type = score_type
        self.use_labels = use_labels
        self.n_scales = n_scales
        self.n_couplings = n_couplings
        self.hidden = hidden
        self.coupling = coupling
        self.affine = affine
        self.coupling_norm = coupling_norm
        self.patch_size = patch_size
        self.trained_scales = trained_scales
        self.n_levels = n_levels
        self.augmentation = augmentation
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
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
        """Make a detector with the paper's settings of an experiment (S1.1, S2, S4.1).

        The number of steps is 250 passes over the data set's training images. Of ``coupling`` there
        are "conv", "dense" (S2.2: 8 steps for each scale) and "patch" (S2.1: one scale). The paper
        does not give the width 512 of convolutional couplings, the batches of 64 and the shifts
        by up to a tenth; they are those of the public code that its training follows. Images of
        28 x 28 must be brought to 32 x 32 first.

        Parameters
        ----------
        experiment : {"cifar10", "cifar100", "svhn", "mnist", "fashion_mnist"}, default=None
            Data set of the paper's experiments; None: "cifar10".
        **parameters
            Parameters that replace the paper's.

        Returns
        -------
        detector : Glow
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
        settings |= GLOW_COUPLINGS.get(parameters.get("coupling", "conv"), {})
        return with_passes(settings, parameters, experiment, GLOW_EPOCHS)

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> FlowDensity:
        self._check_combinations()
        if self.image_shape is None:
            scale_of(self.score_type, 1)
            make = partial(column_flow, steps=self._steps("dense"), **self._modes)
            return ColumnDensity(make, n_features, with_classes=self._uses_labels)
        shape = check_image_shape(self._row_shape(n_features))
        flow = self._image_flow(shape)
        return PixelDensity(
            flow,
            shape,
            n_levels=self.n_levels or _N_LEVELS,
            augmentation=self.augmentation,
            scale=scale_of(self.score_type, flow.n_scales),
            with_classes=self._uses_labels,
        )

    def _image_flow(self, shape: Shape) -> Flow | PatchFlow:
        n_scales = self._number_of_scales
        if self.coupling == "patch":
            size = self.patch_size or _PATCH_SIZE
            return PatchFlow(shape, size, self._steps("conv"), n_scales=n_scales)
        kind = "dense" if self.coupling == "dense" else "conv"
        return Flow(shape, self._steps(kind), n_scales=n_scales, **self._modes)

    @property
    def _number_of_scales(self) -> int:
        """Number of scales that the parameters ask for."""
        if self.image_shape is None:
            return 1
        return self.n_scales or (1 if self.coupling == "patch" else _N_SCALES)

    def _steps(self, kind: str) -> Steps:
        norm = kind == "conv" if self.coupling_norm == "auto" else bool(self.coupling_norm)
        return Steps(
            n=self.n_couplings, hidden=self.hidden, kind=kind, affine=self.affine, norm=norm
        )

    @property
    def _modes(self) -> dict[str, Any]:
        """What modes the codes have."""
        n_classes = len(self.classes_) if self._uses_labels else None
        return {"n_classes": n_classes, "modes_of_all": self.use_labels == "all_scales"}

    def _check_combinations(self) -> None:
        """Raise ValueError for values that are possible alone but not together."""
        check_augmentation(self.augmentation, self.image_shape)
        if self.use_labels and self.coupling == "patch":
            raise ValueError(
                f"use_labels={self.use_labels!r} gives the codes of an image a mode for its class, "
                "but those of coupling='patch' are of its patches. Use another coupling."
            )
        if self.patch_size is not None and self.coupling != "patch":
            raise ValueError(
                f"patch_size={self.patch_size} is the size of the patches of coupling='patch', but "
                f"coupling={self.coupling!r}. Leave it None."
            )
        if self.trained_scales is not None and self.trained_scales >= self._number_of_scales:
            raise ValueError(
                f"trained_scales={self.trained_scales} of {self._number_of_scales} leaves none as "
                "it is. Train fewer, or leave it None for all."
            )
        if self.image_shape is not None:
            return
        for name, value, allowed in (
            ("coupling", self.coupling, ("auto", "dense")),
            ("n_scales", self.n_scales, (None, 1)),
            ("n_levels", self.n_levels, (None,)),
        ):
            if value not in allowed:
                raise ValueError(
                    f"{name}={value!r} is for images: give image_shape=(channels, height, width), "
                    f"or set {name}={allowed[0]!r} for tables."
                )

    def _optimizer(self, module: FlowDensity) -> torch.optim.Optimizer:
        trained: Any = module.parameters()
        if self.trained_scales is not None and isinstance(module, PixelDensity):
            flow: Any = module.flow
            trained = flow.parameters_of_last(self.trained_scales)
        return adamax(trained, self.learning_rate, self.weight_decay)

    # ---- files ----------------------------------------------------------------------------

    @classmethod
    def _parameters_of_file(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        # Files of before this parameter are of couplings without normalisation.
        return {"coupling_norm": False, **parameters}
