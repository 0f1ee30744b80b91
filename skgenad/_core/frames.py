"""Frames of pandas and of polars: columns, parts, and other values in some of their cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse


def is_polars(X: Any) -> bool:
    """Whether it is a frame of polars, which is not imported for the question."""
    return type(X).__module__.partition(".")[0] == "polars" and hasattr(X, "schema")


def is_frame(X: Any) -> bool:
    """Whether it is a frame of pandas or polars."""
    return isinstance(X, pd.DataFrame) or is_polars(X)


def table_of(X: Any) -> Any:
    """Return a frame as it is, and anything else as an array."""
    return X if is_frame(X) else np.asarray(X)


def names_of(X: Any) -> list[Any] | None:
    """Names of the columns of a frame; None of anything else."""
    return list(X.columns) if is_frame(X) else None


def dense(table: Any) -> NDArray:
    """Cells of a table as one array."""
    if is_polars(table):  # numpy has no type for numbers beside times
        columns = columns_of(table)
        if all(column.dtype.kind in "biuf" for column in columns):
            return np.column_stack(columns)
        cells = np.empty(table.shape, dtype=object)
        for j, column in enumerate(columns):
            cells[:, j] = column
        return cells
    return table.toarray() if issparse(table) else np.asarray(table)


def columns_of(table: Any) -> list[Any]:
    """Columns of a table, each as an array."""
    if isinstance(table, pd.DataFrame):
        return [table.iloc[:, j].to_numpy() for j in range(table.shape[1])]
    if is_polars(table):
        return [_cells_of(table.to_series(j)) for j in range(table.shape[1])]
    return list(dense(table).T)


def _cells_of(series: Any) -> NDArray:
    """Cells of a polars column: numbers, with NaN where there are none, or Python's objects."""
    if series.dtype.is_numeric():
        return series.to_numpy()
    cells = np.empty(len(series), dtype=object)
    cells[:] = series.to_list()
    return cells


def some_columns(table: Any, places: NDArray) -> Any:
    """Columns of a table by their places."""
    if isinstance(table, pd.DataFrame):
        return table.iloc[:, places]
    return table[:, places.tolist()] if is_polars(table) else table[:, places]


def with_names(table: Any, names: list[str]) -> Any:
    """Columns of a frame by their names; those that it has not are without values."""
    if isinstance(table, pd.DataFrame):
        return table.reindex(columns=names)
    missing = dict.fromkeys(name for name in names if name not in table.columns)
    return table.with_columns(**missing).select(names)


def some_rows(table: Any, places: NDArray) -> Any:
    """Rows of a table by their places, any of them several times."""
    if isinstance(table, pd.DataFrame):
        return table.iloc[places]
    return table[places]


def like(X: Any, rows: NDArray) -> Any:
    """Rows as a frame, if those given are one: with names, or a detector would warn."""
    if isinstance(X, pd.DataFrame):
        return pd.DataFrame(rows, index=X.index, columns=X.columns)
    return type(X)(rows, schema=list(X.columns), orient="row") if is_polars(X) else rows


def with_columns(table: Any, places: NDArray, part: Any) -> Any:
    """Copy a frame with the columns of another one of as many rows at some places."""
    if is_polars(table):
        return table.with_columns(part)
    changed = table.copy()
    for k, j in enumerate(places):
        changed.isetitem(j, part.iloc[:, k])
    return changed


# ---- other values -------------------------------------------------------------------------


def differ(one: Any, other: Any) -> NDArray:
    """Say which cells of two tables of a shape differ; missing ones are alike."""
    one, other = dense(one), dense(other)
    if one.dtype.kind in "biuf" and other.dtype.kind in "biuf":
        return (one != other) & ~((one != one) & (other != other))
    absent = pd.isna(one), pd.isna(other)
    both_there = ~(absent[0] | absent[1])
    found = absent[0] != absent[1]
    found[both_there] = (one[both_there] != other[both_there]).astype(bool)
    return found


def with_values(X: Any, is_changed: NDArray, values: list[Any]) -> Any:
    """Copy a table with other values in the cells (n, d) that have changed.

    `values` has the values of each column, or None for a column that is left as it is.
    """
    changed: Any = X.copy() if isinstance(X, pd.DataFrame) else X if is_polars(X) else dense(X)
    changed = changed.copy() if isinstance(changed, np.ndarray) else changed
    for j in np.flatnonzero(is_changed.any(axis=0)):
        if values[j] is None:
            continue
        rows = np.flatnonzero(is_changed[:, j])
        new = np.asarray(values[j])[rows]
        if isinstance(changed, pd.DataFrame):
            changed.isetitem(j, _column_with(changed.iloc[:, j], rows, new))
        elif is_polars(changed):
            changed = changed.with_columns(_series_with(changed.to_series(int(j)), rows, new))
        else:
            changed[rows, j] = _of_kind(new, changed.dtype)
    return changed


def _column_with(column: pd.Series, rows: NDArray, values: NDArray) -> pd.Series:
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "biu" and pd.isna(values).any():
        column, kind = column.astype(float), np.dtype(float)  # a flag of what is missing: 0 and 1
    column = column.copy()
    column.iloc[rows] = _of_kind(values, kind)
    return column


def _series_with(series: Any, rows: NDArray, values: NDArray) -> Any:
    """Make a polars column of the same type, whole numbers and booleans among them."""
    kind, cells = series.dtype, series.to_list()
    for row, value in zip(rows, values.tolist(), strict=True):
        cells[row] = None if pd.isna(value) else value
        if cells[row] is not None and kind.is_integer():
            cells[row] = round(float(value))
        elif cells[row] is not None and str(kind) == "Boolean":
            cells[row] = float(value) > 0.5
    return type(series)(series.name, cells, dtype=kind, strict=False)


def _of_kind(values: NDArray, kind: Any) -> Any:
    """Values as a column of a type holds them: whole numbers, booleans, categories that it has."""
    is_category = isinstance(kind, pd.CategoricalDtype)
    is_bool, is_whole = pd.api.types.is_bool_dtype(kind), pd.api.types.is_integer_dtype(kind)
    if not is_category and (is_bool or is_whole):
        absent = pd.isna(values)
        filled = np.where(absent, 0, values).astype(float)
        whole: NDArray = filled > 0.5 if is_bool else np.rint(filled)
        if isinstance(kind, np.dtype):
            return whole.astype(kind)
        array = pd.array(whole.astype(bool if is_bool else np.int64), dtype=kind)
        array[absent] = pd.NA
        return array
    is_object = values.dtype == object and not pd.api.types.is_object_dtype(kind)
    if is_category or is_object:
        return pd.Series(values.tolist(), dtype=kind).array
    return values
