"""GANomaly: an encoder behind an autoencoder, trained against a discriminator; latent distance.

The generator G is an encoder G_E and a decoder G_D, x' = G_D(G_E(x)); a second encoder E maps x' to
a latent vector again. A discriminator D, with features f, tells rows from reconstructions. A step
lowers, with f standing still,

    adversarial_penalty * |f(x) - f(x')|^2 + contextual_penalty * |x - x'|_1
        + encoding_penalty * |G_E(x) - E(x')|^2

in G and E (the paper's equations 1 to 4) and, with x' standing still, the mean of the binary
cross-entropies of D(x) as 1 and D(x') as 0 in D: both gradients are taken at the same weights, as
in the authors' code. All norms are means over what they sum up, there too. The energy of a row is

    |G_E(x) - E(x')|_1 / D_z

(equation 5). The weights of D have spectral norms of 1 in place of the paper's batch normalisation:
without either its features grow without bounds, their difference outweighs all else, and the
decoder is lost. What is left out: scores are not brought to [0, 1] by the rows they are computed
for, since a row's score must depend on that row alone; D is not drawn anew when its loss is near 0.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage
from skgenad._core.optimizers import adam
from skgenad._core.parts import Slot
from skgenad._tensors.distances import SquaredDistance
from skgenad._tensors.maps import SpectralLinear, frozen
from skgenad._tensors.model import Model
from skgenad._tensors.networks import Networks
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

# Adam's averages in the paper (section 4): of gradients a short one.
_BETAS = (0.5, 0.999)
_SLOPE = 0.2


class Discriminator(nn.Module):
    """Tells rows from reconstructions: an encoder, an activation, and a linear layer.

    The weight of every layer is divided by its largest singular value, so that features differ by
    no more than rows do.

    Parameters
    ----------
    networks : Networks
        Makes the encoder.
    n_outputs : int
        Number of features.
    """

    def __init__(self, networks: Networks, n_outputs: int) -> None:
        super().__init__()
        self.encoder = networks.encoder(n_outputs, spectral=True)
        self.last = SpectralLinear(nn.Linear(n_outputs, 1))

    def features(self, x: Tensor) -> Tensor:
        """Features f (n, n_outputs) of rows (n, d)."""
        return F.leaky_relu(self.encoder(x), _SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Log odds (n,) that rows (n, d) are no reconstructions."""
        return self.last(self.features(x)).squeeze(1)


