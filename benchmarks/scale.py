"""More rows than memory: rows a second on two cores, the peak of memory, and the same bits.

    python benchmarks/scale.py rate               # two minutes on two free cores; resumable
    python benchmarks/scale.py memory --folder DIR    # writes a file of 840 MB there; resumable
    python benchmarks/scale.py bits               # a minute; resumable
    python benchmarks/scale.py tables             # seconds; writes results/scale.md

Rows have 21 columns of float32, and detectors are at their defaults but for the length of
training, which does not matter here. `rate` takes seconds of the clock, in turns with a product of
square matrices. Other processes on the machine disturb it: the load is written beside it, and the
rows in a second of CPU time. Memory is measured in a process of its own for each cell (Linux), as
the growth of the peak of its resident size, in which pages of a file count.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from _conv_step import MultiplyAdds
from _measure import Section, origin, write_report
from _requests import _detector
from _results import FOLDER as RESULTS
from _scoring import _status
from numpy.typing import NDArray

import skgenad
from skgenad._core.detector import SCORING_CHUNK
from skgenad.benchmark import run_cells

FOLDER = RESULTS / "scale"
COLUMNS, CHUNK = 21, 100_000
DETECTORS = ("MPDR", "Autoencoder", "Mahalanobis", "Committee", "Neighbors")
WAYS = ("one thread", "two threads", "two workers")
OF_MEMORY = ("MPDR", "Autoencoder", "Mahalanobis")
SIZES = (10**5, 10**6, 10**7)
CALLS = ("score_batches", "score_samples", "fit_stream", "fit")
OF_BITS = (*DETECTORS, "GaussianMixtures", "NormalizingFlow")

app = typer.Typer(add_completion=False, help=__doc__)


def _rate_note(rows: pd.DataFrame) -> str:
    return (
        "Medians of five turns. Two threads: torch's, within a pass; two workers: a thread of "
        "Python for each half of the rows, each with one thread of torch, as Dask and Spark have "
        "it. A second of CPU time is one of all threads together: two workers have two of them in "
        "a second on cores that do nothing else. Multiply-adds are those of products; the "
        "machine's rate is that of products of 1024 x 1024 matrices in the same way and turns. "
        "The load is that of the last minute."
    )


SECTIONS = {
    "rate": Section(
        "Rows a second",
        {"detector": str, "way": str},
        (
            "rows",
            "rows/s",
            "least",
            "most",
            "rows/s of CPU time",
            "multiply-adds a row",
            "1e9 multiply-adds/s of CPU time",
            "share of that rate",
            "load",
        ),
        _rate_note,
    ),
    "memory": Section(
        "Peak of memory above what there was before, MB",
        {"detector": str, "call": str, "rows": int},
        ("MB", "of these results", "MB of the file"),
        lambda _: (
            f"Rows are in a memory-mapped file. `score_batches` and `fit_stream` read slices of "
            f"{CHUNK:,} rows; a sample is of 100,000. Results of `score_samples` are float64."
        ),
    ),
    "bits": Section(
        "The same bits",
        {"detector": str, "rows": int},
        ("ways", "hashes"),
        lambda _: (
            "Ways to divide the rows (not at all; chunks of 1 for the first 300; of 777, 1024 and "
            "5000; in random places), and how many different hashes of all scores came of them. "
            "One thread."
        ),
    ),
}


def _file(name: str) -> Any:
    return SECTIONS[name].file(name, FOLDER)


def _made(name: str, X: NDArray, steps: int = 2) -> Any:
    if name == "Committee":
        return skgenad.Committee(random_state=0).fit(X)
    return _detector(name, steps).fit(X)


def _rows(n: int) -> NDArray:
    return np.random.default_rng(0).standard_normal((n, COLUMNS), dtype=np.float32)


# ---- rows a second ------------------------------------------------------------------------------


@app.command()
def rate(
    rounds: Annotated[int, typer.Option(help="Turns.")] = 5,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(DETECTORS),
    ways: Annotated[str, typer.Option(help="Some of them.")] = ",".join(WAYS),
    seconds: Annotated[float, typer.Option(help="Length of a turn, about.")] = 0.5,
) -> None:
    """Score rows in three ways, in turns with products of matrices."""
    cells = [(name, way) for way in ways.split(",") for name in detectors.split(",")]
    compute = partial(_rate_rows, rounds=rounds, seconds=seconds)
    run_cells(compute, cells, _file("rate"))
    tables()


def _rate_rows(name: str, way: str, *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    X = _rows(1_000_000)
    detector = _made(name, X[:5000])
    torch.set_num_threads(2 if way == "two threads" else 1)
    few = X[: 4 * SCORING_CHUNK]
    detector.score_samples(few)
    once = max(_timed(partial(_score, detector, few, way)))
    n = int(np.clip(len(few) * seconds / once, len(few), len(X)))
    turns = []
    for _ in range(rounds):
        turns.append(
            [_timed(partial(_products, way)), _timed(partial(_score, detector, X[:n], way))]
        )
    products, scores = np.swapaxes(turns, 0, 1)  # (rounds, 2): of the clock, of the CPU
    multiply_adds = _multiply_adds(detector)
    torch.set_num_threads(2)
    gemm = _PRODUCTS * _SIDE**3
    row = {
        "rows": n,
        "rows/s": float(np.median(n / scores[:, 0])),
        "least": float((n / scores[:, 0]).min()),
        "most": float((n / scores[:, 0]).max()),
        "rows/s of CPU time": float(np.median(n / scores[:, 1])),
        "multiply-adds a row": multiply_adds,
        "1e9 multiply-adds/s of CPU time": float(np.median(gemm / products[:, 1])) / 1e9,
        "share of that rate": float(
            np.median(n * multiply_adds / scores[:, 1] * products[:, 1] / gemm)
        ),
        "load": os.getloadavg()[0],
    }
    return [{**row, **origin()}]


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - cpu


_SIDE, _PRODUCTS = 1024, 10


def _products(way: str) -> None:
    """Multiply square matrices, with as many cores as rows are scored."""
    factors = [torch.randn(_SIDE, _SIDE) for _ in range(2)]

    def some(n: int) -> None:
        for _ in range(n):
            factors[0] @ factors[1]

    if way != "two workers":
        some(_PRODUCTS)
        return
    with _workers() as pool:
        list(pool.map(some, [_PRODUCTS // 2] * 2))


def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, initializer=partial(torch.set_num_threads, 1))


def _score(detector: Any, X: NDArray, way: str) -> None:
    if way != "two workers":
        detector.score_samples(X)
        return
    with _workers() as pool:
        list(pool.map(detector.score_samples, np.array_split(X, 2)))


def _multiply_adds(detector: Any) -> float:
    """Multiply-adds of matrix products for a row; NaN of a detector of several models."""
    if not hasattr(detector, "module_"):
        return float("nan")
    with MultiplyAdds() as counted, torch.no_grad():
        detector.module_.energy(torch.zeros(SCORING_CHUNK, COLUMNS))
    return counted.total / SCORING_CHUNK


# ---- memory -------------------------------------------------------------------------------------


@app.command()
def memory(
    folder: Annotated[Path, typer.Option(help="Where a file of 840 MB is written.")],
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(OF_MEMORY),
    calls: Annotated[str, typer.Option(help="Some of them.")] = ",".join(CALLS),
    sizes: Annotated[str, typer.Option(help="Some of them.")] = ",".join(map(str, SIZES)),
) -> None:
    """Measure what scoring and fitting rows of a file add to the memory."""
    path = folder / "scale_rows.npy"
    if not path.exists():
        rows = np.lib.format.open_memmap(path, "w+", "float32", (max(SIZES), COLUMNS))
        for start in range(0, len(rows), CHUNK):
            rows[start : start + CHUNK] = _rows(CHUNK) + start % 7
        rows.flush()
    cells = [
        (name, call, int(n))
        for call in calls.split(",")
        for name in detectors.split(",")
        for n in sizes.split(",")
    ]
    run_cells(partial(_memory_rows, path=path), cells, _file("memory"))
    tables()


def _memory_rows(name: str, call: str, n: int, *, path: Path) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, "peak", str(path), name, call, str(n)]
    done = subprocess.run(command, check=True, capture_output=True)
    results = 8 * n / 1e6 if call == "score_samples" else 0.0
    row = {"MB": json.loads(done.stdout), "of these results": results}
    return [{**row, "MB of the file": 4 * COLUMNS * n / 1e6, **origin()}]


@app.command()
def peak(path: Path, name: str, call: str, n: int) -> None:
    """Print by how many MB the resident memory grows at its peak (Linux)."""
    torch.set_num_threads(1)
    X = np.load(path, mmap_mode="r")[:n]
    detector = _made(name, X[:2000])
    _call(_made(name, X[:2000]), call, X[:30_000])  # what is loaded once
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    _call(detector, call, X)
    typer.echo(json.dumps(round((_status("VmHWM") - before) * 1024 / 1e6, 1)))


def _call(detector: Any, call: str, X: NDArray) -> None:
    if call == "fit":
        detector.fit(X)
    elif call == "fit_stream":
        detector.fit_stream(_slices(X, CHUNK))
    elif call == "score_samples":
        detector.score_samples(X)
    else:
        for _ in detector.score_batches(_slices(X, CHUNK)):
            pass


def _slices(X: NDArray, size: int) -> Iterator[NDArray]:
    return (X[start : start + size] for start in range(0, len(X), size))


# ---- bits ---------------------------------------------------------------------------------------


@app.command()
def bits(
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(OF_BITS),
    n: Annotated[int, typer.Option(help="Rows.")] = 10_000,
) -> None:
    """Hash the scores of rows that are divided in many ways."""
    cells = [(name, n) for name in detectors.split(",")]
    run_cells(_bits_rows, cells, _file("bits"))
    tables()


def _bits_rows(name: str, n: int) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    X, hashes = _rows(n + 2000), set()
    detector, ways = _made(name, X[n:]), list(_divisions(n))
    for ends in ways:
        chunks = (X[start:end] for start, end in pairwise(ends))
        scores = np.concatenate(list(detector.score_batches(chunks)))
        hashes.add(hashlib.sha256(scores.tobytes()).hexdigest())
    return [{"ways": len(ways), "hashes": len(hashes), **origin()}]


def _divisions(n: int) -> Iterator[list[int]]:
    """Places where `n` rows are divided, the ends among them."""
    yield [0, n]
    yield [*range(301), n]
    for size in (777, 1024, 5000):
        yield [*range(0, n, size), n]
    cuts = np.sort(np.random.RandomState(0).randint(0, n + 1, 20))
    yield [0, *cuts.tolist(), n]


# ---- tables -------------------------------------------------------------------------------------


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    typer.echo(f"wrote {write_report(SECTIONS, 'More rows than memory', FOLDER)}")


if __name__ == "__main__":
    app()
