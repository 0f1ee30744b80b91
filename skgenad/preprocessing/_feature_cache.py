"""Features of images on disk, each in a file that is named by what it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from skgenad._writing import remove_all_leftovers, write_whole

_NAME = "features"
# How often a file is begun whose folder is deleted under it.
_TIMES = 5


class FeatureCache:
    """Features by keys, of which each has a file of its own that no kill leaves half written.

    Processes may share a folder: whoever writes a key writes what all others would.

    Parameters
    ----------
    folder : Path
        Made with the first file.
    shape : tuple of int
        Shape of the features of an image, float32.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder, self.shape = folder, shape

    def get(self, key: str) -> NDArray | None:
        """Features of a key; None if there are none, or a file of something else in their place."""
        try:
            found = load(self._path(key).read_bytes())[_NAME]
        except (FileNotFoundError, SafetensorError, KeyError):
            return None
        except OSError as error:
            raise self._unusable(error) from error
        return found if found.shape == self.shape and found.dtype == np.float32 else None

    def put(self, key: str, features: NDArray) -> None:
        """Keep features."""
        path, content = self._path(key), save({_NAME: np.ascontiguousarray(features)})
        for left in reversed(range(_TIMES)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, content)
                # Of other keys: who was killed may never come back for his.
                return remove_all_leftovers(path.parent)
            except FileNotFoundError as error:  # somebody has deleted the folder meanwhile
                if not left:
                    raise self._unusable(error) from error
            except OSError as error:
                raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> OSError:
        return type(error)(
            f"cache={str(self.folder)!r} is no folder that features can be read from and written "
            f"to: {error}. Pass another one, or None."
        )

    def _path(self, key: str) -> Path:
        # Two levels, since folders of many files are slow.
        return self.folder / key[:2] / f"{key[2:]}.safetensors"
