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

import math
from dataclasses import replace
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
from skgenad._core.checks import Interval, StrOptions, check_bounds, check_sizes
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.networks import IMAGE_CONSTRAINTS, networks_of
from skgenad._core.optimizers import adam, with_penalty
from skgenad._core.sampling import draw_rows
from skgenad._tensors.distances import DISTANCES, make_distance
from skgenad._tensors.maps import ACTIVATIONS
from skgenad._tensors.reconstruction import ReconstructionEnergy

from ._detector import EnergyBasedDetector
from ._energies import contrastive_loss, decoded_energy
from ._langevin import Langevin, ReplayBuffer, tempered
from ._negatives import PIXEL_STEP, NegativesModule, visible_noise_of

# A step of s * D / 2 on a mean over D columns moves a residual by the share s of itself.
_RELATIVE_STEP = 0.2
# Adam's, for log T (appendix D.3: a hundred times 1e-5).
_TEMPERATURE_RATE = 1e-3
# The latent chain of `sample` is longer than the one of training by this factor (appendix D.3).
_SAMPLING_FACTOR = 8

_PAPER: dict[str, dict[str, Any]] = {
    "2d": {
        "latent_space": "euclidean",
        "latent_steps": 10,
        "latent_step_size": 0.005,
        "latent_noise": 0.1,
        "visible_steps": 30,
        "visible_step_size": 0.005,
        "visible_noise": 0.1,
        "metropolis": True,
        "temperature": 0.5,
        "train_temperature": True,
        "standardize": False,
        "pretrain_steps": 0,
    },
    "mnist": {
        "image_shape": (1, 28, 28),
        "network": "conv28",
        "latent_steps": 10,
        "latent_step_size": 0.2,
        "latent_noise": 0.05,
        "visible_steps": 50,
        "visible_step_size": 10.0,
        "visible_noise": 0.05,
        "visible_clip": 0.01,
        "anneal": True,
        "encoder_penalty": 1e-4,
        # 100 and 50 passes over 54,000 images
        "pretrain_steps": 42_200,
        "max_steps": 21_100,
    },
    "cifar10": {
        "image_shape": (3, 32, 32),
        "network": "conv32",
        "latent_steps": 20,
        "latent_step_size": 1.0,
        "latent_noise": 0.02,
        "visible_steps": 40,
        "visible_step_size": 10.0,
        "visible_noise": 0.02,
        "visible_clip": 0.01,
        "anneal": True,
        "encoder_penalty": 1e-4,
        # 120 and 50 passes over 45,000 images
        "pretrain_steps": 42_240,
        "max_steps": 17_600,
    },
    "celeba": {
        "image_shape": (3, 64, 64),
        "network": "conv64",
        "latent_steps": 20,
        "latent_step_size": 1.0,
        "latent_noise": 0.02,
        "visible_steps": 40,
        "visible_step_size": 10.0,
        "visible_noise": 0.02,
        "visible_clip": 0.01,
        "anneal": True,
        # 50 passes over 162,079 images
        "max_steps": 63_350,
    },
}
_PAPER_COMMON = {"learning_rate": 1e-5, "schedule": "constant"}


