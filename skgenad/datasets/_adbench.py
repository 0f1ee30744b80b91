"""ADBench's data sets (Han et al., ADBench: Anomaly Detection Benchmark, NeurIPS 2022).

The list of files with their git blob ids is `adbench_git_blobs.tsv` beside this module, taken from
the repository at the commit below.
"""

from __future__ import annotations

import functools
import os
import re

import numpy as np
from sklearn.utils import Bunch

from ._blobs import find_name, read_blobs
from ._fetch import RemoteFile, fetch_file
from ._npz import load_npz

_COMMIT = "3dac8221081e190f157d78e93bfa8867f90d0965"
_BASE_URL = f"https://raw.githubusercontent.com/Minqi824/ADBench/{_COMMIT}"
_PREFIX = "adbench/datasets/"  # how every path of a data set in the repository begins
_TABULAR = "Classical"
# Embeddings whose sets are the classes or the corruptions of one collection; MVTec AD's are of
# objects of their own.
_COLLECTIONS = ("CIFAR10", "FashionMNIST", "MNIST-C", "SVHN", "20news", "agnews")


def list_adbench(group: str | None = None) -> list[str]:
    """List ADBench's data sets by the names that `fetch_adbench` takes.

    Parameters
    ----------
    group : {"Classical", "CV_by_ResNet18", "CV_by_ViT", "NLP_by_BERT", "NLP_by_RoBERTa"}, \
default=None
        The 47 tables, or image or text data as embedded by one network. ``None`` means all.

    Returns
    -------
    list of str
        Such as ``"6_cardio"`` for a table and ``"CV_by_ViT/CIFAR10_0"`` for an embedding, in the
        order of groups and numbers.

    Raises
    ------
    ValueError
        If there is no such group.

    Examples
    --------
    >>> from skgenad.datasets import list_adbench
    >>> list_adbench("Classical")[:3]
    ['1_ALOI', '2_annthyroid', '3_backdoor']
    >>> len(list_adbench())
    195
    """
    groups = sorted({_group(file) for file in _files().values()})
    if group is not None and group not in groups:
        raise ValueError(f"Unknown group {group!r}; choose from {', '.join(groups)}.")
    return [name for name, file in _files().items() if group in (None, _group(file))]


def source_of(name: str) -> str:
    """Return what a data set was made from, which several may share, by whatever network.

    Tables are counted one by one as in ADBench's paper, so that means and ranks compare with those
    of others, though some overlap (``19_landsat`` and ``30_satellite``).
    """
    title = name.rpartition("/")[2]
    collection = title.partition("_")[0]
    return collection if collection in _COLLECTIONS else title


def fetch_adbench(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load one of ADBench's data sets, downloading it on first use.

    A file in the data home (see `get_data_home`) is used as it is when its git blob id is right:
    as ``adbench/Classical/6_cardio.npz`` (where downloads go), as ``Classical/6_cardio.npz``, or in
    a checkout of ADBench's repository. Processes may fetch the same set at the same time.

    Parameters
    ----------
    name : str
        A name of `list_adbench`, or a shorter one that is unique: ``"6_cardio"``, ``"cardio"``,
        ``"CV_by_ViT/CIFAR10_0"``. Case does not matter.
    data_home : path-like, default=None
        Folder to look in and to download to; ``None``: the environment variable ``SKGENAD_DATA``
        if it is set, else a cache folder of the operating system.
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
        Address of a mirror of the repository's root, to download from instead of GitHub.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, float64 (float32 for embeddings) of shape (n_samples, n_features); ``target``,
        int64 of shape (n_samples,), 1 = anomaly; ``name``, as in `list_adbench`; ``group``;
        ``filename``; ``url``; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If no data set, or more than one, goes by that name; the message lists near ones.
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If it has to be downloaded and the extra ``bench`` is not installed.

    References
    ----------
    S. Han, X. Hu, H. Huang, M. Jiang, Y. Zhao. ADBench: Anomaly Detection Benchmark. NeurIPS 2022.
    https://arxiv.org/abs/2206.09426

    Examples
    --------
    >>> from skgenad.datasets import fetch_adbench
    >>> X, y = fetch_adbench("cardio", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y.mean().round(3)  # doctest: +SKIP
    ((1831, 21), 0.096)
    """
    name = resolve(name)
    file = _files()[name]
    path = fetch_file(
        file,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    bunch = load_npz(path)
    if return_X_y:
        return bunch.data, bunch.target
    description = f"{bunch.DESCR}\n\nPart of ADBench (NeurIPS 2022), BSD-2-Clause. {file.url()}"
    bunch.update(name=name, group=_group(file), url=file.url(), DESCR=description)
    return bunch


@functools.cache
def _files() -> dict[str, RemoteFile]:
    """Every data set of the table by name."""
    blobs = read_blobs("adbench_git_blobs.tsv")
    files = [_remote_file(path.removeprefix(_PREFIX), blob) for path, blob in blobs]
    files.sort(key=lambda file: (_group(file) != _TABULAR, _natural_key(file.path)))
    return {_name(file): file for file in files}


def _remote_file(path: str, blob: str) -> RemoteFile:
    """Entry for `path` below ``adbench/datasets``."""
    remote_path = f"{_PREFIX}{path}"
    return RemoteFile(
        path=f"adbench/{path}",
        base_url=_BASE_URL,
        remote_path=remote_path,
        digest=f"git-blob:{blob}",
        also_at=(path, remote_path),
    )


def _group(file: RemoteFile) -> str:
    return file.path.split("/")[-2]


def _name(file: RemoteFile) -> str:
    name = file.path.removeprefix("adbench/").removesuffix(".npz")
    return name.removeprefix(f"{_TABULAR}/")


def _natural_key(text: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def _short_names(name: str) -> set[str]:
    """Lower-case names by which a data set is found.

    The number of a table and the group of an embedding may be left out.
    """
    group, _, stem = name.rpartition("/")
    if group:
        return {name.lower(), stem.lower()}
    without_number = name.split("_", maxsplit=1)[1]
    stems = {name.lower(), without_number.lower()}
    return stems | {f"{_TABULAR.lower()}/{stem}" for stem in stems}


def resolve(name: str) -> str:
    """Full name of the one data set meant by `name`."""
    known = {full: _short_names(full) for full in _files()}
    return find_name(name, known, "ADBench", "list_adbench")
