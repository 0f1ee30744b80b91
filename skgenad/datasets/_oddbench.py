"""A hundred tables of OddBench (Ding et al., 2026), with the splits that come with them.

OddBench has some 790 tables. The hundred here were drawn at random from those whose files are in
its authors' repository at the commit below; `oddbench_git_blobs.tsv` beside this module has their
git blob ids.
"""

from __future__ import annotations

import functools
import os
from pathlib import PurePosixPath

from sklearn.utils import Bunch

from ._blobs import find_name, read_blobs
from ._fetch import RemoteFile, fetch_file
from ._npz import load_split_npz

_COMMIT = "6d616c7dc737ee1cd24f18cdc0a4989ba1f3c049"
_BASE_URL = f"https://raw.githubusercontent.com/psorus/Outformer/{_COMMIT}"


def list_oddbench() -> list[str]:
    """List the tables of OddBench by the names that `fetch_oddbench` takes.

    Returns
    -------
    list of str
        A hundred names in alphabetical order.

    Examples
    --------
    >>> from skgenad.datasets import list_oddbench
    >>> list_oddbench()[:2]
    ['AllegationAnalysis', 'AttackIncidents']
    >>> len(list_oddbench())
    100
    """
    return list(_files())


def fetch_oddbench(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch:
    """Load one of OddBench's tables with its split, downloading it on first use.

    Anomalies are rows of another meaning (a diagnosis, a kind of failure), and the split is part of
    the data: normal rows to train on, and normal rows and anomalies to test. A file in the
    data home (see `get_data_home`) is used as it is when its git blob id is right: as
    ``oddbench/CodeMetrics.npz`` (where downloads go), or in a checkout of the authors' repository.

    Parameters
    ----------
    name : str
        A name of `list_oddbench`. Case does not matter.
    data_home : path-like, default=None
        Folder to look in and to download to; ``None``: the environment variable ``SKGENAD_DATA``
        if it is set, else a cache folder of the operating system.
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
    sklearn.utils.Bunch
        ``train``, float64 of shape (n_train, n_features), normal rows; ``test``, float64 of shape
        (n_test, n_features); ``test_labels``, int64 of shape (n_test,), 1 = anomaly; ``name``;
        ``filename``; ``url``; ``DESCR``. Rows are as their authors ship them: columns are not
        scaled, and tables of OddBench may hold values that are not finite, though none of these
        does; `skgenad.benchmark.make_fixed_split` fills such values in.

    Raises
    ------
    ValueError
        If no table goes by that name; the message lists near ones.
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If it has to be downloaded and the extra ``bench`` is not installed.

    References
    ----------
    X. Ding, S. Klüttermann, H. Wen, Y. Chen, L. Akoglu. macrOData: New Benchmarks of Thousands of
    Datasets for Tabular Outlier Detection. 2026. https://arxiv.org/abs/2602.09329

    Examples
    --------
    >>> from skgenad.datasets import fetch_oddbench
    >>> table = fetch_oddbench("CodeMetrics")  # doctest: +SKIP
    >>> table.train.shape, table.test.shape, table.test_labels.sum()  # doctest: +SKIP
    ((1065, 19), (1092, 19), 26)
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
    bunch = load_split_npz(path)
    description = f"{bunch.DESCR}\n\nPart of OddBench (Ding et al., 2026). {file.url()}"
    bunch.update(url=file.url(), DESCR=description)
    return bunch


def resolve(name: str) -> str:
    """Full name of the table meant by `name`."""
    known = {full: {full.lower()} for full in _files()}
    return find_name(name, known, "OddBench", "list_oddbench")


@functools.cache
def _files() -> dict[str, RemoteFile]:
    """Every table by name."""
    files = (_remote_file(path, blob) for path, blob in read_blobs("oddbench_git_blobs.tsv"))
    return {PurePosixPath(file.path).stem: file for file in files}


def _remote_file(remote_path: str, blob: str) -> RemoteFile:
    """Entry for a path in the repository."""
    return RemoteFile(
        path=f"oddbench/{PurePosixPath(remote_path).name}",
        base_url=_BASE_URL,
        remote_path=remote_path,
        digest=f"git-blob:{blob}",
        also_at=(remote_path,),
    )
