"""What thresholds flag of new normal rows, with rows held out of training for them and without.

    python benchmarks/thresholds.py run --data-home DIR      # hours on 2 cores; resumable
    python benchmarks/thresholds.py suites --data-home DIR   # hours; resumable
    python benchmarks/thresholds.py tables                   # seconds; writes results/thresholds.md

`DIR` holds ADBench's and OddBench's files (without it they are downloaded). `run` fits every
detector to n normal rows of tables of ADBench and counts how many of the other normal rows lie
below the threshold of ``contamination=0.1``: "before" with ``calibration_fraction=0``, "after" with
the default. `suites` compares AUROC and fit time of both on whole tables.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import FOLDER, interval, origin_of, results_file, stamped, write_paragraphs
from adbench import SETS
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import skgenad
from skgenad.benchmark import open_suite, read_rows, run_benchmark, run_cells
from skgenad.benchmark._detectors import ALL_ROWS, DETECTORS, OURS
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_adbench

SIZES = (30, 50, 100, 300, 1000, 5000)
SPLITS = range(1, 21)
# The most new rows of a kind, and the fewest.
MOST_NEW, LEAST_NEW = 2000, 50
RATE = 0.1
WHEN: dict[str, dict[str, Any]] = {
    "before": ALL_ROWS,
    "after": {"contamination": RATE, "calibration_fraction": "auto"},
}
# Those that the suites' names lack.
_OTHERS = ("LikelihoodRatio", "PixelCNN", "PWAE")
# Quick ones first, so that a run that is cut short has whole rows.
_QUICK = (
    *("Mahalanobis", "GMM", "Neighbors", "KernelDenoiser", "LocalGaussian", "Committee"),
    *("Committee-robust", "AE", "VAE", "WAE", "CANCE", "MPDR-R"),
)
NAMES = (*_QUICK, *(name for name in OURS if name not in _QUICK), *_OTHERS)
ON_SUITES = ("Mahalanobis", "GMM", "Committee", "AE", "VAE", "MPDR-R", "CANCE")
ROWS = results_file(
    "thresholds",
    key=("n", "split", "detector", "when"),
    columns={
        "n": int,
        "split": int,
        "detector": str,
        "when": str,
        "dataset": str,
        "n_columns": int,
        "n_new": int,
        "flagged": float,
        "p_at_most_0.1": float,
        "auroc": float,
        "fit_seconds": float,
    },
)
Home = Annotated[Path | None, typer.Option(help="Folder with the data.")]
app = typer.Typer(add_completion=False, help=__doc__)


def make(name: str, seed: int, when: str) -> Any:
    """Make a detector with the threshold of before or after."""
    if name in _OTHERS:
        detector = getattr(skgenad, name)(random_state=seed)
    else:
        detector = DETECTORS[name](seed)
    return detector.set_params(**WHEN[when])


# ---- new normal rows -----------------------------------------------------------------------------


def rows_of(n: int, split: int, data_home: Path | None) -> tuple[str, NDArray, NDArray, NDArray]:
    """Name of a table, n normal rows to train on, other normal rows, and anomalies."""
    names = _tables_of(n, data_home)
    name = names[(split - 1) % len(names)]
    X, y = _fetched(name, data_home)
    rng = np.random.default_rng([n, split])
    normal, anomalies = (rng.permutation(X[y == label]) for label in (0, 1))
    return name, normal[:n], normal[n : n + MOST_NEW], anomalies[:MOST_NEW]


def _tables_of(n: int, data_home: Path | None) -> list[str]:
    """Names of the tables with enough normal rows."""
    counts = {name: int((_fetched(name, data_home)[1] == 0).sum()) for name in SETS}
    return [name for name, count in counts.items() if count >= n + LEAST_NEW]


_FETCHED: dict[str, tuple[NDArray, NDArray]] = {}


def _fetched(name: str, data_home: Path | None) -> tuple[NDArray, NDArray]:
    """Rows and labels of a table, of very many rows some; read once a process."""
    if name not in _FETCHED:
        X, y = fetch_adbench(name, data_home=data_home, return_X_y=True)
        some = np.random.default_rng(0).permutation(len(y))[:20_000]
        _FETCHED[name] = X[some].astype(np.float64), y[some]
    return _FETCHED[name]


def compute(n: int, split: int, name: str, *, data_home: Path | None) -> list[dict[str, Any]]:
    """Fit a detector before and after, and judge other rows."""
    dataset, train, new, anomalies = rows_of(n, split, data_home)
    y = np.repeat([0, 1], [len(new), len(anomalies)])
    rows = []
    for when in WHEN:
        detector = make(name, split, when)
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector.fit(train)
        seconds = time.process_time() - start
        p = np.nan if when == "before" else float((detector.p_value(new) <= RATE).mean())
        scores = detector.anomaly_score(np.concatenate([new, anomalies]))
        finite = np.isfinite(scores).all()
        rows.append(
            {
                "when": when,
                "dataset": dataset,
                "n_columns": train.shape[1],
                "n_new": len(new),
                "flagged": float((scores[: len(new)] > -detector.offset_).mean()),
                "p_at_most_0.1": p,
                "auroc": float(roc_auc_score(y, scores)) if finite else np.nan,
                "fit_seconds": seconds,
            }
        )
    return rows


@app.command()
def run(
    data_home: Home = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(NAMES),
    sizes: Annotated[str, typer.Option(help="Numbers of training rows.")] = ",".join(
        map(str, SIZES)
    ),
    splits: Annotated[int, typer.Option(help="Splits of each size.")] = len(SPLITS),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compute what is missing, detector by detector."""
    one = partial(stamped, partial(compute, data_home=data_home))
    for name in detectors.split(","):
        cells = [(int(n), split, name) for n in sizes.split(",") for split in SPLITS[:splits]]
        run_cells(one, cells, ROWS, jobs=jobs)


