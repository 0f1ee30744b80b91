"""What a step, a fit and a score cost, as ratios measured in turns in one process.

    python benchmarks/speed.py step              # one MPDR-R step against a plain one; each trick
    python benchmarks/speed.py scaling           # a step's cost by rows and by columns
    python benchmarks/speed.py score             # a million rows: share of a GEMM's rate, memory
    python benchmarks/speed.py fit --data-home DIR    # MPDR().fit against pyod's AutoEncoder().fit
    python benchmarks/speed.py detectors         # fit and score of every detector at its defaults
    python benchmarks/speed.py requests          # of one row, a thousand and many, by detector
    python benchmarks/speed.py fits --against DIR     # fits beside those of another checkout
    python benchmarks/speed.py conv              # one MPDR-R step on 28x28 images; scoring them
    python benchmarks/speed.py flows             # one step of Glow against normflows'

Every command takes ``--quick`` and uses one thread. Rows go to ``results/speed/*.csv``, tables to
``results/speed.md``; `fit` goes on where it was stopped.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from _conv_step import ConvStep, MultiplyAdds, PlainConvStep
from _flow_step import FlowStep, NormflowsStep
from _measure import Section, interleaved, origin, save, write_report
from _mpdr_step import Ours, step_rows, trick_rows
from _requests import fit_rows, request_rows
from _scoring import image_score, row_score
from adbench import SETS
from threadpoolctl import threadpool_limits

import skgenad
from skgenad import MPDR
from skgenad._core.detector import BaseGenerativeDetector
from skgenad.benchmark import run_cells
from skgenad.benchmark.protocols import make_split
from skgenad.datasets import fetch_adbench
from skgenad.energies import Manifold, Reconstruction

app = typer.Typer(add_completion=False, help=__doc__)
Quick = Annotated[bool, typer.Option("--quick", help="Fewer rounds: a smoke test.")]


def _fit_note(rows: pd.DataFrame) -> str:
    return (
        f"{len(rows)} sets: median ratio {rows['ratio'].median():.2f}, longest fit of MPDR "
        f"{rows['MPDR (s)'].max():.1f} s. Training part of the `clean` protocol, seed 1."
    )


_RATES = ("GEMM rate (1e9 multiply-adds/s)", "share of that rate")
_SECTIONS = {
    "step": Section(
        "One MPDR-R training step",
        {"width": int, "step": str},
        ("ms", "times skgenad", "multiply-adds (millions)", *_RATES),
    ),
    "tricks": Section(
        "What each trick gains",
        {"width": int, "trick": str},
        ("ms with", "ms without", "times"),
    ),
    "rows": Section("A step's cost by number of rows", {"rows": int}, ("ms", "times the first")),
    "columns": Section(
        "A step's cost by number of columns",
        {"columns": int},
        ("ms", "times the first", "straight line (ms)"),
    ),
    "score": Section(
        "Scoring",
        {"rows": int, "columns": int},
        (
            "seconds",
            "1e9 multiply-adds/s",
            "GEMMs of the same shapes",
            "share",
            "peak MB above the input",
        ),
    ),
    "fit": Section(
        "Fit at the defaults",
        {"data set": str, "rows": int, "columns": int},
        ("MPDR (s)", "pyod AutoEncoder (s)", "ratio"),
        _fit_note,
    ),
    "detectors": Section(
        "Every detector at its defaults",
        {"detector": str},
        ("fit (s)", "fit / Autoencoder", "score (us a row)"),
        lambda _: "Fit and score on 5,000 rows of 21 columns.",
    ),
    "requests": Section(
        "Requests of one row, of a thousand and of many",
        {"detector": str},
        (
            "module alone (us)",
            "one row (us)",
            "times the module",
            "1,000 rows (us a row)",
            "many rows (us a row)",
            "before: module alone (us)",
            "before: one row (us)",
            "before: 1,000 rows (us a row)",
            "before: many rows (us a row)",
        ),
        lambda _: (
            "Rows of 21 columns, detectors at their defaults but for the length of training. The "
            "module alone is its energy of one row, without checks, units or a pass's other rows."
        ),
    ),
    "fits": Section(
        "Fits, beside those of another checkout",
        {"detector": str, "rows": int},
        ("before (s)", "fit (s)", "fit / before"),
        lambda rows: (
            f"CPU seconds, medians of turns; 10 columns, defaults but for 100 steps in each stage. "
            f"Median ratio {rows['fit / before'].median():.2f}."
        ),
    ),
    "conv": Section(
        "One MPDR-R training step on images",
        {"step": str},
        ("s", "times skgenad", "multiply-adds (1e9)", *_RATES),
    ),
    "conv_score": Section(
        "Scoring images",
        {"images": int},
        ("us an image", "1e9 multiply-adds/s", "peak MB above the input"),
    ),
    "flows": Section(
        "One training step of Glow",
        {
            "image": str,
            "steps of each scale": int,
            "width": int,
            "batch": int,
            "parameters": int,
            "of normflows": int,
        },
        ("skgenad (ms)", "normflows (ms)", "normflows / skgenad"),
    ),
}


def _save(name: str, rows: list[dict[str, Any]], *, keep: bool = False) -> None:
    save(_SECTIONS[name].file(name), rows, keep=keep)


@app.command()
def step(quick: Quick = False) -> None:
    """Time one MPDR-R step against the plain one, and every trick alone."""
    rows, tricks = [], []
    for width in (128, 1024):
        n_steps = max(2, (10 if quick else 50) * 128 // width)
        rows += step_rows(width, n_steps, rounds=3 if quick else 11)
        tricks += trick_rows(width, n_steps, rounds=3 if quick else 11)
    _save("step", rows)
    _save("tricks", tricks)
    _report()


@app.command()
def scaling(quick: Quick = False) -> None:
    """Time a step for growing numbers of rows and of columns."""
    n_steps, rounds = (20, 3) if quick else (200, 5)
    torch.manual_seed(0)
    sizes = [10**3, 10**4, 10**5, 10**6]
    many = torch.randn(sizes[-1], 21)
    models = {str(n): Ours(many[:n], 128) for n in sizes}
    _save("rows", _scaling_rows("rows", models, n_steps, rounds))
    dims = [10, 20, 50, 100, 200, 400]
    wide = torch.randn(2000, dims[-1])
    models = {
        str(d): Ours(
            wide[:, :d].contiguous(),
            128,
            manifold=Manifold(d),
            energy=Reconstruction(latent_dim=d),
        )
        for d in dims
    }
    rows = _scaling_rows("columns", models, n_steps, rounds)
    measured = np.array([row["ms"] for row in rows])
    line = np.polyval(np.polyfit(dims, measured, 1), dims)
    _save("columns", [{**r, "straight line (ms)": v} for r, v in zip(rows, line, strict=True)])
    _report()


def _scaling_rows(
    name: str, models: dict[str, Ours], n_steps: int, rounds: int
) -> list[dict[str, Any]]:
    cases = {key: lambda model=model: model.run(n_steps) for key, model in models.items()}
    seconds = interleaved(cases, rounds=rounds) / n_steps
    first = seconds.columns[0]
    return [
        {
            name: int(key),
            "ms": 1e3 * seconds[key].median(),
            "times the first": (seconds[key] / seconds[first]).median(),
        }
        for key in seconds
    ]


@app.command()
def score(quick: Quick = False) -> None:
    """Score a million rows: share of a plain GEMM's multiply-adds per second, peak memory."""
    _save("score", [row_score(100_000 if quick else 1_000_000, rounds=2 if quick else 5)])
    _report()


