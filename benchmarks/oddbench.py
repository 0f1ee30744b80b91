"""Detectors on OddBench's tables with their fixed splits: the run and its tables.

    python benchmarks/oddbench.py run --data-home DIR      # hours on 2 cores; resumable
    python benchmarks/oddbench.py tables                   # a minute; writes results/oddbench.md

`DIR` holds OddBench's files as ``oddbench/*.npz`` (without it they are downloaded). Every cell is
one row of ``results/oddbench/rows.csv``; killed and started again, the run goes on.

Choices were made on the forty tables of ``tuning_tables.json``, so the tables show those and the
other sixty apart: only the others say what to expect on new data.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from _small_print import small_print
from _tables import is_tuned, known, section, tuned_on

from skgenad.benchmark import (
    Comparison,
    open_suite,
    plot_critical_differences,
    read_rows,
    run_benchmark,
)

# Quick ones first, so that a run that is cut short has whole columns.
DETECTORS = (
    *("kNN-z", "KNN", "IForest", "OCSVM", "LOF", "ECOD", "Mahalanobis"),
    *("Neighbors", "KernelDenoiser", "LocalGaussian", "Committee"),
    *("AE", "MPDR-R", "pyod-AE", "CANCE", "NAE", "LUNAR", "Glow"),
)
# These take long, or are parts of others, and run with the first seed only. Splits are fixed: for
# detectors without chance a seed only chooses among more than 10,000 training rows.
SLOW = (
    *("Glow", "NAE", "CANCE", "pyod-AE", "LUNAR"),
    *("AE", "Mahalanobis", "Neighbors", "KernelDenoiser", "LocalGaussian"),
)
SEEDS = (1, 2, 3)
RESULTS = Path(__file__).parent / "results" / "oddbench"

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    data_home: Annotated[Path | None, typer.Option(help="Folder with OddBench's files.")] = None,
    detectors: Annotated[str, typer.Option(help="Some of them.")] = ",".join(DETECTORS),
    datasets: Annotated[str | None, typer.Option(help="Some tables; by default all.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells at a time.")] = 2,
    time_limit: Annotated[float, typer.Option(help="Seconds for a cell.")] = 600,
    out: Annotated[Path, typer.Option(help="Where rows are kept.")] = RESULTS,
) -> None:
    """Compute what is missing of the results, detector by detector."""
    tables = None if datasets is None else datasets.split(",")
    suite = open_suite("oddbench", tables, data_home=data_home)
    for name in known(detectors.split(",")):
        run_benchmark(
            suite,
            [name],
            seeds=SEEDS[:1] if name in SLOW else SEEDS,
            jobs=jobs,
            time_limit=time_limit,
            out=out,
        )


@app.command()
def tables(
    out: Annotated[Path, typer.Option(help="Where rows are kept.")] = RESULTS,
) -> None:
    """Write the tables and a diagram from the rows that are there."""
    rows = read_rows(out / "rows.csv")
    tuned = is_tuned(rows, "oddbench")
    text = [
        "# OddBench, tables",
        f"`python benchmarks/oddbench.py run` and `tables`, {date.today()}, 2 shared cores, one "
        f"thread a cell, {rows['versions'].iloc[0]}. Protocol `fixed`: the splits that come with "
        "the data, at most 10,000 training rows, columns standardised on them. Cells over the "
        "time limit are failures, rank last and count as chance in means.",
        f"Choices were made on {', '.join(tuned_on('oddbench'))}, with their test labels. Only the "
        "other tables say what to expect on new data.",
    ]
    for title, part in (
        ("Tables not tuned on", rows[~tuned]),
        ("Tables tuned on", rows[tuned]),
        ("All tables", rows),
    ):
        if len(part):
            text += section(title, part, SLOW)
    text += small_print("oddbench", rows)
    path = out.parent / f"{out.name}.md"
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    _diagram(rows[~tuned], out)
    typer.echo(f"wrote {path}")


def _diagram(rows: pd.DataFrame, out: Path) -> None:
    """Critical-difference diagram of all detectors, first seed."""
    comparison = Comparison(rows[rows["seed"] == SEEDS[0]])
    n_tables = len(comparison.scores.values)
    title = f"OddBench, {n_tables} tables not tuned on, seed {SEEDS[0]}"
    if min(comparison.scores.values.shape) > 1:
        plot_critical_differences(comparison, out / "ranks", title=title)


if __name__ == "__main__":
    app()
