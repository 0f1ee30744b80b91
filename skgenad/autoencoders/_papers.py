"""Settings of the papers' experiments; a detector's first one is the default of ``from_paper``."""

from __future__ import annotations

from typing import Any

from .features import AutoencoderFeatures, PCAFeatures

# CANCE: sections 4 and E, appendices F and G. Lengths are ours; see `CANCE.from_paper`.
_LENGTH = 20_000


def _images(shape: tuple[int, int, int], latent_dim: int, penalty: float) -> dict[str, Any]:
    return {
        "image_shape": shape,
        "features": AutoencoderFeatures(
            "conv",
            latent_dim=latent_dim,
            covariance_penalty=penalty,
            encoder_steps=_LENGTH,
            decoder_steps=_LENGTH,
        ),
        "noise_ratio": 8,
        "validation_fraction": 0.2,
        "max_steps": _LENGTH,
    }


_EMBEDDINGS: dict[str, Any] = {
    "noise_ratio": 8,
    "validation_fraction": 0.2,
    "max_steps": _LENGTH,
    "standardize": False,
}
_DIGITS = (1, 28, 28)
CANCE: dict[str, dict[str, Any]] = {
    "mnist": _images(_DIGITS, 6, 0.3),
    "fashion_mnist": _images(_DIGITS, 6, 0.3),
    "mnist_c": _images(_DIGITS, 10, 0.3),
    "cifar10": _images((3, 32, 32), 64, 0.004),
    "mnist_resnet18": {**_EMBEDDINGS, "features": PCAFeatures(6)},
    "cifar10_resnet18": {**_EMBEDDINGS, "features": PCAFeatures(64)},
}

# DAGMM: its section 4 for KDDCUP99, CANCE's section 4.1 for images and appendix H for the other.
_DAGMM: dict[str, Any] = {
    "n_components": 4,
    "estimation_sizes": (10,),
    "dropout": 0.5,
    "reconstruction": "mean",
    "energy_penalty": 0.1,
    "covariance_penalty": 0.005,
    "learning_rate": 1e-4,
}
_KDDCUP: dict[str, Any] = {
    **_DAGMM,
    "network": (60, 30, 10),
    "latent_dim": 1,
    "batch_size": 1024,
    "standardize": False,
}
# 198,000 rows, about, are a half without what counts as anomalies.
_KDDCUP_EPOCH = 193
DAGMM: dict[str, dict[str, Any]] = {
    "kddcup99": {**_KDDCUP, "max_steps": 200 * _KDDCUP_EPOCH},
    "kddcup99_cance": {**_KDDCUP, "errors": "mean", "max_steps": 10 * _KDDCUP_EPOCH},
    # 400 epochs of a class, 6,000 and 5,000 images
    "mnist": {
        **_DAGMM,
        "image_shape": _DIGITS,
        "network": "conv",
        "latent_dim": 6,
        "batch_size": 128,
        "max_steps": 400 * 6000 // 128,
    },
    "cifar10": {
        **_DAGMM,
        "image_shape": (3, 32, 32),
        "network": "conv",
        "latent_dim": 16,
        "batch_size": 128,
        "max_steps": 400 * 5000 // 128,
    },
}

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
