"""NAE: normalized autoencoder (Yoon, Noh and Park, ICML 2021).

The reconstruction error of an autoencoder (f_e, f_d) is taken for the energy of a density:

    E(x) = dist(x, f_d(f_e(x))) / D,   p(x) = exp(-E(x) / T) / Omega                     (eq. 9, 10)
    loss = E(x) - E(x-) + energy_penalty * E(x-)^2,   x- ~ p                      (T times eq. 12)

To maximise the likelihood is thus to raise the error of what the model itself takes for likely,
and so to unlearn the reconstruction of anomalies. Negatives x- come from Langevin chains, which
differ in where they start (section 4):

    "omi"  on the decoder's manifold, x = f_d(z), where a latent chain on
           H(z) = E(f_d(z)) ended; the latent chain starts at a replayed z or at q_0(z)
    "cd"   at the rows of the batch
    "pcd"  at replayed rows of earlier chains or at noise

What this file adds to the paper: chains may be kept within the range of the training data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, is_steady
from skgenad._core.optimizers import adam, with_penalty
from skgenad._core.papers import FromPaper
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.sampling import draw_rows
from skgenad._core.schedules import SCHEDULES
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors import draws
from skgenad._tensors.distances import DISTANCES, make_distance
from skgenad._tensors.model import Model
from skgenad._tensors.noise import dequantized
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad._tensors.twins import still
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

from . import _papers
from ._detector import EnergyBasedDetector
from ._energies import contrastive_loss, decoded_energy
from ._langevin import Langevin, ReplayBuffer, tempered
from ._negatives import (
    NegativesModule,
    Settings,
    latent_langevin,
    step_for_errors,
    visible_langevin,
)
from .chains import Chain, Replay, chain_slot, replay_of, replay_slot

# The latent chain of `sample` is longer than the one of training by this factor (appendix D.3).
_SAMPLING_FACTOR = 8


@dataclass(frozen=True, kw_only=True)
class NAESettings(Settings):
    """How a normalized autoencoder is trained.

    Parameters
    ----------
    latent : Langevin
        The latent chain.
    temperature : float
        T at the start.
    train_temperature : bool
        Whether T is trained along.
    latent_penalty : float
        Weight of the latent vectors' mean squared length.
    n_levels : int, optional
        Levels within whose cells training moves pixels at random.
    """

    latent: Langevin
    temperature: float
    train_temperature: bool = False
    latent_penalty: float = 0.0
    n_levels: int | None = None


class NAEModel(NegativesModule):
    """An autoencoder's energy with its temperature, and the chains that sample it.

    Parameters
    ----------
    base : ReconstructionEnergy
        E.
    n_features : int
        Number of columns.
    settings : NAESettings
        Settings of training.
    latent_dim : int
        Dimension of latent vectors.
    sampling : {"omi", "cd", "pcd"}
        Where visible chains start.
    replay : (int, float)
        Number of states that are kept, latent ones for "omi", rows for "pcd", and the share of
        chains that start from them.
    pixels : bool, default=False
        Whether columns are pixels.
    """

    settings: NAESettings

    def __init__(
        self,
        base: ReconstructionEnergy,
        n_features: int,
        settings: NAESettings,
        *,
        latent_dim: int,
        sampling: str,
        replay: tuple[int, float],
        pixels: bool = False,
    ) -> None:
        super().__init__(base, n_features, settings, pixels=pixels)
        self.latent_dim, self.sampling = latent_dim, sampling
        self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature)))
        size, ratio = replay
        width = latent_dim if sampling == "omi" else n_features
        self.replayed = ReplayBuffer(0 if sampling == "cd" else size, ratio, width)

    @property
    def temperature(self) -> Tensor:
        """T, of shape ()."""
        return self.log_temperature.exp()

    def energy(self, x: Tensor) -> Tensor:
        """Minus the log density of rows, (n,), up to a constant: E / T."""
        return self.base.energy(x) / self.temperature

    def pretrain_loss(self, x: Tensor) -> dict[str, Tensor]:
        """Loss of an ordinary autoencoder (section 6.1)."""
        x = self._continuous(x)
        error = self.base.energy(x).mean()
        return {"loss": error + self._latent_term(x), "energy": error}

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """T times eq. 12, with the likelihood's gradient for T where that is trained."""
        x = self._continuous(x)
        penalty = self.settings.energy_penalty
        parts = contrastive_loss(self.base, x, self.negatives(x), penalty=penalty)
        parts["loss"] = parts["loss"] + self._latent_term(x)
        if self.settings.train_temperature:
            parts["temperature"] = self.temperature
            # The added term has the value 0, and for log T the gradient of the likelihood.
            gap = (parts["energy"] - parts["negative_energy"]).detach() / self.temperature
            parts["loss"] = parts["loss"] + gap - gap.detach()
        return parts

    def _continuous(self, x: Tensor) -> Tensor:
        """Rows (n, d) as training takes them: pixels anywhere in the cells of their levels."""
        n_levels = self.settings.n_levels
        if n_levels is None or not self.training:
            return x
        return dequantized(x, n_levels, draws.rand_like(x))

    def _latent_term(self, x: Tensor) -> Tensor | float:
        """Mean squared length of the rows' latent vectors, weighted."""
        weight = self.settings.latent_penalty
        return weight * self.base.net.encode(x).square().sum(dim=1).mean() if weight else 0.0

    @torch.no_grad()
    def negatives(self, x: Tensor) -> Tensor:
        """Negatives (n, d) for a batch of rows (algorithm 1)."""
        if self.sampling == "omi":
            z = self.on_manifold(self.replayed.draw(self.prior(len(x))), self.settings.latent)
            self.replayed.push(z)
            return self.visible_negatives(self.base.net.decode(z))
        replayed = self.replayed if self.sampling == "pcd" else None
        return self.visible_negatives(self.visible_starts(x, replayed), replayed)

    def on_manifold(self, z: Tensor, latent: Langevin) -> Tensor:
        """Latent vectors (n, d_z) after a chain on H(z) / T from `z` (eq. 14 to 16)."""
        net = self.base.net
        on_latent = tempered(lambda z: decoded_energy(self.base, net, z), self.temperature)
        return latent.run(on_latent, z).x

    def prior(self, n: int) -> Tensor:
        """Latent vectors (n, d_z) of q_0: uniform on the sphere or standard normal."""
        z = draws.randn(n, self.latent_dim, device=self.low.device)
        return F.normalize(z, dim=1) if self.base.net.spherical else z

    def take_over(self, other: Model) -> None:
        """Go on from another model; states of its chains do, if these start likewise."""
        empty = copy.deepcopy(self.replayed)
        super().take_over(other)
        if isinstance(other, NAEModel) and other.sampling != self.sampling:
            self.replayed = empty

    def energy_limit(self) -> float:
        """Level of the negatives' mean energy that means divergence.

        A row of exp(-E / T) may well have an energy of T / 2 for every column.
        """
        temperature = self.settings.temperature * float(self.tempering)
        return max(super().energy_limit(), 5 * temperature * len(self.low))

    def sample(self, n: int, latent_steps: int | None, visible_steps: int | None) -> Tensor:
        """Rows (n, d) by on-manifold initialisation, by chains of so many steps."""
        settings = self.settings
        if latent_steps is None:
            latent_steps = _SAMPLING_FACTOR * settings.latent.n_steps
        if visible_steps is None:
            visible_steps = settings.visible.n_steps
        z = self.on_manifold(self.prior(n), replace(settings.latent, n_steps=latent_steps))
        return self.visible_chain(self.base.net.decode(z), visible_steps)


