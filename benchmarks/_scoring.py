"""Scoring many rows or images: seconds, rates and the memory that it takes above the input.

    python benchmarks/_scoring.py rows N              # prints the growth of the memory, MB (Linux)
    python benchmarks/_scoring.py images DETECTOR N

Memory is measured in a process of its own, by these commands, as the peak of its resident size.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import typer
from _conv_step import MultiplyAdds
from _measure import interleaved
from numpy.typing import NDArray

from skgenad import MPDR
from skgenad.energies import Chain, Manifold

app = typer.Typer(add_completion=False, help=__doc__)
_CHUNK = 1024


def row_score(n: int, rounds: int) -> dict[str, Any]:
    """Score `n` rows: share of a plain GEMM's multiply-adds per second, peak memory."""
    detector, X = _scored(n)
    shapes = _layers(detector)
    factors = [(torch.randn(_CHUNK, a), torch.randn(b, a)) for a, b in shapes]

    @torch.inference_mode()
    def products() -> None:
        for _ in range(-(-n // _CHUNK)):
            for a, weight in factors:
                a @ weight.t()

    cases = {"products": products, "score": lambda: detector.score_samples(X)}
    seconds = interleaved(cases, rounds=rounds)
    total = n * sum(a * b for a, b in shapes)
    return {
        "rows": n,
        "columns": X.shape[1],
        "seconds": seconds["score"].median(),
        "1e9 multiply-adds/s": total / seconds["score"].median() / 1e9,
        "GEMMs of the same shapes": total / seconds["products"].median() / 1e9,
        "share": (seconds["products"] / seconds["score"]).median(),
        "peak MB above the input": _peak("rows", str(n)),
    }


def _scored(n: int) -> tuple[MPDR, NDArray]:
    """Fit a detector at the defaults (combined score: energy and manifold); make rows to score."""
    X = np.random.RandomState(0).standard_normal((n, 21))
    detector = MPDR(manifold=Manifold(steps=5), max_steps=5, random_state=0)
    return detector.fit(X[:2000]), X


def _layers(detector: MPDR) -> list[tuple[int, int]]:
    """Widths of every layer that a row passes when it is scored."""
    module = detector.module_
    nets = [module.base.net, *(module.manifolds if module.manifold_share is not None else [])]
    weights = [m.weight for net in nets for m in net.modules() if isinstance(m, torch.nn.Linear)]
    return [(w.shape[1], w.shape[0]) for w in weights]


def image_score(n: int) -> dict[str, Any]:
    """Time and peak memory of scoring `n` images of 28x28 bytes by the paper's network."""
    chains = {"latent_chain": Chain(1), "visible_chain": Chain(1)}
    short = {"manifold": Manifold(steps=1), "max_steps": 1, **chains}
    detector = MPDR.from_paper("mnist", random_state=0, device="cpu", **short).fit(_bytes(128))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "detector"
        detector.save(path)
        peak = _peak("images", str(path), str(n))
    X = _bytes(2048)
    seconds = interleaved({"score": lambda: detector.score_samples(X)}, rounds=3)["score"].median()
    with MultiplyAdds() as counted, torch.no_grad():
        detector.module_.energy(torch.rand(64, 784))
    return {
        "images": n,
        "us an image": 1e6 * seconds / len(X),
        "1e9 multiply-adds/s": counted.total / 64 * len(X) / seconds / 1e9,
        "peak MB above the input": peak,
    }


def _bytes(n: int) -> NDArray:
    return np.random.RandomState(0).randint(0, 256, (n, 1, 28, 28), dtype=np.uint8)


# ---- memory, in a process of its own -------------------------------------------------------------


def _peak(*arguments: str) -> float:
    """Run a command of this file."""
    command = [sys.executable, __file__, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@app.command()
def rows(n: int) -> None:
    """Print by how many MB the resident memory grows while `n` rows are scored (Linux)."""
    detector, X = _scored(n)
    detector.score_samples(X[:2048])
    _print_growth(lambda: detector.score_samples(X))


@app.command()
def images(path: Path, n: int) -> None:
    """Print by how many MB the resident memory grows while a saved detector scores (Linux)."""
    detector, X = MPDR.load(path), _bytes(n)
    _print_growth(lambda: detector.score_samples(X))


def _print_growth(score: Callable[[], object]) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    score()
    typer.echo(json.dumps(round((_status("VmHWM") - before) / 1024, 1)))


def _status(field: str) -> int:
    """Read a field of the process's status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@app.callback()
def one_thread() -> None:
    """Measure what code costs: one thread."""
    torch.set_num_threads(1)


if __name__ == "__main__":
    app()
