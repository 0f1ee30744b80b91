"""Whether a change of the code changes what detectors compute: hashes of scores, bit by bit.

    python benchmarks/same_bits.py record     # writes results/same_bits.csv
    python benchmarks/same_bits.py compare    # exit status 1 if a score differs from it

Every detector is fitted at its defaults on tables of three shapes, and with short trainings in the
settings of ``SETTINGS``, which between them reach every branch of the methods. A hash is of the
scores of the training rows and of new ones, the threshold and, where there are any, of samples.
Hashes hold for one processor and one release of torch (the columns say which): record them at the
commit before a change, and compare at the one after it, on the same machine.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import skgenad
from skgenad.autoencoders import AutoencoderFeatures, PCAFeatures
from skgenad.benchmark import ResultsFile
from skgenad.energies import Chain, Manifold, Masked, Reconstruction, Replay
from skgenad.networks import MLP, Conv, Conv28

RESULTS = Path(__file__).parent / "results" / "same_bits.csv"
FILE = ResultsFile(
    RESULTS,
    key=("detector", "case"),
    columns=dict.fromkeys(("detector", "case", "digest", "commit", "torch", "cpu", "date"), str),
)
# Rows and columns of the tables on which detectors are fitted at their defaults.
SHAPES = ((60, 3), (300, 9), (130, 40))

_SHORT = {"max_steps": 12, "batch_size": 16}
_NETWORK = {**_SHORT, "network": (16, 8)}
_MPDR = {**_NETWORK, "visible_chain": Chain(2), "manifold": Manifold(steps=12)}
_NAE = {**_NETWORK, "latent_chain": Chain(2), "visible_chain": Chain(3), "pretrain_steps": 12}
_EBM = {**_NETWORK, "visible_chain": Chain(3), "replay": Replay(40)}
_FEATURES = {"latent_dim": 2, "encoder_steps": 12, "decoder_steps": 12}
_CANCE = {
    **_SHORT,
    "features": AutoencoderFeatures((16, 8), **_FEATURES),
    "density_network": (16,),
}
_ERROR = {"features": _CANCE["features"], "batch_size": 16}
_TABLE = {**_NETWORK, "n_permutations": 20, "n_projections": 5}
_PWAE = {**_TABLE, "decoder_channels": 8}
_GLOW = {**_SHORT, "n_couplings": 2, "hidden": 16}
_IMAGE = {"image_shape": (1, 12, 12)}
_FLOW = {**_GLOW, **_IMAGE, "coupling_norm": False}
_MNIST = {"image_shape": (1, 28, 28)}
_CIFAR = {"image_shape": (3, 32, 32)}

# (detector, name of the setting, parameters).
SETTINGS: list[tuple[str, str, dict[str, Any]]] = [
    ("Autoencoder", "denoising", {**_NETWORK, "input_noise": 0.2, "encoder_penalty": 1e-3}),
    (
        "Autoencoder",
        "l1-tanh",
        {**_SHORT, "network": MLP((16, 8), activation="tanh"), "distance": "l1"},
    ),
    (
        "Autoencoder",
        "conv28",
        {**_SHORT, **_MNIST, "network": Conv28(width=0.25), "distance": "ssim"},
    ),
    ("Autoencoder", "fcres", {**_SHORT, "network": "fcres", "latent_space": "euclidean"}),
    ("VAE", "elbo", {**_NETWORK, "score_type": "elbo", "sigma": 0.5, "kl_penalty": 2.0}),
    ("VAE", "likelihood", {**_NETWORK, "score_type": "likelihood", "warm_up_steps": 5}),
    ("VAE", "conv", {**_SHORT, **_IMAGE, "network": Conv(width=0.25)}),
    ("WAE", "imq", {**_NETWORK, "kernel": "imq", "mmd_penalty": 0.5}),
    ("VQVAE", "latent", {**_NETWORK, "n_codes": 9, "decay": 0.8, "score_type": "latent"}),
    ("GANomaly", "weights", {**_NETWORK, "adversarial_penalty": 2.0, "contextual_penalty": 9.0}),
    ("DAGMM", "mean", {**_NETWORK, "errors": "mean", "n_components": 2, "dropout": 0.2}),
    ("DAGMM", "weights", {**_NETWORK, "energy_penalty": 0.3, "covariance_penalty": 0.01}),
    ("CANCE", "autoencoder", _CANCE),
    ("CANCE", "pca", {**_CANCE, "features": PCAFeatures(2)}),
    ("CANCE", "error", {**_ERROR, "score_type": "error"}),
    ("CANCE", "cnce", {**_CANCE, "score_type": "cnce", "noise_ratio": 4, "noise_scale": 2.0}),
    ("CANCE", "latent", {**_CANCE, "score_type": "latent", "validation_fraction": 0.0}),
    (
        "CANCE",
        "conv28",
        {**_CANCE, **_MNIST, "features": AutoencoderFeatures(Conv28(width=0.25), **_FEATURES)},
    ),
    ("PWAE", "table", _TABLE),
    ("PWAE", "images", {**_PWAE, **_IMAGE, "network": None, "grid_size": 2}),
    (
        "PWAE",
        "sgd",
        {
            **_TABLE,
            "combine": "sum",
            "optimizer": "sgd",
            "hsic_penalty": 1e-4,
            "swd_penalty": 1e-3,
        },
    ),
    ("MPDR", "tiny", _MPDR),
    ("MPDR", "scalar", {**_MPDR, "energy": "scalar", "energy_penalty": 0.5}),
    ("MPDR", "masked", {**_MPDR, "energy": Masked(pretrain_steps=12)}),
    (
        "MPDR",
        "identity",
        {
            **_MPDR,
            "energy": Reconstruction(pretrain_steps=12),
            "manifold": "identity",
            "visible_chain": Chain(2, gamma=1.0),
        },
    ),
    (
        "MPDR",
        "ensemble",
        {
            **_MPDR,
            "energy": Reconstruction(pretrain_steps=12),
            "manifold": Manifold((2, 3), penalty=1e-3, steps=12),
            "replay": Replay(20),
        },
    ),
    (
        "MPDR",
        "chains",
        {
            **_MPDR,
            "energy": Reconstruction(init="random"),
            "latent_chain": Chain(3, step_size=0.2, noise=0.1, gamma=1e-2, normalize=True),
            "visible_chain": Chain(
                2, step_size=0.4, noise=0.2, gamma=1e-2, bounds=(-3.0, 3.0), metropolis=True
            ),
            "input_noise": 0.05,
            "noise_range": (0.1, 0.2),
            "schedule": "constant",
            "score_type": "energy",
        },
    ),
    (
        "MPDR",
        "energy",
        {
            **_MPDR,
            "energy": Reconstruction(
                latent_dim=2, distance="l1", learn_scale=True, init="pretrain", pretrain_steps=12
            ),
            "manifold": Manifold(latent_space="euclidean", steps=12),
            "visible_chain": Chain(2, bounds="none"),
            "manifold_share": 0.6,
        },
    ),
    (
        "MPDR",
        "conv28",
        {
            **_SHORT,
            **_MNIST,
            "network": Conv28(width=0.25),
            "augmentation": ("flip", "shift"),
            "manifold": Manifold(steps=12),
            "visible_chain": Chain(4),
        },
    ),
    ("NAE", "tiny", _NAE),
    ("NAE", "cd", {**_NAE, "sampling": "cd", "energy_penalty": 0.1, "encoder_penalty": 1e-3}),
    ("NAE", "pcd", {**_NAE, "sampling": "pcd", "replay": Replay(40, ratio=0.8)}),
    ("NAE", "euclidean", {**_NAE, "latent_space": "euclidean", "latent_penalty": 0.01}),
    (
        "NAE",
        "temperature",
        {
            **_NAE,
            "visible_chain": Chain(3, metropolis=True),
            "temperature": 0.5,
            "temperature_learning_rate": 0.01,
        },
    ),
    (
        "NAE",
        "chains",
        {
            **_NAE,
            "latent_chain": Chain(2, step_size=0.2, noise=0.1),
            "visible_chain": Chain(
                3, step_size=0.5, noise=0.1, clip=0.01, anneal=True, bounds="none"
            ),
            "pretrain_learning_rate": 1e-2,
            "schedule": "constant",
        },
    ),
    (
        "NAE",
        "conv28",
        {
            **_SHORT,
            **_MNIST,
            "network": Conv28(width=0.25),
            "pretrain_steps": 12,
            "distance": "l1",
        },
    ),
    ("EBM", "tiny", _EBM),
    ("EBM", "cd", {**_NETWORK, "visible_chain": Chain(3), "sampling": "cd", "spectral": True}),
    (
        "EBM",
        "chains",
        {
            **_EBM,
            "visible_chain": Chain(
                3, step_size=0.2, noise=0.3, clip=0.5, anneal=True, bounds=(-4.0, 4.0)
            ),
            "energy_penalty": 0.1,
            "schedule": "constant",
        },
    ),
    (
        "EBM",
        "metropolis",
        {**_EBM, "visible_chain": Chain(3, metropolis=True), "replay": Replay(40, ratio=0.5)},
    ),
    ("Glow", "additive", {**_GLOW, "affine": False, "weight_decay": 1e-3}),
    ("Glow", "images", {**_FLOW, "n_scales": 2, "score_type": "last_scale"}),
    ("Glow", "patch", {**_FLOW, "n_scales": 2, "coupling": "patch", "patch_size": 4}),
    (
        "NormalizingFlow",
        "tiny",
        {**_SHORT, "hidden_sizes": (16, 8), "n_transforms": 2, "n_bins": 4},
    ),
    ("PixelCNN", "images", {**_SHORT, **_IMAGE, "hidden": 4, "n_components": 2, "dropout": 0.1}),
    ("Mahalanobis", "shrinkage", {"shrinkage": "auto"}),
    ("LikelihoodRatio", "tiny", {}),
]
PRESETS = [
    (
        "MPDR",
        "adbench",
        {
            "max_steps": 12,
            "manifold": Manifold(steps=12),
            "energy": Reconstruction(pretrain_steps=12),
        },
    ),
    ("NAE", "2d", {"max_steps": 12}),
]


def rows(n: int, d: int, seed: int = 0) -> NDArray:
    """Rows (n, d) whose columns depend on each other and have different units."""
    rng = np.random.RandomState(seed)
    mixing = rng.randn(d, d)
    return rng.randn(n, d) @ mixing * np.logspace(-2, 3, d) + np.linspace(-5, 5, d)


def images(n: int, shape: tuple[int, int, int]) -> NDArray:
    """Flat images (n, C * H * W) of smooth noise in [0, 1]."""
    rng = np.random.RandomState(1)
    return np.clip(rng.rand(n, *shape).cumsum(axis=2).cumsum(axis=3) / 200, 0, 1).reshape(n, -1)


def detectors() -> list[str]:
    """Names of the public detectors."""
    things = {name: getattr(skgenad, name) for name in skgenad.__all__}
    return [n for n, thing in things.items() if inspect.isclass(thing) and hasattr(thing, "fit")]


def cases() -> Iterator[tuple[str, str, Any, NDArray]]:
    """Detector's name, name of the case, unfitted detector, training rows."""
    # The hashes are older than rows that are held out: all rows are trained on.
    fixed = {"random_state": 0, "contamination": 0.1, "calibration_fraction": 0.0}
    for name in detectors():
        for n, d in SHAPES:
            yield name, f"defaults {n} x {d}", getattr(skgenad, name)(**fixed), rows(n, d)
    for name, setting, parameters in SETTINGS:
        X = rows(100, 6)
        if "image_shape" in parameters:
            X = images(40, parameters["image_shape"])
        yield name, setting, getattr(skgenad, name)(**fixed, **parameters), X
    for name, preset, parameters in PRESETS:
        X = rows(100, 2)
        detector = getattr(skgenad, name).from_paper(preset, **fixed, **parameters)
        yield name, f"from_paper {preset}", detector, X


