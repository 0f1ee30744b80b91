"""The manifold of MPDR, as an object."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

from skgenad._core.checks import Interval, StrOptions, check_noise, check_sizes
from skgenad._core.parts import Slot
from skgenad._tensors.networks import Networks
from skgenad._tensors.noise import Noise

from ._with_network import WithNetwork


class Manifold(WithNetwork):
    """The autoencoder, or the ensemble of them, along which MPDR perturbs rows.

    Parameters
    ----------
    dims : int or tuple of int, default=None
        Latent dimension of the manifold, or of each manifold of an ensemble, among which every
        batch is split evenly. None: one manifold with the number of columns up to 100 columns,
        70 % of it beyond, at least 2; 32 for images.
    network : tuple of int, str or object, default=None
        Encoders and decoders, as in the detector's `network`, which None is.
    latent_space : {"sphere", "euclidean"}, default=None
        Whether latent vectors are divided by their norm. None is "sphere".
    penalty : float, default=None
        Weight of the sum of the squared weights of the encoders in the loss; the losses of
        `history_` are without it. None is 0.
    steps : int, default=None
        Gradient steps. None is 700.
    learning_rate : float, default=None
        Adam's learning rate. None is 1e-3.
    input_noise : float or (float, float), default=None
        Standard deviation, in the units that rows are in, of noise added to inputs, but not to
        targets, in training: the manifold is then a denoiser, and so is an energy that starts at
        its weights. Of an interval (low, high), > 0, every row of a batch has its own, drawn
        log-uniformly, and half of the rows stay without noise. None is 0.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.energies import Manifold
    >>> MPDR(manifold=Manifold((2, 4), steps=200))
    MPDR(manifold=Manifold(dims=(2, 4), steps=200))
    """

    _parameter_constraints: ClassVar[dict] = {
        **WithNetwork._parameter_constraints,
        "dims": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "latent_space": [StrOptions({"sphere", "euclidean"}), None],
        "penalty": [Interval(Real, 0, None, closed="left"), None],
        "steps": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "input_noise": [Interval(Real, 0, None, closed="left"), tuple, list, None],
    }

    def __init__(
        self,
        dims: int | Sequence[int] | None = None,
        *,
        network: Any = None,
        latent_space: str | None = None,
        penalty: float | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        input_noise: float | tuple[float, float] | None = None,
    ) -> None:
        self.dims = dims
        self.network = network
        self.latent_space = latent_space
        self.penalty = penalty
        self.steps = steps
        self.learning_rate = learning_rate
        self.input_noise = input_noise

    @property
    def noise(self) -> Noise:
        """`input_noise`, checked."""
        return check_noise("input_noise", 0.0 if self.input_noise is None else self.input_noise)

    def latent_dims(self, networks: Networks) -> tuple[int, ...]:
        """Latent dimension of each manifold.

        Parameters
        ----------
        networks : object
            Makes the networks for rows of the training rows' shape.

        Returns
        -------
        dims : tuple of int
            One for each manifold.
        """
        if self.dims is None:
            return (networks.latent_dim,)
        return tuple(self.dims) if isinstance(self.dims, Sequence) else (int(self.dims),)

    def _validate_params(self) -> None:
        super()._validate_params()
        if isinstance(self.dims, tuple | list):
            check_sizes("dims", self.dims, least=1)
        check_noise("input_noise", self.input_noise or 0.0)


def _read_manifold(value: Any) -> Any:
    return Manifold() if isinstance(value, str) and value == "autoencoder" else value


MANIFOLD_CONSTRAINTS: list[Any] = [StrOptions({"autoencoder", "identity"}), Manifold]
MANIFOLD_SLOT = Slot(
    Manifold(latent_space="sphere", penalty=0.0, steps=700, learning_rate=1e-3, input_noise=0.0),
    _read_manifold,
)
