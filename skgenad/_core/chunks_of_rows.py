"""Rows that come in chunks: scores chunk by chunk, and a fit on a uniform sample of all of them.

A chunk is a table of any kind that ``fit`` and ``score_samples`` take, or an empty one. Its values
are checked where those of a table are: in the chunk that is scored, in the sample that is fitted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from numbers import Integral, Number
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skgenad._tensors.seeds import derived_seed, draw_seed

from .checks import Interval, StrOptions, check_parameter
from .large_tables import OF_PIECE, give_back
from .registry import brief
from .streams import Lots

# Methods that look at each row alone, and the type of what they return.
OF_A_ROW: dict[str, type] = {
    **dict.fromkeys(("score_samples", "anomaly_score", "decision_function", "p_value"), np.float64),
    "predict": np.int64,
}
# The most rows that draw their lots together: a chunk may be a file of any size.
_MOST_ROWS = 2**16
# Which of the seeds that are derived from a detector's is that of the sample.
_OF_SAMPLE = 1
# Rows, and the labels of their classes if they have any.
Piece = tuple[Any, NDArray | None]


class TakesChunks:
    """``score_batches`` and ``fit_stream`` of whatever fits tables and scores their rows."""

    fit: Callable[..., Self]
    _chunk_constraints: ClassVar[dict] = {
        "sample": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
        "method": [StrOptions(set(OF_A_ROW))],
    }

    def score_batches(
        self, chunks: Iterable[Any], *, method: str = "score_samples"
    ) -> Iterator[NDArray]:
        """Score rows that come in chunks, such as the parts of a table larger than memory.

        Parameters
        ----------
        chunks : iterable of array-like of shape (n, n_features)
            Rows; frames, images and empty chunks as well. One chunk at a time is held.
        method : str, default="score_samples"
            What to compute of each row: "score_samples", "anomaly_score", "decision_function",
            "p_value" or "predict".

        Returns
        -------
        values : generator of ndarray of shape (n,)
            Those of each chunk in turn, float64, int64 of "predict". They do not depend on how the
            rows are divided into chunks.

        Raises
        ------
        TypeError
            If `chunks` is a table, or one of them is none.

        Examples
        --------
        >>> import numpy as np
        >>> from skgenad import Mahalanobis
        >>> X = np.random.RandomState(0).randn(500, 3)
        >>> detector = Mahalanobis().fit(X)
        >>> parts = (X[start : start + 100] for start in range(0, 500, 100))
        >>> scores = np.concatenate(list(detector.score_batches(parts)))
        >>> bool((scores == detector.score_samples(X)).all())
        True
        """
        check_is_fitted(self)
        self._check_chunks("score_batches", chunks, method=method)
        return _scored(self, chunks, method)

    def fit_stream(
        self, chunks: Iterable[Any], *, sample: int = 100_000, random_state: Any = None
    ) -> Self:
        """Fit on a uniform sample of rows that come in chunks, however many they are.

        The sample is the one of `fit`, which holds rows out of it for the threshold and p-values:
        these are those of all rows, as far as a sample can tell.

        Parameters
        ----------
        chunks : iterable of array-like of shape (n, n_features)
            Rows, or pairs of rows and their classes for a detector with ``use_labels=True``. Empty
            chunks may be among them. It is read once.
        sample : int, default=100000
            Most rows to fit on, at least 2; of fewer rows all are taken. Every set of so many rows
            is as likely as any other. The sample keeps the order of the rows, and is the same
            however they are divided into chunks.
        random_state : int, RandomState or None, default=None
            Seed of the sample; None: that of the detector.

        Returns
        -------
        self : object
            The fitted detector. If a chunk or the fit fails, it stays what it was before.

        Raises
        ------
        TypeError
            If `chunks` is a table, or one of them is none.
        ValueError
            If there are no rows, or a chunk is of another kind or of other columns than those
            before.

        Notes
        -----
        No more than the sample, an eighth of it and one chunk are in memory before the fit; of
        frames and sparse matrices the sample is copied once when it is put together. Values of rows
        that are not in the sample are not looked at.

        Examples
        --------
        >>> import numpy as np
        >>> from skgenad import Mahalanobis
        >>> rng = np.random.RandomState(0)
        >>> chunks = (rng.randn(1000, 3) for _ in range(100))
        >>> detector = Mahalanobis(random_state=0).fit_stream(chunks, sample=5000)
        >>> detector.predict([[0.0, 0.0, 9.0]])
        array([-1])
        """
        self._check_chunks("fit_stream", chunks, sample=sample, random_state=random_state)
        last = _last_step(self)
        state = getattr(last, "random_state", None) if random_state is None else random_state
        lots = Lots(int(sample), derived_seed(draw_seed(state), _OF_SAMPLE))
        labelled = getattr(last, "_uses_labels", False) is True
        rows, labels = _sample(chunks, lots, labelled)
        return self.fit(rows, labels) if labelled else self.fit(rows)

    def _check_chunks(self, caller: str, chunks: Any, **values: Any) -> None:
        name = f"{type(self).__name__}.{caller}"
        for key, value in values.items():
            check_parameter(self._chunk_constraints[key], key, value, name)
        if hasattr(chunks, "shape") or isinstance(chunks, str | bytes | dict):
            raise TypeError(
                f"chunks of {name} must be an iterable of tables, got one "
                f"{type(chunks).__name__}. Pass its parts, or [X] for the whole table X."
            )


def _last_step(model: Any) -> Any:
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model


# ---- chunks -------------------------------------------------------------------------------------


def values_of(model: Any, chunk: Any, method: str) -> NDArray:
    """Values (n,) by one of the methods of `OF_A_ROW` of the rows of a chunk, which may be none."""
    kind = OF_A_ROW[method]
    if not n_rows(chunk):
        return np.empty(0, dtype=kind)
    values: NDArray = np.asarray(getattr(model, method)(chunk), dtype=kind)
    give_back(chunk)
    return values


def n_rows(table: Any) -> int:
    """Count the rows of a table of any kind."""
    shape = getattr(table, "shape", None)
    return len(table) if shape is None else int(shape[0])


def _scored(model: Any, chunks: Iterable[Any], method: str) -> Iterator[NDArray]:
    for number, chunk in enumerate(chunks):
        _check_table(chunk, number)
        values = values_of(model, chunk, method)
        del chunk  # while the next one is made
        yield values


def _sample(chunks: Iterable[Any], lots: Lots, labelled: bool) -> tuple[Any, NDArray | None]:
    """Return the rows of chunks that win, in their order, and their classes if they have any."""
    pieces: list[Piece] = []
    kind, number = None, 0
    for chunk in chunks:
        rows, classes = _rows_and_classes(chunk, labelled, number)
        if n_rows(rows):
            kind = _checked_kind(rows, kind, number)
            _draw_from(rows, classes, lots, pieces)
        del chunk, rows  # while the next one is made
        number += 1
    if not pieces:
        raise ValueError("chunks hold no rows: there is nothing to fit. Was the iterator used up?")
    _drop(pieces, lots.losers_out())
    labels = [classes for _, classes in pieces if classes is not None]
    rows_of_pieces = [rows for rows, _ in pieces]
    pieces.clear()
    return _joined(rows_of_pieces), np.concatenate(labels) if labelled else None


def _draw_from(rows: Any, classes: NDArray | None, lots: Lots, pieces: list[Piece]) -> None:
    """Add the rows of a chunk that have not lost, and drop those that lose against them."""
    for block in _blocks(rows):
        places = lots.draw(block.stop - block.start)
        if lots.are_many:  # who has lost is known before rows are copied
            *before, own = lots.losers_out()
            _drop(pieces, before)
            places = places[own]
        if len(places):
            places += block.start
            pieces.append((_taken(rows, places), None if classes is None else classes[places]))
        give_back(rows)


def _drop(pieces: list[Piece], stay: list[NDArray]) -> None:
    """Keep the rows at some places, piece by piece, so that no second sample is made of them."""
    for number, places in enumerate(stay):
        rows, classes = pieces[number]
        if len(places) < n_rows(rows):
            pieces[number] = _taken(rows, places), None if classes is None else classes[places]
    pieces[:] = [piece for piece in pieces if n_rows(piece[0])]


def _check_table(chunk: Any, number: int) -> None:
    """Raise TypeError for what is no chunk of rows: what should have been read, or pairs."""
    if chunk is None or isinstance(chunk, str | bytes | dict | os.PathLike | Number):
        raise TypeError(
            f"Chunk {number} must be a table of rows, got {brief(chunk)}. Files are read first, "
            "one by one: (pandas.read_parquet(path) for path in paths)."
        )
    if isinstance(chunk, tuple) and [getattr(part, "ndim", 0) for part in chunk] in (
        [2, 1],
        [4, 1],
    ):
        raise TypeError(
            f"Chunk {number} is a pair, of rows and their classes it seems, which only fit_stream "
            "of a detector with use_labels=True takes. Pass the rows alone: (X for X, y in chunks)."
        )


def _rows_and_classes(chunk: Any, labelled: bool, number: int) -> tuple[Any, NDArray | None]:
    classes = None
    if labelled:
        if not isinstance(chunk, tuple | list) or len(chunk) != 2:
            raise ValueError(
                "With use_labels=True chunks are pairs (X, y) of rows and their classes, and chunk "
                f"{number} is a {type(chunk).__name__}. Pass pairs, or set use_labels=False."
            )
        chunk, classes = chunk[0], np.asarray(chunk[1])
        _check_table(chunk, number)
        if classes.shape != (n_rows(chunk),):
            raise ValueError(
                f"Chunk {number} has {n_rows(chunk)} rows, and classes of shape {classes.shape}: "
                "there must be one for each row."
            )
    else:
        _check_table(chunk, number)
    if type(chunk).__module__.partition(".")[0] == "pyarrow":
        chunk = chunk.to_pandas()
    return chunk.tocsr() if sparse.issparse(chunk) else chunk, classes


def _checked_kind(table: Any, before: Any, number: int) -> Any:
    """Say of what kind a table is; raise ValueError if those before were of another one."""
    kind: Any = type(table).__name__.replace("memmap", "ndarray")
    if hasattr(table, "columns"):
        kind = (kind, tuple(table.columns))
    elif hasattr(table, "shape"):
        # Bytes are pixels where other numbers are none.
        kind = (kind, tuple(table.shape[1:]), getattr(table, "dtype", None) == np.uint8)
    if before is not None and kind != before:
        names = ("its kind", "its columns", "its type: uint8, or not")
        differs = next(
            (name for name, a, b in zip(names, kind, before, strict=False) if a != b), names[0]
        )
        raise ValueError(
            f"Chunk {number} differs from those before in {differs}: {kind} after {before}. Bring "
            "all chunks to the same form."
        )
    return kind


def _blocks(table: Any) -> list[slice]:
    n, width = n_rows(table), int(np.prod(getattr(table, "shape", (0,))[1:]))
    size = max(1, min(_MOST_ROWS, OF_PIECE // max(1, width)))
    return [slice(start, min(n, start + size)) for start in range(0, n, size)]


def _taken(table: Any, places: NDArray) -> Any:
    """Return a copy of some rows."""
    if isinstance(table, pd.DataFrame):
        return table.iloc[places]
    if isinstance(table, list | tuple):
        return [table[place] for place in places.tolist()]
    rows = table[places]
    return np.asarray(rows) if isinstance(rows, np.ndarray) else rows


def _joined(pieces: list[Any]) -> Any:
    """Put pieces of one kind together; those of arrays are gone one after another meanwhile."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    if isinstance(first, list):
        return list(chain.from_iterable(pieces))
    if isinstance(first, pd.DataFrame):
        return pd.concat(pieces)
    if sparse.issparse(first):
        return sparse.vstack(pieces, format="csr")
    if hasattr(first, "vstack"):  # of polars, in which files of one table may differ in types
        return sys.modules["polars"].concat(pieces, how="vertical_relaxed")
    kinds = {np.asarray(piece).dtype for piece in pieces}
    whole = np.empty((sum(map(len, pieces)), *first.shape[1:]), dtype=np.result_type(*kinds))
    end = len(whole)
    while pieces:
        piece = np.asarray(pieces.pop())
        whole[end - len(piece) : end] = piece
        end -= len(piece)
    return whole
