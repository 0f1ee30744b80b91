"""Colour images of 32x32 pixels: CIFAR-10, CIFAR-100 and SVHN."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from sklearn.utils import Bunch

from ._fetch import RemoteFile, fetch_file, find_file
from ._image_bunch import make_image_bunch, parts_of
from ._mnist_like import read_splits

# This is the binary version, of plain bytes; the version for Python is made of pickles. The SHA-256
# is the one that TensorFlow Datasets records.
_CIFAR10 = RemoteFile(
    path="cifar10/cifar-10-binary.tar.gz",
    base_url="https://www.cs.toronto.edu/~kriz",
    remote_path="cifar-10-binary.tar.gz",
    digest="sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    also_at=("cifar-10-binary.tar.gz",),
)
# A small copy in circulation has 1,000 and 400 images a class, which were JPEG once. No server has
# it: the file must be in the data home.
_CIFAR10_SUBSET = RemoteFile(
    path="cifar10/cifar10_subset.npz",
    base_url="",
    remote_path="",
    digest="sha256:bf88d5367b847a9d96b90406cb8cdbb59936c1d0ecb22d05f4f7171bbdb02c9a",
    also_at=("cifar10_subset.npz",),
)
# TensorFlow Datasets records this SHA-256.
_CIFAR100 = RemoteFile(
    path="cifar100/cifar-100-binary.tar.gz",
    base_url="https://www.cs.toronto.edu/~kriz",
    remote_path="cifar-100-binary.tar.gz",
    digest="sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    also_at=("cifar-100-binary.tar.gz",),
)
# TensorFlow Datasets and torchvision's prototype data sets record these SHA-256.
_SVHN = {
    part: RemoteFile(
        path=f"svhn/{part}_32x32.mat",
        base_url="http://ufldl.stanford.edu/housenumbers",
        remote_path=f"{part}_32x32.mat",
        digest=f"sha256:{digest}",
        also_at=(f"{part}_32x32.mat",),
    )
    for part, digest in {
        "train": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        "test": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    }.items()
}

_CIFAR10_BATCHES = {
    "train": [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}
_CIFAR100_FOLDER = "cifar-100-binary"
_SIDE = 32
_THINGS = "airplane automobile bird cat deer dog frog horse ship truck".split()
_DIGITS = [str(digit) for digit in range(10)]


def fetch_cifar10(
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
    """Load CIFAR-10, downloading it on first use.

    Photographs of animals and vehicles: 50,000 training and 10,000 test images.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in (for ``cifar10/cifar-10-binary.tar.gz``, where downloads go, or
        ``cifar-10-binary.tar.gz``; where there is neither, for the small copy of the Notes) and to
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
        Address of a mirror, of the folder with ``cifar-10-binary.tar.gz``, to download from
        instead of the author's page.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 3, 32, 32), which detectors take with
        ``image_shape=(3, 32, 32)``; ``target``, int64 of shape (n,), the class, 0 to 9;
        ``target_names``; ``name``; ``filenames``; ``url``; ``DESCR``. With `return_X_y`, ``(data,
        target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the three.
    FileNotFoundError
        If a file is missing and `download_if_missing` is False.
    OSError
        If a file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If something has to be downloaded and the extra ``bench`` is not installed.

    Notes
    -----
    A file ``cifar10_subset.npz`` in the data home or its folder ``cifar10``, of known digest, is
    read where the archive is not there: 1,000 training and 400 test images a class that were JPEG
    files once. It does for ratios and trials, not for a paper's absolute numbers. ``DESCR`` says
    which file was read.

    References
    ----------
    A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report,
    University of Toronto, 2009.

    Examples
    --------
    >>> from skgenad.datasets import fetch_cifar10
    >>> X, y = fetch_cifar10(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((10000, 3, 32, 32), dtype('uint8'))
    """
    parts = parts_of(subset)
    path, text = None, f"CIFAR-10, {subset}: photographs, whole and as published."
    if find_file(_CIFAR10, data_home) is None:
        path = find_file(_CIFAR10_SUBSET, data_home)
    if path:
        text = f"A part of CIFAR-10, {subset}: photographs that were JPEG files once."
        X, y = read_splits(path, parts)
        X = X.transpose(0, 3, 1, 2)
    else:
        path = fetch_file(
            _CIFAR10,
            data_home,
            download_if_missing=download_if_missing,
            verbose=verbose,
            base_url=base_url,
            n_retries=n_retries,
            delay=delay,
        )
        X, labels = _read_cifar(path, [n for part in parts for n in _CIFAR10_BATCHES[part]], 1)
        y = labels[:, 0]
    bunch = make_image_bunch("cifar10", X, y, _THINGS, [path], text, _CIFAR10.url())
    return (bunch.data, bunch.target) if return_X_y else bunch


def fetch_cifar100(
    *,
    subset: str = "train",
    coarse: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load CIFAR-100, downloading it on first use.

    Photographs in 100 classes of 20 kinds, 50,000 training and 10,000 test images. No image is one
    of CIFAR-10, and there are vehicles and animals in both.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The training images, the test images, or the former and then the latter.
    coarse : bool, default=False
        Take the 20 kinds for the classes.
    data_home : path-like, default=None
        Folder to look in (for ``cifar100/cifar-100-binary.tar.gz``, where downloads go, or
        ``cifar-100-binary.tar.gz``) and to download to; ``None``: the environment variable
        ``SKGENAD_DATA`` if it is set, else a cache folder of the operating system.
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
        Address of a mirror, of the folder with ``cifar-100-binary.tar.gz``, to download from
        instead of the author's page.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 3, 32, 32), which detectors take with
        ``image_shape=(3, 32, 32)``; ``target``, int64 of shape (n,), the class, 0 to 99, or 0 to
        19; ``target_names``; ``name``; ``filenames``; ``url``; ``DESCR``. With `return_X_y`,
        ``(data, target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the three.
    FileNotFoundError
        If a file is missing and `download_if_missing` is False.
    OSError
        If a file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If something has to be downloaded and the extra ``bench`` is not installed.

    References
    ----------
    A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report,
    University of Toronto, 2009.

    Examples
    --------
    >>> from skgenad.datasets import fetch_cifar100
    >>> X, y = fetch_cifar100(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((10000, 3, 32, 32), dtype('uint8'))
    """
    parts = parts_of(subset)
    path = fetch_file(
        _CIFAR100,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    X, labels = _read_cifar(path, [f"{_CIFAR100_FOLDER}/{part}.bin" for part in parts], 2)
    kind = "coarse" if coarse else "fine"
    (listed,) = _read_members(path, [f"{_CIFAR100_FOLDER}/{kind}_label_names.txt"])
    names = listed.decode().split()
    text = f"CIFAR-100, {subset}: photographs, as published. No licence stated."
    y = labels[:, 0 if coarse else 1]
    bunch = make_image_bunch("cifar100", X, y, names, [path], text, _CIFAR100.url())
    return (bunch.data, bunch.target) if return_X_y else bunch


def fetch_svhn(
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
    """Load the cropped Street View House Numbers, downloading them on first use.

    Digits on houses, with pieces of their neighbours: 73,257 training and 26,032 test images.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in (for ``svhn/train_32x32.mat`` and ``svhn/test_32x32.mat``,
        where downloads go, or both without the folder) and to
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
        Address of a mirror, of the folder with the two files, to download from
        instead of the authors' page.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 3, 32, 32), which detectors take with
        ``image_shape=(3, 32, 32)``; ``target``, int64 of shape (n,), the class, the digit;
        ``target_names``; ``name``; ``filenames``; ``url``; ``DESCR``. With `return_X_y`, ``(data,
        target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the three.
    FileNotFoundError
        If a file is missing and `download_if_missing` is False.
    OSError
        If a file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If something has to be downloaded and the extra ``bench`` is not installed.

    References
    ----------
    Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng. Reading Digits in Natural Images
    with Unsupervised Feature Learning. NIPS workshop, 2011.

    Examples
    --------
    >>> from skgenad.datasets import fetch_svhn
    >>> X, y = fetch_svhn(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((26032, 3, 32, 32), dtype('uint8'))
    """
    paths = [
        fetch_file(
            _SVHN[part],
            data_home,
            download_if_missing=download_if_missing,
            verbose=verbose,
            base_url=base_url,
            n_retries=n_retries,
            delay=delay,
        )
        for part in parts_of(subset)
    ]
    tables = [loadmat(path) for path in paths]
    X = np.concatenate([table["X"].transpose(3, 2, 0, 1) for table in tables])
    # In the files the digit 0 has the label 10.
    y = np.concatenate([table["y"].ravel() for table in tables]).astype(np.int64) % 10
    if return_X_y:
        return X, y
    text = f"Street View House Numbers, {subset}: cropped digits. For non-commercial use."
    return make_image_bunch("svhn", X, y, _DIGITS, paths, text, _SVHN["train"].base_url)


def _read_cifar(path: Path, names: list[str], n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Read records of labels and three planes of pixels; nothing is unpacked to the disk."""
    size = n_labels + 3 * _SIDE**2
    batches = [np.frombuffer(content, dtype=np.uint8) for content in _read_members(path, names)]
    table = np.concatenate([batch.reshape(-1, size) for batch in batches])
    return table[:, n_labels:].reshape(-1, 3, _SIDE, _SIDE), table[:, :n_labels].astype(np.int64)


def _read_members(path: Path, names: list[str]) -> list[bytes]:
    contents = []
    with tarfile.open(path, "r:gz") as archive:
        for name in names:
            stream = archive.extractfile(name)
            assert stream is not None  # the member is a file: the digest of the archive says so
            contents.append(stream.read())
    return contents
