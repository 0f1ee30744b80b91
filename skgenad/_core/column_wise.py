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
from sklearn.base import OneToOneFeatureMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, Normalizer, OneHotEncoder

from .explanations import codes_of
from .frames import (
    columns_of,
    dense,
    differ,
    names_of,
    some_columns,
    some_rows,
    table_of,
    with_columns,
    with_names,
    with_values,
)
from .vectorizers import is_vectorizer, looked_up, origins_of, values_of

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
        rows = self.forward(self._as_fitted(X)[0])  # first, as steps say what is wrong with X
        known = None if reference is None else self.forward(self._as_fitted(reference)[0])
        owner, n_groups = self._owner(X, groups)
        values = self.detector.explain(rows, groups=owner, reference=known)
        if owner is None:
            return values
        contributions = np.zeros((len(values), n_groups))
        contributions[:, pd.unique(owner)] = values
        return contributions

    def repair(self, X: Any, groups: ArrayLike | None, reference: Any) -> Any:
        """Repaired rows, in the columns of `X`."""
        table, places = self._as_fitted(table_of(X))
        known = None if reference is None else table_of(self._as_fitted(reference)[0])
        before, normal = self.forward(table), None if known is None else self.forward(known)
        owner, _ = self._owner(X, groups)
        after = self.detector.repair(before, groups=owner, reference=normal)
        changed = taken_back(self.steps, table, before, after, known)
        return changed if places is None else _put_back(X, places, changed)

    def normal_rows(self, X: Any) -> Any:
        """Return the normal rows that were kept, in the columns of `X`, a table of one row."""
        after = self.detector._reference_or(None).rows
        several = np.zeros(len(after), dtype=np.intp)
        given = some_rows(table_of(X), several)
        table, places = self._as_fitted(given)
        before = dense(self.forward(self._as_fitted(table_of(X))[0]))[several]
        changed = taken_back(self.steps, table, before, after)
        return changed if places is None else _put_back(given, places, changed)

    def _as_fitted(self, X: Any) -> tuple[Any, NDArray | None]:
        """Put the columns of a frame in the order of the fit, if the first step asks for names.

        Also their places in `X`, -1 of those that it need not have and has not; None if there is
        nothing to move or to leave out.
        """
        step = first_of(self.steps)
        names, there = list(getattr(step, "feature_names_in_", ())), names_of(X)
        if not names or there is None or names == there:
            return X, None
        if not set(needed_by(step)) <= set(there):
            return X, None  # the step says so
        places = np.array([there.index(name) if name in there else -1 for name in names])
        return some_columns(X, places) if (places >= 0).all() else with_names(X, names), places

    def _owner(self, X: Any, groups: ArrayLike | None) -> tuple[NDArray | None, int]:
        """Return groups of the columns that the detector is given; None if they are those of X.

        Also how many groups there are.
        """
        codes, (_, places) = codes_of(groups, np.shape(X)[1]), self._as_fitted(X)
        inner = codes if places is None else codes[places]
        owner = inner[origins(self.steps, len(inner))]
        alike = groups is None and np.array_equal(owner, codes)
        return None if alike else owner, int(codes.max()) + 1


def _put_back(X: Any, places: NDArray, changed: Any) -> Any:
    """Copy `X` with the columns of a table in the order of the fit, whose places in `X` are given.

    Those that are not in `X` are at places of -1.
    """
    there = np.flatnonzero(places >= 0)
    return with_columns(X, places[there], some_columns(changed, there))


# ---- which columns a step asks for ----------------------------------------------------------


def first_of(steps: Sequence[Any]) -> Any:
    """First of some steps that is no pipeline of others; None if there is none."""
    steps = transformers_of(steps)
    while steps and isinstance(steps[0], Pipeline):
        steps = transformers_of([each for _, each in steps[0].steps])
    return steps[0] if steps else None


def needed_by(step: Any) -> list[Any]:
    """Names of the columns that a fitted step cannot do without; none if it was given no names."""
    names = list(getattr(step, "feature_names_in_", ()))
    if not names or not isinstance(step, ColumnTransformer):
        return names
    kept = [columns for _, each, columns in step.transformers_ if not _is_dropped(each)]
    used = np.concatenate([np.empty(0, dtype=np.intp), *(_places(c, step) for c in kept)])
    return [names[j] for j in np.unique(used)]


def _is_dropped(transformer: Any) -> bool:
    """Whether a ColumnTransformer leaves the columns of a transformer out."""
    return isinstance(transformer, str) and transformer == "drop"


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
    if is_vectorizer(step):
        return origins_of(step)
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
        # Whatever is made of a single column comes from that.
        places[part] = (
            columns[0] if len(columns) == 1 else columns[origins([transformer], len(columns))]
        )
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


