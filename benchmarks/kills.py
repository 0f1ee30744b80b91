"""Kill a process while it saves, or while it runs a benchmark, many times.

    python benchmarks/kills.py --kills 500
    python benchmarks/kills.py --what benchmark --kills 200

A forked child saves two detectors of different sizes in turn to one path until it is killed at a
random moment. After each kill the file must be one of the two, whole: a load looks at the digests
of all that is in it. What a kill leaves beside it must be gone after the next save.

Of a benchmark, every row that was there before a kill must be there after it, as it was, times
included, and a run that goes on to its end must have the table of one that nobody has killed; then
the next run begins.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest

import skgenad
from skgenad.benchmark import read_rows, run_benchmark


def fitted(seed: int, n: int) -> skgenad.Neighbors:
    """Make a detector whose file has about 80 bytes for each of `n` rows."""
    rows = np.random.RandomState(seed).randn(n, 20)
    return skgenad.Neighbors(device="cpu", random_state=seed).fit(rows)


def save_until_killed(detectors: list[skgenad.Neighbors], path: Path, ready: int) -> None:
    """Save detectors in turn for ever; the first save done is told through a pipe."""
    try:
        for turn in range(2**31):
            detectors[turn % len(detectors)].save(path)
            if turn == 0:
                os.write(ready, b"1")
    finally:
        os._exit(1)


def kill_once(detectors: list[skgenad.Neighbors], path: Path, longest: float) -> None:
    """Run a child and kill it at a random moment after its first save."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        save_until_killed(detectors, path, writing)
    os.close(writing)
    assert os.read(reading, 1) == b"1", "the child has not saved"
    os.close(reading)
    time.sleep(random.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def run(n_kills: int, folder: Path, n_rows: int = 5000, longest: float = 0.05) -> dict[str, int]:
    """Kill `n_kills` saves, and count what was there after them."""
    detectors = [fitted(0, n_rows), fitted(1, n_rows // 2)]
    path, found = folder / "detector.safetensors", {"first": 0, "second": 0, "leftovers": 0}
    for _ in range(n_kills):
        kill_once(detectors, path, longest)
        loaded = skgenad.load(path)  # fails on a torn file
        found[("first", "second")[[d.seed_ for d in detectors].index(loaded.seed_)]] += 1
        found["leftovers"] += len(list(folder.iterdir())) - 1
        detectors[0].save(path)
        assert [file.name for file in folder.iterdir()] == [path.name], "a leftover has stayed"
    return found


# ---- benchmarks ----------------------------------------------------------------------------------

TIMES = ["fit_seconds", "score_seconds", "peak_memory_mb"]


def benchmark(out: Path) -> None:
    """Run a small benchmark of 24 cells, or go on with it."""
    rng = np.random.RandomState(0)
    y = np.repeat([0, 1], [100, 20])
    sets = {f"set {k}": (rng.randn(120, 3) + 2 * y[:, None], y) for k in range(4)}
    detectors = {"forest": IsolationForest(n_estimators=5), "envelope": EllipticEnvelope()}
    run_benchmark(sets, detectors, protocol="clean", seeds=(1, 2, 3), out=out, progress=False)


def table(path: Path) -> pd.DataFrame:
    """Read what a run has computed, in one order and without times."""
    rows = read_rows(path).drop(columns=TIMES)
    return rows.sort_values(["dataset", "seed", "detector"], ignore_index=True)


def n_lines(path: Path) -> int:
    """Count the lines of a file that may be missing."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def benchmark_in_child(out: Path, kill: bool = True) -> bool:
    """Run the benchmark in a forked child, and kill it; say whether it came to its end before.

    This process runs none itself, so that each child begins without servers and threads. Four kills
    of five fall among cells, the others at the start, where the server of cells is made.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            benchmark(out)
            code = 0
        finally:
            os._exit(code)
    lines, among_cells = n_lines(out / "rows.csv"), random.random() < 0.8
    until = time.perf_counter() + random.uniform(0, 0.5)
    while True:
        done, status = os.waitpid(child, os.WNOHANG if kill else 0)
        if done:
            assert status == 0, "the run has failed"
            return True
        if among_cells and n_lines(out / "rows.csv") > lines:
            among_cells, until = False, time.perf_counter() + random.uniform(0, 0.05)
        if not among_cells and time.perf_counter() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.001)


def run_benchmarks(n_kills: int, folder: Path) -> dict[str, int]:
    """Kill `n_kills` benchmarks, and count the runs that have come to their end all the same."""
    benchmark_in_child(folder / "whole", kill=False)
    expected = table(folder / "whole" / "rows.csv")
    found = {"kills": 0, "runs": 0, "with rows": 0}
    while found["kills"] < n_kills:
        out, before = folder / f"run {found['runs']}", pd.DataFrame()
        while not benchmark_in_child(out):
            found["kills"] += 1
            if (out / "rows.csv").exists():
                rows = read_rows(out / "rows.csv")
                if len(before):
                    pd.testing.assert_frame_equal(rows.iloc[: len(before)], before)
                found["with rows"] += len(rows) > len(before)
                before = rows
        pd.testing.assert_frame_equal(table(out / "rows.csv"), expected)
        found["runs"] += 1
        print(found, flush=True)
    return found


def main() -> None:
    """Run the kills and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=["save", "benchmark"], default="save")
    parser.add_argument("--kills", type=int, default=500)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        kill = run if arguments.what == "save" else run_benchmarks
        found = kill(arguments.kills, Path(folder))
    print(f"{arguments.kills} kills in {time.perf_counter() - started:.0f} s: {found}; torn: 0")


if __name__ == "__main__":
    main()
