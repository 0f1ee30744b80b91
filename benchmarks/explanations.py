"""How often explanations find the columns that were changed.

    python benchmarks/explanations.py run --data-home DIR   # an hour or two on a core; resumable
    python benchmarks/explanations.py tables                # writes results/explanations.md

`DIR` holds ADBench's files (without it they are downloaded). Detectors are fitted to 500 normal
rows of a table. In up to 50 other normal rows one, two or three columns take the values of yet
another normal row. The columns' own distributions stay what they are, so that no column can be
found without the others. Asked is whether the column of the largest contribution is one of those
that were changed, what the AUROC of the contributions is for telling them from the others, and how
much of the rise of the anomaly score is gone once that one column is repaired.

Beside ``explain`` ("default") stands what was best before it ("fall"): how much the score falls if
a column takes the median of the five training rows nearest in all others. Without a detector there
are "z-scores", and distances from that median in standard deviations ("neighbours"). Kernel SHAP of
an isolation forest needs ``pip install shap``; without it that part is left out.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import interval, mean_sd, origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

import skgenad
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.compat import ScoreDetector
from skgenad.datasets import fetch_adbench

# Tables on which the default was chosen, and others.
CHOSEN_ON = ("cardio", "glass", "landsat", "pendigits", "Stamps", "thyroid", "Waveform", "yeast")
OTHERS = (
    *("breastw", "cover", "mammography", "optdigits", "Pima", "satellite"),
    *("shuttle", "vertebral", "Wilt", "wine", "WPBC"),
)
N_TRAIN, N_NEW, N_CHANGED = 500, 50, (1, 2, 3)
# Of those for tables, each but the variants of others.
DETECTORS = (
    *("Mahalanobis", "GaussianMixtures", "Neighbors", "LocalGaussian", "KernelDenoiser"),
    *("Committee", "IsolationForest", "Autoencoder", "VAE", "WAE", "CANCE", "DAGMM", "MPDR"),
    *("NAE", "LikelihoodRatio", "NormalizingFlow", "EBM"),
)
WITHOUT = "no detector"
# The forest again, explained by kernel SHAP: centres for the background, and coalitions a row.
BY_SHAP, N_CENTRES, N_COALITIONS = "IsolationForest-SHAP", 10, 512
ROWS = results_file(
    "explanations",
    key=("dataset", "detector", "n_changed", "method"),
    columns={
        "dataset": str,
        "detector": str,
        "n_changed": int,
        "method": str,
        "n_columns": int,
        "n_rows": int,
        "hit": float,
        "chance": float,
        "auroc": float,
        "deletion": float,
        "ms_per_row": float,
    },
)
Home = Annotated[Path | None, typer.Option(help="Folder with the data.")]
app = typer.Typer(add_completion=False, help=__doc__)


# ---- rows ----------------------------------------------------------------------------------------


def rows_of(name: str, data_home: Path | None) -> tuple[NDArray, NDArray, NDArray]:
    """Training rows, rows to change, and rows that give values, all normal."""
    X, y = fetch_adbench(name, data_home=data_home, return_X_y=True)
    normal = np.random.default_rng(0).permutation(X[y == 0].astype(np.float64))
    n_new = min(N_NEW, len(normal) // 4)
    return normal[n_new : n_new + N_TRAIN], normal[:n_new], normal[n_new:]


def changed(train: NDArray, new: NDArray, givers: NDArray, n_changed: int) -> NDArray:
    """Rows in which some columns have the values of another row."""
    rng = np.random.default_rng(n_changed)
    varying = np.flatnonzero(train.std(axis=0) > 0)
    X = new.copy()
    for row in X:
        columns = rng.choice(varying, min(n_changed, len(varying) - 1), replace=False)
        row[columns] = givers[rng.integers(len(givers))][columns]
    return X


# ---- what is compared ----------------------------------------------------------------------------


def neighbours_values(train: NDArray, X: NDArray) -> tuple[NDArray, NDArray]:
    """Medians (n, d) of the five training rows nearest in the other columns, and scales (d,)."""
    scale = np.where(train.std(axis=0) > 0, train.std(axis=0), 1)
    values = np.empty_like(X)
    for i, row in enumerate(X):
        squares = np.square((train - row) / scale)
        near = np.argpartition(squares.sum(axis=1)[:, None] - squares, 4, axis=0)[:5]
        values[i] = np.median(np.take_along_axis(train, near, axis=0), axis=0)
    return values, scale


def falls(detector: Any, X: NDArray, values: NDArray) -> NDArray:
    """How much anomaly scores fall if single columns take other values (n, d)."""
    n, d = X.shape
    single = np.where(np.eye(d, dtype=bool), values[:, None], X[:, None])
    after = detector.anomaly_score(single.reshape(-1, d)).reshape(n, d)
    return detector.anomaly_score(X)[:, None] - after


def shap_values(detector: Any, train: NDArray, X: NDArray) -> NDArray:
    """Kernel SHAP's contributions to anomaly scores (n, d), against centres of training rows."""
    import shap  # imported in a call: only this part needs it

    background = shap.kmeans(train, N_CENTRES)
    explainer = shap.KernelExplainer(detector.anomaly_score, background, seed=0)
    return explainer.shap_values(X, nsamples=N_COALITIONS, silent=True)


