"""Generative anomaly detection for scikit-learn."""

from .autoencoder import Autoencoder
from .mpdr import MPDR

__version__ = "0.1.0"
__all__ = ["MPDR", "Autoencoder"]
