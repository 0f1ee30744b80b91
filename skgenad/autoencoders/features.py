"""Latent features of CANCE, as objects: an autoencoder that it trains, or principal components."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

from skgenad._core.checks import Interval
from skgenad._core.parts import Part, Slot
from skgenad.networks import MLP, NETWORK_CONSTRAINTS, network_slot, networks_for

from ._composite import PrincipalComponents, TwoStageAutoencoder

__all__ = ["AutoencoderFeatures", "PCAFeatures"]

# The largest default of `latent_dim`: in more dimensions noise is so easily told from data that the
# density learns little from it.
_MOST_FEATURES = 32
# The default of `covariance_penalty` for each column: it is as strong on wide tables as on narrow.
_PENALTY_OF_A_COLUMN = 0.1
_LATENT_DIM = [Interval(Integral, 1, None, closed="left"), None]


class AutoencoderFeatures(Part):
    """Latent features of an autoencoder that CANCE trains in two stages.

    A parameter left None has the value that its description names.

    Parameters
    ----------
    network : tuple of int, str or object, default=None
        Encoder and decoder: widths of the hidden layers of perceptrons; one of the objects of
        :mod:`skgenad.networks`, its name in lower case, such as "conv28", or one like it with
        ``make_encoder`` and ``make_decoder``. None: ``MLP((128, 128), activation="silu")``.
    latent_dim : int, default=None
        Number of latent features. None: as many as columns, and at most 32.
    covariance_penalty : float, default=None
        Weight lambda of the mean squared covariance of different latent features in the first
        stage's loss, against the sum over columns of squared errors, in squared standardised units
        (of pixels: in [0, 1]). None: 0.1 times the number of columns, and to be left None with
        ``latent_dim=1``.
    encoder_steps : int, default=None
        Gradient steps of the first stage, of encoder and decoder. None: 500.
    decoder_steps : int, default=None
        Gradient steps of the second stage, of the decoder alone. None: 500.

    Examples
    --------
    >>> from skgenad import CANCE
    >>> from skgenad.autoencoders import AutoencoderFeatures
    >>> CANCE(features=AutoencoderFeatures((64, 64), latent_dim=4))
    CANCE(features=AutoencoderFeatures(latent_dim=4, network=(64, 64)))
    """

    _parts: ClassVar[dict[str, Slot]] = {"network": network_slot(activation="silu")}
    _parameter_constraints: ClassVar[dict] = {
        "network": NETWORK_CONSTRAINTS,
        "latent_dim": _LATENT_DIM,
        "covariance_penalty": [Interval(Real, 0, None, closed="left"), None],
        "encoder_steps": [Interval(Integral, 1, None, closed="left"), None],
        "decoder_steps": [Interval(Integral, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        network: Any = None,
        *,
        latent_dim: int | None = None,
        covariance_penalty: float | None = None,
        encoder_steps: int | None = None,
        decoder_steps: int | None = None,
    ) -> None:
        self.network = network
        self.latent_dim = latent_dim
        self.covariance_penalty = covariance_penalty
        self.encoder_steps = encoder_steps
        self.decoder_steps = decoder_steps

    def make(self, shape: tuple[int, ...]) -> TwoStageAutoencoder:
        """Make the untrained module for rows of a shape.

        Called of :meth:`filled` features.

        Parameters
        ----------
        shape : tuple of int
            (d,), or (C, H, W) of images.

        Returns
        -------
        features : nn.Module
            Maps rows (n, d) to latent features and reconstructions.
        """
        latent_dim = self.latent_dim or min(math.prod(shape), _MOST_FEATURES)
        networks = networks_for(self.part("network"), shape)
        penalty = self.covariance_penalty
        if penalty is None:
            penalty = _PENALTY_OF_A_COLUMN * math.prod(shape)
        return TwoStageAutoencoder(networks, latent_dim, penalty)


class PCAFeatures(Part):
    """Latent features of CANCE that are the leading principal components of the training rows.

    Parameters
    ----------
    latent_dim : int, default=None
        Number of components. None: half as many as columns, rounded up, and at most 32.

    Examples
    --------
    >>> from skgenad import CANCE
    >>> from skgenad.autoencoders import PCAFeatures
    >>> CANCE(features=PCAFeatures(6))
    CANCE(features=PCAFeatures(latent_dim=6))
    """

    _parameter_constraints: ClassVar[dict] = {"latent_dim": _LATENT_DIM}

    def __init__(self, latent_dim: int | None = None) -> None:
        self.latent_dim = latent_dim

    def make(self, shape: tuple[int, ...]) -> PrincipalComponents:
        """Make the module for rows of a shape, not fitted yet.

        Parameters
        ----------
        shape : tuple of int
            (d,), or (C, H, W) of images.

        Returns
        -------
        features : nn.Module
            Maps rows (n, d) to latent features and reconstructions.
        """
        n_features = math.prod(shape)
        # With as many components as columns there would be no error to score.
        latent_dim = self.latent_dim or min(-(-n_features // 2), _MOST_FEATURES)
        if latent_dim > n_features:
            raise ValueError(
                f"{self!r} needs as many columns as components; got {n_features} columns."
            )
        return PrincipalComponents(n_features, latent_dim)


def read_features(value: Any) -> Any:
    """Make the part that "autoencoder" or "pca" stands for; return others as they are."""
    if isinstance(value, str) and value in ("autoencoder", "pca"):
        return AutoencoderFeatures() if value == "autoencoder" else PCAFeatures()
    return value


def read_perceptron(value: Any) -> Any:
    """Make the MLP that widths of hidden layers stand for; return others as they are."""
    return MLP(value) if isinstance(value, tuple | list) else value


FEATURES_SLOT = Slot(
    AutoencoderFeatures(encoder_steps=500, decoder_steps=500),
    read_features,
)
DENSITY_SLOT = Slot(MLP((128, 128), activation="silu"), read_perceptron)
