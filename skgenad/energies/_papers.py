"""Settings of the papers' experiments; `from_paper` says what the papers leave open."""

from __future__ import annotations

from typing import Any

from .chains import Chain, Replay
from .mpdr_parts import Manifold, Reconstruction

# MPDR: the settings are from Tables 7 and 8 and appendix B.
MPDR_RATE = 1e-4
_MPDR: dict[str, Any] = {
    "noise_range": (0.05, 0.3),
    "score_type": "energy",
    "learning_rate": MPDR_RATE,
    "schedule": "constant",
}
MPDR: dict[str, dict[str, Any]] = {
    "adbench": {
        **_MPDR,
        "network": (1024, 1024),
        "energy": Reconstruction(init="pretrain", pretrain_learning_rate=MPDR_RATE),
        "manifold": Manifold(learning_rate=MPDR_RATE),
        "latent_chain": Chain(1, step_size=0.1, noise=0.05, gamma=1e-4),
        "visible_chain": Chain(5, step_size=10.0, noise=0.1, gamma=1e-4, bounds="none"),
        "standardize": False,
    },
    "mnist": {
        **_MPDR,
        "image_shape": (1, 28, 28),
        "network": "conv28",
        "energy": Reconstruction(latent_dim=32, learn_scale=True, init="manifold"),
        # 30 and 50 passes over 54,000 images
        "manifold": Manifold(32, penalty=1e-4, steps=12_660, learning_rate=MPDR_RATE),
        "latent_chain": Chain(5, step_size=0.1, noise=0.02, gamma=1e-4),
        "visible_chain": Chain(5, step_size=10.0, noise=0.005),
        "max_steps": 21_100,
        "learning_rate": 1e-5,
    },
    "cifar10": {
        **_MPDR,
        "image_shape": (3, 32, 32),
        "network": "cifar1",
        # 40 passes over 50,000 images, twice
        "energy": Reconstruction(
            "conv32big",
            latent_dim=128,
            init="pretrain",
            pretrain_steps=15_640,
            pretrain_learning_rate=MPDR_RATE,
        ),
        "manifold": Manifold((32, 64, 128), penalty=1e-5, steps=15_640, learning_rate=MPDR_RATE),
        "latent_chain": Chain(10, step_size=0.1, noise=0.01, gamma=1e-4),
        "visible_chain": Chain(20, step_size=10.0, noise=0.005),
        "replay": Replay(10_000),
        "augmentation": ("flip", "crop", "jitter", "grey"),
    },
}
# Settings on digits that differ for MPDR-S, whose energy is not a reconstruction error.
MPDR_SCALAR_MNIST: dict[str, Any] = {
    "latent_chain": Chain(2, step_size=0.05, noise=0.02, gamma=1e-4),
    "learning_rate": MPDR_RATE,
}

# NAE: the settings are from Table 11 and appendix D.3. The rate for log T is a hundred times that
# of the networks.
_NAE: dict[str, Any] = {"learning_rate": 1e-5, "schedule": "constant"}
NAE: dict[str, dict[str, Any]] = {
    "2d": {
        **_NAE,
        "latent_space": "euclidean",
        "latent_chain": Chain(10, step_size=0.005, noise=0.1),
        "visible_chain": Chain(30, step_size=0.005, noise=0.1, metropolis=True),
        "temperature": 0.5,
        "temperature_learning_rate": 1e-3,
        "standardize": False,
        "pretrain_steps": 0,
    },
    "mnist": {
        **_NAE,
        "image_shape": (1, 28, 28),
        "network": "conv28",
        "latent_chain": Chain(10, step_size=0.2, noise=0.05),
        "visible_chain": Chain(50, step_size=10.0, noise=0.05, clip=0.01, anneal=True),
        "encoder_penalty": 1e-4,
        # 100 and 50 passes over 54,000 images
        "pretrain_steps": 42_200,
        "max_steps": 21_100,
    },
    "cifar10": {
        **_NAE,
        "image_shape": (3, 32, 32),
        "network": "conv32",
        "latent_chain": Chain(20, step_size=1.0, noise=0.02),
        "visible_chain": Chain(40, step_size=10.0, noise=0.02, clip=0.01, anneal=True),
        "encoder_penalty": 1e-4,
        # 120 and 50 passes over 45,000 images
        "pretrain_steps": 42_240,
        "max_steps": 17_600,
    },
    "celeba": {
        **_NAE,
        "image_shape": (3, 64, 64),
        "network": "conv64",
        "latent_chain": Chain(20, step_size=1.0, noise=0.02),
        "visible_chain": Chain(40, step_size=10.0, noise=0.02, clip=0.01, anneal=True),
        # 50 passes over 162,079 images
        "max_steps": 63_350,
    },
}
