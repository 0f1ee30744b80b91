"""Rows that training goes on from: bounded, uniform samples of all that a detector has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .large_tables import Table
from .units import PixelUnits

# The most rows, and the most numbers in them, that are kept of one kind: a threshold is then as
# sharp as half a hundredth, and a pickle grows by tens of megabytes at most.
MOST_KEPT_ROWS, MOST_KEPT_NUMBERS = 4096, 2**22
# So many rows stand for all, where those before were lost.
FEWEST_ROWS = 100


@dataclass(frozen=True, eq=False)
class Reservoir:
    """A uniform sample of bounded size of all rows so far, however they came in batches.

    It never changes: more rows make another one, so that a failure on the way costs nothing.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        As they were given, in the units and the type of X.
    labels : ndarray of shape (n,) or None
        Places of their classes, if all of them have any.
    n_seen : int
        Number of rows that were offered.
    """

    rows: NDArray = field(default_factory=lambda: np.empty((0, 0)))
    labels: NDArray | None = None
    n_seen: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def take(
        self,
        rng: np.random.Generator,
        rows: Table,
        places: NDArray,
        labels: NDArray | None = None,
        *,
        least: int = 1,
        most: int | None = None,
    ) -> Reservoir:
        """Sample of the rows so far and of those at some `places` in others, with their labels.

        It has room for `least` rows, whatever the bounds; `most` takes their place.
        """
        if not len(places):
            return self
        total = self.n_seen + len(places)
        if most is None:
            most = max(least, min(MOST_KEPT_ROWS, MOST_KEPT_NUMBERS // rows.shape[1]))
        old, new = np.arange(len(self)), np.arange(len(places))
        if total > most:
            chosen = np.sort(rng.choice(total, most, replace=False, shuffle=False))
            old, new = np.split(chosen, [np.searchsorted(chosen, self.n_seen)])
            new = new - self.n_seen
            if self.n_seen > len(self):  # those kept are any of those seen, one as good as another
                old = np.sort(rng.choice(len(self), len(old), replace=False, shuffle=False))
        new = places[new]
        more, their_labels = rows[new], None if labels is None else labels[new]
        if not len(self):
            return Reservoir(more, their_labels, total)
        if self.labels is None or their_labels is None:  # of some rows alone they are of no use
            their_labels = None
        else:
            their_labels = np.concatenate([self.labels[old], their_labels])
        return Reservoir(together([self.rows[old], more]), their_labels, total)


class Lots:
    """Which of ever more rows are a uniform sample of them, however they come in batches.

    Every row draws a lot, a number in [0, 1), in the order of the rows; those with the lowest are
    the sample. A :class:`Reservoir` draws for a batch as a whole, and has the rows; here they stay
    with whoever asks, in one table for each draw.

    Parameters
    ----------
    most : int
        Number of rows of the sample.
    seed : int
        Seed of the lots.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most = most
        self._rng = np.random.default_rng(seed)
        self._bound = np.inf
        self._kept: list[NDArray] = []

    def draw(self, n: int) -> NDArray:
        """Places of those of the next `n` rows that have not lost yet."""
        lots = self._rng.random(n)
        places = np.flatnonzero(lots < self._bound)
        if len(places):
            self._kept.append(lots[places])
        return places

    @property
    def are_many(self) -> bool:
        """Whether an eighth more rows are kept than the sample has."""
        return sum(map(len, self._kept)) > self.most + self.most // 8

    def losers_out(self) -> list[NDArray]:
        """Places of the rows that stay, for each table; those without any are forgotten."""
        lots = np.concatenate(self._kept)
        if len(lots) <= self.most:
            return [np.arange(len(own)) for own in self._kept]
        winners = np.argsort(lots, kind="stable")[: self.most]  # of equal lots the first wins
        self._bound = lots[winners[-1]]
        stays = np.zeros(len(lots), dtype=bool)
        stays[winners] = True
        ends = np.cumsum([len(own) for own in self._kept])[:-1]
        places = [np.flatnonzero(own) for own in np.split(stays, ends)]
        kept = [own[some] for own, some in zip(self._kept, places, strict=True)]
        self._kept = [own for own in kept if len(own)]
        return places


def together(tables: Sequence[NDArray]) -> NDArray:
    """All rows in one table, but for empty ones; pixels of unlike types as floats in [0, 1]."""
    tables = [rows for rows in tables if len(rows)] or [np.empty((0, 0))]
    if len({rows.dtype for rows in tables}) > 1:
        tables = [PixelUnits.levels(X) if X.dtype == np.uint8 else X for X in tables]
    return np.concatenate(tables)


class Batch(NamedTuple):
    """Rows of a batch, and what they are for.

    Attributes
    ----------
    rows, labels : ndarray
        Rows (n, d) that training sees, and the places of their classes (n,), if they have any.
    train, validation : ndarray of int
        Places of the rows that weights are trained on, and of those that choose epochs.
    held_out : ndarray of shape (m, d)
        Rows that thresholds come from.
    held_out_labels : ndarray of shape (m,) or None
        Places of their classes, if they have any.
    """

    rows: Table
    labels: NDArray | None
    train: NDArray
    validation: NDArray
    held_out: Table
    held_out_labels: NDArray | None = None


@dataclass(frozen=True, eq=False)
class Stream:
    """What a detector has seen in all its training, by what the rows were for.

    Attributes
    ----------
    train, validation, held_out : Reservoir
        Rows that weights were trained on, that chose epochs, and that thresholds come from.
    n_rows : int
        Number of all rows.
    n_of_units : int
        How many of them there were when the units of columns were taken.
    is_complete : bool
        Whether the reservoirs know of all rows. A file has no rows: what was seen before it was
        written is a number.
    """

    train: Reservoir = field(default_factory=Reservoir)
    validation: Reservoir = field(default_factory=Reservoir)
    held_out: Reservoir = field(default_factory=Reservoir)
    n_rows: int = 0
    n_of_units: int = 0
    is_complete: bool = True

    def take(self, batch: Batch, seed: int, *, least: int = 1) -> Stream:
        """Add the rows of a batch; there is room for `least` rows that are trained on."""
        rng = np.random.default_rng(seed)
        rows, labels, train, validation, held_out, known = batch
        return replace(
            self,
            train=self.train.take(rng, rows, train, labels, least=least),
            validation=self.validation.take(rng, rows, validation, labels),
            held_out=self.held_out.take(rng, held_out, np.arange(len(held_out)), known),
            n_rows=self.n_rows + len(train) + len(validation) + len(held_out),
        )

    @property
    def n_learnt(self) -> int:
        """Number of the rows that the reservoirs of training are samples of."""
        return self.train.n_seen + self.validation.n_seen

    def learnt(self) -> list[Reservoir]:
        """Reservoirs of the rows that training has seen, in the order of its places."""
        return [part for part in (self.train, self.validation) if len(part)]

    def speaks_with(self, n: int) -> bool:
        """Whether `n` rows stand for all: they are a sample of all, or are many enough."""
        return self.is_complete or n >= FEWEST_ROWS