@app.command()
def fit(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    datasets: Annotated[str, typer.Option(help="Names, separated by commas.")] = ",".join(SETS),
    rounds: Annotated[int, typer.Option(help="Turns on each set.")] = 3,
    quick: Quick = False,
) -> None:
    """Time MPDR().fit against pyod's AutoEncoder().fit on ADBench's training parts."""
    compute = partial(_fit, data_home=data_home, rounds=1 if quick else rounds)
    cells = [(name,) for name in datasets.split(",")]
    run_cells(compute, cells, _SECTIONS["fit"].file("fit"))
    _report()


def _fit(name: str, *, data_home: Path | None, rounds: int) -> list[dict[str, Any]]:
    from pyod.models.auto_encoder import AutoEncoder

    X, y = fetch_adbench(name, data_home=data_home, return_X_y=True)
    X = make_split(X, y, protocol="clean", seed=1).X_train
    cases = {
        "MPDR": lambda: MPDR(random_state=1).fit(X),
        "pyod AutoEncoder": lambda: AutoEncoder(verbose=0, random_state=1).fit(X),
    }
    with threadpool_limits(1):
        seconds = interleaved(cases, rounds=rounds)
    row: dict[str, Any] = {"rows": len(X), "columns": X.shape[1]}
    row |= {f"{case} (s)": seconds[case].median() for case in cases}
    row["ratio"] = (seconds["MPDR"] / seconds["pyod AutoEncoder"]).median()
    return [row | origin()]


