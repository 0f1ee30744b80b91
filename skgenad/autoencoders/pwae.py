"""P-WAE: a patch-wise Wasserstein autoencoder (Zhang et al.), scored image and patch by patch.

An image x is cut into K patches x^k, which one encoder maps to latent vectors z^k without knowing
where they are. The loss is (eq. 20)

    |x - x'|^2 / D + hsic_penalty L_HSIC + swd_penalty L_SWD + jigsaw_penalty L_jigsaw

    x'         decoded from all z^k together, laid out as the patches are
    L_HSIC     nHSIC(Z', Z) - beta nHSIC(X, Z), with Z = (z^1, ..., z^K) and draws Z' from the
               prior                                                                 (eq. 14, 15)
    L_SWD      sum over k of the sliced Wasserstein distance of z^k from its prior, a Student t
               T(nu, k, 1) in every coordinate                                       (eq. 16 to 18)
    L_jigsaw   cross-entropy of the permutation in which a linear layer sees the z^k     (eq. 19)

An image is normal if the errors of the whole and of every patch are below their thresholds
(eq. 21 to 23). In units of what they are on images held out of training, that is their maximum.
Beside the paper's two readings of its score there is one of single pixels: the error of the worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skgenad._core.anomaly_maps import AnomalyMapMixin
from skgenad._core.checks import HasMethods, Interval, StrOptions
from skgenad._core.detector import BaseGenerativeDetector
from skgenad._core.loop import Stage, own_loss
from skgenad._core.optimizers import adam
from skgenad._core.papers import FromPaper
from skgenad._core.parts import Slot, refuse_unused
from skgenad._core.schedules import cosine
from skgenad._core.stopping import EarlyStopping
from skgenad._tensors import draws
from skgenad._tensors.chunks import Rows, chunks_of, joined
from skgenad._tensors.device import precise
from skgenad._tensors.distances import SquaredDistance, mean_squared_error
from skgenad._tensors.maps import Map, steady_linear
from skgenad._tensors.model import Model
from skgenad._tensors.networks import Networks, Perceptrons, RowDecoder
from skgenad.networks import (
    IMAGE_CONSTRAINTS,
    NETWORK_CONSTRAINTS,
    Conv,
    network_slot,
    networks_for,
    read_network,
)

from . import _papers
from ._hsic import normalized_hsic
from ._patch_networks import PatchDecoder
from ._patches import PatchGrid, distant_permutations, grid_for, shuffled
from ._wasserstein import random_directions, sliced_wasserstein, student_t

# `latent_dim` of images where it is None: the dimension of the latent vector of each patch.
_IMAGE_LATENT_DIM = 32
# If fewer rows than this are held out, the rows trained on help to measure which errors are usual.
_FEWEST_HELD_OUT = 10
# Penalties, and the parameters that would have no effect where the penalty is 0.
_OF_TERMS = (
    ("hsic_penalty", "hsic_beta"),
    ("swd_penalty", "n_projections"),
    ("jigsaw_penalty", "n_permutations"),
)
# One pixel in so many counts, the worst, where pixels are scored: 1 %, rounded up.
_WORST_ONE_IN = 100
# The unit of errors that do not vary is this share of their mean, and at least the smallest unit.
_LEAST_SPREAD, _LEAST_UNIT = 1e-6, 1e-12


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Terms of the loss beside the reconstruction error; one with a penalty of 0 is left out.

    Parameters
    ----------
    hsic_penalty, swd_penalty, jigsaw_penalty : float
        Their weights, lambda_1 to lambda_3.
    hsic_beta : float
        The factor beta in L_HSIC.
    degrees_of_freedom : float
        nu of the prior.
    n_projections : int
        Number of directions of the sliced Wasserstein distance.
    n_permutations : int
        Permutations that the jigsaw puzzle has, at most K!.
    """

    hsic_penalty: float
    swd_penalty: float
    jigsaw_penalty: float
    hsic_beta: float
    degrees_of_freedom: float
    n_projections: int
    n_permutations: int


