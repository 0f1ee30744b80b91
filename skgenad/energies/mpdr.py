"""MPDR: manifold projection-diffusion recovery (Yoon, Jin, Noh and Park, NeurIPS 2023).

An energy E is trained by maximising the recovery likelihood of data that was perturbed along an
autoencoder's manifold (f_e, f_d):

    z = f_e(x),   z~ = z + sigma eps,   x~ = f_d(z~)                                        (eq. 5)
    E~(x | z~) = E(x) + gamma / (2 sigma^2) |z~ - f_e(x)|^2                                 (eq. 7)
    loss = E(x) - E(x-) + penalty * (E(x-)^2 [+ E(x)^2]),   x- ~ exp(-E~)                   (eq. 8)

Negatives x- come from a short latent chain on E~(f_d(z) | z~), which starts at z~, and then a
visible chain on E~(x | z~), which starts at the latent chain's end (section 3.3).

What this file adds to the paper: z~ is put back on the sphere; the visible step may be relative to
the number of columns (the paper's 10 is unstable when there are few, since E is a mean over them);
the visible chain may be kept within the range of the training data; the score may count the
manifold's own reconstruction error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval, StrOptions, check_bounds, check_pair, check_sizes
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.networks import IMAGE_CONSTRAINTS, networks_of
from skgenad._core.optimizers import adam, with_penalty
from skgenad._core.sampling import draw_rows
from skgenad._tensors.augmentation import AUGMENTATIONS, augmented, check_augmentation
from skgenad._tensors.distances import DISTANCES
from skgenad._tensors.maps import ACTIVATIONS, identity_manifold
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad._tensors.seeds import seeded

from ._detector import EnergyBasedDetector
from ._energies import build_energy, check_energy, contrastive_loss, energy_and_grad
from ._langevin import Langevin
from ._negatives import PIXEL_STEP, visible_noise_of
from ._recovery import RecoveryModule

# A step of s * D / 2 on a mean over D columns moves a residual by the share s of itself.
_RELATIVE_STEP = 0.2
# Rows drawn on the manifold for `on_manifold_score`, at least.
_MANIFOLD_ROWS = 1000

_PAPER_COMMON: dict[str, Any] = {
    "noise_range": (0.05, 0.3),
    "latent_gamma": 1e-4,
    "visible_step_size": 10.0,
    "score_type": "energy",
    "manifold_learning_rate": 1e-4,
    "learning_rate": 1e-4,
    "schedule": "constant",
}
_PAPER: dict[str, dict[str, Any]] = {
    "adbench": {
        "hidden_sizes": (1024, 1024),
        "latent_steps": 1,
        "latent_step_size": 0.1,
        "latent_noise": 0.05,
        "visible_steps": 5,
        "visible_noise": 0.1,
        "visible_gamma": 1e-4,
        "bounds": None,
        "energy_init": "pretrain",
        "standardize": False,
    },
    "mnist": {
        "image_shape": (1, 28, 28),
        "network": "conv28",
        "manifold_dims": 32,
        "latent_dim": 32,
        "latent_steps": 5,
        "latent_step_size": 0.1,
        "latent_noise": 0.02,
        "visible_steps": 5,
        "visible_noise": 0.005,
        "encoder_penalty": 1e-4,
        "energy_init": "manifold",
        "learn_scale": True,
        # 30 and 50 passes over 54,000 images
        "manifold_steps": 12_660,
        "max_steps": 21_100,
        "learning_rate": 1e-5,
    },
    "cifar10": {
        "image_shape": (3, 32, 32),
        "network": "cifar1",
        "energy_network": "conv32big",
        "manifold_dims": (32, 64, 128),
        "latent_dim": 128,
        "latent_steps": 10,
        "latent_step_size": 0.1,
        "latent_noise": 0.01,
        "visible_steps": 20,
        "visible_noise": 0.005,
        "encoder_penalty": 1e-5,
        "energy_init": "pretrain",
        "replay_size": 10_000,
        "augmentation": ("flip", "crop", "jitter", "grey"),
        # 40 passes over 50,000 images, twice
        "manifold_steps": 15_640,
        "pretrain_steps": 15_640,
    },
}
# What is another for the scalar energy, and for all but the reconstruction error.
_PAPER_OTHER: dict[str, dict[str, Any]] = {
    "adbench": {},
    "mnist": {
        "latent_steps": 2,
        "latent_step_size": 0.05,
        "energy_init": "random",
        "learn_scale": False,
        "learning_rate": 1e-4,
    },
    "cifar10": {"energy_init": "random"},
}


class MPDR(AnomalyMapMixin, EnergyBasedDetector):
    """Detect anomalies by an energy trained to recover data perturbed along a manifold.

    First an autoencoder, the manifold, is trained on the rows. Then rows are moved along it, short
    Langevin chains turn them into negatives (rows that the energy takes for likely), and the
    energy is lowered at data and raised at negatives. Trained so, a reconstruction error no longer
    overlooks the anomalies that an autoencoder happens to reconstruct.

    Parameters
    ----------
    energy : {"reconstruction", "scalar", "masked"} or callable, default="reconstruction"
        The energy E that is trained:

        - "reconstruction" (MPDR-R): mean squared reconstruction error of an autoencoder;
        - "scalar" (MPDR-S): a network with one output and spectral normalisation; less
          dependable on tables, where a short training can even rank upside down;
        - "masked" (MPDR-IDNN): mean squared error of the middle fifth of the columns, predicted
          from the others by a perceptron; it needs at least 2 columns;
        - a callable that maps the number of columns to an ``nn.Module`` with
          ``energy(x) -> (n,)``.
    manifold : {"autoencoder", "identity"}, default="autoencoder"
        "identity" perturbs rows by Gaussian noise in the input space: diffusion recovery
        likelihood (DRL), MPDR's special case. DRL proper is ``visible_gamma=1, latent_steps=0``
        with a visible step well below sigma^2, such as ``noise_range=(0.5, 0.5),
        visible_step_size=0.1, visible_noise=0.4``.
    manifold_dims : int or tuple of int, default=None
        Latent dimension of the manifold, or of each manifold of an ensemble, among which every
        batch is split evenly. None: one with the number of columns up to 100 columns, 70 % of it
        beyond, at least 2; 32 for images.
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images; None for tables. Images come as arrays
        (n, C, H, W) or as the flat rows of ``images.reshape(n, -1)``, with pixels in [0, 1] or of
        type uint8, which is divided by 255.
    network : str or object, default="mlp"
        Encoders and decoders of manifolds, and of the energy unless `energy_network`
        says otherwise: "mlp", perceptrons; "fcres"; for images "conv", "conv28",
        "conv32", "conv32big", "conv64" or "cifar1"; or an object with
        ``make_encoder(shape, latent_dim)`` and ``make_decoder(latent_dim, shape)``. The guide to
        images says what they are.
    network_width : float, default=1.0
        Factor on the numbers of channels of the named architectures, all but "mlp".
    energy_network : str or object, default=None
        What `network` is, for the energy alone; None is `network`.
    hidden_sizes : tuple of int, default=(128, 128)
        Widths of the hidden layers of perceptrons: encoders (decoders mirror them) and energy.
    latent_dim : int, default=None
        Latent dimension of the reconstruction energy; None as in `manifold_dims`.
    latent_space : {"sphere", "euclidean"}, default="sphere"
        Latent space of the manifolds.
    activation : {"relu", "leaky_relu", "tanh", "sigmoid", "silu"}, default="leaky_relu"
        Activation of the hidden layers of perceptrons.
    distance : {"l2", "l1", "ssim"}, default="l2"
        What error the reconstruction energy is: the mean over columns of squared or of absolute
        differences or, for images of at least 11 x 11 pixels, one minus their structural similarity
        (SSIM). Manifolds are trained on squared differences.
    learn_scale : bool, default=False
        Whether the reconstruction energy has a positive factor that is trained with it.
    noise_range : (float, float), default=(0.05, 0.3)
        Interval from which each row's latent noise magnitude sigma is drawn uniformly; > 0.
    latent_steps : int, default=1
        Steps of the latent chain.
    latent_step_size : float, default=0.1
        Factor on its gradient.
    latent_noise : float, default=0.05
        Standard deviation of its noise.
    latent_normalize : bool, default=False
        Whether its gradient is divided by its norm, row by row.
    latent_gamma : float, default=1e-4
        Factor gamma on the log-probability of the perturbation in its energy.
    visible_steps : int, default=5
        Steps of the visible chain.
    visible_step_size : float or "auto", default="auto"
        Factor on its gradient; "auto" is 0.1 times the number of columns over which the energy is
        a mean (of the masked block for "masked", of the table for the others), and 10 for images.
    visible_noise : float or "auto", default="auto"
        Standard deviation of its noise, in standardised units; "auto" is 0.3 for tables and 0.005
        for images.
    visible_gamma : float, default=0.0
        Factor gamma on the log-probability of the perturbation in its energy. The paper has 1e-4 on
        tables and 0 on images; 0 saves the encoder's part of every step.
    bounds : "data", (float, float) or None, default="data"
        What the visible chain is clamped to: the range of each training column widened by 1 on
        either side, for images [0, 1], two numbers, or nothing; in the units of training (a
        column's standard deviation, or those of X with ``standardize=False``).
    metropolis : bool, default=False
        Whether the visible chain accepts or rejects its steps by Metropolis-Hastings. It then
        rejects what lies beyond the bounds instead of clamping it, and needs
        ``visible_noise > 0``.
    energy_penalty : float, default=1.0
        Weight of the mean of E(x-)^2, and with ``energy="scalar"`` of E(x)^2 as well.
    encoder_penalty : float, default=0.0
        Weight of the sum of the squared weights of the manifolds' encoders in their loss; the
        losses of `history_` are without it.
    row_noise : float, default=0.0
        Standard deviation of Gaussian noise added to the rows of each batch in every stage (the
        paper has 0.01 on normalised representation vectors).
    replay_size : int, default=0
        Rows that the replay buffer of visible chains keeps for each manifold; 0 is no buffer.
    replay_ratio : float, default=0.95
        Share, in [0, 1], of visible chains that start from the buffer when there is one.
    augmentation : str, tuple of str or callable, default=None
        How images are changed half-way through the visible chain, in this order: "flip" (mirrored,
        with a probability of 1/2), "shift" (moved by up to a tenth of its height and width),
        "crop" (8 to 100 % of the image enlarged), "jitter" (brightness, contrast, saturation and
        hue) and "grey", each of these three with a probability of 1/5; or a callable of tensors
        (n, C, H, W), which keeps their shape. It needs ``visible_gamma=0``.
    energy_init : {"auto", "manifold", "pretrain", "random"}, default="auto"
        Where the energy starts: a copy of the first manifold (reconstruction energy only);
        trained to reconstruct (or to predict the masked block) for `pretrain_steps`; or random
        weights. "auto" copies where it can and pretrains otherwise. Scalar and custom energies
        always start as they are made.
    score_type : {"auto", "combined", "energy"}, default="auto"
        What is scored: "energy" is E; "combined" is a weighted mean of log E and the log of the
        manifolds' reconstruction error, a hedge for data on which one of them fails; "auto" is
        "combined" for the reconstruction energy on autoencoder manifolds of tables and "energy"
        otherwise.
    manifold_weight : float, default=1/3
        Weight, in [0, 1], of the manifolds' log error in the combined score; log E has the rest.
    manifold_steps : int, default=700
        Gradient steps for the manifolds.
    pretrain_steps : int, default=400
        Gradient steps for pretraining the energy.
    max_steps : int, default=400
        Gradient steps for the energy.
    manifold_learning_rate : float, default=1e-3
        Adam's learning rate for manifolds and pretraining.
    learning_rate : float, default=1e-3
        Adam's learning rate for the energy.
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
        Whether `fit` on a fitted detector continues training its energy, on the manifolds and in
        the units of its first fit.
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
    history_ : DataFrame
        A row per epoch of 50 steps: stage, epoch, step, loss, mean energy of data and of
        negatives, seconds.
    negatives_ : ndarray of shape (n_negatives, n_features)
        Negatives of the last steps of training, at most 1000, in the units of X; none in a
        detector that :meth:`load` read.
    module_ : nn.Module
        Energy and manifolds, with ``energy(x)`` in standardised units.
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

    Notes
    -----
    ``score_samples`` is -E, in squared standardised units for the reconstruction and masked
    energies, or minus the weighted mean of the two logarithms with the combined score. Constant
    factors depend on training, so scores of two detectors are not comparable.

    The defaults are for tables; :meth:`from_paper` has the settings of the paper's experiments on
    ADBench, MNIST and CIFAR-10.

    References
    ----------
    Yoon, Jin, Noh and Park, "Energy-based models for anomaly detection: a manifold diffusion
    recovery approach", NeurIPS 2023. https://arxiv.org/abs/2310.18677

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import MPDR
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = MPDR(manifold_steps=50, pretrain_steps=50, max_steps=50, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "energy": [StrOptions({"reconstruction", "scalar", "masked"}), callable],
        "manifold": [StrOptions({"autoencoder", "identity"})],
        "manifold_dims": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "hidden_sizes": [tuple, list],
        "energy_network": [*IMAGE_CONSTRAINTS["network"], None],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "latent_space": [StrOptions({"sphere", "euclidean"})],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "distance": [StrOptions(set(DISTANCES))],
        "learn_scale": ["boolean"],
        "noise_range": [tuple, list],
        "latent_steps": [Interval(Integral, 0, None, closed="left")],
        "latent_step_size": [Interval(Real, 0, None, closed="left")],
        "latent_noise": [Interval(Real, 0, None, closed="left")],
        "latent_normalize": ["boolean"],
        "latent_gamma": [Interval(Real, 0, None, closed="left")],
        "visible_steps": [Interval(Integral, 0, None, closed="left")],
        "visible_step_size": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "visible_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "visible_gamma": [Interval(Real, 0, None, closed="left")],
        "bounds": [StrOptions({"data"}), tuple, list, None],
        "metropolis": ["boolean"],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "row_noise": [Interval(Real, 0, None, closed="left")],
        "encoder_penalty": [Interval(Real, 0, None, closed="left")],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "replay_ratio": [Interval(Real, 0, 1, closed="both")],
        "augmentation": [StrOptions(set(AUGMENTATIONS)), tuple, list, callable, None],
        "energy_init": [StrOptions({"auto", "manifold", "pretrain", "random"})],
        "score_type": [StrOptions({"auto", "combined", "energy"})],
        "manifold_weight": [Interval(Real, 0, 1, closed="both")],
        "manifold_steps": [Interval(Integral, 1, None, closed="left")],
        "pretrain_steps": [Interval(Integral, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "manifold_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"cosine", "constant"})],
    }

    def __init__(
        self,
        *,
        energy: str | Callable[[int], nn.Module] = "reconstruction",
        manifold: str = "autoencoder",
        manifold_dims: int | tuple[int, ...] | None = None,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = "mlp",
        network_width: float = 1.0,
        energy_network: Any = None,
        hidden_sizes: tuple[int, ...] = (128, 128),
        latent_dim: int | None = None,
        latent_space: str = "sphere",
        activation: str = "leaky_relu",
        distance: str = "l2",
        learn_scale: bool = False,
        noise_range: tuple[float, float] = (0.05, 0.3),
        latent_steps: int = 1,
        latent_step_size: float = 0.1,
        latent_noise: float = 0.05,
        latent_normalize: bool = False,
        latent_gamma: float = 1e-4,
        visible_steps: int = 5,
        visible_step_size: float | str = "auto",
        visible_noise: float | str = "auto",
        visible_gamma: float = 0.0,
        bounds: str | tuple[float, float] | None = "data",
        metropolis: bool = False,
        energy_penalty: float = 1.0,
        encoder_penalty: float = 0.0,
        row_noise: float = 0.0,
        replay_size: int = 0,
        replay_ratio: float = 0.95,
        augmentation: Any = None,
        energy_init: str = "auto",
        score_type: str = "auto",
        manifold_weight: float = 1 / 3,
        manifold_steps: int = 700,
        pretrain_steps: int = 400,
        max_steps: int = 400,
        manifold_learning_rate: float = 1e-3,
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
        self.energy = energy
        self.manifold = manifold
        self.manifold_dims = manifold_dims
        self.image_shape = image_shape
        self.network = network
        self.network_width = network_width
        self.energy_network = energy_network
        self.hidden_sizes = hidden_sizes
        self.latent_dim = latent_dim
        self.latent_space = latent_space
        self.activation = activation
        self.distance = distance
        self.learn_scale = learn_scale
        self.noise_range = noise_range
        self.latent_steps = latent_steps
        self.latent_step_size = latent_step_size
        self.latent_noise = latent_noise
        self.latent_normalize = latent_normalize
        self.latent_gamma = latent_gamma
        self.visible_steps = visible_steps
        self.visible_step_size = visible_step_size
        self.visible_noise = visible_noise
        self.visible_gamma = visible_gamma
        self.bounds = bounds
        self.metropolis = metropolis
        self.energy_penalty = energy_penalty
        self.row_noise = row_noise
        self.encoder_penalty = encoder_penalty
        self.replay_size = replay_size
        self.replay_ratio = replay_ratio
        self.augmentation = augmentation
        self.energy_init = energy_init
        self.score_type = score_type
        self.manifold_weight = manifold_weight
        self.manifold_steps = manifold_steps
        self.pretrain_steps = pretrain_steps
        self.max_steps = max_steps
        self.manifold_learning_rate = manifold_learning_rate
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
    def from_paper(cls, experiment: str = "adbench", **parameters: Any) -> Self:
        """Make a detector with the paper's settings of an experiment (Tables 7 and 8, appendix B).

        What the paper does not give is ours: for "adbench" the numbers of steps and the batch size;
        for "cifar10" the steps and the learning rate of the energy, its latent dimension, the size
        of the replay buffer and the place of the augmentation, half-way through the visible chain.
        It also changes the images that its manifolds are trained on, which ours do not.

        Parameters
        ----------
        experiment : {"adbench", "mnist", "cifar10"}, default="adbench"
            Which of the paper's experiments. Rows of "adbench" should lie in [0, 1], as the
            experiment's do; the others are on images. With ``energy="scalar"``, or one's own, the
            settings on images are those of MPDR-S.
        **parameters
            Parameters that replace the paper's.

        Returns
        -------
        detector : MPDR
            Not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of these.
        """
        if experiment not in _PAPER:
            raise ValueError(
                f"experiment={experiment!r} is none of those here: {', '.join(_PAPER)}."
            )
        settings = {**_PAPER_COMMON, **_PAPER[experiment]}
        if parameters.get("energy", "reconstruction") != "reconstruction":
            settings |= _PAPER_OTHER[experiment]
        return cls(**{**settings, **parameters})

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> RecoveryModule:
        self._check_combinations(n_features)
        dims = self._latent_dims(n_features)
        if self.manifold == "identity":
            manifolds = [identity_manifold()]
        else:
            networks = networks_of(self, n_features)
            manifolds = [networks.autoencoder(d, self.latent_space) for d in dims]
        base = self._make_energy(n_features)
        combined = self.score_type == "combined" or (
            self.score_type == "auto"
            and self.energy == "reconstruction"
            and self.manifold == "autoencoder"
            and self.image_shape is None
        )
        check_energy(base, n_features)
        weight = self.manifold_weight if combined else None
        module = RecoveryModule(
            base,
            manifolds,
            n_features,
            dims,
            self.replay_size,
            self.replay_ratio,
            weight,
            pixels=self.image_shape is not None,
        )
        self._chains(module)  # refuses what cannot go together before anything is trained
        return module

    def _make_energy(self, n_features: int) -> nn.Module:
        if callable(self.energy):
            return self.energy(n_features)
        networks = networks_of(self, n_features, self.energy_network)
        latent_dim = self.latent_dim or networks.latent_dim
        return build_energy(self.energy, networks, latent_dim, self.distance, self.learn_scale)

    def _latent_dims(self, n_features: int) -> tuple[int, ...]:
        if self.manifold == "identity":
            return (n_features,)
        dims = self.manifold_dims
        if dims is None:
            return (networks_of(self, n_features).latent_dim,)
        return tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)

    def _check_combinations(self, n_features: int) -> None:
        """Raise ValueError for values that are possible alone but not here or not together."""
        check_sizes("hidden_sizes", self.hidden_sizes)
        dims = self._latent_dims(n_features)
        check_sizes("manifold_dims", dims, least=1)
        if self.manifold == "identity" and self.manifold_dims is not None:
            raise ValueError(
                f"manifold='identity' has the data's dimension; got manifold_dims="
                f"{self.manifold_dims!r}. Leave it None."
            )
        if self.batch_size < len(dims):
            raise ValueError(
                f"batch_size={self.batch_size} leaves some of the {len(dims)} manifolds without a "
                "row; it must be at least their number."
            )
        low, high = check_pair("noise_range", self.noise_range)
        if not 0 < low <= high < np.inf:
            raise ValueError(f"noise_range={self.noise_range!r} must be finite and above 0.")
        check_bounds(self.bounds)
        check_augmentation(self.augmentation, self.image_shape)
        if self.augmentation is not None and self.visible_gamma > 0:
            raise ValueError(
                f"augmentation={self.augmentation!r} moves rows away from what they were perturbed "
                f"to; with visible_gamma={self.visible_gamma} they would be drawn back. Set "
                "visible_gamma=0."
            )
        self._check_energy_parameters()
        if self.energy == "masked" and n_features < 2:
            raise ValueError(
                "energy='masked' predicts columns from other columns; got 1 feature(s), needs 2."
            )
        if self.energy_init == "manifold" and not self._can_copy(n_features):
            raise ValueError(
                "energy_init='manifold' copies the first manifold's weights: it needs "
                "energy='reconstruction', manifold='autoencoder', a spherical latent space and the "
                "same network and the same latent dimension for both."
            )
        if self.score_type == "combined" and (
            self.manifold == "identity" or self.energy not in ("reconstruction", "masked")
        ):
            raise ValueError(
                f"score_type='combined' takes logarithms of an error energy and of a manifold's "
                f"error; got energy={self.energy!r}, manifold={self.manifold!r}. Use "
                "score_type='energy'."
            )

    def _check_energy_parameters(self) -> None:
        """Raise ValueError for parameters of another energy than the one that is trained."""
        if self.energy != "reconstruction" and (self.distance != "l2" or self.learn_scale):
            raise ValueError(
                f"distance={self.distance!r} and learn_scale={self.learn_scale} are those of "
                f"energy='reconstruction'; got energy={self.energy!r}. Leave them 'l2' and False."
            )
        kind = self.network if self.energy_network is None else self.energy_network
        if self.energy == "masked" and not (isinstance(kind, str) and kind == "mlp"):
            raise ValueError(
                "energy='masked' is a perceptron on columns; set energy_network='mlp', or another "
                "energy."
            )

    def _can_copy(self, n_features: int) -> bool:
        """Whether the energy is a network of the first manifold's shape."""
        return (
            self.energy == "reconstruction"
            and self.manifold == "autoencoder"
            and self.latent_space == "sphere"
            and self.energy_network in (None, self.network)
            and self._latent_dims(n_features)[0]
            == (self.latent_dim or networks_of(self, n_features).latent_dim)
        )

    def _before_training(self, module: RecoveryModule, rows: Tensor, labels: Tensor | None) -> None:
        module.set_range(rows)

    # ---- stages ---------------------------------------------------------------------------

    def _stages(self, module: RecoveryModule) -> list[Stage]:
        self._check_combinations(len(module.low))
        cosine = self.schedule == "cosine"
        stages = []
        if self.manifold == "autoencoder":
            groups = [
                group
                for net in module.manifolds
                for group in with_penalty(net.encoder, [net.decoder], self.encoder_penalty)
            ]
            optimizers = {"main": adam(groups, self.manifold_learning_rate)}
            stages.append(
                Stage(
                    "manifold",
                    self._manifold_objective,
                    optimizers,
                    self.manifold_steps,
                    cosine,
                    is_steady=self._is_steady,
                )
            )
        init = self.energy_init
        if init == "auto":
            init = "manifold" if self._can_copy(len(module.low)) else "pretrain"
        if init == "pretrain" and self.energy in ("reconstruction", "masked"):
            optimizers = {"main": adam(module.base.parameters(), self.manifold_learning_rate)}
            stages.append(
                Stage(
                    "pretrain",
                    self._pretrain_objective,
                    optimizers,
                    self.pretrain_steps,
                    cosine,
                    is_steady=self._is_steady,
                )
            )
        stages.append(
            Stage(
                "energy",
                self._energy_objective,
                {"main": adam(module.base.parameters(), self.learning_rate)},
                self.max_steps,
                cosine,
                # A named energy is of the order of the data's mean square, where the penalty
                # parks it; a custom one has a scale of its own.
                energy_limit=np.inf if callable(self.energy) else module.energy_limit(),
                before=_copy_manifold if init == "manifold" else None,
                is_steady=self._is_steady_when_full,
            )
        )
        return stages

    def _manifold_objective(self, module: RecoveryModule, x: Tensor) -> dict[str, Tensor]:
        """Sum the reconstruction errors of the manifolds; each net sees its own only."""
        x = _noisy(x, self.row_noise)
        errors = [(x - net(x)).square().mean() for net in module.manifolds]
        return {"loss": torch.stack(errors).sum()}

    def _pretrain_objective(self, module: RecoveryModule, x: Tensor) -> dict[str, Tensor]:
        """Train the energy as an ordinary reconstruction or prediction error."""
        return {"loss": module.base.energy(_noisy(x, self.row_noise)).mean()}

    def _energy_objective(self, module: RecoveryModule, x: Tensor) -> dict[str, Tensor]:
        x = _noisy(x, self.row_noise)
        negatives = module.negatives(x, self.noise_range, *self._chains(module), self._change())
        return contrastive_loss(
            module.base,
            x,
            negatives,
            penalty=self.energy_penalty,
            penalize_data=self.energy == "scalar",
        )

    def _change(self) -> Callable[[Tensor], Tensor] | None:
        """Return what changes rows half-way through the visible chain."""
        if self.augmentation is None or self.image_shape is None:
            return None
        return partial(augmented, augmentation=self.augmentation, image_shape=self.image_shape)

    def _chains(
        self, module: RecoveryModule, n_steps: int | None = None
    ) -> tuple[tuple[Langevin, float], tuple[Langevin, float]]:
        """Latent and visible chain, each with its gamma; `n_steps` replaces both lengths."""
        step = self.visible_step_size
        if isinstance(step, str):
            tables = self.image_shape is None
            step = _RELATIVE_STEP / 2 * module.n_averaged if tables else PIXEL_STEP
        latent = Langevin(
            self.latent_steps if n_steps is None else n_steps,
            self.latent_step_size,
            self.latent_noise,
            sphere=module.manifolds[0].spherical,
            normalize=self.latent_normalize,
        )
        visible = Langevin(
            self.visible_steps if n_steps is None else n_steps,
            step,
            visible_noise_of(self),
            bounds=module.bounds(self.bounds),
            metropolis=self.metropolis,
        )
        return (latent, self.latent_gamma), (visible, self.visible_gamma)

    def _check_reconstruction(self) -> bool:
        energy = getattr(self, "_fitted_parameters", vars(self))["energy"]
        if energy != "reconstruction":
            raise AttributeError(
                f"MPDR with energy={energy!r} has no reconstruction; energy='reconstruction' has."
            )
        return True

    # ---- what a trained energy offers -----------------------------------------------------

    def sample(
        self,
        n_samples: int = 1,
        *,
        n_steps: int = 100,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray:
        """Draw rows from the energy by a latent and a visible chain from all over the manifold.

        Both chains have the step sizes and noises of training and no perturbation term. They
        are as exact as `n_steps` and the step sizes allow.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows, divided evenly among the manifolds.
        n_steps : int, default=100
            Steps of either chain.
        random_state : int, RandomState or None, default=None
            Seed.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows in the units of X; of images flat rows in [0, 1].
        """
        check_scalar(n_steps, "n_steps", Integral, min_val=0)

        def draw(n: int) -> Tensor:
            module = self.module_
            (latent, _), (visible, _) = self._chains(module, n_steps)
            shares = torch.arange(n).tensor_split(len(module.manifolds))
            starts = [module.pulled_back_chain(k, latent, len(s)) for k, s in enumerate(shares)]
            return visible.run(lambda x: energy_and_grad(module.base, x), torch.cat(starts)).x

        return draw_rows(self, n_samples, random_state, draw)

    def on_manifold_score(self, X: ArrayLike, y: None = None) -> float:
        """AUROC of the energy between rows and random points of the manifold (appendix C).

        Label-free: 1 means that every row has a lower energy than every point drawn uniformly on
        the manifold. Values far below 0.5 are common where the manifold keeps to the data; what
        counts is which of two detectors has more. Give it rows that were not trained on; as
        ``scoring=MPDR.on_manifold_score`` it serves `GridSearchCV`.

        It judges E, whatever `score_type` is. It cannot compare detectors whose manifolds differ,
        since the points differ too: with one integer `random_state` they are the same for any
        chain, penalty, `learning_rate` and `max_steps`, and others for other energies, sizes,
        batches, manifold training and seeds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Normal rows.
        y : None
            Ignored; present so that the method is a scorer.

        Returns
        -------
        score : float
            In [0, 1].

        Raises
        ------
        ValueError
            If the manifold has no uniform distribution: it is the identity or Euclidean.
        TypeError
            If it is called, as a scorer, on something that is not an MPDR.
        """
        if not isinstance(self, MPDR):  # called as a scorer, on something else
            raise TypeError(
                f"MPDR.on_manifold_score scores an MPDR, got {type(self).__name__}; for a Pipeline "
                "use scoring=skgenad.metrics.on_manifold_scorer."
            )
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        module = self.module_
        if not module.manifolds[0].spherical:
            raise ValueError(
                "on_manifold_score draws points uniformly on a sphere; it needs "
                f"manifold='autoencoder' and latent_space='sphere', got {self.manifold!r} and "
                f"{self.latent_space!r}."
            )
        share = -(-max(_MANIFOLD_ROWS, len(X)) // len(module.manifolds))
        with seeded(self.seed_, self.device_), torch.inference_mode():
            on_points = [
                module.base.energy(net.decode(z)).cpu()
                for k, net in enumerate(module.manifolds)
                for z in module.uniform_latent(k, share).split(self._chunk_size)
            ]
        energies = np.concatenate([self._energies(X), torch.cat(on_points).numpy()])
        truth = np.arange(len(energies)) >= len(X)
        return float(roc_auc_score(truth, energies))


def _noisy(x: Tensor, scale: float) -> Tensor:
    return x + scale * torch.randn_like(x) if scale else x


def _copy_manifold(module: RecoveryModule, inputs: Tensor) -> None:
    """Start the energy from the first manifold's weights."""
    if isinstance(module.base, ReconstructionEnergy):
        module.base.net.load_state_dict(module.manifolds[0].state_dict())
