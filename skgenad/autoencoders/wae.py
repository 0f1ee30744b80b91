"""WAE: a Wasserstein autoencoder with maximum mean discrepancy; reconstruction error.

With an encoder g and a decoder f, both without noise, training lowers

    |x - f(g(x))|^2 / D + mmd_penalty * MMD^2(encoded rows, N(0, I))

where for the latent vectors z_i of a batch, as many draws y_i from the prior, and a kernel k

    MMD^2 = mean_{i != j} k(z_i, z_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(z_i, y_j)

is the unbiased estimate of the squared maximum mean discrepancy. The energy of a row is its
reconstruction error.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, is_steady, own_loss
from skgenad._core.optimizers import adam
from skgenad._core.papers import FromPaper
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.sampling import PriorSamplingMixin
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors import draws
from skgenad._tensors.maps import AutoencoderNet
from skgenad._tensors.reconstruction import ReconstructionEnergy
from skgenad.networks import IMAGE_CONSTRAINTS, network_slot, networks_for

from . import _papers
from ._kernels import KERNELS, make_kernel, median_scale, unbiased_mmd


class WAEModel(ReconstructionEnergy):
    """An autoencoder with a Gaussian prior N(0, I) of its latent vectors.

    Parameters
    ----------
    net : AutoencoderNet
        With a Euclidean latent space.
    latent_dim : int
        Its dimension.
    mmd_penalty : float
        Weight of the squared discrepancy in the loss.
    kernel : {"rbf", "imq"}
        Kernel of the discrepancy.
    """

    def __init__(
        self, net: AutoencoderNet, latent_dim: int, *, mmd_penalty: float, kernel: str
    ) -> None:
        super().__init__(net)
        self.latent_dim, self.mmd_penalty, self.kernel = latent_dim, mmd_penalty, kernel

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Reconstruction error of a batch (n, d) and weighted discrepancy of its latent vectors."""
        z = self.net.encode(x)
        reconstruction = (x - self.net.decode(z)).square().mean()
        mmd = self.discrepancy(z)
        loss = reconstruction + self.mmd_penalty * mmd
        return {"loss": loss, "reconstruction": reconstruction, "mmd": mmd}

    def prior(self, n: int) -> Tensor:
        """Draw `n` latent vectors from the prior."""
        device = next(self.parameters()).device
        return draws.randn(n, self.latent_dim, device=device)

    def discrepancy(self, z: Tensor) -> Tensor:
        """Unbiased squared MMD () of latent vectors (n, d_z) and as many draws from the prior."""
        if len(z) < 2:  # a single latent vector has none to be compared with
            return z.new_zeros(())
        prior = self.prior(len(z))
        if self.kernel == "rbf":
            scale: Tensor | float = median_scale(torch.cat([z, prior]))
        else:
            # This is the expected squared distance of two draws from the prior.
            scale = 2.0 * self.latent_dim
        return unbiased_mmd(z, prior, make_kernel(self.kernel, scale))

    def sample(self, n: int) -> Tensor:
        """Decode `n` draws from the prior."""
        return self.net.decode(self.prior(n))


class WAE(FromPaper, AnomalyMapMixin, PriorSamplingMixin, BaseGenerativeDetector):
    """Detect anomalies with a Wasserstein autoencoder (Tolstikhin et al., 2018).

    An autoencoder whose latent vectors, those of all rows together, are made to follow a Gaussian
    prior: the loss is

    |x - x'|^2 / D + mmd_penalty * MMD^2(encoded rows, N(0, I)),

    averaged over the batch, with the maximum mean discrepancy (MMD) of the batch's latent vectors
    and as many draws from the prior. Encoder and decoder have no noise.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    network : tuple of int, str or object, default=None
        Encoder and decoder: widths of the hidden layers of perceptrons; one of the objects of
        :mod:`skgenad.networks`, its name in lower case, such as "conv28", or one like it with
        ``make_encoder`` and ``make_decoder``. None: ``MLP((128, 128), activation="leaky_relu")``.
    latent_dim : int, default=4
        Dimension of the latent space, which is Euclidean.
    mmd_penalty : float, default=0.1
        Weight of the squared MMD in the loss.
    kernel : {"rbf", "imq"}, default="rbf"
        Kernel of the MMD at a squared distance s: exp(-s / m), with the median m of s in the batch
        of latent vectors and draws, or the inverse multiquadratic C / (C + s), with
        ``C = 2 * latent_dim``. To be left as it is with ``mmd_penalty=0``.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=1e-3
        Adam's learning rate at the start; it falls to 0 as half a cosine.
    batch_size : int, default=128
        Rows in a gradient step. A batch of one row has no MMD: with 1 the term is left
        out, and its parameters are to be left as they are.
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
        Seed of weights, batches and draws from the prior.
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
        (reconstruction, mmd = MMD^2), seconds.
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
    VAE : Matches the latent distribution of each row with the prior, and has a likelihood.
    Autoencoder : Without a prior.

    Notes
    -----
    ``score_samples`` is the negative mean over columns of the squared error, in squared
    standardised units. The prior has no part in it.

    The estimate of MMD^2 is the unbiased one, which leaves out the comparison of a latent vector
    with itself: its mean is 0 if the latent vectors follow the prior, and single values may be
    negative. With the mean and not the sum over columns in the loss, `mmd_penalty` is D times
    smaller than the weight in [1]_ that means the same.

    References
    ----------
    .. [1] I. Tolstikhin, O. Bousquet, S. Gelly and B. Schoelkopf. Wasserstein Auto-Encoders. ICLR
       2018. https://arxiv.org/abs/1711.01558

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import WAE
    >>> X = np.random.RandomState(0).randn(200, 5)
    >>> detector = WAE(max_steps=100, random_state=0).fit(X)
    >>> detector.predict(np.full((1, 5), 20.0))
    array([-1])
    >>> detector.sample(3, random_state=0).shape
    (3, 5)
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = _papers.WAE
    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot()}
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "mmd_penalty": [Interval(Real, 0, None, closed="left")],
        "kernel": [StrOptions(set(KERNELS))],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        latent_dim: int = 4,
        mmd_penalty: float = 0.1,
        kernel: str = "rbf",
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
        self.mmd_penalty = mmd_penalty
        self.kernel = kernel
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
        """Make the WAE of NAE's paper, one of its baselines (Yoon, Noh and Park, appendix D.4).

        The networks are Conv28 and Conv32 (Table 10); the kernel is Gaussian, as wide as the median
        distance. The weight of the discrepancy, which the paper searches for between 0.001 and 0.1,
        is 0.1.

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
        detector : WAE
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of these.
        """
        return super().from_paper(experiment, **parameters)

    def _make_module(self, n_features: int) -> WAEModel:
        self._refuse_unused()
        networks = networks_for(self.part("network"), self._row_shape(n_features))
        return WAEModel(
            networks.autoencoder(self.latent_dim, "euclidean"),
            self.latent_dim,
            mmd_penalty=self.mmd_penalty,
            kernel=self.kernel,
        )

    def _refuse_unused(self) -> None:
        if self.mmd_penalty == 0:
            refuse_unused(self, ("kernel",), "mmd_penalty=0 leaves the discrepancy out")
        elif self.batch_size == 1:
            why = "a batch of one row has no discrepancy"
            refuse_unused(self, ("mmd_penalty", "kernel"), why)

    def _stages(self, module: WAEModel) -> list[Stage]:
        return [
            Stage(
                name="wae",
                optimizers={"main": adam(module.parameters(), self.learning_rate)},
                n_steps=self.max_steps,
                validate=own_loss,
                is_steady=is_steady,
            )
        ]
