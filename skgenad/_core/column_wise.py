"""Steps that treat columns one by one: which column each output comes from, and the way back.

This is how what a detector says of transformed columns becomes what is said of those of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import OneToOneFeatureMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, Normalizer, OneHotEncoder

from .explanations import codes_of

_IMPUTERS = (SimpleImputer, KNNImputer)


def transformers_of(steps: Sequence[Any]) -> list[Any]:
    """List the steps that do something, without what freezes them."""
    kept = [step for step in steps if step is not None and not isinstance(step, str)]
    return [step.estimator if isinstance(step, FrozenEstimator) else step for step in kept]


# ---- through steps ------------------------------------------------------------------------


@dataclass(frozen=True)
class Through:
    """A detector seen from the columns before some steps.

    Parameters
    ----------
    steps : sequence of transformers
        Fitted, each column-wise.
    detector : detector
        What comes after them.
    """

    steps: Sequence[Any]
    detector: Any

    def forward(self, X: Any) -> Any:
        """Take rows through the steps."""
        for step in transformers_of(self.steps):
            X = step.transform(X)
        return X

    def explain(self, X: Any, groups: ArrayLike | None, reference: Any) -> NDArray:
        """Contributions (n, d) of the columns of `X`, or (n, n_groups) of groups of them."""
        owner = self._owner(X, groups)
        known = None if reference is None else self.forward(reference)
        values = self.detector.explain(self.forward(X), groups=owner, reference=known)
        if owner is None:
            return values
        n = np.shape(X)[1] if groups is None else len(set(np.asarray(groups).tolist()))
        contributions = np.zeros((len(values), n))
        contributions[:, pd.unique(owner)] = values
        return contributions

    def repair(self, X: Any, groups: ArrayLike | None, reference: Any) -> Any:
        """Repaired rows, in the columns of `X`."""
        owner, before = self._owner(X, groups), self.forward(X)
        known = None if reference is None else self.forward(reference)
        after = self.detector.repair(before, groups=owner, reference=known)
        return taken_back(self.steps, _table(X), before, after)

    def normal_rows(self, X: Any) -> Any:
        """Return the normal rows that were kept, in the columns of `X`, a table of one row."""
        after = self.detector._reference_or(None).rows
        several = np.zeros(len(after), dtype=np.intp)
        X, before = _table(X), _dense(self.forward(X))[several]
        X = X.iloc[several] if isinstance(X, pd.DataFrame) else X[several]
        return taken_back(self.steps, X, before, after)

    def _owner(self, X: Any, groups: ArrayLike | None) -> NDArray | None:
        """Return groups of the columns that the detector is given; None if they are those of X."""
        codes = codes_of(groups, np.shape(X)[1])
        owner = codes[origins(self.steps, len(codes))]
        return None if groups is None and np.array_equal(owner, codes) else owner


def _table(X: Any) -> Any:
    return X if isinstance(X, pd.DataFrame) else np.asarray(X)


# ---- where outputs come from --------------------------------------------------------------


def origins(steps: Sequence[Any], n: int) -> NDArray:
    """Places (n_out,) among `n` columns from which those after all steps come.

    Raises
    ------
    ValueError
        If a step makes columns of several others, or is not known not to.
    """
    places = np.arange(n)
    for step in transformers_of(steps):
        places = places[_origins(step, len(places))]
    return places


def _origins(step: Any, n: int) -> NDArray:
    if isinstance(step, Pipeline):
        return origins([each for _, each in step.steps], n)
    if isinstance(step, ColumnTransformer):
        return _of_column_transformer(step)
    if isinstance(step, SelectorMixin):
        return step.get_support(indices=True)
    if isinstance(step, OneHotEncoder):
        return np.repeat(np.arange(n), _widths(step))
    if isinstance(step, KBinsDiscretizer):
        return np.repeat(np.arange(n), 1 if step.encode == "ordinal" else step.n_bins_)
    if isinstance(step, MissingIndicator):
        return step.features_
    if isinstance(step, _IMPUTERS):
        return _of_imputer(step, n)
    if _is_one_to_one(step):
        return np.arange(n)
    raise ValueError(
        f"{type(step).__name__} makes columns of several others, or may do so, and what the "
        "detector says of them cannot be said of the columns of X. Ask the last step about what "
        "it is given, pipeline[-1].explain(pipeline[:-1].transform(X)), or fit "
        "skgenad.compat.ScoreDetector(pipeline), which looks at scores and columns of X alone."
    )


def _is_one_to_one(step: Any) -> bool:
    if isinstance(step, FunctionTransformer):
        return step.func is None or step.feature_names_out == "one-to-one"
    of_rows = isinstance(step, Normalizer) or type(step).__name__ == "TfidfTransformer"
    return isinstance(step, OneToOneFeatureMixin) and not of_rows


def _of_column_transformer(step: ColumnTransformer) -> NDArray:
    ends = [part.stop for part in step.output_indices_.values()]
    places = np.zeros(max(ends), dtype=np.intp)
    for _, transformer, columns, part in _parts(step):
        places[part] = columns[origins([transformer], len(columns))]
    return places


def _parts(step: ColumnTransformer) -> list[tuple[str, Any, NDArray, slice]]:
    """Names, transformers, places of columns, and outputs of what has outputs."""
    found = []
    for name, transformer, columns in step.transformers_:
        part = step.output_indices_[name]
        if part.stop > part.start:
            found.append((name, transformer, _places(columns, step), part))
    return found


def _places(columns: Any, step: ColumnTransformer) -> NDArray:
    """Places of columns that are named in one of the ways of a ColumnTransformer."""
    every = np.arange(step.n_features_in_)
    if isinstance(columns, slice) and isinstance(columns.start or columns.stop, str):
        names = pd.Index(step.feature_names_in_)
        return every[names.slice_indexer(columns.start, columns.stop)]
    listed = columns if isinstance(columns, slice) else np.atleast_1d(np.asarray(columns))
    if not isinstance(listed, slice) and listed.dtype.kind in "OUS":
        listed = pd.Index(step.feature_names_in_).get_indexer(listed)
    return every[listed]


def _widths(encoder: OneHotEncoder) -> list[int]:
    """Numbers of columns that an encoder makes of each of its columns."""
    rare = getattr(encoder, "infrequent_categories_", [None] * len(encoder.categories_))
    dropped = encoder.drop_idx_
    return [
        len(kinds)
        - (0 if few is None else len(few) - 1)
        - (dropped is not None and dropped[j] is not None)
        for j, (kinds, few) in enumerate(zip(encoder.categories_, rare, strict=True))
    ]


def _of_imputer(step: Any, n: int) -> NDArray:
    """Places of the columns that an imputer keeps, and of those that it indicates."""
    kept = step.get_feature_names_out([f"x{j}" for j in range(n)] if _is_nameless(step) else None)
    names = [f"x{j}" for j in range(n)] if _is_nameless(step) else list(step.feature_names_in_)
    own = [names.index(name) for name in kept if name in names]
    indicator = step.indicator_.features_ if step.add_indicator else []
    return np.array([*own, *indicator], dtype=np.intp)


def _is_nameless(step: Any) -> bool:
    return not hasattr(step, "feature_names_in_")


# ---- the way back -------------------------------------------------------------------------


def taken_back(steps: Sequence[Any], X: Any, before: Any, after: Any) -> Any:
    """Change a table as its transformed rows were changed.

    Parameters
    ----------
    steps : sequence of transformers
        Fitted, each column-wise.
    X : ndarray or DataFrame of shape (n, d)
        Rows before all steps.
    before, after : ndarray or DataFrame of shape (n, n_out)
        The same rows after all steps, as they were and as they are now.

    Returns
    -------
    changed : ndarray or DataFrame of shape (n, d)
        A copy of `X`, in which no cell is touched whose columns after the steps are as they were.
    """
    steps = transformers_of(steps)
    tables = [X]
    for step in steps[:-1]:
        tables.append(step.transform(tables[-1]))
    is_changed = _dense(before) != _dense(after)
    if not steps:
        return _with_values(X, is_changed, _columns(after))
    for step, table in zip(reversed(steps), reversed(tables), strict=True):
        moved = _by_origin(is_changed, _origins(step, table.shape[1]), table.shape[1])
        after = _with_values(table, moved, _inverse(step, table, before, after))
        is_changed, before = moved, table
    return after


def _by_origin(is_changed: NDArray, places: NDArray, n: int) -> NDArray:
    """Which cells (m, n) have changed, by the outputs (m, n_out) of each column."""
    moved = np.zeros((len(is_changed), n), dtype=bool)
    for j, place in enumerate(places):
        moved[:, place] |= is_changed[:, j]
    return moved


def _inverse(step: Any, X: Any, before: Any, after: Any) -> list[Any]:
    """Values of each column of the step's input that make its output `after`, None for some."""
    if isinstance(step, ColumnTransformer):
        return _inverse_of_parts(step, X, before, after)
    if isinstance(step, Pipeline):
        steps = [each for _, each in step.steps]
        return _columns(taken_back(steps, X, before, after))
    if isinstance(step, _IMPUTERS):
        return _inverse_of_imputer(step, X, _dense(after))
    if isinstance(step, MissingIndicator):
        return [None] * X.shape[1]
    one_way = isinstance(step, FunctionTransformer) and step.func and step.inverse_func is None
    if one_way or not hasattr(step, "inverse_transform"):
        raise ValueError(
            f"{step!r} has no inverse, which repaired rows need to be in the units of X. "
            "pipeline[-1].repair(pipeline[:-1].transform(X)) has them in those of the last step."
        )
    return _columns(step.inverse_transform(_dense(after)))


