"""MNIST's digits against corrupted ones: the multimodal case of CANCE's Table 1.

    python benchmarks/mnist_corrupted.py run --data-home DIR     # resumes; --full for a GPU
    python benchmarks/mnist_corrupted.py tables     # seconds; writes results/mnist_corrupted.md

Detectors learn training images of all ten digits, 10,000 in the size "small". Normal are test
images, anomalies the same images under each of MNIST-C's 15 corruptions, which `make_mnist_c` draws
anew. CANCE, its parts and the size "full" are those of `mnist_one_class.py`, with the paper's 10
latent features in place of 6; "Error" is the reconstruction error of the autoencoder of CANCE.
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
from _image_baselines import baseline
from _image_sets import drawn, mnist
from _results import interval, mean_sd, origin_of, results_file, stamped, write_paragraphs
from mnist_holdout import detector as learned
from mnist_one_class import _detector as cance
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.datasets import make_mnist_c

ROWS = results_file(
    "mnist_corrupted",
    key=("size", "seed", "method", "corruption"),
    columns={
        **dict.fromkeys(("size", "method", "corruption"), str),
        **dict.fromkeys(("seed", "n_train", "n_normal"), int),
        **dict.fromkeys(("auroc", "fit_seconds"), float),
    },
)
CORRUPTIONS = (
    *("brightness", "canny_edges", "dotted_line", "fog", "glass_blur", "impulse_noise"),
    *("motion_blur", "rotate", "scale", "shear", "shot_noise", "spatter", "stripe", "translate"),
    "zigzag",
)
SCORES = {"LatNCE": "latent", "CNCE": "cnce", "CANCE": "cance"}
# Quick ones first, so that a run that is cut short has whole rows.
METHODS = ("kNN", "AE", "CANCE", "Error", "CNCE", "LatNCE")
N_TRAIN = {"small": 10_000, "full": 60_000}
N_TEST = {"small": 1000, "full": 10_000}
# Seed of the corruptions and of the choice of images, whatever the seed of a fit.
DRAWS = 0
# Table 1 of the paper, means of 30 runs with the published images.
_PAPER = {"Error": 0.897, "LatNCE": 0.784, "CNCE": 0.913, "CANCE": 0.922}
_PAIRS = (("CANCE", "CNCE"), ("CNCE", "Error"), ("CANCE", "Error"), ("CANCE", "kNN"))
app = typer.Typer(add_completion=False, help=__doc__)


def detector(method: str, size: str, seed: int) -> Any:
    """Make a detector of a size."""
    if method == "kNN":
        return baseline(method, 0, seed)
    if method == "AE":
        return learned(method, size, seed)
    kind = SCORES["CANCE" if method == "Error" else method]
    return cance(size, seed, score_type=kind, features__latent_dim=10)


@cache
def _fitted(method: str, size: str, seed: int, data_home: Path | None) -> tuple[Any, int, float]:
    images = drawn(mnist("train", data_home)[0], N_TRAIN[size], DRAWS)
    start = time.process_time()
    fitted = detector(method, size, seed).fit(images)
    return fitted, len(images), time.process_time() - start


def _scores(fitted: Any, method: str, images: NDArray) -> NDArray:
    if method == "Error":
        return fitted.anomaly_map(images).mean(axis=(1, 2))
    return -fitted.score_samples(images)


def _compute(
    size: str, seed: int, method: str, *, data_home: Path | None
) -> Iterator[dict[str, Any]]:
    # The error is a part of the fit of CANCE.
    kind = "CANCE" if method == "Error" else method
    fitted, n_train, seconds = _fitted(kind, size, seed, data_home)
    normal = drawn(mnist("test", data_home)[0], N_TEST[size], DRAWS)
    of_normal = _scores(fitted, method, normal)
    truth = np.repeat([0, 1], len(normal))
    for corruption in CORRUPTIONS:
        scores = _scores(fitted, method, make_mnist_c(normal, corruption, random_state=DRAWS))
        yield {
            "corruption": corruption,
            "n_train": n_train,
            "n_normal": len(normal),
            "auroc": roc_auc_score(truth, np.concatenate([of_normal, scores])),
            "fit_seconds": seconds,
        }


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    full: Annotated[bool, typer.Option(help="Wide networks and long training.")] = False,
) -> None:
    """Compute what is missing of the results."""
    size = "full" if full else "small"
    cells = ((size, seed, method) for seed in range(1, seeds + 1) for method in METHODS)
    run_cells(partial(stamped, partial(_compute, data_home=data_home)), cells, ROWS)


# ---- tables --------------------------------------------------------------------------------------


def _lines(rows: pd.DataFrame, methods: list[str]) -> Iterator[list[str]]:
    means = rows.groupby(["corruption", "method"])["auroc"].mean().unstack()
    for corruption in CORRUPTIONS:
        yield [corruption, *(f"{means.loc[corruption, m]:.3f}" for m in methods)]
    of_seeds = rows.groupby(["method", "seed"])["auroc"].mean()
    yield ["mean", *(mean_sd(of_seeds[m]) for m in methods)]
    yield ["mean, paper", *(f"{_PAPER[m]:.3f}" if m in _PAPER else "" for m in methods)]


def _differences(rows: pd.DataFrame, methods: list[str]) -> Iterator[str]:
    means = rows.groupby(["corruption", "method"])["auroc"].mean().unstack()
    for one, other in _PAIRS:
        if {one, other} <= set(methods):
            gap = means[one] - means[other]
            yield f"{one} − {other}: {interval(gap)}, above in {(gap > 0).sum()} of {len(gap)}"


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    kept = ROWS.read()
    text = ["# MNIST against corrupted digits", origin_of(kept, "mnist_corrupted.py")]
    for size, rows in kept.groupby("size"):
        methods = [m for m in METHODS if m in set(rows["method"])]
        seeds = rows.groupby("method")["seed"].nunique()
        counts = ", ".join(f"{m} {seeds[m]}" for m in methods)
        times = rows.groupby("method")["fit_seconds"].mean()
        text.append(f"## Size: {size}")
        text.append(
            f"AUROC of {rows['n_normal'].iloc[0]:,} test images of MNIST against the same images "
            f"under a corruption; {rows['n_train'].iloc[0]:,} training images of all digits. Means "
            f"of so many seeds: {counts}. The last lines: the mean over the corruptions, which is "
            "the AUROC against all corrupted images together, with its standard deviation over "
            "seeds, and the figures of CANCE's paper, of 30 runs with long training and all "
            "images."
        )
        text.append(table(["AUROC", *methods], list(_lines(rows, methods))))
        text.append("Differences of the means over the corruptions, with 95 % t-intervals: ")
        text.append("\n".join(f"- {line}" for line in _differences(rows, methods)))
        costs = ", ".join(f"{m} {times[m]:.0f}" for m in methods if m != "Error")
        text.append(f"Seconds of CPU time of a fit: {costs}.")
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
