"""Streams: a detector that learns in 20 batches beside one that is fitted on all rows at once.

    python benchmarks/streams.py run --data-home DIR    # some hours on 2 cores; resumable
    python benchmarks/streams.py tables             # seconds; writes results/streams.md

Normal rows of a table come in 20 batches, in random order or sorted by the column with the most
values, and as they are or with a drift: by the end every column has moved by a standard deviation,
up or down. Rows that nobody trained on, normal ones and anomalies, are of all times (with a drift
each has moved as far as some time in the stream would have it) and, in a column of its own, of the
last time. Looked at are the share of new normal rows that are flagged, the share of them with a
p-value of at most 0.1, and the AUROC. Ways: "whole" is one fit, "stream" is ``partial_fit`` of the
batches, "frozen" that with the units of the first of them, "one row" a fit and ``partial_fit`` of
one row more.

With ``--version`` rows of another checkout of the package, first on PYTHONPATH, get a name of their
own: ``--version before``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import mean_sd, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import skgenad
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_adbench, make_eight_gaussians, make_ring

DETECTORS = (
    *("Autoencoder", "VAE", "WAE", "DAGMM", "CANCE", "PWAE", "MPDR", "NAE", "EBM"),
    *("Glow", "NormalizingFlow", "PixelCNN", "Mahalanobis", "GaussianMixtures"),
    *("Neighbors", "LocalGaussian", "KernelDenoiser"),
)
TOYS = ("plane", "eight_gaussians", "ring")
# Tables of ADBench; the last three were looked at while the rules of streams were made.
TABLES = (
    *("6_cardio", "23_mammography", "41_Waveform", "44_Wilt", "47_yeast", "30_satellite"),
    *("38_thyroid", "28_pendigits", "4_breastw"),
)
ORDERS, DRIFTS, SEEDS = ("shuffled", "sorted"), (0.0, 1.0), (1, 2, 3)
WAYS = ("whole", "stream", "frozen", "one row")
N_BATCHES, MOST_ROWS = 20, 2000
NAMES = ("version", "detector", "dataset", "order", "drift", "seed", "way")
ROWS = results_file(
    "streams",
    key=NAMES,
    columns={
        **dict.fromkeys(("version", "detector", "dataset", "order", "way", "message"), str),
        **dict.fromkeys(("seed", "n_train", "n_features"), int),
        **dict.fromkeys(("drift", "flagged", "flagged_last", "p_below", "auroc", "seconds"), float),
    },
)
Rows = tuple[NDArray, NDArray, NDArray]

app = typer.Typer(add_completion=False, help=__doc__)


# ---- rows -------------------------------------------------------------------------------------


def _plane(seed: int) -> tuple[NDArray, NDArray]:
    """Draw rows near a 3-dimensional plane in 8 columns, and some that leave it along a column."""
    rng = np.random.RandomState(seed)
    X = rng.randn(3000, 3) @ rng.randn(3, 8) + 0.2 * rng.randn(3000, 8)
    y = np.repeat([0, 1], [2500, 500])
    X[y == 1, rng.randint(8, size=500)] += 2.5 * rng.choice([-1, 1], 500)
    return X, y


def _toy(make: Callable, seed: int) -> tuple[NDArray, NDArray]:
    return make(3000, anomalies=0.2, random_state=seed)


# The rows were made when sqrt(2) / 4, as the paper prints it, was the default variance.
_eight_wide = partial(make_eight_gaussians, variance=np.sqrt(2) / 4)
_MAKE: dict[str, Callable[[int], tuple[NDArray, NDArray]]] = {
    "plane": _plane,
    "eight_gaussians": partial(_toy, _eight_wide),
    "ring": partial(_toy, make_ring),
}


def rows_of(dataset: str, order: str, drift: float, seed: int, data_home: Path | None) -> Rows:
    """Return rows to train on, in their order, new normal rows, and anomalies."""
    if dataset in TOYS:
        X, y = _MAKE[dataset](seed)
    else:
        X, y = fetch_adbench(dataset, data_home=data_home, return_X_y=True)
        X = X.astype(np.float64)
    rng = np.random.RandomState(seed)
    normal, odd = rng.permutation(X[y == 0]), rng.permutation(X[y == 1])[:MOST_ROWS]
    half = min(len(normal) // 2, MOST_ROWS)
    train, new = normal[:half], normal[half : 2 * half]
    if order == "sorted":
        column = int(np.argmax([len(np.unique(values)) for values in train.T]))
        train = train[np.argsort(train[:, column], kind="stable")]
    return train, new, odd


def moved(X: NDArray, when: NDArray, drift: float, train: NDArray, seed: int) -> NDArray:
    """Move rows as far as at their times, in [0, 1], in standard deviations of training rows."""
    way = np.random.RandomState(seed + 1).choice([-1, 1], X.shape[1])
    return X + drift * when[:, None] * way * train.std(axis=0)


# ---- cells ------------------------------------------------------------------------------------


def _learn(detector: Any, way: str, train: NDArray) -> Any:
    if way == "whole":
        return detector.fit(train)
    if way == "one row":
        return detector.fit(train[:-1]).partial_fit(train[-1:])
    if way == "frozen":
        detector.set_params(standardize="frozen")
    for batch in np.array_split(train, N_BATCHES):
        detector.partial_fit(batch)
    return detector


def _measure(
    version: str,
    detector: str,
    dataset: str,
    order: str,
    drift: float,
    seed: int,
    way: str,
    *,
    data_home: Path | None,
) -> list[dict[str, Any]]:
    """Train one detector in one way; what fails is a row with its message."""
    train, new, odd = rows_of(dataset, order, drift, seed, data_home)
    times = np.random.RandomState(seed + 2).rand(len(new) + len(odd))
    move = partial(moved, drift=drift, train=train, seed=seed)
    X = move(train, np.linspace(0, 1, len(train)))
    normal, odd = move(new, times[: len(new)]), move(odd, times[len(new) :])
    last = move(new, np.ones(len(new)))
    row: dict[str, Any] = {"n_train": len(train), "n_features": train.shape[1], "message": ""}
    row |= dict.fromkeys(("flagged", "flagged_last", "p_below", "auroc", "seconds"), np.nan)
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _learn(getattr(skgenad, detector)(random_state=seed, device="cpu"), way, X)
        row["seconds"] = time.process_time() - start
        row["flagged"], row["flagged_last"] = (
            float((made.predict(rows) == -1).mean()) for rows in (normal, last)
        )
        scores = made.anomaly_score(np.concatenate([normal, odd]))
        row["auroc"] = float(roc_auc_score(np.repeat([0, 1], [len(normal), len(odd)]), scores))
        if made.calibration_scores_ is not None:
            row["p_below"] = float((made.p_value(normal) <= 0.1).mean())
    except Exception as error:
        row["message"] = f"{type(error).__name__}: {error}"[:200]
    return [row]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    version: Annotated[str, typer.Option(help="Name of the package's version.")] = "after",
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(DETECTORS),
    datasets: Annotated[str, typer.Option(help="Some of them.")] = ",".join((*TOYS, *TABLES)),
    ways: Annotated[str, typer.Option(help="Some of them.")] = ",".join(WAYS),
    seeds: Annotated[str, typer.Option(help="Some of them.")] = ",".join(map(str, SEEDS)),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compute what is missing of the results."""
    cells = [
        (version, detector, dataset, order, drift, seed, way)
        for seed in map(int, seeds.split(","))
        for detector in detectors.split(",")
        for dataset in datasets.split(",")
        for order in ORDERS
        for drift in DRIFTS
        for way in ways.split(",")
    ]
    run_cells(partial(stamped, partial(_measure, data_home=data_home)), cells, ROWS, jobs=jobs)


