"""EBM: a feed-forward energy trained by maximum likelihood (IGEBM, Du and Mordatch, 2019).

A perceptron with one output is the energy E of a density:

    p(x) = exp(-E(x)) / Omega
    loss = E(x) - E(x-) + energy_penalty * (E(x)^2 + E(x-)^2),   x- ~ p

Negatives x- come from Langevin chains, which differ in where they start:

    "pcd"  at replayed rows of earlier chains or, for a small share, at uniform noise
    "cd"   at the rows of the batch
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.optimizers import adam
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.sampling import draw_rows
from skgenad._core.schedules import SCHEDULES
from skgenad._tensors.twins import still
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

from ._detector import EnergyBasedDetector
from ._energies import ScalarEnergy, contrastive_loss
from ._langevin import ReplayBuffer
from ._negatives import PIXEL_STEP, NegativesModule, Settings, visible_langevin
from .chains import Chain, Replay, chain_slot, replay_of, replay_slot

# The divergence guard's limit grows with the columns, but the level of an energy is free: with
# fewer columns than these, the limit is that of so many.
_FEW_COLUMNS = 10


class EBMModel(NegativesModule):
    """A scalar energy and the chains that sample it.

    Parameters
    ----------
    base : ScalarEnergy
        E.
    n_features : int
        Number of columns.
    settings : Settings
        Settings of training.
    sampling : {"pcd", "cd"}
        Where chains start.
    replay : (int, float)
        Number of rows that are kept for "pcd", and the share of its chains that start from them.
    pixels : bool, default=False
        Whether columns are pixels.
    """

    def __init__(
        self,
        base: ScalarEnergy,
        n_features: int,
        settings: Settings,
        *,
        sampling: str,
        replay: tuple[int, float],
        pixels: bool = False,
    ) -> None:
        super().__init__(base, n_features, settings, pixels=pixels)
        self.replayed = ReplayBuffer(*replay, n_features) if sampling == "pcd" else None

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        return self.base.energy(x)

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Loss of maximum likelihood, with a penalty that fixes the level of E."""
        penalty = self.settings.energy_penalty
        return contrastive_loss(
            self.base, x, self.negatives(x), penalty=penalty, penalize_data=True
        )

    @torch.no_grad()
    def negatives(self, x: Tensor) -> Tensor:
        """Negatives (n, d) for a batch of rows."""
        return self.visible_negatives(self.visible_starts(x, self.replayed), self.replayed)

    def energy_limit(self) -> float:
        """Level of the negatives' mean energy that means divergence, in nats per column."""
        limit = super().energy_limit() * max(_FEW_COLUMNS, len(self.low))
        penalty = self.settings.energy_penalty
        # Where there are negatives but no data, only the penalty holds E, at half of 1 / penalty.
        return max(limit, 1 / penalty) if penalty else limit


