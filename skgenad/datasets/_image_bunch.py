"""Functions that the fetchers of image sets share: the parts of a set, and its Bunch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

_PARTS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}


def parts_of(subset: str) -> tuple[str, ...]:
    """Name the parts that `subset` asks for; raise ValueError if it is none of the three."""
    if subset not in _PARTS:
        raise ValueError(f"subset must be 'train', 'test' or 'all', got {subset!r}.")
    return _PARTS[subset]


def make_image_bunch(
    name: str,
    data: np.ndarray,
    target: np.ndarray,
    target_names: Sequence[str],
    paths: Sequence[Path],
    text: str,
    url: str,
) -> Bunch:
    """Put images (n, C, H, W), their classes and what else was read into a Bunch."""
    files = ", ".join(f"'{path}'" for path in paths)
    shape = "x".join(str(n) for n in data.shape[1:])
    description = (
        f"{name}: {len(data)} images of {shape} (channels, height, width), uint8, in "
        f"{len(target_names)} classes, from {files}.\n\n{text} {url}"
    )
    return Bunch(
        data=np.ascontiguousarray(data),
        target=target.astype(np.int64),
        target_names=list(target_names),
        name=name,
        filenames=[str(path) for path in paths],
        url=url,
        DESCR=description,
    )
