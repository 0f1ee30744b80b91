"""Estimators of others in files answer for one row before they are handed out.

What their attributes must be is known to their own code alone, changes from one of their versions
to the next, and depends on parameters and rows; a table of it would be a second way of the same
thing, and wrong at times. So a file holds a row, and the kinds and shapes of what the saved
estimator's methods gave for it. What is loaded must give the same kinds and shapes, of finite
numbers: an attribute of a wrong kind is found where it would fail, by the code that would fail.
Only what has answered at a save is asked at a load, so that no file of ours is refused.

One row, since only what fits one row fits any number of them. What a row does not touch, such as
the other leaves of a tree, is finite (:mod:`skgenad._core.values`) and, where it would be read
outside of its bounds, checked (:mod:`skgenad._core.foreign`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from joblib import parallel_config
from numpy.typing import NDArray
from scipy import sparse

from .foreign import require
from .registry import brief

# What is asked. Inverses are not: far from the data they warn.
_METHODS = (
    *("transform", "decision_function", "score_samples", "predict", "kneighbors", "mahalanobis"),
)
# Cells of rows that are tried: some transformers take positive numbers only, others those up to 1.
_CELLS = (1.0, 0.5, 0.0)
_TEXT = "a"


def answers_of(estimator: Any, arrays: Iterable[NDArray]) -> dict[str, Any] | None:
    """Row for a fitted estimator, and what it gives for that; None if there is no such row.

    `arrays` are the estimator's own, whose widths are tried where it does not name its columns.
    """
    best: dict[str, Any] | None = None
    for row in _rows_for(estimator, arrays):
        gives: dict[str, Any] = {}
        asked = [name for name in _METHODS if hasattr(estimator, name)]
        # A row that an estimator does not take, for whatever reason, is just not the right one.
        for name in asked:
            with contextlib.suppress(Exception):
                gives[name] = _answer(estimator, name, row)
        if gives and (best is None or len(gives) > len(best["gives"])):
            best = {**row, "gives": gives}
        if len(gives) == len(asked):
            break
    return best


def check_answers(estimator: Any, kept: Any) -> None:
    """Require that a loaded estimator gives what the saved one gave.

    Raises
    ------
    ValueError
        If they give something else, or raise whatever it may be.
    """
    fits = isinstance(kept, dict) and kept.keys() == {"row", "columns", "gives"}
    fits = fits and isinstance(kept["gives"], dict) and isinstance(kept["row"], list | str)
    require(fits, f"answers that are none: {brief(kept)}")
    # A text is for what a pattern of the file's own takes apart, which for others may last.
    require(not isinstance(kept["row"], str) or kept["row"] == _TEXT, "answers for another text")
    names = kept["columns"]
    columns = isinstance(names, list) and all(isinstance(name, str) for name in names)
    require(names is None or columns, f"the columns {brief(names)}")
    for name, wanted in kept["gives"].items():
        require(name in _METHODS, f"there is no method {brief(name)}")
        try:
            found = _answer(estimator, name, kept)
        except Exception as error:
            kind = type(error).__name__
            raise ValueError(
                f"{name} fails for the row that it answered: {kind}: {error}"
            ) from error
        require(found == wanted, f"{name} gives {brief(found)} in place of {brief(wanted)}")


def _answer(estimator: Any, name: str, row: Mapping[str, Any]) -> Any:
    """Kind and shape of what a method gives for a row.

    Raises
    ------
    ValueError
        If it is not finite.
    """
    # No processes for one row; numbers that are not finite are looked for below.
    with parallel_config(backend="sequential"), np.errstate(all="ignore"):
        given = getattr(estimator, name)(_table(row))
    return [_described(part) for part in given] if isinstance(given, tuple) else _described(given)


def _described(given: Any) -> list[Any]:
    values = given.data if sparse.issparse(given) else np.asarray(given)
    kind = values.dtype.kind
    if kind == "O":  # numbers beside strings, in tables of both
        values = np.array([value for value in values.ravel() if isinstance(value, float)])
    require(values.dtype.kind in "biuOU" or np.isfinite(values).all(), "it gives NaN")
    return [kind, list(map(int, np.shape(given)))]


# ---- rows -----------------------------------------------------------------------------------


def _table(row: Mapping[str, Any]) -> Any:
    """Make of a row what the estimator is given."""
    cells, names = row["row"], row["columns"]
    if isinstance(cells, str):  # a text
        return [cells]
    if names is not None:
        return pd.DataFrame([cells], columns=names)
    numbers = all(isinstance(cell, int | float) for cell in cells)
    return np.array([cells], dtype=np.float64 if numbers else object)


def _rows_for(estimator: Any, arrays: Iterable[NDArray]) -> Iterable[dict[str, Any]]:
    names = getattr(estimator, "feature_names_in_", None)
    columns = None if names is None else list(map(str, names))
    width = getattr(estimator, "n_features_in_", None)
    if width is None and _takes_text(estimator):
        return [{"row": _TEXT, "columns": None}]
    known = {int(width)} if width is not None else {a.shape[-1] for a in arrays if a.ndim > 1}
    return [
        {"row": _cells(estimator, n, cell), "columns": columns}
        for n in sorted(known)
        for cell in _CELLS
    ]


def _takes_text(estimator: Any) -> bool:
    steps = getattr(estimator, "steps", None)
    return _takes_text(steps[0][1]) if steps else hasattr(estimator, "build_analyzer")


def _cells(estimator: Any, n: int, cell: float) -> list[Any]:
    """`n` cells that an estimator takes: what it has seen, if that is text, or the same number."""
    if _takes_text(estimator):
        return [_TEXT] * n
    cells: list[Any] = [cell] * n
    seen = getattr(estimator, "categories_", getattr(estimator, "statistics_", None))
    if seen is not None and len(seen) == n:
        firsts = [value for column in seen for value in np.ravel(column).tolist()[:1]]
        is_encoder = hasattr(estimator, "categories_")
        return [v if is_encoder or isinstance(v, str) else cell for v in firsts]
    for part, places in _parts_of(estimator, n):
        for place, wish in zip(places, _cells(part, len(places), cell), strict=True):
            cells[place] = wish if cells[place] == cell else cells[place]
    return cells


def _parts_of(estimator: Any, n: int) -> Iterable[tuple[Any, list[int]]]:
    """Estimators that are given columns of a table of `n` as they are, and the columns' places."""
    if hasattr(estimator, "transformers_"):
        places = estimator._transformer_to_input_indices
        return [(part, list(places[name])) for name, part, _ in estimator.transformers_]
    steps = getattr(estimator, "steps", None) or getattr(estimator, "transformer_list", None) or ()
    width = [(step, getattr(step, "n_features_in_", None)) for _, step in steps]
    return [(step, list(range(n))) for step, found in width if found == n]
