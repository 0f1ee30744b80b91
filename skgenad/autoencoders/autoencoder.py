"""Autoencoder detector: the squared reconstruction error, plain (AE) or denoising (DAE)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval, StrOptions, check_noise
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, is_steady
from skgenad._core.optimizers import adam, with_penalty
from skgenad._core.parts import Slot
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors.distances import DISTANCES, Distance, make_distance
from skgenad._tensors.maps import AutoencoderNet
from skgenad._tensors.noise import Noise, noisy
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for


class AutoencoderModel(ReconstructionEnergy):
    """A reconstruction error, trained to be small on rows from noisy ones.

    Parameters
    ----------
    net : AutoencoderNet
        Encoder and decoder.
    distance : Distance
        Distance of rows from their reconstructions.
    input_noise : float or (float, float)
        Noise added to inputs, but not to targets, in training.
    """

    def __init__(self, net: AutoencoderNet, distance: Distance, input_noise: Noise) -> None:
        super().__init__(net, distance)
        self.input_noise = input_noise

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Mean error of the rows (n, d) of a batch."""
        return {"loss": self.error(x, self.net(noisy(x, self.input_noise))).mean()}

    def validation_loss(self, x: Tensor) -> Tensor:
        """Mean error () of rows (n, d) as they are scored."""
        return self.energy(x).mean()


class Autoencoder(AnomalyMapMixin, BaseGenerativeDetector):
    """Detect anomalies by the reconstruction error of an autoencoder.

    An encoder and a decoder, multilayer perceptrons unless `network` says otherwise, are trained to
    reproduce the training rows; rows unlike them are reproduced badly. With `input_noise`
    Gaussian noise is added to inputs, but not to targets, in training: the denoising autoencoder.

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
        Dimension of the latent space. None: the number of columns up to 100 columns, 70 % of it
        beyond, and at least 2; 32 for images.
    latent_space : {"sphere", "euclidean"}, default="sphere"
        Whether latent vectors are divided by their norm.
    distance : {"l2", "l1", "ssim"}, default="l2"
        Whether the error is the mean over columns of squared or of absolute differences or, for
        images of at least 11 x 11 pixels, one minus their structural similarity (SSIM).
    input_noise : float or (float, float), default=0.0
        Standard deviation, in standardised units (of pixels: in [0, 1]), of the noise added to
        inputs in training. Of an interval (low, high), > 0, every row of a batch has its own,
        drawn log-uniformly, and half of the rows stay without noise.
    encoder_penalty : float, default=0.0
        Weight of the sum of the encoder's squared weights in the loss.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=1e-3
        Adam's learning rate at the start; it falls to 0 as half a cosine.
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
        Seed of weights, batches and noise.
    verbose : int, default=0
        Whether to show a progress bar.
    callbacks : list of skorch callbacks, default=None
        They find the stage of training as ``net.stage``.

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        A row per epoch of 50 steps: stage, epoch, step, loss, seconds.
    module_ : nn.Module
        The trained network, with ``energy(x)`` in standardised units.
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
    MPDR : Energy-based training that raises the error where anomalies are reconstructed well.

    Notes
    -----
    ``score_samples`` is the negative mean over columns of the squared error, in squared
    standardised units (for images, of pixels in [0, 1]), or the negative of the other distances.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import Autoencoder
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = Autoencoder(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot()}
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "latent_space": [StrOptions({"sphere", "euclidean"})],
        "distance": [StrOptions(set(DISTANCES))],
        "input_noise": [Interval(Real, 0, None, closed="left"), tuple, list],
        "encoder_penalty": [Interval(Real, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        latent_dim: int | None = None,
        latent_space: str = "sphere",
        distance: str = "l2",
        input_noise: float | tuple[float, float] = 0.0,
        encoder_penalty: float = 0.0,
        max_steps: int = 1000,
        learning_rate: float = 1e-3,
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
        self.input_noise = input_noise
        self.encoder_penalty = encoder_penalty
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

    def _make_module(self, n_features: int) -> AutoencoderModel:
        networks = networks_for(self.part("network"), self._row_shape(n_features))
        net = networks.autoencoder(self.latent_dim or networks.latent_dim, self.latent_space)
        distance = make_distance(self.distance, networks.shape)
        return AutoencoderModel(net, distance, check_noise("input_noise", self.input_noise))

    def _stages(self, module: AutoencoderModel) -> list[Stage]:
        net = module.net
        groups = with_penalty(net.encoder, [net.decoder], self.encoder_penalty)
        return [
            Stage(
                name="autoencoder",
                optimizers={"main": adam(groups, self.learning_rate)},
                n_steps=self.max_steps,
                validate=AutoencoderModel.validation_loss,
                is_steady=is_steady,
            )
        ]
