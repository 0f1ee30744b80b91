"""Recordings of a water circulation rig: the Skoltech Anomaly Benchmark (SKAB)."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

_TIME, _LABELS = "datetime", ("anomaly", "changepoint")


class _Recording(NamedTuple):
    names: list[str]
    rows: NDArray
    times: NDArray
    labels: list[NDArray]


def load_skab(folder: str | os.PathLike[str]) -> Bunch:
    """Load the recordings of SKAB from the folders that they come in.

    Eight sensors of a pump, a valve and a tank at one value a second. In each recording of some
    twenty minutes all is well at first and something is wrong later: a valve that is closed partly,
    a leak, an unbalanced rotor. The benchmark's authors train on its first 400 steps, which are
    normal but in ``other/2``, where 296 of them are labelled anomalous.

    Parameters
    ----------
    folder : path-like
        The folder ``data`` of a checkout of the authors' repository, or one with folders such as
        ``valve1``, ``valve2`` and ``other`` in it, of files with a semicolon between values.

    Returns
    -------
    sklearn.utils.Bunch
        ``names``, such as ``"valve1/0"``, in the order of folders and numbers; ``series``, for each
        of them a float64 array of shape (n_times, 8); ``targets``, int64 arrays of shape
        (n_times,), 1 where something is wrong; ``changepoints``, int64 arrays of that shape, 1
        where its beginning or its end is marked; ``times``, datetime64[s] arrays; ``normal``, a
        series without anomalies, or None if the folder ``anomaly-free`` is not there;
        ``feature_names``; ``DESCR``.

    Raises
    ------
    NotADirectoryError
        If `folder` is not a folder.
    FileNotFoundError
        If there are no such files in its folders.
    ValueError
        If a file has other columns than the first one, or a value that is no number.

    References
    ----------
    I. D. Katser, V. O. Kozitsin. Skoltech Anomaly Benchmark (SKAB). Kaggle, 2020.
    https://github.com/waico/SKAB

    Examples
    --------
    >>> from skgenad.datasets import load_skab
    >>> rig = load_skab("SKAB/data")  # doctest: +SKIP
    >>> rig.names[0], rig.series[0].shape, int(rig.targets[0].sum())  # doctest: +SKIP
    ('other/1', (745, 8), 185)
    """
    home = Path(folder)
    if not home.is_dir():
        raise NotADirectoryError(f"{home} is not a folder.")
    paths = sorted(home.glob("*/*.csv"), key=_place)
    labelled = [path for path in paths if path.parent.name != "anomaly-free"]
    if not labelled:
        raise FileNotFoundError(
            f"There are no recordings such as valve1/0.csv in {home}. Pass the folder 'data' of a "
            "checkout of SKAB."
        )
    recordings = [_read(path, labelled=True) for path in labelled]
    free = [_read(path, labelled=False) for path in paths if path not in labelled]
    for path, recording in zip(labelled, recordings, strict=True):
        if recording.names != recordings[0].names:
            raise ValueError(f"{path} has other columns than {labelled[0]}.")
    return Bunch(
        names=[f"{path.parent.name}/{path.stem}" for path in labelled],
        series=[recording.rows for recording in recordings],
        targets=[recording.labels[0] for recording in recordings],
        changepoints=[recording.labels[1] for recording in recordings],
        times=[recording.times for recording in recordings],
        normal=free[0].rows if free else None,
        feature_names=recordings[0].names,
        DESCR=f"{len(labelled)} recordings of SKAB (Katser & Kozitsin, 2020) from {home}",
    )


def _place(path: Path) -> tuple[str, int, str]:
    """Folder, and number where the name is one: 2 comes before 10."""
    return path.parent.name, int(path.stem) if path.stem.isdecimal() else -1, path.stem


def _read(path: Path, *, labelled: bool) -> _Recording:
    """Read one file."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file, delimiter=";")
    wanted = [_TIME, *(_LABELS if labelled else ())]
    if missing := [name for name in wanted if name not in header]:
        raise ValueError(f"{path} has no column {missing[0]!r}, but {', '.join(header)}.")
    names = [name for name in header if name not in (_TIME, *_LABELS)]
    columns = dict(zip(header, zip(*lines, strict=True), strict=True))
    return _Recording(
        names=names,
        rows=np.column_stack([_numbers(path, name, columns[name]) for name in names]),
        times=np.array(columns[_TIME], dtype="datetime64[s]"),
        labels=[_numbers(path, name, columns[name]).astype(np.int64) for name in wanted[1:]],
    )


def _numbers(path: Path, name: str, cells: tuple[str, ...]) -> NDArray:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError as error:
        raise ValueError(
            f"{path}: column {name!r} has a value that is no number: {error}"
        ) from None
