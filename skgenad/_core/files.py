"""Files: safetensors for arrays, JSON for everything else, no code.

A file is one safetensors file. Its metadata hold a JSON document and the document's digest; the
document lists the arrays with their types, shapes and digests, so that damage is noticed.
:mod:`skgenad._core.state` says what stands in them.

What a file says of itself is checked before anything is made of it. Arrays are read one by one,
each when something asks for it that knows its type and shape.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from skgenad._writing import kind_of, write_whole

from .registry import brief
from .versions import version_of

# Format 1 had flat parameters; 2 has parameters in objects, a table of the fitted state, and one
# digest of everything; 3 has a digest for each array, and estimators of others.
FORMAT, OLDEST = 3, 2
# Bounds of what stands in a file beside arrays: bytes, and brackets, commas and colons, each of
# which becomes some 60 bytes of Python's at most. A history of 20,000 epochs has 300,000.
MOST_BYTES, MOST_PARTS = 2**24, 2**19
# A pickle begins with 0x80 and the number of its protocol, and so does a file of joblib.
_PICKLES = (b"\x02", b"\x03", b"\x04", b"\x05")
# Types of arrays by their names in safetensors; those that numpy does not have are in no file.
_TYPES = {
    **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "U32": "u4", "I32": "i4"},
    **{"U64": "u8", "I64": "i8", "F16": "f2", "F32": "f4", "F64": "f8"},
}


def write_file(
    path: Path, document: dict[str, Any], arrays: dict[str, NDArray], packages: Iterable[str] = ()
) -> None:
    """Write a document of JSON values and arrays; the format and versions are added.

    `packages` are those whose versions are noted beside that of this package.
    """
    versions = {name: version_of(name) for name in ("skgenad", "torch", "scikit-learn", *packages)}
    listed = {n: [a.dtype.str, list(a.shape), _digest_of(a)] for n, a in arrays.items()}
    whole = {"format": FORMAT, "versions": versions, **document, "arrays": listed}
    text = json.dumps(whole)
    data = save(arrays, metadata={"skgenad": text, "sha256": digest_of_text(text)})
    try:
        _check_bounds(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except ValueError as error:
        raise ValueError(
            f"{path} would not be read again: {error}. Files are for fitted detectors; pickle "
            "has no such bound."
        ) from error
    write_whole(path, data)


def digest_of_text(text: str) -> str:
    """Digest of a document."""
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of(array: NDArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


# ---- arrays -------------------------------------------------------------------------------


@dataclass
class Stored:
    """An array of a file that has not been read yet.

    Parameters
    ----------
    name : str
        Its name in the file.
    dtype : numpy.dtype
        Type of its values.
    shape : tuple of int
        Its shape.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    _file: Any = field(repr=False, default=None)
    _digest: str | None = field(repr=False, default=None)

    def read(
        self,
        shape: tuple[int, ...] | None = None,
        dtype: DTypeLike | None = None,
        *,
        finite: bool = True,
    ) -> NDArray:
        """Values, if they are of the right shape and type and, if so asked, finite.

        Raises
        ------
        ValueError
            If they are not, or the array is damaged.
        """
        if shape is not None and self.shape != shape:
            raise ValueError(f"{self.name} has the shape {self.shape} in place of {shape}")
        if dtype is not None and self.dtype != dtype:
            raise ValueError(f"{self.name} is of {self.dtype} in place of {np.dtype(dtype)}")
        values = self._file.get_tensor(self.name)
        if self._digest is not None and _digest_of(values) != self._digest:
            raise ValueError(f"{self.name} is damaged or was changed: its digest does not match")
        if finite and self.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{self.name} holds NaN or infinity")
        return values


# ---- whole files --------------------------------------------------------------------------