class GANomalyModel(Model):
    """Generator, second encoder and discriminator.

    Parameters
    ----------
    networks : Networks
        Makes the encoders and the decoder.
    latent_dim : int
        Dimension of latent vectors, and number of the discriminator's features.
    adversarial_penalty, contextual_penalty, encoding_penalty : float
        Weights in the loss.
    """

    def __init__(
        self,
        networks: Networks,
        latent_dim: int,
        *,
        adversarial_penalty: float,
        contextual_penalty: float,
        encoding_penalty: float,
    ) -> None:
        super().__init__()
        self.adversarial_penalty = adversarial_penalty
        self.contextual_penalty = contextual_penalty
        self.encoding_penalty = encoding_penalty
        self.distance = SquaredDistance()
        self.net = networks.autoencoder(latent_dim, "euclidean")
        self.second = networks.encoder(latent_dim)
        self.discriminator = Discriminator(networks, latent_dim)

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Losses of a batch (n, d): of generator and second encoder, and of the discriminator.

        Neither has a gradient in the weights of the other.
        """
        z = self.net.encode(x)
        back = self.net.decode(z)
        with frozen(self.discriminator):
            features = self.discriminator.features(back)
            adversarial = (self.discriminator.features(x) - features).square().mean()
        contextual = (x - back).abs().mean()
        encoding = (z - self.second(back)).square().mean()
        discriminator = self.discriminator_loss(x, back.detach())
        return {
            "loss": self.adversarial_penalty * adversarial
            + self.contextual_penalty * contextual
            + self.encoding_penalty * encoding
            + discriminator,
            "adversarial": adversarial,
            "contextual": contextual,
            "encoding": encoding,
            "discriminator": discriminator,
        }

    def discriminator_loss(self, x: Tensor, back: Tensor) -> Tensor:
        """Mean cross-entropy () of rows (n, d) as rows and of reconstructions as such.

        -log sigmoid(u) is softplus(-u), and -log(1 - sigmoid(u)) softplus(u).
        """
        as_rows, as_reconstructions = -self.discriminator(x), self.discriminator(back)
        return 0.5 * (F.softplus(as_rows).mean() + F.softplus(as_reconstructions).mean())

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d) of rows (n, d)."""
        return self.net(x)

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d)."""
        z = self.net.encode(x)
        return (z - self.second(self.net.decode(z))).abs().mean(dim=1)


class GANomaly(AnomalyMapMixin, BaseGenerativeDetector):
    """Detect anomalies by the latent distance of a row from its reconstruction (GANomaly).

    An autoencoder with an encoder behind it [1]_, trained on three losses: of the features that a
    discriminator has of rows x and of reconstructions x', of x and x', and of the latent vectors
    that the autoencoder's encoder gives x and the second encoder gives x':

    adversarial_penalty * |f(x) - f(x')|^2 + contextual_penalty * |x - x'|_1
    + encoding_penalty * |G_E(x) - E(x')|^2,

    all of them means. The discriminator, whose weights have spectral norms of 1, is trained in the
    same steps to tell x from x'.

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
        Dimension of the latent space, which is Euclidean, and number of the discriminator's
        features. None: the number of columns up to 100 columns, 70 % of it beyond, and at least 2;
        32 for images.
    adversarial_penalty : float, default=1.0
        Weight of the squared difference of features in the loss.
    contextual_penalty : float, default=50.0
        Weight of the absolute error of reconstructions in the loss.
    encoding_penalty : float, default=1.0
        Weight of the squared latent distance in the loss.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=1e-3
        Adam's learning rate at the start; it falls to 0 as half a cosine.
    batch_size : int, default=128
        Rows in a gradient step.
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
        Seed of weights and batches.
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
        (adversarial, contextual, encoding, discriminator), seconds.
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
    Autoencoder : Scored by the error of the reconstruction.
    MPDR : Negatives of an energy in place of a generator's reconstructions.

    Notes
    -----
    ``score_samples`` is the negative mean over the latent dimensions of |G_E(x) - E(x')|, in the
    units of the latent space, which a fit chooses. ``reconstruct`` and ``anomaly_map`` are of x',
    whose error has no part in the score. A departure c from a column that was constant in training,
    in standardised units, costs 5,000 c^2 more, as in energies in nats.

    No loss of a generator against a discriminator that is trained as well measures how good it is:
    there is no `stopping`, and `max_steps` says when training ends.

    References
    ----------
    .. [1] S. Akcay, A. Atapour-Abarghouei and T. P. Breckon. GANomaly: Semi-Supervised Anomaly
       Detection via Adversarial Training. ACCV 2018. https://arxiv.org/abs/1805.06725

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import GANomaly
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = GANomaly(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot()}
    _parameter_constraints: ClassVar[dict] = {
        **{
            name: allowed
            for name, allowed in BaseGenerativeDetector._parameter_constraints.items()
            if name != "stopping"  # losses against a network that is trained as well tell no epoch
        },
        **IMAGE_CONSTRAINTS,
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "adversarial_penalty": [Interval(Real, 0, None, closed="left")],
        "contextual_penalty": [Interval(Real, 0, None, closed="left")],
        "encoding_penalty": [Interval(Real, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        latent_dim: int | None = None,
        adversarial_penalty: float = 1.0,
        contextual_penalty: float = 50.0,
        encoding_penalty: float = 1.0,
        max_steps: int = 1000,
        learning_rate: float = 1e-3,
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
        self.latent_dim = latent_dim
        self.adversarial_penalty = adversarial_penalty
        self.contextual_penalty = contextual_penalty
        self.encoding_penalty = encoding_penalty
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.standardize = standardize
        self.contamination = contamination
        self.calibration_fraction = calibration_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _make_module(self, n_features: int) -> GANomalyModel:
        networks = networks_for(self.part("network"), self._row_shape(n_features))
        return GANomalyModel(
            networks,
            self.latent_dim or networks.latent_dim,
            adversarial_penalty=self.adversarial_penalty,
            contextual_penalty=self.contextual_penalty,
            encoding_penalty=self.encoding_penalty,
        )

    @property
    def _sees_constants(self) -> bool:
        # What encoders make of a column that never varied is what they were made with.
        return False

    def _stages(self, module: GANomalyModel) -> list[Stage]:
        generator = [*module.net.parameters(), *module.second.parameters()]
        return [
            Stage(
                name="ganomaly",
                optimizers={
                    "generator": adam(generator, self.learning_rate, _BETAS),
                    "discriminator": adam(
                        module.discriminator.parameters(), self.learning_rate, _BETAS
                    ),
                },
                n_steps=self.max_steps,  # spectral norms keep steps from being recorded on a GPU
            )
        ]
