"""Early stopping by rows held out, with and without, on the tables that choices are made on.

    python benchmarks/early_stopping.py run --data-home DIR    # half an hour on 2 cores; resumable
    python benchmarks/early_stopping.py tables         # seconds; writes results/early_stopping.md

The ten tuning tables of ADBench, half of whose normal rows, 5,000 at most, are trained on, and the
first fourteen of OddBench with their own split. Each detector is fitted with its defaults, and
with ``stopping=EarlyStopping()``; CANCE holds 20 % out and goes back to its best epochs in either
case. Seconds are those of the processor, which other load hardly lengthens.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import interval, origin_of, results_file, stamped, write_paragraphs
from _tables import tuned_on
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from skgenad import CANCE, MPDR, NAE, VAE, Autoencoder, EarlyStopping
from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.datasets import fetch_adbench, fetch_oddbench, list_adbench

DETECTORS = {"Autoencoder": Autoencoder, "VAE": VAE, "CANCE": CANCE, "NAE": NAE, "MPDR": MPDR}
STOPPING = {"none": None, "patience 10": EarlyStopping()}
N_ODDBENCH, MOST_ROWS = 14, 5000
# Of fewer tables there is no line.
FEWEST = 10
_COLUMNS: dict[str, type] = {
    "detector": str,
    "dataset": str,
    "stopping": str,
    "auroc": float,
    "cpu_seconds": float,
    "steps": int,
    "n_train": int,
    "n_test": int,
}

ROWS = results_file("early_stopping", key=("detector", "dataset", "stopping"), columns=_COLUMNS)

app = typer.Typer(add_completion=False, help=__doc__)


def tables_of_choice() -> list[str]:
    """Names of the tables: those of ADBench have a number."""
    wanted = tuned_on("adbench")
    adbench = [name for name in list_adbench("Classical") if name.partition("_")[2] in wanted]
    return [*adbench, *tuned_on("oddbench")[:N_ODDBENCH]]


def split(name: str, data_home: Path | None) -> tuple[NDArray, NDArray, NDArray]:
    """Training rows, test rows, and which of these are anomalies."""
    if not name.partition("_")[0].isdigit():
        bunch = fetch_oddbench(name, data_home=data_home)
        order = np.random.default_rng(0).permutation(len(bunch.train))[:MOST_ROWS]
        return bunch.train[order], bunch.test, bunch.test_labels
    X, y = fetch_adbench(name, data_home=data_home, return_X_y=True)
    rng = np.random.default_rng(0)
    normal = rng.permutation(np.flatnonzero(y == 0))
    train = normal[: min(len(normal) // 2, MOST_ROWS)]
    test = np.setdiff1d(np.arange(len(y)), train)
    test = rng.permutation(test)[: 2 * MOST_ROWS]
    return X[train], X[test], y[test]


def _compute(
    detector: str, dataset: str, stopping: str, *, data_home: Path | None
) -> list[dict[str, Any]]:
    train, test, y = split(dataset, data_home)
    made = DETECTORS[detector](stopping=STOPPING[stopping], random_state=0, device="cpu")
    start = time.process_time()
    made.fit(train)
    seconds = time.process_time() - start
    steps = made.history_.groupby("stage")["step"].max().sum()
    auroc = roc_auc_score(y, made.anomaly_score(test))
    values = {"auroc": auroc, "cpu_seconds": seconds, "steps": int(steps)}
    return [values | {"n_train": len(train), "n_test": len(test)}]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with both suites.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
) -> None:
    """Compute what is missing of the results, the slow detectors table by table."""
    quick, slow = list(DETECTORS)[:2], list(DETECTORS)[2:]
    places = list(product(tables_of_choice(), STOPPING))
    cells = [(name, *place) for name in quick for place in places]
    cells += [(name, *place) for place in places for name in slow]
    compute = partial(stamped, partial(_compute, data_home=data_home))
    run_cells(compute, cells, ROWS, jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


def _line(name: str, rows: pd.DataFrame) -> dict[str, str]:
    """One detector: the tables on which both fits are there."""
    wide = rows.pivot(index="dataset", columns="stopping").dropna()
    without, stopped = (wide.xs(way, axis=1, level="stopping") for way in STOPPING)
    change = stopped["auroc"] - without["auroc"]
    p = stats.wilcoxon(change).pvalue if change.any() else 1.0
    share = (stopped["steps"] / without["steps"]).mean()
    seconds = (stopped["cpu_seconds"] / without["cpu_seconds"]).median()
    return {
        "detector": name,
        "tables": str(len(wide)),
        "AUROC without": f"{without['auroc'].mean():.3f}",
        "with": f"{stopped['auroc'].mean():.3f}",
        "difference": interval(change),
        "better / worse": f"{(change > 0.001).sum()} / {(change < -0.001).sum()}",
        "p": f"{p:.3f}",
        "steps": f"{share:.2f}",
        "seconds": f"{seconds:.2f}",
    }


@app.command()
def tables() -> None:
    """Write the table from the rows that are there."""
    rows = ROWS.read()
    parts = {name: rows[rows["detector"] == name] for name in DETECTORS}
    there = {n: (p.groupby("dataset")["stopping"].nunique() == 2).sum() for n, p in parts.items()}
    lines = [_line(name, part) for name, part in parts.items() if there[name] >= FEWEST]
    text = [
        "# Early stopping by rows held out",
        "AUROC of the defaults, and with `stopping=EarlyStopping()`: 10 % of the rows held out "
        "(CANCE: its own 20 %), patience 10 epochs of 50 steps. Differences are means over "
        "tables with 95 % t-intervals, beyond 0.001 better or worse; p is Wilcoxon's signed-rank "
        "test, not corrected. Steps and seconds of the processor are shares of those without: the "
        "mean, and the median.",
        table(list(lines[0]), [line.values() for line in lines]),
        f"Not there, with fewer than {FEWEST} tables: "
        f"{', '.join(name for name, n in there.items() if n < FEWEST) or 'none'}.",
        origin_of(rows, "early_stopping.py"),
    ]
    write_paragraphs(ROWS, text)


if __name__ == "__main__":
    app()
