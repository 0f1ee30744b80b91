"""Other images against MNIST and against Fashion-MNIST.

    python benchmarks/mnist_ood.py run --data-home DIR       # an hour on a core; resumes
    python benchmarks/mnist_ood.py run --data-home DIR --models MODELS --size full
    python benchmarks/mnist_ood.py tables                # seconds; writes results/mnist_ood.md

"MNIST": MPDR's Table 2 and NAE's Table 4. As in MPDR's paper the detectors are those of
`mnist_holdout.py` that learned all digits but 9, and others beside them; normal are the test images
of these digits. What `mnist_holdout.py` has put in `MODELS` is taken from there, and of the size
"full" nothing else.

"Fashion": a flow's likelihood is higher on digits than on the clothes that it learned, less so with
couplings that are densely connected (Schirrmeister et al., section 2 and S2.2). Normal are the test
images.

Sets that are neither in `DIR` nor to be downloaded are left out.
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
from _image_sets import (
    anomalies_of_fashion,
    anomalies_of_mnist,
    at_hand,
    bits_per_dimension,
    fashion,
    mnist,
    padded,
)
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from hierarchies import SMALL, SMALL_STEPS
from mnist_holdout import METHODS as LEARNED
from mnist_holdout import detector as learned
from mnist_holdout import model_path, training_images
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

import skgenad
from skgenad import Glow
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table

ROWS = results_file(
    "mnist_ood",
    key=("normal", "size", "seed", "method", "anomalies"),
    columns={
        **dict.fromkeys(("normal", "size", "method", "anomalies"), str),
        **dict.fromkeys(("seed", "n_train", "n_normal", "n_anomalies"), int),
        **dict.fromkeys(("aupr", "auroc", "bits", "fit_seconds"), float),
    },
)
DIGIT = 9
N_COMPONENTS = 64
SEEDS = (1, 2, 3)
GLOWS = ("Glow", "Glow, last scale", "Glow-dense")  # of the flows' paper, on Fashion-MNIST
# Quick ones first, so that a run that is cut short has whole rows.
METHODS = {
    "MNIST": (*BASELINES, *LEARNED),
    "Fashion": (*BASELINES, "AE", "VAE", *GLOWS),
}
DENSE_STEPS = 500
app = typer.Typer(add_completion=False, help=__doc__)


def _glow(dense: bool, seed: int) -> Glow:
    """Make the flow of `hierarchies.py`, or the paper's dense one with fewer steps."""
    settings: dict[str, Any] = {"random_state": seed, **ALL_ROWS}
    if dense:
        return Glow.from_paper("fashion_mnist", coupling="dense", max_steps=DENSE_STEPS, **settings)
    # The rows are of couplings without normalisation.
    settings |= {"image_shape": (1, 32, 32), "coupling_norm": False}
    return Glow(max_steps=SMALL_STEPS[1], **SMALL, **settings)


def detector(method: str, seed: int, normal: str) -> Any:
    """Make a detector of the size "small"."""
    if method in BASELINES:
        return baseline(method, N_COMPONENTS, seed)
    if normal == "Fashion" and method in GLOWS:
        return _glow(method == "Glow-dense", seed)
    return learned(method, "small", seed)


def _cells(models: Path | None, size: str) -> Iterator[tuple[str, str, int, str]]:
    kept = {
        (seed, method)
        for seed in SEEDS
        for method in LEARNED
        if models and model_path(models, size, DIGIT, seed, method).exists()
    }
    for normal, methods in METHODS.items():
        for method in methods:
            for seed in SEEDS:
                if size == "small" or (normal == "MNIST" and (seed, method) in kept):
                    yield normal, size, seed, method


@cache
def _fitted(normal: str, seed: int, kind: str, data_home: Path | None) -> tuple[Any, int, float]:
    """Fit a detector of the size "small"; also the number of images and the CPU time."""
    if normal == "MNIST":
        images = training_images(DIGIT, "small", seed, data_home)
    else:
        images = fashion("train", data_home)
    images = padded(images) if normal == "Fashion" and kind in GLOWS else images
    start = time.process_time()
    return detector(kind, seed, normal).fit(images), len(images), time.process_time() - start


