"""Images of good and defective things in the folders of MVTec AD."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skgenad._extras import require

from ._image_bunch import parts_of

GOOD = "good"
_GREY_MODES, _COLOUR_MODES = {"1", "L"}, {"LA", "P", "RGB", "RGBA"}


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

    Below `folder` there are ``<category>/train/good/*.png``, ``<category>/test/good/*.png``,
    ``<category>/test/<defect>/*.png`` and, for each defective image ``000.png``, the mask
    ``<category>/ground_truth/<defect>/000_mask.png``. MVTec wants its terms accepted before a
    download, so get the archive from its page and unpack it; `make_textures` writes a small set of
    this kind.

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
        If True, return ``(data, target)`` alone.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        ``data``, uint8 of shape (n, C, H, W); ``target``, int64 of shape (n,), 1 = anomaly;
        ``defects``, str of shape (n,), ``"good"`` or the name of the defect; ``masks``, bool of
        shape (n, H, W), True on defects and nowhere on good images; ``name``, the category;
        ``filenames``; ``DESCR``. With `return_X_y`, ``(data, target)``.

    Raises
    ------
    ValueError
        If `subset` is none of the three, `size` no size, or if files do not fit together: images
        of different sizes without `size`, a mask that is not as large as its image, grey images
        among colours, a file that is no image of 8 bits.
    NotADirectoryError
        If `folder` is not a folder.
    FileNotFoundError
        If the category, its images, or a mask is missing.
    ImportError
        If the extra ``images`` is not installed.

    See Also
    --------
    make_textures : Make a small data set of the same kind.

    Notes
    -----
    Images are resized with bilinear interpolation over all the pixels that a new one covers, masks
    take the nearest pixel.

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
    files = [file for part in parts for file in _list_images(Path(folder), category, part)]
    reader = _Reader(require("PIL.Image", extra="images"), size, grey)
    data = reader.read_all([path for path, _, _ in files])
    masks = np.zeros((len(data), *data.shape[2:]), dtype=bool)
    for k, (path, _, mask_path) in enumerate(files):
        if mask_path is not None:
            masks[k] = reader.read_mask(mask_path, path, masks.shape[1:])
    defects = np.array([defect for _, defect, _ in files])
    paths = [str(path) for path, _, _ in files]
    bunch = make_mvtec_bunch(category, subset, data, defects, masks, paths, f"'{folder}'")
    return (bunch.data, bunch.target) if return_X_y else bunch


def make_mvtec_bunch(
    name: str,
    subset: str,
    data: np.ndarray,
    defects: np.ndarray,
    masks: np.ndarray,
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


def _list_images(folder: Path, category: str, part: str) -> list[tuple[Path, str, Path | None]]:
    """List image, defect and mask of a part: good images first, then the defects by name."""
    root = folder / category
    if not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is not a folder. Name the one with the categories.")
    if not (root / part).is_dir():
        there = sorted(path.parent.name for path in folder.glob(f"*/{part}"))
        raise FileNotFoundError(
            f"'{root / part}' is not a folder. Categories with {part}/ in '{folder}': "
            f"{', '.join(there) or 'none'}."
        )
    kinds = sorted(path.name for path in (root / part).iterdir() if path.is_dir())
    if part == "train":
        kinds = [kind for kind in kinds if kind == GOOD]
    files: list[tuple[Path, str, Path | None]] = []
    for kind in sorted(kinds, key=lambda kind: (kind != GOOD, kind)):
        for path in sorted((root / part / kind).glob("*.png")):
            mask = root / "ground_truth" / kind / f"{path.stem}_mask.png"
            files.append((path, kind, None if kind == GOOD else mask))
    if not files:
        wanted = GOOD if part == "train" else "*"
        raise FileNotFoundError(f"There is no image '{root / part / wanted / '*.png'}'.")
    return files


class _Reader:
    """Reads images and masks of one set with Pillow, as large and as colourful as asked for."""

    def __init__(self, pillow: ModuleType, size: tuple[int, int] | None, grey: bool) -> None:
        self.pillow, self.size, self.grey = pillow, size, grey

    def read_all(self, paths: Sequence[Path]) -> np.ndarray:
        """Read images of the same shape as uint8 of shape (n, C, H, W)."""
        first = self.read(paths[0])
        images = np.empty((len(paths), *first.shape), dtype=np.uint8)
        for k, path in enumerate(paths):
            image = self.read(path)
            if image.shape != first.shape:
                raise ValueError(
                    f"'{path}' has (channels, height, width) = {image.shape}, but '{paths[0]}' has "
                    f"{first.shape}. Pass size= for one size, grey=True for one channel."
                )
            images[k] = image
        return images

    def read(self, path: Path) -> np.ndarray:
        """Read an image as uint8 of shape (C, H, W)."""
        image = self._open(path)
        if image.mode not in _GREY_MODES | _COLOUR_MODES:
            raise ValueError(
                f"'{path}' has Pillow's mode {image.mode!r}; images must have 8 bits a channel, "
                "grey or RGB. Convert it first."
            )
        is_grey = self.grey or image.mode in _GREY_MODES
        image = image.convert("L" if is_grey else "RGB")
        if self.size is not None:
            image = image.resize(self.size[::-1], self.pillow.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[None] if is_grey else pixels.transpose(2, 0, 1)

    def read_mask(self, path: Path, image_path: Path, shape: tuple[int, ...]) -> np.ndarray:
        """Read the mask of an image, which has the given shape (H, W) if it is not resized."""
        if not path.is_file():
            raise FileNotFoundError(f"'{image_path}' has no mask: '{path}' is missing.")
        mask = self._open(path).convert("L")
        with self.pillow.open(image_path) as image:
            if mask.size != image.size:
                raise ValueError(
                    f"'{path}' is {mask.height}x{mask.width}, but its image is "
                    f"{image.height}x{image.width}."
                )
        if self.size is not None:
            mask = mask.resize(self.size[::-1], self.pillow.Resampling.NEAREST)
        return np.asarray(mask).reshape(shape) > 0

    def _open(self, path: Path) -> Any:  # noqa: ANN401 (Pillow is optional)
        try:
            with self.pillow.open(path) as image:
                image.load()
                return image
        except OSError as error:
            raise ValueError(f"'{path}' cannot be read as an image: {error}") from error