@app.command()
def detectors(
    only: Annotated[str, typer.Option(help="Some of them; rows of others stay.")] = "",
    quick: Quick = False,
) -> None:
    """Time fit and score of every public detector on random rows, beside the autoencoder's."""
    X = np.random.RandomState(0).standard_normal((5000, 21))
    chosen = [*only.split(","), "Autoencoder"] if only else skgenad.__all__
    classes = {
        name: cls
        for name in chosen
        if isinstance(cls := getattr(skgenad, name), type) and hasattr(cls, "score_samples")
    }
    fitted = {name: cls(random_state=0).fit(X) for name, cls in classes.items()}
    rounds = 1 if quick else 5
    fits = interleaved(
        {name: lambda c=cls: c(random_state=0).fit(X) for name, cls in classes.items()},
        rounds=rounds,
    )
    scores = interleaved(
        {name: lambda d=detector: d.score_samples(X) for name, detector in fitted.items()},
        rounds=3 * rounds,
    )
    _save(
        "detectors",
        [
            {
                "detector": name,
                "fit (s)": fits[name].median(),
                "fit / Autoencoder": (fits[name] / fits["Autoencoder"]).median(),
                "score (us a row)": 1e6 * scores[name].median() / len(X),
            }
            for name in classes
            if not only or name != "Autoencoder"
        ],
        keep=bool(only),
    )
    _report()


@app.command()
def requests(
    against: Annotated[Path | None, typer.Option(help="Another checkout to compare with.")] = None,
    quick: Quick = False,
) -> None:
    """Time requests of all sizes to every public detector, and to those of another checkout."""
    _save("requests", request_rows(_names(), rounds=1 if quick else 3, against=against))
    _report()


@app.command()
def fits(
    against: Annotated[Path, typer.Option(help="Another checkout to compare with.")],
    quick: Quick = False,
) -> None:
    """Time fits of all public detectors of one model, in turns with those of another checkout."""
    _save("fits", fit_rows(_names(), rounds=1 if quick else 3, against=against))
    _report()


def _names() -> list[str]:
    """List the public detectors of one model that need no parameter."""
    return [
        name
        for name in skgenad.__all__
        if isinstance(cls := getattr(skgenad, name), type)
        and issubclass(cls, BaseGenerativeDetector)
    ]


@app.command()
def flows(quick: Quick = False) -> None:
    """Time one step of Glow against the same architecture in normflows."""
    rounds, n_steps = (2, 1) if quick else (11, 2)
    rows = []
    for shape, steps, hidden, batch_size in (
        ((1, 32, 32), 8, 32, 64),
        ((1, 32, 32), 4, 64, 32),
        ((3, 32, 32), 4, 128, 32),
        ((3, 32, 32), 1, 512, 16),
    ):
        torch.manual_seed(0)
        x = torch.rand(4 * batch_size, int(np.prod(shape)))
        settings = {"n_scales": 3, "n_couplings": steps, "hidden": hidden, "batch_size": batch_size}
        ours = FlowStep(x, shape, **settings)
        theirs = NormflowsStep(ours)
        cases = {"skgenad": ours, "normflows": theirs}
        seconds = interleaved(
            {name: lambda model=model: model.run(n_steps) for name, model in cases.items()},
            rounds=rounds,
        )
        seconds /= n_steps
        rows.append(
            {
                "image": " x ".join(map(str, shape)),
                "steps of each scale": steps,
                "width": hidden,
                "batch": batch_size,
                "parameters": ours.n_parameters,
                "of normflows": theirs.n_parameters,
                "skgenad (ms)": 1e3 * seconds["skgenad"].median(),
                "normflows (ms)": 1e3 * seconds["normflows"].median(),
                "normflows / skgenad": (seconds["normflows"] / seconds["skgenad"]).median(),
            }
        )
    _save("flows", rows)
    _report()


@app.command()
def conv(quick: Quick = False) -> None:
    """Time one MPDR-R step on MNIST's architecture against the plain one; score images."""
    rounds = 2 if quick else 7
    torch.manual_seed(0)
    ours = ConvStep(torch.rand(128, 1, 28, 28))
    with MultiplyAdds() as counted:
        ours.step()
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    n_products = 20
    cases = {
        "plain: channels first, backward() in chains": PlainConvStep(ours).step,
        "skgenad": ours.step,
        "gemm": lambda: [a @ b for _ in range(n_products)],
    }
    seconds = interleaved(cases, rounds=rounds)
    rate = n_products * 1024**3 / seconds.pop("gemm")
    _save(
        "conv",
        [
            {
                "step": name,
                "s": seconds[name].median(),
                "times skgenad": (seconds[name] / seconds["skgenad"]).median(),
                "multiply-adds (1e9)": counted.total / 1e9,
                "GEMM rate (1e9 multiply-adds/s)": rate.median() / 1e9,
                "share of that rate": (counted.total / seconds[name] / rate).median(),
            }
            for name in seconds
        ],
    )
    _save("conv_score", [image_score(10_000 if quick else 100_000)])
    _report()


@app.command()
def report() -> None:
    """Write the tables anew from the stored rows."""
    _report()


def _report() -> None:
    write_report(_SECTIONS)


@app.callback()
def one_thread() -> None:
    """Measure what code costs: one thread."""
    torch.set_num_threads(1)


if __name__ == "__main__":
    app()
