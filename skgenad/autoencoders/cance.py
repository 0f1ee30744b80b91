"""CANCE: composite features, augmented, and noise-contrastive estimation (Liao and Brockmeier).

A row x has the composite feature z = (z_l, z_e, z_c): latent features z_l, and with the
reconstruction x' from them the mean squared error z_e = |x - x'|^2 / d and the cosine dissimilarity
z_c = (1 - cos(x, x')) / 2. Training goes in stages (figure 1, appendix A):

    "encoder"   encoder and decoder on |x - x'|^2 + covariance_penalty * L_cov          (eq. 11, 12)
    "decoder"   the decoder alone on |x - x'|^2
    "density"   a network T tells z from noise v ~ N(mu, K Sigma K):
                -log s(T(z)) - nu log(1 - s(T(v))), T descends, K ascends               (eq. 9, 10)

so that T + log nu p_n becomes the log density of z. In half of the data of the last stage z_e and
z_c are drawn anew, between 0 and their mode: errors that are lower than usual are no anomalies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning
from torch import Tensor, nn

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import HasMethods, Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.optimizers import adam, adamw
from skgenad._core.papers import FromPaper
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.stopping import EarlyStopping
from skgenad._core.units import StandardUnits
from skgenad._tensors.chunks import Rows, chunks_of
from skgenad._tensors.device import PreciseModule, precise, shortened
from skgenad._tensors.distances import SquaredDistance
from skgenad._tensors.model import Model
from skgenad._warn import warn
from skgenad.networks import MLP

from . import _papers
from ._composite import PrincipalComponents, TwoStageAutoencoder, composite_features, moments_of
from ._external import ExternalFeatures
from ._nce import Degeneracy, NoiseContrast
from .features import DENSITY_SLOT, FEATURES_SLOT, AutoencoderFeatures, PCAFeatures

# Scores that are a feature of the composite one, and its place.
WITHOUT_DENSITY = {"error": -2, "cosine": -1}


class CANCEModel(PreciseModule, Model):
    """Maps rows to features, with the density over them, and scores by one or the other.

    Parameters
    ----------
    features : nn.Module
        Maps rows to latent features and reconstructions; see
        :mod:`skgenad.autoencoders._composite`. Its `latent_dim` is 0 if the number of latent
        features is not known before it is fitted.
    score_type : {"cance", "cnce", "latent", "error", "cosine"}
        What scores.
    make_density : callable
        Makes the :class:`NoiseContrast` of a number of features.
    """

    features: Any
    density: NoiseContrast | None

    def __init__(
        self, features: nn.Module, score_type: str, make_density: Callable[[int], NoiseContrast]
    ) -> None:
        super().__init__()
        self.features, self.score_type, self.make_density = features, score_type, make_density
        self.distance, self.density = SquaredDistance(), None
        self._add_density()

    def _add_density(self) -> None:
        """Make the density, if there is one and the number of latent features is known."""
        latent_dim = self.features.latent_dim
        if latent_dim and self.density is None and self.score_type not in WITHOUT_DENSITY:
            self.density = self.make_density(latent_dim + 2 * (self.score_type != "latent"))

    def fit_features(
        self, rows: Rows, units: StandardUnits, *, seed: int, names: NDArray | None
    ) -> None:
        """Fit features that are not trained by gradients to rows (n, d_x) in standard units.

        `seed` is for what a user's object leaves unseeded; `names` are those of the columns.
        """
        if isinstance(self.features, PrincipalComponents):
            self.features.fit(rows)
        elif isinstance(self.features, ExternalFeatures):
            self.features.fit(rows, units, seed=seed, names=names)
            self._add_density()
            self.to(rows.device)

    def take_over(self, other: Model) -> None:
        """Go on from another model, with the user's object as it was fitted there."""
        if isinstance(self.features, ExternalFeatures) and isinstance(other, CANCEModel):
            self.features = other.features
            self._add_density()
        super().take_over(other)

    # ---- training of the density (eq. 9 and 10) -------------------------------------------

    def set_noise(self, z: Tensor, *, again: bool = False) -> None:
        """Take the noise's moments from composite features; warn once where they do not suffice."""
        assert self.density is not None
        found = self.density.fit_noise(moments_of(z))
        if again:
            return
        if found.constant or found.dependent:
            latent = [f"latent feature {j}" for j in range(self.features.latent_dim)]
            errors = ["the mean squared error", "the cosine dissimilarity"]
            _warn_of(found, latent if self.score_type == "latent" else latent + errors)

    def loss(self, z: Tensor) -> dict[str, Tensor]:
        """NCE loss of composite features (n, d), and the mean of K."""
        assert self.density is not None
        return {"loss": self.density.loss(z), "spread": self.density.noise.spread.mean()}

    def validation_loss(self, z: Tensor) -> Tensor:
        """NCE loss () of composite features (n, d) against the noise of the start."""
        assert self.density is not None
        return self.density.reference_loss(z)

    # ---- scoring --------------------------------------------------------------------------

    def composite(self, x: Tensor) -> Tensor:
        """Features (n, d) that the density is over, of rows (n, d_x)."""
        code, reconstruction = self.features(x)
        if self.score_type == "latent":
            return precise(code)
        return composite_features(code, x, reconstruction)

    def all_composites(self, rows: Tensor) -> Tensor:
        """:meth:`composite`, chunk by chunk."""
        return torch.cat([self.composite(chunk) for chunk in chunks_of(rows)])

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d_x) of rows (n, d_x)."""
        return shortened(self.features(x)[1])

    def energy(self, x: Tensor) -> Tensor:
        """Minus the log density (n,) of the composite feature, or one of its errors."""
        z = self.composite(x)
        if self.density is None:
            return shortened(z[:, WITHOUT_DENSITY[self.score_type]])
        return -shortened(self.density.log_density(z))


def _warn_of(found: Degeneracy, names: Sequence[str]) -> None:
    """Warn of a covariance of the features `names` that was regularised."""
    causes = []
    if found.constant:
        causes.append(f"{_listed(found.constant, names)} did not vary")
    if found.dependent and found.n_rows <= len(names):
        causes.append(f"there were {found.n_rows} rows for {len(names)} features")
    elif found.dependent:
        causes.append(f"{_listed(found.dependent, names)} nearly depend on each other linearly")
    warn(
        f"The covariance of the composite features is singular or ill-conditioned: "
        f"{', and '.join(causes)}. It was regularised. Fewer latent features (latent_dim), a "
        "larger covariance_penalty or more rows may cure it.",
        LinAlgWarning,
    )


def _listed(places: Sequence[int], names: Sequence[str], most: int = 4) -> str:
    text = ", ".join(names[place] for place in places[:most])
    return text if len(places) <= most else f"{text} and {len(places) - most} more"


class CANCE(FromPaper, AnomalyMapMixin, BaseGenerativeDetector):
    """Detect anomalies by the density of latent features and reconstruction errors.

    An autoencoder, principal components or a transformer of one's own map a row to latent features
    and back. Latent features, mean squared error and cosine dissimilarity make the composite
    feature, whose density is learned by noise-contrastive estimation: a network tells composite
    features from Gaussian noise that is trained against it.

    Parameters
    ----------
    features : {"autoencoder", "pca"} or object, default="autoencoder"
        What makes latent features: "autoencoder", an autoencoder that is trained here in two stages
        (:class:`~skgenad.autoencoders.AutoencoderFeatures`); "pca", the leading principal
        components (:class:`~skgenad.autoencoders.PCAFeatures`); or an object with ``transform`` and
        ``inverse_transform`` of rows in the units of X, such as
        :class:`~skgenad.preprocessing.LatentFeatures` of another detector. If it has ``fit``, a
        clone is fitted to the training rows.
    score_type : {"cance", "cnce", "latent", "error", "cosine"}, default="cance"
        What scores. "cance": the density of the composite feature, trained with augmented errors;
        "cnce": the same without augmentation; "latent": the density of the latent features alone;
        "error": the mean squared error; "cosine": the cosine dissimilarity. Parameters of the
        density are to be left as they are with the last two.
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    density_network : tuple of int or MLP, default=None
        Network that estimates the density: widths of the hidden layers of a perceptron, or one of
        :class:`~skgenad.networks.MLP`. None: ``MLP((128, 128), activation="silu")``.
    noise_ratio : int, default=8
        Draws of noise for each row of data, nu.
    noise_scale : float, default=1.5
        Entries of K, the noise's standard deviations as multiples of the features', at the start;
        at least 1.
    noise_learning_rate : float, default=1e-3
        AdamW's learning rate for K at the start; it falls to 0 as the network's does. 0 fixes K.
    weight_decay : float, default=0.01
        AdamW's weight decay, for network and noise.
    validation_fraction : float, default=0.2
        Share of the training rows, in [0, 1), at most 4096 of them, that choose the epoch of every
        stage and have no part in gradients.
    max_steps : int, default=1000
        Number of gradient steps of the density, whatever the number of rows.
    learning_rate : float, default=3e-3
        Learning rate of all stages at their start; it falls to 0 as half a cosine.
    batch_size : int, default=128
        Rows in a gradient step.
    stopping : EarlyStopping, default=None
        When stages end early, by rows held out; None: never.
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
        A row per 50 steps: stage, epoch, step, loss, its parts (reconstruction and covariance;
        spread, the mean of K), validation_loss, seconds.
    module_ : nn.Module
        Features and density, with ``energy(x)`` in standardised units.
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
    DAGMM : Gaussian mixture over such features, trained together with the autoencoder.
    Mahalanobis : Gaussian over the columns or over features that another model made.

    Notes
    -----
    ``score_samples`` is T(z) + log nu p_n(z), in nats: with "cnce" the log density of the composite
    feature, with "cance" that of its mixture with augmented features (eq. 8 of [1]_), with
    "latent" that of the latent features. None is the density of the row. With "error" it is the
    negative mean squared error, in squared standardised units, with "cosine" the negative of half
    of one minus the cosine of row and reconstruction, and a row that leaves a constant pays for it
    as with a density.

    Where the covariance of the features cannot be inverted, it is regularised, and a
    ``scipy.linalg.LinAlgWarning`` says why. The guide to CANCE has more on this, on small tables,
    on rows without error, and on training that goes on.

    References
    ----------
    .. [1] Y. Liao and A. J. Brockmeier. Anomaly Detection via Autoencoder Composite Features and
       NCE. arXiv:2502.01920.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import CANCE
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = CANCE(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = _papers.CANCE
    _parts: ClassVar[dict[str, Slot]] = {
        "features": FEATURES_SLOT,
        "density_network": DENSITY_SLOT,
    }
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        "features": [
            StrOptions({"autoencoder", "pca"}),
            AutoencoderFeatures,
            PCAFeatures,
            HasMethods(["transform", "inverse_transform"]),
        ],
        "score_type": [StrOptions({"cance", "cnce", "latent", *WITHOUT_DENSITY})],
        "image_shape": [tuple, list, None],
        "density_network": [tuple, list, MLP, None],
        "noise_ratio": [Interval(Integral, 1, None, closed="left")],
        "noise_scale": [Interval(Real, 1, None, closed="left")],
        "noise_learning_rate": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        features: Any = "autoencoder",
        score_type: str = "cance",
        image_shape: tuple[int, int, int] | None = None,
        density_network: Any = None,
        noise_ratio: int = 8,
        noise_scale: float = 1.5,
        noise_learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        validation_fraction: float = 0.2,
        max_steps: int = 1000,
        learning_rate: float = 3e-3,
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
        self.features = features
        self.score_type = score_type
        self.image_shape = image_shape
        self.density_network = density_network
        self.noise_ratio = noise_ratio
        self.noise_scale = noise_scale
        self.noise_learning_rate = noise_learning_rate
        self.weight_decay = weight_decay
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

    @classmethod
    def from_paper(cls, experiment: str | None = "mnist", **parameters: Any) -> Self:
        """Make a detector with the paper's settings of an experiment (sections 4 and E to I).

        They are the latent dimension, the covariance penalty against the sum of squared errors
        (eq. 11), 8 draws of noise for each row and a fifth of the rows for validation. What the
        paper does not give is ours: the networks ("conv" for images), all lengths, 20,000 steps of
        each stage, learning rates and batches, and where K starts and how fast it moves. On tables
        it gives nothing else at all: ``CANCE()``.

        Parameters
        ----------
        experiment : str, default="mnist"
            "mnist", "fashion_mnist", "mnist_c" or "cifar10", of images, where the penalty of the
            second and the third is that of the first; "mnist_resnet18" or "cifar10_resnet18", of
            embeddings and their principal components.
        **parameters
            Parameters that replace the paper's.

        Returns
        -------
        detector : CANCE
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of those that are here.
        """
        return super().from_paper(experiment, **parameters)

    def _make_module(self, n_features: int) -> CANCEModel:
        part = self.part("features")  # its fields are looked at once they are checked
        self._refuse_unused()
        network = self.part("density_network")
        is_ours = isinstance(part, AutoencoderFeatures | PCAFeatures)
        features = part.make(self._row_shape(n_features)) if is_ours else ExternalFeatures(part)
        density = partial(
            NoiseContrast,
            hidden_sizes=network.hidden_sizes,
            activation=network.activation,
            noise_ratio=self.noise_ratio,
            noise_scale=self.noise_scale,
            augment=self.score_type == "cance",
        )
        return CANCEModel(features, self.score_type, density)

    def _refuse_unused(self) -> None:
        features = self._own("features")
        if isinstance(features, AutoencoderFeatures) and features.latent_dim == 1:
            refuse_unused(features, ("covariance_penalty",), "latent_dim=1 has no pair of features")
        if self.score_type not in WITHOUT_DENSITY:
            return
        noise = ("noise_ratio", "noise_scale", "noise_learning_rate")
        names = ("density_network", *noise, "weight_decay", "max_steps")
        refuse_unused(self, names, f"score_type={self.score_type!r} has no density")
        if not isinstance(features, AutoencoderFeatures):
            why = f"score_type={self.score_type!r} without an autoencoder trains no network"
            refuse_unused(self, ("validation_fraction", "learning_rate"), why)

    @property
    def _units_follow(self) -> bool:
        # Features that are fitted once see rows in the units of their fit.
        return super()._units_follow and isinstance(self.module_.features, TwoStageAutoencoder)

    def _module_to_continue(self) -> Model:
        is_users = isinstance(self.module_.features, ExternalFeatures)
        if is_users and self.features is not self._fitted_parameters["features"]:
            raise ValueError(
                f"features={self.features!r} is another object than the one that the first fit "
                "fitted. Set that back, or fit from the start (warm_start=False)."
            )
        return super()._module_to_continue()

    @property
    def _sees_constants(self) -> bool:
        # An angle grows with any difference at first, but no further than to 1.
        return self._fitted_parameters["score_type"] == "error"

    def _prepare(self, module: CANCEModel, rows: Rows, labels: Tensor | None) -> None:
        names = getattr(self, "feature_names_in_", None)
        module.fit_features(rows, self.units_, seed=self.seed_, names=names)

    # ---- stages ---------------------------------------------------------------------------

    def _stages(self, module: CANCEModel) -> list[Stage]:
        stages = []
        if isinstance(module.features, TwoStageAutoencoder):
            stages += self._autoencoder_stages(module.features)
        if module.density is not None:
            stages.append(self._density_stage(module.density))
        return stages

    def _autoencoder_stages(self, features: TwoStageAutoencoder) -> list[Stage]:
        part = self.part("features")
        return [
            Stage(
                name="encoder",
                objective=lambda module, x: module.features.loss(x),
                optimizers={"main": adam(features.parameters(), self.learning_rate)},
                n_steps=part.encoder_steps,
                validate=lambda module, x: module.features.validation_loss(x),
            ),
            Stage(
                name="decoder",
                objective=lambda module, inputs: {"loss": module.features.decoder_loss(inputs)},
                optimizers={"main": adam(features.decoder.parameters(), self.learning_rate)},
                n_steps=part.decoder_steps,
                inputs=lambda module, rows: module.features.with_codes(rows),
                validate=lambda module, inputs: module.features.decoder_loss(inputs),
            ),
        ]

    def _density_stage(self, density: NoiseContrast) -> Stage:
        network = adamw(density.network.parameters(), self.learning_rate, self.weight_decay)
        optimizers: dict[str, torch.optim.Optimizer] = {"network": network}
        if self.noise_learning_rate > 0:
            optimizers["noise"] = adamw(
                [density.noise.psi], self.noise_learning_rate, self.weight_decay
            )
        return Stage(
            name="density",
            optimizers=optimizers,
            n_steps=self.max_steps,
            before=lambda module, z: module.set_noise(z),
            resume=lambda module, z: module.set_noise(z, again=True),
            inputs=lambda module, rows: module.all_composites(rows),
            validate=lambda module, z: module.validation_loss(z),
        )
