"""The table of training, as files hold it: JSON of which nothing is made before it is checked."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from .foreign import require
from .registry import brief
from .training import empty_history

# Each column costs a frame some 0.1 ms and more, whatever stands in it; ours have ten at most.
_MOST_COLUMNS = 1000
_NAMES, _COUNTS, _AMOUNTS = ("stage", "member"), ("epoch", "step"), ("loss", "seconds")


def history_to_file(table: pd.DataFrame) -> str:
    """JSON of a history.

    Raises
    ------
    ValueError
        If it has more columns than would be read again.
    """
    if table.shape[1] > _MOST_COLUMNS:
        raise ValueError(
            f"history_ has {table.shape[1]} columns, of which a file holds {_MOST_COLUMNS} at "
            "most. Drop those of your callbacks, or use pickle."
        )
    return table.to_json(orient="split", double_precision=15)


def history_of_file(text: Any, detector: Any) -> pd.DataFrame:
    """History of what :func:`history_to_file` wrote.

    pandas' own reader is not asked: it changes the warning filters of the process meanwhile, at
    which threads meet, and takes minutes for a megabyte of names.

    Raises
    ------
    ValueError
        If it is none.
    """
    require(isinstance(text, str), f"the history {brief(text)}")
    try:
        kept = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a history that is no JSON: {error}") from error
    fits = isinstance(kept, dict) and kept.keys() == {"columns", "index", "data"}
    require(fits and all(isinstance(part, list) for part in kept.values()), "a history of no table")
    columns, rows = kept["columns"], kept["data"]
    require(len(columns) <= _MOST_COLUMNS, f"a history of {len(columns)} columns")
    names = all(isinstance(name, str) for name in columns)
    require(names and len(set(columns)) == len(columns), f"the columns {brief(columns)}")
    require(len(kept["index"]) == len(rows), "a history with other labels than rows")
    fits = all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    require(fits, "a history whose rows have other cells than columns")
    if not rows:
        return empty_history()
    missing = sorted(set(empty_history().columns) - set(columns))
    require(not missing, f"a history without {', '.join(missing)}")
    cells = zip(*rows, strict=True)
    return pd.DataFrame({n: _column(n, list(c)) for n, c in zip(columns, cells, strict=True)})


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} in it")


def _column(name: str, cells: list[Any]) -> Any:
    """Column of cells of one kind; what users' callbacks left in columns of their own is theirs."""
    kinds = {type(cell) for cell in cells}
    problem = f"a history with {brief(name)} of {', '.join(sorted(k.__name__ for k in kinds))}"
    if name in _NAMES:
        require(kinds == {str}, problem)
        return pd.Series(cells, dtype=str)
    if name in _COUNTS:
        require(kinds == {int}, problem)
    require(name not in _AMOUNTS or kinds <= {int, float, type(None)}, problem)
    numbers = [cell for cell in cells if type(cell) in (int, float)]
    require(all(map(_is_number, numbers)), f"a history with endless numbers in {brief(name)}")
    if kinds <= {int} or kinds <= {bool}:
        return np.array(cells)
    if kinds <= {int, float, bool, type(None)}:
        return np.array([math.nan if cell is None else cell for cell in cells], dtype=np.float64)
    return pd.Series(cells, dtype=str if kinds <= {str} else object)


def _is_number(value: float) -> bool:
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)
