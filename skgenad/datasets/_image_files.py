"""Image files in folders as people have them: which there are, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skgenad._core.pictures import is_opaque, plain, turn_of, upright_size
from skgenad._warn import warn

GOOD, MASKS = "good", "ground_truth"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"}
_LOSSY = {".jpg", ".jpeg", ".jpe", ".jfif", ".webp"}
# What systems leave behind beside hidden files.
_JUNK = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir"}
# Files that a warning lists.
_LISTED = 3
SKIPPED = "Skipped, since it cannot be read as an image"
_UPPER = "Of 16 bits a pixel the upper 8 are kept"


def seen(folder: Path) -> list[Path]:
    """List what a folder shows, by name: nothing hidden, and not what systems leave behind."""
    paths = sorted(folder.iterdir())
    return [p for p in paths if not p.name.startswith(".") and p.name.lower() not in _JUNK]


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix."""
    return path.suffix.lower() in _SUFFIXES and not path.is_dir()


def warn_of(lost: Sequence[tuple[str, Path]]) -> None:
    """Warn of what was lost and of which file or folder, kind by kind."""
    for what in dict.fromkeys(what for what, _ in lost):
        paths = [path for other, path in lost if other == what]
        more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
        listed = ", ".join(f"'{path}'" for path in paths[:_LISTED])
        warn(f"{what}: {listed}{more}.")


class UnreadableImageError(ValueError):
    """A file that holds no image, half of one, or one whose pixels do not say what is white."""


class Listing:
    """Images and masks of a category in the folders of MVTec AD.

    Attributes
    ----------
    root : Path
        Folder of the category.
    left_out : list of (str, Path)
        Why something that is not hidden is left out, and what.
    """

    def __init__(self, folder: Path, category: str) -> None:
        self.folder, self.root = folder, folder / category
        self.left_out: list[tuple[str, Path]] = []
        if not folder.is_dir():
            raise NotADirectoryError(
                f"'{folder}' is not a folder. Name the one with the categories."
            )

    def images(self, part: str) -> list[tuple[Path, str]]:
        """Images of a part and their kinds: good images first, then the defects by name."""
        place = self.root / part
        if not place.is_dir():
            raise FileNotFoundError(f"'{place}' is not a folder. {self._hint(part)}")
        kinds = {path.name: path for path in self._folders(place)}
        good = [name for name in kinds if name.lower() == GOOD]
        files = [(path, GOOD) for name in good for path in self._images(kinds.pop(name))]
        if part == "train":
            why = "Not read, since only good images are trained on"
            self.left_out += [(why, path) for path in kinds.values()]
        else:
            files += [(path, name) for name in kinds for path in self._images(kinds[name])]
        if not files:
            wanted = GOOD if part == "train" else "*"
            raise FileNotFoundError(f"There is no image '{place / wanted / '*.png'}'.")
        return files

    def masks(self, kinds: Sequence[str]) -> dict[str, dict[str, Path]] | None:
        """Masks by kind and by the names of their images; None if there are none at all."""
        place = self.masks_place()
        folders = {path.name: path for path in self._folders(place)} if place.is_dir() else {}
        if not any(is_image(path) for folder in folders.values() for path in seen(folder)):
            return None
        found: dict[str, dict[str, Path]] = {kind: {} for kind in kinds if kind != GOOD}
        by_lower = {name.lower(): folder for name, folder in folders.items()}
        for kind in found:
            folder = folders.get(kind, by_lower.get(kind.lower()))
            for path in self._images(folder) if folder is not None else ():
                name = path.stem
                short = name[: -len("_mask")] if name.lower().endswith("_mask") else name
                # A file that says that it is the mask comes before one that may be a copy.
                if short != name or short not in found[kind]:
                    found[kind][short] = path
        return found

    def masks_place(self) -> Path:
        """Folder of the masks, in capitals or not; it may be missing."""
        place = self.root / MASKS
        if place.is_dir():
            return place
        others = [p for p in seen(self.root) if p.is_dir() and p.name.lower() == MASKS]
        return others[0] if others else place

    def leave_out_strays(self, kinds: Iterable[str], unread: Iterable[Path]) -> None:
        """Note masks whose images are none of the test images, which are of these kinds."""
        why, known = "Not read, since it is the mask of no image", {kind.lower() for kind in kinds}
        for folder in seen(self.masks_place()):
            if folder.is_dir() and folder.name.lower() not in {*known, GOOD}:
                self.left_out += [(why, path) for path in seen(folder) if is_image(path)]
        self.left_out += [(why, path) for path in unread]

    def _hint(self, part: str) -> str:
        if (self.folder / part).is_dir():
            return f"'{self.folder}' looks like a category itself: name the folder around it."
        there = sorted(path.parent.name for path in self.folder.glob(f"*/{part}"))
        listed = ", ".join(name for name in there if not name.startswith("."))
        return f"Categories with {part}/ in '{self.folder}': {listed or 'none'}."

    def _folders(self, place: Path) -> Iterator[Path]:
        for path in seen(place):
            if path.is_dir():
                yield path
            else:
                self.left_out.append(("Not read, since it is in no folder of a kind", path))

    def _images(self, folder: Path) -> Iterator[Path]:
        for path in seen(folder):
            if is_image(path):
                yield path
            else:
                self.left_out.append(("Not read, since it is no image by its name", path))


