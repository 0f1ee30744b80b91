"""P-WAE: a patch-wise Wasserstein autoencoder (Zhang et al.), scored image and patch by patch.

An image x is cut into K patches x^k, which one encoder maps to latent vectors z^k without knowing
where they are. The loss is (eq. 20)

    |x - x'|^2 / D + lambda_1 L_HSIC + lambda_2 L_SWD + lambda_3 L_jigsaw

    x'         decoded from all z^k together, laid out as the patches are
    L_HSIC     nHSIC(Z', Z) - beta nHSIC(X, Z), with Z = (z^1, ..., z^K) and draws Z' from the
               prior                                                                 (eq. 14, 15)
    L_SWD      sum over k of the sliced Wasserstein distance of z^k from its prior, a Student t
               T(nu, k, 1) in every coordinate                                       (eq. 16 to 18)
    L_jigsaw   cross-entropy of the permutation in which a linear layer sees the z^k     (eq. 19)

An image is normal if the errors of the whole and of every patch are below their thresholds
(eq. 21 to 23). In units of what they are on images held out of training, that is their maximum.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import HasMethods
from torch import Tensor, nn
from torch.distributions import StudentT

from ._base import (
    BaseGenerativeDetector,
    Integral,
    Interval,
    Real,
    StrOptions,
    check_sizes,
)
from ._device import precise
from ._distances import mean_squared_error
from ._factories import RowDecoder
from ._hsic import normalized_hsic
from ._images import IMAGE_CONSTRAINTS, networks_of, row_shape
from ._moments import chunks_of
from ._networks import ACTIVATIONS, MLP, Map, steady_linear
from ._objectives import random_directions, sliced_wasserstein
from ._patch_networks import PatchDecoder
from ._patches import PatchGrid, distant_permutations, grid_for, shuffled
from ._training import Stage, adam

# Of a patch of an image, unless asked otherwise.
_IMAGE_LATENT_DIM = 32
# With fewer rows held out than this, those trained on say what errors are usual, too.
_FEWEST_HELD_OUT = 10
# Errors that do not vary are measured by this share of their mean, or by the smallest unit.
_LEAST_SPREAD, _LEAST_UNIT = 1e-6, 1e-12

_PAPER: dict[str, Any] = {
    "image_shape": (3, 300, 300),
    "latent_dim": 2048,
    "grid_size": 3,
    "n_permutations": 1000,
    "degrees_of_freedom": 5.0,
    "hsic_weight": 0.01,
    "hsic_beta": 0.1,
    "swd_weight": 0.1,
    "jigsaw_weight": 1.0,
    "optimizer": "sgd",
    "learning_rate": 0.01,
}


class PWAEModule(nn.Module):
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
    n_permutations : int
        Permutations that the head tells apart, at most K!.
    nu : float
        Degrees of freedom of the prior.
    combine : {"max", "sum"}
        How the errors of a row make its energy.
    """

    permutations: Tensor
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        grid: PatchGrid,
        encoder: Map,
        decoder: Map,
        latent_dim: int,
        n_permutations: int,
        nu: float,
        combine: str,
    ) -> None:
        super().__init__()
        self.grid, self.encoder, self.decoder = grid, encoder, decoder
        self.latent_dim, self.nu, self.combine = latent_dim, nu, combine
        permutations = distant_permutations(grid.n_patches, n_permutations)
        self.register_buffer("permutations", permutations, persistent=False)
        self.head = nn.Linear(grid.n_patches * latent_dim, len(permutations))
        self.register_buffer("center", torch.zeros(1 + grid.n_patches))
        self.register_buffer("spread", torch.ones(1 + grid.n_patches))

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

    # ---- terms of the loss ----------------------------------------------------------------

    def by_patch(self, z: Tensor) -> Tensor:
        """Latent vectors (n, K, latent_dim)."""
        return z.reshape(len(z), -1, self.latent_dim)

    def prior(self, n: int) -> Tensor:
        """Draw latent vectors (n, K * latent_dim) from T(nu, k, 1) for k = 1, ..., K."""
        # Not every device draws from a Student t.
        draws = StudentT(self.nu).sample((n, self.grid.n_patches, self.latent_dim))
        location = torch.arange(1.0, self.grid.n_patches + 1)
        return (draws + location[:, None]).flatten(1).to(self.center.device)

    def jigsaw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy () of the permutation of each row's patches, and the share solved ()."""
        labels = torch.randint(len(self.permutations), (len(z),), device=z.device)
        # The encoder sees patches one by one: to shuffle what it makes of them is the same.
        seen = shuffled(self.by_patch(z), self.permutations[labels]).flatten(1)
        logits = self.head(seen)
        return F.cross_entropy(logits, labels), (logits.argmax(dim=1) == labels).float().mean()

    # ---- score ----------------------------------------------------------------------------

    def errors(self, x: Tensor) -> Tensor:
        """Root mean squared errors (n, 1 + K) of rows (n, d): of the whole, and of each patch."""
        squares = (x - self.reconstruct(x)).square().view(-1, *self.grid.shape).mean(dim=1)
        flat = squares.flatten(1)
        of_patches = steady_linear(flat, self.grid.membership.T, None, self.training)
        return torch.cat([flat.mean(dim=1, keepdim=True), of_patches], dim=1).sqrt()

    @torch.no_grad()
    def set_units(self, rows: Tensor) -> None:
        """Take mean and standard deviation of the errors of `rows` as their units."""
        errors = precise(torch.cat([self.errors(chunk) for chunk in chunks_of(rows)]))
        center = errors.mean(dim=0)
        least = (_LEAST_SPREAD * center).clamp_min(_LEAST_UNIT)
        self.center = center.float()
        self.spread = errors.std(dim=0, correction=0).maximum(least).float()

    def energy(self, x: Tensor) -> Tensor:
        """Largest, or sum, of a row's errors in their units (n,)."""
        excess = (self.errors(x) - self.center) / self.spread
        return excess.amax(dim=1) if self.combine == "max" else excess.sum(dim=1)