# ---- whole tables --------------------------------------------------------------------------------


@app.command()
def suites(
    data_home: Home = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(ON_SUITES),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
    time_limit: Annotated[float, typer.Option(help="Seconds for a cell.")] = 600,
) -> None:
    """Compute AUROC and fit times on ADBench's and OddBench's tables, one seed."""
    for name in detectors.split(","):
        for suite, sets in (("adbench", SETS), ("oddbench", None)):
            run_benchmark(
                open_suite(suite, sets, data_home=data_home),
                {f"{name}, {when}": make(name, 1, when) for when in WHEN},
                protocol="clean" if suite == "adbench" else "auto",
                seeds=[1],
                jobs=jobs,
                time_limit=time_limit,
                out=FOLDER / "thresholds" / "suites",
            )


# ---- tables --------------------------------------------------------------------------------------


def _flagged_lines(rows: pd.DataFrame, column: str) -> str:
    sizes = sorted(rows["n"].unique())
    lines = []
    for name in [name for name in NAMES if name in set(rows["detector"])]:
        for when in WHEN if column == "flagged" else ("after",):
            part = rows[(rows["detector"] == name) & (rows["when"] == when)]
            of_size = [part.loc[part["n"] == n, column] for n in sizes]
            cells = (f"{v.mean():.2f} ± {v.std():.2f}" if len(v) else "" for v in of_size)
            lines.append([name, when, str(part["split"].nunique()), *cells])
    return table(["detector", "", "splits", *map(str, sizes)], lines)


def _changes(rows: pd.DataFrame, by: Sequence[str]) -> str:
    """Difference of AUROC and ratio of fit times, after against before, detector by detector."""
    wide = rows.pivot_table(
        index=["detector", *by], columns="when", values=["auroc", "fit_seconds"]
    )
    lines = []
    for name in [name for name in NAMES if name in wide.index.get_level_values("detector")]:
        part = wide.loc[[name]]
        change = part["auroc"]["after"] - part["auroc"]["before"]
        ratio = part["fit_seconds"]["after"] / part["fit_seconds"]["before"]
        before = f"{part['auroc']['before'].mean():.3f}"
        lines.append([name, str(len(part)), before, interval(change), f"{ratio.median():.2f}"])
    return table(["detector", "cells", "AUROC before", "change", "fit time, ratio"], lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    text = [
        "# Thresholds",
        origin_of(rows, "thresholds.py"),
        "Share of new normal rows below the threshold of `contamination=0.1`, mean and standard "
        "deviation over splits; columns are numbers of training rows. Before: all rows are trained "
        "on, and the threshold is that of the training rows. After: the default.",
        _flagged_lines(rows, "flagged"),
        "## p-values",
        "Share of new normal rows with a p-value of at most 0.1.",
        _flagged_lines(rows, "p_at_most_0.1"),
        "## What it costs",
        "AUROC (new normal rows against anomalies), its change with a 95 % t-interval over cells, "
        "and the median ratio of fit times.",
    ]
    for n in sorted(rows["n"].unique()):
        text += [f"{n} training rows:", _changes(rows[rows["n"] == n], ["split"])]
    path = FOLDER / "thresholds" / "suites" / "rows.csv"
    if path.exists():
        whole = read_rows(path)
        whole = whole[whole["status"] == "ok"]
        names = whole["detector"].str.rsplit(", ", n=1, expand=True)
        whole = whole.assign(detector=names[0], when=names[1])
        for suite, part in whole.groupby("suite"):
            text += [f"## All tables of {suite}", _changes(part, ["dataset"])]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
