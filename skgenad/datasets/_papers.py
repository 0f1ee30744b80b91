"""Small tables with which papers compare detectors, prepared as they say: Abalone and ODDS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from sklearn.utils import Bunch

from skgenad.metrics._labels import check_labels

from ._fetch import RemoteFile, fetch_file

# The digest of the archive's file is recorded by several projects; the second one is that of the
# same file below a row of column names.
_ABALONE = RemoteFile(
    path="uci/abalone.data",
    base_url="https://archive.ics.uci.edu/ml/machine-learning-databases/abalone",
    remote_path="abalone.data",
    digest="sha256:de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f",
    also_at=("abalone.data",),
    also_fits=("sha256:f15f9fac506b89af89258d0fc916b842cb5b04cba4795617193c22411a5c5c4f",),
)
# The files that the pages of ODDS link to.
_ARRHYTHMIA = RemoteFile(
    path="odds/arrhythmia.mat",
    base_url="https://www.dropbox.com/s/lmlwuspn1sey48r",
    remote_path="arrhythmia.mat?dl=1",
    digest="sha256:e4d47e499591ae31e5d7f0cd983367092353eac240f48e14c9b36457edb3460d",
    also_at=("arrhythmia.mat",),
)
_THYROID = RemoteFile(
    path="odds/thyroid.mat",
    base_url="https://www.dropbox.com/s/bih0e15a0fukftb",
    remote_path="thyroid.mat?dl=1",
    digest="sha256:49155d7861b977e90808faf68343ff67a67f63090c2744d514dbb67ac68e7e33",
    also_at=("thyroid.mat",),
)

_NORMAL_RINGS, _ANOMALOUS_RINGS = (8, 9, 10), (3, 21)
_SEXES = ("M", "F", "I")
_MEASURES = [
    *("length", "diameter", "height"),
    *("whole_weight", "shucked_weight", "viscera_weight", "shell_weight"),
]


def fetch_abalone(
    *,
    sex: str = "code",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load Abalone as an anomaly problem, downloading it on first use.

    Molluscs with 8, 9 or 10 rings are normal, those with 3 or 21 are anomalies, all others are left
    out: 1,891 normal rows and 29 anomalies. The papers train on normal rows and test on all
    anomalies and as many normal rows, ``split_rows(y, "drocc")`` of `skgenad.benchmark`.

    Parameters
    ----------
    sex : {"code", "onehot", "drop"}, default="code"
        What becomes of the text column: one column with male = 0, female = 1, infant = 2, as in the
        published code of DROCC, whose preparation later papers took over; a column of 0 and 1 for
        each; or nothing.
    data_home : path-like, default=None
        Folder to look in (for ``uci/abalone.data``, where downloads go, or ``abalone.data``; the
        latter may begin with a row of column names) and to download to; ``None``: the environment
        variable ``SKGENAD_DATA`` if it is set, else a cache folder of the operating system.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` alone.
    download_if_missing : bool, default=True
        If False, a missing file is an error.
    verbose : bool, default=False
        Show a progress bar while downloading.
    n_retries : int, default=3
        How often a broken connection is tried again. What has arrived is kept.
    delay : float, default=1.0
        Seconds between two attempts.
    base_url : str, default=None
        Address of a mirror, of the folder with ``abalone.data``, to download from instead of the
        UCI archive.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, float64 of shape (1920, 8), (1920, 10) or (1920, 7), as `sex` says; ``target``,
        int64 of shape (1920,), 1 = anomaly; ``rings``, int64 of shape (1920,); ``feature_names``;
        ``name``; ``filename``; ``url``; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `sex` is none of the three.
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If it has to be downloaded and the extra ``bench`` is not installed.

    References
    ----------
    W. Nash, T. Sellers, S. Talbot, A. Cawthorn, W. Ford. Abalone. UCI Machine Learning Repository,
    1994. https://doi.org/10.24432/C55C7W

    S. Goyal, A. Raghunathan, M. Jain, H. V. Simhadri, P. Jain. DROCC: Deep Robust One-Class
    Classification. ICML 2020. https://arxiv.org/abs/2002.12718

    Examples
    --------
    >>> from skgenad.datasets import fetch_abalone
    >>> X, y = fetch_abalone(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int(y.sum())  # doctest: +SKIP
    ((1920, 8), 29)
    """
    if sex not in ("code", "onehot", "drop"):
        raise ValueError(f"sex must be 'code', 'onehot' or 'drop', got {sex!r}.")
    path = fetch_file(
        _ABALONE,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    X, y, rings, names = _read_abalone(path, sex)
    if return_X_y:
        return X, y
    return make_bunch(
        "abalone",
        X,
        y,
        path,
        "Rings 8, 9 and 10 are normal, 3 and 21 the anomalies. UCI, CC BY 4.0.",
        rings=rings,
        feature_names=names,
        url=_ABALONE.url(),
    )


def fetch_arrhythmia(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the Arrhythmia data of ODDS, downloading it on first use.

    Electrocardiograms, 386 normal rows and 66 anomalies: the eight smallest classes of the UCI data
    (3, 4, 5, 7, 8, 9, 14, 15) together. There are more columns than normal rows to train on. The
    papers train on half of the normal rows and test on the others and all anomalies,
    ``split_rows(y, "goad")`` of `skgenad.benchmark`, or ``"goad-first"`` for GOAD's public code.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder to look in (for ``odds/arrhythmia.mat``, where downloads go, or ``arrhythmia.mat``)
        and to download to; ``None``: the environment variable ``SKGENAD_DATA`` if it is set, else a
        cache folder of the operating system.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` alone.
    download_if_missing : bool, default=True
        If False, a missing file is an error.
    verbose : bool, default=False
        Show a progress bar while downloading.
    n_retries : int, default=3
        How often a broken connection is tried again. What has arrived is kept.
    delay : float, default=1.0
        Seconds between two attempts.
    base_url : str, default=None
        Address of a mirror, of the folder with ``arrhythmia.mat``, to download from instead of
        where ODDS keeps the file.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, float64 of shape (452, 274); ``target``, int64 of shape (452,), 1 = anomaly;
        ``name``; ``filename``; ``url``; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If it has to be downloaded and the extra ``bench`` is not installed.

    References
    ----------
    S. Rayana. ODDS Library. Stony Brook University, 2016.

    Examples
    --------
    >>> from skgenad.datasets import fetch_arrhythmia
    >>> X, y = fetch_arrhythmia(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int(y.sum())  # doctest: +SKIP
    ((452, 274), 66)
    """
    path = fetch_file(
        _ARRHYTHMIA,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    X, y = _read_mat(path)
    if return_X_y:
        return X, y
    text = "Arrhythmia of ODDS: eight small classes are the anomalies."
    return make_bunch("arrhythmia", X, y, path, text, url=_ARRHYTHMIA.url())


def fetch_thyroid(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the Thyroid data of ODDS, downloading it on first use.

    The six continuous measurements of the UCI data, 3,679 normal rows and 93 anomalies, patients
    with hyperfunction. ADBench's ``38_thyroid`` has the same rows and values. The papers train on
    half of the normal rows and test on the others and all anomalies, ``split_rows(y, "goad")`` of
    `skgenad.benchmark`, or ``"goad-first"`` for GOAD's public code.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder to look in (for ``odds/thyroid.mat``, where downloads go, or ``thyroid.mat``) and to
        download to; ``None``: the environment variable ``SKGENAD_DATA`` if it is set, else a cache
        folder of the operating system.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` alone.
    download_if_missing : bool, default=True
        If False, a missing file is an error.
    verbose : bool, default=False
        Show a progress bar while downloading.
    n_retries : int, default=3
        How often a broken connection is tried again. What has arrived is kept.
    delay : float, default=1.0
        Seconds between two attempts.
    base_url : str, default=None
        Address of a mirror, of the folder with ``thyroid.mat``, to download from instead of where
        ODDS keeps the file.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, float64 of shape (3772, 6), in [0, 1]; ``target``, int64 of shape (3772,), 1 =
        anomaly; ``name``; ``filename``; ``url``; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If it has to be downloaded and the extra ``bench`` is not installed.

    References
    ----------
    S. Rayana. ODDS Library. Stony Brook University, 2016.

    Examples
    --------
    >>> from skgenad.datasets import fetch_thyroid
    >>> X, y = fetch_thyroid(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, int(y.sum())  # doctest: +SKIP
    ((3772, 6), 93)
    """
    path = fetch_file(
        _THYROID,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    X, y = _read_mat(path)
    if return_X_y:
        return X, y
    text = "Thyroid of ODDS: hyperfunction is the anomaly."
    return make_bunch("thyroid", X, y, path, text, url=_THYROID.url())


def make_bunch(
    name: str, X: np.ndarray, y: np.ndarray, path: Path, text: str, **fields: Any
) -> Bunch:
    """Put a data set and its description into a Bunch."""
    description = (
        f"{name}: {len(y)} rows, {X.shape[1]} features, {y.sum()} anomalies ({y.mean():.1%}), from "
        f"'{path}'.\n\n{text} {fields['url']}"
    )
    return Bunch(data=X, target=y, name=name, filename=str(path), DESCR=description, **fields)


def _read_abalone(path: Path, sex: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Read features, labels, numbers of rings and names of features."""
    lines = [line.split(",") for line in path.read_text(encoding="ascii").split()]
    table = np.array([line for line in lines if line[0] in _SEXES])  # without column names
    all_rings = table[:, -1].astype(np.int64)
    kept = np.isin(all_rings, [*_NORMAL_RINGS, *_ANOMALOUS_RINGS])
    table, rings = table[kept], all_rings[kept]
    onehot = (table[:, :1] == np.array(_SEXES)).astype(np.float64)
    columns, names = {
        "code": (onehot @ np.arange(3.0)[:, None], ["sex"]),
        "onehot": (onehot, [f"sex_{value}" for value in _SEXES]),
        "drop": (onehot[:, :0], []),
    }[sex]
    X = np.concatenate([columns, table[:, 1:-1].astype(np.float64)], axis=1)
    y = np.isin(rings, _ANOMALOUS_RINGS).astype(np.int64)
    return X, y, rings, [*names, *_MEASURES]


def _read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = loadmat(path)
    return np.ascontiguousarray(arrays["X"], dtype=np.float64), check_labels(arrays["y"])
