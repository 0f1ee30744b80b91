"""Transformers that make features for detectors, or of them."""

from ._image_features import ImageFeatures
from ._latent_features import LatentFeatures
from ._log_mel import LogMelFrames
from ._windows import SlidingWindows

__all__ = ["ImageFeatures", "LatentFeatures", "LogMelFrames", "SlidingWindows"]
