"""How many components Gaussian mixtures should have, on the tables that choices are made on.

    python benchmarks/mixtures.py run --data-home DIR [--only "20 and 40;1"]  # half an hour
    python benchmarks/mixtures.py cost                            # minutes
    python benchmarks/mixtures.py tables                          # writes results/mixtures.md

`DIR` holds ADBench's files as ``adbench/Classical/*.npz`` and OddBench's as ``oddbench/*.npz``. The
tables are those of ``tuning_tables.json``: ADBench's by the protocol `clean`, seed 1, OddBench's by
their own splits. Seeds are those of the detector.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import origin_of, results_file, stamped, write_paragraphs
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skgenad import GaussianMixtures, Mahalanobis
from skgenad.benchmark import make_split, run_cells
from skgenad.benchmark._detectors import ALL_ROWS, DETECTORS
from skgenad.benchmark._markdown import table

ROWS = results_file(
    "mixtures",
    key=("variant", "table", "seed", "score"),
    columns={
        "variant": str,
        "table": str,
        "seed": int,
        "score": str,
        "n": int,
        "d": int,
        "auroc": float,
        "ap": float,
        "fit_seconds": float,
        "score_seconds": float,
        "converged": float,
    },
)
TABLES: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("tuning_tables.json").read_text(encoding="utf-8")
)
VARIANTS: dict[str, Any] = {
    "1": partial(GaussianMixtures, n_components=1),
    "6": partial(GaussianMixtures, n_components=6),
    "20": partial(GaussianMixtures, n_components=20),
    "40": partial(GaussianMixtures, n_components=40),
    "1, 3 and 6": partial(GaussianMixtures, n_components=(1, 3, 6)),
    "20 and 40": partial(GaussianMixtures, n_components=(20, 40)),
    "20 and 40, 0.001": partial(GaussianMixtures, n_components=(20, 40), regularization=0.001),
    "20 and 40, 0.1": partial(GaussianMixtures, n_components=(20, 40), regularization=0.1),
    "20 and 40, 10000 rows": partial(GaussianMixtures, n_components=(20, 40), max_rows=10_000),
    "20 and 40, 30 steps": partial(GaussianMixtures, n_components=(20, 40), max_iter=30),
    "Mahalanobis": Mahalanobis,
    "kNN-z": lambda random_state: make_pipeline(StandardScaler(), DETECTORS["kNN-z"](random_state)),
    "80": partial(GaussianMixtures, n_components=80),
}
COST = results_file(
    "mixtures_cost",
    key=("rows", "columns", "components"),
    columns={
        "rows": int,
        "columns": int,
        "components": str,
        "fit_seconds": float,
        "rows_per_second": float,
        "peak_mb": float,
    },
)
COST_CELLS = [
    *((10_000, 21, "10"), (10_000, 21, "1, 3 and 6"), (10_000, 21, "20 and 40")),
    *((1_000_000, 21, "20 and 40"), (10_000, 100, "20 and 40"), (10_000, 1000, "20 and 40")),
]
BASE = "20 and 40"
SEEDS = (1, 2)
# Without chance, or costly.
ONCE = ("1", "80", "Mahalanobis", "kNN-z")
app = typer.Typer(add_completion=False, help=__doc__)


def _load(name: str, home: Path) -> tuple[NDArray, NDArray, NDArray]:
    """Training rows, test rows and labels of the test rows."""
    suite, short = name.split("/")
    if suite == "adbench":
        (path,) = (home / "adbench" / "Classical").glob(f"*_{short}.npz")
        with np.load(path, allow_pickle=True) as file:
            split = make_split(file["X"], file["y"], protocol="clean", seed=1)
        return split.X_train, split.X_test, split.y_test
    with np.load(home / "oddbench" / f"{short}.npz") as file:
        return file["train"].astype(float), file["test"].astype(float), file["test_labels"]


def _compute(variant: str, name: str, seed: int, *, home: Path) -> list[dict[str, Any]]:
    train, test, y = _load(name, home)
    detector = VARIANTS[variant](random_state=seed)
    if variant != "kNN-z":
        detector.set_params(**ALL_ROWS)
    times = [time.process_time()]
    detector.fit(train)
    times.append(time.process_time())
    energies = {"density": -detector.score_samples(test)}
    times.append(time.process_time())
    if variant in ("1, 3 and 6", BASE):
        # The mean of the logarithms, in place of the logarithm of the mean.
        values = detector._by_chunks(test, lambda x: detector.module_.log_probs(x).mean(dim=1))
        energies["mean log density"] = -values
    row = {
        "variant": variant,
        "table": name,
        "seed": seed,
        "n": len(train),
        "d": train.shape[1],
        "fit_seconds": times[1] - times[0],
        "score_seconds": times[2] - times[1],
        "converged": float(np.mean(getattr(detector, "converged_", np.nan))),
    }
    return [
        {
            **row,
            "score": score,
            "auroc": roc_auc_score(y, values),
            "ap": average_precision_score(y, values),
        }
        for score, values in energies.items()
    ]


@app.command()
def run(
    data_home: Annotated[Path, typer.Option(help="Folder with adbench/ and oddbench/.")],
    only: Annotated[str, typer.Option(help="Variants, separated by semicolons.")] = "",
) -> None:
    """Compute what is missing."""
    chosen = only.split(";") if only else list(VARIANTS)
    names = [f"{suite}/{name}" for suite, found in TABLES.items() for name in found]
    pairs = [(v, seed) for seed in SEEDS for v in chosen if seed == SEEDS[0] or v not in ONCE]
    cells = [(v, name, seed) for v, seed in pairs for name in names]
    run_cells(partial(stamped, partial(_compute, home=data_home)), cells, ROWS)


def _cost_of(n: int, d: int, components: str) -> list[dict[str, Any]]:
    """Measure a fit and a score in a process of its own."""
    command = [sys.executable, __file__, "one", str(n), str(d), components]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [{"rows": n, "columns": d, "components": components, **json.loads(done.stdout)}]


@app.command()
def one(n: int, d: int, components: str) -> None:
    """Measure one case: CPU seconds, and memory above the input."""
    rng = np.random.RandomState(0)
    sizes = tuple(int(size) for size in re.findall("[0-9]+", components))
    with threadpool_limits(1):
        rows = rng.randn(n, d)
        GaussianMixtures(n_components=2, random_state=0).fit(rows[:100])  # imports, buffers
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = [time.process_time()]
        detector = GaussianMixtures(n_components=sizes, random_state=0, **ALL_ROWS).fit(rows)
        times.append(time.process_time())
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        part = rows[:100_000]
        start = time.process_time()
        detector.score_samples(part)
        rate = len(part) / (time.process_time() - start)
    found = {"fit_seconds": times[1] - times[0], "rows_per_second": rate}
    typer.echo(json.dumps({**found, "peak_mb": (after - before) / 1024}))


@app.command()
def cost() -> None:
    """Measure what fits and scores cost."""
    run_cells(partial(stamped, _cost_of), COST_CELLS, COST)


def _line(label: str, means: pd.DataFrame, base: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    cells = [label]
    for suite in TABLES:
        ours = means[means.index.str.startswith(suite)]
        gain = (ours["auroc"] - base["auroc"].reindex(ours.index)).dropna()
        won, lost = int((gain > 1e-6).sum()), int((gain < -1e-6).sum())
        p = f"{stats.wilcoxon(gain).pvalue:.3f}" if won + lost else ""
        cells += [f"{ours['auroc'].mean():.4f}", f"{ours['ap'].mean():.4f}", f"{won}/{lost}", p]
    seconds = rows["fit_seconds"]
    return [*cells, f"{seconds.mean():.2f}", f"{seconds.max():.1f}"]


@app.command()
def tables() -> None:
    """Write the report."""
    rows = ROWS.read()
    means = {
        key: group.groupby("table")[["auroc", "ap"]].mean()
        for key, group in rows.groupby(["variant", "score"])
    }
    base = means[BASE, "density"]
    lines = []
    for variant in VARIANTS:
        for score in ("density", "mean log density"):
            if (variant, score) in means:
                own = rows[(rows["variant"] == variant) & (rows["score"] == score)]
                label = variant if score == "density" else f"{variant}: {score}"
                lines.append(_line(label, means[variant, score], base, own))
    header = ["components"]
    for suite in ("ADBench", "OddBench"):
        header += [f"{suite} AUROC", "AP", "won/lost", "p"]
    text = [
        "# Gaussian mixtures of several sizes",
        f"Tables that choices are made on, {len(TABLES['adbench'])} of ADBench and "
        f"{len(TABLES['oddbench'])} of OddBench; means of {len(SEEDS)} seeds, but for "
        f"{', '.join(ONCE)}. Tables won and lost, "
        f'and p (Wilcoxon), are against "{BASE}", by AUROC. Seconds of a fit: mean and most, one '
        "thread.",
        table([*header, "fit s", "most"], lines),
        origin_of(rows, "mixtures.py"),
    ]
    costs = COST.read()
    if len(costs):
        cells = [
            [
                f"{line.rows:,}",
                line.columns,
                line.components,
                f"{line.fit_seconds:.1f}",
                f"{line.rows_per_second:,.0f}",
                f"{line.peak_mb:,.0f}",
            ]
            for line in costs.itertuples()
        ]
        header = ["rows", "columns", "components", "fit s", "rows scored a second"]
        text += [
            "## Cost",
            "Normal rows, CPU seconds of one thread; a fit includes the threshold, for which all "
            "rows are scored. Memory: growth of the peak over a fit of 100 rows.",
            table([*header, "peak MB above the input"], cells),
            origin_of(costs, "mixtures.py").replace("run", "cost"),
        ]
    typer.echo(write_paragraphs(ROWS, text))


if __name__ == "__main__":
    app()
