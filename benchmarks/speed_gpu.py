"""What a training step costs on a GPU, asked for kernel by kernel and recorded as a CUDA graph.

    python benchmarks/speed_gpu.py run [--quick]     # a minute; rows go to results/speed_gpu/
    python benchmarks/speed_gpu.py tables            # writes results/speed_gpu.md

A step's time is the difference between a stage of many steps and one of few, over the difference
of their numbers, both through the package's own loop: what starts a stage and records it is not
in it. Cases are taken in turns. normflows is needed for the flows.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from _conv_step import ConvStep, MultiplyAdds, PlainConvStep
from _flow_step import FlowStep, NormflowsStep
from _measure import Section, save, write_report
from torch import Tensor

from skgenad import MPDR
from skgenad._core.loop import Stage
from skgenad._core.training import run_stage

FOLDER = Path(__file__).parent / "results" / "speed_gpu"
app = typer.Typer(add_completion=False, help=__doc__)
# Runs so many steps.
Run = Callable[[int], object]
_RECORDED, _EAGER = "skgenad, recorded", "skgenad, kernel by kernel"
_SPEEDS = ("ms", "steps a second", f"times {_RECORDED}")
_SECTIONS = {
    "images": Section(
        "MPDR-R on images: MNIST's network, batch 128, 5 latent and 5 visible steps",
        {"step": str},
        (
            *_SPEEDS,
            "1e12 operations/s",
            "share of a TF32 product's",
            "share of a float32 product's",
        ),
    ),
    "tables": Section("MPDR on a table of 21 columns, at its defaults", {"step": str}, _SPEEDS),
    "flows": Section(
        "Glow",
        {"image": str, "steps of each scale": int, "width": int, "batch": int, "step": str},
        _SPEEDS,
    ),
}


def _seconds(cases: dict[str, Run], rounds: int, few: int, many: int) -> pd.DataFrame:
    """Seconds of a step of each case, a row per round."""

    def clock(run: Run, n: int) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        run(n)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    for run in cases.values():
        run(few)
    return pd.DataFrame(
        {name: (clock(run, many) - clock(run, few)) / (many - few) for name, run in cases.items()}
        for _ in range(rounds)
    )


def _loops(stage: Stage, module: Any, rows: Tensor, batch_size: int) -> dict[str, Run]:
    """Make runs of the package's loop on a stage, with recording and without."""

    def loop(**changes: Any) -> Run:
        def run(n_steps: int) -> None:
            changed = dataclasses.replace(stage, n_steps=n_steps, **changes)
            run_stage(module, changed, rows, batch_size=batch_size)

        return run

    return {_RECORDED: loop(), _EAGER: loop(is_steady=None)}


def _gemm_tflops(allow_tf32: bool, n: int = 8192) -> float:
    """1e12 operations per second of a large product, two for a multiply-add."""
    a, b = torch.randn(n, n, device="cuda"), torch.randn(n, n, device="cuda")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32

    def products(count: int) -> None:
        for _ in range(count):
            a @ b

    try:
        seconds = _seconds({"gemm": products}, 3, 2, 12)["gemm"].median()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * n**3 / seconds / 1e12


def _rows(seconds: pd.DataFrame, **common: Any) -> list[dict[str, Any]]:
    return [
        {
            **common,
            "step": name,
            "ms": 1e3 * seconds[name].median(),
            "steps a second": 1 / seconds[name].median(),
            f"times {_RECORDED}": (seconds[name] / seconds[_RECORDED]).median(),
        }
        for name in seconds
    ]


def _images(rounds: int, many: int) -> list[dict[str, Any]]:
    ours = ConvStep(torch.rand(128, 1, 28, 28, device="cuda"))
    with MultiplyAdds() as counted:
        ours.step()
    plain = PlainConvStep(ours)
    cases = _loops(ours.stage, ours.module, ours.x, 128)
    cases["plain"] = lambda n: [plain.step() for _ in range(n)]
    rows = _rows(_seconds(cases, rounds, 20, many))
    peaks = {"TF32": _gemm_tflops(True), "float32": _gemm_tflops(False)}
    for row in rows:
        tflops = 2 * counted.total * row["steps a second"] / 1e12
        row |= {"1e12 operations/s": tflops}
        row |= {f"share of a {name} product's": tflops / peak for name, peak in peaks.items()}
    return rows


def _tables(rounds: int, many: int) -> list[dict[str, Any]]:
    rows = torch.randn(5000, 21, device="cuda")
    detector = MPDR(random_state=0, learning_rate=1e-5, device="cuda")
    module = detector._make_module(21).to("cuda")
    module.prepare(rows, None)
    stage = detector._stages(module)[-1]
    return _rows(_seconds(_loops(stage, module, rows, 128), rounds, 20, many))


def _flows(rounds: int, many: int) -> list[dict[str, Any]]:
    rows = []
    for shape, steps, hidden, batch_size in (
        ((1, 32, 32), 4, 64, 32),
        ((3, 32, 32), 4, 128, 32),
        ((3, 32, 32), 16, 256, 64),
    ):
        x = torch.rand(4 * batch_size, int(np.prod(shape)), device="cuda")
        settings = {"n_scales": 3, "n_couplings": steps, "hidden": hidden, "batch_size": batch_size}
        ours = FlowStep(x, shape, **settings)
        cases = _loops(ours.stage, ours.module, x, batch_size)
        cases["normflows"] = NormflowsStep(ours).run
        common = {
            "image": " x ".join(map(str, shape)),
            "steps of each scale": steps,
            "width": hidden,
            "batch": batch_size,
        }
        rows += _rows(_seconds(cases, rounds, 5, many // 3), **common)
    return rows


@app.command()
def run(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: a smoke test.")] = False,
    only: Annotated[str, typer.Option(help="Some of the sections.")] = ",".join(_SECTIONS),
    out: Annotated[Path, typer.Option(help="Folder of the rows.")] = FOLDER,
) -> None:
    """Time the steps."""
    torch.manual_seed(0)
    rounds, many = (1, 30) if quick else (3, 60)
    for name, measure in (("images", _images), ("tables", _tables), ("flows", _flows)):
        if name not in only.split(","):
            continue
        rows = measure(rounds, many)
        save(_SECTIONS[name].file(name, out), rows)
        typer.echo(pd.DataFrame(rows).to_string())


@app.command()
def tables(
    out: Annotated[Path, typer.Option(help="Folder of the rows.")] = FOLDER,
) -> None:
    """Write the report of what was run."""
    typer.echo(f"wrote {write_report(_SECTIONS, 'Speed on a GPU', out)}")


if __name__ == "__main__":
    app()
