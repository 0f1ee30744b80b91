"""Settings of the papers' experiments; a detector's first one is the default of ``from_paper``."""

from __future__ import annotations

from typing import Any

# P-WAE: section IV.A of the paper.
PWAE: dict[str, dict[str, Any]] = {
    "mvtec": {
        "image_shape": (3, 300, 300),
        "latent_dim": 2048,
        "grid_size": 3,
        "n_permutations": 1000,
        "degrees_of_freedom": 5.0,
        "hsic_penalty": 0.01,
        "hsic_beta": 0.1,
        "swd_penalty": 0.1,
        "jigsaw_penalty": 1.0,
        "optimizer": "sgd",
        "learning_rate": 0.01,
    }
}

# NAE's baselines: Tables 9 and 10, and appendix D.4. Passes are those of its own pretraining.
_BASELINES: dict[str, dict[str, Any]] = {
    "mnist": {
        "image_shape": (1, 28, 28),
        "network": "conv28",
        "latent_dim": 32,
        # 100 passes over 54,000 images
        "max_steps": 42_200,
        "learning_rate": 1e-4,
    },
    "cifar10": {
        "image_shape": (3, 32, 32),
        "network": "conv32",
        "latent_dim": 32,
        # 120 passes over 45,000 images
        "max_steps": 42_240,
        "learning_rate": 1e-4,
    },
}
VAE = _BASELINES
WAE: dict[str, dict[str, Any]] = {
    name: {**settings, "mmd_penalty": 0.1, "kernel": "rbf"} for name, settings in _BASELINES.items()
}
