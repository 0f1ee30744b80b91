"""Members of a committee: fitted out of sample, and calibrated by what that gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skgenad._core.calibration import hold_out_nothing
from skgenad._core.contract import BaseDetector
from skgenad._core.foreign import HOW_TO_SCORE, fits_and_scores
from skgenad._core.large_tables import SomeRows, Table, rows_at
from skgenad._core.reference import forget_rows
from skgenad._core.rows import Shape
from skgenad._core.sentinels import Sentinels, warned_of, without_sentinels
from skgenad._core.units import ColumnMoments, PixelUnits
from skgenad._tensors.seeds import derived_seed, seed_unseeded
from skgenad._tensors.tails import MOST_ENERGY, MOST_REFERENCES, Tail

Named = Sequence[tuple[str, Any]]


@dataclass
class Member:
    """A fitted member: one model, or one for each fold, with the tails of their energies."""

    name: str
    models: list[Any] = field(default_factory=list)
    tails: list[Tail] = field(default_factory=list)

    def tail(self, X: Any) -> NDArray:
        """Minus log tail probabilities (n,) of rows, the mean over the models."""
        values = [
            tail(torch.from_numpy(energies(model, X))).numpy()
            for model, tail in zip(self.models, self.tails, strict=True)
        ]
        return np.mean(values, axis=0)

    @property
    def history(self) -> Iterator[pd.DataFrame]:
        """Histories of the models that have one, with columns that name member and fold."""
        return history_of(self.models, self.name)


@dataclass(frozen=True)
class Task:
    """One model to fit: on which rows, and on which others to take its reference energies."""

    member: int
    seed: int
    train: NDArray | None
    reference: NDArray


@dataclass(frozen=True)
class TrainingRows:
    """Rows of a fit: models are fitted without sentinels, and score rows as they are.

    References are scored as new rows are, or they could not stand for them. So those that a model
    is fitted on are looked at apart from the others: what is done to them depends on no row that
    is scored.

    Attributes
    ----------
    table : ndarray or SomeRows of shape (n, d)
        The rows as they are.
    clean : ndarray or SomeRows of shape (n, d)
        The same without sentinels.
    labels : ndarray of shape (n,) or None
        Classes of the rows.
    image_shape : tuple of int or None
        Shape of images, whose pixels are bounded and hold no sentinels.
    names : ndarray of shape (d,) or None
        Names of the columns.
    warned : bool
        Whether there was a warning of sentinels.
    """

    table: Table
    clean: Table
    labels: NDArray | None
    image_shape: Shape | None
    names: Any
    warned: bool

    @classmethod
    def of(
        cls,
        table: Table,
        labels: NDArray | None,
        image_shape: Shape | None,
        names: Any,
    ) -> Self:
        """Look at rows, and warn once if they hold sentinels."""
        if image_shape is not None:
            return cls(table, table, labels, image_shape, names, False)
        found = Sentinels.of(table, ColumnMoments.of(table))
        has_some = bool(len(found.columns))
        if has_some:
            found.warn(table, names)
        return cls(table, found.clipped(table), labels, image_shape, names, has_some)

    def to_fit(self, places: NDArray | None) -> Any:
        """Rows that a model is fitted on, all of them without `places`."""
        rows = self.clean if places is None else rows_at(self.table, places)
        if places is not None and self.image_shape is None:
            rows, _ = without_sentinels(rows, self.names)
        return rows_for_models(rows, self.image_shape, self.names)

    def to_score(self, places: NDArray) -> Any:
        """Rows whose scores new ones are compared with."""
        return rows_for_models(self.table[places], self.image_shape, self.names)


def check_detector(given: Any) -> None:
    """Raise TypeError unless it is an unfitted detector."""
    if not fits_and_scores(given):
        raise TypeError(
            f"detector must be an unfitted detector with fit and score_samples, got {given!r}. "
            f"Pass for example Mahalanobis(). {HOW_TO_SCORE}"
        )


def refuse_samples(detector: Any, around: Any) -> None:
    """Raise TypeError for a detector of samples that are no rows, such as images in files."""
    if getattr(detector, "_takes_samples", False):
        name, whose = type(detector).__name__, type(around).__name__
        raise TypeError(
            f"{whose} fits detectors of rows, and this {name} with features= takes samples that "
            f"are none. It holds samples out by itself; or pass {name}({whose}(...), "
            "features=...), which is fitted on their parts."
        )


def is_pair(pair: Any) -> bool:
    """Whether it is a name and something else."""
    return isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)


def energies(model: Any, X: Any) -> NDArray:
    """Energies (n,) of rows, high for anomalies; what is infinite becomes a very large number."""
    scores = -np.asarray(model.score_samples(_taken_by(model, X)), dtype=np.float64).reshape(-1)
    if np.isnan(scores).any():
        raise ValueError(
            f"{model!r} gave NaN as a score, which no other score can be compared with. Take "
            "another detector; a committee can do without a member."
        )
    return np.clip(scores, -MOST_ENERGY, MOST_ENERGY)


def leaves_out(model: Any) -> bool:
    """Whether a training row's score is the one that it would have without that row."""
    return bool(getattr(_last_step(model), "scores_leave_one_out", False))


