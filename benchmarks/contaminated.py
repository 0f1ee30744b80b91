"""Training on rows that are not all normal: ADBench with anomalies left in, and without labels.

    python benchmarks/contaminated.py run --data-home DIR    # an hour on 2 cores; resumable
    python benchmarks/contaminated.py tables             # seconds; writes results/contaminated.md

Two questions. Anomalies left in: 5 % and 10 % of the training rows are anomalies, as far as a set
has them, on the sets and splits of ``adbench.py``, protocol ``clean``. All rows: a detector is
fitted on all rows of a set, unlabelled, and scores these same rows, as they are.

The ten sets of the second question are those with the fewest columns among the sets of
``adbench.py`` that have 500 rows or more and were not tuned on. (At most 10,000 rows, as was meant
at first, only seven of these have.) Of larger ones each seed draws 10,000 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from _results import FOLDER, origin_of, results_file, stamped
from _small_print import small_print
from _tables import as_benchmark, is_tuned, known, section
from adbench import SETS

from skgenad.benchmark import ResultsFile, open_suite, read_rows, run_benchmark, run_cells
from skgenad.benchmark._cell import run_cell
from skgenad.benchmark._detectors import DETECTORS as MAKERS
from skgenad.benchmark._markdown import table
from skgenad.benchmark.protocols import MAX_ROWS
from skgenad.datasets import fetch_adbench

DETECTORS = ("kNN-z", "IForest", "Committee", "Committee-robust", "KernelDenoiser", "MPDR-R")
SHARES = (0.05, 0.1)
SEEDS = (1, 2, 3)
# It takes long, and runs with the first seed only.
SLOW = ("MPDR-R",)
WHOLE_SETS = (
    "16_http",
    "38_thyroid",
    "4_breastw",
    "32_shuttle",
    "10_cover",
    "11_donors",
    "28_pendigits",
    "1_ALOI",
    "30_satellite",
    "8_celeba",
)
REFERENCES: dict[str, Sequence[str]] = {
    "Committee-robust": ("IForest", "kNN-z", "MPDR-R", "Committee"),
    "Committee": ("IForest", "kNN-z", "MPDR-R", "KernelDenoiser"),
    "KernelDenoiser": ("IForest", "kNN-z"),
    "MPDR-R": ("IForest", "kNN-z"),
}
_COLUMNS: dict[str, type] = {
    "dataset": str,
    "seed": int,
    "detector": str,
    "n_test": int,
    "n_test_anomalies": int,
    "n_features": int,
    "auroc": float,
    "average_precision": float,
    "fit_seconds": float,
    "score_seconds": float,
    "peak_memory_mb": float,
    "message": str,
}

app = typer.Typer(add_completion=False, help=__doc__)
Out = Annotated[Path, typer.Option(help="Folder with the folders of rows.")]


def whole_sets_file(folder: Path = FOLDER) -> ResultsFile:
    """Return the file of the second question, ``all_rows/rows.csv``."""
    return results_file(
        "all_rows", key=("dataset", "seed", "detector"), columns=_COLUMNS, folder=folder
    )


def _compute(
    dataset: str, seed: int, detector: str, *, data_home: Path | None
) -> list[dict[str, Any]]:
    """Fit and score all rows of a set."""
    X, y = fetch_adbench(dataset, data_home=data_home, return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(y))[:MAX_ROWS]
    X, y = X[rows].astype(np.float64), y[rows]
    measured = run_cell(MAKERS[detector](seed), X, X, y)
    counts = {"n_test": len(y), "n_test_anomalies": int(y.sum()), "n_features": X.shape[1]}
    return [counts | {name: measured[name] for name in _COLUMNS if name in measured}]


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with ADBench's files.")] = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(DETECTORS),
    datasets: Annotated[str, typer.Option(help="Some of the sets.")] = ",".join(SETS),
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
    time_limit: Annotated[float, typer.Option(help="Seconds for a cell.")] = 300,
    out: Out = FOLDER,
) -> None:
    """Compute what is missing of the results, detector by detector."""
    sets = datasets.split(",")
    suite = open_suite("adbench", sets, data_home=data_home)
    compute = partial(stamped, partial(_compute, data_home=data_home))
    for name in known(detectors.split(",")):
        for share in SHARES:
            run_benchmark(
                suite,
                [name],
                protocol="clean",
                contaminate=share,
                seeds=SEEDS[:1] if name in SLOW else SEEDS,
                jobs=jobs,
                time_limit=time_limit,
                out=out / "contaminated",
            )
        whole = [s for s in WHOLE_SETS if s in sets]
        cells = [
            (dataset, seed, name)
            for dataset in whole
            for seed in (SEEDS[:1] if name in SLOW else SEEDS)
        ]
        if cells:
            run_cells(compute, cells, whole_sets_file(out), jobs=jobs)


# ---- tables --------------------------------------------------------------------------------------


@app.command()
def tables(out: Out = FOLDER) -> None:
    """Write the tables from the rows that are there."""
    rows = read_rows(out / "contaminated" / "rows.csv")
    whole = whole_sets_file(out).read()
    text = [
        "# Training on rows that are not all normal",
        f"{origin_of(whole, 'contaminated.py')} One thread a cell. {rows['versions'].iloc[0]}.",
        "## Anomalies left in training",
        "ADBench, protocol `clean`. " + _short_of(rows),
        "Mean AUROC by the share of anomalies in training, sets not tuned on:",
        _by_share(pd.concat([_uncontaminated(out), rows])),
    ]
    for share, part in rows.groupby("contaminate"):
        tuned = is_tuned(part, "adbench")
        text.append(f"## {100 * share:g} % anomalies in training")
        for title, some in (("Sets not tuned on", part[~tuned]), ("Sets tuned on", part[tuned])):
            if len(some):
                text += section(title, some, SLOW, REFERENCES)
    text.append("## All rows train and are scored, none is labelled")
    text += section(
        "Sets not tuned on",
        as_benchmark(whole, suite="adbench", protocol="all rows"),
        SLOW,
        REFERENCES,
    )
    text += small_print("contaminated", rows)
    path = out / "contaminated.md"
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    typer.echo(f"wrote {path}")


def _uncontaminated(out: Path) -> pd.DataFrame:
    """Rows of the same detectors and splits without anomalies in training, if there are any."""
    path = out / "adbench" / "rows.csv"
    if not path.exists():
        return pd.DataFrame()
    rows = read_rows(path)
    return rows[
        (rows["protocol"] == "clean")
        & (rows["contaminate"] == 0)
        & rows["detector"].isin(DETECTORS)
        & rows["seed"].isin(SEEDS)
    ]


def _by_share(rows: pd.DataFrame) -> str:
    """Mean AUROC of each detector for each share, on the sets that have rows of all shares."""
    rows = rows[~is_tuned(rows, "adbench")]
    wide = rows.assign(auroc=rows["auroc"].fillna(0.5)).pivot_table(
        index="dataset", columns=["detector", "contaminate"], values="auroc"
    )
    means = wide.dropna().mean().unstack("contaminate")
    return table(
        ["detector", *(f"{100 * share:g} %" for share in means.columns)],
        [[name, *(f"{value:.4f}" for value in line)] for name, line in means.iterrows()],
    )


def _short_of(rows: pd.DataFrame) -> str:
    """Name the sets that have fewer anomalies than were asked for."""
    share = rows["n_train_anomalies"] / rows["n_train"].clip(lower=1)
    less = rows[share < 0.95 * rows["contaminate"]]
    if less.empty:
        return "Every set has the anomalies that were asked for."
    named = less.groupby("contaminate")["dataset"].unique()
    lists = (f"{', '.join(sets)} ({100 * asked:g} %)" for asked, sets in named.items())
    return f"Fewer anomalies than asked for, because there are no more: {'; '.join(lists)}."


if __name__ == "__main__":
    app()