def answers(
    name: str, detector: Any, train: NDArray, X: NDArray
) -> Iterator[tuple[str, NDArray, NDArray, float]]:
    """Methods with contributions (n, d), repaired rows (n, d), and milliseconds a row."""
    if detector is None:
        values, scale = neighbours_values(train, X)
        yield "z-scores", np.abs(X - train.mean(axis=0)) / scale, X, np.nan
        yield "neighbours", np.abs(X - values) / scale, X, np.nan
        return
    start = time.process_time()
    if name == BY_SHAP:
        contributions = shap_values(detector, train, X)
        ms = 1000 * (time.process_time() - start) / len(X)
        yield "kernel SHAP", contributions, neighbours_values(train, X)[0], ms
        return
    contributions = detector.explain(X)
    ms = 1000 * (time.process_time() - start) / len(X)
    yield "default", contributions, detector.repair(X), ms
    start = time.process_time()
    values, _ = neighbours_values(train, X)
    contributions = falls(detector, X, values)
    yield "fall", contributions, values, 1000 * (time.process_time() - start) / len(X)


def judged(
    contributions: NDArray, X: NDArray, new: NDArray, repaired: NDArray, detector: Any
) -> dict[str, Any]:
    """Judge contributions (n, d) of changed rows, of those in which anything has changed."""
    truth = X != new
    kept = truth.any(axis=1) & ~truth.all(axis=1)
    contributions, truth, X, new = contributions[kept], truth[kept], X[kept], new[kept]
    top = contributions.argmax(axis=1)
    rows = np.arange(len(X))
    pairs = zip(truth, contributions, strict=True)
    deletion = np.nan
    if detector is not None:
        mended = X.copy()
        mended[rows, top] = repaired[kept][rows, top]
        before, after, true = map(detector.anomaly_score, (X, mended, new))
        rises = before > true
        deletion = np.median((before - after)[rises] / (before - true)[rises])
    return {
        "n_columns": X.shape[1],
        "n_rows": len(X),
        "hit": truth[rows, top].mean(),
        "chance": truth.mean(),
        "auroc": np.mean([roc_auc_score(*pair) for pair in pairs]),
        "deletion": deletion,
    }


def make(name: str) -> Any:
    """Make a detector, unfitted; None without one."""
    if name == WITHOUT:
        return None
    if name in ("IsolationForest", BY_SHAP):
        return ScoreDetector(IsolationForest(random_state=0), random_state=0)
    return getattr(skgenad, name)(random_state=0)


def compute(dataset: str, name: str, *, data_home: Path | None) -> list[dict[str, Any]]:
    """Fit a detector to a table, and ask for explanations."""
    train, new, givers = rows_of(dataset, data_home)
    detector = make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if detector is not None:
            detector.fit(train)
    found = []
    for n_changed in N_CHANGED:
        X = changed(train, new, givers, n_changed)
        for method, contributions, repaired, ms in answers(name, detector, train, X):
            row = judged(contributions, X, new, repaired, detector)
            found.append({"n_changed": n_changed, "method": method, **row, "ms_per_row": ms})
    return found


