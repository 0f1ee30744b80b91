"""Vibrations of bearings, whole ones and ones with a fault: Case Western Reserve University's."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from sklearn.utils import Bunch

_PACKED = "cwru_48k_0hp.npz"
_NORMAL = "normal"
# Numbers in the names of the files of whole bearings, at loads of 0, 1, 2 and 3 hp.
_WHOLE = {"97", "98", "99", "100"}
_SENSOR = "_DE_time"
# What scipy raises for files that are none of Matlab's, or half of one.
_BROKEN = (MatReadError, ValueError, TypeError, IndexError, NotImplementedError, OSError, EOFError)


def load_cwru(folder: str | os.PathLike[str]) -> Bunch:
    """Load vibrations of bearings from the files of Case Western Reserve University.

    An accelerometer at a motor's driven end, with a whole bearing and with ones into which a fault
    was cut by sparks: in a ball, the inner or the outer race, some tenths of a millimetre across.

    Parameters
    ----------
    folder : path-like
        A folder with files of the Bearing Data Center's page, such as ``97.mat`` and ``118.mat``.
        Or one with ``cwru_48k_0hp.npz``, an array for each recording by the name of its fault, such
        as ``"IR007"``, and ``"normal"``.

    Returns
    -------
    sklearn.utils.Bunch
        ``names``, those of the files without ``.mat``, or of the arrays; ``series``, for each of
        them a float64 array of shape (n_times, 1), which
        :class:`~skgenad.preprocessing.SlidingWindows` cuts into windows; ``targets``, an int64
        array of shape (n_recordings,), 0 for whole bearings, whose files are called 97 to 100, or
        whose arrays ``normal``, and 1 for others; ``DESCR``.

    Raises
    ------
    NotADirectoryError
        If `folder` is not a folder.
    FileNotFoundError
        If there are no such files in it.
    ValueError
        If a file does not hold the signal of the driven end, or holds two.

    Notes
    -----
    Nothing is downloaded: no digests of the files are published. Files differ in their sampling
    rate, 12 or 48 kHz, and the load of the motor: take those that fit together. A file that holds
    the signal of another recording as well, as ``99.mat`` does, is read by its number.

    References
    ----------
    Case Western Reserve University Bearing Data Center.
    https://engineering.case.edu/bearingdatacenter

    Examples
    --------
    >>> from skgenad.datasets import load_cwru
    >>> bearings = load_cwru("bearings")  # doctest: +SKIP
    >>> bearings.names, bearings.targets  # doctest: +SKIP
    (['97', '109', '122'], array([0, 1, 1]))
    """
    home = Path(folder)
    if not home.is_dir():
        raise NotADirectoryError(f"{home} is not a folder.")
    paths = [path for path in home.glob("*.mat") if path.stem.isdecimal()]
    if (home / _PACKED).is_file():
        with np.load(home / _PACKED, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    elif paths:
        paths.sort(key=lambda path: int(path.stem))
        found = {path.stem: _driven_end(path) for path in paths}
    else:
        raise FileNotFoundError(
            f"There are no files such as 97.mat in {home}, and no {_PACKED}. Get files from the "
            "page of the Bearing Data Center."
        )
    whole = {_NORMAL, *_WHOLE}
    return Bunch(
        names=list(found),
        series=[signal.astype(np.float64).reshape(-1, 1) for signal in found.values()],
        targets=np.array([name not in whole for name in found], dtype=np.int64),
        DESCR=f"{len(found)} recordings of bearings (Case Western Reserve University) from {home}",
    )


def _driven_end(path: Path) -> NDArray:
    """Read the signal of the sensor at the driven end; with several, that of the file's number."""
    try:
        arrays = loadmat(path)
    except _BROKEN as error:
        raise ValueError(f"{path} cannot be read as a .mat file: {error}") from error
    names = [name for name in arrays if name.endswith(_SENSOR)]
    own = f"X{path.stem:0>3}{_SENSOR}"
    if own in names:
        return arrays[own]
    if len(names) != 1:
        raise ValueError(
            f"{path} has the signals {', '.join(names) or 'none'} of the driven end, and must have "
            f"one, or {own}."
        )
    return arrays[names[0]]
