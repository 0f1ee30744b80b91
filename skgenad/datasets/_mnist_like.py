"""Grey 28x28 images in ten classes: MNIST, Fashion-MNIST and Kuzushiji-MNIST."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._fetch import RemoteFile, fetch_file, find_file
from ._image_bunch import make_image_bunch, parts_of

# The file that Keras downloads, with the digest that Keras has for it. The second digest is of a
# copy in circulation with the same images and labels, whose rows are sorted by digit.
_MNIST = RemoteFile(
    path="mnist/mnist.npz",
    base_url="https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    remote_path="mnist.npz",
    digest="sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    also_at=("mnist.npz",),
    also_fits=("sha256:d0d83dc1fbd8ab26219bc0e85220bd32d07833b3245a2effc0ea4a79df85fcbe",),
)
_STEMS = {"train": "train", "test": "t10k"}
_KINDS = {"images": "images-idx3-ubyte.gz", "labels": "labels-idx1-ubyte.gz"}


def _idx_files(
    name: str, base_url: str, elsewhere: str, digests: dict[str, str]
) -> dict[str, dict[str, RemoteFile]]:
    """Map "train" and "test" to the files with images and with labels.

    `elsewhere` is the folder in which torchvision keeps the same files.
    """
    return {
        part: {
            kind: RemoteFile(
                path=f"{name}/{stem}-{rest}",
                base_url=base_url,
                remote_path=f"{stem}-{rest}",
                digest=f"sha256:{digests[f'{part} {kind}']}",
                also_at=(f"{elsewhere}/raw/{stem}-{rest}",),
            )
            for kind, rest in _KINDS.items()
        }
        for part, stem in _STEMS.items()
    }


# TensorFlow Datasets and torchvision's prototype data sets record these SHA-256.
_FASHION = _idx_files(
    "fashion_mnist",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    "FashionMNIST",
    {
        "train images": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train labels": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "test images": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "test labels": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
)
_KMNIST = _idx_files(
    "kmnist",
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist",
    "KMNIST",
    {
        "train images": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "train labels": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "test images": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "test labels": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    },
)
# Small copies that stand in where no original file is. No server has them: they must be in the data
# home.
_FASHION_PART = RemoteFile(
    path="fashion_mnist/fashion_mnist.npz",
    base_url="",
    remote_path="",
    digest="sha256:776bbc35cdf8444555c48d494c74e16a393c589a51d396fea070cc81096741de",
    also_at=("fashion_mnist.npz",),
)
_KMNIST_TEST = RemoteFile(
    path="kmnist/kmnist_test.npz",
    base_url="",
    remote_path="",
    digest="sha256:728108ee1c140eb801987c1c9d596b353154de6944a94979bf8915cc8a7f7add",
    also_at=("kmnist_test.npz",),
)
_DIGITS = [str(digit) for digit in range(10)]
_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
_KANA = "o ki su tsu na ha ma ya re wo".split()


def fetch_mnist(
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
    """Load MNIST, downloading it on first use.

    Handwritten digits, white on black: 60,000 training and 10,000 test images.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in (for ``mnist/mnist.npz``, where downloads go, or ``mnist.npz``) and to
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
        Address of a mirror, of the folder with ``mnist.npz``, to download from
        instead of where Keras keeps it.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 1, 28, 28), which detectors take with
        ``image_shape=(1, 28, 28)``; ``target``, int64 of shape (n,), the class, 0 to 9;
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
    Rows are in the order of the file. A copy in circulation, which is accepted in the data home, is
    sorted by digit: draw rows rather than take the first ones.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-Based Learning Applied to Document
    Recognition. Proceedings of the IEEE, 1998. https://doi.org/10.1109/5.726791

    Examples
    --------
    >>> from skgenad.datasets import fetch_mnist
    >>> X, y = fetch_mnist(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((60000, 1, 28, 28), dtype('uint8'))
    """
    parts = parts_of(subset)
    path = fetch_file(
        _MNIST,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    X, y = read_splits(path, parts)
    X = X[:, None]
    if return_X_y:
        return X, y
    text = f"MNIST, {subset}: handwritten digits. CC BY-SA 3.0."
    return make_image_bunch("mnist", X, y, _DIGITS, [path], text, _MNIST.url())


def fetch_fashion_mnist(
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
    """Load Fashion-MNIST, downloading it on first use.

    Pieces of clothing in the format of MNIST: 60,000 training and 10,000 test images.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in (for ``fashion_mnist/train-images-idx3-ubyte.gz`` and its siblings, where
        downloads go, or torchvision's ``FashionMNIST/raw``; where there is neither, for the small
        copy of the Notes) and to download to; ``None``: the environment variable ``SKGENAD_DATA``
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
        Address of a mirror, of the folder with the four files, to download from
        instead of the authors' repository.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 1, 28, 28), which detectors take with
        ``image_shape=(1, 28, 28)``; ``target``, int64 of shape (n,), the class, 0 to 9;
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
    A file ``fashion_mnist.npz`` in the data home or its folder ``fashion_mnist``, of known digest,
    is read where none of the original files is: the first 800 training images of each class, sorted
    by class, and all test images. ``DESCR`` says which files were read.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms. 2017. https://arxiv.org/abs/1708.07747

    Examples
    --------
    >>> from skgenad.datasets import fetch_fashion_mnist
    >>> X, y = fetch_fashion_mnist(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((10000, 1, 28, 28), dtype('uint8'))
    """
    X, y, paths, is_copy = _fetch_idx(
        _FASHION,
        subset,
        _FASHION_PART,
        data_home=data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    if return_X_y:
        return X, y
    what = "A part of Fashion-MNIST" if is_copy and subset != "test" else "Fashion-MNIST"
    text = f"{what}, {subset}: pieces of clothing. MIT licence."
    url = "https://github.com/zalandoresearch/fashion-mnist"
    return make_image_bunch("fashion_mnist", X, y, _CLOTHES, paths, text, url)


def fetch_kmnist(
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
    """Load Kuzushiji-MNIST, downloading it on first use.

    Cursive Japanese characters in the format of MNIST: 60,000 training and 10,000 test images.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in (for ``kmnist/train-images-idx3-ubyte.gz`` and its siblings, where
        downloads go, or torchvision's ``KMNIST/raw``; where there is neither, for the copy of the
        Notes) and to download to; ``None``: the environment variable ``SKGENAD_DATA`` if it is set,
        else a cache folder of the operating system.
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
        Address of a mirror, of the folder with the four files, to download from
        instead of the authors' server.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 1, 28, 28), which detectors take with
        ``image_shape=(1, 28, 28)``; ``target``, int64 of shape (n,), the class, 0 to 9;
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
    For ``subset="test"`` a file ``kmnist_test.npz`` in the data home or its folder ``kmnist``, of
    known digest, is read where none of the original files is. It holds all test images, of the
    version that was corrected in February 2019.

    References
    ----------
    T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto, D. Ha. Deep Learning for
    Classical Japanese Literature. 2018. https://arxiv.org/abs/1812.01718

    Examples
    --------
    >>> from skgenad.datasets import fetch_kmnist
    >>> X, y = fetch_kmnist(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((10000, 1, 28, 28), dtype('uint8'))
    """
    X, y, paths, _ = _fetch_idx(
        _KMNIST,
        subset,
        _KMNIST_TEST,
        data_home=data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    if return_X_y:
        return X, y
    text = f"Kuzushiji-MNIST, {subset}: cursive Japanese characters. CC BY-SA 4.0."
    url = "https://github.com/rois-codh/kmnist"
    return make_image_bunch("kmnist", X, y, _KANA, paths, text, url)


def has_splits(path: Path, parts: tuple[str, ...]) -> bool:
    """Whether an npz holds all of these parts."""
    with np.load(path, allow_pickle=False) as arrays:
        return {f"x_{part}" for part in parts} <= set(arrays.files)


def read_splits(path: Path, parts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Read ``x_train``, ``y_train``, ``x_test``, ``y_test``, as many as asked for, from an npz."""
    with np.load(path, allow_pickle=False) as arrays:
        X = np.concatenate([arrays[f"x_{part}"] for part in parts])
        y = np.concatenate([arrays[f"y_{part}"] for part in parts])
    return X, y.astype(np.int64)


def _fetch_idx(
    files: dict[str, dict[str, RemoteFile]],
    subset: str,
    copy: RemoteFile,
    *,
    data_home: str | os.PathLike[str] | None,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray, list[Path], bool]:
    """Fetch and read the parts of a set that is kept in MNIST's own file format, or the copy.

    The copy is read if it has the parts, and if none of their original files is there; the last
    value tells whether it was.
    """
    parts = parts_of(subset)
    wanted = [file for part in parts for file in files[part].values()]
    if not any(find_file(file, data_home) for file in wanted):
        path = find_file(copy, data_home)
        if path and has_splits(path, parts):
            X, y = read_splits(path, parts)
            return X[:, None], y, [path], True
    paths = [fetch_file(file, data_home, **options) for file in wanted]
    X = np.concatenate([read_idx(path.read_bytes()) for path in paths[::2]])
    y = np.concatenate([read_idx(path.read_bytes()) for path in paths[1::2]])
    return X[:, None], y.astype(np.int64), paths, False


def read_idx(packed: bytes) -> np.ndarray:
    """Read a gzipped array of bytes: two zeros, type 8, number of axes, their lengths, values."""
    content = gzip.decompress(packed)
    n_axes = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=n_axes, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * n_axes).reshape(shape)