class PWAEModel(Model):
    """Encoder of patches, decoder of images, jigsaw head, and the units of errors.

    Parameters
    ----------
    grid : PatchGrid
        How rows are cut; those of a table are images of (1, 1, d).
    encoder : Map
        Maps flat patches (m, d_patch) to latent vectors (m, latent_dim).
    decoder : Map
        Maps all of a row's (n, K * latent_dim) to rows (n, d).
    latent_dim : int
        Dimension of a patch's latent vector.
    terms : Terms
        Terms of the loss beside the reconstruction error.
    combine : {"max", "sum", "pixels"}
        How the errors of a row make its energy: the largest of those of the whole and of patches,
        their sum, or the error of the worst pixels in place of these.
    """

    permutations: Tensor
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        grid: PatchGrid,
        encoder: Map,
        decoder: Map,
        *,
        latent_dim: int,
        terms: Terms,
        combine: str,
    ) -> None:
        super().__init__()
        self.grid, self.encoder, self.decoder = grid, encoder, decoder
        self.latent_dim, self.terms, self.combine = latent_dim, terms, combine
        self.distance = SquaredDistance()
        permutations = distant_permutations(grid.n_patches, terms.n_permutations)
        self.register_buffer("permutations", permutations, persistent=False)
        self.head = nn.Linear(grid.n_patches * latent_dim, len(permutations))
        n_errors = 1 if combine == "pixels" else 1 + grid.n_patches
        self.register_buffer("center", torch.zeros(n_errors))
        self.register_buffer("spread", torch.ones(n_errors))

    # ---- reconstruction -------------------------------------------------------------------

    def encode(self, x: Tensor) -> Tensor:
        """Latent vectors (n, K * latent_dim), patch after patch, of rows (n, d)."""
        patches = self.grid.split(x.view(-1, *self.grid.shape))
        return self.encoder(patches.flatten(2).flatten(0, 1)).reshape(len(x), -1)

    def decode(self, z: Tensor) -> Tensor:
        """Rows (n, d) of latent vectors (n, K * latent_dim)."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions (n, d) of rows (n, d)."""
        return self.decode(self.encode(x))

    # ---- loss -----------------------------------------------------------------------------

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Mean squared error of a batch (n, d) and the other terms, before weighting (eq. 20)."""
        z, terms = self.encode(x), self.terms
        error = mean_squared_error(x, self.decode(z)).mean()
        parts = {"loss": error, "reconstruction": error}
        prior = self.prior(len(x))
        if terms.hsic_penalty:
            parts["hsic"] = normalized_hsic(prior, z) - terms.hsic_beta * normalized_hsic(x, z)
            parts["loss"] = parts["loss"] + terms.hsic_penalty * parts["hsic"]
        if terms.swd_penalty:
            parts["swd"] = self.swd(z, prior)
            parts["loss"] = parts["loss"] + terms.swd_penalty * parts["swd"]
        if terms.jigsaw_penalty:
            parts["jigsaw"], parts["solved"] = self.jigsaw(z)
            parts["loss"] = parts["loss"] + terms.jigsaw_penalty * parts["jigsaw"]
        return parts

    def swd(self, z: Tensor, prior: Tensor) -> Tensor:
        """Sliced Wasserstein distances of latent vectors from draws, (), summed over patches."""
        directions = random_directions(self.terms.n_projections, self.latent_dim, z.device)
        return sliced_wasserstein(self.by_patch(z), self.by_patch(prior), directions).sum()

    def by_patch(self, z: Tensor) -> Tensor:
        """Latent vectors (n, K, latent_dim)."""
        return z.reshape(len(z), -1, self.latent_dim)

    def prior(self, n: int) -> Tensor:
        """Draw latent vectors (n, K * latent_dim) from T(nu, k, 1) for k = 1, ..., K."""
        device = self.center.device
        draws = student_t(
            self.terms.degrees_of_freedom, (n, self.grid.n_patches, self.latent_dim), device
        )
        location = torch.arange(1.0, self.grid.n_patches + 1, device=device)
        return (draws + location[:, None]).flatten(1)

    def jigsaw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy () of the permutation of each row's patches, and the share solved ()."""
        labels = draws.randint(len(self.permutations), (len(z),), device=z.device)
        # Latent vectors are shuffled in place of patches, with the same outcome: the encoder sees
        # patches one by one.
        seen = shuffled(self.by_patch(z), self.permutations[labels]).flatten(1)
        logits = self.head(seen)
        return F.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()

    # ---- score ----------------------------------------------------------------------------

    def errors(self, x: Tensor) -> Tensor:
        """Root mean squared errors of rows (n, d): of the whole and of each patch (n, 1 + K).

        Of the worst pixels (n, 1) where ``combine`` is "pixels".
        """
        squares = (x - self.reconstruct(x)).square().view(-1, *self.grid.shape).mean(dim=1)
        flat = squares.flatten(1)
        if self.combine == "pixels":
            return worst_mean(flat).sqrt()
        of_patches = steady_linear(flat, self.grid.membership.T, None, self.training)
        return torch.cat([flat.mean(dim=1, keepdim=True), of_patches], dim=1).sqrt()

    @torch.no_grad()
    def set_units(self, rows: Rows) -> None:
        """Take mean and standard deviation of the errors of `rows` (n, d) as their units."""
        errors = precise(torch.cat([self.errors(chunk) for chunk in chunks_of(rows)]))
        center = errors.mean(dim=0)
        least = (_LEAST_SPREAD * center).clamp_min(_LEAST_UNIT)
        self.center = center.float()
        self.spread = errors.std(dim=0, correction=0).maximum(least).float()

    def calibrate(self, train: Rows, held_out: Tensor | None) -> None:
        """Take the units of errors from the rows held out, or from all rows if those are few."""
        self.set_units(rows_of_units(train, held_out))

    def energy(self, x: Tensor) -> Tensor:
        """Largest, or sum, of a row's errors in their units (n,); that of pixels is one error."""
        excess = (self.errors(x) - self.center) / self.spread
        return excess.sum(dim=1) if self.combine == "sum" else excess.amax(dim=1)


