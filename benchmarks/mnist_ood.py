"""Other images against MNIST: MPDR's Table 2 and NAE's Table 4.

    python benchmarks/mnist_holdout.py run --data-home DIR --models MODELS
    python benchmarks/mnist_ood.py run --data-home DIR --models MODELS
    python benchmarks/mnist_ood.py tables                # seconds; writes results/mnist_ood.md

As in MPDR's paper the detectors are those of `mnist_holdout.py` that learned all digits but 9;
normal are the test images of these digits. Sets that are neither in `DIR` nor to be downloaded are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _image_sets import anomalies_of_mnist, at_hand
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from mnist_holdout import METHODS, model_path
from sklearn.metrics import average_precision_score, roc_auc_score

from skgenad import MPDR, NAE, Autoencoder
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_mnist

ROWS = results_file(
    "mnist_ood",
    key=("size", "seed", "method", "anomalies"),
    columns={
        "size": str,
        "seed": int,
        "method": str,
        "anomalies": str,
        "aupr": float,
        "auroc": float,
        "n_anomalies": int,
    },
)
DIGIT = 9
_CLASSES = {"AE": Autoencoder, "NAE": NAE, "MPDR-R": MPDR, "MPDR-S": MPDR}
app = typer.Typer(add_completion=False, help=__doc__)


def _cells(models: Path) -> Iterator[tuple[str, int, str]]:
    for size in ("small", "full"):
        for seed in (1, 2, 3):
            for method in METHODS:
                if model_path(models, size, DIGIT, seed, method).exists():
                    yield size, seed, method


def _compute(
    size: str, seed: int, method: str, *, data_home: Path | None, models: Path
) -> list[dict[str, Any]]:
    fitted = _CLASSES[method].load(model_path(models, size, DIGIT, seed, method))
    X, y = fetch_mnist(subset="test", data_home=data_home, return_X_y=True)
    normal = fitted.anomaly_score(X[y != DIGIT])
    rows = []
    for name, images in at_hand(anomalies_of_mnist(data_home)):
        scores = np.r_[normal, fitted.anomaly_score(images)]
        anomaly = np.arange(len(scores)) >= len(normal)
        rows.append(
            {
                "anomalies": name,
                "aupr": average_precision_score(anomaly, scores),
                "auroc": roc_auc_score(anomaly, scores),
                "n_anomalies": len(images),
            }
        )
    return rows


@app.command()
def run(
    models: Annotated[Path, typer.Option(help="Folder of detectors.")],
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    jobs: Annotated[int, typer.Option(help="Detectors at a time.")] = 2,
) -> None:
    """Compute what is missing of the results."""
    compute = partial(stamped, partial(_compute, data_home=data_home, models=models))
    run_cells(compute, _cells(models), ROWS, jobs=jobs)


# AUPR of MPDR's Table 2, and AUROC of NAE's Table 4, whose detectors learned all ten digits.
_PAPER = {
    "aupr": {
        "AE": {"KMNIST": 0.999, "Omniglot": 0.947, "Fashion": 1.0, "Constant": 0.954},
        "MPDR-R": {"KMNIST": 0.999, "Omniglot": 0.997, "Fashion": 0.999, "Constant": 0.990},
        "MPDR-S": {"KMNIST": 0.999, "Omniglot": 0.994, "Fashion": 0.999, "Constant": 1.0},
        "NAE": {"KMNIST": 1.0, "Omniglot": 0.997, "Fashion": 1.0, "Constant": 1.0},
    },
    "auroc": {
        "AE": {"Constant": 0.934, "Half": 0.523, "Chimera": 0.761, "Omniglot": 0.885, "Noise": 1.0},
        "NAE": {"Constant": 1.0, "Half": 0.999, "Chimera": 0.992, "Omniglot": 0.995, "Noise": 1.0},
    },
}


def _table(rows: pd.DataFrame, metric: str) -> str:
    sets = list(dict.fromkeys(rows["anomalies"]))
    lines = []
    for method in METHODS:
        cells = [rows[(rows["method"] == method) & (rows["anomalies"] == s)] for s in sets]
        lines.append([method, *(mean_sd(cell[metric]) for cell in cells)])
        paper = _PAPER[metric].get(method, {})
        if set(paper) & set(sets):
            numbers = (f"{paper[s]:.3f}" if s in paper else "" for s in sets)
            lines.append([f"{method}, paper", *numbers])
    return table([metric.upper(), *sets], lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    kept = ROWS.read()
    text = ["# Other images against MNIST", origin_of(kept, "mnist_ood.py")]
    for size, rows in kept.groupby("size"):
        sizes = rows.groupby("anomalies", sort=False)["n_anomalies"].first().items()
        by_method = rows.groupby("method")["seed"].nunique().reindex(METHODS).dropna()
        seeds = ", ".join(f"{method} {n:.0f}" for method, n in by_method.items())
        text.append(f"## Size: {size}")
        text.append(
            f"Mean ± standard deviation; seeds: {seeds}. Anomalies: "
            + ", ".join(f"{name} {n}" for name, n in sizes)
            + ". Of Omniglot, fewer than 13,180 images are a part of the papers' evaluation set "
            "at hand. Empty cells have not been run."
        )
        text += [_table(rows, "aupr"), _table(rows, "auroc")]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
