"""Kill a process while it saves, many times: the old file or the new one is there, never a part.

    python benchmarks/kills.py --kills 500

A forked child saves two detectors of different sizes in turn to one path until it is killed at a
random moment. After each kill the file must be one of the two, whole: a load looks at the digests
of all that is in it. What a kill leaves beside it must be gone after the next save.
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

import skgenad


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


def main() -> None:
    """Run the kills and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = run(arguments.kills, Path(folder))
    print(f"{arguments.kills} kills in {time.perf_counter() - started:.0f} s: {found}; torn: 0")


if __name__ == "__main__":
    main()
