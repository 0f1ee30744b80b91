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
