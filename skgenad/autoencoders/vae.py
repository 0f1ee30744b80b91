"""VAE: a variational autoencoder; reconstruction error, ELBO or importance-weighted bound.

The model of a row x in standard units is p(x, z) = N(z; 0, I) N(x; f(z), sigma^2 I), with a decoder
f. An encoder gives the mean m and the variances s^2 of q(z | x) = N(m, diag(s^2)). Training lowers

    -E_q[log p(x | z)] + kl_penalty * KL(q(z | x) | N(0, I)),
    KL = sum_j (m_j^2 + s_j^2 - 1 - log s_j^2) / 2

with one z from q for each row of a batch, and with a learned sigma^2 at the mean squared error of
f(z), which is best given the networks. With z_1, ..., z_K from q and w_i = p(x, z_i) / q(z_i | x)

    mean_i log w_i  <=  log mean_i w_i  <=  log p(x)      (in expectation)

are the evidence lower bound (ELBO) and the importance-weighted bound that a row is scored by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, is_steady
from skgenad._core.optimizers import adam
from skgenad._core.papers import FromPaper
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.sampling import PriorSamplingMixin
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, extremes
from skgenad._tensors.device import precise
from skgenad._tensors.distances import SquaredDistance
from skgenad._tensors.model import Model
from skgenad._tensors.networks import Networks
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

from . import _papers

_LOG_2PI = math.log(2 * math.pi)
# Log variances of the posterior are kept between these: far from the data the encoder is linear,
# and exp would overflow.
_LOG_VARIANCES = (-30.0, 20.0)
# The likelihood's variance is at least this, since a decoder in float32 is no more exact.
_LEAST_VARIANCE = 1e-12
# The learned variance is an average over about the last 1 / _RATE batches.
_RATE = 0.01


def normal_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergences (n,), in nats, of N(mean, diag(exp(log_variance))) from N(0, I)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


class VAEModel(Model):
    """Encoder, decoder and likelihood of p(x, z) = N(z; 0, I) N(x; f(z), sigma^2 I).

    A column that is constant in training has no density. The decoder gives back the constant
    there, and the likelihood is that of the columns that vary.

    Parameters
    ----------
    networks : Networks
        Makes encoder and decoder.
    latent_dim : int
        Dimension of z.
    sigma : float or None
        Standard deviation of the likelihood; None to learn it.
    kl_penalty : float
        Weight of the KL divergence in the loss, once it is warm.
    warm_up_steps : int
        Number of steps of training in which that weight rises from 0.
    score_type : {"reconstruction", "elbo", "likelihood"}
        What the energy is.
    n_importance_samples : int
        Number of z that a bound looks at.
    """

    variance: Tensor
    n_steps: Tensor
    varies: Tensor
    constants: Tensor
    noise: Tensor

    def __init__(
        self,
        networks: Networks,
        latent_dim: int,
        *,
        sigma: float | None = None,
        kl_penalty: float = 1.0,
        warm_up_steps: int = 0,
        score_type: str = "reconstruction",
        n_importance_samples: int = 1,
    ) -> None:
        super().__init__()
        self.learns_variance, self.score_type = sigma is None, score_type
        self.kl_penalty, self.warm_up_steps = kl_penalty, warm_up_steps
        self.distance = SquaredDistance()
        n_features = networks.n_features
        self.encoder, self.decoder = networks.encoder(2 * latent_dim), networks.decoder(latent_dim)
        self.register_buffer("variance", torch.tensor([1.0 if sigma is None else sigma**2]))
        self.register_buffer("n_steps", torch.zeros(1))
        self.register_buffer("varies", torch.ones(n_features, dtype=torch.bool))
        self.register_buffer("constants", torch.zeros(n_features))
        # The noise is the same for all rows, so that a row's score depends on that row alone. It is
        # drawn by a generator of its own and row by row: training does not depend on how many
        # samples there are, and the first of many are those of few.
        generator = torch.Generator("cpu").manual_seed(int(torch.randint(2**31 - 1, ())))
        rows = [torch.randn(latent_dim, generator=generator) for _ in range(n_importance_samples)]
        self.register_buffer("noise", torch.stack(rows))

    # ---- the model ------------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, rows: Rows, labels: Tensor | None) -> None:
        """Find the columns of the training rows (n, d) that do not vary."""
        low, high = extremes(rows)
        self.varies.copy_(high > low)
        self.constants.copy_(rows[0])

    @torch.no_grad()
    def resume(self, rows: Rows) -> None:
        """Find the columns of rows (n, d), those so far and new ones, that begin to vary."""
        low, high = extremes(rows)
        self.varies.logical_or_(high > low)

    def settled(self, x: Tensor) -> Tensor:
        """Rows (n, d) with the constants where training rows had them."""
        return torch.where(self.varies, x, self.constants)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances, both (n, d_z), of q(z | x)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    def encode(self, x: Tensor) -> Tensor:
        """Means (n, d_z) of q(z | x)."""
        return self.posterior(self.settled(x))[0]

    def decode(self, z: Tensor) -> Tensor:
        """Means (n, d) of p(x | z)."""
        return self.settled(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d) of rows (n, d), by the means of q(z | x)."""
        return self.decode(self.encode(x))

    def sample(self, n: int) -> Tensor:
        """Draw `n` rows from the model."""
        mean = self.decode(draws.randn(n, self.noise.shape[1], device=self.noise.device))
        return self.settled(mean + self.variance.sqrt() * draws.randn_like(mean))

    # ---- training -------------------------------------------------------------------------

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Negative ELBO of a batch (n, d), the divergence weighted as it is in this step."""
        misfit, kl = self.negative_elbo_parts(x)
        warmth = (self.n_steps / max(1, self.warm_up_steps)).clamp_max(1).squeeze()
        return {"loss": misfit + self.kl_penalty * warmth * kl, "misfit": misfit, "kl": kl}

    def validation_loss(self, x: Tensor) -> Tensor:
        """Negative ELBO () of rows (n, d), with the divergence's weight after the warm-up."""
        misfit, kl = self.negative_elbo_parts(x)
        return misfit + self.kl_penalty * kl

    def negative_elbo_parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return -log p(x | z) for one z from q(z | x), and the KL divergence; means over rows.

        A step of training also counts itself and moves the variance, if that is learned.
        """
        x = self.settled(x)
        mean, log_variance = self.posterior(x)
        z = mean + (0.5 * log_variance).exp() * draws.randn_like(mean)
        squared = (x - self.decode(z)).square().sum(dim=1).mean()
        n_varying = self.varies.sum()
        if self.training:
            self.n_steps += 1
        if self.training and self.learns_variance:
            self._average(squared.detach() / n_varying.clamp_min(1))
        log_volume = 0.5 * n_varying * (_LOG_2PI + self.variance.log())
        misfit = 0.5 * squared / self.variance + log_volume
        return misfit.squeeze(), normal_kl(mean, log_variance).mean()

    def _average(self, squared_error: Tensor) -> None:
        """Move the variance to the mean squared error: given the networks, the ELBO's maximum.

        A gradient step of Adam's moves log sigma by no more than the learning rate.
        """
        rate = self.n_steps.reciprocal().clamp_min(_RATE)
        average = self.variance + rate * (squared_error - self.variance)
        self.variance.copy_(average.clamp_min(_LEAST_VARIANCE))

    # ---- scoring --------------------------------------------------------------------------

    def log_weights(self, x: Tensor) -> Iterator[Tensor]:
        """Yield log p(x, z) - log q(z | x), in nats (n,), for one z after the other.

        The last bits of sums and exponentials may depend on a row's place in the batch. In
        float64, where nothing overflows either, they have no part in what float32 networks say.
        """
        x = self.settled(x)
        mean, log_variance = self.posterior(x)
        deviation = (0.5 * precise(log_variance)).exp().to(x.dtype)
        variance = precise(self.variance)
        log_volume = 0.5 * self.varies.sum() * (_LOG_2PI + variance.log())
        # The constants of N(z; 0, I) and of q cancel, and are left out.
        level = 0.5 * precise(log_variance).sum(dim=1) - log_volume
        for noise in self.noise:
            z = mean + deviation * noise
            misfit = precise(x - self.decode(z)).square().sum(dim=1) / variance
            prior = precise(z).square().sum(dim=1) - precise(noise).square().sum()
            yield level - 0.5 * (misfit + prior)

    def elbo(self, x: Tensor) -> Tensor:
        """Evidence lower bounds (n,) of log p(x): the mean log weight."""
        total = torch.zeros((), device=x.device)
        for log_weight in self.log_weights(x):
            total = total + log_weight
        return total / len(self.noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Importance-weighted bounds (n,) of log p(x): the log of the mean weight."""
        weights = self.log_weights(x)
        total = next(weights)
        for log_weight in weights:
            total = torch.logaddexp(total, log_weight)
        return total - math.log(len(self.noise))

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d).

        Against a bound, a departure from a constant counts as one of sigma^2's columns would.
        """
        if self.score_type == "reconstruction":
            return self.distance(x, self.reconstruct(x))
        bound = self.elbo(x) if self.score_type == "elbo" else self.log_prob(x)
        departure = precise(x - self.settled(x)).square().sum(dim=1)
        return 0.5 * departure / precise(self.variance) - bound


class VAE(FromPaper, AnomalyMapMixin, PriorSamplingMixin, BaseGenerativeDetector):
    """Detect anomalies with a variational autoencoder (Kingma and Welling, 2014).

    The model is p(x, z) = N(z; 0, I) N(x; f(z), sigma^2 I) with a decoder f; an encoder gives the
    mean and the variances of q(z | x), a diagonal Gaussian that stands for the posterior. Both are
    trained to raise E_q[log p(x | z)] - kl_penalty * KL(q(z | x) | N(0, I)), for a penalty of 1 the
    evidence lower bound (ELBO) of log p(x).

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
        Dimension of the latent space, which is Euclidean. None: the number of columns up to 100
        columns, 70 % of it beyond, and at least 2; 32 for images.
    sigma : float or None, default=None
        Standard deviation, in standardised units, of the likelihood p(x | z). None: learned, one
        for all columns.
    kl_penalty : float, default=1.0
        Weight of the KL divergence in the loss, the beta of a beta-VAE; it has no part in scores.
    warm_up_steps : int, default=200
        Number of the first gradient steps, of `max_steps`, in which the weight of the KL divergence
        rises from 0 to `kl_penalty`.
    score_type : {"reconstruction", "elbo", "likelihood"}, default="reconstruction"
        What is scored: the squared error of the reconstruction f(z) from the mean z of q(z | x),
        the ELBO, or the tighter importance-weighted bound of log p(x).
    n_importance_samples : int, default=16
        Number of z for the ELBO and the importance-weighted bound; time of scoring grows with it.
        To be left as it is with ``score_type="reconstruction"``, which draws no z.
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
        A row per 50 steps: stage, epoch, step, loss and its parts before weighting (misfit
        = -log p(x | z), kl), seconds. In nats.
    module_ : nn.Module
        The trained networks, with ``energy(x)`` in standardised units.
    units_ : object
        Means and scales of the columns.
    calibration_scores_ : ndarray or None
        Sorted scores, out of sample, that the threshold and p-values come from.
    sigma_ : float
        The standard deviation `sigma`, learned or given.
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
    WAE : Matches the latent vectors of all rows together, not of each row, with the prior.
    Autoencoder : Score by the reconstruction error of a plain or denoising autoencoder.

    Notes
    -----
    ``score_samples`` is, for ``score_type="reconstruction"``, the negative mean over columns of
    the squared error, in squared standardised units. For "elbo" and "likelihood" it is a lower
    bound of log p(x) in nats, in standardised units: the mean of log weights, or the log of the
    mean weight [2]_. The noise in the draws is drawn once, in `fit`, and is the same for all rows,
    so that scores have no chance in them. The ELBO of a row is never above its importance-weighted
    bound; for ``n_importance_samples=1`` they are the same.

    A learned sigma^2 is the mean squared error of f(z) [3]_, averaged over about 100 batches.

    A column that was constant in training has no density. The likelihood is that of the other
    columns; in ``score_samples`` a departure c from the constant costs c^2 / (2 sigma^2) nats more.

    References
    ----------
    .. [1] D. P. Kingma and M. Welling. Auto-Encoding Variational Bayes. ICLR 2014.
       https://arxiv.org/abs/1312.6114
    .. [2] Y. Burda, R. Grosse and R. Salakhutdinov. Importance Weighted Autoencoders. ICLR 2016.
       https://arxiv.org/abs/1509.00519
    .. [3] O. Rybkin, K. Daniilidis and S. Levine. Simple and Effective VAE Training with
       Calibrated Decoders. ICML 2021. https://arxiv.org/abs/2006.13202

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import VAE
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = VAE(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    >>> detector.sample(3, random_state=0).shape
    (3, 5)
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = _papers.VAE
    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot()}
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "sigma": [Interval(Real, 0, None, closed="neither"), None],
        "kl_penalty": [Interval(Real, 0, None, closed="left")],
        "warm_up_steps": [Interval(Integral, 0, None, closed="left")],
        "score_type": [StrOptions({"reconstruction", "elbo", "likelihood"})],
        "n_importance_samples": [Interval(Integral, 1, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        latent_dim: int | None = None,
        sigma: float | None = None,
        kl_penalty: float = 1.0,
        warm_up_steps: int = 200,
        score_type: str = "reconstruction",
        n_importance_samples: int = 16,
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
        self.sigma = sigma
        self.kl_penalty = kl_penalty
        self.warm_up_steps = warm_up_steps
        self.score_type = score_type
        self.n_importance_samples = n_importance_samples
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

    @classmethod
    def from_paper(cls, experiment: str | None = "mnist", **parameters: Any) -> Self:
        """Make the VAE of NAE's paper, one of its baselines (Yoon, Noh and Park, appendix D.4).

        The networks are Conv28 and Conv32 (Table 10), with twice the outputs in the encoder. The
        paper scores by the error, its VAE(R), or by the likelihood, its VAE(L), which is
        ``score_type="likelihood"``.

        The rest is ours: the paper searches for the latent dimension and gives neither rate nor
        length, which are here those of the pretraining of its own autoencoders, for a GPU.

        Parameters
        ----------
        experiment : {"mnist", "cifar10"}, default="mnist"
            Which of the paper's experiments on images.
        **parameters
            Parameters that replace the paper's.

        Returns
        -------
        detector : VAE
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of these.
        """
        return super().from_paper(experiment, **parameters)

    def _make_module(self, n_features: int) -> VAEModel:
        self._refuse_unused()
        networks = networks_for(self.part("network"), self._row_shape(n_features))
        return VAEModel(
            networks,
            self.latent_dim or networks.latent_dim,
            sigma=self.sigma,
            kl_penalty=self.kl_penalty,
            warm_up_steps=self.warm_up_steps,
            score_type=self.score_type,
            n_importance_samples=self.n_importance_samples,
        )

    def _refuse_unused(self) -> None:
        if self.kl_penalty == 0:
            refuse_unused(self, ("warm_up_steps",), "kl_penalty=0 leaves no weight to warm up")
        if self.score_type == "reconstruction":
            why = "score_type='reconstruction' draws no samples"
            refuse_unused(self, ("n_importance_samples",), why)

    def _stages(self, module: VAEModel) -> list[Stage]:
        return [
            Stage(
                name="vae",
                optimizers={"main": adam(module.parameters(), self.learning_rate)},
                n_steps=self.max_steps,
                validate=VAEModel.validation_loss,
                is_steady=is_steady,
            )
        ]

    @property
    def sigma_(self) -> float:
        """Standard deviation, in standardised units, of the likelihood."""
        check_is_fitted(self)
        return float(self.module_.variance.sqrt())

    def log_density(self, X: ArrayLike) -> NDArray:
        """Importance-weighted lower bound of the log density, whatever `score_type` is.

        It is made of `n_importance_samples` draws. The density is that of the columns that varied
        in training; what the others hold has no part in it. Densities in the units of X can be
        compared between detectors, which scores in standardised units cannot.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats, in the units of X.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        return self._by_chunks(X, self.module_.log_prob) - self.units_.log_scale
