"""Suites: named collections of data sets, loaded one at a time when a benchmark gets to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from numpy.typing import ArrayLike, NDArray

from skgenad.datasets import (
    fetch_adbench,
    list_adbench,
    list_builtin,
    list_folder,
    load_builtin,
    load_npz,
)
from skgenad.datasets._adbench import _resolve

from ._detectors import choose

Loader = Callable[[], tuple[ArrayLike, ArrayLike]]


@dataclass(frozen=True)
class Suite:
    """Data sets under a common name, not loaded yet.

    Attributes
    ----------
    name : str
        Tells rows of different suites apart in one file of results.
    loaders : dict of str to callable
        Functions without arguments that return ``(X, y)``, by the names of the data sets.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skgenad.benchmark import Suite
    >>> Suite("mine", {"blobs": make_classification}).loaders["blobs"]()[0].shape
    (100, 20)
    """

    name: str
    loaders: dict[str, Loader]


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
        embeddings when named) or a folder of ``.npz`` files with ``X`` and ``y``.
    names : sequence of str, default=None
        Data sets to take, all by default. ``"cardio"`` also finds ADBench's ``"6_cardio"``.
    data_home : path-like, default=None
        Where ADBench's files are or will be kept; see `skgenad.datasets.fetch_adbench`.

    Returns
    -------
    suite : Suite
        Its name, and one loader per data set.

    Raises
    ------
    ValueError
        If a name is unknown; the message lists the valid ones.
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
        return Suite("builtin", {n: partial(load_builtin, n, return_X_y=True) for n in chosen})
    if suite == "adbench":
        chosen = list_adbench("Classical") if names is None else [_resolve(n) for n in names]
        fetch = partial(fetch_adbench, data_home=data_home, return_X_y=True)
        return Suite("adbench", {name: partial(fetch, name) for name in dict.fromkeys(chosen)})
    folder = Path(suite)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"unknown suite {str(suite)!r}: choose builtin, adbench, or a folder of .npz files"
        )
    known = list_folder(folder)
    chosen = choose(known if names is None else names, known, "data set")
    return Suite(folder.resolve().name, {n: partial(_load, folder / f"{n}.npz") for n in chosen})


def _load(path: Path) -> tuple[NDArray, NDArray]:
    bunch = load_npz(path)
    return bunch.data, bunch.target
