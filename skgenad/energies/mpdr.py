"""MPDR: manifold projection-diffusion recovery (Yoon, Jin, Noh and Park, NeurIPS 2023).

An energy E is trained by maximising the recovery likelihood of data that was perturbed along an
autoencoder's manifold (f_e, f_d):

    z = f_e(x),   z~ = z + sigma eps,   x~ = f_d(z~)                                        (eq. 5)
    E~(x | z~) = E(x) + gamma / (2 sigma^2) |z~ - f_e(x)|^2                                 (eq. 7)
    loss = E(x) - E(x-) + penalty * (E(x-)^2 [+ E(x)^2]),   x- ~ exp(-E~)                   (eq. 8)

Negatives x- come from a short latent chain on E~(f_d(z) | z~), which starts at z~, and then a
visible chain on E~(x | z~), which starts at the latent chain's end (section 3.3).

On a sphere z~ is divided by its norm, which the paper leaves out and the authors' code has.

What this file adds to the paper: the visible step may be relative to the number of columns (the
paper's 10 is unstable when there are few, since E is a mean over them); the visible chain may be
kept within the range of the training data; the score may count the manifold's own reconstruction
error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
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
from skgenad._core.checks import Interval, StrOptions, check_pair
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, is_steady
from skgenad._core.optimizers import adam, in_order_with_penalty, with_penalty
from skgenad._core.papers import FromPaper
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.sampling import draw_rows
from skgenad._core.schedules import SCHEDULES
from skgenad._core.searches import refuse
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors.augmentation import AUGMENTATIONS, check_augmentation
from skgenad._tensors.chunks import Rows
from skgenad._tensors.maps import AutoencoderNet, identity_manifold
from skgenad._tensors.networks import Networks
from skgenad._tensors.noise import Noise, noisy
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad._tensors.seeds import seeded
from skgenad._tensors.settings import own_settings
from skgenad._tensors.twins import still
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

from . import _papers
from ._detector import EnergyBasedDetector
from ._energies import MaskedEnergy, ScalarEnergy, check_energy, contrastive_loss
from ._negatives import latent_langevin, step_for_errors, visible_langevin
from ._recovery import RecoveryModule, RecoverySettings
from ._with_network import WithNetwork
from .chains import Chain, Replay, chain_slot, replay_of, replay_slot
from .mpdr_manifold import MANIFOLD_CONSTRAINTS, MANIFOLD_SLOT, Manifold
from .mpdr_parts import (
    ENERGY_CONSTRAINTS,
    ENERGY_SLOT,
    Custom,
    Energy,
    Masked,
    Reconstruction,
    Scalar,
)

# `on_manifold_score` draws at least so many rows on the manifold.
_MANIFOLD_ROWS = 1000
# Errors are at least this, so that their logarithm is finite; float32's rounding of one standard
# unit is far larger.
_TINY = 1e-12


class MPDRModel(RecoveryModule):
    """The energy and its manifolds: what the three stages minimise, and what is scored.

    Parameters
    ----------
    *args, **kwargs
        Those of :class:`~skgenad.energies._recovery.RecoveryModule`, which makes the negatives.
    manifold_share : float, default=None
        Weight of the manifolds' log reconstruction error in what is scored, log E having the rest;
        None: E is scored.
    manifold_noise : float or (float, float), default=0.0
        Noise added to the manifolds' inputs, but not to their targets, in training.
    penalize_data : bool, default=False
        Whether the energies of data are penalised, too; those of a scalar energy always are.
    """

    def __init__(
        self,
        *args: Any,
        manifold_share: float | None = None,
        manifold_noise: Noise = 0.0,
        penalize_data: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.manifold_share = manifold_share
        self.manifold_noise = manifold_noise
        self.penalize_data = penalize_data or isinstance(self.base, ScalarEnergy)
        # Nothing is known of a user's energy, except that it has ``energy(x)``.
        self.is_named = type(self.base) in (ReconstructionEnergy, ScalarEnergy, MaskedEnergy)

    def manifold_loss(self, x: Tensor) -> dict[str, Tensor]:
        """Sum the reconstruction errors of the manifolds; each net sees its own only."""
        x = self._noisy(x)
        inputs = noisy(x, self.manifold_noise)
        errors = [(x - net(inputs)).square().mean() for net in self.manifolds]
        return {"loss": torch.stack(errors).sum()}

    def pretrain_loss(self, x: Tensor) -> dict[str, Tensor]:
        """Mean energy, an ordinary reconstruction or prediction error."""
        return {"loss": self.base.energy(self._noisy(x)).mean()}

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Eq. 8, whose penalty is on the energies of data as well where their level is free."""
        x = self._noisy(x)
        return contrastive_loss(
            self.base,
            x,
            self.negatives(x),
            penalty=self.settings.energy_penalty,
            penalize_data=self.penalize_data,
        )

    def _noisy(self, x: Tensor) -> Tensor:
        return noisy(x, self.settings.input_noise)

    def copy_manifold(self, inputs: Rows) -> None:
        """Start the energy from the first manifold's weights, whatever the inputs are."""
        self.base.net.load_state_dict(self.manifolds[0].state_dict())

    def energy(self, x: Tensor) -> Tensor:
        """Score rows, (n,): E, or a weighted mean of log E and the log manifold error."""
        energy = self.base.energy(x)
        if self.manifold_share is None:
            return energy
        errors = [(x - net(x)).square().mean(dim=1) for net in self.manifolds]
        logs = torch.stack([(error + _TINY).log() for error in errors]).mean(dim=0)
        # Rounding can make a similarity a bit larger than 1, and its error negative.
        energy = energy.clamp_min(0)
        return torch.lerp((energy + _TINY).log(), logs, self.manifold_share)

    def energy_limit(self) -> float:
        """Level of the negatives' mean energy that means divergence.

        An energy of ours is of the order of the data's mean square, where the penalty parks it; one
        of the user's has a scale of its own.
        """
        return super().energy_limit() if self.is_named else np.inf

    @property
    def is_steady(self) -> bool:
        """Whether a step does the same each time: code of the user's may look at values."""
        return self.is_named and not callable(self.settings.augmentation) and super().is_steady

    @property
    def tempering(self) -> Tensor:
        """One: chains that are conditioned on a perturbed row have no limit of their own."""
        return torch.ones(())

    def on_manifold_energies(self, n: int, chunk: int) -> Tensor:
        """Energies of `n` or some more points drawn uniformly on the manifolds, on the CPU."""
        share = -(-n // len(self.manifolds))
        energies = [
            self.base.energy(net.decode(z)).cpu()
            for k, net in enumerate(self.manifolds)
            for z in self.uniform_latent(k, share).split(chunk)
        ]
        return torch.cat(energies)


class MPDR(FromPaper, AnomalyMapMixin, EnergyBasedDetector):
    """Detect anomalies by an energy trained to recover data perturbed along a manifold.

    First an autoencoder, the manifold, is trained on the rows. Then rows are moved along it, short
    Langevin chains turn them into negatives (rows that the energy takes for likely), and the
    energy is lowered at data and raised at negatives. Trained so, a reconstruction error no longer
    overlooks the anomalies that an autoencoder happens to reconstruct.

    Parameters
    ----------
    energy : {"reconstruction", "scalar", "masked"}, object or callable, default="reconstruction"
        The energy E that is trained: "reconstruction" (MPDR-R), "scalar" (MPDR-S) or "masked"
        (MPDR-IDNN), short for :class:`~skgenad.energies.Reconstruction`,
        :class:`~skgenad.energies.Scalar` and :class:`~skgenad.energies.Masked`; or a callable from
        the number of columns to an ``nn.Module`` with ``energy(x) -> (n,)``, or a ``Custom``.
    manifold : {"autoencoder", "identity"} or Manifold, default="autoencoder"
        "autoencoder" is short for :class:`~skgenad.energies.Manifold`. "identity" perturbs rows by
        Gaussian noise in the input space: diffusion recovery likelihood (DRL) of one noise level.
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    network : tuple of int, str or object, default=None
        Encoders and decoders of energy and manifold, unless these have their own: widths of the
        hidden layers of perceptrons; one of the objects of :mod:`skgenad.networks`, its name in
        lower case, such as "conv28", or one like it with ``make_encoder`` and ``make_decoder``.
        None: ``MLP((128, 128), activation="leaky_relu")``.
    noise_range : (float, float), default=(0.05, 0.3)
        Interval from which each row's latent noise magnitude sigma is drawn uniformly; > 0.
    latent_chain : Chain, default=None
        Among latent vectors, without `bounds`. None: ``Chain(1, 0.1, noise=0.05, gamma=1e-4)``.
    visible_chain : Chain, default=None
        The chain among rows. None: ``Chain(5, step_size="auto", noise="auto", gamma=0,
        bounds="data")``; "auto" is 0.1 times the columns of the energy's mean, 10 for images.
    replay : Replay, default=None
        Buffer of visible chains, for each manifold. None: ``Replay(0, ratio=0.95)``, no buffer.
    energy_penalty : float, default=1.0
        Weight of the mean of E(x-)^2, and with ``energy="scalar"`` of E(x)^2 as well.
    input_noise : float, default=0.0
        Standard deviation, in standardised units or those of pixels, of noise added to rows.
    augmentation : str, tuple of str or callable, default=None
        How images are changed half-way through the visible chain, whose `gamma` must be 0: some of
        "flip", "shift", "crop", "jitter", "grey" (guide to images) or a callable of (n, C, H, W).
    score_type : {"auto", "combined", "energy"}, default="auto"
        What is scored: "energy" is E; "combined" is a weighted mean of log E and the log of the
        manifolds' reconstruction error; "auto" is "combined" for the reconstruction energy on
        autoencoder manifolds of tables and "energy" otherwise.
    manifold_share : float, default=1/3
        Weight, in [0, 1], of the manifolds' log error in the combined score; log E has the rest.
    max_steps : int, default=400
        Number of gradient steps for the energy; `manifold` and `energy` have those before.
    learning_rate : float, default=1e-3
        Adam's learning rate for the energy.
    schedule : {"cosine", "constant"}, default="cosine"
        Whether learning rates fall to 0 as half a cosine in each stage.
    batch_size : int, default=128
        Rows in a gradient step.
    stopping : EarlyStopping, default=None
        When stages but that of the energy end early, by rows held out; None: never.
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
    history_ : DataFrame
        A row per 50 steps: stage, epoch, step, loss, mean energies of data and negatives, seconds.
    negatives_ : ndarray of shape (n_negatives, n_features)
        The latest negatives of training, at most 1000, in the units of X; none after :meth:`load`.
    module_ : nn.Module
        Energy and manifolds, with ``energy(x)`` in standardised units.
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
    ``score_samples`` is -E, in squared standardised units for reconstruction and masked energies,
    or minus the weighted mean of both logarithms with the combined score. Constant factors depend
    on training, so scores of two detectors are not comparable.

    References
    ----------
    Yoon, Jin, Noh and Park, "Energy-based models for anomaly detection: a manifold diffusion
    recovery approach", NeurIPS 2023. https://arxiv.org/abs/2310.18677

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import MPDR
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = MPDR(max_steps=50, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = _papers.MPDR
    _parts: ClassVar[dict[str, Slot]] = {
        "energy": ENERGY_SLOT,
        "manifold": MANIFOLD_SLOT,
        "network": network_slot(),
        "latent_chain": chain_slot(
            Chain(1, step_size=0.1, noise=0.05, gamma=1e-4), without=("bounds",)
        ),
        "visible_chain": chain_slot(
            Chain(5, step_size="auto", noise="auto", gamma=0.0, bounds="data")
        ),
        "replay": replay_slot(0),
    }
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "energy": ENERGY_CONSTRAINTS,
        "manifold": MANIFOLD_CONSTRAINTS,
        "noise_range": [tuple, list],
        "latent_chain": [Chain, None],
        "visible_chain": [Chain, None],
        "replay": [Replay, None],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "input_noise": [Interval(Real, 0, None, closed="left")],
        "augmentation": [StrOptions(set(AUGMENTATIONS)), tuple, list, callable, None],
        "score_type": [StrOptions({"auto", "combined", "energy"})],
        "manifold_share": [Interval(Real, 0, 1, closed="both")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions(set(SCHEDULES))],
    }

    def __init__(
        self,
        *,
        energy: Any = "reconstruction",
        manifold: str | Manifold = "autoencoder",
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        noise_range: tuple[float, float] = (0.05, 0.3),
        latent_chain: Chain | None = None,
        visible_chain: Chain | None = None,
        replay: Replay | None = None,
        energy_penalty: float = 1.0,
        input_noise: float = 0.0,
        augmentation: Any = None,
        score_type: str = "auto",
        manifold_share: float = 1 / 3,
        max_steps: int = 400,
        learning_rate: float = 1e-3,
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
        self.energy = energy
        self.manifold = manifold
        self.image_shape = image_shape
        self.network = network
        self.noise_range = noise_range
        self.latent_chain = latent_chain
        self.visible_chain = visible_chain
        self.replay = replay
        self.energy_penalty = energy_penalty
        self.input_noise = input_noise
        self.augmentation = augmentation
        self.score_type = score_type
        self.manifold_share = manifold_share
        self.max_steps = max_steps
        self.learning_rate = learning_rate
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
    def from_paper(cls, experiment: str | None = "adbench", **parameters: Any) -> Self:
        """Make a detector with the paper's settings of an experiment (Tables 7 and 8, appendix B).

        "adbench": rows in [0, 1], such as ``MinMaxScaler()`` makes. "mnist" and "cifar10": images;
        with ``energy="scalar"``, or one's own, the settings are those of MPDR-S.

        "vit": the 768 pooled features of a ViT-B/16, and "mvtec": the channels (there 272) at each
        place of a feature map, a row for every place of every image of every class. Rows are to
        have unit norm: ``make_pipeline(Normalizer(), MPDR.from_paper("vit"))``. Noise of 0.01 is
        added to them in training.

        "dcase" and "dcase_fan": MPDR-IDNN on five frames of 128 log-mel energies in the order of
        time, 640 columns, whose third frame is predicted: "dcase" for ToyCar, ToyConveyor and pump,
        "dcase_fan" for fan, slider and valve, which have longer chains. The predictor is 128 wide
        in four layers on either side of 32 units, as the paper has MPDR's. With
        ``energy="reconstruction"`` both are MPDR-R.

        What the paper leaves open is that of the authors' code where it has been published: on
        images the latent gradient divided by its norm, MPDR-R's factor c with a penalty on the
        error alone and one on the energy's encoder, MPDR-S's last layer without spectral norm and
        its affine output; for "cifar10" the energy's 50 passes, its rate and its 32 latent
        dimensions (the paper has 1, a misprint); for "dcase" the passes of the manifolds (50) and
        the energy (6), of 2,000 steps, and the penalties of encoders. Where the two differ the
        paper's word stands: the code trains digits for 60 passes of 50,000 images, not 50 of
        54,000, takes four manifolds for "cifar10", measures perturbations there and on sounds by
        the angle, and trains sounds at a rate of 1e-5. c is the square of a parameter there and
        an exponential here; penalties of encoders leave out biases here.

        The rest is ours: for "adbench" the numbers of steps and the batch size; for "cifar10" the
        size of the replay buffer and the place of the augmentation, half-way through the visible
        chain (the paper's also changes the images that manifolds are trained on, and pretraining
        there mirrors images); for "vit" the energy's pretraining and the manifolds' steps, as many
        as its own 30 passes, and the batch size; for "mvtec" the widths, the batch size, and that
        the energy starts as a copy of the manifold.

        Parameters
        ----------
        experiment : str, default="adbench"
            Which of the paper's experiments: "adbench", "mnist", "cifar10", "vit", "mvtec",
            "dcase" or "dcase_fan". Lengths of all but the first are for a GPU.
        **parameters
            Parameters that replace the paper's. Where one is an object of the same class as the
            paper's, its fields that are None stay the paper's.

        Returns
        -------
        detector : MPDR
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of these.
        """
        return super().from_paper(experiment, **parameters)

    @classmethod
    def _paper_settings(cls, experiment: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        settings = super()._paper_settings(experiment, parameters)
        energy = ENERGY_SLOT.read(parameters.get("energy", settings["energy"]))
        if isinstance(energy, type(settings["energy"])):
            return settings
        if isinstance(energy, Reconstruction):
            return settings | _papers.MPDR_RECONSTRUCTION_DCASE
        if isinstance(energy, Scalar):
            on_images = _papers.MPDR_SCALAR_IMAGES if "image_shape" in settings else {}
            settings["energy"] = Scalar(settings["energy"].network, **on_images)
        if isinstance(energy, Masked):
            settings["energy"] = Masked(pretrain_learning_rate=_papers.MPDR_RATE)
        return settings | (_papers.MPDR_SCALAR_MNIST if experiment == "mnist" else {})

    # ---- module ---------------------------------------------------------------------------

    def part(self, name: str) -> Any:
        """Part that a parameter asks for; energy and manifold have a network, if need be this one.

        Parameters
        ----------
        name : str
            Name of the constructor parameter.

        Returns
        -------
        part : Part or object
            A new part; what is none, such as a callable of the user's, as it is.
        """
        part = super().part(name)
        if isinstance(part, WithNetwork):
            part.network = self._network_of(self._own(name), self.part("network"))
        return part

    def _read(self, name: str, value: Any) -> Any:
        part = super()._read(name, value)
        # The fields of a network that is the detector's are those of its kind.
        return part.bound_to(self._own("network")) if isinstance(part, WithNetwork) else part

    def _network_of(self, part: WithNetwork, detectors: Any) -> Any:
        """Find the network of a part if the detector's is `detectors`."""
        return part.network_or(detectors, self._slot("network").default)

    def _make_module(self, n_features: int) -> MPDRModel:
        energy, manifold = self.part("energy"), self.part("manifold")
        self._check_network()
        manifolds, dims = self._make_manifolds(manifold, n_features)
        base = self._make_energy(energy, n_features)
        return MPDRModel(
            base,
            manifolds,
            n_features,
            self._settings(base, manifolds[0], n_features),
            latent_dims=dims,
            replay=replay_of(self.part("replay"), self.replay),
            manifold_share=self._share(energy, manifold),
            manifold_noise=manifold.noise if isinstance(manifold, Manifold) else 0.0,
            penalize_data=isinstance(energy, Custom) and bool(energy.penalize_data),
            pixels=self.image_shape is not None,
        )

    def _networks(self, part: WithNetwork, n_features: int) -> Networks:
        """Find what makes the networks of a part."""
        return networks_for(part.network, self._row_shape(n_features))

    def _check_network(self) -> None:
        """Raise ValueError if the detector's network is nobody's."""
        owners = (self._own("energy"), self._own("manifold"))
        if not any(self._takes_network(part) for part in owners if isinstance(part, WithNetwork)):
            why = "neither the energy nor the manifold takes it"
            refuse_unused(self, ("network",), why)

    def _takes_network(self, part: WithNetwork) -> bool:
        """Whether a part's network is that of the detector, or has a field that is its."""
        detectors, default = self.part("network"), self._slot("network").default
        network = self._network_of(part, detectors)
        same = part.network is None or network == detectors
        return same or network != self._network_of(part, default)

    def _make_manifolds(
        self, manifold: Any, n_features: int
    ) -> tuple[list[AutoencoderNet], tuple[int, ...]]:
        """Make the manifolds, and say of which dimensions they are."""
        if not isinstance(manifold, Manifold):
            return [identity_manifold()], (n_features,)
        networks = self._networks(manifold, n_features)
        dims = manifold.latent_dims(networks)
        if self.batch_size < len(dims):
            raise ValueError(
                f"batch_size={self.batch_size} leaves some of the {len(dims)} manifolds without a "
                "row; it must be at least their number."
            )
        return [networks.autoencoder(d, str(manifold.latent_space)) for d in dims], dims

    def _make_energy(self, energy: Any, n_features: int) -> nn.Module:
        if isinstance(energy, Custom) and energy.penalize_data and self.energy_penalty == 0:
            raise ValueError(
                f"penalize_data=True in energy={energy!r} would be ignored: energy_penalty=0. "
                "Leave it None."
            )
        named = isinstance(energy, Energy)
        base = energy.build(self._networks(energy, n_features)) if named else energy(n_features)
        check_energy(base, n_features)
        return base

    def _share(self, energy: Any, manifold: Any) -> float | None:
        """Weight of the manifolds in the score; None if they have no part in it."""
        learned = isinstance(manifold, Manifold)
        if self.score_type == "combined" and not (
            learned and isinstance(energy, Reconstruction | Masked)
        ):
            raise ValueError(
                f"score_type='combined' takes logarithms of an error energy and of a manifold's "
                f"error; got energy={self.energy!r}, manifold={self.manifold!r}. Use "
                "score_type='energy'."
            )
        usual = learned and isinstance(energy, Reconstruction) and self.image_shape is None
        if self.score_type == "combined" or (self.score_type == "auto" and usual):
            return self.manifold_share
        refuse_unused(self, ("manifold_share",), "the energy alone is scored")
        return None

    def _settings(
        self, base: nn.Module, manifold: AutoencoderNet, n_features: int
    ) -> RecoverySettings:
        """Check and gather what training is done by."""
        latent, visible = self.part("latent_chain"), self.part("visible_chain")
        low, high = check_pair("noise_range", self.noise_range)
        if not 0 < low <= high < np.inf:
            raise ValueError(f"noise_range={self.noise_range!r} must be finite and above 0.")
        check_augmentation(self.augmentation, self.image_shape)
        if self.augmentation is not None and visible.gamma > 0:
            raise ValueError(
                f"augmentation={self.augmentation!r} moves rows away from what they were perturbed "
                f"to; with gamma={visible.gamma} in visible_chain they would be drawn back. Set "
                "gamma=0."
            )
        pixels = self.image_shape is not None
        n_averaged = base.stop - base.start if isinstance(base, MaskedEnergy) else n_features
        return RecoverySettings(
            visible=visible_langevin(
                visible, pixels, lambda _: step_for_errors(n_averaged, pixels)
            ),
            bounds=visible.bounds,
            energy_penalty=self.energy_penalty,
            noise_range=(low, high),
            latent=latent_langevin(latent, manifold.spherical),
            latent_gamma=latent.gamma,
            visible_gamma=visible.gamma,
            augmentation=self.augmentation,
            image_shape=self._row_shape(n_features) if pixels else None,
            input_noise=self.input_noise,
        )

    # ---- stages ---------------------------------------------------------------------------

    def _stages(self, module: MPDRModel) -> list[Stage]:
        energy, manifold = self.part("energy"), self.part("manifold")
        start = self._start(energy, manifold, len(module.low))
        stages = [self._manifold_stage(module, manifold)] if isinstance(manifold, Manifold) else []
        if start == "pretrain":
            steps, rate = energy.pretraining
            groups = self._energy_groups(module, energy)
            stages.append(self._stage("pretrain", MPDRModel.pretrain_loss, groups, rate, steps))
        stages.append(
            Stage(
                name="energy",
                optimizers={"main": adam(self._energy_groups(module, energy), self.learning_rate)},
                n_steps=self.max_steps,
                schedule=SCHEDULES[self.schedule],
                energy_limit=module.energy_limit(),
                before=MPDRModel.copy_manifold if start == "manifold" else None,
                is_steady=MPDRModel.is_steady_when_full,
            )
        )
        return stages

    def _energy_groups(self, module: MPDRModel, energy: Any) -> Any:
        """Parameters of the energy, those of a penalised encoder in a group of their own."""
        if not isinstance(energy, Reconstruction) or not energy.penalty:
            return module.base.parameters()
        return in_order_with_penalty(module.base, module.base.net.encoder, energy.penalty)

    def _manifold_stage(self, module: MPDRModel, manifold: Any) -> Stage:
        groups = [
            group
            for net in module.manifolds
            for group in with_penalty(net.encoder, [net.decoder], manifold.penalty)
        ]
        rate, steps = manifold.learning_rate, manifold.steps
        return self._stage("manifold", MPDRModel.manifold_loss, groups, rate, steps)

    def _stage(
        self, name: str, objective: Callable, parameters: Any, rate: float, n_steps: int
    ) -> Stage:
        """Make a stage without negatives."""
        return Stage(
            name=name,
            objective=objective,
            optimizers={"main": adam(parameters, rate)},
            n_steps=n_steps,
            schedule=SCHEDULES[self.schedule],
            validate=lambda module, x: objective(module, x)["loss"],
            is_steady=is_steady,
        )

    def _start(self, energy: Any, manifold: Any, n_features: int) -> str:
        """Where the energy starts: "manifold", "pretrain" or "random"."""
        if isinstance(energy, Masked):
            return "pretrain"
        if isinstance(energy, Custom) and energy.pretraining[0]:
            return "pretrain"
        if not isinstance(energy, Reconstruction):
            return "random"
        return energy.start(self._can_copy(energy, manifold, n_features))

    def _can_copy(self, energy: Reconstruction, manifold: Any, n_features: int) -> bool:
        """Whether the energy is a network of the first manifold's shape."""
        if not isinstance(manifold, Manifold) or manifold.latent_space != "sphere":
            return False
        networks = self._networks(manifold, n_features)
        latent_dim = energy.latent_dim or networks.latent_dim
        return (
            energy.network == manifold.network and latent_dim == manifold.latent_dims(networks)[0]
        )

    @property
    def _sees_constants(self) -> bool:
        return isinstance(ENERGY_SLOT.read(self._fitted_parameters["energy"]), Reconstruction)

    def _check_reconstruction(self) -> bool:
        energy = getattr(self, "_fitted_parameters", vars(self))["energy"]
        if not isinstance(ENERGY_SLOT.read(energy), Reconstruction):
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

        return draw_rows(
            self, n_samples, random_state, lambda n: still(self.module_).sample(n, int(n_steps))
        )

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
            If it is called, as a scorer, on something that is not an MPDR. Errors stop a search,
            whatever its ``error_score``.
        """
        asker = sys._getframe(1)
        try:
            return MPDR._on_manifold_score(self, X)
        except (TypeError, ValueError) as error:
            return refuse(error, asker)

    def _on_manifold_score(self, X: ArrayLike) -> float:
        if not isinstance(self, MPDR):  # as a scorer this is called with any estimator
            raise TypeError(
                f"MPDR.on_manifold_score scores an MPDR, got {type(self).__name__}; for a Pipeline "
                "use scoring=skgenad.metrics.on_manifold_scorer."
            )
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        module = self.module_
        if not module.manifolds[0].spherical:
            raise ValueError(
                "on_manifold_score draws points uniformly on a sphere; it needs a manifold that is "
                "an autoencoder with latent_space='sphere'."
            )
        with own_settings(), seeded(self.seed_, self.device_), torch.inference_mode():
            n_points = max(_MANIFOLD_ROWS, len(X))
            on_points = module.on_manifold_energies(n_points, self._chunk_size)
        energies = np.concatenate([self._energies(X), on_points.numpy()])
        truth = np.arange(len(energies)) >= len(X)
        return float(roc_auc_score(truth, energies))