def _inverse_of_parts(step: ColumnTransformer, X: Any, before: Any, after: Any) -> list[Any]:
    found: list[Any] = [None] * X.shape[1]
    before, after = _dense(before), _dense(after)
    for _, transformer, columns, part in _parts(step):
        some = X.iloc[:, columns] if isinstance(X, pd.DataFrame) else X[:, columns]
        back = taken_back([transformer], some, before[:, part], after[:, part])
        for j, values in zip(columns, _columns(back), strict=True):
            found[j] = values if found[j] is None else found[j]
    return found


def _inverse_of_imputer(step: Any, X: Any, after: NDArray) -> list[Any]:
    """Values as they are after the step; those that it indicates are missing again."""
    places, n_indicated = _of_imputer(step, X.shape[1]), 0
    if step.add_indicator:
        n_indicated = len(step.indicator_.features_)
    found: list[Any] = [None] * X.shape[1]
    for j, place in enumerate(places):
        if j < len(places) - n_indicated:
            found[place] = after[:, j].copy()
        elif found[place] is not None:
            found[place][after[:, j].astype(bool)] = step.missing_values
    return found


def _dense(table: Any) -> NDArray:
    return table.toarray() if issparse(table) else np.asarray(table)


def _columns(table: Any) -> list[Any]:
    """Columns of a table, each as an array."""
    if isinstance(table, pd.DataFrame):
        return [table.iloc[:, j].to_numpy() for j in range(table.shape[1])]
    return list(_dense(table).T)