class PWAE(BaseGenerativeDetector):
    """Detect anomalies by a patch-wise Wasserstein autoencoder.

    Parameters
    ----------
    TODO : int
        Todo.
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseGenerativeDetector._parameter_constraints,
        **IMAGE_CONSTRAINTS,
        "network": [
            StrOptions({"auto", *IMAGE_CONSTRAINTS["network"][0].options}),
            HasMethods(["make_encoder"]),
        ],
        "hidden_sizes": [tuple, list],
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "decoder_channels": [Interval(Integral, 1, None, closed="left")],
        "grid_size": [Interval(Integral, 1, None, closed="left")],
        "n_permutations": [Interval(Integral, 1, None, closed="left")],
        "degrees_of_freedom": [Interval(Real, 0, None, closed="neither")],
        "n_projections": [Interval(Integral, 1, None, closed="left")],
        "hsic_weight": [Interval(Real, 0, None, closed="left")],
        "hsic_beta": [Interval(Real, 0, None, closed="left")],
        "swd_weight": [Interval(Real, 0, None, closed="left")],
        "jigsaw_weight": [Interval(Real, 0, None, closed="left")],
        "combine": [StrOptions({"max", "sum"})],
        "optimizer": [StrOptions({"adam", "sgd"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        network: Any = "auto",
        network_width: float = 1.0,
        hidden_sizes: tuple[int, ...] = (128, 128),
        latent_dim: int | None = None,
        activation: str = "leaky_relu",
        decoder_channels: int = 128,
        grid_size: int = 3,
        n_permutations: int = 1000,
        degrees_of_freedom: float = 5.0,
        n_projections: int = 50,
        hsic_weight: float = 1e-5,
        hsic_beta: float = 0.1,
        swd_weight: float = 1e-4,
        jigsaw_weight: float = 1e-3,
        combine: str = "max",
        optimizer: str = "adam",
        validation_fraction: float = 0.2,
        max_steps: int = 1000,
        learning_rate: float = 2e-3,
        batch_size: int = 32,
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
        self.latent_dim = latent_dim
        self.activation = activation
        self.decoder_channels = decoder_channels
        self.grid_size = grid_size
        self.n_permutations = n_permutations
        self.degrees_of_freedom = degrees_of_freedom
        self.n_projections = n_projections
        self.hsic_weight = hsic_weight
        self.hsic_beta = hsic_beta
        self.swd_weight = swd_weight
        self.jigsaw_weight = jigsaw_weight
        self.combine = combine
        self.optimizer = optimizer
        self.validation_fraction = validation_fraction
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

    @classmethod
    def from_paper(cls, **parameters: Any) -> Self:
        """Make a detector with the paper's settings (section IV.A)."""
        return cls(**{**_PAPER, **parameters})

    # ---- module ---------------------------------------------------------------------------

    def _make_module(self, n_features: int) -> PWAEModule:
        check_sizes("hidden_sizes", self.hidden_sizes)
        shape = row_shape(self, n_features)
        is_image = len(shape) == 3
        grid = grid_for(shape, self.grid_size)
        patch_shape = grid.patch_shape if is_image else grid.patch_shape[2:]
        kind = ("conv" if is_image else "mlp") if self._is_auto() else self.network
        try:
            networks = networks_of(self, n_features, kind, patch_shape)
        except ValueError as error:
            cut = f"{grid.rows} x {grid.columns} patches of the shape {patch_shape}"
            raise ValueError(f"The network sees {cut}: {error}") from error
        latent_dim = self.latent_dim or (_IMAGE_LATENT_DIM if is_image else patch_shape[-1])
        if is_image:
            decoder: Map = RowDecoder(PatchDecoder(grid, latent_dim, self.decoder_channels))
        else:
            sizes = [grid.n_patches * latent_dim, *reversed(self.hidden_sizes), n_features]
            decoder = MLP(sizes, self.activation)
        return PWAEModule(
            grid,
            networks.encoder(latent_dim),
            decoder,
            latent_dim,
            self.n_permutations,
            self.degrees_of_freedom,
            self.combine,
        )

    def _is_auto(self) -> bool:
        return isinstance(self.network, str) and self.network == "auto"

    # ---- stages ---------------------------------------------------------------------------

    def _stages(self, module: PWAEModule) -> list[Stage]:
        parameters = module.parameters()
        if self.optimizer == "adam":
            main: torch.optim.Optimizer = adam(parameters, self.learning_rate)
            decay = None
        else:
            main = torch.optim.SGD(parameters, lr=self.learning_rate, momentum=0.9)
            decay = _paper_decay
        return [Stage("pwae", self._objective, {"main": main}, self.max_steps, decay=decay)]

    def _objective(self, module: PWAEModule, x: Tensor) -> dict[str, Tensor]:
        z = module.encode(x)
        error = mean_squared_error(x, module.decode(z)).mean()
        parts = {"loss": error, "reconstruction": error}
        prior = module.prior(len(x))
        if self.hsic_weight:
            parts["hsic"] = normalized_hsic(prior, z) - self.hsic_beta * normalized_hsic(x, z)
            parts["loss"] = parts["loss"] + self.hsic_weight * parts["hsic"]
        if self.swd_weight:
            directions = random_directions(self.n_projections, module.latent_dim, z.device)
            distances = sliced_wasserstein(module.by_patch(z), module.by_patch(prior), directions)
            parts["swd"] = distances.sum()
            parts["loss"] = parts["loss"] + self.swd_weight * parts["swd"]
        if self.jigsaw_weight:
            parts["jigsaw"], parts["solved"] = module.jigsaw(z)
            parts["loss"] = parts["loss"] + self.jigsaw_weight * parts["jigsaw"]
        return parts

    def _set_score_units(self, module: PWAEModule, train: Tensor, held_out: Tensor | None) -> None:
        rows = train if held_out is None else held_out
        if len(rows) < _FEWEST_HELD_OUT and held_out is not None:
            rows = torch.cat([train, held_out])
        # A small batch that training goes on with says less than the rows before it did.
        if self._n_fits == 1 or len(rows) >= _FEWEST_HELD_OUT:
            module.set_units(rows)


def _paper_decay(p: float) -> float:
    """Factor on the learning rate at the share p of the steps."""
    return (1 + 10 * p) ** -0.75
