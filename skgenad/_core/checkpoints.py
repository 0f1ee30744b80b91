"""Folders of checkpoints: which fit one belongs to, and who may write to it.

:mod:`skgenad._core.resuming` says what stands in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skgenad._tensors.device import resolve_device

from .calibration import Split
from .large_tables import Table, pieces_of
from .registry import brief
from .versions import version_of

__all__ = ["CheckpointFolder"]

# Parameters that change no bit of a fit.
_OF_NO_WEIGHT = ("callbacks", "random_state", "verbose", "warm_start")
_FILE, _LOCK = "checkpoint.safetensors", "lock"


@dataclass(frozen=True)
class CheckpointFolder:
    """A folder from which a fit that was interrupted goes on, given as ``fit(X, checkpoint=...)``.

    A fit writes down where it stands, once in a while and at the end of an epoch of 50 gradient
    steps. If the process is killed, the same call in another one goes on from there, and gives the
    detector that a fit without an interruption gives, bit by bit. A fit that ends well removes what
    it wrote, and the folder if nothing else is in it.

    Parameters
    ----------
    folder : path-like
        Made if it is not there. It belongs to one fit: one of other rows, other parameters, another
        seed or other versions of skgenad and torch is refused, and so is a second one at the same
        time.
    seconds : float, default=30.0
        Time between two writings, at least 0. It grows to 20 times what a writing takes, so that
        all of them together take less than 5 % of a fit; 0 writes after each epoch, whatever that
        costs.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skgenad import Autoencoder, CheckpointFolder
    >>> X = np.random.RandomState(0).randn(100, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     every_minute = CheckpointFolder(f"{folder}/run", seconds=60)
    ...     detector = Autoencoder(max_steps=100).fit(X, checkpoint=every_minute)
    """

    folder: str | os.PathLike[str]
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if not isinstance(self.folder, (str, os.PathLike)) or not os.fspath(self.folder):
            raise TypeError(f"folder={self.folder!r} must be the path of a folder.")
        is_number = isinstance(self.seconds, Real) and not isinstance(self.seconds, bool)
        if not is_number or not 0 <= self.seconds < math.inf:
            raise ValueError(f"seconds={self.seconds!r} must be a finite number of at least 0.")

    @property
    def file(self) -> Path:
        """The one file of a checkpoint."""
        return Path(self.folder) / _FILE


def folder_of(checkpoint: Any) -> CheckpointFolder | None:
    """Folder that the parameter `checkpoint` of `fit` asks for; None without one."""
    if checkpoint is None or isinstance(checkpoint, CheckpointFolder):
        return checkpoint
    if isinstance(checkpoint, (str, os.PathLike)):
        return CheckpointFolder(checkpoint)
    raise TypeError(
        f"checkpoint={checkpoint!r} must be the path of a folder, or a CheckpointFolder."
    )


# ---- one fit at a time ----------------------------------------------------------------------


@contextlib.contextmanager
def held(folder: CheckpointFolder) -> Iterator[None]:
    """Make a folder and keep other fits out of it; remove what is of no use once all went well.

    A process that is killed lets go of it.
    """
    path = Path(folder.folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"checkpoint={path} is no folder; name another one.") from None
    lock = _locked(path / _LOCK)
    try:
        yield
        folder.file.unlink(missing_ok=True)
    finally:
        # A folder that holds a checkpoint stays, and one of other things does as well.
        with contextlib.suppress(OSError):
            (path / _LOCK).unlink()
        os.close(lock)
        with contextlib.suppress(OSError):
            path.rmdir()


def _locked(path: Path) -> int:
    """Open a file that no other process has locked; file systems without locks are trusted."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            import fcntl  # Windows lacks the module

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise ValueError(
                f"checkpoint={path.parent} is in use by another fit; name another folder."
            ) from None
        except (ImportError, OSError):
            return file
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)  # who had it removed it meanwhile


# ---- which fit it is ------------------------------------------------------------------------


def identity_of(detector: Any, parts: Split[Any]) -> dict[str, Any]:
    """Say what makes a fit the fit that it is, in JSON values."""
    parameters = detector.get_params(deep=False)
    kept = {name: value for name, value in parameters.items() if name not in _OF_NO_WEIGHT}
    kept["device"] = str(resolve_device(detector.device))
    return {
        "class": _qualified(type(detector)),
        "parameters": {name: json.dumps(described(value)) for name, value in kept.items()},
        "seed": detector.seed_,
        "rows": _digest_of(detector, parts),
        "versions": {name: version_of(name) for name in ("skgenad", "torch", "numpy")},
    }


def check_identity(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    """Raise ValueError, and say what differs, unless a checkpoint is of the fit that is wanted."""
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise ValueError(f"{path} does not say which fit it is of. Delete it.")
    if found == wanted:
        return
    raise ValueError(
        f"{path} is of another fit: {_difference(found, wanted)}. Name another folder, or delete "
        "this one if that fit is not to go on."
    )


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in which way two fits differ; the first one that is found."""
    if found["class"] != wanted["class"]:
        return f"of a {brief(found['class'])} and not a {wanted['class']}"
    for kind in ("parameters", "versions"):
        then, now = found[kind], wanted[kind]
        names = sorted(now.keys() | then.keys()) if isinstance(then, dict) else [kind]
        for name in names:
            old, new = (d.get(name) if isinstance(d, dict) else d for d in (then, now))
            if old != new:
                what = name if kind == "parameters" else f"the version of {name}"
                return f"{what} was {brief(old)} and is {brief(new)}"
    if found["rows"] != wanted["rows"]:
        return "its rows, or those held out, were others"
    return f"its seed was {brief(found['seed'])} and is {wanted['seed']}"


def _digest_of(detector: Any, parts: Split[Any]) -> str:
    """Digest of the rows, in the parts into which they were split, and of their labels."""
    digest = hashlib.sha256()
    names = getattr(detector, "feature_names_in_", ())
    classes = getattr(detector, "classes_", np.empty(0))
    digest.update(json.dumps([list(map(str, names)), list(map(str, classes))]).encode())
    for part in parts:
        digest.update(b"|")
        if part is not None:
            _take(digest, part)
    return digest.hexdigest()


def _take(digest: Any, rows: Table) -> None:
    digest.update(f"{rows.dtype.str}{rows.shape}".encode())
    for piece in pieces_of(rows) if len(rows) else ():
        digest.update(np.ascontiguousarray(piece).data)


def described(value: Any) -> Any:
    """Say what a parameter is, in JSON values that are the same in another process.

    Functions and objects of the user's are told apart by their names alone.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"array": _array(value)}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, partial):
        return ["partial", *map(described, (value.func, value.args, value.keywords))]
    if hasattr(value, "get_params") and not isinstance(value, type):
        parameters = value.get_params(deep=False)
        return {"class": _qualified(type(value)), **described(parameters)}
    return _qualified(value if hasattr(value, "__qualname__") else type(value))


def _array(value: NDArray) -> list[Any]:
    content = repr(value.tolist()) if value.dtype.hasobject else value.tobytes()
    content = content.encode() if isinstance(content, str) else content
    return [value.dtype.str, list(value.shape), hashlib.sha256(content).hexdigest()]


def _qualified(thing: Any) -> str:
    return f"{getattr(thing, '__module__', None)}.{thing.__qualname__}"