def uses_labels(model: Any) -> bool:
    """Whether a model, or the last step of a pipeline, needs the classes of rows."""
    return getattr(_last_step(model), "_uses_labels", False) is True


def _last_step(model: Any) -> Any:
    while isinstance(model, Pipeline):
        model = model.steps[-1][1]
    return model


def shape_of(members: Named) -> Shape | None:
    """Shape of images, if one of the members takes images."""
    shapes = [m._shape(reset=True) for _, m in members if isinstance(m, BaseDetector)]
    return next((shape for shape in shapes if shape is not None), None)


def tasks_of(
    members: Named,
    n: int,
    folds: int,
    seed: int,
    classes: NDArray | None = None,
    *,
    in_folds: bool = False,
    of_one_row: bool = False,
) -> list[Task]:
    """List the models to fit on `n` rows.

    A member that leaves rows out by itself needs one model, unless all are fitted `in_folds`.
    Others need one for each fold, fitted on the rows of the other folds. With too few rows for two
    folds of two rows, or `of_one_row`, they are fitted on all rows, and calibrated by those. The
    rows of each of the `classes` (n,), if there are any, are spread over the folds.
    """
    draws = np.random.RandomState(seed)
    n_parts = min(folds, n if of_one_row and n > 2 else max(1, n // 2))
    shuffled = draws.permutation(n)
    part = shuffled % n_parts
    if classes is not None:
        by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
        part[by_class] = np.arange(n) % n_parts
    some = _references(part, draws)
    tasks = []
    for j, (_, member) in enumerate(members):
        if (leaves_out(member) and not in_folds) or n_parts == 1:
            # One seed for all of them: they choose the same anchors, and share searches.
            tasks.append(Task(j, derived_seed(seed, 0), None, np.sort(some)))
            continue
        own = derived_seed(seed, j + 1)
        for fold in np.unique(part[some]).tolist():
            held_out = np.sort(some[part[some] == fold])
            train = np.flatnonzero(part != fold)
            tasks.append(Task(j, derived_seed(own, fold), train, held_out))
    return tasks


def _references(part: NDArray, draws: np.random.RandomState) -> NDArray:
    """Places of the rows to compare with: of many so many, of each fold as many as of others."""
    order = draws.permutation(len(part))
    if len(order) <= MOST_REFERENCES:
        return order
    by_part = order[np.argsort(part[order], kind="stable")]
    sizes = np.bincount(part)
    rank = np.arange(len(part)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Which folds have one more is drawn, too: with classes those of alike numbers may be alike.
    turn = draws.permutation(len(sizes))[part[by_part]]
    return by_part[np.lexsort((turn, rank))][:MOST_REFERENCES]


def learned(member: Any, task: Task, rows: TrainingRows) -> tuple[Any, Tail, NDArray]:
    """Fit a copy of a member as a task says; return it, its tail, and that of its references."""
    model, energies_of_references = fitted(member, task, rows)
    tail, known = Tail(), torch.from_numpy(energies_of_references)
    tail.learn(known)
    return model, tail, tail(known).numpy()


def fitted(member: Any, task: Task, rows: TrainingRows) -> tuple[Any, NDArray]:
    """Fit a copy of a member as a task says; return it and the energies of its references."""
    labels = rows.labels if uses_labels(member) else None
    if labels is not None and task.train is not None:
        labels = labels[task.train]
    with warned_of(rows.warned):
        model = fitted_copy(member, task.seed, rows.to_fit(task.train), labels)
    return model, energies(model, rows.to_score(task.reference))


def fitted_copy(detector: Any, seed: int, X: Any, labels: NDArray | None = None) -> Any:
    """Fit a copy of a detector on all rows, as a part of another one, which has the threshold."""
    model = clone(detector)
    seed_unseeded(model, seed)
    hold_out_nothing(model)
    model.fit(_taken_by(model, X), labels)
    return forget_rows(model)  # whoever is made of it has them


def rows_for_models(X: Table, image_shape: Shape | None, names: NDArray | None) -> Any:
    """Rows with the names of columns, if they have names, and pixels in [0, 1]."""
    if isinstance(X, SomeRows):
        if image_shape is None and names is None:
            return X
        X = X.as_array()
    if image_shape is not None:  # models for tables know nothing of uint8
        X = PixelUnits.identity(X.shape[1]).to_standard(X)
    return X if names is None else pd.DataFrame(X, columns=names)


def history_of(models: Sequence[Any], name: str) -> Iterator[pd.DataFrame]:
    """Histories of models that have one, with columns that name member and fold."""
    for fold, model in enumerate(models):
        table = getattr(model, "history_", None)
        if isinstance(table, pd.DataFrame) and len(table):
            inner = f"{name}__" + table["member"] if "member" in table else name
            yield table.assign(member=inner, fold=fold)


def _taken_by(model: Any, X: Any) -> Any:
    """Rows as a model gets them: float64 in a pipeline.

    In float32 a step such as PCA may make other digits of a row in `fit` than it does later, and
    its last one would not know the row again that it must leave out. Detectors of this package
    know how to read a large table.
    """
    if isinstance(X, SomeRows) and not isinstance(model, BaseDetector):
        X = X.as_array()
    return X.astype(np.float64) if isinstance(model, Pipeline) else X
