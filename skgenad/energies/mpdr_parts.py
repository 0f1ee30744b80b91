"""The energies of MPDR, as objects."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

from torch import nn

from skgenad._core.checks import Interval, StrOptions
from skgenad._core.parts import Part, Slot
from skgenad._tensors.distances import DISTANCES, make_distance
from skgenad._tensors.maps import AutoencoderNet, Identity
from skgenad._tensors.networks import Networks, Perceptrons
from skgenad._tensors.reconstruction import ReconstructionEnergy

from ._energies import MaskedEnergy, ScalarEnergy, masked_block
from ._with_network import WithNetwork

# The defaults of `pretrain_steps` and `pretrain_learning_rate` of all energies here.
_PRETRAIN_STEPS, _PRETRAIN_LEARNING_RATE = 400, 1e-3

_STEPS = [Interval(Integral, 0, None, closed="left"), None]
_RATE = [Interval(Real, 0, None, closed="neither"), None]


class Energy(WithNetwork):
    """Base of the energies of MPDR."""

    def build(self, networks: Networks) -> nn.Module:
        """Make the energy's module.

        Parameters
        ----------
        networks : object
            Makes the networks for rows of the training rows' shape.

        Returns
        -------
        module : nn.Module
            Has ``energy(x) -> (n,)``.
        """
        raise NotImplementedError


class _Pretrained(Energy):
    """Base of the energies that can be trained as plain errors first."""

    pretrain_steps: int | None
    pretrain_learning_rate: float | None

    @property
    def _moot(self) -> tuple[str, ...]:
        """Fields that would change nothing beside the others."""
        moot: tuple[str, ...] = ()
        if getattr(self, "init", None) in ("manifold", "random"):
            moot = ("pretrain_steps", "pretrain_learning_rate")
        elif self.pretrain_steps == 0:
            moot = ("pretrain_learning_rate",)
        return (*moot, "penalize") if getattr(self, "learn_scale", None) is False else moot

    @property
    def asks_for_pretraining(self) -> bool:
        """Whether the user set anything of pretraining."""
        return self.pretrain_steps is not None or self.pretrain_learning_rate is not None

    @property
    def pretraining(self) -> tuple[int, float]:
        """Gradient steps and learning rate of pretraining."""
        steps, rate = self.pretrain_steps, self.pretrain_learning_rate
        if steps == 0 and rate is not None:
            raise ValueError(
                f"pretrain_learning_rate={rate} would be ignored: pretrain_steps=0. Leave it None."
            )
        return (
            _PRETRAIN_STEPS if steps is None else steps,
            _PRETRAIN_LEARNING_RATE if rate is None else rate,
        )


class Reconstruction(_Pretrained):
    """The mean squared reconstruction error of an autoencoder, as the energy of MPDR (MPDR-R).

    Parameters
    ----------
    network : tuple of int, str or object, default=None
        Encoder and decoder, as in the detector's `network`, which None is.
    latent_dim : int, default=None
        Dimension of the latent space, which is a sphere. None: the number of columns up to 100
        columns, 70 % of it beyond, at least 2; 32 for images.
    distance : {"l2", "l1", "ssim"}, default=None
        Whether the error is the mean over columns of squared ("l2", which None is) or of absolute
        differences or, for images of at least 11 x 11 pixels, one minus their structural similarity
        (SSIM).
    learn_scale : bool, default=None
        Whether the error has a positive factor that is trained with it. None is False.
    penalize : {"energy", "error"}, default=None
        What MPDR's `energy_penalty` squares, the energy of negatives, which None is, or with
        ``learn_scale=True`` the error without its factor, which is then free.
    penalty : float, default=None
        Weight of the sum of the squared weights of the encoder in the loss, in pretraining and
        while the energy is trained; the losses of `history_` are without it. None is 0.
    init : {"auto", "manifold", "pretrain", "random"}, default=None
        Where the energy starts: at a copy of the first manifold, which must then be of the same
        network and the same latent space; trained to reconstruct; or at random weights. "auto",
        which None is, copies where it can and pretrains otherwise, or where `pretrain_steps` or
        `pretrain_learning_rate` are given.
    pretrain_steps : int, default=None
        Gradient steps of pretraining. None is 400.
    pretrain_learning_rate : float, default=None
        Adam's learning rate in pretraining. None is 1e-3.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.energies import Reconstruction
    >>> MPDR(energy=Reconstruction((64,), distance="l1"))
    MPDR(energy=Reconstruction(distance='l1', network=(64,)))
    """

    _parameter_constraints: ClassVar[dict] = {
        **WithNetwork._parameter_constraints,
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "distance": [StrOptions(set(DISTANCES)), None],
        "learn_scale": ["boolean", None],
        "penalize": [StrOptions({"energy", "error"}), None],
        "penalty": [Interval(Real, 0, None, closed="left"), None],
        "init": [StrOptions({"auto", "manifold", "pretrain", "random"}), None],
        "pretrain_steps": _STEPS,
        "pretrain_learning_rate": _RATE,
    }

    def __init__(
        self,
        network: Any = None,
        *,
        latent_dim: int | None = None,
        distance: str | None = None,
        learn_scale: bool | None = None,
        penalize: str | None = None,
        penalty: float | None = None,
        init: str | None = None,
        pretrain_steps: int | None = None,
        pretrain_learning_rate: float | None = None,
    ) -> None:
        self.network = network
        self.latent_dim = latent_dim
        self.distance = distance
        self.learn_scale = learn_scale
        self.penalize = penalize
        self.penalty = penalty
        self.init = init
        self.pretrain_steps = pretrain_steps
        self.pretrain_learning_rate = pretrain_learning_rate

    def build(self, networks: Networks) -> nn.Module:
        """Make the energy's module.

        Parameters
        ----------
        networks : object
            Makes the networks for rows of the training rows' shape.

        Returns
        -------
        module : nn.Module
            Has ``energy(x) -> (n,)``.
        """
        if self.penalize is not None and not self.learn_scale:
            raise ValueError(
                f"penalize={self.penalize!r} in energy={self!r} would be ignored: without "
                "learn_scale=True the energy is the error. Leave it None."
            )
        net = networks.autoencoder(self.latent_dim or networks.latent_dim)
        distance = make_distance(str(self.distance), networks.shape)
        is_free = self.penalize == "error"
        return ReconstructionEnergy(net, distance, bool(self.learn_scale), is_free)

    def start(self, can_copy: bool) -> str:
        """Where the energy starts: "manifold", "pretrain" or "random".

        Parameters
        ----------
        can_copy : bool
            Whether the first manifold's weights fit.

        Returns
        -------
        start : str
            One of these.
        """
        init = str(self.init)
        if init == "auto":
            return "manifold" if can_copy and not self.asks_for_pretraining else "pretrain"
        if init != "pretrain" and self.asks_for_pretraining:
            raise ValueError(
                f"pretrain_steps and pretrain_learning_rate in energy={self!r} would be ignored: "
                f"init={init!r}. Leave them None, or set init='pretrain'."
            )
        if init == "manifold" and not can_copy:
            raise ValueError(
                "init='manifold' copies the first manifold's weights: it needs "
                "manifold='autoencoder' with a spherical latent space, and the same network and "
                "the same latent dimension for both."
            )
        return init


class Scalar(Energy):
    """A network with one output and spectral normalisation, as the energy of MPDR (MPDR-S).

    It starts at random weights and is less dependable on tables than a reconstruction error: a
    short training can even rank upside down.

    Parameters
    ----------
    network : tuple of int, str or object, default=None
        An encoder with one output, as in the detector's `network`, which None is.
    free_last : bool, default=None
        Whether the last layer has no spectral normalisation, so that the energy may change by more
        than 1 where the row does. None is False. The last is that which stands last among the
        encoder's modules.
    learn_scale : bool, default=None
        Whether the output has a positive factor and a shift that are trained with it, 1 and 0 at
        the start. None is False.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.energies import Scalar
    >>> MPDR(image_shape=(3, 32, 32), network="cifar1", energy=Scalar("conv32big"))
    MPDR(energy=Scalar(network='conv32big'), image_shape=(3, 32, 32),
         network='cifar1')
    """

    _parameter_constraints: ClassVar[dict] = {
        **WithNetwork._parameter_constraints,
        "free_last": ["boolean", None],
        "learn_scale": ["boolean", None],
    }

    def __init__(
        self,
        network: Any = None,
        *,
        free_last: bool | None = None,
        learn_scale: bool | None = None,
    ) -> None:
        self.network = network
        self.free_last = free_last
        self.learn_scale = learn_scale

    def build(self, networks: Networks) -> nn.Module:
        """Make the energy's module.

        Parameters
        ----------
        networks : object
            Makes the networks for rows of the training rows' shape.

        Returns
        -------
        module : nn.Module
            Has ``energy(x) -> (n,)``.
        """
        net = networks.encoder(1, spectral=True, free_last=bool(self.free_last))
        return ScalarEnergy(net, affine=bool(self.learn_scale))


class Masked(_Pretrained):
    r"""The error of the middle fifth of the columns, predicted from the others (MPDR-IDNN).

    A mean squared error; with the columns :math:`m` in the middle and the others :math:`r`

    .. math:: E(x) = \tfrac{1}{|m|} \|x_m - g_d(g_e(x_r))\|^2 .

    Where columns are five frames of a sound in the order of time, as in the paper, the third frame
    is predicted (Suefusa et al., ICASSP 2020). It needs at least 2 columns.

    Parameters
    ----------
    network : tuple of int or MLP, default=None
        Perceptron from the other columns to the masked ones or, with `latent_dim`, the encoder,
        which the decoder mirrors. None is the detector's `network`, which must then be perceptrons.
    latent_dim : int, default=None
        Number of units of a layer without activation between encoder and decoder. None: there is
        neither; one perceptron predicts.
    pretrain_steps : int, default=None
        Gradient steps for predicting before the negatives come. None is 400.
    pretrain_learning_rate : float, default=None
        Adam's learning rate for that. None is 1e-3.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.energies import Masked
    >>> MPDR(energy=Masked((64, 64), pretrain_steps=200))
    MPDR(energy=Masked(network=(64, 64), pretrain_steps=200))
    >>> MPDR(energy=Masked((64, 32), latent_dim=16))  # the paper's IDNN without MPDR
    MPDR(energy=Masked(latent_dim=16, network=(64, 32)))
    """

    _parameter_constraints: ClassVar[dict] = {
        **WithNetwork._parameter_constraints,
        "latent_dim": [Interval(Integral, 1, None, closed="left"), None],
        "pretrain_steps": _STEPS,
        "pretrain_learning_rate": _RATE,
    }

    def __init__(
        self,
        network: Any = None,
        *,
        latent_dim: int | None = None,
        pretrain_steps: int | None = None,
        pretrain_learning_rate: float | None = None,
    ) -> None:
        self.network = network
        self.latent_dim = latent_dim
        self.pretrain_steps = pretrain_steps
        self.pretrain_learning_rate = pretrain_learning_rate

    def build(self, networks: Networks) -> nn.Module:
        """Make the energy's module.

        Parameters
        ----------
        networks : object
            Makes the networks for rows of the training rows' shape.

        Returns
        -------
        module : nn.Module
            Has ``energy(x) -> (n,)``.
        """
        if not isinstance(networks.factory, Perceptrons):
            raise ValueError(
                "energy='masked' is a perceptron on columns: give it one, "
                "energy=Masked(network=(128, 128)), or take another energy."
            )
        if networks.n_features < 2:
            raise ValueError(
                "energy='masked' predicts columns from other columns; got 1 feature(s), needs 2."
            )
        start, stop = masked_block(networks.n_features)
        width, make = stop - start, networks.factory
        if self.latent_dim is None:
            return MaskedEnergy(make.encoder(networks.n_features - width, width), start, stop)
        encoder = make.encoder(networks.n_features - width, self.latent_dim)
        decoder = make.decoder(self.latent_dim, width)
        return MaskedEnergy(AutoencoderNet(encoder, decoder, Identity()), start, stop)


class Custom(Part):
    """An energy of one's own, with what MPDR is to do with it beside the training by negatives.

    ``energy=make`` is short for ``energy=Custom(make)``.

    Parameters
    ----------
    make : callable
        Maps the number of columns to an ``nn.Module`` with ``energy(x) -> (n,)``.
    penalize_data : bool, default=None
        Whether `energy_penalty` is on the energies of data, too, as with the scalar energy: for
        one whose level is free, that is, which may be shifted by a number. None is False.
    pretrain_steps : int, default=None
        Gradient steps that lower the mean energy of the rows before the negatives come, which
        makes sense of errors: of what is bounded below. None is 0.
    pretrain_learning_rate : float, default=None
        Adam's learning rate for that. None is 1e-3.

    Examples
    --------
    >>> from torch import nn
    >>> from skgenad import MPDR
    >>> from skgenad.energies import Custom
    >>> class FirstFromOthers(nn.Module):
    ...     def __init__(self, n_features):
    ...         super().__init__()
    ...         self.net = nn.Linear(n_features - 1, 1)
    ...
    ...     def energy(self, x):
    ...         return (x[:, :1] - self.net(x[:, 1:])).square().mean(dim=1)
    >>> detector = MPDR(energy=Custom(FirstFromOthers, pretrain_steps=100))
    """

    _parameter_constraints: ClassVar[dict] = {
        "make": [callable],
        "penalize_data": ["boolean", None],
        "pretrain_steps": _STEPS,
        "pretrain_learning_rate": _RATE,
    }

    def __init__(
        self,
        make: Callable[[int], nn.Module],
        *,
        penalize_data: bool | None = None,
        pretrain_steps: int | None = None,
        pretrain_learning_rate: float | None = None,
    ) -> None:
        self.make = make
        self.penalize_data = penalize_data
        self.pretrain_steps = pretrain_steps
        self.pretrain_learning_rate = pretrain_learning_rate

    def __call__(self, n_features: int) -> nn.Module:
        """Make the energy's module.

        Parameters
        ----------
        n_features : int
            Number of columns.

        Returns
        -------
        module : nn.Module
            Has ``energy(x) -> (n,)``.
        """
        return self.make(n_features)

    @property
    def pretraining(self) -> tuple[int, float]:
        """Gradient steps and learning rate of pretraining."""
        steps, rate = self.pretrain_steps or 0, self.pretrain_learning_rate
        if steps == 0 and rate is not None:
            raise ValueError(
                f"pretrain_learning_rate={rate} would be ignored without pretrain_steps. Leave it "
                "None, or give steps."
            )
        return steps, _PRETRAIN_LEARNING_RATE if rate is None else rate


_ENERGIES: dict[str, type[Part]] = {
    "reconstruction": Reconstruction,
    "scalar": Scalar,
    "masked": Masked,
}


def _read_energy(value: Any) -> Any:
    return _ENERGIES[value]() if isinstance(value, str) and value in _ENERGIES else value


ENERGY_CONSTRAINTS: list[Any] = [StrOptions(set(_ENERGIES)), Energy, callable]
ENERGY_SLOT = Slot(Reconstruction(distance="l2", learn_scale=False, init="auto"), _read_energy)
