"""DAGMM: an autoencoder and a Gaussian mixture over its codes and errors, trained together.

A row x with the code c and the reconstruction x' has the composite feature
z = (c, |x - x'| / |x|, cos(x, x')). An estimation network gives the memberships gamma_k of z in K
components, and a batch under these memberships the mixture (eq. 5 of the paper)

    phi_k = mean gamma_k,    mu_k = mean gamma_k z / phi_k,
    Sigma_k = mean gamma_k (z - mu_k) (z - mu_k)^T / phi_k.

With E(z) = -log sum_k phi_k N(z; mu_k, Sigma_k) training lowers (eq. 6, 7)

    |x - x'|^2 + energy_penalty * E(z) + covariance_penalty * sum_kj 1 / Sigma_kjj,

or, as public code has it, with the first term divided by the number of columns. The energy of a row
is E(z) under the mixture of all training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval, StrOptions, check_sizes
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, own_loss
from skgenad._core.optimizers import adam
from skgenad._core.papers import FromPaper
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, chunks_of
from skgenad._tensors.device import precise, shortened
from skgenad._tensors.distances import SquaredDistance, mean_squared_error
from skgenad._tensors.maps import AutoencoderNet
from skgenad._tensors.model import Model
from skgenad._tensors.moments import Mixture
from skgenad._tensors.twins import PreciselyScored
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

from . import _papers
from ._composite import cosine_dissimilarity
from ._mixture_energy import mixture_energy, regularized

# A row's error is divided by |x|, in standardised units, but by no less than this: a row at the
# mean of all columns has no length to relate its error to.
_NORM_FLOOR = 1e-3
_CLIP_NORM = 5.0


class DAGMMModel(PreciselyScored, Model):
    """Compression network, estimation network and the mixture of the training rows.

    Parameters
    ----------
    net : AutoencoderNet
        Compression network.
    latent_dim : int
        Dimension of its latent space.
    n_components : int
        Number of components, K.
    estimation_sizes : sequence of int
        Widths of the estimation network's hidden layers.
    dropout : float
        Share of their outputs that is dropped in training.
    errors : {"relative", "mean"}
        Which errors make the composite feature.
    reconstruction : {"sum", "mean"}
        Whether squared errors in the loss are the sum over columns or their mean.
    energy_penalty, covariance_penalty : float
        Weights of the mean energy and of the inverse variances in the loss.
    """

    phi: Tensor
    mu: Tensor
    factors: Tensor

    def __init__(
        self,
        net: AutoencoderNet,
        latent_dim: int,
        *,
        n_components: int,
        estimation_sizes: Sequence[int],
        dropout: float,
        errors: str,
        reconstruction: str,
        energy_penalty: float,
        covariance_penalty: float,
    ) -> None:
        super().__init__()
        self.errors, self.reconstruction, self.distance = errors, reconstruction, SquaredDistance()
        self.energy_penalty, self.covariance_penalty = energy_penalty, covariance_penalty
        d = latent_dim + 2
        widths = [d, *estimation_sizes]
        hidden: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            hidden += [nn.Linear(a, b), nn.Tanh(), draws.Dropout(dropout)]
        self.net = net
        self.estimation = nn.Sequential(*hidden, nn.Linear(widths[-1], n_components))
        self.register_buffer("phi", torch.full((n_components,), 1 / n_components))
        self.register_buffer("mu", torch.zeros(n_components, d))
        self.register_buffer("factors", torch.eye(d).repeat(n_components, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Composite features (n, d_z + 2) and mean squared errors (n,) of rows (n, d_x)."""
        code = self.net.encode(x)
        reconstruction = self.net.decode(code)
        if self.errors == "mean":
            error = mean_squared_error(x, reconstruction)
            angle = cosine_dissimilarity(x, reconstruction)
            squared = error
        else:
            distance = torch.linalg.vector_norm(x - reconstruction, dim=1)
            length = torch.linalg.vector_norm(x, dim=1).clamp_min(_NORM_FLOOR)
            error, squared = distance / length, distance.square() / x.shape[1]
            angle = F.cosine_similarity(x, reconstruction, dim=1)
        return torch.cat([code, error[:, None], angle[:, None]], dim=1), squared

    def memberships(self, z: Tensor) -> Tensor:
        """Soft memberships (n, K) of composite features."""
        return self.estimation(z).softmax(dim=1)

    def mixture(self, z: Tensor) -> Mixture:
        """Soft counts and moments of the components, by the memberships of rows `z`."""
        return Mixture.of(precise(z), precise(self.memberships(z)))

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Squared error, energy and inverse variances of a batch (n, d_x), and their sum."""
        z, squared_error = self(x)
        mixture = self.mixture(z)
        covariances = regularized(mixture.covariances)
        # Unlike cholesky, this does not raise if weights are not finite, which the divergence guard
        # deals with.
        factors, _ = torch.linalg.cholesky_ex(covariances)
        energy = mixture_energy(precise(z), mixture.weights, mixture.means, factors).mean()
        inverse_variances = covariances.diagonal(dim1=1, dim2=2).reciprocal().sum()
        reconstruction = squared_error.mean()
        if self.reconstruction == "sum":
            reconstruction = reconstruction * x.shape[1]
        return {
            "loss": reconstruction
            + self.energy_penalty * energy
            + self.covariance_penalty * inverse_variances,
            "reconstruction": reconstruction,
            "energy": energy,
            "inverse_variances": inverse_variances,
        }

    @torch.no_grad()
    def finish(self, rows: Rows, labels: Tensor | None) -> None:
        """Keep the mixture of `rows` (n, d_x), computed by chunks, as the one of :meth:`energy`."""
        parts = (self.mixture(self(chunk)[0]) for chunk in chunks_of(rows))
        mixture = reduce(Mixture.merge, parts)
        self.phi.copy_(mixture.weights)
        self.mu.copy_(mixture.means)
        self.factors.copy_(torch.linalg.cholesky(regularized(mixture.covariances)))
        self.forget()

    def energy(self, x: Tensor) -> Tensor:
        """Energies (n,) of rows (n, d_x) under the mixture that was kept.

        The last bits of a small matrix product depend on a row's place in the batch. Computed in
        float64 and rounded to float32's digits, energies do not.
        """
        twin = self.precise_twin
        z, _ = twin(precise(x))
        return shortened(mixture_energy(z, twin.phi, twin.mu, twin.factors))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d_x) of rows (n, d_x), with float32's digits as in :meth:`energy`."""
        return shortened(self.precise_twin.net(precise(x)))


