"""NAE: normalized autoencoder (Yoon, Noh and Park, ICML 2021).

The reconstruction error of an autoencoder (f_e, f_d) is taken for the energy of a density:

    E(x) = dist(x, f_d(f_e(x))) / D,   p(x) = exp(-E(x) / T) / Omega                     (eq. 9, 10)
    loss = (E(x) - E(x-)) / T + energy_penalty * E(x-)^2,   x- ~ p                        (eq. 12)

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
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ._base import (
    BaseGenerativeDetector,
    Integral,
    Interval,
    Real,
    StrOptions,
    check_pair,
    check_sizes,
)
from ._energies import DISTANCES, ReconstructionEnergy, decoded_energy
from ._energy_based import EnergyBasedDetector
from ._langevin import Langevin, ReplayBuffer, tempered
from ._negatives import NegativesModule
from ._networks import ACTIVATIONS, default_latent_dim, mlp_autoencoder
from ._objectives import contrastive_loss
from ._random import draw_seed, seeded
from ._training import Stage, adam, with_penalty

# A step of s * D / 2 on a mean over D columns moves a residual by the share s of itself.
_RELATIVE_STEP = 0.2
# The latent chain of `sample` is longer than the one of training by this factor (appendix D.3).
_SAMPLING_FACTOR = 8

_PAPER: dict[str, dict[str, Any]] = {
    "2d": {
        "latent_space": "euclidean",
        "latent_step_size": 0.005,
        "latent_noise": 0.1,
        "visible_steps": 30,
        "visible_step_size": 0.005,
        "visible_noise": 0.1,
        "metropolis": True,
        "temperature": 0.5,
        "train_temperature": True,
        "pretrain_steps": 0,
    },
    "mnist": {
        "latent_step_size": 0.2,
        "latent_noise": 0.05,
        "visible_steps": 50,
        "visible_step_size": 10.0,
        "visible_noise": 0.05,
        "visible_clip": 0.01,
        "anneal": True,
        "bounds": (0.0, 1.0),
        "encoder_penalty": 1e-4,
    },
    "cifar10": {
        "latent_steps": 20,
        "latent_step_size": 1.0,
        "latent_noise": 0.02,
        "visible_steps": 40,
        "visible_step_size": 10.0,
        "visible_noise": 0.02,
        "visible_clip": 0.01,
        "anneal": True,
        "bounds": (0.0, 1.0),
        "encoder_penalty": 1e-4,
    },
}
_PAPER_COMMON = {"learning_rate": 1e-5, "schedule": "constant", "standardize": False}


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
    ) -> None:
        super().__init__(base, n_features)
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


class NAE(EnergyBasedDetector):
    """Detect anomalies by a normalized autoencoder.

    The density exp(-E / T) / Omega, whose energy E is an autoencoder's reconstruction error, is
    fitted by maximum likelihood. The autoencoder is first trained to reconstruct; then the error
    of negatives, rows that the model takes for likely, is raised, so that anomalies which the
    autoencoder happened to reconstruct are reconstructed no longer.
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
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
        "visible_noise": [Interval(Real, 0, None, closed="left")],
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
        hidden_sizes: tuple[int, ...] = (128, 128),
        latent_dim: int | None = None,
        latent_space: str = "sphere",
        activation: str = "leaky_relu",
        distance: str = "l2",
        sampling: str = "omi",
        latent_steps: int = 10,
        latent_step_size: float = 0.1,
        latent_noise: float = 0.05,
        visible_steps: int = 5,
        visible_step_size: float | str = "auto",
        visible_noise: float = 0.3,
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
        """Make a detector with the paper's settings of an experiment (Table 11, appendix D.3)."""
        if experiment not in _PAPER:
            raise ValueError(
                f"experiment={experiment!r} is none of the paper's: {', '.join(_PAPER)}."
            )
        return cls(**{**_PAPER_COMMON, **_PAPER[experiment], **parameters})

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> NormalizedModule:
        self._check_combinations()
        latent_dim = self.latent_dim or default_latent_dim(n_features)
        net = mlp_autoencoder(
            n_features, latent_dim, self.hidden_sizes, self.activation, self.latent_space
        )
        module = NormalizedModule(
            ReconstructionEnergy(net, self.distance),
            n_features,
            latent_dim,
            self.temperature,
            self.sampling,
            self.replay_size,
            self.replay_ratio,
        )
        self._chains(module)  # refuses what cannot go together before anything is trained
        return module

    def _check_combinations(self) -> None:
        """Raise ValueError for values that are possible alone but not together."""
        check_sizes("hidden_sizes", self.hidden_sizes)
        if self.bounds is not None and not isinstance(self.bounds, str):
            check_pair("bounds", self.bounds)
        if self.latent_penalty and self.latent_space == "sphere":
            raise ValueError(
                f"latent_penalty={self.latent_penalty} draws latent vectors to the origin, but on "
                "latent_space='sphere' all have the length 1. Set it to 0 or choose 'euclidean'."
            )

    def _before_training(
        self, module: NormalizedModule, rows: Tensor, labels: Tensor | None
    ) -> None:
        module.set_range(rows)

    def _stages(self, module: NormalizedModule) -> list[Stage]:
        net, cosine = module.base.net, self.schedule == "cosine"

        def groups() -> list[dict[str, Any]]:
            return with_penalty(net.encoder, [net.decoder], self.encoder_penalty)

        trained = groups()
        if self.train_temperature:
            rate = self.temperature_learning_rate or 100 * self.learning_rate
            trained.append({"params": [module.log_temperature], "lr": rate})
        return [
            Stage(
                "pretrain",
                self._pretrain_objective,
                {"main": adam(groups(), self.pretrain_learning_rate)},
                self.pretrain_steps,
                cosine,
            ),
            Stage(
                "energy",
                self._energy_objective,
                {"main": adam(trained, self.learning_rate)},
                self.max_steps,
                cosine,
                energy_limit=module.energy_limit(),
            ),
        ]

    # ---- training -------------------------------------------------------------------------

    def _pretrain_objective(self, module: NormalizedModule, x: Tensor) -> dict[str, Tensor]:
        """Train as an ordinary autoencoder (section 6.1)."""
        error = module.base.energy(x).mean()
        return {"loss": error + self._latent_term(module, x), "energy": error}

    def _energy_objective(self, module: NormalizedModule, x: Tensor) -> dict[str, Tensor]:
        negatives = module.negatives(x, *self._chains(module))
        parts = contrastive_loss(
            module.base,
            x,
            negatives,
            penalty=self.energy_penalty,
            temperature=module.temperature if self.train_temperature else self.temperature,
        )
        parts["loss"] = parts["loss"] + self._latent_term(module, x)
        if self.train_temperature:
            parts["temperature"] = module.temperature
        return parts

    def _latent_term(self, module: NormalizedModule, x: Tensor) -> Tensor | float:
        """Mean squared length of the rows' latent vectors, weighted."""
        if not self.latent_penalty:
            return 0.0
        return self.latent_penalty * module.base.net.encode(x).square().sum(dim=1).mean()

    def _chains(self, module: NormalizedModule) -> tuple[Langevin, Langevin]:
        """Latent and visible chain of training."""
        step = self.visible_step_size
        latent = Langevin(
            self.latent_steps,
            self.latent_step_size,
            self.latent_noise,
            sphere=module.base.net.spherical,
        )
        visible = Langevin(
            self.visible_steps,
            _RELATIVE_STEP / 2 * len(module.low) if isinstance(step, str) else step,
            self.visible_noise,
            bounds=module.bounds(self.bounds),
            clip=self.visible_clip,
            anneal=self.anneal,
            metropolis=self.metropolis,
        )
        return latent, visible

    # ---- what a trained density offers ----------------------------------------------------

    def energy(self, X: ArrayLike) -> NDArray:
        """Energies of rows: their mean reconstruction errors, without the temperature."""
        check_is_fitted(self)
        return self._energies(self._validate(X, reset=False))

    def _temperature(self) -> float:
        return float(self.module_.temperature.detach())

    def sample(
        self,
        n_samples: int = 1,
        *,
        latent_steps: int | None = None,
        visible_steps: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray:
        """Draw rows from the density by on-manifold initialisation, whatever `sampling` is."""
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        latent, visible = self._chains(self.module_)
        if latent_steps is None:
            latent_steps = _SAMPLING_FACTOR * self.latent_steps
        if visible_steps is None:
            visible_steps = self.visible_steps
        check_scalar(latent_steps, "latent_steps", Integral, min_val=0)
        check_scalar(visible_steps, "visible_steps", Integral, min_val=0)
        with seeded(draw_seed(random_state), self.device_), torch.no_grad():
            z = self.module_.on_manifold(
                self.module_.prior(n_samples), replace(latent, n_steps=latent_steps)
            )
            x = self.module_.visible_chain(
                self.module_.base.net.decode(z), replace(visible, n_steps=visible_steps)
            )
        return self.units_.from_standard(x.cpu().numpy())
