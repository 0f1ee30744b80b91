"""Detectors that score by an autoencoder: its errors, its latent features, or both."""

from .features import AutoencoderFeatures, PCAFeatures

__all__ = ["AutoencoderFeatures", "PCAFeatures"]
