"""A small, made-up relative of MVTec AD: textures and objects with planted defects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch, check_scalar

from skgenad._extras import require
from skgenad._tensors.seeds import draw_seed
from skgenad._writing import replacing

from ._mvtec import GOOD, make_mvtec_bunch
from ._texture_defects import DEFECTS, plant, reduced
from ._texture_looks import LOOKS, Array

_FACTOR = 3  # points of the fine grid along the side of a pixel
_NOISE = 0.012  # standard deviation of a pixel's noise, on a scale from 0 to 1


def make_textures(
    folder: str | os.PathLike[str] | None = None,
    *,
    categories: str | Sequence[str] | None = None,
    n_train: int = 80,
    n_test: int = 40,
    size: int = 64,
    random_state: int | np.random.RandomState | None = None,
) -> dict[str, Bunch]:
    """Draw a small data set like MVTec AD: good things, and things with planted defects.

    Three textures (``"weave"``, ``"wood"``, ``"tiles"``) and three objects (``"button"``,
    ``"bolt"``, ``"capsule"``) in RGB. Normal images differ in phase or place, angle, size, tone,
    light (its strength, colour, direction) and noise. A defective image has one defect: a scratch,
    a blob, or a missing piece. It covers at most 2 % of the image, and is plain to see while single
    pixels do not give it away: the light alone changes more, and most of its colours occur in
    normal images. A Gaussian for each pixel and nearest neighbours of whole images fail on every
    category, nearest neighbours of patches do not (``benchmarks/results/textures.md``).

    Parameters
    ----------
    folder : path-like, default=None
        Where the images are written as PNG files in the folders of MVTec AD, for `load_mvtec`. It
        is made if it does not exist. None writes nothing.
    categories : str or sequence of str, default=None
        Which of the six to draw; None means all. A category's images do not depend on the others.
    n_train : int, default=80
        Number of training images of each category, all of them good, at least 1.
    n_test : int, default=40
        Number of good test images of each category and also of defective ones, at least 1. The
        latter have the kinds ``"blob"``, ``"missing"`` and ``"scratch"`` in equal numbers, as far
        as 3 divides them.
    size : int, default=64
        Height and width in pixels, at least 32.
    random_state : int, RandomState or None, default=None
        Pass an int for reproducible images.

    Returns
    -------
    dict of str to sklearn.utils.Bunch
        For each category ``train`` and ``test``, each of them as `load_mvtec` returns it:
        ``data``, uint8 of shape (n, 3, size, size); ``target``, 1 = anomaly; ``defects``;
        ``masks``, bool of shape (n, size, size), True where more than a quarter of a pixel is
        covered; ``name``; ``filenames``, empty without `folder`; ``DESCR``.

    Raises
    ------
    ValueError
        If a category is unknown or a number too small.
    FileExistsError
        If `folder` has a folder of that category already.
    ImportError
        If files are to be written and the extra ``images`` is not installed.

    See Also
    --------
    load_mvtec : Read what was written.

    Examples
    --------
    >>> from skgenad.datasets import make_textures
    >>> made = make_textures(categories=["tiles"], n_train=4, n_test=3, random_state=0)
    >>> made["tiles"].train.data.shape
    (4, 3, 64, 64)
    >>> test = made["tiles"].test
    >>> test.defects.tolist()
    ['good', 'good', 'good', 'blob', 'missing', 'scratch']
    >>> bool((test.masks.mean(axis=(1, 2)) <= 0.02).all())
    True
    """
    names = _check_categories(categories)
    for name, value, least in (("n_train", n_train, 1), ("n_test", n_test, 1), ("size", size, 32)):
        check_scalar(value, name, Integral, min_val=least)
    if folder is not None:
        _refuse_existing(Path(folder), names)
    seed = draw_seed(random_state)
    made = {}
    for name in names:
        rng = np.random.default_rng([seed, list(LOOKS).index(name)])
        train = _draw(name, [GOOD] * n_train, size, rng)
        kinds = [kind for k, kind in enumerate(DEFECTS) for _ in range((n_test + 2 - k) // 3)]
        test = _draw(name, [GOOD] * n_test + kinds, size, rng)
        parts = {"train": train, "test": test}
        made[name] = Bunch(**{part: _bunch(name, part, *parts[part], folder) for part in parts})
    return made


def _check_categories(categories: str | Sequence[str] | None) -> list[str]:
    if categories is None:
        return list(LOOKS)
    names = [categories] if isinstance(categories, str) else list(dict.fromkeys(categories))
    if unknown := [name for name in names if name not in LOOKS]:
        raise ValueError(f"No category {unknown[0]!r}; choose from {', '.join(LOOKS)}.")
    return names


def _refuse_existing(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / name).exists():
            raise FileExistsError(
                f"'{folder / name}' exists. Remove it, or name another folder: old images and new "
                "ones would be mixed."
            )


def _draw(
    name: str, kinds: Sequence[str], size: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw an image for each kind; return images (n, 3, H, W), kinds and masks."""
    y, x = (np.mgrid[: _FACTOR * size, : _FACTOR * size] + 0.5) / (_FACTOR * size)
    images = np.empty((len(kinds), 3, size, size), dtype=np.uint8)
    masks = np.zeros((len(kinds), size, size), dtype=bool)
    for k, kind in enumerate(kinds):
        scene = LOOKS[name](x, y, rng)
        image = scene.image
        if kind != GOOD:
            image, masks[k] = plant(kind, x, y, scene, _FACTOR, rng)
        images[k] = _photographed(reduced(image, _FACTOR), rng).transpose(2, 0, 1)
    return images, np.array(kinds), masks


def _photographed(image: Array, rng: np.random.Generator) -> Array:
    """Light an image (h, w, 3) from a random side, add noise, and round to uint8."""
    y, x = (np.mgrid[: len(image), : len(image)] + 0.5) / len(image) - 0.5
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    light = rng.uniform(0.66, 1.1) * (1 + slope * (np.cos(angle) * x + np.sin(angle) * y))
    tint = rng.uniform(0.97, 1.03, size=3)
    noisy = image * light[..., None] * tint + rng.normal(0, _NOISE, image.shape)
    return np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def _bunch(
    name: str,
    part: str,
    data: Array,
    defects: Array,
    masks: Array,
    folder: str | os.PathLike[str] | None,
) -> Bunch:
    """Make the Bunch of a part, and write it to the folder if one is given."""
    paths: list[str] = []
    if folder is not None:
        paths = _write(Path(folder) / name, part, data, defects, masks)
    source = "make_textures" if folder is None else f"'{folder}'"
    return make_mvtec_bunch(name, part, data, defects, masks, paths, source)


def _write(root: Path, part: str, data: Array, defects: Array, masks: Array) -> list[str]:
    """Write images and masks; number them from 000 on for each kind."""
    pillow = require("PIL.Image", extra="images")
    paths, counts = [], dict.fromkeys(defects, 0)
    for image, kind, mask in zip(data, defects, masks, strict=True):
        path = root / part / kind / f"{counts[kind]:03d}.png"
        counts[kind] += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            pillow.fromarray(image.transpose(1, 2, 0)).save(file, format="PNG")
        if kind != GOOD:
            mask_path = root / "ground_truth" / kind / f"{path.stem}_mask.png"
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(mask_path) as file:
                pillow.fromarray(255 * mask.astype(np.uint8)).save(file, format="PNG")
        paths.append(str(path))
    return paths
