"""Images of good and defective things in the folders of MVTec AD."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skgenad._extras import require

from ._image_bunch import parts_of
from ._image_files import GOOD, ImageReader, Listing, mask_of, warn_of


def load_mvtec(
    folder: str | os.PathLike[str],
    category: str,
    *,
    subset: str = "train",
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load one category of MVTec AD, or of a data set in the same folders.

    Below `folder` there are ``<category>/train/good/000.png`` and so on, ``<category>/test/good``,
    ``<category>/test/<defect>`` and, if there are masks, for each defective image ``000.png`` one
    that is called ``<category>/ground_truth/<defect>/000_mask.png`` or ``000.png``. MVTec wants its
    terms accepted before a download, so get the archive from its page and unpack it;
    `make_textures` writes a small set of this kind.

    Parameters
    ----------
    folder : path-like
        The folder with the categories.
    category : str
        One of its folders, for example ``"bottle"``.
    subset : {"train", "test", "all"}, default="train"
        The training images, all good; the test images, good ones first, then by defect; or the
        former and then the latter.
    size : int or tuple of two ints, default=None
        Height and width in pixels that images are resized to, one number for both. None keeps the
        files' own, which must be the same for all of them then.
    grey : bool, default=False
        Convert colours to one channel. Files that are grey have one channel anyway.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` alone, and look for no masks.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, C, H, W); ``target``, int64 of shape (n,), 1 = anomaly;
        ``defects``, str of shape (n,), ``"good"`` or the name of the defect; ``masks``, bool of
        shape (n, H, W), True on defects and nowhere on good images, or None if the category has no
        folder ``ground_truth`` with images; ``name``, the category; ``filenames``; ``DESCR``. With
        `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the three, `size` no size, or if files do not fit together: images
        of different sizes without `size`, a mask that is not as large as its image, grey images
        among colours, a file that cannot be read as an image.
    NotADirectoryError
        If `folder` is not a folder.
    FileNotFoundError
        If the category, its images, or some of its masks are missing.
    ImportError
        If the extra ``images`` is not installed.

    Warns
    -----
    UserWarning
        If a file or a folder is left out that is not hidden, such as one that is no image; if bits
        of images with 16 bits a channel, or the opacity of images with transparent pixels, are; if
        a mask of a defect marks nothing, or belongs to no image.

    See Also
    --------
    make_textures : Make a small data set of the same kind.

    Notes
    -----
    Images are PNG, JPEG, BMP, TIFF or WebP files by their suffixes, in capitals or not. Hidden
    files and folders are skipped, and what macOS, Windows and Jupyter leave behind. Photos are
    turned upright as their EXIF orientation says, as viewers show them; a mask belongs to the
    upright image unless only the photo as it is stored has its size. What is not black in a mask is
    marked or, where its opacity varies, what is not transparent.

    Images are resized with bilinear interpolation over all the pixels that a new one covers, masks
    take the nearest pixel. Of 16 bits the upper 8 are kept.

    References
    ----------
    P. Bergmann, M. Fauser, D. Sattlegger, C. Steger. MVTec AD: A Comprehensive Real-World Dataset
    for Unsupervised Anomaly Detection. CVPR 2019.
    https://www.mvtec.com/company/research/datasets/mvtec-ad

    Examples
    --------
    >>> import tempfile
    >>> from skgenad.datasets import load_mvtec, make_textures
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = make_textures(folder, categories=["bolt"], n_train=2, n_test=3, random_state=0)
    ...     test = load_mvtec(folder, "bolt", subset="test", size=32)
    >>> test.data.shape, test.target.tolist()
    ((6, 3, 32, 32), [0, 0, 0, 1, 1, 1])
    >>> test.defects.tolist()
    ['good', 'good', 'good', 'blob', 'missing', 'scratch']
    """
    parts, size = parts_of(subset), _check_size(size)
    listing = Listing(Path(folder), category)
    files = [file for part in parts for file in listing.images(part)]
    reader = ImageReader(require("PIL.Image", extra="images"), size, grey)
    data = reader.read_all([path for path, _ in files])
    masks = None
    if not return_X_y and (of_kinds := listing.masks([kind for _, kind in files])) is not None:
        masks = np.zeros((len(data), *data.shape[2:]), dtype=bool)
        unread = {mask for of_kind in of_kinds.values() for mask in of_kind.values()}
        for k, (path, kind) in enumerate(files):
            if kind != GOOD:
                mask = mask_of(path, of_kinds[kind], listing.masks_place() / kind)
                masks[k] = reader.read_mask(mask, path, masks.shape[1:])
                unread.discard(mask)
        if "test" in parts:
            listing.leave_out_strays(of_kinds, sorted(unread))
    warn_of([*listing.left_out, *reader.lost])
    defects = np.array([kind for _, kind in files])
    paths = [str(path) for path, _ in files]
    bunch = make_mvtec_bunch(category, subset, data, defects, masks, paths, f"'{folder}'")
    return (bunch.data, bunch.target) if return_X_y else bunch


def make_mvtec_bunch(
    name: str,
    subset: str,
    data: np.ndarray,
    defects: np.ndarray,
    masks: np.ndarray | None,
    filenames: Sequence[str],
    source: str,
) -> Bunch:
    """Put images, the names of their defects and the masks of these into a Bunch."""
    target = (defects != GOOD).astype(np.int64)
    shape = "x".join(str(n) for n in data.shape[1:])
    kinds = ", ".join(f"{(defects == kind).sum()} {kind}" for kind in dict.fromkeys(defects))
    description = (
        f"{name}, {subset}: {len(data)} images of {shape} (channels, height, width), uint8, "
        f"{target.sum()} anomalies ({kinds}), from {source}."
    )
    return Bunch(
        data=data,
        target=target,
        defects=defects,
        masks=masks,
        name=name,
        filenames=list(filenames),
        DESCR=description,
    )


def _check_size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, Integral) else size
    if (
        not isinstance(sides, tuple | list)
        or len(sides) != 2
        or not all(isinstance(n, Integral) and int(n) >= 1 for n in sides)
    ):
        raise ValueError(f"size must be a positive int, (height, width) or None, got {size!r}.")
    return int(sides[0]), int(sides[1])
