"""Energies that begin at a kernel estimate and learn the rest, on the tables choices are made on.

    python benchmarks/kernel_base.py run --data-home DIR [--only B,C] [--scores DIR]  # an hour
    python benchmarks/kernel_base.py tables       # seconds; writes results/kernel_base.md

`DIR` holds ADBench's files as ``adbench/Classical/*.npz`` and OddBench's as ``oddbench/*.npz``. The
tables are those of ``tuning_tables.json``: ADBench's by the protocol `clean`, seed 1, OddBench's by
their own splits, at most 10,000 rows in training; columns in standard units of the training rows.
`--scores` keeps energies of test and training rows, the latter left out of kernels and distances.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _kernel_base import Contrast, kernel_mpdr
from _results import origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skgenad import MPDR
from skgenad.benchmark import make_split, run_cells
from skgenad.benchmark._detectors import ALL_ROWS
from skgenad.benchmark._markdown import table
from skgenad.neighbors.kernel_denoiser import KernelDenoiser

ROWS = results_file(
    "kernel_base",
    key=("variant", "table", "score"),
    columns={
        "variant": str,
        "table": str,
        "score": str,
        "auroc": float,
        "ap": float,
        "fit_seconds": float,
        "gain": float,
        "gain_error": float,
    },
)
TABLES: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("tuning_tables.json").read_text(encoding="utf-8")
)
_MOST, _SEED = 10_000, 1
_WHAT = [
    "B rho 1: MPDR, 200 steps, whose energy is |x − NW_h(x) + h u(x) / (1 + |u(x)|)|² / D with u = "
    "0 at the start, h that of the kernel denoiser, training rows left out of their own means. "
    "`kernel, one width` is its control, rho = 0; `kernel` averages tails at h / 2, h and 2 h.",
    "C: log p_n plus the logit of a network that tells training rows from draws of p_n, 600 steps, "
    "the best of 12 states by the held-out loss. Its features are log distances, residuals and "
    "densities of the row among 2,000 anchors, itself left out, and the row; with `local` also a "
    "Mahalanobis distance to 25 neighbours and a ratio of distances. p_n is a kernel density of "
    "the width h or 2 h, or of both h and 3 h, or a mean of Gaussian mixtures of 1, 3 and 6 "
    "components; the likeliest width is no choice, since it falls to nothing where rows are "
    "copied. `base` is log p_n alone, `full` has the logit, `gated` has it where the held-out loss "
    "is below the base's by more than a standard error.",
    "Training improves every p_n: C is ahead of its base, and on kernel densities of kNN. B is not "
    "ahead of its control. Neither is ahead of the kernel denoiser by more than chance, at several "
    "times its cost: the package has neither.",
    "Cells of a difference: mean, tables won / lost, Wilcoxon's p. Seconds are those of one core.",
]
# Maps rows to their energies by name.
Scorer = Callable[[NDArray], dict[str, NDArray]]
app = typer.Typer(add_completion=False, help=__doc__)


# ---- variants: fit to rows in standard units, return what scores, and the held-out gain --------


def _knn(X: NDArray) -> tuple[Scorer, float, float]:
    trees = NearestNeighbors(n_neighbors=5).fit(X)
    return lambda rows: {"energy": trees.kneighbors(rows)[0].mean(axis=1)}, np.nan, np.nan


def _detector(X: NDArray, *, make: Callable[[], Any]) -> tuple[Scorer, float, float]:
    detector = make().fit(X)
    return lambda rows: {"energy": -detector.score_samples(rows)}, np.nan, np.nan


def _mpdr(X: NDArray) -> tuple[Scorer, float, float]:
    detector = MPDR(standardize=False, random_state=_SEED, **ALL_ROWS).fit(X)
    return (
        lambda rows: {
            "energy": detector._energies(np.asarray(rows, np.float32)),
            "combined": -detector.score_samples(rows),
        },
        np.nan,
        np.nan,
    )


def _kernel_mpdr(X: NDArray, **parameters: Any) -> tuple[Scorer, float, float]:
    detector = kernel_mpdr(X, _SEED, **parameters)
    return lambda rows: {"energy": -detector.score_samples(rows)}, np.nan, np.nan


def _contrast(X: NDArray, **parameters: Any) -> tuple[Scorer, float, float]:
    contrast = Contrast(X, _SEED, **parameters)
    return contrast.energies, contrast.gain, contrast.error


def _made(kind: Any, **parameters: Any) -> Callable[..., Any]:
    return partial(_detector, make=partial(kind, random_state=_SEED, **{**ALL_ROWS, **parameters}))


VARIANTS: dict[str, Callable[..., tuple[Scorer, float, float]]] = {
    "kNN-z": _knn,
    "kernel": _made(KernelDenoiser, standardize=False),
    "kernel, one width": _made(KernelDenoiser, standardize=False, factors=(1.0,)),
    "MPDR": _mpdr,
    "B rho 1": partial(_kernel_mpdr, rho=1.0, max_steps=200),
    "C kernel h": partial(_contrast, factors=(1.0,)),
    "C kernel 2h": partial(_contrast, factors=(2.0,)),
    "C kernel h, 3h": partial(_contrast, factors=(1.0, 3.0)),
    "C kernel h, 3h, local": partial(_contrast, factors=(1.0, 3.0), local=True),
    "C mixture": partial(_contrast, noise="mixture"),
}

_CONTRASTS = [name for name in VARIANTS if name.startswith("C ")]


# ---- run --------------------------------------------------------------------------------------


def _load(name: str, home: Path) -> tuple[NDArray, NDArray, NDArray]:
    """Training and test rows in standard units, and labels of the test rows."""
    suite, short = name.split("/")
    if suite == "adbench":
        (path,) = (home / "adbench" / "Classical").glob(f"*_{short}.npz")
        with np.load(path, allow_pickle=True) as file:
            split = make_split(file["X"], file["y"], protocol="clean", seed=1)
        train, test, y = split.X_train, split.X_test, split.y_test
    else:
        with np.load(home / "oddbench" / f"{short}.npz") as file:
            train, test, y = file["train"], file["test"], file["test_labels"]
        train = np.asarray(train, float)
        if len(train) > _MOST:
            train = train[np.random.RandomState(1).choice(len(train), _MOST, replace=False)]
    spread = train.std(axis=0)
    spread[spread < 1e-12] = 1.0
    centre = train.mean(axis=0)
    return (train - centre) / spread, (test - centre) / spread, np.asarray(y, int)


def _compute(variant: str, name: str, *, home: Path, scores: Path | None) -> list[dict[str, Any]]:
    train, test, y = _load(name, home)
    start = time.process_time()
    scorer, gain, error = VARIANTS[variant](train)
    seconds = time.process_time() - start
    energies = scorer(test)
    if scores is not None:
        _keep(scores / variant / f"{name.replace('/', '_')}.npz", scorer, train, energies, y)
    return [
        {
            "variant": variant,
            "table": name,
            "score": kind,
            "auroc": roc_auc_score(y, energy),
            "ap": average_precision_score(y, energy),
            "fit_seconds": seconds,
            "gain": gain,
            "gain_error": error,
        }
        for kind, energy in energies.items()
    ]


def _keep(path: Path, scorer: Scorer, train: NDArray, test: dict[str, NDArray], y: NDArray) -> None:
    """Keep energies of test rows, and of training rows, each left out of what compares rows.

    The kernels, densities and distances leave a row out; the networks have seen it.
    """
    kind = "gated" if "gated" in test else "energy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, train_oos=scorer(train)[kind], test=test[kind], y=y)


def _names() -> Iterator[str]:
    return (f"{suite}/{name}" for suite, names in TABLES.items() for name in names)


@app.command()
def run(
    data_home: Annotated[Path, typer.Option(help="Folder with the data.")],
    only: Annotated[str, typer.Option(help="Some of the variants.")] = ";".join(VARIANTS),
    scores: Annotated[Path | None, typer.Option(help="Folder for energies.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 1,
) -> None:
    """Compute what is missing of the results."""
    compute = partial(stamped, partial(_compute, home=data_home, scores=scores))
    cells = ((variant, name) for variant in only.split(";") for name in _names())
    run_cells(compute, cells, ROWS, jobs=jobs)


# ---- tables -----------------------------------------------------------------------------------


@app.command()
def tables() -> None:
    """Write the report from the rows that are there."""
    rows = ROWS.read()
    label = rows["variant"].where(rows["score"] == "energy", rows["variant"] + ", " + rows["score"])
    rows = rows.assign(label=label, suite=rows["table"].str.split("/").str[0])
    text = ["# Energies on a kernel base", origin_of(rows, "kernel_base.py"), *_WHAT]
    for suite, part in (("ADBench", "adbench"), ("OddBench", "oddbench")):
        text += [f"## {suite}, tuning tables", _pairs(rows[rows["suite"] == part])]
    text += ["## Both", _pairs(rows), "## What training adds", _training(rows), _gates(rows)]
    typer.echo(f"wrote {write_paragraphs(ROWS, text)}")


def _training(rows: pd.DataFrame) -> str:
    """Write differences between what was trained and what it began at."""
    wide = {m: rows.pivot(index="table", columns="label", values=m) for m in ("auroc", "ap")}
    pairs = [("B rho 1", "kernel, one width"), ("B rho 1", "MPDR"), ("B rho 1", "MPDR, combined")]
    pairs += [(f"{v}, {kind}", f"{v}, base") for v in _CONTRASTS for kind in ("gated", "full")]
    lines = [
        [f"{one} − {other}", *(_paired(values[one] - values[other]) for values in wide.values())]
        for one, other in pairs
        if {one, other} <= set(wide["ap"].columns)
    ]
    return table(["difference", "AUROC", "AP"], lines)


def _gates(rows: pd.DataFrame) -> str:
    """Say how often the held-out loss kept the logit."""
    gated = rows[rows["score"] == "gated"]
    kept = (gated["gain"] > gated["gain_error"]).groupby(gated["variant"], sort=False)
    counts = ", ".join(f"{name}: {one.sum()} of {len(one)}" for name, one in kept)
    return f"Tables on which the gate kept the logit: {counts}."


def _pairs(rows: pd.DataFrame) -> str:
    """Write means, and differences to both references with won, lost and Wilcoxon's p."""
    wide = {m: rows.pivot(index="table", columns="label", values=m) for m in ("auroc", "ap")}
    seconds = rows.groupby("label")["fit_seconds"].mean()
    lines = []
    for label in dict.fromkeys(rows["label"]):
        line = [label, *(f"{wide[m][label].mean():.4f}" for m in wide), f"{seconds[label]:.1f}"]
        for reference in ("kernel", "kNN-z"):
            for values in wide.values():
                line.append(_paired(values[label] - values[reference]))
        lines.append(line)
    heads = [f"{m} − {r}" for r in ("kernel", "kNN-z") for m in ("AUROC", "AP")]
    return table(["score", "AUROC", "AP", "fit s", *heads], lines)


def _paired(gap: pd.Series) -> str:
    gap = gap.dropna()
    if not gap.any():
        return ""
    p = stats.wilcoxon(gap).pvalue
    won, lost = (gap > 0).sum(), (gap < 0).sum()
    return f"{gap.mean():+.4f}, {won}/{lost}, p {p:.3f}"


if __name__ == "__main__":
    app()
