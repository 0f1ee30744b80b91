"""Members of a committee: fitted out of sample, and calibrated by what that gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skgenad._core.rows import Shape, image_shape_of
from skgenad._tensors.seeds import derived_seed, seed_unseeded
from skgenad._tensors.tails import MOST_REFERENCES, Tail

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
        for fold, model in enumerate(self.models):
            table = getattr(model, "history_", None)
            if isinstance(table, pd.DataFrame) and len(table):
                yield table.assign(member=self.name, fold=fold)


@dataclass(frozen=True)
class Task:
    """One model to fit: on which rows, and on which others to take its reference energies."""

    member: int
    seed: int
    train: NDArray | None = None
    reference: NDArray | None = None


def energies(model: Any, X: Any) -> NDArray:
    """Energies (n,) of rows, high for anomalies; what is infinite becomes the largest number."""
    scores = -np.asarray(model.score_samples(X), dtype=np.float64).reshape(-1)
    if np.isnan(scores).any():
        raise ValueError(f"{model!r} gave NaN as a score. Leave it out of the members.")
    return np.nan_to_num(scores)


def leaves_out(model: Any) -> bool:
    """Whether a training row's score is the one that it would have without that row."""
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    return bool(getattr(last, "scores_leave_one_out", False))


def shape_of(members: Named) -> Shape | None:
    """Shape of images, if one of the members takes images."""
    shapes = [image_shape_of(m.get_params(deep=False)) for _, m in members if _takes_images(m)]
    return next((shape for shape in shapes if shape is not None), None)


def _takes_images(member: Any) -> bool:
    return hasattr(member, "get_params") and "image_shape" in member.get_params(deep=False)


def tasks_of(members: Named, n: int, folds: int, seed: int) -> list[Task]:
    """List the models to fit on `n` rows.

    A member that leaves rows out by itself needs one model. Others need one for each fold, fitted
    on the rows of the other folds. With too few rows for two folds of two rows they are fitted on
    all rows, and calibrated by those.
    """
    draws = np.random.RandomState(seed)
    part = draws.permutation(n) % min(folds, max(1, n // 2))
    n_parts = int(part.max()) + 1
    some = draws.permutation(n)[:MOST_REFERENCES]
    tasks = []
    for j, (_, member) in enumerate(members):
        if leaves_out(member) or n_parts == 1:
            # One seed for all of them: they choose the same anchors, and share searches.
            tasks.append(Task(j, derived_seed(seed, 0), None, np.sort(some)))
            continue
        own = derived_seed(seed, j + 1)
        for fold in range(n_parts):
            held_out = np.sort(some[part[some] == fold])
            train = np.flatnonzero(part != fold)
            tasks.append(Task(j, derived_seed(own, fold), train, held_out))
    return tasks


def learned(member: Any, task: Task, X: Any, y: NDArray | None) -> tuple[Any, Tail]:
    """Fit a copy of a member as a task says; return it and the tail of its energies."""
    model = clone(member)
    seed_unseeded(model, task.seed)
    labels = y if getattr(member, "_uses_labels", False) else None
    if task.train is None:
        model.fit(X, labels)
    else:
        model.fit(_rows(X, task.train), None if labels is None else labels[task.train])
    tail = Tail()
    tail.learn(torch.from_numpy(energies(model, _rows(X, task.reference))))
    return model, tail


def _rows(X: Any, places: Any) -> Any:
    return X.iloc[places] if isinstance(X, pd.DataFrame) else X[places]
