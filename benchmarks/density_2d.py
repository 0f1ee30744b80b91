"""Eight Gaussians: how well each method's density fits, and how good its samples are.

    python benchmarks/density_2d.py run                # a quarter of an hour on 2 cores; resumable
    python benchmarks/density_2d.py tables             # seconds; writes results/density_2d.md

The data are those of NAE's appendix D.1, the rows those of its figures 3 and 5 with MPDR's beside
them. A density is normalised on [-4, 4]^2 and compared with the true one on a grid of 100 x 100.
All rows have one network (two hidden layers of 128), one number of gradient steps and the same
5,000 training rows for a seed. Where a method has no temperature of its own, exp(-E / T) takes the
T of the greatest likelihood of the training rows, as NAE's is trained to be.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _measure import machine
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from skgenad import MPDR, NAE, VAE, Autoencoder
from skgenad.benchmark._markdown import table
from skgenad.datasets import eight_gaussians_log_density, make_eight_gaussians

RESULTS = Path(__file__).parent / "results" / "density_2d"
SEEDS = range(5)
AXIS = np.linspace(-4, 4, 100)
CELL = (AXIS[1] - AXIS[0]) ** 2
GRID = np.stack(np.meshgrid(AXIS, AXIS), axis=-1).reshape(-1, 2)
N_ROWS = 5000
# Steps of the autoencoder (or manifold) and of the energy; a method of one stage has their sum.
FIRST, SECOND = 500, 1500

_COMMON: dict[str, Any] = {"hidden_sizes": (128, 128), "standardize": False, "device": "cpu"}
# Table 11's chain, but with a noise of three times the paper's (and the step that goes with it),
# since few and short chains must find their way; and with pretraining, for the same reason.
_NAE = {
    "visible_steps": 20,
    "visible_noise": 0.3,
    "visible_step_size": 0.045,
    "latent_penalty": 0.01,
    "pretrain_steps": FIRST,
    "max_steps": SECOND,
    "learning_rate": 1e-3,
    "temperature_learning_rate": 1e-2,
    "schedule": "cosine",
}
_MPDR = {
    "manifold_dims": 2,
    "manifold_steps": FIRST,
    "max_steps": SECOND,
    "score_type": "energy",
    "visible_steps": 20,
    "visible_noise": 0.3,
    "visible_step_size": 0.045,
}
_LONG = {"max_steps": FIRST + SECOND}


def _nae(latent_dim: int | None, seed: int, **parameters: Any) -> NAE:
    return NAE.from_paper(
        "2d", **{**_COMMON, **_NAE, **parameters}, latent_dim=latent_dim, random_state=seed
    )


def _ae(latent_dim: int | None, seed: int) -> Autoencoder:
    return Autoencoder(
        **_COMMON, **_LONG, latent_space="euclidean", latent_dim=latent_dim, random_state=seed
    )


def _vae(latent_dim: int | None, seed: int) -> VAE:
    return VAE(
        **_COMMON, **_LONG, score_type="likelihood", latent_dim=latent_dim, random_state=seed
    )


def _mpdr(latent_dim: int | None, seed: int, energy: str = "reconstruction") -> MPDR:
    init = "random" if energy == "scalar" else "pretrain"
    return MPDR(
        **_COMMON,
        **_MPDR,
        energy=energy,
        energy_init=init,
        pretrain_steps=0 if energy == "scalar" else FIRST,
        latent_dim=latent_dim,
        random_state=seed,
    )


Make = Callable[[int | None, int], Any]
METHODS: dict[str, Make] = {
    "AE": _ae,
    "VAE": _vae,
    "NAE-OMI": _nae,
    "NAE-CD": lambda d, seed: _nae(d, seed, sampling="cd"),
    "NAE-PCD": lambda d, seed: _nae(d, seed, sampling="pcd"),
    "NAE-PCD, no restart": lambda d, seed: _nae(
        d, seed, sampling="pcd", replay_ratio=1.0, replay_size=128
    ),
    "MPDR-R": _mpdr,
    "MPDR-S": lambda d, seed: _mpdr(d, seed, "scalar"),
}
DIMS = (1, 3)
app = typer.Typer(add_completion=False, help=__doc__)


def true_density() -> NDArray:
    """Density on the grid, normalised there."""
    density = np.exp(eight_gaussians_log_density(GRID))
    return density / (density.sum() * CELL)


def density(detector: Any, rows: NDArray) -> tuple[NDArray, float]:
    """Density of a detector on the grid and the temperature that it took."""
    if isinstance(detector, NAE):
        return np.exp(detector.log_density_grid(AXIS, AXIS)).ravel(), detector._temperature()
    if isinstance(detector, VAE):
        weights, temperature = detector.log_density(GRID), 1.0
    else:
        inside = rows[(np.abs(rows) <= 4).all(axis=1)]
        level = detector.anomaly_score(inside).mean()
        energies = detector.anomaly_score(GRID)

        def loss(log_temperature: float) -> float:
            beta = np.exp(-log_temperature)
            return beta * level + logsumexp(-beta * energies)

        temperature = float(np.exp(minimize_scalar(loss, bounds=(-15, 5), method="bounded").x))
        weights = -energies / temperature
    return np.exp(weights - logsumexp(weights)) / CELL, temperature


def cells() -> Iterator[tuple[str, int | None, int]]:
    """Method, latent dimension and seed of every fit; a scalar energy has no latent dimension."""
    for seed in SEEDS:
        for name in METHODS:
            for dim in (None,) if name == "MPDR-S" else DIMS:
                yield name, dim, seed


def compute(name: str, dim: int | None, seed: int) -> None:
    """Fit one detector; write its density, figures and, for the samples' table, itself."""
    path = RESULTS / "cells" / f"{name.replace(', ', '_').replace(' ', '-')}_{dim}_{seed}.pickle"
    if path.exists():
        return
    X, _ = make_eight_gaussians(N_ROWS, random_state=seed)
    with threadpool_limits(1):
        detector = METHODS[name](dim, seed).fit(X)
        q, temperature = density(detector, X)
    row = {
        "method": name,
        "latent_dim": dim,
        "seed": seed,
        "l1": np.abs(q - true_density()).sum() * CELL,
        "temperature": temperature,
        "seconds": detector.history_["seconds"].sum(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps((row, q, detector)))
    part.replace(path)


@app.command()
def run(jobs: Annotated[int, typer.Option(help="Fits at a time.")] = 2) -> None:
    """Compute the fits that are missing."""
    Parallel(n_jobs=jobs)(delayed(compute)(*cell) for cell in cells())


if __name__ == "__main__":
    app()
