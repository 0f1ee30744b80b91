"""Data sets as ``.npz`` files with the arrays ``X`` and ``y``, or with a split that is fixed."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skgenad._writing import kind_of
from skgenad.metrics._labels import check_labels

_SPLIT = ("train", "test", "test_labels")
# What readers of zip files and of arrays raise where there is none, or half of one.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, MemoryError),
    *(struct.error, KeyError, IndexError, tokenize.TokenError, SyntaxError),
)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Files of so many bytes that were packed more closely than this are none of data: a table of zeros
# with a few ones is packed a hundred times.
_LARGE, _MOST_PACKED = 2**28, 500


def load_npz(path: str | os.PathLike[str]) -> Bunch:
    """Load one data set from an ``.npz`` file.

    Parameters
    ----------
    path : path-like
        A file with a numeric array ``X`` of shape (n_samples, n_features) and an array ``y`` of
        shape (n_samples,) or (n_samples, 1) of 0 (normal) and 1 (anomaly). Other arrays in it
        are ignored. Pickled objects in it are refused, so that loading runs no code.

    Returns
    -------
    sklearn.utils.Bunch
        ``data``, float64 of shape (n_samples, n_features), or float32 if the file has it so;
        ``target``, int64 of shape (n_samples,), 1 = anomaly; ``name``, the file's name without
        ``.npz``; ``filename``; ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a readable ``.npz`` or its arrays are not as described.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skgenad.datasets import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.npz"
    ...     np.savez(path, X=[[0.0, 1.0], [5.0, 5.0]], y=[0, 1])
    ...     load_npz(path).target
    array([0, 1])
    """
    path = Path(path)
    with _naming(path):
        X, y = _read_arrays(path, ("X", "y"))
        X, y = _check_rows(X, "X"), check_labels(y)
        _check_lengths({"X": X, "y": y})
    description = (
        f"{path.stem}: {len(y)} rows, {X.shape[1]} features, {y.sum()} anomalies "
        f"({y.mean():.1%}), from '{path}'."
    )
    return Bunch(data=X, target=y, name=path.stem, filename=str(path), DESCR=description)


def load_split_npz(path: str | os.PathLike[str]) -> Bunch:
    """Load one data set whose split is fixed from an ``.npz`` file.

    Parameters
    ----------
    path : path-like
        A file with numeric arrays ``train`` (normal rows) and ``test``, both of n_features
        columns, and ``test_labels``, 0 (normal) and 1 (anomaly). Values need not be finite.

    Returns
    -------
    sklearn.utils.Bunch
        ``train`` and ``test``, float64, or float32 if the file has it so; ``test_labels``, int64;
        ``name``, the file's name without ``.npz``; ``filename``; ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a readable ``.npz`` or its arrays are not as described.
    """
    path = Path(path)
    with _naming(path):
        train, test, labels = _read_arrays(path, _SPLIT)
        train, test = _check_rows(train, "train"), _check_rows(test, "test")
        labels = check_labels(labels)
        _check_lengths({"test": test, "test_labels": labels})
        if train.shape[1] != test.shape[1]:
            raise ValueError(
                f"train has {train.shape[1]} columns and test has {test.shape[1]}; they must be "
                "equal."
            )
    description = (
        f"{path.stem}: {len(train)} normal rows to train on, {len(test)} rows to test, "
        f"{train.shape[1]} features, {labels.sum()} anomalies ({labels.mean():.1%}), from '{path}'."
    )
    return Bunch(
        train=train,
        test=test,
        test_labels=labels,
        name=path.stem,
        filename=str(path),
        DESCR=description,
    )


def has_split(path: Path) -> bool | None:
    """Say whether a file holds a fixed split and not ``X`` and ``y``; reads their names alone.

    None is for files that hold neither or cannot be read: loading them says what is wrong.
    """
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (*_BROKEN, OSError, ValueError):
        return None
    if names >= {"X", "y"}:
        return False
    return True if names >= set(_SPLIT) else None


def list_folder(path: str | os.PathLike[str]) -> list[str]:
    """List the data sets in a folder: its ``.npz`` files, without looking into them.

    Parameters
    ----------
    path : path-like
        A folder. Folders in it are not searched, and hidden files are skipped.

    Returns
    -------
    list of str
        File names without ``.npz``, sorted.

    Raises
    ------
    NotADirectoryError
        If `path` is not a folder.
    FileNotFoundError
        If the folder has no ``.npz`` file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skgenad.datasets import list_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "mine.npz", X=[[0.0], [5.0]], y=[0, 1])
    ...     list_folder(folder)
    ['mine']
    """
    path = Path(path)
    if not path.is_dir():
        raise NotADirectoryError(f"'{path}' is not a folder. Name one that holds .npz files.")
    names = sorted(file.stem for file in path.glob("*.npz") if not file.name.startswith("."))
    if not names:
        inside = sorted(
            {str(f.parent) for f in path.glob("*/*.npz") if not f.parent.name.startswith(".")}
        )
        hint = f" There are some in: {', '.join(inside)}." if inside else ""
        raise FileNotFoundError(f"'{path}' holds no .npz file.{hint}")
    return names


def load_folder(path: str | os.PathLike[str]) -> dict[str, Bunch]:
    """Load every data set of a folder.

    All of them are held in memory at once; `list_folder` and `load_npz` take them one by one.

    Parameters
    ----------
    path : path-like
        A folder of ``.npz`` files as `load_npz` wants them.

    Returns
    -------
    dict of str to sklearn.utils.Bunch
        What `load_npz` returns for each name of `list_folder`.

    Raises
    ------
    NotADirectoryError
        If `path` is not a folder.
    FileNotFoundError
        If the folder has no ``.npz`` file.
    ValueError
        If one of the files is not a data set; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skgenad.datasets import load_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "mine.npz", X=[[0.0], [5.0]], y=[0, 1])
    ...     load_folder(folder)["mine"].data.shape
    (2, 1)
    """
    return {name: load_npz(Path(path) / f"{name}.npz") for name in list_folder(path)}


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors about the content of a file name it."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' is not a data set: {error}") from error


def _read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):  # reading a pipe could last for ever
        raise ValueError(f"it is {kind_of(mode)}, no file.")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive)
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in names if name not in arrays.files]
            if missing:
                *first, last = names
                raise ValueError(
                    f"it has no array {' and no array '.join(missing)}; "
                    f"it has {', '.join(arrays.files) or 'none'}. "
                    f"It needs {', '.join(first)} and {last}."
                )
            return [_numbers(arrays, name) for name in names]
    except (*_BROKEN, OSError) as error:
        # Readers of zip files seek where damaged ones send them; a disk that fails says otherwise.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"it is not a readable .npz file ({error}).") from error


def _numbers(arrays: Mapping[str, Any], name: str) -> np.ndarray:
    try:
        array = arrays[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise ValueError(
            f"{name} holds Python objects, which are not read since they can run code. Save an "
            "array of numbers, such as np.asarray(values, dtype=float)."
        ) from None
    if not isinstance(array, np.ndarray):  # what does not begin as an array is bytes
        raise ValueError(f"{name} is no array.")
    return array


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Raise ValueError for arrays that are larger than what is stored, as far as can be seen."""
    for member in archive.infolist():
        stored, size = max(member.compress_size, 1), member.file_size
        if size > _LARGE and size / stored > _MOST_PACKED:
            raise ValueError(
                f"{member.filename} would become {size} bytes of {stored}, which no data does."
            )
        with archive.open(member) as stream:
            start = stream.read(len(np.lib.format.MAGIC_PREFIX))
        if start != np.lib.format.MAGIC_PREFIX:
            continue
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version not in _HEADERS:  # later ones are for names of fields alone
                raise ValueError(f"{member.filename} has fields, or another version of arrays.")
            shape, _, dtype = _HEADERS[version](stream)
            promised = math.prod(shape) * dtype.itemsize
            if promised > size and not dtype.hasobject:  # objects are refused anyway
                raise ValueError(
                    f"{member.filename} promises {promised} bytes in shape {shape}, and has {size}."
                )


def _check_rows(rows: np.ndarray, name: str) -> np.ndarray:
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"{name} has shape {rows.shape}; it must be (n_samples, n_features), neither of them "
            "0. Flatten images to rows."
        )
    if rows.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {rows.dtype}; it must hold real numbers.")
    return rows if rows.dtype == np.float32 else rows.astype(np.float64)


def _check_lengths(arrays: Mapping[str, np.ndarray]) -> None:
    (one, rows), (other, labels) = arrays.items()
    if len(rows) != len(labels):
        raise ValueError(
            f"{one} has {len(rows)} rows and {other} has {len(labels)}; they must be equal."
        )