@contextmanager
def open_file(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Stored]]]:
    """Give the document of a file, whose digest and format are right, and its arrays, unread.

    Raises
    ------
    ValueError
        If the file is none of ours, is damaged or of another format.
    OSError
        If there is no file, or it may not be read.
    """
    text, digest, header = _document_of(path)
    document = _parsed(text, f"{path} holds no valid JSON document")
    number = _checked_format(path, document)
    if number == FORMAT and digest != digest_of_text(text):
        raise ValueError(f"{path} is damaged or was changed: its digest does not match.")
    digests = _checked_list(path, document.get("arrays"), header) if number == FORMAT else {}
    with _opened(path) as file:
        arrays = {n: Stored(n, *at, file, digests.get(n)) for n, at in header.items()}
        yield document, arrays
        # This comes last, so that a file cannot have more read than its parameters ask for.
        if number < FORMAT and digest != _old_digest(text, arrays):
            raise ValueError(f"{path} is damaged or was changed: its digest does not match.")


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def _document_of(path: Path) -> tuple[str, Any, dict[str, tuple[np.dtype, tuple[int, ...]]]]:
    """Return the text of a file's document, its digest, and types and shapes of all arrays."""
    problem = f"{path} is not a readable safetensors file"
    header = _parsed(_header_of(path).decode(), problem)
    metadata = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(header, dict) or not isinstance(metadata, dict | None):
        raise ValueError(f"{problem}: its header is no list of arrays.")
    text = (metadata or {}).get("skgenad")
    if not isinstance(text, str):
        raise ValueError(f"{path} is a safetensors file, but not one that a detector's save wrote.")
    found = {}
    for name, entry in header.items():
        kind = _TYPES.get(str(entry.get("dtype"))) if isinstance(entry, dict) else None
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if kind is None or not isinstance(shape, list) or not all(map(_is_length, shape)):
            raise ValueError(f"{problem}: its array {brief(name)} is {brief(entry)}.")
        found[name] = (np.dtype(kind), tuple(shape))
    return text, (metadata or {}).get("sha256"), found


def _is_length(value: Any) -> bool:
    return type(value) is int and value >= 0


def _header_of(path: Path) -> bytes:
    """Read the header of a file, in bounds."""
    problem = f"{path} is not a readable safetensors file"
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):  # reading a pipe could last for ever
        raise ValueError(f"{problem}: it is {kind_of(mode)}.")
    with open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        rest = os.fstat(file.fileno()).st_size - 8
        # The length of a header may begin like a pickle, but that of a pickle does not fit.
        if length > rest and start[:1] == b"\x80" and start[1:2] in _PICKLES:
            raise ValueError(
                f"{problem}: it is a pickle, which may run any code. If you trust who wrote it, "
                "open it by pickle.load or joblib.load; save(path) writes files that load reads."
            )
        if not 0 < length <= rest:
            raise ValueError(f"{problem}: its header has {length} bytes, of {max(rest, 0)}.")
        if length > MOST_BYTES:
            raise ValueError(f"{problem}: its header has more than {MOST_BYTES} bytes.")
        header = file.read(length)
    try:
        _check_bounds(header)
    except ValueError as error:
        raise ValueError(f"{problem}: {error}.") from error
    return header


def _check_bounds(header: bytes) -> None:
    """Raise ValueError for a header that would take much memory when it is parsed."""
    if not header.isascii():
        raise ValueError("its header has other characters than ASCII's")
    n_parts = sum(map(header.count, (b"{", b"[", b",", b":")))
    if len(header) > MOST_BYTES or n_parts > MOST_PARTS:
        raise ValueError(
            f"beside arrays it holds {len(header)} bytes with {n_parts} brackets, commas and "
            f"colons, of which a file has at most {MOST_BYTES} and {MOST_PARTS}"
        )


def _parsed(text: str, problem: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:  # numbers may have too many digits
        raise ValueError(f"{problem}: {error}") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _checked_format(path: Path, document: Any) -> int:
    found = document.get("format") if isinstance(document, dict) else None
    number = found if type(found) is int else 0
    if OLDEST <= number <= FORMAT:
        return number
    if 1 <= number < OLDEST:
        raise ValueError(
            f"{path} has format {found}, an older one than the formats {OLDEST} to {FORMAT} that "
            "this version reads: parameters have moved since. Fit the detector again, or load the "
            "file with the version that wrote it."
        )
    if number > FORMAT:
        raise ValueError(
            f"{path} has format {brief(found)}, a newer one than the format {FORMAT} that this "
            "version reads. Upgrade skgenad to load it."
        )
    raise ValueError(f"{path} has format {brief(found)}; this version reads format {FORMAT}.")


def _checked_list(path: Path, listed: Any, header: dict[str, Any]) -> dict[str, str]:
    """Return digests of arrays by the list in the document, if the header has the same arrays."""
    if not isinstance(listed, dict) or listed.keys() != header.keys():
        raise ValueError(f"{path} is damaged or was changed: its arrays are not those of its list.")
    for name, entry in listed.items():
        kind, shape = header[name]
        if not isinstance(entry, list) or len(entry) != 3 or entry[:2] != [kind.str, list(shape)]:
            raise ValueError(
                f"{path} is damaged or was changed: {brief(name)} has another type or shape than "
                "its list says."
            )
    return {name: str(entry[2]) for name, entry in listed.items()}


def _old_digest(text: str, arrays: dict[str, Stored]) -> str:
    """Digest that format 2 has of everything."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name].read(finite=False)
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
