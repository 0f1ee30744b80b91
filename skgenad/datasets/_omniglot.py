"""Omniglot: characters of many alphabets, made into images of MNIST's format."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skgenad._extras import require

from ._fetch import RemoteFile, fetch_file, find_file
from ._image_bunch import make_image_bunch

# TensorFlow Datasets records these SHA-256.
_ARCHIVES = {
    name: RemoteFile(
        path=f"omniglot/images_{name}.zip",
        base_url="https://github.com/brendenlake/omniglot/raw/master/python",
        remote_path=f"images_{name}.zip",
        digest=f"sha256:{digest}",
        also_at=(f"images_{name}.zip", f"omniglot-py/images_{name}.zip"),
    )
    for name, digest in {
        "background": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        "evaluation": "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
        "background_small1": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
        "background_small2": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
    }.items()
}
# The small sets in the form that this module gives them. No server has this file: it must be in the
# data home.
_SMALL = RemoteFile(
    path="omniglot/omniglot28.npz",
    base_url="",
    remote_path="",
    digest="sha256:25bcae85a9d7aef0307ed4dd24a3bf629fc2181878bd883fc08c9a1aee7adaba",
    also_at=("omniglot28.npz",),
)
_SUBSETS = {
    "train": ["background"],
    "test": ["evaluation"],
    "all": ["background", "evaluation"],
    "small": ["background_small1", "background_small2"],
}
_SIDE = 28


def fetch_omniglot(
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
    """Load Omniglot in the format of MNIST, downloading it on first use.

    Characters of 50 alphabets, each drawn by 20 people. The drawings, black on white and 105 pixels
    wide, become white on black and 28 pixels wide; a pixel is the mean of the pixels it covers.

    Parameters
    ----------
    subset : {"train", "test", "all", "small"}, default="train"
        The 30 background alphabets (19,280 images); the 20 alphabets for evaluation (13,180 images,
        which the NAE and MPDR papers take as anomalies); the former and then the latter; or the
        authors' two small background sets together, eight alphabets, each image once (4,840).
    data_home : path-like, default=None
        Folder to look in (for ``omniglot/images_background.zip`` and its siblings, where downloads
        go, both files without the folder, or torchvision's folder ``omniglot-py``) and to download
        to; ``None``: the environment variable ``SKGENAD_DATA`` if it is set, else a cache folder of
        the operating system.
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
        Address of a mirror, of the folder with ``images_background.zip``, to download from instead
        of the authors' repository.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 1, 28, 28), which detectors take with ``image_shape=(1, 28,
        28)``; ``target``, int64 of shape (n,), the alphabet; ``target_names``, the alphabets;
        ``name``; ``filenames``; ``url``; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the four.
    FileNotFoundError
        If a file is missing and `download_if_missing` is False.
    OSError
        If a file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If something has to be downloaded and the extra ``bench`` is not installed, or an archive
        has to be read and the extra ``images`` is not installed.

    Notes
    -----
    For ``subset="small"`` a file ``omniglot28.npz`` in the data home or its folder ``omniglot``, of
    known digest, is used first. It holds the images of both archives at 28x28; ``DESCR`` says which
    files were read.

    References
    ----------
    B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum. Human-Level Concept Learning through
    Probabilistic Program Induction. Science, 2015. https://doi.org/10.1126/science.aab3050

    Examples
    --------
    >>> from skgenad.datasets import fetch_omniglot
    >>> X, y = fetch_omniglot(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((13180, 1, 28, 28), dtype('uint8'))
    """
    if subset not in _SUBSETS:
        raise ValueError(f"subset must be 'train', 'test', 'all' or 'small', got {subset!r}.")
    local = find_file(_SMALL, data_home) if subset == "small" else None
    if local:
        paths = [local]
        X, alphabets = _read_small(local)
    else:
        paths = [
            fetch_file(
                _ARCHIVES[name],
                data_home,
                download_if_missing=download_if_missing,
                verbose=verbose,
                base_url=base_url,
                n_retries=n_retries,
                delay=delay,
            )
            for name in _SUBSETS[subset]
        ]
        X, alphabets = _read_archives(paths)
    if subset == "small":
        # Two alphabets are in both archives, so their drawings are kept once.
        kept = np.sort(np.unique(X.reshape(len(X), -1), axis=0, return_index=True)[1])
        X, alphabets = X[kept], alphabets[kept]
    names, y = np.unique(alphabets, return_inverse=True)
    text = (
        f"Omniglot, {subset}: handwritten characters, inverted and reduced to 28x28. MIT licence."
    )
    url = "https://github.com/brendenlake/omniglot"
    bunch = make_image_bunch("omniglot", X, y, names.tolist(), paths, text, url)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _read_small(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["x"][:, None], arrays["alphabet_names"][arrays["alphabet"]]


def _read_archives(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read all drawings, in the order of their names, and the name of the alphabet of each."""
    pillow = require("PIL.Image", extra="images")
    images, alphabets = [], []
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(".png")):
                with pillow.open(io.BytesIO(archive.read(name))) as drawing:
                    small = drawing.convert("L").resize((_SIDE, _SIDE), pillow.Resampling.BOX)
                images.append(255 - np.asarray(small))
                alphabets.append(name.split("/")[1])  # the path is images_background/Greek/...
    return np.stack(images)[:, None], np.array(alphabets)
