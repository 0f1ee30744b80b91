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

from skgenad._core.checks import Interval, StrOptions, check_bounds, check_sizes
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.networks import IMAGE_CONSTRAINTS, networks_of
from skgenad._core.optimizers import adam
from skgenad._core.sampling import draw_rows
from skgenad._tensors.maps import ACTIVATIONS

from ._detector import EnergyBasedDetector
from ._energies import ScalarEnergy, contrastive_loss
from ._langevin import Langevin, ReplayBuffer
from ._negatives import PIXEL_STEP, NegativesModule, visible_noise_of

# The level of an energy is free: of fewer columns than these the guard thinks as of so many.
_FEW_COLUMNS = 10


class ScalarModule(NegativesModule):
    """A scalar energy and the chains that sample it.

    Parameters
    ----------
    base : ScalarEnergy
        E.
    n_features : int
        Number of columns.
    sampling : {"pcd", "cd"}
        Where chains start.
    replay_size : int
        Rows that are kept for "pcd".
    replay_ratio : float
        Share of its chains that start from them.
    pixels : bool, default=False
        Whether columns are pixels.
    """

    def __init__(
        self,
        base: ScalarEnergy,
        n_features: int,
        sampling: str,
        replay_size: int,
        replay_ratio: float,
        pixels: bool = False,
    ) -> None:
        super().__init__(base, n_features, pixels)
        persistent = sampling == "pcd"
        self.replayed = ReplayBuffer(replay_size, replay_ratio, n_features) if persistent else None

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        return self.base.energy(x)

    @torch.no_grad()
    def negatives(self, x: Tensor, visible: Langevin) -> Tensor:
        """Negatives (n, d) for a batch of rows."""
        return self.visible_negatives(self.visible_starts(x, self.replayed), visible, self.replayed)