def _with_values(X: Any, is_changed: NDArray, values: list[Any]) -> Any:
    """Copy a table with other values in the cells (n, d) that have changed."""
    is_frame = isinstance(X, pd.DataFrame)
    changed: Any = X.copy() if is_frame else _dense(X).copy()
    for j in np.flatnonzero(is_changed.any(axis=0)):
        if values[j] is None:
            continue
        rows = np.flatnonzero(is_changed[:, j])
        kind = changed.dtypes.iloc[j] if is_frame else changed.dtype
        new = _of_kind(np.asarray(values[j])[rows], kind)
        if is_frame:
            changed.isetitem(j, _column_with(changed.iloc[:, j], rows, new))
        else:
            changed[rows, j] = new
    return changed


def _column_with(column: pd.Series, rows: NDArray, values: NDArray) -> pd.Series:
    column = column.copy()
    column.iloc[rows] = values
    return column


def _of_kind(values: NDArray, kind: Any) -> NDArray:
    """Values that a column of whole numbers or booleans can hold."""
    if pd.api.types.is_bool_dtype(kind):
        return values.astype(float) > 0.5
    if pd.api.types.is_integer_dtype(kind):
        whole = np.rint(values.astype(float))
        return whole.astype(kind if isinstance(kind, np.dtype) else np.int64)
    return values
