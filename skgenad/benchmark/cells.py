"""Compute the cells of an experiment of any kind, each once, and keep their rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from .store import ResultsFile, Row

Cell = tuple[Any, ...]


def run_cells(
    compute: Callable[..., Iterable[Row]],
    cells: Iterable[Cell],
    file: ResultsFile,
    *,
    jobs: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Compute the cells whose rows are not in a file yet, and keep each one's rows at once.

    This is the runner for what is no table of detectors by data sets; for those, see
    `run_benchmark`. A run that is killed and started again goes on where it was: all rows of a
    cell are in the file, or none.

    Parameters
    ----------
    compute : callable
        Is given a cell's values as its arguments and returns the cell's rows, one at least. They
        need not repeat the cell's values. With more than one job it runs in processes of joblib.
    cells : iterable of tuples
        Values of the first columns of the file's key. A cell is done when a row that begins with
        them is in the file.
    file : ResultsFile
        Where rows are kept; it must not be open for writing.
    jobs : int, default=1
        Cells to compute at the same time; -1 means one per core.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    rows : DataFrame
        All rows of the file, those of other cells included.

    Raises
    ------
    ValueError
        If a cell has more values than the key has columns, or `compute` returns no rows, rows
        without some column of the file or rows of another cell.
    ResultsFileError
        If a line of the file is damaged. The file is not touched.
    RuntimeError
        If another process is writing to the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skgenad.benchmark import ResultsFile, run_cells
    >>> def powers(base, seed):
    ...     return [{"exponent": e, "value": float(base**e)} for e in (1, 2)]
    >>> columns = {"base": int, "seed": int, "exponent": int, "value": float}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = ResultsFile(
    ...         Path(folder) / "rows.csv", key=("base", "seed", "exponent"), columns=columns
    ...     )
    ...     run_cells(powers, [(2, 1), (3, 1)], file, progress=False)
       base  seed  exponent  value
    0     2     1         1    2.0
    1     2     1         2    4.0
    2     3     1         1    3.0
    3     3     1         2    9.0
    """
    cells = list(dict.fromkeys(cells))
    _check_cells(cells, file)
    with file:
        done = {key[:n] for key in file.keys for n in range(1, len(key) + 1)}
        missing = [cell for cell in cells if file.key_of(cell) not in done]
        tasks = (delayed(_compute)(compute, cell, file.key) for cell in missing)
        parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        if missing:
            keep_rows(file, parallel(tasks), len(cells), len(missing), progress)
        return file.to_frame(file.rows)


def keep_rows(
    file: ResultsFile,
    results: Iterator[Sequence[Row]],
    n_cells: int,
    n_missing: int,
    progress: bool,
) -> None:
    """Append the rows of each cell as soon as they are there, and end what computes them.

    Parameters
    ----------
    file : ResultsFile
        Open for writing.
    results : generator
        Yields the rows of a cell; is closed whatever happens.
    n_cells, n_missing : int
        Number of all cells and of those that `results` yields.
    progress : bool
        Whether to show a progress bar.
    """
    bar = tqdm(total=n_cells, initial=n_cells - n_missing, disable=not progress)
    with closing(results), bar:  # type: ignore[type-var]
        for rows in results:
            file.append(*rows)
            place = " ".join(str(rows[0][name]) for name in file.key)
            bar.set_postfix_str(place[:50], refresh=False)
            bar.update()


def _check_cells(cells: Sequence[Cell], file: ResultsFile) -> None:
    for cell in cells:
        if not 0 < len(cell) <= len(file.key):
            raise ValueError(
                f"a cell must have a value for each of the first columns of the key "
                f"({', '.join(file.key)}), got {cell!r}"
            )


def _compute(
    compute: Callable[..., Iterable[Row]], cell: Cell, key: Sequence[str]
) -> list[dict[str, Any]]:
    """Compute the rows of a cell; runs in a worker of joblib."""
    own = dict(zip(key, cell, strict=False))
    rows = [{**own, **row} for row in compute(*cell)]
    if not rows:
        raise ValueError(f"compute returned no rows for the cell {cell!r}; return one at least")
    if any(row[name] != value for row in rows for name, value in own.items()):
        raise ValueError(f"compute returned rows of another cell than {cell!r}")
    return rows