def taken_back(steps: Sequence[Any], X: Any, before: Any, after: Any, known: Any = None) -> Any:
    """Change a table as its transformed rows were changed.

    Parameters
    ----------
    steps : sequence of transformers
        Fitted, each column-wise.
    X : ndarray or DataFrame of shape (n, d)
        Rows before all steps.
    before, after : ndarray or DataFrame of shape (n, n_out)
        The same rows after all steps, as they were and as they are now.
    known : ndarray or DataFrame of shape (m, d), default=None
        Other rows before all steps, whose cells are taken where a step has no inverse.

    Returns
    -------
    changed : ndarray or DataFrame of shape (n, d)
        A copy of `X`, in which no cell is touched whose columns after the steps are as they were.
    """
    steps = transformers_of(steps)
    tables, others = [X], [known]
    for step in steps[:-1]:
        tables.append(step.transform(tables[-1]))
        others.append(None if known is None else step.transform(others[-1]))
    is_changed = differ(before, after)
    if not steps:
        return with_values(X, is_changed, columns_of(after))
    for step, table, other in reversed(list(zip(steps, tables, others, strict=True))):
        places = _origins_of_some(step, table.shape[1], is_changed.shape[1])
        moved = _by_origin(is_changed, places, table.shape[1])
        change = _Change(table, before, after, moved, other)
        after = with_values(table, moved, change.inverse_of(step))
        is_changed, before = moved, table
    return after


def _origins_of_some(step: Any, n: int, n_out: int) -> NDArray:
    """Places of the columns that outputs come from; one column has no choice."""
    return np.zeros(n_out, dtype=np.intp) if n == 1 else _origins(step, n)


def _by_origin(is_changed: NDArray, places: NDArray, n: int) -> NDArray:
    """Which cells (m, n) have changed, by the outputs (m, n_out) of each column."""
    moved = np.zeros((len(is_changed), n), dtype=bool)
    for j, place in enumerate(places):
        moved[:, place] |= is_changed[:, j]
    return moved


@dataclass(frozen=True)
class _Change:
    """What a step is taken back from: rows before it, and after it as they were and as they are.

    Parameters
    ----------
    X : ndarray or DataFrame of shape (n, d)
        Rows before the step.
    before, after : ndarray or DataFrame of shape (n, n_out)
        Rows after the step, as they were and as they are now.
    moved : ndarray of shape (n, d)
        Which cells of `X` have to change.
    known : ndarray or DataFrame of shape (m, d), or None
        Other rows before the step.
    """

    X: Any
    before: Any
    after: Any
    moved: NDArray
    known: Any

    def inverse_of(self, step: Any) -> list[Any]:
        """Values of each column of `X` that make the step's output `after`, None for some."""
        if isinstance(step, ColumnTransformer):
            return self._of_parts(step)
        if isinstance(step, Pipeline):
            steps = [each for _, each in step.steps]
            return columns_of(taken_back(steps, self.X, self.before, self.after, self.known))
        if isinstance(step, _IMPUTERS):
            return _inverse_of_imputer(step, self.X, dense(self.after))
        if isinstance(step, MissingIndicator) or not self.moved.any():
            return [None] * self.X.shape[1]
        if self.known is not None and (is_vectorizer(step) or not _has_inverse(step)):
            return self._looked_up(step)
        if is_vectorizer(step):
            return values_of(step, self.X, dense(self.after), self.moved)
        if not _has_inverse(step):
            raise ValueError(
                f"{step!r} has no inverse, which repaired rows need to be in the units of X. Pass "
                "normal rows whose cells can be taken instead, reference=X_train, or ask for what "
                "the last step is given, pipeline[-1].repair(pipeline[:-1].transform(X))."
            )
        values = columns_of(step.inverse_transform(dense(self.after)))
        return _without_rare(step, values) if isinstance(step, OneHotEncoder) else values

    def _looked_up(self, step: Any) -> list[Any]:
        """Cells of the known rows that are nearest to those that have changed, after the step."""
        n, after = self.X.shape[1], dense(self.after)
        made, places = dense(step.transform(self.known)), _origins_of_some(step, n, after.shape[1])
        cells = columns_of(self.known)
        return [
            looked_up(self.moved[:, j], after[:, places == j], made[:, places == j], cells[j])
            for j in range(n)
        ]

    def _of_parts(self, step: ColumnTransformer) -> list[Any]:
        found: list[Any] = [None] * self.X.shape[1]
        before, after = dense(self.before), dense(self.after)
        for _, transformer, columns, part in _parts(step):
            some = some_columns(self.X, columns)
            known = None if self.known is None else some_columns(self.known, columns)
            back = taken_back([transformer], some, before[:, part], after[:, part], known)
            for j, values in zip(columns, columns_of(back), strict=True):
                found[j] = values if found[j] is None else found[j]
        return found


def _has_inverse(step: Any) -> bool:
    one_way = isinstance(step, FunctionTransformer) and step.func and step.inverse_func is None
    return not one_way and hasattr(step, "inverse_transform")


def _without_rare(encoder: OneHotEncoder, values: list[Any]) -> list[Any]:
    """Let a column of all rare categories be the first of them."""
    rare = getattr(encoder, "infrequent_categories_", [None] * len(values))
    return [
        v if few is None else np.where(v == "infrequent_sklearn", few[:1].astype(object), v)
        for v, few in zip(values, rare, strict=True)
    ]


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