def categories_of(folder: Path, parts: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Names of the folders that have these parts, and the other folders."""
    if not folder.is_dir():
        raise NotADirectoryError(f"'{folder}' is not a folder. Name the one with the categories.")
    folders = [path for path in seen(folder) if path.is_dir()]
    found = [path.name for path in folders if all((path / part).is_dir() for part in parts)]
    if not found:
        where = " and ".join(f"{part}/" for part in parts)
        hint = f"'{folder}' looks like a category itself: name the folder around it."
        is_category = (folder / parts[0]).is_dir()
        raise FileNotFoundError(
            hint if is_category else f"There is no folder with {where} in '{folder}'."
        )
    return found, [path for path in folders if path.name not in found]


def mask_of(image: Path, masks: Mapping[str, Path], folder: Path) -> Path:
    """Find the mask of an image among those of its kind, by the names of their images."""
    if image.stem not in masks:
        raise FileNotFoundError(
            f"'{image}' has no mask: '{folder / image.stem}_mask.png' is missing, and so is "
            f"'{image.stem}.png' there. With return_X_y=True no masks are looked for."
        )
    return masks[image.stem]


class ImageReader:
    """Reads images and masks of one set with Pillow, as large and as colourful as asked for.

    Attributes
    ----------
    lost : list of (str, Path)
        What was lost of which file.
    """

    def __init__(
        self, pillow: ModuleType, size: tuple[int, int] | None, grey: bool, *, skip: bool = False
    ) -> None:
        self.pillow, self.size, self.grey, self.skip = pillow, size, grey, skip
        self.lost: list[tuple[str, Path]] = []

    def read_all(self, sets: Sequence[Sequence[Path]]) -> tuple[NDArray, NDArray]:
        """Read sets of images as uint8 of shape (n, C, H, W), and say which of them were read.

        Images of a set have one shape. Sets that are grey have three channels if others have.
        """
        firsts = [self._first(paths) for paths in sets]
        found = [first for first in firsts if first is not None]
        if not found:
            raise UnreadableImageError(f"None of the images can be read, such as '{sets[0][0]}'.")
        path, first = found[0]
        for other, image in found[1:]:
            if image.shape[1:] != first.shape[1:]:
                raise ValueError(
                    f"'{other}' has (height, width) = {image.shape[1:]}, but '{path}' has "
                    f"{first.shape[1:]}. Pass size= for one size."
                )
        n, channels = sum(map(len, sets)), max(len(image) for _, image in found)
        images = np.empty((n, channels, *first.shape[1:]), dtype=np.uint8)
        is_read, k = np.zeros(n, dtype=bool), 0
        for own, paths in zip(firsts, sets, strict=True):
            for path in paths:
                read = None if own is None else self._read_like(path, *own)
                if read is not None:
                    images[k], is_read[k] = read, True  # one channel is repeated
                k += 1
        return images if is_read.all() else images[is_read], is_read

    def _first(self, paths: Sequence[Path]) -> tuple[Path, NDArray] | None:
        """Find the first image of a set that can be read."""
        lost = len(self.lost)
        for path in paths:
            image = self._attempt(path)
            if image is not None:
                del self.lost[lost:]  # it is read once more
                return path, image
        return None

    def _read_like(self, path: Path, first_path: Path, first: NDArray) -> NDArray | None:
        """Read an image of the shape of the first one; None if it is skipped."""
        image = self._attempt(path)
        if image is not None and image.shape != first.shape:
            raise ValueError(
                f"'{path}' has (channels, height, width) = {image.shape}, but '{first_path}' has "
                f"{first.shape}. Pass size= for one size, grey=True for one channel."
            )
        return image

    def _attempt(self, path: Path) -> NDArray | None:
        """Read an image; None if it cannot be read and is to be skipped."""
        try:
            return self.read(path)
        except UnreadableImageError:
            if not self.skip:
                raise
            self.lost.append((SKIPPED, path))
            return None

    def read(self, path: Path) -> NDArray:
        """Read an image as uint8 of shape (C, H, W)."""
        image = self._opened(path)
        if not is_opaque(image):
            self.lost.append(("The opacity of transparent pixels is left out", path))
        is_grey = self.grey or image.mode in ("L", "LA", "I;16")
        if image.mode == "I;16":
            self.lost.append((_UPPER, path))
            image = self.pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("L" if is_grey else "RGB")
        if self.size is not None:
            image = image.resize(self.size[::-1], self.pillow.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[None] if is_grey else pixels.transpose(2, 0, 1)

    def read_mask(self, path: Path, image_path: Path, shape: tuple[int, ...]) -> NDArray:
        """Read the mask of an image, which has the given shape (H, W) if it is not resized."""
        mask = self._opened(path)
        with self._open(image_path) as image:
            size = upright_size(image)
            if mask.size != size and mask.size == image.size:
                mask = mask.transpose(turn_of(image))
        if mask.size != size:
            raise ValueError(
                f"'{path}' is {mask.height}x{mask.width}, but its image is {size[1]}x{size[0]}."
            )
        levels = mask
        if mask.mode.endswith("A"):  # what is drawn on a transparent ground is marked by its alpha
            low, high = mask.getchannel("A").getextrema()
            levels = mask.getchannel("A") if low < high else mask.convert(mask.mode[:-1])
        # Around edges lossy files hold what is neither 0 nor 255.
        is_marked = np.asarray(levels) > (127 if path.suffix.lower() in _LOSSY else 0)
        marked = np.atleast_3d(is_marked).any(axis=2)
        if not marked.any():
            self.lost.append(("The mask of a defect marks nothing", path))
        if self.size is not None:
            drawn = self.pillow.fromarray(marked.astype(np.uint8))
            return np.asarray(drawn.resize(self.size[::-1], self.pillow.Resampling.NEAREST)) > 0
        return marked.reshape(shape)

    def _open(self, path: Path) -> Any:  # noqa: ANN401 (Pillow is optional)
        try:
            if path.stat().st_size == 0:
                raise ValueError("it is empty")
            return self.pillow.open(path)
        except Exception as error:  # each format has errors of its own for what it cannot read
            raise UnreadableImageError(f"'{path}' cannot be read as an image: {error}") from error

    def _opened(self, path: Path) -> Any:  # noqa: ANN401 (Pillow is optional)
        """Read an image whole, upright and in one of the modes of :func:`plain` but for F."""
        with self._open(path) as image:
            is_cut = _is_cut(image)
            try:
                image.load()
            except Exception as error:
                raise UnreadableImageError(
                    f"'{path}' cannot be read as an image: {error}"
                ) from error
            try:
                image = plain(image)
            except ValueError as error:
                raise UnreadableImageError(f"'{path}' {error}.") from None
        if image.mode == "F":
            raise UnreadableImageError(f"'{path}' holds floats; save it with 8 bits a channel.")
        if is_cut:
            self.lost.append((_UPPER, path))
        return image


def _is_cut(image: Any) -> bool:  # noqa: ANN401 (Pillow is optional)
    """Whether Pillow reads 16 bits a channel as 8, as it does of colours; before it has read."""
    modes = [
        args if isinstance(args, str) else next(iter(args or ()), "") for *_, args in image.tile
    ]
    return image.mode[:2] != "I;" and any(";16" in str(mode) for mode in modes)