class NormalizedModule(NegativesModule):
    """An autoencoder's energy with its temperature, and the chains that sample it.

    Parameters
    ----------
    base : ReconstructionEnergy
        E.
    n_features, latent_dim : int
        Dimensions of a row and of its latent vector.
    temperature : float
        T at the start.
    sampling : {"omi", "cd", "pcd"}
        Where visible chains start.
    replay_size : int
        States that are kept: latent ones for "omi", rows for "pcd".
    replay_ratio : float
        Share of chains that start from them.
    pixels : bool, default=False
        Whether columns are pixels.
    """

    def __init__(
        self,
        base: ReconstructionEnergy,
        n_features: int,
        latent_dim: int,
        temperature: float,
        sampling: str,
        replay_size: int,
        replay_ratio: float,
        pixels: bool = False,
    ) -> None:
        super().__init__(base, n_features, pixels)
        self.latent_dim, self.sampling = latent_dim, sampling
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        width = latent_dim if sampling == "omi" else n_features
        self.replayed = ReplayBuffer(replay_size, replay_ratio, width)

    @property
    def temperature(self) -> Tensor:
        """T, of shape ()."""
        return self.log_temperature.exp()

    def energy(self, x: Tensor) -> Tensor:
        """Minus the log density of rows, (n,), up to a constant: E / T."""
        return self.base.energy(x) / self.temperature

    def on_manifold(self, z: Tensor, latent: Langevin) -> Tensor:
        """Latent vectors (n, d_z) after a chain on H(z) / T from `z` (eq. 14 to 16)."""
        net = self.base.net
        on_latent = tempered(lambda z: decoded_energy(self.base, net, z), self.temperature)
        return latent.run(on_latent, z).x

    def prior(self, n: int) -> Tensor:
        """Latent vectors (n, d_z) of q_0: uniform on the sphere or standard normal."""
        z = torch.randn(n, self.latent_dim, device=self.low.device)
        return F.normalize(z, dim=1) if self.base.net.spherical else z

    @torch.no_grad()
    def negatives(self, x: Tensor, latent: Langevin, visible: Langevin) -> Tensor:
        """Negatives (n, d) for a batch of rows (algorithm 1)."""
        if self.sampling == "omi":
            z = self.on_manifold(self.replayed.draw(self.prior(len(x))), latent)
            self.replayed.push(z)
            return self.visible_negatives(self.base.net.decode(z), visible)
        replayed = self.replayed if self.sampling == "pcd" else None
        return self.visible_negatives(self.visible_starts(x, replayed), visible, replayed)


