"""Images of good and defective things in the folders of MVTec AD."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skgenad._extras import require

from ._image_bunch import parts_of
from ._image_files import (
    GOOD,
    SKIPPED,
    ImageReader,
    Listing,
    UnreadableImageError,
    categories_of,
    mask_of,
    warn_of,
)


def load_mvtec(
    folder: str | os.PathLike[str],
    category: str | Sequence[str] | None = None,
    *,
    subset: str = "train",
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load categories of MVTec AD, or of a data set in the same folders, one or several at once.

    Below `folder` there are ``<category>/train/good/000.png`` and so on, ``<category>/test/good``,
    ``<category>/test/<defect>`` and, if there are masks, for each defective image ``000.png`` one
    that is called ``<category>/ground_truth/<defect>/000_mask.png`` or ``000.png``. MVTec wants its
    terms accepted before a download, so get the archive from its page and unpack it;
    `make_textures` writes a small set of this kind.

    Parameters
    ----------
    folder : path-like
        The folder with the categories.
    category : str, sequence of str, or None, default=None
        One of its folders, for example ``"bottle"``; several, whose images come one category after
        the other in that order, for a detector that learns them together; or None, all that there
        are, by name.
    subset : {"train", "test", "all"}, default="train"
        The training images, all good; the test images, good ones first, then by defect; or the
        former and then the latter. Of several categories each is in this order.
    size : int or tuple of two ints, default=None
        Height and width in pixels that images are resized to, one number for both. None keeps the
        files' own, which must be the same for all of them then.
    grey : bool, default=False
        Convert colours to one channel. Files that are grey have one channel anyway, but for those
        of a category beside others that are in colour: their channel is repeated.
    on_error : {"raise", "skip"}, default="raise"
        What happens to a file that cannot be read as an image: an error that names it, or a
        warning, and the image, or the one whose mask it is, is left out.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` alone, and look for no masks.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, C, H, W); ``target``, int64 of shape (n,), 1 = anomaly;
        ``defects``, str of shape (n,), ``"good"`` or the name of the defect; ``categories``, str of
        shape (n,); ``masks``, bool of shape (n, H, W), True on defects and nowhere on good images,
        or None if no category has a folder ``ground_truth`` with images; ``name``, the category, or
        several, joined by commas; ``filenames``; ``skipped``, the files that were left out since
        they cannot be read; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the three, `on_error` none of the two, `size` no size, `category`
        empty or with one twice, or if files do not fit together: images of different sizes without
        `size`, a mask that is not as large as its image, grey images among colours of a category;
        if a file cannot be read as an image, or none of a set that skips them.
    NotADirectoryError
        If `folder` is not a folder.
    FileNotFoundError
        If a category, its images, or some of its masks are missing, or all of them while another
        category has some.
    ImportError
        If the extra ``images`` is not installed.

    Warns
    -----
    UserWarning
        If a file or a folder is left out that is not hidden, such as one that is no image; if bits
        of images with 16 bits a channel, or the opacity of images with transparent pixels, are; if
        a mask of a defect marks nothing, or belongs to no image; if a file is skipped.

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
    take the nearest pixel. Of 16 bits the upper 8 are kept. Palettes and CMYK become RGB. A file
    that is cut off is an error, never half an image.

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

    Several categories, here all that are in the folder:

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = make_textures(folder, categories=["bolt", "weave"], n_train=2, random_state=0)
    ...     train = load_mvtec(folder, size=32)
    >>> train.categories.tolist()
    ['bolt', 'bolt', 'weave', 'weave']
    """
    parts, size = parts_of(subset), _check_size(size)
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    names, others = _names(Path(folder), category, parts)
    listings = {name: Listing(Path(folder), name) for name in names}
    files = {
        name: [file for part in parts for file in listing.images(part)]
        for name, listing in listings.items()
    }
    pillow = require("PIL.Image", extra="images")
    reader = ImageReader(pillow, size, grey, skip=on_error == "skip")
    data, kept = reader.read_all([[path for path, _ in own] for own in files.values()])
    masks = None
    if not return_X_y:
        masks, is_whole = _read_masks(listings, files, reader, kept, data.shape[2:])
        data, kept = data[is_whole[kept]], kept & is_whole
        masks = None if masks is None else masks[kept]
        if "test" in parts:
            _note_strays(listings, files)
    left_out = [note for listing in listings.values() for note in listing.left_out]
    left_out += [(f"Not read, since {_with(parts)} is not there", path) for path in others]
    warn_of([*left_out, *reader.lost])
    rows = [(name, kind, path) for name, own in files.items() for path, kind in own]
    table = np.array([(name, kind, str(path)) for name, kind, path in rows], dtype=str)
    bunch = make_mvtec_bunch(
        ", ".join(names),
        subset,
        data,
        table[kept, 1],
        masks,
        table[kept, 2].tolist(),
        f"'{folder}'",
        categories=table[kept, 0],
        skipped=table[~kept, 2].tolist(),
    )
    return (bunch.data, bunch.target) if return_X_y else bunch