@app.command()
def run(
    data_home: Home = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(
        (WITHOUT, *DETECTORS, BY_SHAP)
    ),
    datasets: Annotated[str, typer.Option(help="Some of them.")] = ",".join(CHOSEN_ON + OTHERS),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing, detector by detector."""
    one = partial(stamped, partial(compute, data_home=data_home))
    for name in detectors.split(","):
        if name == BY_SHAP and find_spec("shap") is None:
            typer.echo("shap is not installed: without kernel SHAP")
            continue
        run_cells(one, [(dataset, name) for dataset in datasets.split(",")], ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def _lines(rows: pd.DataFrame) -> str:
    """Make a line for each detector and method: hit rates by changed columns, and more."""
    lines = []
    for name in [name for name in (*DETECTORS, BY_SHAP, WITHOUT) if name in set(rows["detector"])]:
        part = rows[rows["detector"] == name]
        for method in dict.fromkeys(part["method"]):
            of = part[part["method"] == method]
            hits = [of.loc[of["n_changed"] == k, "hit"].mean() for k in N_CHANGED]
            two = of[of["n_changed"] == 2]
            cells = [*hits, two["auroc"].mean(), two["deletion"].mean(), of["ms_per_row"].median()]
            lines.append([name, method, *("" if np.isnan(c) else f"{c:.2f}" for c in cells)])
    header = ["detector", "method", *(f"hit, {k}" for k in N_CHANGED)]
    return table([*header, "AUROC, 2", "deletion, 2", "ms a row"], lines)


def _differences(rows: pd.DataFrame) -> str:
    """Subtract what the fall of single columns finds, with intervals over tables."""
    key = ["detector", "dataset", "n_changed"]
    wide = rows.pivot_table(index=key, columns="method", values=["hit", "auroc", "deletion"])
    lines = []
    for name in [name for name in DETECTORS if name in wide.index.get_level_values(0)]:
        part = wide.loc[name].groupby("dataset").mean()
        change = [part[m]["default"] - part[m]["fall"] for m in ("hit", "auroc", "deletion")]
        lines.append([name, str(len(part)), *map(interval, change)])
    return table(["detector", "tables", "hit", "AUROC", "deletion"], lines)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    by_table = rows[rows["method"] == "default"].groupby(["n_changed", "dataset"])["hit"].mean()
    chances = rows[rows["detector"] == WITHOUT].groupby("n_changed")["chance"]
    chance = ", ".join(f"{n}: {mean_sd(values)}" for n, values in chances)
    text = [
        "# Explanations",
        origin_of(rows, "explanations.py"),
        "Share of rows whose largest contribution is that of a changed column (hit), by the number "
        "of columns that were changed; for two of them AUROC of contributions, and the median "
        "share of the rise of the anomaly score that is gone once the top column is repaired "
        f"(deletion). Means over tables. A column drawn by chance hits {chance} (mean and standard "
        "deviation over tables). Values that happen to be the same do not count as changed. Kernel "
        f"SHAP has {N_COALITIONS} coalitions a row against {N_CENTRES} centres of training rows.",
        f"## Tables that nothing was chosen on ({', '.join(OTHERS)})",
        _lines(rows[rows["dataset"].isin(OTHERS)]),
        f"## Tables that the default was chosen on ({', '.join(CHOSEN_ON)})",
        _lines(rows[rows["dataset"].isin(CHOSEN_ON)]),
        "## Default less fall of single columns",
        "All tables, means over one to three changed columns, with 95 % t-intervals over tables.",
        _differences(rows),
        "## Tables",
        "Hit rate of the default with two changed columns, mean over detectors: "
        + ", ".join(f"{name} {hit:.2f}" for name, hit in by_table.loc[2].items())
        + ".",
    ]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
