"""The file of results: one line per cell, only ever appended to.

A line is written by one call and flushed to the disk before the next cell's, so a process that is
killed leaves at most one line without its end. That rest is moved to a file beside and its cell is
computed again. Anything else that does not read as a row is an error, and the file stays as it is.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

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


class ResultsFileError(ValueError):
    """A file of results holds something that is not a row; the message names file and line."""


def read_rows(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a file of results, and refuse it when a line of it is damaged.

    Parameters
    ----------
    path : path-like
        A CSV file that `run_benchmark` wrote.

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
    rows, _ = _parse(Path(path))
    return to_frame(rows)


def to_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a table with the columns of the file, also from no rows."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({name: kind for name, kind in COLUMNS.items() if kind is not str})


class ResultsFile:
    """The file of results of a running benchmark, locked against a second writer.

    Parameters
    ----------
    path : path-like
        Created with its folder when missing.

    Attributes
    ----------
    rows : list of dict
        Rows that were in the file when it was opened, and those appended since.
    moved : Path or None
        Where an unfinished last line was moved to.

    Raises
    ------
    ResultsFileError
        If a line of the file is not a row.
    RuntimeError
        If another process is writing to the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self.rows, end = _parse(self.path)
            self.moved = self._move_unfinished(end)
        except BaseException:
            os.close(self._file)
            raise
        if end == 0:
            self._write(list(COLUMNS))

    def _lock(self) -> None:
        # Not at the top: the module does not exist on Windows, where reports can still be made.
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another benchmark is writing to '{self.path}'; wait for it or choose another "
                "folder for the results"
            ) from None

    def _move_unfinished(self, end: int) -> Path | None:
        data = self.path.read_bytes()
        if len(data) == end:
            return None
        moved = self.path.with_name(self.path.name + ".unfinished")
        with open(moved, "ab") as file:
            file.write(data[end:] + b"\n")
        os.truncate(self._file, end)
        return moved

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and wait until it is on the disk."""
        fields = [_to_text(row[name]) for name in COLUMNS]
        self._write(fields)
        self.rows.append(_parse_row(fields))  # as a later run will read it

    def _write(self, fields: list[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(fields)
        data = line.getvalue().encode()
        while data:  # a signal can interrupt a write; the rest then follows
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)


def _to_text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    # One row is one line, whatever a message holds.
    return " ".join(str(value).replace("\0", " ").split())


def _parse(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the rows and the number of bytes up to the end of the last finished line."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    rows: list[dict[str, Any]] = []
    seen: dict[tuple[Any, ...], int] = {}
    for number, line in enumerate(data[:end].split(b"\n")[:-1], start=1):
        try:
            fields = next(csv.reader([line.decode()], strict=True), [])
            if number == 1:
                _check_header(fields)
                continue
            row = _parse_row(fields)
            first = seen.setdefault(tuple(row[name] for name in KEY), number)
            if first != number:
                raise ValueError(f"the same cell is already on line {first}")
        except (ValueError, csv.Error) as error:
            raise ResultsFileError(
                f"{path}:{number}: {error}; the file was left as it is: repair or remove the "
                "line, or write to another folder"
            ) from error
        rows.append(row)
    return rows, end


def _check_header(fields: list[str]) -> None:
    if fields != list(COLUMNS):
        raise ValueError(
            f"the header is not that of a file of results (expected {','.join(COLUMNS)})"
        )


def _parse_row(fields: list[str]) -> dict[str, Any]:
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(fields)} fields instead of {len(COLUMNS)}")
    row: dict[str, Any] = {}
    for (name, kind), text in zip(COLUMNS.items(), fields, strict=True):
        try:
            row[name] = math.nan if kind is float and not text else kind(text)
        except ValueError:
            raise ValueError(f"{name} is {text!r}, not {kind.__name__}") from None
    if row["status"] not in STATUSES:
        raise ValueError(f"status is {row['status']!r}, not one of {', '.join(STATUSES)}")
    if row["status"] == "ok" and not 0 <= row["auroc"] <= 1:
        raise ValueError(f"auroc is {row['auroc']!r}, not between 0 and 1")
    return row
