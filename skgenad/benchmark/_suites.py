"""Suites: named collections of data sets, loaded one at a time when a benchmark gets to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from numpy.typing import ArrayLike
from sklearn.utils import Bunch

from skgenad.datasets import (
    _adbench,
    _builtin,
    _oddbench,
    fetch_adbench,
    fetch_oddbench,
    list_adbench,
    list_builtin,
    list_folder,
    list_oddbench,
    load_builtin,
    load_npz,
)
from skgenad.datasets._npz import has_split, load_split_npz

from ._detectors import choose
from .protocols import FIXED, PROTOCOLS

Loader = Callable[[], tuple[ArrayLike, ...]]
AUTO = "auto"
# What a data set of these suites was made from; in others each has a source of its own.
_SOURCES = {"builtin": _builtin.source_of, "adbench": _adbench.source_of}


def source_of(suite: str, dataset: str) -> str:
    """Return the source of a data set: sets of one source are no independent cases."""
    find = _SOURCES.get(suite)
    return find(dataset) if find else dataset


@dataclass(frozen=True)
class Suite:
    """Data sets under a common name, not loaded yet.

    Attributes
    ----------
    name : str
        Tells rows of different suites apart in one file of results.
    loaders : dict of str to callable
        Functions without arguments that return ``(X, y)``, by the names of the data sets.
    fixed : bool, default=False
        Whether they return ``(train, test, test_labels)`` instead: a split that is part of the
        data, to which the protocol ``"fixed"`` belongs.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skgenad.benchmark import Suite
    >>> Suite("mine", {"blobs": make_classification}).loaders["blobs"]()[0].shape
    (100, 20)
    """

    name: str
    loaders: dict[str, Loader]
    fixed: bool = False

    def choose_protocol(self, protocol: str) -> str:
        """Return the protocol of this suite that is meant, or raise an error that says what fits.

        Parameters
        ----------
        protocol : str
            ``"auto"`` means ``"fixed"`` where the split is part of the data, else ``"adbench"``.

        Returns
        -------
        protocol : {"adbench", "clean", "fixed"}
            What rows are called by.
        """
        if protocol not in (AUTO, *PROTOCOLS, FIXED):
            raise ValueError(
                f"unknown protocol {protocol!r}; choose one of "
                f"{', '.join((AUTO, *PROTOCOLS, FIXED))}"
            )
        if protocol == AUTO:
            return FIXED if self.fixed else PROTOCOLS[0]
        if self.fixed and protocol != FIXED:
            raise ValueError(
                f"protocol {protocol!r} splits data sets, and those of suite {self.name!r} come "
                "with a split: use protocol='fixed'"
            )
        if protocol == FIXED and not self.fixed:
            raise ValueError(
                f"protocol 'fixed' needs data sets that come with a split, and those of suite "
                f"{self.name!r} do not: use protocol={' or '.join(map(repr, PROTOCOLS))}"
            )
        return protocol


def open_suite(
    suite: str | os.PathLike[str] = "builtin",
    names: Sequence[str] | None = None,
    *,
    data_home: str | os.PathLike[str] | None = None,
) -> Suite:
    """Find the data sets of a suite without loading them.

    Parameters
    ----------
    suite : str or path-like, default="builtin"
        ``"builtin"`` (made from what scikit-learn ships), ``"adbench"`` (ADBench's 47 tables; its
        embeddings when named), ``"oddbench"`` (a hundred tables with fixed splits) or a folder of
        ``.npz`` files, all with ``X`` and ``y`` or all with ``train``, ``test`` and
        ``test_labels``.
    names : sequence of str, default=None
        Data sets to take, all by default. ``"cardio"`` also finds ADBench's ``"6_cardio"``.
    data_home : path-like, default=None
        Where files of ADBench and OddBench are or will be kept; see
        `skgenad.datasets.fetch_adbench`.

    Returns
    -------
    suite : Suite
        Its name, and one loader per data set.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists valid ones. If some files of a folder have a split
        and others have not.
    NotADirectoryError, FileNotFoundError
        If `suite` is neither known nor a folder with ``.npz`` files.

    Examples
    --------
    >>> from skgenad.benchmark import open_suite
    >>> suite = open_suite("builtin", ["wine_0"])
    >>> X, y = suite.loaders["wine_0"]()
    >>> X.shape[1]
    13
    """
    if suite == "builtin":
        known = list_builtin()
        chosen = choose(known if names is None else names, known, "data set")
        return _suite("builtin", load_builtin, chosen)
    if suite == "adbench":
        known = list_adbench("Classical")
        chosen = known if names is None else [_adbench.resolve(name) for name in names]
        return _suite("adbench", partial(fetch_adbench, data_home=data_home), chosen)
    if suite == "oddbench":
        known = list_oddbench()
        chosen = known if names is None else [_oddbench.resolve(name) for name in names]
        load = partial(fetch_oddbench, data_home=data_home)
        return _suite("oddbench", load, chosen, fixed=True)
    folder = Path(suite)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"unknown suite {str(suite)!r}: choose builtin, adbench, oddbench, or a folder of .npz "
            "files"
        )
    known = list_folder(folder)
    return _open_folder(folder, choose(known if names is None else names, known, "data set"))


def _open_folder(folder: Path, names: Sequence[str]) -> Suite:
    files = {name: folder / f"{name}.npz" for name in names}
    # A file that is of neither kind takes nothing from the others: it becomes rows that say so.
    kinds = {name: has_split(path) for name, path in files.items()}
    fixed = [name for name, kind in kinds.items() if kind]
    others = [name for name, kind in kinds.items() if kind is False]
    if fixed and others:
        raise ValueError(
            f"'{folder}' mixes data sets with a split (such as {fixed[0]!r}: train, test and "
            f"test_labels) and without one (such as {others[0]!r}): name those of one kind, or put "
            "them into two folders"
        )
    read = load_split_npz if fixed else load_npz
    name = folder.resolve().name
    return _suite(name, lambda dataset: read(files[dataset]), names, fixed=bool(fixed))


def _suite(
    name: str, load: Callable[[str], Bunch], datasets: Iterable[str], *, fixed: bool = False
) -> Suite:
    parts = ("train", "test", "test_labels") if fixed else ("data", "target")
    loaders: dict[str, Loader] = {d: partial(_arrays, load, d, parts) for d in datasets}
    return Suite(name, loaders, fixed=fixed)


def _arrays(
    load: Callable[[str], Bunch], dataset: str, names: Sequence[str]
) -> tuple[ArrayLike, ...]:
    bunch = load(dataset)
    return tuple(bunch[name] for name in names)
