"""Results that a killed run goes on from: a line of a CSV file for every cell that was computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _measure import machine
from joblib import Parallel, delayed
from scipy import stats
from threadpoolctl import threadpool_limits
from tqdm import tqdm

Cell = tuple[Any, ...]


class Rows:
    """The rows of one benchmark.

    Parameters
    ----------
    name : str
        Name of the folder below ``results`` for ``rows.csv``, and of the report beside it.
    key : tuple of str
        Columns that tell one cell from another, in the order of a cell's values.
    """

    def __init__(self, name: str, key: tuple[str, ...]) -> None:
        self.folder = Path(__file__).parent / "results" / name
        self.key = list(key)

    @property
    def path(self) -> Path:
        """The file of the rows."""
        return self.folder / "rows.csv"

    def read(self) -> pd.DataFrame:
        """Rows computed so far."""
        return pd.read_csv(self.path) if self.path.exists() else pd.DataFrame(columns=self.key)

    def run(
        self, cells: Iterable[Cell], compute: Callable[..., list[dict[str, Any]]], jobs: int
    ) -> None:
        """Compute the cells that are missing, `jobs` at a time, each on one thread.

        `compute` is given a cell's values and returns rows, which need not repeat them.
        """
        done = set(self.read()[self.key].astype(str).itertuples(index=False, name=None))
        todo = [cell for cell in cells if tuple(map(str, cell)) not in done]
        self.folder.mkdir(parents=True, exist_ok=True)
        results = Parallel(jobs, return_as="generator_unordered")(
            delayed(_one_thread)(compute, cell) for cell in todo
        )
        for cell, rows in tqdm(results, total=len(todo)):
            of_cell = dict(zip(self.key, cell, strict=True))
            self._append([{**of_cell, **row} for row in rows])

    def _append(self, rows: list[dict[str, Any]]) -> None:
        """Add rows; the file is replaced as a whole, so that a kill tears no line."""
        new = pd.DataFrame(rows)
        if self.path.exists():
            new = pd.concat([pd.read_csv(self.path), new], ignore_index=True)
        part = self.path.with_suffix(".part")
        new.to_csv(part, index=False, float_format="%.6g")
        part.replace(self.path)

    def report(self, text: Iterable[str]) -> Path:
        """Write the paragraphs of the report beside the folder, and return its path."""
        path = self.folder.with_suffix(".md")
        path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
        return path

    def origin(self, script: str) -> str:
        """Say by which commands, when and on what the rows were computed."""
        rows = self.read()
        days = " to ".join(sorted({rows["date"].min(), rows["date"].max()}))
        machines = "; ".join(dict.fromkeys(rows["machine"]))
        return f"`python benchmarks/{script} run` and `tables`, {days}. {machines}."


def _one_thread(compute: Callable[..., list[dict[str, Any]]], cell: Cell) -> tuple[Cell, list]:
    with threadpool_limits(1):
        origin = {"machine": machine(), "date": str(date.today())}
        return cell, [{**row, **origin} for row in compute(*cell)]


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
