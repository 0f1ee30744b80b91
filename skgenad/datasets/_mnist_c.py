"""MNIST-C: corrupted digits."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skgenad._tensors.seeds import derived_seed, draw_seed

from ._corruptions import CORRUPTIONS, SIDE, corrupted
from ._fetch import RemoteFile, fetch_file
from ._image_bunch import make_image_bunch, parts_of

# Several public projects record this SHA-256; Zenodo's page has an MD5 of the same file.
_MNIST_C = RemoteFile(
    path="mnist_c/mnist_c.zip",
    base_url="https://zenodo.org/record/3239543/files",
    remote_path="mnist_c.zip",
    digest="sha256:af9ee8c6a815870c7fdde5af84c7bf8db0bcfa1f41056db83871037fba70e493",
    also_at=("mnist_c.zip",),
)
_DIGITS = [str(digit) for digit in range(10)]


def fetch_mnist_c(
    corruption: str | Sequence[str] | None = None,
    *,
    subset: str = "test",
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    download_if_missing: bool = True,
    verbose: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    base_url: str | None = None,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load MNIST-C, downloading it on first use.

    MNIST's images as they are and under 15 corruptions: of each 60,000 training and 10,000 test
    images, in the same order. As anomalies the corrupted ones are new, and the digits are not.

    Parameters
    ----------
    corruption : str, sequence of str, or None, default=None
        Which images, one corruption after the other in that order: ``"identity"`` (as they are),
        ``"brightness"``, ``"canny_edges"``, ``"dotted_line"``, ``"fog"``, ``"glass_blur"``,
        ``"impulse_noise"``, ``"motion_blur"``, ``"rotate"``, ``"scale"``, ``"shear"``,
        ``"shot_noise"``, ``"spatter"``, ``"stripe"``, ``"translate"``, ``"zigzag"``. None: all 16.
    subset : {"train", "test", "all"}, default="test"
        The training images, the test images, or the former and then the latter.
    data_home : path-like, default=None
        Folder to look in (for ``mnist_c/mnist_c.zip``, where downloads go, or ``mnist_c.zip``) and
        to download to; ``None``: the environment variable ``SKGENAD_DATA`` if it is set, else a
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
        Address of a mirror, of the folder with ``mnist_c.zip``, to download from instead of Zenodo.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, 1, 28, 28), which detectors take with
        ``image_shape=(1, 28, 28)``; ``target``, int64 of shape (n,), the digit; ``corruptions``,
        str of shape (n,); ``target_names``; ``name``; ``filenames``; ``url``; ``DESCR``. With
        `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `corruption` names none of the 16 or one twice, or `subset` is none of the three.
    FileNotFoundError
        If the file is missing and `download_if_missing` is False.
    OSError
        If the file cannot be downloaded or stored, or if its content is not the expected one.
    ImportError
        If something has to be downloaded and the extra ``bench`` is not installed.

    See Also
    --------
    make_mnist_c : The same corruptions, drawn anew, of digits at hand.

    References
    ----------
    N. Mu, J. Gilmer. MNIST-C: A Robustness Benchmark for Computer Vision. 2019.
    https://arxiv.org/abs/1906.02337

    Examples
    --------
    >>> from skgenad.datasets import fetch_mnist_c
    >>> foggy = fetch_mnist_c(["identity", "fog"])  # doctest: +SKIP
    >>> foggy.data.shape, (foggy.corruptions == "fog").sum()  # doctest: +SKIP
    ((20000, 1, 28, 28), np.int64(10000))
    """
    parts, chosen = parts_of(subset), _check_corruptions(corruption)
    path = fetch_file(
        _MNIST_C,
        data_home,
        download_if_missing=download_if_missing,
        verbose=verbose,
        base_url=base_url,
        n_retries=n_retries,
        delay=delay,
    )
    X, y = _read(path, chosen, parts)
    if return_X_y:
        return X, y
    text = f"MNIST-C, {subset}: digits, {', '.join(chosen)}. CC BY 4.0."
    bunch = make_image_bunch("mnist_c", X, y, _DIGITS, [path], text, _MNIST_C.url())
    bunch.corruptions = np.repeat(chosen, len(y) // len(chosen))
    return bunch


def make_mnist_c(
    images: np.ndarray,
    corruption: str | Sequence[str] | None = None,
    *,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Corrupt digits as MNIST-C does.

    The 15 corruptions of MNIST-C at its strengths, written anew from their rules: what is drawn
    differs from the published images, which :func:`fetch_mnist_c` loads.

    Parameters
    ----------
    images : ndarray of shape (n, 1, 28, 28), uint8
        Digits, for example ``fetch_mnist(subset="test").data``, or others of their size.
    corruption : str, sequence of str, or None, default=None
        Which corruptions, all images under one after all images under the other:

        - ``"identity"``: as they are;
        - ``"brightness"``: half of white is added;
        - ``"canny_edges"``: Canny's edges, with sigma 1 and thresholds 0.1 and 0.2;
        - ``"dotted_line"``: a line from left to right is added, every other pair of its columns;
        - ``"fog"``: three times a fractal height map is added, and the contrast lowered;
        - ``"glass_blur"``: a Gaussian of 0.7 pixels, random swaps of neighbours, a Gaussian again;
        - ``"impulse_noise"``: 17 % of the pixels are black or white;
        - ``"motion_blur"``: smeared to one side along a line of up to 45 degrees, with half a
          Gaussian of 3 pixels;
        - ``"rotate"``: by 0.4 radians about the centre, to either side;
        - ``"scale"``: shrunk to 0.7 about the centre;
        - ``"shear"``: rows are moved by tan 0.4 for each row from the centre, to either side;
        - ``"shot_noise"``: Poisson numbers of a mean of three at white;
        - ``"spatter"``: drops of a quarter of white;
        - ``"stripe"``: the 7 columns at the left and those at the right are inverted;
        - ``"translate"``: by 3 pixels up or down, and left or right;
        - ``"zigzag"``: a triangle wave about a line is added.

        None: all 16, in this order.
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible images. What is drawn for one corruption does not depend on
        which others are asked for.

    Returns
    -------
    numpy.ndarray of shape (n_corruptions * n, 1, 28, 28)
        uint8.

    Raises
    ------
    ValueError
        If `images` has another shape or type, or `corruption` names none of the 16 or one twice.

    References
    ----------
    N. Mu, J. Gilmer. MNIST-C: A Robustness Benchmark for Computer Vision. 2019.
    https://arxiv.org/abs/1906.02337

    Examples
    --------
    >>> import numpy as np
    >>> from skgenad.datasets import make_mnist_c
    >>> digits = np.full((5, 1, 28, 28), 100, dtype=np.uint8)
    >>> X = make_mnist_c(digits, ["identity", "brightness"], random_state=0)
    >>> X.shape, X[:, 0, 0, 0].tolist()
    ((10, 1, 28, 28), [100, 100, 100, 100, 100, 228, 228, 228, 228, 228])
    """
    chosen, images = _check_corruptions(corruption), np.asarray(images)
    if images.shape[1:] != (1, SIDE, SIDE) or images.dtype != np.uint8:
        raise ValueError(
            f"images of type {images.dtype} have shape {images.shape}; they must be of type uint8 "
            'and shape (n, 1, 28, 28), for example fetch_mnist(subset="test").data.'
        )
    seed, names = draw_seed(random_state), list(CORRUPTIONS)
    made = []
    for name in chosen:
        draws = np.random.default_rng(derived_seed(seed, names.index(name)))
        made.append(corrupted(images[:, 0], name, draws)[:, None])
    return np.concatenate(made)


def _check_corruptions(corruption: str | Sequence[str] | None) -> list[str]:
    if corruption is None:
        return list(CORRUPTIONS)
    chosen = [corruption] if isinstance(corruption, str) else list(corruption)
    if not chosen or not set(chosen) <= set(CORRUPTIONS) or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"corruption must be one of {', '.join(CORRUPTIONS)}, several that differ, or None, "
            f"got {corruption!r}."
        )
    return chosen


def _read(path: Path, chosen: list[str], parts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Read arrays in numpy's format, (n, 28, 28, 1) and (n,); nothing is unpacked to the disk."""
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    with zipfile.ZipFile(path) as archive:
        for name in [f"mnist_c/{corruption}/{part}" for corruption in chosen for part in parts]:
            for arrays, kind in ((images, "images"), (labels, "labels")):
                with archive.open(f"{name}_{kind}.npy") as stream:
                    arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
    return np.concatenate(images)[..., 0][:, None], np.concatenate(labels).astype(np.int64)
