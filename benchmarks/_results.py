"""What scripts share that keep their results: the files, where rows come from, and the reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _measure import machine
from _small_print import small_print
from scipy import stats
from threadpoolctl import threadpool_limits

from skgenad.benchmark import ResultsFile

FOLDER = Path(__file__).parent / "results"
# What every row says about its origin.
ORIGIN: dict[str, type] = {"machine": str, "date": str}


def results_file(
    name: str, *, key: Sequence[str], columns: Mapping[str, type], folder: Path = FOLDER
) -> ResultsFile:
    """Return the file of a script, ``results/NAME/rows.csv``, whose rows end with their origin."""
    return ResultsFile(folder / name / "rows.csv", key=key, columns={**columns, **ORIGIN})


def stamped(
    compute: Callable[..., Iterable[dict[str, Any]]], *cell: Any, threads: int | None = 1
) -> list[dict[str, Any]]:
    """Compute a cell on so many threads (None: as many as there are); add the rows' origin."""
    with threadpool_limits(threads):
        origin = {"machine": machine(), "date": date.today().isoformat()}
        return [{**row, **origin} for row in compute(*cell)]


def write_paragraphs(file: ResultsFile, text: Iterable[str]) -> Path:
    """Write the report beside the folder of a file, its small print last; return its path."""
    path = file.path.parent.with_suffix(".md")
    parts = [*text, *small_print(path.stem, file.read())]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def origin_of(rows: pd.DataFrame, script: str) -> str:
    """Say by which commands, when and on what rows were computed."""
    days = " to ".join(sorted({rows["date"].min(), rows["date"].max()}))
    machines = "; ".join(dict.fromkeys(rows["machine"]))
    return f"`python benchmarks/{script} run` and `tables`, {days}. {machines}."


def interval(values: pd.Series) -> str:
    """Mean and its 95 % t-interval; the mean alone of fewer than 2 values."""
    values = values.dropna()
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


def mean_sd(values: pd.Series) -> str:
    """Mean and, of 2 values or more, their standard deviation."""
    values = values.dropna()
    if not len(values):
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"
