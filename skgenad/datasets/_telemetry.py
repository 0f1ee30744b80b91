"""Telemetry of a satellite and a rover with experts' labels: SMAP and MSL."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

_SPACECRAFT = ("SMAP", "MSL")
_LABELS = "labeled_anomalies.csv"
_PARTS = ("train", "test", "label")


def load_telemetry(folder: str | os.PathLike[str], spacecraft: str) -> Bunch:
    """Load NASA's telemetry of the satellite SMAP or of the rover on Mars, MSL.

    Each channel is a sensor, the first column, beside commands that were sent, in columns of 0 and
    1. Its training part is taken to be normal; in its test part experts labelled intervals that are
    anomalous. Channels are of subsystems that have little to do with each other, so that papers
    train on each alone.

    Parameters
    ----------
    folder : path-like
        The unpacked data of the authors' repository: ``labeled_anomalies.csv`` and folders
        ``train`` and ``test`` with a file such as ``P-1.npy`` for each channel, or with the
        labels' file in the folder above, as the archive has it. Or a folder with ``nasa_smap.npz``
        or ``nasa_msl.npz``, arrays ``P-1/train``, ``P-1/test`` and ``P-1/label`` (1 = anomaly) for
        each channel.
    spacecraft : {"SMAP", "MSL"}
        Which of the two: 54 channels of 25 columns, or 27 of 55.

    Returns
    -------
    sklearn.utils.Bunch
        ``names``, such as ``"P-1"``, in the order of the file; for each of them, in lists,
        ``normal``, float64 of shape (n_times, n_features), to train on; ``series``, the same for
        the test; ``targets``, int64 of shape (n_times,), 1 where the test is anomalous. ``DESCR``.

    Raises
    ------
    ValueError
        If `spacecraft` is none of the two, or a file does not hold what it should.
    NotADirectoryError
        If `folder` is not a folder.
    FileNotFoundError
        If there are no such files in it.

    Notes
    -----
    Nothing is downloaded: no digest of the authors' archive is published. Channel P-2 is listed
    twice in their file of labels, and the intervals of both lines count.

    References
    ----------
    K. Hundman, V. Constantinou, C. Laporte, I. Colwell, T. Soderstrom. Detecting Spacecraft
    Anomalies Using LSTMs and Nonparametric Dynamic Thresholding. KDD 2018.
    https://github.com/khundman/telemanom

    Examples
    --------
    >>> from skgenad.datasets import load_telemetry
    >>> rover = load_telemetry("telemanom/data", "MSL")  # doctest: +SKIP
    >>> rover.names[0], rover.normal[0].shape, rover.series[0].shape  # doctest: +SKIP
    ('M-6', (1565, 55), (2049, 55))
    """
    home = Path(folder)
    if spacecraft not in _SPACECRAFT:
        raise ValueError(f"spacecraft must be 'SMAP' or 'MSL', got {spacecraft!r}.")
    if not home.is_dir():
        raise NotADirectoryError(f"{home} is not a folder.")
    packed = home / f"nasa_{spacecraft.lower()}.npz"
    labels = [place for place in (home / _LABELS, home.parent / _LABELS) if place.is_file()]
    if (home / "train").is_dir() and labels:
        channels = _read_folder(home, labels[0], spacecraft)
    elif packed.is_file():
        channels = _read_packed(packed)
    else:
        raise FileNotFoundError(
            f"There is neither {_LABELS} with train/ and test/ in {home} nor {packed.name}. Pass "
            "the folder 'data' of telemanom, unpacked."
        )
    for name, (normal, series, target) in channels.items():
        if normal.ndim != 2 or series.shape != (len(target), normal.shape[1]):
            raise ValueError(
                f"{home}: channel {name} has parts of shapes {normal.shape}, {series.shape} and "
                f"{target.shape}; they must be (n, d), (m, d) and (m,)."
            )
    return Bunch(
        names=list(channels),
        normal=[normal for normal, _, _ in channels.values()],
        series=[series for _, series, _ in channels.values()],
        targets=[target for _, _, target in channels.values()],
        DESCR=f"{len(channels)} channels of {spacecraft} (Hundman et al., 2018) from {home}",
    )


Channels = dict[str, tuple[NDArray, NDArray, NDArray]]


def _read_folder(home: Path, labels: Path, spacecraft: str) -> Channels:
    """Read the authors' files; intervals in the file of labels include their ends."""
    channels: Channels = {}
    with labels.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line.get("spacecraft") == spacecraft]
    if not lines:
        raise ValueError(f"{labels} has no line of {spacecraft}.")
    for line in lines:
        name = line["chan_id"]
        if name not in channels:
            normal, series = (
                _read_array(home / part / f"{name}.npy") for part in ("train", "test")
            )
            channels[name] = normal, series, np.zeros(len(series), dtype=np.int64)
        target = channels[name][2]
        for first, last in json.loads(line["anomaly_sequences"]):
            if not 0 <= first <= last < len(target):
                raise ValueError(
                    f"{labels}: channel {name} has the interval [{first}, {last}], which is not "
                    f"one of {len(target)} time steps."
                )
            target[first : last + 1] = 1
    return channels


def _read_array(path: Path) -> NDArray:
    try:
        return np.load(path, allow_pickle=False).astype(np.float64)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array of numbers: {error}") from error


def _read_packed(path: Path) -> Channels:
    with np.load(path, allow_pickle=False) as arrays:
        names = [name.removesuffix("/train") for name in arrays.files if name.endswith("/train")]
        missing = [f"{n}/{p}" for n in names for p in _PARTS if f"{n}/{p}" not in arrays.files]
        if missing or not names:
            raise ValueError(f"{path} has no array {(missing or ['P-1/train'])[0]}.")
        return {
            name: (
                arrays[f"{name}/train"].astype(np.float64),
                arrays[f"{name}/test"].astype(np.float64),
                arrays[f"{name}/label"].astype(np.int64),
            )
            for name in names
        }
