"""What a committee and its members cost: seconds, rows a second, memory, by rows and columns.

    python benchmarks/committee_cost.py run       # 20 minutes on 2 cores; resumable
    python benchmarks/committee_cost.py tables    # seconds; writes results/committee_cost.md

Rows are normal, with a random covariance. Every cell runs in a process of its own, so that its
peak of memory is its own; what it grows by is counted from when the rows are there. Fits and the
first rate of scoring are on one thread, the second rate on as many as there are cores.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import typer
from _results import origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from skgenad.benchmark import list_detectors, run_cells
from skgenad.benchmark._detectors import DETECTORS as MAKERS
from skgenad.benchmark._markdown import table

DETECTORS = ("Committee", "Neighbors", "LocalGaussian", "KernelDenoiser", "MPDR-R")
SIZES = (
    *((n, 21) for n in (100, 1000, 10_000, 100_000, 1_000_000)),
    *((10_000, d) for d in (2, 5, 100, 300)),
)
# The largest table is fitted by the committee alone.
MOST_OF_ALL = 100_000
N_SCORED = 20_480
FILE = results_file(
    "committee_cost",
    key=("detector", "n", "d"),
    columns={
        "detector": str,
        "n": int,
        "d": int,
        "fit_seconds": float,
        "rows_per_second": float,
        "rows_per_second_all_cores": float,
        "fit_memory_mb": float,
        "score_memory_mb": float,
    },
)

app = typer.Typer(add_completion=False, help=__doc__)


def _rows(n: int, d: int, seed: int) -> NDArray[np.float32]:
    mixing = np.random.default_rng(0).standard_normal((d, d), dtype=np.float32)
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32) @ mixing


def _peak() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _seconds_to_score(detector: Any, rows: NDArray) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        detector.score_samples(rows)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


@app.command(hidden=True)
def one(name: str, n: int, d: int) -> None:
    """Measure one cell, and print it as JSON: what `run` starts in a process of its own."""
    X, new = _rows(n, d, 1), _rows(N_SCORED, d, 2)
    detector = MAKERS[name](0)
    MAKERS[name](0).fit(X[:100])  # what is imported late is no cost of this fit
    before = _peak()
    with threadpool_limits(1):
        start = time.perf_counter()
        detector.fit(X)
        fitted = time.perf_counter() - start
        after = _peak()
        alone = _seconds_to_score(detector, new)
    together = _seconds_to_score(detector, new)
    measured = {
        "fit_seconds": fitted,
        "rows_per_second": N_SCORED / alone,
        "rows_per_second_all_cores": N_SCORED / together,
        "fit_memory_mb": after - before,
        "score_memory_mb": _peak() - after,
    }
    typer.echo(json.dumps(measured))


def _compute(name: str, n: int, d: int) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, "one", name, str(n), str(d)]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [json.loads(done.stdout.splitlines()[-1])]


@app.command()
def run() -> None:
    """Compute what is missing of the results, one cell at a time."""
    there = [name for name in DETECTORS if name in list_detectors()]
    cells = [
        (name, n, d) for name in there for n, d in SIZES if n <= MOST_OF_ALL or name == "Committee"
    ]
    run_cells(partial(stamped, _compute, threads=None), cells, FILE)


@app.command()
def tables() -> None:
    """Write the table from the rows that are there."""
    rows = FILE.read()
    header = ["detector", "rows", "columns", "fit s", "rows/s, 1 thread", "rows/s, all cores"]
    lines = [_line(row) for _, row in rows.iterrows()]
    text = [
        "# What the committee and its members cost",
        f"{origin_of(rows, 'committee_cost.py')} {N_SCORED:,} rows scored, medians of 3. Memory: "
        "growth of the peak in the fit, above the rows, and in scoring above that.",
        table([*header, "fit MiB", "score MiB"], lines),
    ]
    typer.echo(f"wrote {write_paragraphs(FILE, text)}")


def _line(row: pd.Series) -> list[str]:
    return [
        row["detector"],
        f"{row['n']:,}",
        f"{row['d']}",
        f"{row['fit_seconds']:.2f}",
        f"{row['rows_per_second']:,.0f}",
        f"{row['rows_per_second_all_cores']:,.0f}",
        f"{row['fit_memory_mb']:.0f}",
        f"{row['score_memory_mb']:.0f}",
    ]


if __name__ == "__main__":
    app()