class EBM(EnergyBasedDetector):
    """Detect anomalies by a feed-forward energy trained by maximum likelihood.

    A network with one output is the energy E of a density exp(-E) / Omega: it is lowered at the
    training rows and raised at negatives, rows that Langevin chains find likely under E itself.
    With chains that go on from step to step this is IGEBM; with chains that start at the rows,
    contrastive divergence.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images; None for tables. Images come as arrays
        (n, C, H, W) or as the flat rows of ``images.reshape(n, -1)``, with pixels in [0, 1] or of
        type uint8, which is divided by 255.
    network : str or object, default="mlp"
        The energy, an encoder with one output: "mlp", perceptrons; "fcres"; for images "conv",
        "conv28", "conv32", "conv32big", "conv64" or "cifar1"; or an object with
        ``make_encoder(shape, latent_dim)`` and ``make_decoder(latent_dim, shape)``. The guide to
        images says what they are.
    network_width : float, default=1.0
        Factor on the numbers of channels of the named architectures, all but "mlp".
    hidden_sizes : tuple of int, default=(128, 128)
        Widths of the hidden layers of a perceptron.
    activation : {"relu", "leaky_relu", "tanh", "sigmoid", "silu"}, default="leaky_relu"
        Activation of the hidden layers of a perceptron.
    spectral : bool, default=False
        Whether the weight of every layer is divided by its largest singular value, as in the paper.
        An energy then changes by at most 1 per standardised unit, too little for the log density of
        most tables at temperature 1: give it a lower one by a longer `visible_step_size`.
    sampling : {"pcd", "cd"}, default="pcd"
        Where the chains of training start:

        - "pcd", persistent chains: in the replay buffer, or afresh at rows uniform in the range of
          the training rows. With ``replay_ratio=1`` and ``replay_size=batch_size`` every chain goes
          on for ever, and none is restarted;
        - "cd", contrastive divergence: at the rows of the batch. What is far from all rows is never
          visited, and its energy is a guess.
    visible_steps : int, default=10
        Steps of a chain.
    visible_step_size : float or "auto", default="auto"
        Factor on its gradient. "auto" is ``visible_noise ** 2 / 2``, that of Langevin dynamics: for
        short steps the chain's limit is exp(-E), so that E is learned as minus a log density in
        nats, whatever the number of columns. Any other step s stands for the density exp(-E / T)
        with the temperature ``T = visible_noise ** 2 / (2 * s)``. For images "auto" is 10, the
        paper's.
    visible_noise : float or "auto", default="auto"
        Standard deviation of its noise, in standardised units; "auto" is 0.3 for tables and 0.005
        for images. Details of the density finer than
        this are blurred; > 0 for the step size "auto".
    visible_clip : float, default=None
        Each component of its gradient is clamped to [-visible_clip, visible_clip].
    anneal : bool, default=False
        Whether the noise of step t = 0, 1, ... of a chain is ``visible_noise / (1 + t)``. Chains
        then end nearer to the modes than exp(-E) says.
    bounds : "data", (float, float) or None, default="data"
        What chains are clamped to: the range of each training column widened by 1 on either side,
        for images [0, 1], two numbers, or nothing; in the units of training (a column's standard
        deviation, or those of X with ``standardize=False``).
    metropolis : bool, default=False
        Whether a chain accepts or rejects its steps by Metropolis-Hastings, so that its limit is
        exp(-E) for any step size. It then rejects what lies beyond the bounds instead of clamping
        it, and needs ``visible_noise > 0`` and ``visible_clip=None``.
    replay_size : int, default=1000
        Rows that the replay buffer keeps; 0 is no buffer. A buffer of 10,000 rows, as in the paper,
        wants far more than the default `max_steps`: each step continues `batch_size` of its chains.
    replay_ratio : float, default=0.95
        Share, in [0, 1], of chains that start from the buffer; the others start afresh.
    energy_penalty : float, default=0.01
        Weight of the mean of E(x)^2 + E(x-)^2, which fixes the level of E. It bounds the range of
        energies where data and negatives differ to ``1 / energy_penalty``; the paper's 1 goes with
        its far lower temperature.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=1e-3
        Adam's learning rate.
    schedule : {"cosine", "constant"}, default="cosine"
        Whether the learning rate falls to 0 as half a cosine.
    batch_size : int, default=128
        Rows in a gradient step, and chains.
    standardize : "auto" or bool, default="auto"
        Whether columns are centred and scaled first; "auto" does, but for images.
    contamination : float, default=0.1
        Share of rows, in (0, 0.5], that `predict` flags: of the training rows or, with
        ``calibration_fraction > 0``, of the rows held out. On small tables the second is much
        nearer to the share of new normal rows that are flagged.
    calibration_fraction : float, default=0.0
        Share of rows, in [0, 1), held out of training for :meth:`p_value`.
    warm_start : bool, default=False
        Whether `fit` on a fitted detector continues training it, in the units of its first fit.
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
        A row per epoch of 50 steps: stage, epoch, step, loss, mean energy of data and of
        negatives, seconds.
    negatives_ : ndarray of shape (n_negatives, n_features)
        Negatives of the last steps of training, at most 1000, in the units of X; none in a
        detector that :meth:`load` read.
    module_ : nn.Module
        The energy, with ``energy(x)`` in standardised units.
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
    NAE : Maximum likelihood for a reconstruction error instead of a scalar energy.
    MPDR : Negatives from near the data, along the manifold of an autoencoder.

    Notes
    -----
    ``score_samples`` is -E, with the default step size the log density of a row in standardised
    units, in nats, up to a constant that is the same for all rows.

    Nothing ties a scalar energy to the rows but its negatives, so its settings matter more than
    those of a reconstruction error, and bad ones rank upside down. On the ten ADBench tables that
    the defaults were chosen on, with their labels (``benchmarks/tune.py --protocols clean``), the
    mean AUROC is 0.763 and no table is below 0.5; with ``sampling="cd"`` it is 0.754 and one is.
    Too short a training or too large a penalty costs most: 400 steps have 0.682 and
    ``energy_penalty=0.1`` has 0.676, with two and three tables below 0.5. Expect less on others.

    The density is one over the region that chains can reach. Beyond the bounds, or with "cd" far
    from the rows, a perceptron's energy is an extrapolation and may fall again.

    The paper has images only, and chains with a far lower temperature; the defaults for tables are
    ours.

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

    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "hidden_sizes": [tuple, list],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "spectral": ["boolean"],
        "sampling": [StrOptions({"cd", "pcd"})],
        "visible_steps": [Interval(Integral, 0, None, closed="left")],
        "visible_step_size": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "visible_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "visible_clip": [Interval(Real, 0, None, closed="neither"), None],
        "anneal": ["boolean"],
        "bounds": [StrOptions({"data"}), tuple, list, None],
        "metropolis": ["boolean"],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "replay_ratio": [Interval(Real, 0, 1, closed="both")],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
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
        activation: str = "leaky_relu",
        spectral: bool = False,
        sampling: str = "pcd",
        visible_steps: int = 10,
        visible_step_size: float | str = "auto",
        visible_noise: float | str = "auto",
        visible_clip: float | None = None,
        anneal: bool = False,
        bounds: str | tuple[float, float] | None = "data",
        metropolis: bool = False,
        replay_size: int = 1000,
        replay_ratio: float = 0.95,
        energy_penalty: float = 0.01,
        max_steps: int = 1000,
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
        self.activation = activation
        self.spectral = spectral
        self.sampling = sampling
        self.visible_steps = visible_steps
        self.visible_step_size = visible_step_size
        self.visible_noise = visible_noise
        self.visible_clip = visible_clip
        self.anneal = anneal
        self.bounds = bounds
        self.metropolis = metropolis
        self.replay_size = replay_size
        self.replay_ratio = replay_ratio
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

    def _make_module(self, n_features: int) -> ScalarModule:
        self._check_combinations()
        networks = networks_of(self, n_features)
        module = ScalarModule(
            ScalarEnergy(networks.encoder(1, self.spectral)),
            n_features,
            self.sampling,
            self.replay_size,
            self.replay_ratio,
            pixels=self.image_shape is not None,
        )
        self._chain(module, 0)  # refuses what cannot go together before anything is trained
        return module

    def _check_combinations(self) -> None:
        """Raise ValueError for values that are possible alone but not together."""
        check_sizes("hidden_sizes", self.hidden_sizes)
        check_bounds(self.bounds)
        relative = self.visible_step_size == "auto" and self.image_shape is None
        if relative and self.visible_noise == 0:
            raise ValueError(
                "visible_step_size='auto' is visible_noise ** 2 / 2, which is 0 for "
                "visible_noise=0: chains would stay where they start. Give it a number."
            )

    def _before_training(self, module: ScalarModule, rows: Tensor, labels: Tensor | None) -> None:
        module.set_range(rows)
        module.set_tempering(self._chain(module, self.visible_steps))

    def _stages(self, module: ScalarModule) -> list[Stage]:
        return [
            Stage(
                "energy",
                self._objective,
                {"main": adam(module.base.parameters(), self.learning_rate)},
                self.max_steps,
                self.schedule == "cosine",
                energy_limit=self._energy_limit(module),
                is_steady=self._is_steady_when_full,
            )
        ]

    def _energy_limit(self, module: ScalarModule) -> float:
        """Level of the negatives' mean energy that means divergence, in nats per column."""
        limit = module.energy_limit() * max(_FEW_COLUMNS, len(module.low))
        # Where there are negatives and no data the penalty alone holds E, at half of this.
        return max(limit, 1 / self.energy_penalty) if self.energy_penalty else limit

    def _objective(self, module: ScalarModule, x: Tensor) -> dict[str, Tensor]:
        negatives = module.negatives(x, self._chain(module, self.visible_steps))
        return contrastive_loss(
            module.base, x, negatives, penalty=self.energy_penalty, penalize_data=True
        )

    def _step_size(self) -> float:
        step = self.visible_step_size
        if not isinstance(step, str):
            return step
        return visible_noise_of(self) ** 2 / 2 if self.image_shape is None else PIXEL_STEP

    def _chain(self, module: ScalarModule, n_steps: int) -> Langevin:
        return Langevin(
            n_steps,
            self._step_size(),
            visible_noise_of(self),
            bounds=module.bounds(self.bounds),
            clip=self.visible_clip,
            anneal=self.anneal,
            metropolis=self.metropolis,
        )

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
            module = self.module_
            return module.visible_chain(module.uniform_rows(n), self._chain(module, int(n_steps)))

        return draw_rows(self, n_samples, random_state, draw)
