"""notMNIST: letters of many fonts in the format of MNIST, from files of one's own."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ._fetch import RemoteFile, find_file, get_data_home
from ._image_bunch import make_image_bunch, parts_of
from ._mnist_like import has_splits, read_idx, read_splits

# The test images as an npz. No server has it: it must be in the data home.
_TEST = RemoteFile(
    path="notmnist/notmnist_test.npz",
    base_url="",
    remote_path="",
    digest="sha256:7b423f80fd5a6af4d2619bd89372c8cbcb699e7bd6e29babe0c17246f479bffe",
    also_at=("notmnist_test.npz",),
)
_FOLDER = "notmnist"
_STEMS = {"train": "train", "test": "t10k"}
_URL = "https://github.com/davidflanagan/notMNIST-to-MNIST"
# What readers of gzipped arrays raise where there is none, or half of one.
_BROKEN = (OSError, EOFError, ValueError, IndexError, zlib.error)


def load_notmnist(
    *,
    subset: str = "test",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load notMNIST, letters A to J of many fonts, from files in the data home.

    In the format of MNIST, white on black: 60,000 training and 10,000 test images, drawn at random
    from some 500,000. No digest of these files is published, so that nothing is downloaded: take a
    checkout of the repository in the References as the folder ``notmnist`` of the data home.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="test"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in, for ``notmnist/train-images-idx3-ubyte.gz`` and its siblings;
        ``None``: the environment variable ``SKGENAD_DATA`` if it is set, else a cache folder of the
        operating system.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` alone.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 1, 28, 28), which detectors take with
        ``image_shape=(1, 28, 28)``; ``target``, int64 of shape (n,), the class, 0 to 9;
        ``target_names``, the letters; ``name``; ``filenames``; ``url``; ``DESCR``. With
        `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the three, or a file does not hold what it should.
    FileNotFoundError
        If a file is missing.
    OSError
        If ``notmnist_test.npz`` is there with other content than the known one.

    Notes
    -----
    For ``subset="test"`` a file ``notmnist_test.npz`` in the data home or its folder ``notmnist``,
    of known digest, is read where the file of the test images is not there. The original files are
    read whatever their digest.

    References
    ----------
    Y. Bulatov. notMNIST dataset. 2011. http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html
    D. Flanagan. notMNIST-to-MNIST. https://github.com/davidflanagan/notMNIST-to-MNIST

    Examples
    --------
    >>> from skgenad.datasets import load_notmnist
    >>> X, y = load_notmnist(return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((10000, 1, 28, 28), dtype('uint8'))
    """
    parts, home = parts_of(subset), get_data_home(data_home)
    wanted = [home / _FOLDER / f"{_STEMS[part]}-images-idx3-ubyte.gz" for part in parts]
    copy = find_file(_TEST, home) if not any(path.is_file() for path in wanted) else None
    if copy and has_splits(copy, parts):
        paths = [copy]
        X, y = read_splits(copy, parts)
    else:
        paths = [path for images in wanted for path in (images, _labels_of(images))]
        pairs = [_read(images) for images in wanted]
        X = np.concatenate([images for images, _ in pairs])
        y = np.concatenate([labels for _, labels in pairs])
    text = f"notMNIST, {subset}: letters of many fonts. No licence stated."
    bunch = make_image_bunch("notmnist", X[:, None], y, list("ABCDEFGHIJ"), paths, text, _URL)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _labels_of(images: Path) -> Path:
    return images.with_name(images.name.replace("images-idx3", "labels-idx1"))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images (n, 28, 28) and their classes."""
    arrays = []
    for place in (path, _labels_of(path)):
        if not place.is_file():
            raise FileNotFoundError(
                f"'{place}' is missing. Put a checkout of {_URL} there, and name the folder around "
                "it with data_home=... or the environment variable SKGENAD_DATA."
            )
        try:
            arrays.append(read_idx(place.read_bytes()))
        except _BROKEN as error:
            raise ValueError(f"'{place}' is no gzipped array as MNIST's are: {error}") from error
    images, labels = arrays
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1 or labels.max(initial=0) > 9:
        raise ValueError(
            f"'{path}' has the shape {images.shape} and its labels {labels.shape}; they must be "
            "(n, 28, 28) and (n,), with labels 0 to 9."
        )
    return images, labels
