"""A file of results: one line per row, only ever appended to, safe against kills at any moment.

A line is written by one call and flushed to the disk before the next one's, so a process that is
killed leaves at most one line without its end. Rows that belong together are announced first, in a
file beside that holds the size so far, so that a kill among them leaves none of them. What is
unfinished is moved to a file beside when the next run opens the results, and its cell is computed
again. Anything else that does not read as a row is an error, and the file stays as it is.
"""

from __future__ import annotations

import csv
import io
import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from skgenad._writing import kind_of

Row = Mapping[str, Any]


class ResultsFileError(ValueError):
    """A file of results holds something that is not a row; the message names file and line.

    Examples
    --------
    >>> from skgenad.benchmark import ResultsFileError
    >>> issubclass(ResultsFileError, ValueError)
    True
    """


class ResultsFile:
    """A CSV file of results with columns of your own, which a killed run goes on from.

    Making the object touches no file. `read` returns the rows that are there; ``with file:`` opens
    it for writing, locked against a second writer, and `append` adds rows.

    Parameters
    ----------
    path : path-like
        Created with its folder by ``with file:`` when missing.
    key : sequence of str
        Columns that tell one row from every other.
    columns : mapping of str to type
        Every column in the order of the file, and what its texts are: `str`, `int` or `float`. An
        empty text is a missing number (NaN) in a column of `float`.
    check : callable, default=None
        Is given every row that is read or appended and raises a `ValueError` if it cannot be one.
    is_void : callable, default=None
        Tells rows that hold no result. Their cells count as missing, and a later row of the same
        cell takes such a row's place.

    Attributes
    ----------
    rows : list of dict
        While it is open: rows that were in the file, and those appended since.
    keys : set of tuples of str
        While it is open: the keys of those that are not void, as `key_of` gives them.
    moved : Path or None
        While it is open: where unfinished lines were moved to.

    See Also
    --------
    run_cells : Computes what is missing in such a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skgenad.benchmark import ResultsFile
    >>> columns = {"digit": int, "method": str, "auroc": float}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = ResultsFile(Path(folder) / "rows.csv", key=("digit", "method"), columns=columns)
    ...     with file:
    ...         file.append({"digit": 1, "method": "AE", "auroc": 0.5})
    ...         file.append({"digit": 2, "method": "AE", "auroc": 0.25})
    ...     file.read()
       digit method  auroc
    0      1     AE   0.50
    1      2     AE   0.25
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: Sequence[str],
        columns: Mapping[str, type],
        check: Callable[[Row], None] | None = None,
        is_void: Callable[[Row], bool] | None = None,
    ) -> None:
        unknown = [name for name in key if name not in columns]
        if unknown or not key:
            raise ValueError(
                f"key must name columns ({', '.join(columns)}), got {list(key)}; a row is found by "
                "them again"
            )
        self.path = Path(path)
        self.key = tuple(key)
        self.columns = dict(columns)
        self.check = check
        self.is_void = is_void or (lambda row: False)

    # ---- reading -----------------------------------------------------------------------------

    def read(self) -> pd.DataFrame:
        """Read the rows, without locking the file.

        Returns
        -------
        rows : DataFrame
            Rows in the order of the file. What a killed run has not finished is left out.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ResultsFileError
            If a line is not a row, or a row is there twice; file and line number are in the
            message.
        """
        rows, _ = self._parse()
        return self.to_frame(rows)

    def to_frame(self, rows: Sequence[Row]) -> pd.DataFrame:
        """Make a table of rows with the columns of the file.

        Parameters
        ----------
        rows : sequence of mappings
            Rows with all columns; none make an empty table.

        Returns
        -------
        table : DataFrame
            Columns in the order of the file, of its types.
        """
        frame = pd.DataFrame(rows, columns=list(self.columns))
        kinds = {name: kind for name, kind in self.columns.items() if kind is not str}
        return frame.astype(kinds)

    def key_of(self, values: Sequence[Any]) -> tuple[str, ...]:
        """Return the texts by which the file knows the values of its first key columns.

        Parameters
        ----------
        values : sequence
            As many as there are key columns, or fewer.

        Returns
        -------
        texts : tuple of str
            Equal for values that mean the same in the file, such as 0 and 0.0 of a float.
        """
        kinds = [self.columns[name] for name in self.key]
        return tuple(_to_text(kind(value)) for kind, value in zip(kinds, values, strict=False))

    def _parse(self) -> tuple[list[dict[str, Any]], int]:
        """Return the rows and the number of bytes up to the end of the last finished line."""
        mode = os.stat(self.path).st_mode
        if not stat.S_ISREG(mode):  # reading a pipe could last for ever
            raise ResultsFileError(f"{self.path} is {kind_of(mode)}, no file of results")
        data = self.path.read_bytes()
        end = data.rfind(b"\n", 0, self._announced()) + 1
        rows: dict[tuple[str, ...], dict[str, Any]] = {}
        numbers: dict[tuple[str, ...], int] = {}
        for number, line in enumerate(data[:end].split(b"\n")[:-1], start=1):
            try:
                fields = next(csv.reader([line.decode()], strict=True), [])
                if number == 1:
                    self._check_header(fields)
                    continue
                row = self._parse_row(fields)
                key = self._key_of_row(row)
                before = rows.pop(key, None)
                if before is not None and not self.is_void(before):
                    raise ValueError(f"the same cell is already on line {numbers[key]}")
                rows[key], numbers[key] = row, number
            except (ValueError, csv.Error) as error:
                raise ResultsFileError(
                    f"{self.path}:{number}: {error}; the file was left as it is: repair or remove "
                    "the line, or write to another folder"
                ) from error
        return list(rows.values()), end

    def _key_of_row(self, row: Row) -> tuple[str, ...]:
        return self.key_of([row[name] for name in self.key])

    def _check_header(self, fields: list[str]) -> None:
        if fields != list(self.columns):
            raise ValueError(
                f"the header is not that of a file of results (expected {','.join(self.columns)})"
            )

    def _parse_row(self, fields: list[str]) -> dict[str, Any]:
        if len(fields) != len(self.columns):
            raise ValueError(f"{len(fields)} fields instead of {len(self.columns)}")
        row: dict[str, Any] = {}
        for (name, kind), text in zip(self.columns.items(), fields, strict=True):
            try:
                row[name] = math.nan if kind is float and not text else kind(text)
            except ValueError:
                raise ValueError(f"{name} is {text!r}, not {kind.__name__}") from None
        if self.check is not None:
            self.check(row)
        return row

    # ---- writing -----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self.rows, end = self._parse()
            self._void = {self._key_of_row(row): row for row in self.rows if self.is_void(row)}
            self.keys = {
                key for row in self.rows if (key := self._key_of_row(row)) not in self._void
            }
            self.moved = self._move_unfinished(end)
        except BaseException:
            os.close(self._file)
            raise
        if end == 0:
            self._write([list(self.columns)])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def append(self, *rows: Row) -> None:
        """Write rows that belong together, all or none, and wait until they are on the disk.

        Parameters
        ----------
        *rows : mappings
            Each has a value for every column, and no others.

        Raises
        ------
        ValueError
            If columns are missing or unknown, a value is not of its column's type, or a row is in
            the file already; nothing is written then.
        """
        lines = [self._fields(row) for row in rows]
        if len(rows) == 1 and self._says_so_already(lines[0]):
            return
        parsed = [self._parse_row(fields) for fields in lines]  # rows as a later run will read them
        keys = [self._key_of_row(row) for row in parsed]
        for i, key in enumerate(keys):
            if key in self.keys or key in keys[:i]:
                raise ValueError(f"the row {', '.join(key)} is in '{self.path}' already")
        if len(lines) > 1:  # a single line without its end is seen to be unfinished
            self._announce()
        self._write(lines)
        self._mark.unlink(missing_ok=True)
        for key, row in zip(keys, parsed, strict=True):
            replaced = self._void.pop(key, None)
            if replaced is not None:
                self.rows = [other for other in self.rows if other is not replaced]
            self.rows.append(row)
            if self.is_void(row):
                self._void[key] = row
            else:
                self.keys.add(key)

    def _says_so_already(self, fields: list[str]) -> bool:
        """Whether a row is void and in the file, word for word."""
        row = self._parse_row(fields)
        before = self._void.get(self._key_of_row(row))
        return before is not None and self._fields(before) == fields

    def move_aside(self) -> Path | None:
        """Rename the file, so that the next row begins a new one.

        Returns
        -------
        moved : Path or None
            The first of ``rows.csv.1``, ``rows.csv.2`` and so on that was free; None if there was
            no file.
        """
        if not self.path.exists():
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        return self.path.rename(aside)

    def _lock(self) -> None:
        # This is not imported at the top: Windows lacks the module, and reports can be made there.
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another benchmark is writing to '{self.path}'; wait for it or choose another "
                "folder for the results"
            ) from None

    def _fields(self, row: Row) -> list[str]:
        if set(row) != set(self.columns):
            missing, unknown = set(self.columns) - set(row), set(row) - set(self.columns)
            raise ValueError(
                f"a row of '{self.path}' must have the columns {', '.join(self.columns)}; missing: "
                f"{', '.join(sorted(missing)) or 'none'}, unknown: "
                f"{', '.join(sorted(unknown)) or 'none'}"
            )
        return [_to_text(row[name]) for name in self.columns]

    def _write(self, lines: Sequence[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        _write_all(self._file, text.getvalue().encode())

    @property
    def _mark(self) -> Path:
        return self.path.with_name(self.path.name + ".begun")

    def _announce(self) -> None:
        """Note the size so far: while the note exists, all behind that size is unfinished."""
        file = os.open(self._mark, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _write_all(file, b"%d\n" % os.fstat(self._file).st_size)
        finally:
            os.close(file)

    def _announced(self) -> int | None:
        """Return the size that was noted; None without a note, or if it was cut itself."""
        note = self._mark.read_bytes() if self._mark.is_file() else b""
        if not note.endswith(b"\n"):
            return None
        if not note[:-1].isdigit() or len(note) > 20:
            raise ResultsFileError(
                f"{self._mark} holds no size, which a killed run leaves there to say what "
                "of its rows is unfinished: remove the file if you know that none is"
            )
        return int(note)

    def _move_unfinished(self, end: int) -> Path | None:
        data = self.path.read_bytes()
        moved = None
        if len(data) > end:
            moved = self.path.with_name(self.path.name + ".unfinished")
            with open(moved, "ab") as file:
                file.write(data[end:] + b"\n")
            os.truncate(self._file, end)
        self._mark.unlink(missing_ok=True)
        return moved


def _write_all(file: int, data: bytes) -> None:
    while data:  # a signal can cut a write short; the rest is written then
        data = data[os.write(file, data) :]
    os.fsync(file)


def _to_text(value: Any) -> str:
    if isinstance(value, float):  # NumPy's float64 is a float, too
        return "" if math.isnan(value) else repr(float(value))
    # A row must stay one line of UTF-8, whatever its message holds.
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return " ".join(text.replace("\0", " ").split())
