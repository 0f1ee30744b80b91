"""Networks of encoders and decoders, as objects that detectors take as their `network`.

``network=(64, 64)`` is short for ``MLP((64, 64))``, and ``network="conv28"`` for ``Conv28()``. An
object of one's own will do as well if it has the two methods ::

    make_encoder(shape, latent_dim) -> nn.Module     (n, *shape) -> (n, latent_dim)
    make_decoder(latent_dim, shape) -> nn.Module     (n, latent_dim) -> (n, *shape)

where `shape` is (d,) for tables of d columns and (C, H, W) for images.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

from torch import nn

from skgenad._core.checks import HasMethods, Interval, StrOptions, check_sizes
from skgenad._core.parts import Part, Slot
from skgenad._tensors import architectures
from skgenad._tensors.maps import ACTIVATIONS
from skgenad._tensors.networks import Factory, Networks, Perceptrons

__all__ = ["MLP", "Cifar1", "Conv", "Conv28", "Conv32", "Conv32Big", "Conv64", "FCRes", "Network"]


class Network(Part):
    """Base of the networks of this module; not to be instantiated.

    A class derived from one of them makes what its ``make_encoder`` and ``make_decoder`` return.

    Examples
    --------
    >>> from skgenad.networks import MLP, Network
    >>> isinstance(MLP((64,)), Network)
    True
    """

    def factory(self) -> Factory:
        """Find what makes the modules.

        Returns
        -------
        factory : object
            With ``make_encoder`` and ``make_decoder``, whose modules are steady.
        """
        raise NotImplementedError

    def make_encoder(self, shape: tuple[int, ...], latent_dim: int) -> nn.Module:
        """Make an encoder.

        Parameters
        ----------
        shape : tuple of int
            Shape of a row: (d,), or (C, H, W) of an image.
        latent_dim : int
            Number of outputs.

        Returns
        -------
        encoder : nn.Module
            Maps (n, *shape) to (n, latent_dim).
        """
        return self.factory().make_encoder(shape, latent_dim)

    def make_decoder(self, latent_dim: int, shape: tuple[int, ...]) -> nn.Module:
        """Make a decoder.

        Parameters
        ----------
        latent_dim : int
            Number of inputs.
        shape : tuple of int
            Shape of a row: (d,), or (C, H, W) of an image.

        Returns
        -------
        decoder : nn.Module
            Maps (n, latent_dim) to (n, *shape).
        """
        return self.factory().make_decoder(latent_dim, shape)


class MLP(Network):
    """Multilayer perceptrons on the columns of rows, or on the pixels of images in one line.

    Parameters
    ----------
    hidden_sizes : tuple of int, default=None
        Widths of the hidden layers of the encoder; the decoder mirrors them. ``()`` makes both
        linear. None: the detector's own, mostly (128, 128).
    activation : {"relu", "leaky_relu", "tanh", "sigmoid", "silu"}, default=None
        Activation of the hidden layers. None: the detector's own, mostly "leaky_relu".

    Examples
    --------
    >>> from skgenad import Autoencoder
    >>> from skgenad.networks import MLP
    >>> Autoencoder(network=MLP((64, 32), activation="tanh"))
    Autoencoder(network=MLP(activation='tanh', hidden_sizes=(64, 32)))
    """

    _parameter_constraints: ClassVar[dict] = {
        "hidden_sizes": [tuple, list, None],
        "activation": [StrOptions(set(ACTIVATIONS)), None],
    }

    def __init__(
        self, hidden_sizes: Sequence[int] | None = None, *, activation: str | None = None
    ) -> None:
        self.hidden_sizes = hidden_sizes
        self.activation = activation

    def factory(self) -> Perceptrons:
        """Find what makes the modules; its own defaults stand in for None.

        Returns
        -------
        factory : Perceptrons
            Makes encoders and decoders.
        """
        given: dict[str, Any] = {"hidden_sizes": self.hidden_sizes, "activation": self.activation}
        return Perceptrons(**{name: value for name, value in given.items() if value is not None})

    def _validate_params(self) -> None:
        super()._validate_params()
        check_sizes("hidden_sizes", () if self.hidden_sizes is None else self.hidden_sizes)
        if self.hidden_sizes is not None and not self.hidden_sizes and self.activation is not None:
            raise ValueError(
                f"activation={self.activation!r} in {self!r} would be ignored: without hidden "
                "layers both networks are linear. Leave it None."
            )


class _Architecture(Network):
    """A convolutional or residual architecture of a paper, of any width."""

    _kind: ClassVar[type[architectures.Architecture]]
    _parameter_constraints: ClassVar[dict] = {"width": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, *, width: float = 1.0) -> None:
        self.width = width

    def factory(self) -> architectures.Architecture:
        """Find what makes the modules.

        Returns
        -------
        factory : Architecture
            Makes encoders and decoders.
        """
        return self._kind(self.width)


class FCRes(_Architecture):
    """Two residual blocks of linear layers: FCRes2 of the NAE paper, for tables and images.

    Parameters
    ----------
    width : float, default=1.0
        Factor, above 0, on the widths of the layers.

    Examples
    --------
    >>> from skgenad import NAE
    >>> from skgenad.networks import FCRes
    >>> NAE(network=FCRes(width=0.5))
    NAE(network=FCRes(width=0.5))
    """

    _kind = architectures.FCRes


class Conv(_Architecture):
    """Strided convolutions for images of any size.

    Parameters
    ----------
    width : float, default=1.0
        Factor, above 0, on the numbers of channels.

    Examples
    --------
    >>> from skgenad import Autoencoder
    >>> from skgenad.networks import Conv
    >>> Autoencoder(image_shape=(3, 48, 48), network=Conv(width=0.5))
    Autoencoder(image_shape=(3, 48, 48), network=Conv(width=0.5))
    """

    _kind = architectures.Conv


class Conv28(_Architecture):
    """The architecture of the NAE and the MPDR paper for MNIST, images of 28 x 28 pixels.

    Parameters
    ----------
    width : float, default=1.0
        Factor, above 0, on the numbers of channels.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.networks import Conv28
    >>> MPDR(image_shape=(1, 28, 28), network=Conv28(width=0.25))
    MPDR(image_shape=(1, 28, 28), network=Conv28(width=0.25))
    """

    _kind = architectures.Conv28


class Conv32(_Architecture):
    """Conv32 of the NAE paper, residual blocks for images of 32 x 32 pixels.

    Parameters
    ----------
    width : float, default=1.0
        Factor, above 0, on the numbers of channels.

    Examples
    --------
    >>> from skgenad import NAE
    >>> from skgenad.networks import Conv32
    >>> NAE(image_shape=(3, 32, 32), network=Conv32())
    NAE(image_shape=(3, 32, 32), network=Conv32())
    """

    _kind = architectures.Conv32


class Conv32Big(_Architecture):
    """Conv32Big of the NAE paper, the second network of the MPDR paper for CIFAR-10.

    Parameters
    ----------
    width : float, default=1.0
        Factor, above 0, on the numbers of channels.

    Examples
    --------
    >>> from skgenad import NAE
    >>> from skgenad.networks import Conv32Big
    >>> NAE(image_shape=(3, 32, 32), network=Conv32Big())
    NAE(image_shape=(3, 32, 32), network=Conv32Big())
    """

    _kind = architectures.Conv32Big


class Conv64(_Architecture):
    """Conv64 of the NAE paper, strided convolutions for images of 64 x 64 pixels.

    Parameters
    ----------
    width : float, default=1.0
        Factor, above 0, on the numbers of channels.

    Examples
    --------
    >>> from skgenad import NAE
    >>> from skgenad.networks import Conv64
    >>> NAE(image_shape=(3, 64, 64), network=Conv64())
    NAE(image_shape=(3, 64, 64), network=Conv64())
    """

    _kind = architectures.Conv64


class Cifar1(_Architecture):
    """The first network of the MPDR paper for CIFAR-10, Conv32 with another last layer.

    Parameters
    ----------
    width : float, default=1.0
        Factor, above 0, on the numbers of channels.

    Examples
    --------
    >>> from skgenad import MPDR
    >>> from skgenad.networks import Cifar1
    >>> MPDR(image_shape=(3, 32, 32), network=Cifar1())
    MPDR(image_shape=(3, 32, 32), network=Cifar1())
    """

    _kind = architectures.Cifar1


_NAMED: dict[str, type[Network]] = {
    "mlp": MLP,
    **{kind._kind.name: kind for kind in _Architecture.__subclasses__()},
}

# Constraints on the parameter `network`, and on the parameters of detectors that take images.
NETWORK_CONSTRAINTS: list[Any] = [
    StrOptions(set(_NAMED)),
    HasMethods(["make_encoder", "make_decoder"]),
    tuple,
    list,
    None,
]
IMAGE_CONSTRAINTS: dict[str, list[Any]] = {
    "image_shape": [tuple, list, None],
    "network": NETWORK_CONSTRAINTS,
}


def read_network(value: Any) -> Any:
    """Make the part that a shorthand, widths or a name, stands for; return others as they are."""
    if isinstance(value, tuple | list):
        return MLP(value)
    if isinstance(value, str) and value in _NAMED:
        return _NAMED[value]()
    return value


def network_slot(
    hidden_sizes: tuple[int, ...] = (128, 128), activation: str = "leaky_relu"
) -> Slot:
    """Slot of a parameter `network` whose default is perceptrons of these widths and activation."""
    return Slot(MLP(hidden_sizes, activation=activation), read_network)


def networks_for(network: Any, shape: tuple[int, ...]) -> Networks:
    """Find what makes the modules of a network for rows of a shape.

    Parameters
    ----------
    network : Network or object
        A network of this module, or a factory of the user's.
    shape : tuple of int
        Shape of a row: (d,), or (C, H, W) of an image.
    """
    # A class that a user derives from one of these may make other modules than its factory does.
    is_own = Part._registry.get(type(network).__name__) is type(network)
    return Networks(network.factory() if is_own else network, shape)