def _scores(fitted: Any, normal: str, method: str, images: NDArray) -> NDArray:
    if normal == "MNIST" or method not in GLOWS:
        return -fitted.score_samples(images)
    if method == "Glow, last scale":
        return -fitted.scale_contributions(padded(images))[:, -1]
    return -fitted.log_density(padded(images))


@cache
def _sets(normal: str, data_home: Path | None) -> dict[str, NDArray]:
    sets = anomalies_of_mnist if normal == "MNIST" else anomalies_of_fashion
    return dict(at_hand(sets(data_home)))


@cache
def _judge(
    normal: str, size: str, seed: int, method: str, data_home: Path | None, models: Path | None
) -> tuple[Any, NDArray, dict[str, Any]]:
    """Return a detector, its scores of normal images, and what a row says of both."""
    path = None if models is None else model_path(models, size, DIGIT, seed, method)
    if normal == "MNIST" and path is not None and path.exists():
        fitted = skgenad.load(path)
        n_train, seconds = len(training_images(DIGIT, size, seed, data_home)), np.nan
    else:
        # The last scale is a part of the likelihood of the same fit.
        kind = "Glow" if method == "Glow, last scale" else method
        fitted, n_train, seconds = _fitted(normal, seed, kind, data_home)
    X, y = mnist("test", data_home)
    images = X[y != DIGIT] if normal == "MNIST" else fashion("test", data_home)
    own = _scores(fitted, normal, method, images)
    is_density = normal == "Fashion" and method in ("Glow", "Glow-dense")
    bits = bits_per_dimension(-own.mean(), 32 * 32) if is_density else np.nan
    said = {"n_train": n_train, "n_normal": len(own), "bits": bits, "fit_seconds": seconds}
    return fitted, own, said


def _compute(
    normal: str, size: str, seed: int, method: str, anomalies: str, **options: Any
) -> Iterator[dict[str, Any]]:
    """Score one set; the detector is kept for the next one."""
    fitted, own, said = _judge(normal, size, seed, method, **options)
    images = _sets(normal, options["data_home"])[anomalies]
    scores = np.r_[own, _scores(fitted, normal, method, images)]
    anomaly = np.arange(len(scores)) >= len(own)
    yield {
        **said,
        "aupr": average_precision_score(anomaly, scores),
        "auroc": roc_auc_score(anomaly, scores),
        "n_anomalies": len(images),
    }


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of detectors.")] = None,
    size: Annotated[str, typer.Option(help="small, or full: those in the folder.")] = "small",
    only: Annotated[str, typer.Option(help="What is normal.")] = ",".join(METHODS),
    methods: Annotated[str, typer.Option(help="Some of them, separated by '; '.")] = "",
    seeds: Annotated[str, typer.Option(help="Some of them.")] = ",".join(map(str, SEEDS)),
) -> None:
    """Compute what is missing of the results."""
    compute = partial(stamped, partial(_compute, data_home=data_home, models=models))
    chosen = methods.split("; ") if methods else None
    cells = [
        (normal, of_size, seed, method, anomalies)
        for normal, of_size, seed, method in _cells(models, size)
        if normal in only.split(",")
        and str(seed) in seeds.split(",")
        and (chosen is None or method in chosen)
        for anomalies in _sets(normal, data_home)
    ]
    run_cells(compute, cells, ROWS)  # one job: sets of a detector come one after the other


