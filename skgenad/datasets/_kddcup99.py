"""KDDCUP99 as DAGMM and the papers after it use it: encoded, scaled, 'normal.' as the anomaly."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from ._fetch import RemoteFile, fetch_file, find_file
from ._papers import make_bunch

# The copy that scikit-learn's `fetch_kddcup99` downloads.
_RAW = RemoteFile(
    path="kddcup99/kddcup.data_10_percent.gz",
    base_url="https://ndownloader.figshare.com/files",
    remote_path="5976042",
    digest="sha256:8045aca0d84e70e622d1148d7df782496f6333bf6eb979a1b0837c42a9fd9561",
    also_at=("kddcup.data_10_percent.gz",),
)
# The same data after encoding, in one array whose last column is the labels. No server has it: the
# file must be in the data home.
_ENCODED = RemoteFile(
    path="kddcup99/kddcup99_dagmm.npz",
    base_url="",
    remote_path="",
    digest="sha256:d2c0a6ebb3dcfeccb61ca413bbb0af78eba06de0ff5944e48c770964545e1904",
    also_at=("kddcup99_dagmm.npz",),
)

_COLUMNS = (
    "duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot "
    "num_failed_logins logged_in num_compromised root_shell su_attempted num_root "
    "num_file_creations num_shells num_access_files num_outbound_cmds is_host_login "
    "is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate srv_rerror_rate "
    "same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count "
    "dst_host_same_srv_rate dst_host_diff_srv_rate dst_host_same_src_port_rate "
    "dst_host_srv_diff_host_rate dst_host_serror_rate dst_host_srv_serror_rate "
    "dst_host_rerror_rate dst_host_srv_rerror_rate label"
).split()
# The values of each categorical column that occur in the 10 % file, in the order of their codes.
_CATEGORIES = {
    "protocol_type": "icmp tcp udp".split(),
    "service": (
        "IRC X11 Z39_50 auth bgp courier csnet_ns ctf daytime discard domain domain_u echo eco_i "
        "ecr_i efs exec finger ftp ftp_data gopher hostnames http http_443 imap4 iso_tsap klogin "
        "kshell ldap link login mtp name netbios_dgm netbios_ns netbios_ssn netstat nnsp nntp "
        "ntp_u other pm_dump pop_2 pop_3 printer private red_i remote_job rje shell smtp sql_net "
        "ssh sunrpc supdup systat telnet tftp_u tim_i time urh_i urp_i uucp uucp_path vmnet whois"
    ).split(),
    "flag": "OTH REJ RSTO RSTOS0 RSTR S0 S1 S2 S3 SF SH".split(),
}
_NUMBERS = [name for name in _COLUMNS[:-1] if name not in _CATEGORIES]
_FEATURES = [
    *(f"{column}_{value}" for column, values in _CATEGORIES.items() for value in values),
    *_NUMBERS,
]


def fetch_kddcup99_dagmm(
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the 10 % file of KDDCUP99 as DAGMM uses it, downloading it on first use.

    Connections of a network, 494,021 rows. Four of five are attacks, so here attacks are normal
    and the 97,278 rows with the label ``normal.`` are the anomalies. The papers train on half of
    all rows, without its anomalies or with a few left in, and test on the other half:
    ``split_rows(y, "dagmm")`` of `skgenad.benchmark`.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder to look in (for ``kddcup99/kddcup.data_10_percent.gz``, where downloads go, or
        ``kddcup.data_10_percent.gz``) and to download to; ``None``: the environment variable
        ``SKGENAD_DATA`` if it is set, else a cache folder of the operating system. A file
        ``kddcup99_dagmm.npz`` there, which holds the encoded rows, is used first.
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
        Address of a mirror of ``https://ndownloader.figshare.com/files``, with the file as
        ``5976042``.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, float64 of shape (494021, 118), which takes 466 MB; ``target``, int64 of shape
        (494021,), 1 = anomaly; ``feature_names``; ``name``; ``filename``; ``url``; ``DESCR``. With
        `return_X_y`, ``(data, target)``.

    Raises
    ------
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If it has to be downloaded and the extra ``bench`` is not installed.

    See Also
    --------
    sklearn.datasets.fetch_kddcup99 : The same rows, with their text columns and all labels.

    Notes
    -----
    The three text columns are encoded as 3, 66 and 11 columns of 0 and 1, in front of the 38
    numbers: 118 features. (DAGMM's paper counts 120; no encoding that gives this number is
    published.) Numbers are scaled so that the rows of attacks, all of them, span [0, 1]; other rows
    may lie outside, and the two columns that are constant there stay as they are. So does the
    public reproduction of DAGMM in PyTorch. Rows are in the order of the file.

    References
    ----------
    B. Zong, Q. Song, M. R. Min, W. Cheng, C. Lumezanu, D. Cho, H. Chen. Deep Autoencoding Gaussian
    Mixture Model for Unsupervised Anomaly Detection. ICLR 2018.

    S. Stolfo, W. Fan, W. Lee, A. Prodromidis, P. Chan. KDD Cup 1999 Data. UCI Machine Learning
    Repository. https://doi.org/10.24432/C51C7N

    Examples
    --------
    >>> from skgenad.datasets import fetch_kddcup99_dagmm
    >>> X, y = fetch_kddcup99_dagmm(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y.mean().round(3)  # doctest: +SKIP
    ((494021, 118), 0.197)
    """
    path = find_file(_ENCODED, data_home)
    if path:
        X, y = _read_encoded(path)
    else:
        path = fetch_file(
            _RAW,
            data_home,
            download_if_missing=download_if_missing,
            verbose=verbose,
            base_url=base_url,
            n_retries=n_retries,
            delay=delay,
        )
        X, y = _read_raw(path)
    if return_X_y:
        return X, y
    text = (
        "KDDCUP99, 10 %, as in DAGMM: connections labelled 'normal.' are the anomalies. CC BY 4.0."
    )
    return make_bunch(
        "kddcup99_dagmm", X, y, path, text, feature_names=list(_FEATURES), url=_RAW.url()
    )


def _read_encoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        table = arrays["kdd"]
    return table[:, :-1], table[:, -1].astype(np.int64)


def _read_raw(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Encode and scale the rows of the original file."""
    types = {column: pd.CategoricalDtype(values) for column, values in _CATEGORIES.items()}
    table = pd.read_csv(path, header=None, names=_COLUMNS, dtype=types, compression="gzip")
    y = (table["label"] == "normal.").to_numpy(dtype=np.int64)
    X = np.zeros((len(table), len(_FEATURES)))
    start = 0
    for column, values in _CATEGORIES.items():
        # No value lacks a code, because the digest fixes which ones the file holds.
        X[np.arange(len(table)), start + table[column].cat.codes.to_numpy()] = 1
        start += len(values)
    numbers = X[:, start:]
    numbers[:] = table[_NUMBERS]
    low, high = numbers[y == 0].min(axis=0), numbers[y == 0].max(axis=0)
    numbers -= low
    numbers /= np.where(high > low, high - low, 1)
    return X, y
