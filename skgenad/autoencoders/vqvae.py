"""VQVAE: an autoencoder whose latent vectors are made of codes; reconstruction error.

An encoder gives a latent vector z, whose parts z_p are replaced by the nearest of K codes e_k,

    q(z)_p = e_k,  k = argmin_j |z_p - e_j|,

and a decoder f makes the reconstruction f(q(z)). The gradient of q(z) is handed on to z as it is
(straight-through). Training lowers, in encoder and decoder,

    |x - f(q(z))|^2 / D + commitment * |z - sg[q(z)]|^2 / D_z,

where sg says that no gradient passes: the first and the third term of the paper's equation 3. In
place of the second one, |sg[z] - q(z)|^2, codes are moving averages of the parts nearest to them
(the paper's appendix A.1), which is what a gradient of that term is heading for. What is added:
codes begin where latent vectors of training rows are. What is left out: a prior over the codes,
which makes samples and has no part in reconstructions.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, is_steady, own_loss
from skgenad._core.optimizers import adam
from skgenad._core.parts import Slot
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, chunks_of
from skgenad._tensors.distances import mean_squared_error
from skgenad._tensors.maps import AutoencoderNet
from skgenad._tensors.networks import Networks
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

from ._codebook import Codebook

# Codes begin where the latent vectors of so many rows are, drawn from the training rows.
_N_FIRST_ROWS = 1024


class VQVAEModel(ReconstructionEnergy):
    """An autoencoder with codes for a latent space.

    Parameters
    ----------
    networks : Networks
        Makes encoder and decoder.
    codebook : Codebook
        The codes, and how many of them make a latent vector.
    commitment : float
        Weight, in the loss, of the squared distance of latent vectors from their codes.
    score_type : {"reconstruction", "latent"}
        What the energy is.
    """

    def __init__(
        self, networks: Networks, codebook: Codebook, *, commitment: float, score_type: str
    ) -> None:
        latent_dim = codebook.n_parts * codebook.dim
        encoder, decoder = networks.encoder(latent_dim), networks.decoder(latent_dim)
        super().__init__(AutoencoderNet(encoder, decoder, codebook))
        self.commitment, self.score_type = commitment, score_type

    @property
    def codebook(self) -> Codebook:
        """The codes, which are the autoencoder's latent space."""
        latent = self.net.latent
        assert isinstance(latent, Codebook)
        return latent

    @torch.no_grad()
    def prepare(self, rows: Rows, labels: Tensor | None) -> None:
        """Put the codes where latent vectors of some training rows (n, d) are."""
        order = draws.randperm(len(rows), device=rows.device)[:_N_FIRST_ROWS]
        self.codebook.start_at(torch.cat(list(map(self.net.encoder, chunks_of(rows[order])))))

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Error of a batch (n, d) and weighted distance of its latent vectors from their codes.

        A step of training also moves the codes.
        """
        z = self.net.encoder(x)
        places = self.codebook.nearest(z)
        q = self.codebook.at(z, places)
        reconstruction = (x - self.net.decode(q)).square().mean()
        commitment = (z - q.detach()).square().mean()
        if self.training:
            self.codebook.follow(z, places)
        return {
            "loss": reconstruction + self.commitment * commitment,
            "reconstruction": reconstruction,
            "commitment": commitment,
            "perplexity": self.codebook.perplexity(places),
        }

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        if self.score_type == "reconstruction":
            return super().energy(x)
        z = self.net.encoder(x)
        return mean_squared_error(z, self.codebook(z))


class VQVAE(AnomalyMapMixin, BaseGenerativeDetector):
    """Detect anomalies with a vector-quantised autoencoder (van den Oord et al., 2017).

    An autoencoder with a latent vector of `n_parts` parts, each of them replaced by the nearest of
    `n_codes` codes that all parts share: there are no more reconstructions than combinations of
    codes, and rows unlike the training rows have none that is near. The loss is

    |x - x'|^2 / D + commitment * |z - codes of z|^2 / D_z,

    averaged over the batch. Codes are moving averages of the parts that are nearest to them.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    network : tuple of int, str or object, default=None
        Encoder and decoder: widths of the hidden layers of perceptrons; one of the objects of
        :mod:`skgenad.networks`, its name in lower case, such as "conv28", or one like it with
        ``make_encoder`` and ``make_decoder``. None: ``MLP((128, 128), activation="leaky_relu")``.
    n_codes : int, default=64
        Number of codes to choose from.
    code_dim : int, default=4
        Dimension of a code.
    n_parts : int, default=8
        Number of codes that make a latent vector, whose dimension is ``n_parts * code_dim``.
    commitment : float, default=0.25
        Weight of the squared distance of latent vectors from their codes in the loss.
    decay : float, default=0.99
        What the moving averages that are the codes keep of themselves in a step, in [0, 1).
    score_type : {"reconstruction", "latent"}, default="reconstruction"
        What is scored: the squared error of the reconstruction, or the squared distance of the
        latent vector from its codes.
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
        Seed of weights, of batches and of where the codes begin.
    verbose : int, default=0
        Whether to show a progress bar.
    callbacks : list of skorch callbacks, default=None
        They find the stage of training as ``net.stage``.

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        A row per epoch of 50 steps: stage, epoch, step, loss and its parts before weighting
        (reconstruction, commitment), perplexity, seconds. The perplexity is how many codes a batch
        uses: as many codes, used alike, have the same entropy.
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
    Autoencoder : With a latent space of real numbers.
    WAE : With a latent space that follows a normal distribution.

    Notes
    -----
    ``score_samples`` is the negative mean over columns of the squared error, in squared
    standardised units; for ``score_type="latent"`` the negative mean over the latent dimensions of
    the squared distance, in the units of the latent space, which a fit chooses.

    For "latent" a departure c from a column that was constant in training, in standardised units,
    costs 5,000 c^2 more, as in energies in nats.

    Of two codes that are equally near it is the first. The loss has means over columns and latent
    dimensions where [1]_ has sums: a `commitment` weighs as much as D / D_z times it does there.

    References
    ----------
    .. [1] A. van den Oord, O. Vinyals and K. Kavukcuoglu. Neural Discrete Representation Learning.
       NeurIPS 2017. https://arxiv.org/abs/1711.00937

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import VQVAE
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = VQVAE(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot()}
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "n_codes": [Interval(Integral, 1, None, closed="left")],
        "code_dim": [Interval(Integral, 1, None, closed="left")],
        "n_parts": [Interval(Integral, 1, None, closed="left")],
        "commitment": [Interval(Real, 0, None, closed="left")],
        "decay": [Interval(Real, 0, 1, closed="left")],
        "score_type": [StrOptions({"reconstruction", "latent"})],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        n_codes: int = 64,
        code_dim: int = 4,
        n_parts: int = 8,
        commitment: float = 0.25,
        decay: float = 0.99,
        score_type: str = "reconstruction",
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
        self.n_codes = n_codes
        self.code_dim = code_dim
        self.n_parts = n_parts
        self.commitment = commitment
        self.decay = decay
        self.score_type = score_type
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

    def _make_module(self, n_features: int) -> VQVAEModel:
        return VQVAEModel(
            networks_for(self.part("network"), self._row_shape(n_features)),
            Codebook(self.n_codes, self.n_parts, self.code_dim, self.decay),
            commitment=self.commitment,
            score_type=self.score_type,
        )

    @property
    def _sees_constants(self) -> bool:
        # What the encoder makes of a column that never varied is what it was made with.
        return self.score_type == "reconstruction"

    def _stages(self, module: VQVAEModel) -> list[Stage]:
        return [
            Stage(
                name="vqvae",
                optimizers={"main": adam(module.parameters(), self.learning_rate)},
                n_steps=self.max_steps,
                validate=own_loss,
                is_steady=is_steady,
            )
        ]