def digest_of(detector: Any, X: NDArray) -> str:
    """Hash of what a detector computes after a fit to `X`."""
    detector.fit(X)
    new = X[:7] * 0.9 + 0.01
    digest = hashlib.sha256()
    for values in (detector.score_samples(X), detector.score_samples(new), detector.offset_):
        digest.update(np.asarray(values, dtype=np.float64).tobytes())
    if hasattr(detector, "sample"):
        digest.update(np.asarray(detector.sample(3, random_state=0), dtype=np.float64).tobytes())
    return digest.hexdigest()[:24]


def machine() -> dict[str, str]:
    """Name what hashes depend on beside the code."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent
    ).stdout.strip()
    return {"commit": commit, "torch": torch.__version__, "cpu": cpu}


def computed(only: str | None) -> Iterator[dict[str, str]]:
    """Rows of the table, one after another."""
    about = {**machine(), "date": time.strftime("%Y-%m-%d")}
    for name, case, detector, X in cases():
        if only is not None and only not in f"{name} {case}":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tiny trainings; warnings are what tests look at
            try:
                digest = digest_of(detector, X)
            except Exception as error:
                digest = f"FAILED: {type(error).__name__}"
        yield {"detector": name, "case": case, "digest": digest, **about}


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("--only", help="cases whose 'Detector case' contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "record":
        found = []
        for row in computed(options.only):
            found.append(row)
            print(row["detector"], row["case"], row["digest"], flush=True)
        FILE.move_aside()
        with FILE:
            FILE.append(*found)
        return 0
    recorded = {(row["detector"], row["case"]): row for row in FILE.read().to_dict("records")}
    n_other = 0
    for row in computed(options.only):
        old = recorded.get((row["detector"], row["case"]))
        failed = row["digest"].startswith("FAILED")
        same = old is not None and old["digest"] == row["digest"] and not failed
        n_other += not same
        word = "same" if same else "OTHER" if old else "NEW"
        print(word, row["detector"], row["case"], row["digest"], flush=True)
    print(f"{n_other} of the cases differ")
    return 1 if n_other else 0


if __name__ == "__main__":
    sys.exit(main())