# ---- tables -----------------------------------------------------------------------------------


def _section(rows: pd.DataFrame, column: str) -> str:
    """Table of a column: detectors by ways, means and standard deviations over data sets."""
    head = ["detector", *(f"{v} {w}" for v, w in _kinds(rows))]
    lines = []
    for detector in [name for name in DETECTORS if (rows["detector"] == name).any()]:
        own = rows[rows["detector"] == detector]
        each = [own[(own["version"] == v) & (own["way"] == w)] for v, w in _kinds(rows)]
        lines.append(
            [detector, *(mean_sd(part.groupby("dataset")[column].mean()) for part in each)]
        )
    return table(head, lines)


def _kinds(rows: pd.DataFrame) -> Sequence[tuple[str, str]]:
    there = rows[["version", "way"]].drop_duplicates().itertuples(index=False, name=None)
    return sorted(there, key=lambda kind: (kind[0] == "after", WAYS.index(kind[1])))


_TITLES = {
    "flagged": "Share of new normal rows flagged, asked for 0.1",
    "flagged_last": "Share of new normal rows of the last time flagged",
    "p_below": "Share of new normal rows with a p-value of at most 0.1",
    "auroc": "AUROC",
    "seconds": "Seconds of training on one thread",
}


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    failed = rows[rows["message"] != ""]
    text = [
        "# Streams of 20 batches",
        f"{origin_of(rows, 'streams.py')} {rows['dataset'].nunique()} data sets, "
        f"{rows['seed'].nunique()} seeds; means over data sets, ± their standard deviation.",
    ]
    for order in ORDERS:
        for drift in DRIFTS:
            part = rows[(rows["order"] == order) & (rows["drift"] == drift)]
            if not len(part):
                continue
            text.append(f"## {order.capitalize()}, {'with' if drift else 'without'} drift")
            for column, title in _TITLES.items():
                if drift or column != "flagged_last":
                    text += [f"{title}:", _section(part, column).strip()]
    if len(failed):
        counts = failed.groupby(["version", "detector", "way", "message"]).size().reset_index()
        text += ["## What failed", table(list(counts.columns), counts.to_numpy().tolist()).strip()]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


if __name__ == "__main__":
    app()
