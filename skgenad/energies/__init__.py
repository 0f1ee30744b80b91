"""Detectors that train an energy with negatives from Langevin chains, and what they are made of.

The detectors are imported from :mod:`skgenad`; here are the objects that they take as parameters.
"""

from .chains import Chain, Replay
from .mpdr_manifold import Manifold
from .mpdr_parts import Custom, Masked, Reconstruction, Scalar

__all__ = ["Chain", "Custom", "Manifold", "Masked", "Reconstruction", "Replay", "Scalar"]
