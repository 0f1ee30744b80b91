"""Settings of the papers' experiments, by detector and experiment.

Both detectors follow R. T. Schirrmeister et al., Understanding Anomaly Detection with Deep
Invertible Networks through Hierarchies of Distributions and Features, NeurIPS 2020 (arXiv
2006.10848), whose sections are named, and the public code that its training follows. The numbers
of training images are those of the data sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

N_IMAGES = {
    "cifar10": 50_000,
    "cifar100": 50_000,
    "svhn": 73_257,
    "mnist": 60_000,
    "fashion_mnist": 60_000,
}

# ---- Glow: S1.1, S4.1; hidden widths and batches are those of the public code ---------------

GLOW_EPOCHS = 250
_GLOW: Settings = {
    "image_shape": (3, 32, 32),
    "n_scales": 3,
    "n_couplings": 32,
    "hidden": 512,
    "coupling": "conv",
    "learning_rate": 5e-4,
    "weight_decay": 5e-5,
    "schedule": "constant",
    "validation_fraction": 0.0,
    "batch_size": 64,
}
_COLOUR = {**_GLOW, "augmentation": ("shift", "flip")}
_GREY = {**_GLOW, "augmentation": "shift", "image_shape": (1, 32, 32)}
GLOW: Mapping[str, Settings] = {
    "cifar10": _COLOUR,
    "cifar100": _COLOUR,
    "svhn": {**_GLOW, "augmentation": "shift"},
    "mnist": _GREY,
    "fashion_mnist": _GREY,
}
# Settings that the couplings of S2.1 and S2.2 replace.
GLOW_COUPLINGS: Mapping[str, Settings] = {
    "conv": {},
    "dense": {"n_couplings": 8},
    "patch": {"n_scales": 1},
}

# ---- PixelCNN: S1.2, S4.2; residual blocks, dropout and batches are those of the public code -

PIXELCNN_EPOCHS = 120
_PIXELCNN: Settings = {
    "image_shape": (3, 32, 32),
    "hidden": 120,
    "n_blocks": 5,
    "n_scales": 3,
    "n_components": 10,
    "dropout": 0.5,
    "learning_rate": 2e-4,
    "schedule": "constant",
    "validation_fraction": 0.0,
    "batch_size": 64,
}
PIXELCNN: Mapping[str, Settings] = {name: _PIXELCNN for name in ("cifar10", "cifar100", "svhn")}


def with_passes(
    settings: Settings, parameters: Mapping[str, Any], experiment: str, n_passes: int
) -> dict[str, Any]:
    """Add to settings the gradient steps of so many passes over an experiment's training images."""
    batch_size = parameters.get("batch_size", settings["batch_size"])
    return {**settings, "max_steps": n_passes * N_IMAGES[experiment] // batch_size}
