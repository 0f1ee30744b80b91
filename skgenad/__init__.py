"""Generative anomaly detection for scikit-learn."""

from ._training import DivergenceWarning
from .autoencoder import Autoencoder
from .cance import CANCE
from .dagmm import DAGMM
from .ebm import EBM
from .glow import Glow
from .likelihood_ratio import LikelihoodRatio
from .mahalanobis import Mahalanobis
from .mpdr import MPDR
from .nae import NAE
from .normalizing_flow import NormalizingFlow
from .pixelcnn import PixelCNN
from .pwae import PWAE
from .vae import VAE
from .wae import WAE

__version__ = "0.1.0"
__all__ = [
    "CANCE",
    "DAGMM",
    "EBM",
    "MPDR",
    "NAE",
    "PWAE",
    "VAE",
    "WAE",
    "Autoencoder",
    "DivergenceWarning",
    "Glow",
    "LikelihoodRatio",
    "Mahalanobis",
    "NormalizingFlow",
    "PixelCNN",
]