def worst_mean(squares: Tensor) -> Tensor:
    """Means (n, 1) of the largest hundredth, rounded up, of the squares (n, m) of each row."""
    n_worst = -(-squares.shape[1] // _WORST_ONE_IN)
    return squares.topk(n_worst, dim=1).values.mean(dim=1, keepdim=True)


def rows_of_units(train: Rows, held_out: Tensor | None) -> Rows:
    """Choose the rows (n, d) whose errors are the units of scores."""
    if held_out is None:
        return train
    return held_out if len(held_out) >= _FEWEST_HELD_OUT else joined([train, held_out])


class PWAE(FromPaper, AnomalyMapMixin, BaseGenerativeDetector):
    """Detect anomalies in images, and where they are, by an autoencoder of patches (P-WAE).

    One encoder, not told where a patch lies, maps patches to latent vectors, and a decoder rebuilds
    the image from all. They follow a prior for each place and solve a jigsaw when shuffled.

    Parameters
    ----------
    image_shape : (int, int, int), default=None
        Channels, height and width if rows are images: arrays (n, C, H, W) or flat rows of these,
        with pixels in [0, 1] or of type uint8, which is divided by 255. None for tables.
    network : tuple of int, str or object, default=None
        Encoder of a patch: widths of the hidden layers of a perceptron; one of the objects of
        :mod:`skgenad.networks`, its name in lower case, such as "conv28", or one like it with
        ``make_encoder``. None: ``Conv()``; for tables ``MLP((128, 128), activation="leaky_relu")``.
    latent_dim : int, default=None
        Dimension of a patch's latent vector. None: 32 for images, the block's columns for tables.
    decoder_channels : int, default=64
        Channels of the first maps of the decoder of images, which three blocks halve.
    grid_size : int, default=3
        Patches along each side of an image, n: n x n in all. Tables have n^2 blocks of columns.
    n_permutations : int, default=1000
        Permutations of the K patches that the jigsaw puzzle has, at most K!.
    degrees_of_freedom : float, default=5.0
        Degrees of freedom nu of the prior T(nu, k, 1), k being the number of the patch from 1.
    n_projections : int, default=50
        Directions of the sliced Wasserstein distance, drawn anew in each step.
    hsic_penalty : float, default=1e-6
        Weight lambda_1 of ``nHSIC(Z', Z) - beta * nHSIC(X, Z)`` beside the mean squared error.
    hsic_beta : float, default=0.1
        The factor beta in it.
    swd_penalty : float, default=1e-5
        Weight lambda_2 of the sum over patches of the sliced Wasserstein distance.
    jigsaw_penalty : float, default=1e-4
        Weight lambda_3 of the jigsaw puzzle's cross-entropy; of no use with ``grid_size=1``.
    combine : {"max", "sum", "pixels"}, default="max"
        Energy, in units of images held out: the largest error, of the whole and of patches; their
        sum; or the error of the worst 1 % of pixels. Fits are the same.
    optimizer : {"adam", "sgd"}, default="adam"
        "adam", whose learning rate falls to 0 as half a cosine; or "sgd" with a momentum of 0.9,
        whose learning rate falls by (1 + 10 p)^(-0.75) with the share p of the steps.
    validation_fraction : float, default=0.2
        Share of the training rows, in [0, 1), at most 4096 of them, whose errors are the units of
        scores and which have no part in gradients.
    max_steps : int, default=1000
        Number of gradient steps, whatever the number of rows.
    learning_rate : float, default=4e-3
        Learning rate at the start.
    batch_size : int, default=32
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
        Seed of weights, batches, draws from the prior, puzzles and the choice of the rows held out.
    verbose : int, default=0
        Whether to show a progress bar.
    callbacks : list of skorch callbacks, default=None
        They find the stage of training as ``net.stage``.

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    history_ : DataFrame
        A row per 50 steps: stage, epoch, step, loss and its parts before weighting
        (reconstruction, hsic, swd, jigsaw; solved, the share of puzzles that were solved), seconds.
    module_ : nn.Module
        The trained network, with ``energy(x)`` and ``errors(x)`` in standardised units.
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
    Autoencoder : The reconstruction error of the whole image.
    WAE : A Wasserstein autoencoder of the whole image, with one Gaussian prior.

    Notes
    -----
    An error e is the root of the mean squared difference between a row and its reconstruction, of
    the whole or over one patch; over held-out rows it has a mean m and a standard deviation s.
    ``score_samples`` is the negative of the largest (e - m) / s, or of their sum, without a unit.
    "pixels": e is over the hundredth, rounded up, of pixels or columns that differ most.
    A parameter of a term whose penalty is 0 is to be left as it is.

    References
    ----------
    Zhang et al., "P-WAE: generalized patch-Wasserstein autoencoder ...", arXiv:2108.03815.

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad import PWAE
    >>> rng = np.random.RandomState(0)
    >>> waves = np.sin(np.arange(12) + rng.uniform(0, 6, (60, 1, 1, 1)))
    >>> images = 0.5 + 0.3 * np.tile(waves, (1, 1, 12, 1)) + 0.02 * rng.rand(60, 1, 12, 12)
    >>> detector = PWAE(image_shape=(1, 12, 12), decoder_channels=16, max_steps=60, random_state=0)
    >>> detector = detector.fit(images[:50])
    >>> broken = images[50:51].copy()
    >>> broken[0, 0, 4:8, 4:8] = 1
    >>> detector.predict(broken)
    array([-1])
    """

    _papers: ClassVar[Mapping[str, Mapping[str, Any]]] = _papers.PWAE
    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot()}
    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "network": [HasMethods(["make_encoder"]), *NETWORK_CONSTRAINTS],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "decoder_channels": [Interval(Integral, 1, None, closed="left")],
        "grid_size": [Interval(Integral, 1, None, closed="left")],
        "n_permutations": [Interval(Integral, 1, None, closed="left")],
        "degrees_of_freedom": [Interval(Real, 0, None, closed="neither")],
        "n_projections": [Interval(Integral, 1, None, closed="left")],
        "hsic_penalty": [Interval(Real, 0, None, closed="left")],
        "hsic_beta": [Interval(Real, 0, None, closed="left")],
        "swd_penalty": [Interval(Real, 0, None, closed="left")],
        "jigsaw_penalty": [Interval(Real, 0, None, closed="left")],
        "combine": [StrOptions({"max", "sum", "pixels"})],
        "optimizer": [StrOptions({"adam", "sgd"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = None,
        latent_dim: int | None = None,
        decoder_channels: int = 64,
        grid_size: int = 3,
        n_permutations: int = 1000,
        degrees_of_freedom: float = 5.0,
        n_projections: int = 50,
        hsic_penalty: float = 1e-6,
        hsic_beta: float = 0.1,
        swd_penalty: float = 1e-5,
        jigsaw_penalty: float = 1e-4,
        combine: str = "max",
        optimizer: str = "adam",
        validation_fraction: float = 0.2,
        max_steps: int = 1000,
        learning_rate: float = 4e-3,
        batch_size: int = 32,
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
        self.decoder_channels = decoder_channels
        self.grid_size = grid_size
        self.n_permutations = n_permutations
        self.degrees_of_freedom = degrees_of_freedom
        self.n_projections = n_projections
        self.hsic_penalty = hsic_penalty
        self.hsic_beta = hsic_beta
        self.swd_penalty = swd_penalty
        self.jigsaw_penalty = jigsaw_penalty
        self.combine = combine
        self.optimizer = optimizer
        self.validation_fraction = validation_fraction
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
    def from_paper(cls, experiment: str | None = "mvtec", **parameters: Any) -> Self:
        """Make a detector with the paper's settings of an experiment (section IV.A).

        The paper's encoder is a ResNet-50 that was trained on ImageNet, whose features have 2048
        dimensions; ``network`` takes a factory of it. What the paper does not give is ours: the
        number of steps and the batch size, and the decoder's channels.

        Parameters
        ----------
        experiment : {"mvtec"}, default="mvtec"
            Which of the paper's experiments.
        **parameters
            Parameters that replace the paper's, such as ``image_shape=(3, 1008, 300)`` for its
            capsules.

        Returns
        -------
        detector : PWAE
            The detector, not fitted.

        Raises
        ------
        ValueError
            If the experiment is none of those that are here.
        """
        return super().from_paper(experiment, **parameters)

    # ---- module ---------------------------------------------------------------------------

    def _slot(self, name: str) -> Slot:
        if name == "network" and self.image_shape is not None:
            return Slot(Conv(), read_network)
        return super()._slot(name)

    def _make_module(self, n_features: int) -> PWAEModel:
        self._refuse_unused()
        shape = self._row_shape(n_features)
        grid = grid_for(shape, self.grid_size)
        networks = self._networks(grid)
        small = _IMAGE_LATENT_DIM if len(shape) == 3 else grid.patch_shape[-1]
        latent_dim = self.latent_dim or small
        # The decoder is made first, because the order decides which weights a seed draws.
        decoder = self._make_decoder(grid, networks, latent_dim)
        return PWAEModel(
            grid,
            networks.encoder(latent_dim),
            decoder,
            latent_dim=latent_dim,
            terms=Terms(**{field.name: getattr(self, field.name) for field in fields(Terms)}),
            combine=self.combine,
        )

    def _networks(self, grid: PatchGrid) -> Networks:
        """Find what makes the encoder of patches, which are images or rows of a table."""
        shape = grid.patch_shape[2:] if self.image_shape is None else grid.patch_shape
        try:
            return networks_for(self.part("network"), shape)
        except ValueError as error:
            cut = f"{grid.rows} x {grid.columns} patches of the shape {shape}"
            raise ValueError(f"The network sees {cut}: {error}") from error

    def _make_decoder(self, grid: PatchGrid, networks: Networks, latent_dim: int) -> Map:
        if self.image_shape is not None:
            return RowDecoder(PatchDecoder(grid, latent_dim, self.decoder_channels))
        factory = networks.factory
        perceptrons = factory if isinstance(factory, Perceptrons) else Perceptrons()
        return perceptrons.decoder(grid.n_patches * latent_dim, grid.shape[-1])

    def _refuse_unused(self) -> None:
        if self.image_shape is None:
            why = "rows are of a table, whose decoder is a perceptron"
            refuse_unused(self, ("decoder_channels",), why)
        if self.grid_size == 1:
            refuse_unused(self, ("jigsaw_penalty", "n_permutations"), "one patch is no puzzle")
        if self.hsic_penalty == self.swd_penalty == 0:
            refuse_unused(self, ("degrees_of_freedom",), "no term compares with the prior")
        for penalty, name in _OF_TERMS:
            if getattr(self, penalty) == 0:
                refuse_unused(self, (name,), f"{penalty}=0 leaves its term out")

    # ---- stages ---------------------------------------------------------------------------

    def _stages(self, module: PWAEModel) -> list[Stage]:
        return [
            Stage(
                name="pwae",
                optimizers={"main": self._make_optimizer(module)},
                n_steps=self.max_steps,
                validate=None if self.stopping is None else own_loss,
                schedule=cosine if self.optimizer == "adam" else papers_decay,
            )
        ]

    def _make_optimizer(self, module: PWAEModel) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return adam(module.parameters(), self.learning_rate)
        return torch.optim.SGD(module.parameters(), lr=self.learning_rate, momentum=0.9)


def papers_decay(step: int, n_steps: int) -> float:
    """Let the rate fall with the share p of the steps as (1 + 10 p)^(-3/4)."""
    return (1 + 10 * step / n_steps) ** -0.75
