"""Settings of the papers' experiments; `from_paper` says what the papers leave open."""

from __future__ import annotations

from typing import Any

from .chains import Chain, Replay
from .mpdr_manifold import Manifold
from .mpdr_parts import Masked, Reconstruction

# MPDR: the settings are from Tables 7 and 8 and appendix B. Rows that are no images have no bounds.
# What these leave open is that of the authors' code where it is known: the factor of the error and
# what is penalised, the penalty of the energy's encoder, the latent gradient divided by its norm.
MPDR_RATE = 1e-4
_MPDR: dict[str, Any] = {
    "noise_range": (0.05, 0.3),
    "score_type": "energy",
    "learning_rate": MPDR_RATE,
    "schedule": "constant",
}
# Representations of images, B.4 and B.5: rows of unit norm, and noise on them in all of training.
_FEATURES: dict[str, Any] = {
    **_MPDR,
    "network": (1024, 1024),
    "latent_chain": Chain(0),
    "input_noise": 0.01,
    "standardize": False,
}
# Five frames of a sound, B.6: a pass over a machine's rows is 2,000 steps.
_DCASE: dict[str, Any] = {
    **_MPDR,
    "network": (1024, 1024),
    "energy": Masked(
        (128, 128, 128, 128),
        latent_dim=32,
        pretrain_steps=200_000,
        pretrain_learning_rate=MPDR_RATE,
    ),
    "manifold": Manifold((32, 64, 128), penalty=1e-5, steps=100_000, learning_rate=MPDR_RATE),
    "latent_chain": Chain(0),
    "visible_chain": Chain(5, step_size=10.0, noise=0.005, gamma=1e-4, bounds="none"),
    "max_steps": 12_000,
    "batch_size": 512,
    "standardize": True,
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
        "energy": Reconstruction(
            latent_dim=32, learn_scale=True, penalize="error", penalty=1e-4, init="manifold"
        ),
        # 30 and 50 passes over 54,000 images
        "manifold": Manifold(32, penalty=1e-4, steps=12_660, learning_rate=MPDR_RATE),
        "latent_chain": Chain(5, step_size=0.1, noise=0.02, gamma=1e-4, normalize=True),
        "visible_chain": Chain(5, step_size=10.0, noise=0.005),
        "max_steps": 21_100,
        "learning_rate": 1e-5,
    },
    "cifar10": {
        **_MPDR,
        "image_shape": (3, 32, 32),
        "network": "cifar1",
        # 40 passes over 50,000 images, twice, and 50
        "energy": Reconstruction(
            "conv32big",
            latent_dim=32,
            learn_scale=True,
            penalize="error",
            penalty=1e-5,
            init="pretrain",
            pretrain_steps=15_640,
            pretrain_learning_rate=MPDR_RATE,
        ),
        "manifold": Manifold((32, 64, 128), penalty=1e-5, steps=15_640, learning_rate=MPDR_RATE),
        "latent_chain": Chain(10, step_size=0.1, noise=0.01, gamma=1e-4, normalize=True),
        "visible_chain": Chain(20, step_size=10.0, noise=0.005),
        "max_steps": 19_550,
        "replay": Replay(10_000),
        "augmentation": ("flip", "crop", "jitter", "grey"),
    },
    "vit": {
        **_FEATURES,
        # 30 passes over 50,000 images, three times
        "energy": Reconstruction(
            latent_dim=1024,
            init="pretrain",
            pretrain_steps=11_730,
            pretrain_learning_rate=MPDR_RATE,
        ),
        "manifold": Manifold((128, 256, 1024), penalty=1e-6, steps=11_730, learning_rate=MPDR_RATE),
        "visible_chain": Chain(30, step_size=1.0, noise=0.005, gamma=1e-4, bounds="none"),
        "max_steps": 11_730,
    },
    "mvtec": {
        **_FEATURES,
        # 200 and 20 passes over 14 x 14 rows of 3,629 images
        "energy": Reconstruction(latent_dim=256, init="manifold"),
        "manifold": Manifold(256, steps=139_000, learning_rate=1e-3),
        "visible_chain": Chain(10, step_size=0.1, noise=0.1, gamma=1e-4, bounds="none"),
        "max_steps": 13_900,
        "batch_size": 1024,
    },
    "dcase": _DCASE,
    "dcase_fan": {
        **_DCASE,
        "latent_chain": Chain(20, step_size=0.1, noise=0.01, gamma=1e-4, normalize=True),
        "visible_chain": Chain(20, step_size=10.0, noise=0.005, gamma=1e-4, bounds="none"),
    },
}
# Settings on digits that differ for MPDR-S, whose energy is not a reconstruction error.
MPDR_SCALAR_MNIST: dict[str, Any] = {
    "latent_chain": Chain(2, step_size=0.05, noise=0.02, gamma=1e-4, normalize=True),
    "learning_rate": MPDR_RATE,
}
# The scalar energy in the authors' code on images.
MPDR_SCALAR_IMAGES: dict[str, Any] = {"free_last": True, "learn_scale": True}
# MPDR-R on sounds: the chains are the same for all machines, and layers those of MPDR-IDNN.
MPDR_RECONSTRUCTION_DCASE: dict[str, Any] = {
    "energy": Reconstruction(
        (128, 128, 128, 128),
        latent_dim=32,
        penalty=1e-5,
        init="pretrain",
        pretrain_steps=200_000,
        pretrain_learning_rate=MPDR_RATE,
    ),
    **{name: _DCASE[name] for name in ("latent_chain", "visible_chain")},
}

# NAE: the settings are from Table 11 and appendix D.3. The rate for log T is a hundred times that
# of the networks. The rate of pretraining and the norm of its gradient are the authors' code's.
_NAE: dict[str, Any] = {"learning_rate": 1e-5, "schedule": "constant"}
_NAE_IMAGES: dict[str, Any] = {
    **_NAE,
    "pretrain_learning_rate": 1e-4,
    "pretrain_clip": 0.1,
    "n_levels": 256,
}
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
        **_NAE_IMAGES,
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
        **_NAE_IMAGES,
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
        **_NAE_IMAGES,
        "image_shape": (3, 64, 64),
        "network": "conv64",
        "latent_chain": Chain(20, step_size=1.0, noise=0.02),
        "visible_chain": Chain(40, step_size=10.0, noise=0.02, clip=0.01, anneal=True),
        "latent_dim": 64,
        # 30 passes, as in the authors' code, and 50 over 162,079 images
        "pretrain_steps": 38_010,
        "max_steps": 63_350,
    },
}