# AUPR of MPDR's Table 2, and AUROC of NAE's Table 4, whose detectors learned all ten digits; AUROC
# of the flows' paper, section 2.
_PAPER = {
    ("MNIST", "aupr"): {
        "AE": {"KMNIST": 0.999, "EMNIST": 0.977, "Omniglot": 0.947, "Fashion": 1,
               "Constant": 0.954},
        "MPDR-R": {"KMNIST": 0.999, "EMNIST": 0.989, "Omniglot": 0.997, "Fashion": 0.999,
                   "Constant": 0.990},
        "MPDR-S": {"KMNIST": 0.999, "EMNIST": 0.995, "Omniglot": 0.994, "Fashion": 0.999,
                   "Constant": 1},
        "NAE": {"KMNIST": 1, "EMNIST": 0.993, "Omniglot": 0.997, "Fashion": 1, "Constant": 1},
        "EBM": {"KMNIST": 0.990, "EMNIST": 0.923, "Omniglot": 0.845, "Fashion": 0.996,
                "Constant": 1},
    },
    ("MNIST", "auroc"): {
        "AE": {"Constant": 0.934, "Half": 0.523, "Chimera": 0.761, "Omniglot": 0.885, "Noise": 1},
        "NAE": {"Constant": 1, "Half": 0.999, "Chimera": 0.992, "Omniglot": 0.995, "Noise": 1},
        "PixelCNN": {"Constant": 0.982, "Half": 0.154, "Chimera": 0.334, "Omniglot": 0.665,
                     "Noise": 1},
        "Glow": {"Constant": 1, "Half": 0.948, "Chimera": 0.445, "Omniglot": 0.653, "Noise": 1},
        "EBM": {"Constant": 1, "Half": 0.986, "Chimera": 0.948, "Omniglot": 0.946, "Noise": 1},
    },
    ("Fashion", "auroc"): {"Glow": {"MNIST": 0.15}, "Glow-dense": {"MNIST": 0.81}},
}  # fmt: skip


def _table(rows: pd.DataFrame, normal: str, metric: str) -> str:
    sets = list(dict.fromkeys(rows["anomalies"]))
    lines = []
    for method in METHODS[normal]:
        cells = [rows[(rows["method"] == method) & (rows["anomalies"] == s)] for s in sets]
        lines.append([method, *(mean_sd(cell[metric]) for cell in cells)])
        paper = _PAPER.get((normal, metric), {}).get(method, {})
        if set(paper) & set(sets):
            numbers = (f"{paper[s]:.3f}" if s in paper else "" for s in sets)
            lines.append([f"{method}, paper", *numbers])
    return table([metric.upper(), *sets], lines)


def span(counts: pd.Series) -> str:
    """Say how many seeds sets have: sets that came later have those of later runs alone."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _said(rows: pd.DataFrame, normal: str) -> str:
    """Say what a table is of."""
    methods = METHODS[normal]
    sizes = rows.groupby("anomalies", sort=False)["n_anomalies"].first().items()
    of_each = rows.groupby("method")
    seeds = rows.groupby(["method", "anomalies"])["seed"].nunique().unstack().reindex(methods)
    seeds = seeds.dropna(how="all").apply(span, axis=1)
    seconds = of_each["fit_seconds"].mean().reindex(methods).dropna()
    text = (
        f"{rows['n_train'].max()} images to train on, {rows['n_normal'].max()} normal ones to "
        "test. Mean ± standard deviation; seeds: "
        f"{', '.join(f'{m} {n}' for m, n in seeds.items())}. "
        f"Anomalies: {', '.join(f'{name} {n}' for name, n in sizes)}. Of Omniglot, fewer than "
        "13,180 images are a part of the papers' evaluation set at hand. PCA: squared error with "
        f"{N_COMPONENTS} components; kNN: mean distance to 5 neighbours; the others, where digits "
        "are normal, are those of mnist_holdout.md. CPU time of a fit: "
        f"{', '.join(f'{m} {n:.0f} s' for m, n in seconds.items())}. Empty cells have not been run."
    )
    bits = of_each["bits"].mean().reindex(methods).dropna()
    if len(bits):
        text += (
            f" Glow has {SMALL_STEPS[1]} steps of couplings of width {SMALL['hidden']}, Glow-dense "
            f"{DENSE_STEPS} of the paper's, with a rate of 5e-4; the paper trains 250 epochs, to "
            "2.9 and 4.8 bits per dimension. Here normal test images have, without noise: "
            f"{', '.join(f'{m} {n:.2f}' for m, n in bits.items())}."
        )
    return text


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    kept = ROWS.read()
    text = ["# Other images against MNIST and Fashion-MNIST", origin_of(kept, "mnist_ood.py")]
    for normal in METHODS:
        for size, rows in kept[kept["normal"] == normal].groupby("size"):
            text += [f"## {normal}, size: {size}", _said(rows, normal)]
            text += [_table(rows, normal, metric) for metric in ("aupr", "auroc")]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
