"""skrub's vectorizers, which treat columns one by one: where outputs come from, and back.

They are known by what they say of their outputs, so that skrub is not needed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .frames import columns_of, some_columns

# What a datetime is made of again, and the outputs that have it.
_PARTS = ("year", "month", "day", "hour", "minute", "second")

# How times become Python's.
_PYTHONS: dict[type, str] = {pd.Timestamp: "to_pydatetime", pd.Timedelta: "to_pytimedelta"}


def is_vectorizer(step: Any) -> bool:
    """Whether a fitted step is a TableVectorizer, or one that applies another to each column."""
    return all(hasattr(step, n) for n in ("output_to_input_", "all_outputs_", "transformers_"))


def origins_of(step: Any) -> NDArray:
    """Places (n_out,) among its columns from which its outputs come."""
    places = {name: j for j, name in enumerate(step.feature_names_in_)}
    inputs = step.output_to_input_
    return np.array([places[inputs.get(n, n)] for n in step.all_outputs_], dtype=np.intp)


def values_of(step: Any, X: Any, after: NDArray, moved: NDArray) -> list[Any]:
    """Values of each column that make its outputs `after`, for those that have to change.

    Raises
    ------
    ValueError
        If a column has to change that is known by what was made of it alone, such as a text.
    """
    places = origins_of(step)
    found: list[Any] = []
    for j, name in enumerate(step.feature_names_in_):
        outputs = np.flatnonzero(places == j)
        if not moved[:, j].any():
            found.append(None)
            continue
        values = _back(step, name, after[:, outputs], [step.all_outputs_[k] for k in outputs])
        values = None if values is None else _of_type(some_columns(X, np.array([j])), values)
        if values is None:
            made = type(step.transformers_.get(name)).__name__
            raise ValueError(
                f"What is repaired in the column {name!r} is known as {made} encodes it, and not "
                "as it stands in X. Pass normal rows whose cells can be taken, reference=X_train."
            )
        found.append(values)
    return found


def _back(step: Any, name: str, after: NDArray, outputs: list[str]) -> Any:
    """Values that an encoder of one column has made its outputs of; None if it does not tell."""
    encoder = step.transformers_.get(name)
    kind = type(encoder).__name__
    if encoder is None or kind == "PassThrough":
        return after[:, 0]
    if kind == "DatetimeEncoder":
        named = {n.removeprefix(f"{name}_"): after[:, k] for k, n in enumerate(outputs)}
        return _times(named)
    if not hasattr(encoder, "inverse_transform") or not hasattr(encoder, "feature_names_in_"):
        return None
    values = encoder.inverse_transform(after)
    return columns_of(values)[0] if np.ndim(values) == 2 else values


def _times(named: dict[str, NDArray]) -> Any:
    """Make time stamps of years, months, days and so on; None if there are none of these."""
    if not {"year", "month", "day"} <= named.keys():
        return None
    parts = pd.DataFrame({name: named[name] for name in _PARTS if name in named}).round()
    return pd.to_datetime(parts, errors="coerce").to_numpy()


def _of_type(column: Any, values: Any) -> Any:
    """Values as a column (n, 1) of a frame has them; None if it is of a type that they are not."""
    dtype = column.dtypes.iloc[0] if isinstance(column, pd.DataFrame) else column.dtypes[0]
    written, kind = str(dtype).lower(), np.asarray(values).dtype.kind
    if written.startswith(("timedelta", "duration")):
        return _times_of(column, pd.to_timedelta(np.asarray(values, dtype=float), unit="s"))
    if kind == "M":
        zone = getattr(dtype, "tz", getattr(dtype, "time_zone", None))
        is_stamp = written.startswith(("datetime", "date")) and zone is None
        return _times_of(column, pd.to_datetime(values)) if is_stamp else None
    if kind in "biuf":
        return values if _is_of_numbers(dtype, written) else None
    return values if _is_of_texts(column, dtype, written, values) else None


def _is_of_numbers(dtype: Any, written: str) -> bool:
    if hasattr(dtype, "is_numeric"):  # of polars
        return dtype.is_numeric() or written == "boolean"
    return pd.api.types.is_numeric_dtype(dtype) and not isinstance(dtype, pd.CategoricalDtype)


def _is_of_texts(column: Any, dtype: Any, written: str, values: Any) -> bool:
    """Whether a column can hold texts: one of text, categories that have them, or such objects."""
    there = {value for value in np.asarray(values, dtype=object) if not pd.isna(value)}
    if isinstance(dtype, pd.CategoricalDtype):
        return there <= set(dtype.categories)
    if written == "object":
        cells = columns_of(column)[0]
        return all(isinstance(cell, str) for cell in cells if not pd.isna(cell))
    return written.startswith(("str", "large_str", "categorical", "enum"))


def _times_of(column: Any, times: Any) -> Any:
    """Make times for a frame of pandas, or Python's for one of polars."""
    if isinstance(column, pd.DataFrame):
        return times.to_numpy()
    is_date, found = str(column.dtypes[0]) == "Date", np.empty(len(times), dtype=object)
    python = [None if pd.isna(time) else getattr(time, _PYTHONS[type(time)])() for time in times]
    found[:] = [time.date() if is_date and time is not None else time for time in python]
    return found


def looked_up(moved: NDArray, after: NDArray, made: NDArray, cells: NDArray) -> Any:
    """Cells (n,) of a column, for those that have `moved`, of the known rows nearest to them.

    Parameters
    ----------
    moved : ndarray of shape (n,)
        Which rows are asked about.
    after, made : ndarray of shape (n, k) and (m, k)
        What a step made of the column: of the rows, and of known ones.
    cells : ndarray of shape (m,)
        The column in the known rows.
    """
    if not moved.any():
        return None
    found = np.empty(len(moved), dtype=object)
    known = np.asarray(made, dtype=float)
    is_missing = np.isnan(known)
    for row in np.flatnonzero(moved):
        wanted = np.asarray(after[row], dtype=float)
        apart = np.abs(np.nan_to_num(known) - np.nan_to_num(wanted)).sum(axis=1)
        apart += np.where(is_missing != np.isnan(wanted), np.inf, 0).sum(axis=1)
        found[row] = cells[apart.argmin()]
    return found