def make_mvtec_bunch(
    name: str,
    subset: str,
    data: np.ndarray,
    defects: np.ndarray,
    masks: np.ndarray | None,
    filenames: Sequence[str],
    source: str,
    *,
    categories: np.ndarray | None = None,
    skipped: Sequence[str] = (),
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
        categories=np.full(len(data), name) if categories is None else categories,
        masks=masks,
        name=name,
        filenames=list(filenames),
        skipped=list(skipped),
        DESCR=description,
    )


def _names(
    folder: Path, category: str | Sequence[str] | None, parts: Sequence[str]
) -> tuple[list[str], list[Path]]:
    """Name the categories to read, and the folders that are none where all are to be read."""
    if category is None:
        return categories_of(folder, parts)
    names = [category] if isinstance(category, str) else list(category)
    if not names or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
        raise ValueError(
            f"category must be a folder's name, several that differ, or None, got {category!r}."
        )
    return names, []


def _with(parts: Sequence[str]) -> str:
    return " or ".join(f"{part}/" for part in parts)


Files = Mapping[str, Sequence[tuple[Path, str]]]


def _read_masks(
    listings: Mapping[str, Listing],
    files: Files,
    reader: ImageReader,
    kept: np.ndarray,
    shape: tuple[int, ...],
) -> tuple[np.ndarray | None, np.ndarray]:
    """Read the masks (n, H, W) of all images that are kept, and say which images have theirs."""
    is_whole = np.ones(len(kept), dtype=bool)
    found = {name: one.masks([kind for _, kind in files[name]]) for name, one in listings.items()}
    if all(masks is None for masks in found.values()):
        return None, is_whole
    masks = np.zeros((len(kept), *shape), dtype=bool)
    rows = [(name, *file) for name, own in files.items() for file in own]
    for k, (name, path, kind) in enumerate(rows):
        if kind == GOOD or not kept[k]:
            continue
        of_kinds, place = found[name], listings[name].masks_place()
        if of_kinds is None:
            raise FileNotFoundError(
                f"There are no masks in '{place}', and other categories have some. With "
                "return_X_y=True no masks are looked for."
            )
        mask = mask_of(path, of_kinds[kind], place / kind)
        try:
            masks[k] = reader.read_mask(mask, path, shape)
        except UnreadableImageError:
            if not reader.skip:
                raise
            reader.lost.append((SKIPPED, mask))
            is_whole[k] = False
    return masks, is_whole


def _note_strays(listings: Mapping[str, Listing], files: Files) -> None:
    """Let listings note masks that belong to no image."""
    for name, listing in listings.items():
        of_kinds = listing.masks([kind for _, kind in files[name]])
        if of_kinds is not None:
            unread = {mask for of_kind in of_kinds.values() for mask in of_kind.values()}
            unread -= {of_kinds[k].get(path.stem) for path, k in files[name] if k != GOOD}
            listing.leave_out_strays(of_kinds, sorted(unread))


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
