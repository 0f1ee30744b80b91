"""The rows of `run_benchmark`: the columns of its file of results, and reading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .store import ResultsFile

COLUMNS: dict[str, type] = {
    "suite": str,
    "dataset": str,
    "protocol": str,
    "contaminate": float,
    "seed": int,
    "detector": str,
    "status": str,
    "auroc": float,
    "average_precision": float,
    "fit_seconds": float,
    "score_seconds": float,
    "peak_memory_mb": float,
    "n_train": int,
    "n_train_anomalies": int,
    "n_test": int,
    "n_test_anomalies": int,
    "n_features": int,
    "message": str,
    "settings": str,
    "versions": str,
}
KEY = ("suite", "dataset", "protocol", "contaminate", "seed", "detector")
STATUSES = ("ok", "failed", "timeout")


def benchmark_file(path: str | os.PathLike[str]) -> ResultsFile:
    """Return the file of results of `run_benchmark`; a folder means its ``rows.csv``."""
    path = Path(path)
    if path.suffix != ".csv" and not path.is_file():
        path = path / "rows.csv"
    return ResultsFile(path, key=KEY, columns=COLUMNS, check=_check, is_void=was_not_read)


def was_not_read(row: Mapping[str, Any]) -> bool:
    """Whether a row is of a data set that could not be read or split: nothing was fitted."""
    return row["status"] == "failed" and row["n_features"] == 0


def _check(row: Mapping[str, Any]) -> None:
    if row["status"] not in STATUSES:
        raise ValueError(f"status is {row['status']!r}, not one of {', '.join(STATUSES)}")
    if row["status"] == "ok" and not 0 <= row["auroc"] <= 1:
        raise ValueError(f"auroc is {row['auroc']!r}, not between 0 and 1")


def read_rows(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a file of results, and refuse it when a line of it is damaged.

    Parameters
    ----------
    path : path-like
        A CSV file that `run_benchmark` wrote, or the folder with its ``rows.csv``.

    Returns
    -------
    rows : DataFrame
        One row per cell. A last line without its end, as a killed run leaves it, is left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ResultsFileError
        If a line is not a row; file and line number are in the message.

    Examples
    --------
    >>> from skgenad.benchmark import read_rows
    >>> read_rows("missing.csv")
    Traceback (most recent call last):
        ...
    FileNotFoundError: [Errno 2] No such file or directory: 'missing.csv'
    """
    return benchmark_file(path).read()
