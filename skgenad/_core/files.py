"""Files: safetensors for arrays, JSON for everything else, no code.

A file is one safetensors file. Its metadata hold a JSON document and a digest over that document
and the arrays, so that damage is noticed. :mod:`skgenad._core.state` says what stands in them.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .parts import Part

# Format 1 had flat parameters; 2 has parameters in objects, and a table of the fitted state.
FORMAT = 2


def write_file(path: Path, document: dict[str, Any], arrays: dict[str, NDArray]) -> None:
    """Write a document of JSON values and arrays; the format and versions are added."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path.parent} is no folder to save {path.name} in; make it first."
        )
    versions = {name: _version(name) for name in ("skgenad", "torch", "scikit-learn")}
    text = json.dumps({"format": FORMAT, "versions": versions, **document})
    save_file(arrays, path, metadata={"skgenad": text, "sha256": _digest(text, arrays)})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the package runs from a source tree
        return "not installed"


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the document and the arrays of a file whose digest and format are right.

    Raises
    ------
    ValueError
        If the file is none of ours, is damaged or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if "skgenad" not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not one that a detector's save wrote.")
    if metadata.get("sha256") != _digest(metadata["skgenad"], arrays):
        raise ValueError(f"{path} is damaged or was changed: its digest does not match.")
    try:
        document = json.loads(metadata["skgenad"])
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} holds no valid JSON document: {error}") from error
    _check_format(path, document)
    return document, arrays


def _check_format(path: Path, document: Any) -> None:
    found = document.get("format") if isinstance(document, dict) else None
    number = found if type(found) is int else 0
    if number == FORMAT:
        return
    if 1 <= number < FORMAT:
        raise ValueError(
            f"{path} has format {found}, an older one than the format {FORMAT} that this version "
            "reads: parameters have moved since. Fit the detector again, or load the file with the "
            "version that wrote it."
        )
    if number > FORMAT:
        raise ValueError(
            f"{path} has format {found}, a newer one than the format {FORMAT} that this version "
            "reads. Upgrade skgenad to load it."
        )
    raise ValueError(f"{path} has format {found!r}; this version reads format {FORMAT}.")


def _digest(document: str, arrays: dict[str, NDArray]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# ---- values of parameters -----------------------------------------------------------------


def to_json(name: str, value: Any) -> Any:
    """JSON form of a parameter: tuples and parts are marked, since JSON has neither."""
    if isinstance(value, tuple):
        return {"tuple": [to_json(name, item) for item in value]}
    if isinstance(value, list):
        return [to_json(name, item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":  # comes back as a list
        return to_json(name, value.tolist())
    if isinstance(value, Part) and Part._registry.get(type(value).__name__) is type(value):
        fields = value.get_params(deep=False).items()
        parameters = {key: to_json(f"{name}__{key}", field) for key, field in fields}
        return {"part": type(value).__name__, "parameters": parameters}
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, np.random.RandomState):
        return None
    raise TypeError(
        f"Parameter {name}={value!r} cannot be saved: files hold numbers, strings, tuples and the "
        "parameter objects of this package, neither objects nor code of others. Use pickle for a "
        "detector with an object or factory of your own."
    )


def from_json(value: Any) -> Any:
    """Value of a parameter from its JSON form."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "part" not in value:
        return tuple(from_json(item) for item in value["tuple"])
    kind = Part._registry.get(str(value["part"]))
    if kind is None:
        raise ValueError(f"unknown parameter object {value['part']!r}")
    parameters = {name: from_json(field) for name, field in value["parameters"].items()}
    unknown = set(parameters) - set(kind._get_param_names())
    if unknown:
        raise ValueError(f"unknown parameters {sorted(unknown)} of {value['part']}")
    part = kind(**parameters)
    part._validate_params()
    return part
