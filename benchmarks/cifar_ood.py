"""Other images against CIFAR-10: MPDR's Table 3 and NAE's Table 2, and textures.

    python benchmarks/cifar_ood.py run --data-home DIR       # resumes; --full: the papers' sizes
    python benchmarks/cifar_ood.py tables                # seconds; writes results/cifar_ood.md

Detectors learn CIFAR-10's training images; normal are its test images. The default is of a size for
two CPU cores, narrow networks and some hundred steps; `--full` is `from_paper("cifar10")`, for a
GPU. Sets that are neither in `DIR` nor to be downloaded are left out.

"CUReT" are patches of photographs of 61 materials, of less contrast than CIFAR-10's images and of
finer grain: near to many images in the distance of pixels, and unlikely.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _image_baselines import BASELINES, baseline
from _image_sets import anomalies_of_cifar10, at_hand, photographs
from _paper_baselines import PAPER_BASELINES, paper_baseline
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from hierarchies import SMALL, SMALL_STEPS
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from skgenad import MPDR, NAE, Autoencoder, Glow
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.energies import Manifold, Reconstruction
from skgenad.networks import Cifar1

ROWS = results_file(
    "cifar_ood",
    key=("size", "seed", "method", "anomalies"),
    columns={
        "size": str,
        "seed": int,
        "method": str,
        "anomalies": str,
        "auroc": float,
        "n_train": int,
        "steps": int,
        "fit_seconds": float,
    },
)
GLOWS = ("Glow", "Glow, last scale")
# The paper has no DAGMM here; Glow is that of the flows' paper.
OF_NAE = tuple(name for name in PAPER_BASELINES if name not in ("DAGMM", "Glow"))
METHODS = (*BASELINES, *GLOWS, "AE", "MPDR-R", "NAE", *OF_NAE)
N_COMPONENTS = 128
app = typer.Typer(add_completion=False, help=__doc__)

_AE_STEPS = 500
_SMALL_NET = Cifar1(width=0.5)
_AUTOENCODERS: dict[str, dict[str, Any]] = {
    "small": {"network": _SMALL_NET, "latent_dim": 64, "max_steps": _AE_STEPS},
    "full": {"network": "conv32big", "max_steps": 15_640, "learning_rate": 1e-4},
}
_SMALL: dict[str, dict[str, Any]] = {
    "MPDR-R": {
        "network": _SMALL_NET,
        "energy": Reconstruction(latent_dim=64, init="manifold"),
        "manifold": Manifold(64, penalty=1e-5, steps=_AE_STEPS),
        "max_steps": 100,
        "learning_rate": 1e-4,
        "schedule": "cosine",
        "replay": None,
        # The rows are older than this option of the preset, and than NAE's two below.
        "latent_chain__normalize": False,
    },
    "NAE": {
        "network": _SMALL_NET,
        "latent_dim": 64,
        "pretrain_steps": _AE_STEPS,
        "pretrain_learning_rate": 1e-3,
        "pretrain_clip": None,
        "n_levels": None,
        "max_steps": 100,
        "learning_rate": 1e-4,
        "schedule": "cosine",
    },
}


def _detector(method: str, size: str, seed: int) -> Any:
    if method in BASELINES:
        return baseline(method, N_COMPONENTS, seed)
    if method in GLOWS:
        own = {"image_shape": (3, 32, 32), "random_state": seed, **ALL_ROWS}
        if size == "full":
            return Glow.from_paper("cifar10", **own)
        # The rows are of couplings without normalisation.
        return Glow(**SMALL, max_steps=SMALL_STEPS[3], coupling_norm=False, **own)
    autoencoder = {"image_shape": (3, 32, 32), **_AUTOENCODERS[size]}
    if method in OF_NAE:
        return paper_baseline(method, size, seed, {"latent_dim": 32, **autoencoder})
    settings = {"random_state": seed, **ALL_ROWS}
    if method == "AE":
        return Autoencoder(**autoencoder, **settings)
    settings |= _SMALL[method] if size == "small" else {}
    if method == "MPDR-R":
        # The small one has an energy and a manifold of its own, not the paper's with changes.
        return MPDR.from_paper("cifar10").set_params(**settings)
    return NAE.from_paper("cifar10", **settings)


@cache
def _fitted(
    size: str, seed: int, method: str, data_home: Path | None
) -> tuple[Any, dict[str, float]]:
    """Fit a detector; also what that cost."""
    images = photographs(data_home, "train").images
    start = time.process_time()
    fitted = _detector(method, size, seed).fit(images)
    history = getattr(fitted, "history_", None)
    return fitted, {
        "n_train": len(images),
        "steps": 0 if history is None else int(history.groupby("stage")["step"].max().sum()),
        "fit_seconds": time.process_time() - start,
    }


def _scores(fitted: Any, method: str, images: NDArray) -> NDArray:
    if method == "Glow, last scale":
        return -fitted.scale_contributions(images)[:, -1]
    return -fitted.score_samples(images)


@cache
def _sets(data_home: Path | None) -> dict[str, NDArray]:
    return dict(at_hand(anomalies_of_cifar10(data_home)))


@cache
def _judge(
    size: str, seed: int, method: str, data_home: Path | None
) -> tuple[Any, NDArray, dict[str, float]]:
    """Return a detector, its scores of normal images, and its cost."""
    # The last scale is a part of the likelihood of the same fit.
    kind = "Glow" if method == "Glow, last scale" else method
    fitted, cost = _fitted(size, seed, kind, data_home)
    return fitted, _scores(fitted, method, photographs(data_home, "test").images), cost


def _compute(
    size: str, seed: int, method: str, anomalies: str, *, data_home: Path | None
) -> Iterator[dict[str, Any]]:
    """Score one set; the detector is kept for the next one."""
    fitted, normal, cost = _judge(size, seed, method, data_home)
    scores = np.r_[normal, _scores(fitted, method, _sets(data_home)[anomalies])]
    anomaly = np.arange(len(scores)) >= len(normal)
    yield {"auroc": roc_auc_score(anomaly, scores), **cost}


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 1,
    full: Annotated[bool, typer.Option(help="The papers' sizes, for a GPU.")] = False,
    methods: Annotated[str, typer.Option(help="Some of them, separated by '; '.")] = "",
) -> None:
    """Compute what is missing of the results."""
    size, chosen = "full" if full else "small", methods.split("; ") if methods else METHODS
    cells = (
        (size, seed, method, anomalies)
        for method in chosen
        for seed in range(1, seeds + 1)
        for anomalies in _sets(data_home)
    )
    # One job: sets of a detector come one after the other.
    run_cells(partial(stamped, partial(_compute, data_home=data_home)), cells, ROWS)


_PAPER: dict[str, dict[str, float]] = {
    "AE": {"Grey": 0.006, "Fashion": 0.650, "SVHN": 0.175, "Noise": 1.0},
    "NAE": {"Grey": 0.963, "Fashion": 0.819, "SVHN": 0.920, "Noise": 1.0, "Constant": 0.9793},
    "MPDR-R": {"SVHN": 0.9807, "Constant": 0.9996},
    "DAE": {"Grey": 0.001, "Fashion": 0.671, "SVHN": 0.175, "Noise": 1.0},
    "WAE": {"Grey": 0.0, "Fashion": 0.649, "SVHN": 0.168, "Noise": 1.0},
    "VAE": {"Grey": 0.002, "Fashion": 0.700, "SVHN": 0.191, "Noise": 1.0},
    "VAE-L": {"Grey": 0.002, "Fashion": 0.767, "SVHN": 0.185, "Noise": 1.0},
    "Glow": {"Grey": 0.384, "Fashion": 0.222, "SVHN": 0.260, "Noise": 1.0},
    "PixelCNN": {"Grey": 0.0, "Fashion": 0.013, "SVHN": 0.074, "Noise": 1.0},
    "EBM": {"Grey": 0.192, "Fashion": 0.216, "SVHN": 0.371, "Noise": 1.0},
}


def _table(rows: pd.DataFrame) -> str:
    sets = list(dict.fromkeys(rows["anomalies"]))
    lines = []
    for method in METHODS:
        cells = [rows[(rows["method"] == method) & (rows["anomalies"] == s)] for s in sets]
        lines.append([method, *(mean_sd(cell["auroc"]) for cell in cells)])
        paper = _PAPER.get(method, {})
        if set(paper) & set(sets):
            numbers = (f"{paper[s]:.3f}" if s in paper else "" for s in sets)
            lines.append([f"{method}, papers", *numbers])
    return table(["AUROC", *sets], lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    kept = ROWS.read()
    text = ["# Other images against CIFAR-10", origin_of(kept, "cifar_ood.py")]
    for size, rows in kept.groupby("size"):
        cost = rows.groupby("method")[["steps", "fit_seconds"]].mean().reindex(METHODS)
        steps = "; ".join(
            f"{m} {c.steps:.0f}, {c.fit_seconds:.0f} s" for m, c in cost.dropna().iterrows()
        )
        by_method = rows.groupby("method")["seed"].nunique().reindex(METHODS).dropna()
        seeds = ", ".join(f"{method} {n:.0f}" for method, n in by_method.items())
        text.append(f"## Size: {size}")
        text.append(
            f"Mean ± standard deviation; seeds: {seeds}. {rows['n_train'].max()} training "
            f"images; gradient steps of all stages and CPU time of a fit: {steps}. The papers' "
            "numbers are NAE's Table 2 (all but MPDR-R; VAE is its VAE(R), VAE-L its VAE(L), EBM "
            "its IGEBM, and its Glow is another one than this) and MPDR's Table 3 (MPDR-R, and NAE "
            "on constant colours). From DAE to GANomaly all have the network, the steps and the "
            "rate of AE. Images of 28 x 28 pixels have a black frame here; NAE's paper "
            f"enlarges them. PCA: squared error with {N_COMPONENTS} components; kNN: mean distance "
            "to 5 neighbours. Empty cells have not been run."
        )
        text.append(_table(rows))
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