class DAGMM(FromPaper, AnomalyMapMixin, BaseGenerativeDetector):
    """Detect anomalies with a deep autoencoding Gaussian mixture model (Zong et al., 2018).

    A compression network, an autoencoder, maps a row x to a code and a reconstruction x'. Code,
    relative error |x - x'| / |x| and the cosine of x and x' make the composite feature z; with
    ``errors="mean"`` it is the mean squared error |x - x'|^2 / d and (1 - cosine) / 2 [2]_. An
    estimation network gives the memberships of z in the components of a Gaussian mixture, whose
    parameters are the moments of the batch under them. Both networks are trained together, on

    |x - x'|^2 + energy_penalty * E(z) + covariance_penalty * sum_kj 1 / Sigma_kjj,

    averaged over the batch, with E(z) = -log sum_k phi_k N(z; mu_k, Sigma_k).

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    network : tuple of int, str or object, default=None
        Compression network: widths of the hidden layers of perceptrons; one of the objects of
        :mod:`skgenad.networks`, its name in lower case, such as "conv28", or one like it with
        ``make_encoder`` and ``make_decoder``. None: ``MLP((60, 30, 10), activation="tanh")``.
    latent_dim : int, default=4
        Dimension of the code; z has two more. Its latent space is Euclidean.
    n_components : int, default=4
        Number of components of the mixture. With 1 there is nothing to estimate:
        `estimation_sizes` and `dropout` are to be left as they are.
    estimation_sizes : tuple of int, default=(10,)
        Widths of the estimation network's hidden layers, with tanh as their activation.
    dropout : float, default=0.5
        Share, in [0, 1), of the outputs of these layers that is dropped in training. To be left as
        it is where it has none to drop: ``estimation_sizes=()``, or no penalty that trains them.
    errors : {"relative", "mean"}, default="relative"
        Which errors are features: relative error and cosine, or mean squared error and cosine
        dissimilarity, as for :class:`CANCE`.
    reconstruction : {"sum", "mean"}, default="sum"
        Whether the squared error in the loss is |x - x'|^2, the sum over columns, as the paper has
        it, or their mean, as public code for it. See the guide for when.
    energy_penalty : float, default=0.1
        Weight of the energy in the loss.
    covariance_penalty : float, default=0.005
        Weight of the inverse variances in the loss; it keeps components from collapsing.
    max_steps : int, default=500
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=1e-3
        Adam's learning rate at the start; it falls to 0 as half a cosine.
    batch_size : int, default=256
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
        Seed of weights, batches and dropout.
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
        (reconstruction, energy, inverse_variances), seconds.
    module_ : nn.Module
        The trained networks and the mixture, with ``energy(x)`` in standardised units.
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
    Autoencoder : Score by the reconstruction error alone.

    Notes
    -----
    ``score_samples`` is the log density of the composite feature, in nats. It is not the density of
    the row.

    The mixture that scores is that of all rows of `fit` or, after `partial_fit`, of those that were
    kept, under the trained networks and without dropout, not that of a batch.

    The defaults are the paper's networks for KDDCUP but for the code, which has one dimension
    there. A ridge keeps covariances positive definite, |x| counts as at least 0.001 in the relative
    error, and the gradient's norm is clipped at 5: none of the three is in the paper.

    References
    ----------
    .. [1] B. Zong et al. Deep Autoencoding Gaussian Mixture Model for Unsupervised Anomaly
       Detection. ICLR 2018. https://openreview.net/forum?id=BJJLHbb0-
    .. [2] Y. Liao and A. J. Brockmeier. Anomaly Detection via Autoencoder Composite Features and
       NCE. arXiv:2502.01920. Appendix H.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import DAGMM
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = DAGMM(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = _papers.DAGMM
    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot((60, 30, 10), "tanh")}
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "estimation_sizes": [tuple, list],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "errors": [StrOptions({"relative", "mean"})],
        "reconstruction": [StrOptions({"sum", "mean"})],
        "energy_penalty": [Interval(Real, 0, None, closed="left")],
        "covariance_penalty": [Interval(Real, 0, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        latent_dim: int = 4,
        n_components: int = 4,
        estimation_sizes: tuple[int, ...] = (10,),
        dropout: float = 0.5,
        errors: str = "relative",
        reconstruction: str = "sum",
        energy_penalty: float = 0.1,
        covariance_penalty: float = 0.005,
        max_steps: int = 500,
        learning_rate: float = 1e-3,
        batch_size: int = 256,
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
        self.n_components = n_components
        self.estimation_sizes = estimation_sizes
        self.dropout = dropout
        self.errors = errors
        self.reconstruction = reconstruction
        self.energy_penalty = energy_penalty
        self.covariance_penalty = covariance_penalty
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
    def from_paper(cls, experiment: str | None = "kddcup99", **parameters: Any) -> Self:
        """Make a detector with the settings of [1]_ for KDDCUP99, or those of [2]_.

        "kddcup99_cance" is DAGMM-1 of [2]_, with CANCE's errors and 10 epochs in place of 200.
        "mnist" and "cifar10" are of [2]_, too: 400 epochs of the images of one class. Ours are the
        networks of images ("conv"), their batches of 128 and MNIST's latent dimension, which is
        CANCE's; the mean over columns in the loss, where [1]_ has a sum; and a learning rate that
        falls to 0. The weights of the lowest validation loss are not kept, as [2]_ does on images.

        Parameters
        ----------
        experiment : {"kddcup99", "kddcup99_cance", "mnist", "cifar10"}, default="kddcup99"
            Which of the papers' experiments.
        **parameters
            Parameters that replace the papers'.

        Returns
        -------
        detector : DAGMM
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of those that are here.
        """
        return super().from_paper(experiment, **parameters)

    def _make_module(self, n_features: int) -> DAGMMModel:
        check_sizes("estimation_sizes", self.estimation_sizes)
        self._refuse_unused()
        networks = networks_for(self.part("network"), self._row_shape(n_features))
        return DAGMMModel(
            networks.autoencoder(self.latent_dim, "euclidean"),
            self.latent_dim,
            n_components=self.n_components,
            estimation_sizes=self.estimation_sizes,
            dropout=self.dropout,
            errors=self.errors,
            reconstruction=self.reconstruction,
            energy_penalty=self.energy_penalty,
            covariance_penalty=self.covariance_penalty,
        )

    def _refuse_unused(self) -> None:
        if self.n_components == 1:
            why = "all rows belong to the one component of n_components=1"
            refuse_unused(self, ("estimation_sizes", "dropout"), why)
        if not len(self.estimation_sizes):
            refuse_unused(self, ("dropout",), "estimation_sizes=() has no layer to drop from")
        if self.energy_penalty == self.covariance_penalty == 0:
            why = "without penalties the estimation network is not trained"
            refuse_unused(self, ("dropout",), why)

    @property
    def _sees_constants(self) -> bool:
        return False

    def _stages(self, module: DAGMMModel) -> list[Stage]:
        return [
            Stage(
                name="dagmm",
                optimizers={"main": adam(module.parameters(), self.learning_rate)},
                n_steps=self.max_steps,
                validate=own_loss,
                clip_norm=_CLIP_NORM,
            )
        ]
