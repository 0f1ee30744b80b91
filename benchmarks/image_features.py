"""Features of images: how quick, beside what the processor's multiply-adds allow; how much memory.

    python benchmarks/image_features.py run --data-home DIR   # half an hour; resumable
    python benchmarks/image_features.py tables                # seconds; results/image_features.md

"rate": EfficientNet-lite0 at a size, one thread; the multiply-adds of its layers are counted, and
divided by the rate of a product of two matrices (1024 x 1024), which is measured in turn with it.
"memory": a `PatchDetector` on bottles of MVTec AD (``DIR/mvtec_small``) scores a list of files, in
a process of its own; its peak memory, and that of a process that has loaded the same and scores 16.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from _results import origin_of, results_file, stamped, write_paragraphs
from torch.utils.flop_counter import FlopCounterMode

from skgenad.benchmark import run_cells
from skgenad.benchmark._markdown import table
from skgenad.datasets import get_data_home, load_mvtec
from skgenad.preprocessing import ImageFeatures

SIZES = (128, 224, 256)
N_FILES = (16, 10_000)
N_TURNS, N_IMAGES, SIDE = 5, 16, 1024
ROWS = results_file(
    "image_features",
    key=("what", "size"),
    columns={
        "what": str,
        "size": int,
        "images_per_second": float,
        "mega_multiply_adds": float,
        "giga_per_second": float,
        "share": float,
        "megabytes": float,
        "seconds": float,
    },
)
# Scores a list of files in a process of its own, and says what that took.
_SCORES = """
import json, resource, sys, time
from skgenad import Mahalanobis, PatchDetector
from skgenad.preprocessing import ImageFeatures
files, n = json.loads(sys.stdin.read())
features = ImageFeatures(pool=None, device="cpu")
detector = PatchDetector(Mahalanobis(), features=features, random_state=0).fit(files[:40])
began = time.process_time()
scores = detector.score_samples((files * (n // len(files) + 1))[:n])
assert scores.shape == (n,)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"megabytes": peak, "seconds": time.process_time() - began}))
"""
app = typer.Typer(add_completion=False, help=__doc__)


def rate(size: int) -> dict[str, float]:
    """Images per second, beside the rate of a product of matrices; medians of turns."""
    pixels = np.random.RandomState(0).randint(256, size=(N_IMAGES, 3, size, size), dtype=np.uint8)
    features = ImageFeatures(pool=None, size=size, device="cpu").fit(pixels)
    a = torch.randn(SIDE, SIDE)
    seconds, products = [], []
    for _ in range(N_TURNS):
        began = time.process_time()
        features.transform(pixels)
        seconds.append(time.process_time() - began)
        began = time.process_time()
        for _ in range(10):
            a @ a
        products.append((time.process_time() - began) / 10)
    module = features._module()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(torch.zeros(1, 3 * size * size))
    work = counter.get_total_flops() / 2
    per_second = N_IMAGES / float(np.median(seconds))
    most = SIDE**3 / float(np.median(products))
    return {
        "images_per_second": per_second,
        "mega_multiply_adds": work / 1e6,
        "giga_per_second": most / 1e9,
        "share": per_second * work / most,
    }


def memory(n: int, home: Path | None) -> dict[str, float]:
    """Peak memory of a process that scores `n` files."""
    bunch = load_mvtec(get_data_home(home) / "mvtec_small", "bottle")
    given = json.dumps([list(bunch.filenames), n])
    done = subprocess.run(
        [sys.executable, "-c", _SCORES], input=given, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def compute(home: Path | None, what: str, size: int) -> Iterator[dict[str, Any]]:
    """Measure one thing."""
    empty = dict.fromkeys(list(ROWS.columns)[2:8], np.nan)
    yield {**empty, **(rate(size) if what == "rate" else memory(size, home))}


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with the data.")] = None,
) -> None:
    """Measure what is missing."""
    cells = [("rate", size) for size in SIZES] + [("memory", n) for n in N_FILES]
    run_cells(partial(stamped, partial(compute, data_home)), cells, ROWS)


@app.command()
def tables() -> None:
    """Write the tables from the rows that are there."""
    rows = ROWS.read()
    rates, memories = (
        rows[rows["what"] == what].sort_values("size") for what in ("rate", "memory")
    )
    numbers = ("images_per_second", "mega_multiply_adds", "giga_per_second", "share")
    formats = ("{:.1f}", "{:.0f}", "{:.1f}", "{:.2f}")
    text = [
        "# Features of images",
        origin_of(rows, "image_features.py"),
        "EfficientNet-lite0, four blocks, one thread: images in a second of CPU time, millions of "
        "multiply-adds of an image, billions of them that the processor does in a second in a "
        "product of matrices, and the share of these that is reached. The network's layers are "
        "small, and half of them look at each channel alone.",
        table(
            ["size", "images/s", "M per image", "G/s of products", "share"],
            [
                [row["size"], *(f.format(row[n]) for f, n in zip(formats, numbers, strict=True))]
                for _, row in rates.iterrows()
            ],
        ),
        "Files scored by a `PatchDetector` at 224 pixels, in a process of its own.",
        table(
            ["files", "peak MB", "seconds"],
            [
                [row["size"], f"{row['megabytes']:.0f}", f"{row['seconds']:.0f}"]
                for _, row in memories.iterrows()
            ],
        ),
    ]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
