"""Scores of tables that Dask holds in parts, on many cores or machines.

    scores = score(dask.dataframe.read_parquet("rows/"), load("detector.skgenad"))
    scores.to_frame().to_parquet("scores/")

A row's score depends on that row alone, so the parts are scored where they are, each by itself, and
the scores are those of the whole table, bit by bit on machines of one kind.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.utils.validation import check_is_fitted

from skgenad._core.chunks_of_rows import OF_A_ROW, values_of
from skgenad._core.column_wise import first_of, needed_by
from skgenad._extras import require

__all__ = ["score"]


def score(rows: Any, detector: Any, *, method: str = "score_samples") -> Any:
    """Score the rows of a Dask frame or array, part by part, when Dask computes them.

    Parameters
    ----------
    rows : dask.dataframe.DataFrame or dask.array.Array of shape (n_samples, n_features)
        Rows; arrays of images, (n_samples, C, H, W), for a detector that takes them. Partitions may
        be empty, and their sizes unknown. An array that is divided along other axes than the first
        is rechunked.
    detector : estimator
        Fitted: a detector, a pipeline, or whatever else has the method. It is copied, so that what
        happens to it before Dask computes has no influence, and is one task of the graph: workers
        get it once, from the scheduler or each other, and again if one is lost.
    method : str, default="score_samples"
        What to compute of each row: "score_samples", "anomaly_score", "decision_function",
        "p_value" or "predict". Methods that look at all rows together, as `select` does, cannot be
        computed in parts.

    Returns
    -------
    values : dask.dataframe.Series or dask.array.Array of shape (n_samples,)
        Float64, int64 of "predict". A series has the index and the partitions of the frame, and is
        named as the method.

    Raises
    ------
    ImportError
        If Dask is not installed.
    NotFittedError
        If `detector` is not fitted.
    TypeError
        If `rows` is of another kind, or `detector` has no such method.
    ValueError
        If `method` is none of these, or `rows` has not the columns that `detector` was fitted on.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from skgenad import Mahalanobis
    >>> from skgenad.distributed import score
    >>> X = np.random.RandomState(0).randn(1000, 3)
    >>> detector = Mahalanobis().fit(X)
    >>> scores = score(da.from_array(X, chunks=(300, 3)), detector)
    >>> bool((scores.compute() == detector.score_samples(X)).all())
    True
    """
    require("dask", extra="dask")
    from dask import delayed

    if not isinstance(method, str) or method not in OF_A_ROW:
        raise ValueError(
            f"method={method!r} must be one of {', '.join(map(repr, OF_A_ROW))}: what looks at "
            "each row alone."
        )
    _check_detector(detector, method)
    _check_columns(rows, detector)
    kept = delayed(copy.deepcopy(detector), traverse=False)
    if hasattr(rows, "map_partitions"):
        named = pd.Series(dtype=OF_A_ROW[method], index=rows._meta.index, name=method)
        return rows.map_partitions(_series_of, kept, method, meta=named)
    axes = tuple(range(1, rows.ndim))
    if any(rows.numblocks[axis] > 1 for axis in axes):
        rows = rows.rechunk(dict.fromkeys(axes, -1))
    empty: NDArray = np.empty(0, dtype=OF_A_ROW[method])
    return rows.map_blocks(
        _array_of, kept, method, drop_axis=list(axes), chunks=(rows.chunks[0],), meta=empty
    )


def _check_detector(detector: Any, method: str) -> None:
    if not hasattr(detector, method):
        of_pipelines = "a pipeline of skgenad.pipeline has the methods of its last step"
        what = of_pipelines if hasattr(detector, "steps") else "pass a detector that has it"
        raise TypeError(f"{type(detector).__name__} has no {method}: {what}.")
    if hasattr(detector, "fit"):
        check_is_fitted(detector)


def _check_columns(rows: Any, detector: Any) -> None:
    """Raise an error now, and not in the middle of a computation, where rows cannot be scored."""
    n = getattr(detector, "n_features_in_", None)
    is_frame = hasattr(rows, "map_partitions")
    if not (is_frame or hasattr(rows, "map_blocks")) or getattr(rows, "ndim", 0) < 2:
        raise TypeError(
            f"rows must be a Dask frame, or a Dask array of rows, got {type(rows).__name__}. A "
            "table in memory needs no Dask: call the detector's own methods."
        )
    if is_frame:
        _check_names(rows, first_of([detector]))
    elif rows.ndim == 2 and n is not None and rows.shape[1] != n:
        raise ValueError(f"rows has {rows.shape[1]} columns, and the detector was fitted on {n}.")


def _check_names(rows: Any, first: Any) -> None:
    """Compare the columns of a frame with those that the first step wants."""
    there = set(rows.columns)
    missing = [name for name in needed_by(first) if name not in there]
    if missing:
        raise ValueError(
            f"rows has no columns {', '.join(map(repr, missing[:5]))}"
            f"{' and more' if len(missing) > 5 else ''}, which the detector was fitted on."
        )
    names = list(getattr(first, "feature_names_in_", ()))
    is_strict = type(first).__module__.partition(".")[0] in ("sklearn", "skgenad")
    # Columns of a ColumnTransformer are looked up by their names.
    if (
        names
        and is_strict
        and not isinstance(first, ColumnTransformer)
        and names != list(rows.columns)
    ):
        raise ValueError(
            "rows has other columns than the detector was fitted on, or in another order. Pass "
            "rows[list(detector.feature_names_in_)]."
        )


def _series_of(part: pd.DataFrame, detector: Any, method: str) -> pd.Series:
    return pd.Series(values_of(detector, part, method), index=part.index, name=method)


def _array_of(part: Any, detector: Any, method: str) -> Any:
    return values_of(detector, part, method)
