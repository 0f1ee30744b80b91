"""Classifiers of normal images against general ones: the discriminative baseline (S9) of the flows.

    python benchmarks/discriminative.py run --data-home DIR    # minutes on a core; resumable
    python benchmarks/discriminative.py tables         # seconds; writes results/discriminative.md

Images, seeds and anomalies are those of `hierarchies.py`, of the size "small": the same normal and
general images that the ratios of Glow learn train a classifier in a `DiscriminativeRatio`. The
paper's is a Wide-ResNet against 80 Million Tiny Images, a set that was withdrawn; here stand a
logistic regression on pixels and a small convolutional network.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from hierarchies import EXPERIMENTS, RESULTS, SEEDS, _file, _images
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier
from torch import nn

from skgenad.benchmark import run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.compat import DiscriminativeRatio

ROWS = results_file(
    "discriminative",
    key=("experiment", "method", "seed", "set"),
    columns={
        **dict.fromkeys(("experiment", "method", "set"), str),
        **dict.fromkeys(("seed", "n_normal", "n_general", "n_new"), int),
        **dict.fromkeys(("auroc", "fit_seconds"), float),
    },
)
METHODS = ("logistic", "convolutional")
# What `hierarchies.py` has of the same images.
RATIOS = ("raw", "ratio", "outlier loss, ratio", "both-sided loss, ratio")
WIDTH, EPOCHS = 16, 3
app = typer.Typer(add_completion=False, help=__doc__)


def _network(channels: int) -> nn.Sequential:
    """Three convolutions of stride 2, whose maps are averaged: two logits of 32 x 32 images."""
    sizes = [channels, WIDTH, 2 * WIDTH, 4 * WIDTH]
    layers: list[nn.Module] = [nn.Unflatten(1, (channels, 32, 32))]
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes[-1], 2))


def _float32(X: NDArray) -> NDArray:
    return X.astype(np.float32)


def detector(method: str, channels: int, seed: int) -> DiscriminativeRatio:
    """Make a detector; rows are pixels, flat, in [0, 1]."""
    classifier: Any = LogisticRegression(C=0.01, max_iter=200)
    if method == "convolutional":
        network = NeuralNetClassifier(
            partial(_network, channels),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=2e-3,
            max_epochs=EPOCHS,
            batch_size=64,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        )
        classifier = make_pipeline(FunctionTransformer(_float32), network)
    # Pixels have one unit, as in Glow.
    return DiscriminativeRatio(classifier, standardize=False, random_state=seed, **ALL_ROWS)


def _flat(images: NDArray) -> NDArray:
    return images.reshape(len(images), -1) / np.float32(255)


def _compute(
    experiment: str, method: str, seed: int, *, data_home: Path | None
) -> Iterator[dict[str, Any]]:
    images = _images(experiment, seed, False, data_home)
    made = detector(method, images.normal.shape[1], seed)
    start = time.process_time()
    made.fit(_flat(images.normal), X_general=_flat(images.general))
    seconds = time.process_time() - start
    of_new = made.anomaly_score(_flat(images.new))
    for name, X in images.anomalies.items():
        truth = np.repeat([0, 1], [len(of_new), len(X)])
        yield {
            "set": name,
            "n_normal": len(images.normal),
            "n_general": len(images.general),
            "n_new": len(images.new),
            "auroc": roc_auc_score(truth, np.r_[of_new, made.anomaly_score(_flat(X))]),
            "fit_seconds": seconds,
        }


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
    only: Annotated[str, typer.Option(help="Some of the experiments.")] = ",".join(EXPERIMENTS),
) -> None:
    """Compute what is missing of the results."""
    cells = ((e, m, seed) for m in METHODS for e in only.split(",") for seed in SEEDS)
    run_cells(partial(stamped, partial(_compute, data_home=data_home)), cells, ROWS)


# ---- tables --------------------------------------------------------------------------------------


def _lines(rows: pd.DataFrame, ratios: pd.DataFrame, sets: list[str]) -> Iterator[list[str]]:
    for source, methods, column in ((rows, METHODS, "auroc"), (ratios, RATIOS, "value")):
        for method in methods:
            some = source[source["method"] == method]
            name = method if source is rows else f"Glow: {method}"
            if len(some):
                yield [name, *(mean_sd(some.loc[some["set"] == s, column]) for s in sets)]


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    kept = ROWS.read()
    known = _file(RESULTS).read()
    known = known[(known["metric"] == "auroc") & (known["size"] == "small")]
    text = ["# Classifiers of normal images against general ones"]
    text.append(origin_of(kept, "discriminative.py"))
    text.append(
        "AUROC, mean ± standard deviation over seeds. The lines of Glow are those of "
        "`hierarchies.md`, of the same images and seeds. `logistic`: on pixels. `convolutional`: "
        f"three convolutions of {WIDTH}, {2 * WIDTH} and {4 * WIDTH} channels, {EPOCHS} passes. In "
        "the experiments of colour all images there are take part: seeds differ in their order "
        "only, and in what a network draws."
    )
    for experiment in dict.fromkeys(kept["experiment"]):
        rows = kept[kept["experiment"] == experiment]
        sets = list(dict.fromkeys(rows["set"]))
        ratios = known[(known["experiment"] == experiment) & known["seed"].isin(rows["seed"])]
        numbers = sorted(set(rows["n_general"]))
        times = rows.groupby("method")["fit_seconds"].mean()
        costs = ", ".join(f"{m} {times[m]:.0f} s" for m in METHODS if m in times)
        text.append(f"## {experiment}")
        text.append(
            f"{rows['n_normal'].iloc[0]} normal and {' or '.join(map(str, numbers))} general "
            f"images, {rows['n_new'].iloc[0]} new normal ones. CPU time of a fit: {costs}."
        )
        text.append(table(["AUROC", *sets], list(_lines(rows, ratios, sets))))
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
