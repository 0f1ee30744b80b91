"""MNIST with one digit as the normal class: CANCE's Tables 7 and 10.

    python benchmarks/mnist_one_class.py run --data-home DIR     # resumes; --full for a GPU
    python benchmarks/mnist_one_class.py tables     # seconds; writes results/mnist_one_class.md

Detectors learn the training images of one digit; the whole test split is scored. Each fit trains an
autoencoder of its own; "Error" is the reconstruction error of that of CANCE.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _image_sets import mnist
from _results import interval, origin_of, results_file, stamped, write_paragraphs
from scipy import stats
from sklearn.metrics import roc_auc_score

from skgenad import CANCE
from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table

ROWS = results_file(
    "mnist_one_class",
    key=("size", "digit", "seed"),
    columns={
        "size": str,
        "digit": int,
        "seed": int,
        "n_train": int,
        "LatNCE": float,
        "CNCE": float,
        "CANCE": float,
        "Error": float,
        "seconds": float,
    },
)
DIGITS = range(10)
METHODS = ("Error", "LatNCE", "CNCE", "CANCE")
app = typer.Typer(add_completion=False, help=__doc__)

# The paper's latent dimension and penalty (appendix G).
_COMMON: dict[str, Any] = {
    "image_shape": (1, 28, 28),
    "features__network": "conv",
    "features__latent_dim": 6,
    "features__covariance_penalty": 0.3,
}
_STEPS = ("features__encoder_steps", "features__decoder_steps")
_SIZES: dict[str, dict[str, Any]] = {
    "small": {"features__network__width": 0.5, **dict.fromkeys(_STEPS, 1000)},
    "full": {**dict.fromkeys(_STEPS, 20_000), "max_steps": 20_000},
}


def _detector(size: str, seed: int, **changes: Any) -> CANCE:
    return CANCE(random_state=seed, **ALL_ROWS).set_params(**{**_COMMON, **_SIZES[size], **changes})


def _compute(
    size: str, digit: int, seed: int, *, data_home: Path | None, **changes: Any
) -> list[dict[str, Any]]:
    X, y = mnist("train", data_home)
    images = X[y == digit]
    X, y = mnist("test", data_home)
    row: dict[str, Any] = {"n_train": len(images)}
    start = time.process_time()
    for name, kind in (("LatNCE", "latent"), ("CNCE", "cnce"), ("CANCE", "cance")):
        fitted = _detector(size, seed, score_type=kind, **changes).fit(images)
        row[name] = roc_auc_score(y != digit, fitted.anomaly_score(X))
    error = fitted.anomaly_map(X).mean(axis=(1, 2))
    row["Error"] = roc_auc_score(y != digit, error)
    row["seconds"] = time.process_time() - start
    return [row]


DataHome = Annotated[Path | None, typer.Option(help="Folder with the data.")]


@app.command()
def run(
    data_home: DataHome = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 1,
    full: Annotated[bool, typer.Option(help="Wide networks and long training.")] = False,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compute what is missing of the results."""
    size = "full" if full else "small"
    cells = ((size, digit, seed) for seed in range(1, seeds + 1) for digit in DIGITS)
    run_cells(partial(stamped, partial(_compute, data_home=data_home)), cells, ROWS, jobs=jobs)


@app.command()
def choose(
    parameter: str, values: list[float], data_home: DataHome = None, digits: str = "2,8"
) -> None:
    """Print what values of a parameter give, with a seed that no table has."""
    for value in values:
        changed = {parameter: int(value) if value == int(value) and value > 1 else value}
        for digit in map(int, digits.split(",")):
            (row,) = _compute("small", digit, 101, data_home=data_home, **changed)
            typer.echo(f"{changed}, {digit} is normal: {row}")


# ---- tables --------------------------------------------------------------------------------------

_PAPER = {
    "Error": "99.4 99.9 90.3 92.6 95.5 95.1 98.9 96.1 85.8 97.0 95.1",
    "LatNCE": "85.0 98.4 81.9 81.2 75.0 76.1 88.2 89.1 80.6 86.0 84.1",
    "CNCE": "99.5 99.8 96.6 95.6 95.8 96.1 99.2 96.9 94.6 96.2 97.0",
    "CANCE": "99.6 99.8 97.1 96.7 96.9 97.2 99.4 97.5 95.6 97.1 97.7",
}
_PAIRS = (("CANCE", "CNCE"), ("CNCE", "Error"), ("CANCE", "Error"), ("CNCE", "LatNCE"))


def _lines(rows: pd.DataFrame) -> Iterator[list[str]]:
    for method in METHODS:
        means = rows.groupby("digit")[method].mean()
        yield [method, *(f"{m:.3f}" for m in means), f"{means.mean():.3f}"]
        yield [f"{method}, paper", *(f"{float(v) / 100:.3f}" for v in _PAPER[method].split())]


def _differences(rows: pd.DataFrame) -> Iterator[str]:
    means = rows.groupby("digit")[list(METHODS)].mean()
    for one, other in _PAIRS:
        gap = means[one] - means[other]
        p = stats.wilcoxon(gap).pvalue if gap.any() else 1.0
        yield f"{one} − {other}: {interval(gap)}, Wilcoxon's p {p:.3f}"


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    kept = ROWS.read()
    text = ["# MNIST, one digit is normal", origin_of(kept, "mnist_one_class.py")]
    for size, rows in kept.groupby("size"):
        n = rows.groupby("digit").size()
        text.append(f"## Size: {size}")
        text.append(
            f"AUROC on the test split, means of {n.min()} seed(s). Three fits take "
            f"{rows['seconds'].mean():.0f} s of CPU time, "
            f"{np.median(rows['n_train']):.0f} training images (median)."
        )
        text.append(table(["AUROC", *map(str, n.index), "mean"], list(_lines(rows))))
        text.append("Differences of the means over the digits, with 95 % t-intervals: ")
        text.append("\n".join(f"- {line}" for line in _differences(rows)))
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
