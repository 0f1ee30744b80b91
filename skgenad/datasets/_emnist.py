"""EMNIST: handwritten digits and letters in the format of MNIST."""

from __future__ import annotations

import os
import string
import zipfile
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ._fetch import RemoteFile, fetch_file
from ._image_bunch import make_image_bunch, parts_of
from ._mnist_like import read_idx

# TensorFlow Datasets records this SHA-256, and torchvision an MD5 of the same file at this address.
_EMNIST = RemoteFile(
    path="emnist/gzip.zip",
    base_url="https://biometrics.nist.gov/cs_links/EMNIST",
    remote_path="gzip.zip",
    digest="sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    also_at=("gzip.zip", "emnist.zip"),
)
_ALL = string.digits + string.ascii_uppercase + string.ascii_lowercase
# Small letters that look like their capitals have the class of these.
_MERGED = "".join(character for character in _ALL if character not in "cijklmopsuvwxyz")
_CLASSES = {
    "balanced": _MERGED,
    "byclass": _ALL,
    "bymerge": _MERGED,
    "letters": string.ascii_uppercase,
    "digits": string.digits,
    "mnist": string.digits,
}


def fetch_emnist(
    split: str = "balanced",
    *,
    subset: str = "train",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load EMNIST, downloading it on first use (562 MB).

    Handwritten digits and letters, white on black, made from the same archive as MNIST. There are
    six choices of images; all are in one file.

    Parameters
    ----------
    split : {"balanced", "byclass", "bymerge", "letters", "digits", "mnist"}, default="balanced"
        Which images: 47 classes of equal size (112,800 training and 18,800 test images); all images
        in 62 classes, or in 47, small letters that look like their capitals with these (697,932 and
        116,323); letters, small and large ones in one class (124,800 and 20,800, which the NAE and
        MPDR papers take as anomalies to MNIST); digits (240,000 and 40,000); digits as MNIST has
        them (60,000 and 10,000).
    subset : {"train", "test", "all"}, default="train"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in (for ``emnist/gzip.zip``, where downloads go, or ``gzip.zip`` or
        ``emnist.zip``) and to download to; ``None``: the environment variable ``SKGENAD_DATA`` if
        it is set, else a cache folder of the operating system.
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
        Address of a mirror, of the folder with ``gzip.zip``, to download from instead of the
        authors' server.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 1, 28, 28), upright, which detectors take with
        ``image_shape=(1, 28, 28)``; ``target``, int64 of shape (n,), the class, from 0 on;
        ``target_names``, its character; ``name``; ``filenames``; ``url``; ``DESCR``. With
        `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `split` is none of the six or `subset` none of the three.
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If something has to be downloaded and the extra ``bench`` is not installed.

    Notes
    -----
    In the file images lie on their side, mirrored, and classes of letters begin with 1; both are
    set right.

    References
    ----------
    G. Cohen, S. Afshar, J. Tapson, A. van Schaik. EMNIST: an Extension of MNIST to Handwritten
    Letters. 2017. https://arxiv.org/abs/1702.05373

    Examples
    --------
    >>> from skgenad.datasets import fetch_emnist
    >>> X, y = fetch_emnist("letters", subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((20800, 1, 28, 28), dtype('uint8'))
    """
    if split not in _CLASSES:
        raise ValueError(f"split must be one of {', '.join(_CLASSES)}, got {split!r}.")
    parts = parts_of(subset)
    path = fetch_file(
        _EMNIST,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    X, y = _read(path, split, parts)
    text = f"EMNIST {split}, {subset}: handwritten characters. No licence stated."
    bunch = make_image_bunch("emnist", X, y, list(_CLASSES[split]), [path], text, _EMNIST.url())
    return (bunch.data, bunch.target) if return_X_y else bunch


def _read(path: Path, split: str, parts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2]: name for name in archive.namelist()}

        def read(kind: str) -> np.ndarray:
            files = [names[f"emnist-{split}-{part}-{kind}-ubyte.gz"] for part in parts]
            return np.concatenate([read_idx(archive.read(name)) for name in files])

        X, y = read("images-idx3"), read("labels-idx1")
    return X.transpose(0, 2, 1)[:, None], y.astype(np.int64) - (split == "letters")