class EBM(EnergyBasedDetector):
    """Detect anomalies by a feed-forward energy trained by maximum likelihood.

    A network with one output is the energy E of a density exp(-E) / Omega: it is lowered at the
    training rows and raised at negatives, rows that Langevin chains find likely under E itself.
    With chains that go on from step to step this is IGEBM; with chains that start at the rows,
    contrastive divergence.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    network : tuple of int, str or object, default=None
        The energy, an encoder with one output: widths of the hidden layers of a perceptron; one of
        the objects of :mod:`skgenad.networks`, its name in lower case, such as "conv28", or one
        like it with ``make_encoder``. None: ``MLP((128, 128), activation="leaky_relu")``.
    spectral : bool, default=False
        Whether the weight of every layer is divided by its largest singular value. The energy then
        changes by at most 1 per standardised unit, too little for most tables at temperature 1.
    sampling : {"pcd", "cd"}, default="pcd"
        Where the chains of training start: "pcd" in the replay buffer, or afresh at rows uniform in
        the range of the training rows (persistent chains); "cd" at the rows of the batch
        (contrastive divergence).
    visible_chain : Chain, default=None
        The chain, which has no `gamma`. None: ``Chain(10, step_size="auto", noise="auto",
        bounds="data")``. The step size "auto" is ``noise ** 2 / 2``, that of Langevin dynamics,
        whose limit for short steps is exp(-E), and 10 for images. Any other step s stands for the
        density exp(-E / T) with the temperature ``T = noise ** 2 / (2 * s)``.
    replay : Replay, default=None
        Buffer of rows for "pcd"; "cd" has none. None: ``Replay(1000, ratio=0.95)``.
    energy_penalty : float, default=0.01
        Weight of the mean of E(x)^2 + E(x-)^2, which fixes the level of E. It bounds the range of
        energies where data and negatives differ to ``1 / energy_penalty``.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=1e-3
        Adam's learning rate.
    schedule : {"cosine", "constant"}, default="cosine"
        Whether the learning rate falls to 0 as half a cosine.
    batch_size : int, default=128
        Rows in a gradient step, and chains.
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
        Whether to show a progress bar.
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
        The energy, with ``energy(x)`` in standardised units.
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
    NAE : Maximum likelihood for a reconstruction error instead of a scalar energy.
    MPDR : Negatives from near the data, along the manifold of an autoencoder.

    Notes
    -----
    ``score_samples`` is -E, with the default step size the log density of a row in standardised
    units, in nats, up to a constant that is the same for all rows.

    Nothing ties a scalar energy to the rows but its negatives: its settings matter more than those
    of a reconstruction error, and bad ones rank upside down. Beyond the bounds, or with "cd" far
    from the rows, the energy is an extrapolation and may fall again.

    References
    ----------
    Du and Mordatch, "Implicit generation and modeling with energy based models", NeurIPS 2019.
    https://arxiv.org/abs/1903.08689

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import EBM
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = EBM(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _parts: ClassVar[dict[str, Slot]] = {
        "network": network_slot(),
        "visible_chain": chain_slot(
            Chain(10, step_size="auto", noise="auto", bounds="data"), without=("gamma",)
        ),
        "replay": replay_slot(1000),
    }
    _parameter_constraints: ClassVar[dict] = {
        **{
            name: allowed
            for name, allowed in BaseGenerativeDetector._parameter_constraints.items()
            if name != "stopping"  # the loss of an energy against its negatives tells no epoch
        },
        **IMAGE_CONSTRAINTS,
        "spectral": ["boolean"],
        "sampling": [StrOptions({"cd", "pcd"})],
        "visible_chain": [Chain, None],
        "replay": [Replay, None],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions(set(SCHEDULES))],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        spectral: bool = False,
        sampling: str = "pcd",
        visible_chain: Chain | None = None,
        replay: Replay | None = None,
        energy_penalty: float = 0.01,
        max_steps: int = 1000,
        learning_rate: float = 1e-3,
        schedule: str = "cosine",
        batch_size: int = 128,
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
        self.spectral = spectral
        self.sampling = sampling
        self.visible_chain = visible_chain
        self.replay = replay
        self.energy_penalty = energy_penalty
        self.max_steps = max_steps
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

    def _make_module(self, n_features: int) -> EBMModel:
        networks = networks_for(self.part("network"), self._row_shape(n_features))
        if self.spectral and getattr(networks.factory, "spectral", False):
            why = f"the weights of network={self.network!r} have spectral norms of 1 in any case"
            refuse_unused(self, ("spectral",), why)
        return EBMModel(
            ScalarEnergy(networks.encoder(1, self.spectral)),
            n_features,
            self._settings(),
            sampling=self.sampling,
            replay=replay_of(self.part("replay"), self.replay, self.sampling),
            pixels=self.image_shape is not None,
        )

    def _settings(self) -> Settings:
        """Check and gather what training is done by."""
        chain, pixels = self.part("visible_chain"), self.image_shape is not None
        if chain.step_size == "auto" and chain.noise == 0 and not pixels:
            raise ValueError(
                "step_size='auto' in visible_chain is noise ** 2 / 2, which is 0 for noise=0: "
                "chains would stay where they start. Give it a number."
            )
        visible = visible_langevin(
            chain, pixels, lambda noise: PIXEL_STEP if pixels else noise**2 / 2
        )
        return Settings(visible=visible, bounds=chain.bounds, energy_penalty=self.energy_penalty)

    @property
    def _sees_constants(self) -> bool:
        return False

    def _stages(self, module: EBMModel) -> list[Stage]:
        return [
            Stage(
                name="energy",
                optimizers={"main": adam(module.base.parameters(), self.learning_rate)},
                n_steps=self.max_steps,
                schedule=SCHEDULES[self.schedule],
                energy_limit=module.energy_limit(),
                is_steady=EBMModel.is_steady_when_full,
            )
        ]

    # ---- what a trained density offers ----------------------------------------------------

    def energy(self, X: ArrayLike) -> NDArray:
        """Energies of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        energies : ndarray of shape (n_samples,)
            E, the negative of :meth:`score_samples`.
        """
        check_is_fitted(self)
        return self._energies(self._validate(X, reset=False))

    def sample(
        self,
        n_samples: int = 1,
        *,
        n_steps: int = 500,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray:
        """Draw rows from the density by chains from all over the range of the training rows.

        They start at uniform rows, have the settings of training and are as exact as `n_steps`
        and the step size allow: too few steps leave rows between modes, and steps never many
        enough to move rows from mode to mode give the modes the shares that the start gave them.
        The replay buffer has no part in this, since it is not in the files of :meth:`save`.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        n_steps : int, default=500
            Steps of the chains.
        random_state : int, RandomState or None, default=None
            Seed.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows in the units of X; of images flat rows in [0, 1].
        """
        check_scalar(n_steps, "n_steps", Integral, min_val=0)

        def draw(n: int) -> Tensor:
            module = still(self.module_)
            return module.visible_chain(module.uniform_rows(n), int(n_steps))

        return draw_rows(self, n_samples, random_state, draw)
