"""Tables as people have them: columns that are no numbers are refused by name, with what to write.

scikit-learn takes time stamps for numbers of nanoseconds where they are alone, what lies below a
mask for measurements, and says of other columns only what one of their values is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# What is wrong with a column; {} stands for what a user writes for it.
_TIMES = (
    "time stamps, and numbers are wanted: seconds since a start, ({0} - {0}.min()).dt"
    ".total_seconds(), or what comes back, such as {0}.dt.hour and {0}.dt.day_of_week"
)
_DURATIONS = "durations, and numbers are wanted: {0}.dt.total_seconds()"
_PERIODS = "periods, and numbers are wanted, such as {0}.dt.year and {0}.dt.month"
# The same of columns of Python's own objects, which have no `.dt`.
_OBJECT_TIMES = (
    "dates or time stamps, and numbers are wanted: with t = pd.to_datetime({0}) seconds since a "
    "start, (t - t.min()).dt.total_seconds(), or what comes back, t.dt.month and t.dt.dayofweek"
)
_OBJECT_DURATIONS = "durations, and numbers are wanted: pd.to_timedelta({0}).dt.total_seconds()"
_OBJECT_PERIODS = (
    "periods, and numbers are wanted: with t = pd.PeriodIndex({0}) such as t.year and t.month"
)
_CLOCK = "times of the day, and numbers are wanted, such as seconds since midnight"
_TEXT = (
    "text, and numbers are wanted: encode it in a pipeline before the detector, by "
    "OneHotEncoder(sparse_output=False) or OrdinalEncoder() in a ColumnTransformer, or by skrub's "
    "TableVectorizer(), or leave it out"
)
_COMPLEX = "complex numbers: pass real and imaginary parts as two columns, z.real and z.imag"
_INTERVALS = "intervals, and numbers are wanted, such as their middles, [i.mid for i in {0}]"
_NESTED = (
    "lists or arrays, and every cell must be one number: make a column of each of theirs, by "
    "pd.DataFrame({0}.tolist())"
)
_IMPUTE = "Put SimpleImputer() before the detector, in a pipeline, or leave such rows out"
_IMPUTE_NONE = (
    "It is None: put SimpleImputer(missing_values=None, strategy='most_frequent') before the "
    "detector, in a pipeline, or leave such rows out"
)
# What pandas calls the values of a column -> what to do about it.
_KINDS = {
    **dict.fromkeys(("datetime64", "datetime", "date"), _OBJECT_TIMES),
    "time": _CLOCK,
    **dict.fromkeys(("timedelta64", "timedelta"), _OBJECT_DURATIONS),
    "period": _OBJECT_PERIODS,
    "interval": _INTERVALS,
    "complex": _COMPLEX,
}
# The same by what polars calls the type of a column.
_POLARS = {"Datetime": _TIMES, "Date": _TIMES, "Duration": _DURATIONS, "Time": _CLOCK}


def of_numbers(X: Any) -> Any:
    """Return an array, a frame or whatever else with columns of numbers, as far as types tell.

    Frames of sparse columns become dense, and tables of Arrow frames.

    Raises
    ------
    ValueError
        If a column is of a type that is no number, or values are masked.
    """
    package = type(X).__module__.partition(".")[0]
    if package == "pyarrow" and hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if package == "polars":
        _check_polars(X)
    if type(X) is dict:  # a sparse matrix of keys is one, too
        raise TypeError("X is a dict: pass a table, such as pd.DataFrame(X).")
    if isinstance(X, pd.DataFrame):
        return _dense(_checked_frame(X))
    if isinstance(X, list | tuple):
        X = _stacked(X)
    if isinstance(X, np.ndarray):
        return _checked_array(X)
    return X


def explained(error: Exception, X: Any) -> Exception:
    """Make of an error about the rows X one that names the column; the same if none is at fault."""
    if type(error) not in (TypeError, ValueError, OverflowError):
        return error
    said = str(error).partition("\n")[0]
    try:
        why = _missing(X) if "contains NaN" in said or "infinity" in said else _odd_column(X)
    except (TypeError, ValueError, OverflowError):  # an X of a kind that has no columns
        return error
    if why is None:
        return error
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{said.rstrip('. ')}. {why}.")


# ---- by types -----------------------------------------------------------------------------


def _checked_frame(X: pd.DataFrame) -> pd.DataFrame:
    for j, (name, dtype) in enumerate(zip(X.columns, X.dtypes, strict=True)):
        if dtype.kind in "biuf":
            continue
        what = _of_type(dtype) or _of_values(dtype, X.iloc[:, j])
        if what is not None:
            raise ValueError(f"Column {name!r} of X holds {what.format(f'X[{name!r}]')}.")
    return X


def _of_type(dtype: Any) -> str | None:
    """Say what is wrong with a column of such a type, if the type alone tells."""
    if isinstance(dtype, pd.PeriodDtype):
        return _PERIODS
    if isinstance(dtype, pd.IntervalDtype):
        return _INTERVALS
    if isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype.kind not in "biuf":
        return (
            f"categories that are {_TEXT}"
            if _is_text(dtype.categories)
            else _of_type(dtype.categories.dtype)
        )
    return {"M": _TIMES, "m": _DURATIONS, "c": _COMPLEX}.get(dtype.kind)


def _is_text(values: Any) -> bool:
    return pd.api.types.infer_dtype(values, skipna=True) in ("string", "mixed", "mixed-integer")


def _of_values(dtype: Any, values: Any) -> str | None:
    """Say what is wrong with a column of objects, if its values are of a kind."""
    if not pd.api.types.is_object_dtype(dtype):
        return None
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "mixed":  # numpy makes a number of its own durations, and of arrays of one number
        odd = (v for v in values if isinstance(v, np.datetime64 | np.timedelta64 | np.ndarray))
        found = next(odd, 0.0)
        kind = pd.api.types.infer_dtype([found])
        return _NESTED if isinstance(found, np.ndarray) else _KINDS.get(kind)
    return _KINDS.get(kind)


def _check_polars(X: Any) -> None:
    if hasattr(X, "collect"):
        raise TypeError("X is a LazyFrame, whose rows are not there yet: pass X.collect().")
    for name, dtype in getattr(X, "schema", {}).items():
        # numpy makes numbers of lists of one number.
        what = _NESTED if dtype.is_nested() else _POLARS.get(str(dtype.base_type()))
        if what is not None:
            raise ValueError(f"Column {name!r} of X holds {what.format(f'X[{name!r}]')}.")


def _dense(X: pd.DataFrame) -> pd.DataFrame:
    sparse = [isinstance(dtype, pd.SparseDtype) for dtype in X.dtypes]
    if not any(sparse):
        return X
    # By places, as names may be there twice.
    types = {j: X.dtypes.iloc[j].subtype for j in np.flatnonzero(sparse)}
    return X.set_axis(range(X.shape[1]), axis=1).astype(types).set_axis(X.columns, axis=1)


def _stacked(X: Sequence[Any]) -> Any:
    """One array of a list of rows, with the masks that these have."""
    if any(isinstance(row, np.ma.MaskedArray) for row in X):
        return np.ma.stack(X)
    if any(isinstance(row, dict) for row in X):
        raise TypeError(
            "float() argument must be a string or a real number, not 'dict': X is a list of "
            "dicts. Pass pd.DataFrame(X)."
        )
    try:
        return np.asarray(X)
    except ValueError as error:
        lengths = [len(row) if hasattr(row, "__len__") else 1 for row in X]
        odd = next((k for k, length in enumerate(lengths) if length != lengths[0]), None)
        if odd is None:
            return X
        raise ValueError(
            f"X is a list of rows of different lengths: row 0 has {lengths[0]} values, row {odd} "
            f"has {lengths[odd]}. Every row must have a value for every column."
        ) from error


def _checked_array(X: NDArray) -> NDArray:
    if isinstance(X, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(X)
        if masked.any():
            raise ValueError(_masked(masked))
        X = X.data
    if X.dtype.names is not None:
        raise ValueError(
            f"X is a structured array with the fields {', '.join(X.dtype.names)}. Pass "
            "numpy.lib.recfunctions.structured_to_unstructured(X), or pd.DataFrame(X)."
        )
    if X.ndim == 2 and (X.dtype.kind in "mM" or X.dtype == object):
        for j in range(X.shape[1]):
            what = _of_type(X.dtype) or _of_values(X.dtype, X[:, j])
            if what is not None:
                raise ValueError(f"Column {j} of X holds {what.format(_series(j))}.")
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: X holds {_COMPLEX}.")
    return X


def _series(j: int) -> str:
    return f"pd.Series(X[:, {j}])"


def _masked(masked: NDArray) -> str:
    where = f"{masked.sum()} of its {masked.size} values are"
    if masked.ndim == 2:
        columns = np.flatnonzero(masked.any(axis=0))
        more = f", and {len(columns) - 1} more columns have such rows" if len(columns) > 1 else ""
        where = f"column {columns[0]} is in {masked[:, columns[0]].sum()} of {len(masked)} rows"
        where += more
    return (
        f"X is a masked array ({where} masked), and what is masked is missing. Pass "
        f"X.astype(float).filled(np.nan). {_IMPUTE}."
    )


# ---- by values ----------------------------------------------------------------------------


def _columns(X: Any) -> Iterator[tuple[str, str, NDArray]]:
    """Columns of a table: what to call them, what a user writes for them, and their values."""
    names: Any = getattr(X, "columns", None)
    if isinstance(X, pd.DataFrame):
        for j, name in enumerate(X.columns):
            yield f"column {name!r}", f"X[{name!r}]", X.iloc[:, j].to_numpy()
        return
    table = np.asarray(X)
    if table.ndim != 2:
        return
    is_named = isinstance(names, list) and len(names) == table.shape[1]
    for j in range(table.shape[1]):
        name, written = (repr(names[j]), f"X[{names[j]!r}]") if is_named else (f"{j}", _series(j))
        yield f"column {name}", written, table[:, j]


def _missing(X: Any) -> str | None:
    """Which columns hold what is no finite number."""
    found, is_none = [], False
    for name, _, column in _columns(X):
        numbers = column.astype(np.float64) if column.dtype != object else _floats(column)
        is_none |= column.dtype == object and any(value is None for value in column)
        odd = ~np.isfinite(numbers)
        if odd.any():
            what = "NaN" if np.isnan(numbers).any() else "infinity"
            found.append(f"{name} holds {what} in {odd.sum()} of {len(odd)} rows")
    if not found:
        return None
    more = f", and so do {len(found) - 3} more" if len(found) > 3 else ""
    replace = "" if "NaN" in found[0] else "Replace infinity by np.nan. "
    listed = "; ".join(found[:3])
    return f"C{listed[1:]}{more}. {replace}{_IMPUTE_NONE if is_none else _IMPUTE}"


def _floats(column: NDArray) -> NDArray:
    return pd.to_numeric(pd.Series(column), errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _odd_column(X: Any) -> str | None:
    """Which column cannot be made numbers, and what to do about it."""
    for name, written, column in _columns(X):
        try:
            column.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            value = next(value for value in column if not _is_number(value))
            return f"C{name[1:]} of X holds {_called(value).format(written)}"
    return None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return value is None
    return True


def _called(value: Any) -> str:
    """Say what is wrong with a value that is no number."""
    if isinstance(value, str | bytes):
        text = repr(value)[:40].replace("{", "{{").replace("}", "}}")
        return f"{text}, which is {_TEXT}"
    kind = pd.api.types.infer_dtype([value], skipna=False)
    if kind in _KINDS:
        return _KINDS[kind]
    if hasattr(value, "__len__") and not isinstance(value, dict):
        return _NESTED
    if isinstance(value, int):
        return "a number that is too large for float64"
    return f"a {type(value).__name__} where a number is wanted"