class NAE(AnomalyMapMixin, EnergyBasedDetector):
    """Detect anomalies by a normalized autoencoder.

    The density exp(-E / T) / Omega, whose energy E is an autoencoder's reconstruction error, is
    fitted by maximum likelihood. The autoencoder is first trained to reconstruct; then the error
    of negatives, rows that the model takes for likely, is raised, so that anomalies which the
    autoencoder happened to reconstruct are reconstructed no longer.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images; None for tables. Images come as arrays
        (n, C, H, W) or as the flat rows of ``images.reshape(n, -1)``, with pixels in [0, 1] or of
        type uint8, which is divided by 255.
    network : str or object, default="mlp"
        Encoder and decoder: "mlp", perceptrons; "fcres"; for images "conv", "conv28",
        "conv32", "conv32big", "conv64" or "cifar1"; or an object with
        ``make_encoder(shape, latent_dim)`` and ``make_decoder(latent_dim, shape)``. The guide to
        images says what they are.
    network_width : float, default=1.0
        Factor on the numbers of channels of the named architectures, all but "mlp".
    hidden_sizes : tuple of int, default=(128, 128)
        Widths of the hidden layers of the encoder if it is a perceptron; the decoder mirrors them.
        ``()`` makes both linear: with as many latent dimensions as columns the density is then a
        Gaussian.
    latent_dim : int, default=None
        Dimension of the latent space. None: the number of columns up to 100 columns, 70 % of it
        beyond, and at least 2; 32 for images.
    latent_space : {"sphere", "euclidean"}, default="sphere"
        Whether latent vectors are divided by their norm. Fresh latent chains start uniformly on
        the sphere or at standard normal vectors.
    activation : {"relu", "leaky_relu", "tanh", "sigmoid", "silu"}, default="leaky_relu"
        Activation of the hidden layers of perceptrons.
    distance : {"l2", "l1", "ssim"}, default="l2"
        Whether the error is the mean over columns of squared or of absolute differences or, for
        images of at least 11 x 11 pixels, one minus their structural similarity (SSIM).
    sampling : {"omi", "cd", "pcd"}, default="omi"
        Where the visible chains of training start:

        - "omi", on-manifold initialisation: at decoded ends of latent chains, which start from the
          replay buffer of latent vectors;
        - "cd", contrastive divergence: at the rows of the batch. Modes of the model far from all
          rows are never found;
        - "pcd", persistent chains: in the replay buffer of rows, or afresh at rows uniform in the
          range of the training rows. With ``replay_ratio=1`` and ``replay_size=batch_size`` no
          chain is ever restarted.
    latent_steps : int, default=5
        Steps of the latent chain in training. With "cd" and "pcd" only :meth:`sample` has one.
    latent_step_size : float, default=0.1
        Factor on its gradient, that of E(f_d(z)) / T.
    latent_noise : float, default=0.05
        Standard deviation of its noise.
    visible_steps : int, default=10
        Steps of the visible chain.
    visible_step_size : float or "auto", default="auto"
        Factor on its gradient, that of E(x) / T. "auto" is ``0.1 * n_features * temperature``, with
        which a step shortens a residual by a fifth, and ``10 * temperature`` for images; with
        ``metropolis=True`` or ``train_temperature=True`` it is ``visible_noise ** 2 / 2``, that of
        Langevin dynamics, which a trained temperature needs.
    visible_noise : float or "auto", default="auto"
        Standard deviation of its noise, in standardised units; "auto" is 0.3 for tables and 0.005
        for images.
    visible_clip : float, default=None
        Each component of its gradient, divided by T, is clamped to [-visible_clip, visible_clip].
    anneal : bool, default=False
        Whether the noise of step t = 0, 1, ... of the visible chain is ``visible_noise / (1 + t)``.
    bounds : "data", (float, float) or None, default="data"
        What the visible chain is clamped to: the range of each training column widened by 1 on
        either side, for images [0, 1], two numbers, or nothing; in the units of training (a
        column's standard deviation, or those of X with ``standardize=False``).
    metropolis : bool, default=False
        Whether the visible chain accepts or rejects its steps by Metropolis-Hastings. It then
        rejects what lies beyond the bounds instead of clamping it, and needs
        ``visible_noise > 0`` and ``visible_clip=None``.
    replay_size : int, default=10000
        States that the replay buffer keeps: latent vectors for "omi", rows for "pcd"; "cd" has
        none. 0 is no buffer.
    replay_ratio : float, default=0.95
        Share, in [0, 1], of chains that start from the buffer; the others start afresh.
    temperature : float, default=1.0
        T, of both chains and of the density; at the start if it is trained.
    train_temperature : bool, default=False
        Whether T is trained along, by the likelihood.
    temperature_learning_rate : float, default=None
        Adam's learning rate for log T, if it is trained; None is 1e-3, the paper's (100 times the
        one of its networks).
    energy_penalty : float, default=1.0
        Weight alpha of the mean of E(x-)^2, which keeps negatives' energies from running away,
        beside T times the likelihood. Where energies of data are not small against 1 it biases the
        density: choose it well below ``1 / E``.
    encoder_penalty : float, default=0.0
        Weight of the sum of the encoder's squared weights in the loss; the losses of `history_`
        are without it.
    latent_penalty : float, default=0.0
        Weight of the mean squared length of the rows' latent vectors in the loss of both stages;
        for ``latent_space="euclidean"`` only.
    pretrain_steps : int, default=700
        Gradient steps as an ordinary autoencoder.
    max_steps : int, default=400
        Gradient steps as a normalized autoencoder.
    pretrain_learning_rate : float, default=1e-3
        Adam's learning rate for pretraining.
    learning_rate : float, default=1e-3
        Adam's learning rate for the second stage.
    schedule : {"cosine", "constant"}, default="cosine"
        Whether learning rates fall to 0 as half a cosine in each stage.
    batch_size : int, default=128
        Rows in a gradient step.
    standardize : "auto" or bool, default="auto"
        Whether columns are centred and scaled first; "auto" does, but for images.
    contamination : float, default=0.1
        Share of rows, in (0, 0.5], that `predict` flags: of the training rows or, with
        ``calibration_fraction > 0``, of the rows held out. On small tables the second is much
        nearer to the share of new normal rows that are flagged.
    calibration_fraction : float, default=0.0
        Share of rows, in [0, 1), held out of training for :meth:`p_value`.
    warm_start : bool, default=False
        Whether `fit` on a fitted detector continues its second stage, in the units of its first
        fit.
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
        A row per epoch of 50 steps: stage, epoch, step, loss, mean energy of data and of
        negatives, temperature if it is trained, seconds.
    negatives_ : ndarray of shape (n_negatives, n_features)
        Negatives of the last steps of training, at most 1000, in the units of X; none in a
        detector that :meth:`load` read.
    module_ : nn.Module
        The autoencoder and its temperature, with ``energy(x)``, E / T, in standardised units.
    units_ : object
        Means and scales of the columns.
    calibration_scores_ : ndarray or None
        Sorted scores of the rows held out.
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
    MPDR : Negatives from near the data, along the manifold of a second autoencoder.

    Notes
    -----
    ``score_samples`` is -E / T. It is the log density of a row in standardised units, in nats, up
    to a constant, where the visible chain is Langevin dynamics (``visible_step_size`` equal to
    ``visible_noise ** 2 / 2``, or ``metropolis=True``) and `energy_penalty` small. The defaults
    are made to rank rows: their larger step samples a narrower density, whose temperature
    :meth:`log_density_grid` takes.

    The density is one over the region that the chains can reach, and "data" in `bounds` is the
    range of the first fit: far outside the data an autoencoder's error need not be large enough
    for an integral over the whole space.

    The paper has no tables among its experiments. The defaults are ours, the best of ten variants
    on ten of ADBench's tables, with their test labels; :meth:`from_paper` has the paper's settings.

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

    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "hidden_sizes": [tuple, list],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "latent_space": [StrOptions({"sphere", "euclidean"})],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "distance": [StrOptions(set(DISTANCES))],
        "sampling": [StrOptions({"omi", "cd", "pcd"})],
        "latent_steps": [Interval(Integral, 0, None, closed="left")],
        "latent_step_size": [Interval(Real, 0, None, closed="left")],
        "latent_noise": [Interval(Real, 0, None, closed="left")],
        "visible_steps": [Interval(Integral, 0, None, closed="left")],
        "visible_step_size": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "visible_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "visible_clip": [Interval(Real, 0, None, closed="neither"), None],
        "anneal": ["boolean"],
        "bounds": [StrOptions({"data"}), tuple, list, None],
        "metropolis": ["boolean"],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "replay_ratio": [Interval(Real, 0, 1, closed="both")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "train_temperature": ["boolean"],
        "temperature_learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "encoder_penalty": [Interval(Real, 0, None, closed="left")],
        "latent_penalty": [Interval(Real, 0, None, closed="left")],
        "pretrain_steps": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "pretrain_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"cosine", "constant"})],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = "mlp",
        network_width: float = 1.0,
        hidden_sizes: tuple[int, ...] = (128, 128),
        latent_dim: int | None = None,
        latent_space: str = "sphere",
        activation: str = "leaky_relu",
        distance: str = "l2",
        sampling: str = "omi",
        latent_steps: int = 5,
        latent_step_size: float = 0.1,
        latent_noise: float = 0.05,
        visible_steps: int = 10,
        visible_step_size: float | str = "auto",
        visible_noise: float | str = "auto",
        visible_clip: float | None = None,
        anneal: bool = False,
        bounds: str | tuple[float, float] | None = "data",
        metropolis: bool = False,
        replay_size: int = 10_000,
        replay_ratio: float = 0.95,
        temperature: float = 1.0,
        train_temperature: bool = False,
        temperature_learning_rate: float | None = None,
        energy_penalty: float = 1.0,
        encoder_penalty: float = 0.0,
        latent_penalty: float = 0.0,
        pretrain_steps: int = 700,
        max_steps: int = 400,
        pretrain_learning_rate: float = 1e-3,
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        batch_size: int = 128,
        standardize: str | bool = "auto",
        contamination: float = 0.1,
        calibration_fraction: float = 0.0,
        warm_start: bool = False,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: list[Any] | None = None,
    ) -> None:
        self.image_shape = image_shape
        self.network = network
        self.network_width = network_width
        self.hidden_sizes = hidden_sizes
        self.latent_dim = latent_dim
        self.latent_space = latent_space
        self.activation = activation
        self.distance = distance
        self.sampling = sampling
        self.latent_steps = latent_steps
        self.latent_step_size = latent_step_size
        self.latent_noise = latent_noise
        self.visible_steps = visible_steps
        self.visible_step_size = visible_step_size
        self.visible_noise = visible_noise
        self.visible_clip = visible_clip
        self.anneal = anneal
        self.bounds = bounds
        self.metropolis = metropolis
        self.replay_size = replay_size
        self.replay_ratio = replay_ratio
        self.temperature = temperature
        self.train_temperature = train_temperature
        self.temperature_learning_rate = temperature_learning_rate
        self.energy_penalty = energy_penalty
        self.encoder_penalty = encoder_penalty
        self.latent_penalty = latent_penalty
        self.pretrain_steps = pretrain_steps
        self.max_steps = max_steps
        self.pretrain_learning_rate = pretrain_learning_rate
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @classmethod
    def from_paper(cls, experiment: str = "2d", **parameters: Any) -> Self:
        """Make a detector with the paper's settings of an experiment (Table 11, appendix D.3).

        On images the numbers of steps are the paper's passes over its training images, in batches
        of 128, a size that it does not give; nor does it give the latent dimension, searched for,
        which is 32 here, the learning rate of pretraining, and whether there is any for "celeba".
        For "2d" they are our defaults, far too few for the paper's learning rate of 1e-5: raise one
        or the other. Its networks are perceptrons here, ``network="fcres"`` makes them the
        paper's; the weight of the latent vectors' norm is unpublished and 0.

        Parameters
        ----------
        experiment : {"2d", "mnist", "cifar10", "celeba"}, default="2d"
            Which of the paper's experiments; all but the first are on images (Table 10).
        **parameters
            Parameters that replace the paper's.

        Returns
        -------
        detector : NAE
            Not fitted.

        Raises
        ------
        ValueError
            If the paper has no such experiment.
        """
        if experiment not in _PAPER:
            raise ValueError(
                f"experiment={experiment!r} is none of the paper's: {', '.join(_PAPER)}."
            )
        return cls(**{**_PAPER_COMMON, **_PAPER[experiment], **parameters})

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> NormalizedModule:
        self._check_combinations()
        networks = networks_of(self, n_features)
        latent_dim = self.latent_dim or networks.latent_dim
        net = networks.autoencoder(latent_dim, self.latent_space)
        module = NormalizedModule(
            ReconstructionEnergy(net, make_distance(self.distance, networks.shape)),
            n_features,
            latent_dim,
            self.temperature,
            self.sampling,
            self.replay_size,
            self.replay_ratio,
            pixels=self.image_shape is not None,
        )
        self._chains(module)  # refuses what cannot go together before anything is trained
        return module

    def _check_combinations(self) -> None:
        """Raise ValueError for values that are possible alone but not together."""
        check_sizes("hidden_sizes", self.hidden_sizes)
        check_bounds(self.bounds)
        if self.latent_penalty and self.latent_space == "sphere":
            raise ValueError(
                f"latent_penalty={self.latent_penalty} draws latent vectors to the origin, but on "
                "latent_space='sphere' all have the length 1. Set it to 0 or choose 'euclidean'."
            )

    def _before_training(
        self, module: NormalizedModule, rows: Tensor, labels: Tensor | None
    ) -> None:
        module.set_range(rows)
        module.set_tempering(self._chains(module)[1])

    def _stages(self, module: NormalizedModule) -> list[Stage]:
        net, cosine = module.base.net, self.schedule == "cosine"

        def groups() -> list[dict[str, Any]]:
            return with_penalty(net.encoder, [net.decoder], self.encoder_penalty)

        trained = groups()
        if self.train_temperature:
            rate = self.temperature_learning_rate or _TEMPERATURE_RATE
            trained.append({"params": [module.log_temperature], "lr": rate})
        return [
            Stage(
                "pretrain",
                self._pretrain_objective,
                {"main": adam(groups(), self.pretrain_learning_rate)},
                self.pretrain_steps,
                cosine,
                is_steady=self._is_steady,
            ),
            Stage(
                "energy",
                self._energy_objective,
                {"main": adam(trained, self.learning_rate)},
                self.max_steps,
                cosine,
                energy_limit=self._energy_limit(module),
                is_steady=self._is_steady_when_full,
            ),
        ]

    def _energy_limit(self, module: NormalizedModule) -> float:
        """Level of the negatives' mean energy that means divergence.

        A row of exp(-E / T) may well have an energy of T / 2 for every column.
        """
        temperature = self.temperature * float(module.tempering)
        return max(module.energy_limit(), 5 * temperature * len(module.low))

    # ---- training -------------------------------------------------------------------------

    def _pretrain_objective(self, module: NormalizedModule, x: Tensor) -> dict[str, Tensor]:
        """Train as an ordinary autoencoder (section 6.1)."""
        error = module.base.energy(x).mean()
        return {"loss": error + self._latent_term(module, x), "energy": error}

    def _energy_objective(self, module: NormalizedModule, x: Tensor) -> dict[str, Tensor]:
        negatives = module.negatives(x, *self._chains(module))
        parts = contrastive_loss(module.base, x, negatives, penalty=self.energy_penalty)
        parts["loss"] = parts["loss"] + self._latent_term(module, x)
        if self.train_temperature:
            parts["temperature"] = module.temperature
            # The likelihood's gradient for T and nothing else: the value is 0.
            gap = (parts["energy"] - parts["negative_energy"]).detach() / module.temperature
            parts["loss"] = parts["loss"] + gap - gap.detach()
        return parts

    def _latent_term(self, module: NormalizedModule, x: Tensor) -> Tensor | float:
        """Mean squared length of the rows' latent vectors, weighted."""
        if not self.latent_penalty:
            return 0.0
        return self.latent_penalty * module.base.net.encode(x).square().sum(dim=1).mean()

    def _chains(self, module: NormalizedModule) -> tuple[Langevin, Langevin]:
        """Latent and visible chain of training."""
        noise = visible_noise_of(self)
        step = self.visible_step_size
        if isinstance(step, str):
            exact = self.metropolis or self.train_temperature
            per_temperature = _RELATIVE_STEP / 2 * len(module.low)
            if self.image_shape is not None:
                per_temperature = PIXEL_STEP
            step = noise**2 / 2 if exact else per_temperature * self.temperature
        latent = Langevin(
            self.latent_steps,
            self.latent_step_size,
            self.latent_noise,
            sphere=module.base.net.spherical,
        )
        visible = Langevin(
            self.visible_steps,
            step,
            noise,
            bounds=module.bounds(self.bounds),
            clip=self.visible_clip,
            anneal=self.anneal,
            metropolis=self.metropolis,
        )
        return latent, visible

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
        if latent_steps is None:
            latent_steps = _SAMPLING_FACTOR * self.latent_steps
        if visible_steps is None:
            visible_steps = self.visible_steps
        check_scalar(latent_steps, "latent_steps", Integral, min_val=0)
        check_scalar(visible_steps, "visible_steps", Integral, min_val=0)

        def draw(n: int) -> Tensor:
            module = self.module_
            latent, visible = self._chains(module)
            z = module.on_manifold(module.prior(n), replace(latent, n_steps=latent_steps))
            start = module.base.net.decode(z)
            return module.visible_chain(start, replace(visible, n_steps=visible_steps))

        return draw_rows(self, n_samples, random_state, draw)