class NAE(FromPaper, AnomalyMapMixin, EnergyBasedDetector):
    """Detect anomalies by a normalized autoencoder.

    The density exp(-E / T) / Omega, whose energy E is an autoencoder's reconstruction error, is
    fitted by maximum likelihood: the error of what the model takes for likely is raised.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    network : tuple of int, str or object, default=None
        Encoder and decoder: widths of the hidden layers of perceptrons; one of the objects of
        :mod:`skgenad.networks`, its name in lower case, such as "conv28", or one like it with
        ``make_encoder`` and ``make_decoder``. None: ``MLP((128, 128), activation="leaky_relu")``.
    latent_dim : int, default=None
        Latent dimension. None: n_features, 70 % of it beyond 100, at least 2; 32 for images.
    latent_space : {"sphere", "euclidean"}, default="sphere"
        Whether latent vectors are divided by their norm.
    distance : {"l2", "l1", "ssim"}, default="l2"
        Mean of squared or absolute differences; for images one minus structural similarity (SSIM).
    sampling : {"omi", "cd", "pcd"}, default="omi"
        Where visible chains start: on-manifold initialisation at decoded ends of latent chains,
        contrastive divergence at rows, or persistent ones in the buffer or afresh at uniform rows.
    latent_chain : Chain, default=None
        Among latent vectors, without `gamma` and `bounds`; for "cd" and "pcd" of :meth:`sample`
        alone. None: ``Chain(5, step_size=0.1, noise=0.05)``.
    visible_chain : Chain, default=None
        No `gamma`; None: ``Chain(10, step_size="auto", noise="auto", bounds="data")``, see guide.
    replay : Replay, default=None
        Buffer of latent vectors ("omi") or rows ("pcd"). None: ``Replay(10_000, ratio=0.95)``.
    temperature : float, default=1.0
        T, of both chains and of the density; at the start if it is trained.
    temperature_learning_rate : float, default=0.0
        Adam's learning rate for log T, which is trained by the likelihood. 0: T is fixed.
    energy_penalty : float, default=1.0
        Weight alpha of the mean of E(x-)^2; it biases the density unless well below ``1 / E``.
    encoder_penalty, latent_penalty : float, default=0.0
        Weights in the loss of the encoder's squared weights, without which `history_` has losses,
        and of the mean squared length of latent vectors; ``latent_space="euclidean"`` only.
    pretrain_steps : int, default=700
        Gradient steps as an ordinary autoencoder.
    max_steps : int, default=400
        Gradient steps as a normalized autoencoder, whatever the number of rows.
    pretrain_learning_rate, learning_rate : float, default=1e-3
        Adam's learning rates for pretraining and for the second stage.
    pretrain_clip : float, default=None
        Largest norm of the gradient in pretraining. None: there is none.
    n_levels : int, default=None
        Levels of pixels, such as 256, within whose cells training moves them at random. None: not.
    schedule : {"cosine", "constant"}, default="cosine"
        Whether learning rates fall to 0 as half a cosine in each stage.
    batch_size : int, default=128
        Rows in a gradient step.
    stopping : EarlyStopping, default=None
        When the pretraining ends early, by rows held out; None: never.
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
        Seed of weights, batches and chains.
    verbose : int, default=0
        Whether to show a progress bar for each stage.
    callbacks : list of skorch callbacks, default=None
        They find the stage of training as ``net.stage``.

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    temperature_ : float
        T, trained or not.
    history_ : DataFrame
        A row per 50 steps: stage, epoch, step, loss, mean energies, trained temperature, seconds.
    negatives_ : ndarray of shape (n_negatives, n_features)
        The latest negatives of training, at most 1000, in the units of X; none after :meth:`load`.
    module_ : nn.Module
        The autoencoder and its temperature, with ``energy(x)``, E / T, in standardised units.
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
    Autoencoder : The reconstruction error alone.

    Notes
    -----
    ``score_samples`` is -E / T: a log density in standardised units, in nats, up to a constant,
    where chains are Langevin dynamics and `energy_penalty` is small. Larger steps, the defaults',
    sample a narrower density, with the T of :meth:`log_density_grid`.

    References
    ----------
    Yoon, Noh and Park, "Autoencoding under normalization constraints", ICML 2021.
    https://arxiv.org/abs/2105.05735

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import NAE
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = NAE(pretrain_steps=50, max_steps=50, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = _papers.NAE
    _parts: ClassVar[dict[str, Slot]] = {
        "network": network_slot(),
        "latent_chain": chain_slot(
            Chain(5, step_size=0.1, noise=0.05), without=("gamma", "bounds")
        ),
        "visible_chain": chain_slot(
            Chain(10, step_size="auto", noise="auto", bounds="data"), without=("gamma",)
        ),
        "replay": replay_slot(10_000),
    }
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "latent_space": [StrOptions({"sphere", "euclidean"})],
        "distance": [StrOptions(set(DISTANCES))],
        "sampling": [StrOptions({"omi", "cd", "pcd"})],
        "latent_chain": [Chain, None],
        "visible_chain": [Chain, None],
        "replay": [Replay, None],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "temperature_learning_rate": [Interval(Real, 0, None, closed="left")],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "encoder_penalty": [Interval(Real, 0, None, closed="left")],
        "latent_penalty": [Interval(Real, 0, None, closed="left")],
        "pretrain_steps": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "pretrain_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "pretrain_clip": [Interval(Real, 0, None, closed="neither"), None],
        "n_levels": [Interval(Integral, 2, None, closed="left"), None],
        "schedule": [StrOptions(set(SCHEDULES))],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        latent_dim: int | None = None,
        latent_space: str = "sphere",
        distance: str = "l2",
        sampling: str = "omi",
        latent_chain: Chain | None = None,
        visible_chain: Chain | None = None,
        replay: Replay | None = None,
        temperature: float = 1.0,
        temperature_learning_rate: float = 0.0,
        energy_penalty: float = 1.0,
        encoder_penalty: float = 0.0,
        latent_penalty: float = 0.0,
        pretrain_steps: int = 700,
        max_steps: int = 400,
        pretrain_learning_rate: float = 1e-3,
        learning_rate: float = 1e-3,
        pretrain_clip: float | None = None,
        n_levels: int | None = None,
        schedule: str = "cosine",
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
        self.network = network
        self.latent_dim = latent_dim
        self.latent_space = latent_space
        self.distance = distance
        self.sampling = sampling
        self.latent_chain = latent_chain
        self.visible_chain = visible_chain
        self.replay = replay
        self.temperature = temperature
        self.temperature_learning_rate = temperature_learning_rate
        self.energy_penalty = energy_penalty
        self.encoder_penalty = encoder_penalty
        self.latent_penalty = latent_penalty
        self.pretrain_steps = pretrain_steps
        self.max_steps = max_steps
        self.pretrain_learning_rate = pretrain_learning_rate
        self.learning_rate = learning_rate
        self.pretrain_clip = pretrain_clip
        self.n_levels = n_levels
        self.schedule = schedule
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
    def from_paper(cls, experiment: str | None = "2d", **parameters: Any) -> Self:
        """Make a detector with the paper's settings of an experiment (Table 11, appendix D.3).

        On images the numbers of steps are the paper's passes over its training images. What it
        leaves open is that of the authors' code: batches of 128, the rate of pretraining, 1e-4, the
        largest norm of its gradient, 0.1, its 30 passes for "celeba", and the latent dimension,
        which the paper searches for: 32, and 64 for "celeba". Where the two differ the paper's
        word stands: for "cifar10" the code that comes with its results has another network,
        mirrored images, 180 passes of pretraining and at most 10 of the energy, for "celeba" half
        the channels, visible steps of 20, mirrored images and 15 passes of the energy.

        For "2d" the numbers of steps are our defaults, far too few for the paper's learning rate of
        1e-5: raise one or the other. Its networks are perceptrons here, ``network="fcres"`` makes
        them the paper's; the weight of the latent vectors' norm is unpublished and 0.

        Parameters
        ----------
        experiment : {"2d", "mnist", "cifar10", "celeba"}, default="2d"
            Which of the paper's experiments; all but the first are on images (Table 10).
        **parameters
            Parameters that replace the paper's. Where one is an object of the same class as the
            paper's, its fields that are None stay the paper's.

        Returns
        -------
        detector : NAE
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of these.
        """
        return super().from_paper(experiment, **parameters)

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> NAEModel:
        if self.latent_penalty and self.latent_space == "sphere":
            raise ValueError(
                f"latent_penalty={self.latent_penalty} draws latent vectors to the origin, but on "
                "latent_space='sphere' all have the length 1. Set it to 0 or choose 'euclidean'."
            )
        if self.pretrain_steps == 0:
            names = ("pretrain_learning_rate", "pretrain_clip")
            refuse_unused(self, names, "pretrain_steps=0")
        if self.image_shape is None:
            refuse_unused(self, ("n_levels",), "only pixels have levels, and image_shape=None")
        networks = networks_for(self.part("network"), self._row_shape(n_features))
        latent_dim = self.latent_dim or networks.latent_dim
        net = networks.autoencoder(latent_dim, self.latent_space)
        return NAEModel(
            ReconstructionEnergy(net, make_distance(self.distance, networks.shape)),
            n_features,
            self._settings(n_features),
            latent_dim=latent_dim,
            sampling=self.sampling,
            replay=replay_of(self.part("replay"), self.replay, self.sampling),
            pixels=self.image_shape is not None,
        )

    def _settings(self, n_features: int) -> NAESettings:
        """Check and gather what training is done by."""
        latent, visible = self.part("latent_chain"), self.part("visible_chain")
        pixels, trained = self.image_shape is not None, self.temperature_learning_rate > 0
        # A temperature can only be learned from chains whose limit is the density.
        exact = visible.metropolis or trained

        def auto_step(noise: float) -> float:
            if exact:
                return noise**2 / 2
            return step_for_errors(n_features, pixels) * self.temperature

        return NAESettings(
            visible=visible_langevin(visible, pixels, auto_step),
            bounds=visible.bounds,
            energy_penalty=self.energy_penalty,
            latent=latent_langevin(latent, self.latent_space == "sphere"),
            temperature=self.temperature,
            train_temperature=trained,
            latent_penalty=self.latent_penalty,
            n_levels=self.n_levels,
        )

    def _stages(self, module: NAEModel) -> list[Stage]:
        schedule = SCHEDULES[self.schedule]
        trained = self._groups(module)
        if self.temperature_learning_rate:
            rate = self.temperature_learning_rate
            trained.append({"params": [module.log_temperature], "lr": rate})
        return [
            Stage(
                name="pretrain",
                objective=NAEModel.pretrain_loss,
                optimizers={"main": adam(self._groups(module), self.pretrain_learning_rate)},
                n_steps=self.pretrain_steps,
                validate=lambda module, x: module.pretrain_loss(x)["loss"],
                clip_norm=self.pretrain_clip,
                schedule=schedule,
                is_steady=is_steady,
            ),
            Stage(
                name="energy",
                optimizers={"main": adam(trained, self.learning_rate)},
                n_steps=self.max_steps,
                schedule=schedule,
                energy_limit=module.energy_limit(),
                is_steady=NAEModel.is_steady_when_full,
            ),
        ]

    def _groups(self, module: NAEModel) -> list[dict[str, Any]]:
        net = module.base.net
        return with_penalty(net.encoder, [net.decoder], self.encoder_penalty)

    # ---- what a trained density offers ----------------------------------------------------

    def energy(self, X: ArrayLike) -> NDArray:
        """Energies of rows: their mean reconstruction errors, without the temperature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        energies : ndarray of shape (n_samples,)
            E, in (squared, for "l2") standardised units.
        """
        check_is_fitted(self)
        return self._energies(self._validate(X, reset=False))

    @property
    def temperature_(self) -> float:
        """Temperature T of the score, trained or not."""
        check_is_fitted(self)
        return float(self.module_.temperature.detach())

    def sample(
        self,
        n_samples: int = 1,
        *,
        latent_steps: int | None = None,
        visible_steps: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray:
        """Draw rows from the density by on-manifold initialisation, whatever `sampling` is.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        latent_steps : int, default=None
            Steps of the latent chain, which starts afresh; None is 8 times those of training, as
            in the paper.
        visible_steps : int, default=None
            Steps of the visible chain; None is as many as in training.
        random_state : int, RandomState or None, default=None
            Seed.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows in the units of X; of images flat rows in [0, 1].
        """
        for name, steps in (("latent_steps", latent_steps), ("visible_steps", visible_steps)):
            if steps is not None:
                check_scalar(steps, name, Integral, min_val=0)
        return draw_rows(
            self,
            n_samples,
            random_state,
            lambda n: still(self.module_).sample(n, latent_steps, visible_steps),
        )
