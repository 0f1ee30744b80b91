"""Detectors in files: safetensors for arrays, JSON for everything else, no code.

A file is one safetensors file. Its metadata hold a JSON document (class, parameters, fitted
numbers, versions) and a digest over that document and the arrays, so that damage is noticed. The
module is rebuilt from the parameters by the class itself and then given the weights; a file
can name a class of this package and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from skgenad._tensors.device import resolve_device
from skgenad._tensors.seeds import seeded

from .training import empty_history
from .units import PixelUnits, StandardUnits

if TYPE_CHECKING:
    from .detector import BaseGenerativeDetector

_FORMAT = 1
_NOT_KEPT = ("callbacks",)
_WEIGHTS = "module."
# Kinds of numpy types that labels may have: booleans, numbers, strings.
_KINDS = "biufUO"


def save_detector(detector: BaseGenerativeDetector, path: Path) -> None:
    """Write a fitted detector; see :meth:`BaseGenerativeDetector.save`."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path.parent} is no folder to save {path.name} in; make it first."
        )
    arrays = {
        _WEIGHTS + name: value.cpu().contiguous().numpy()
        for name, value in detector.module_.state_dict().items()
    }
    arrays |= {"units.mean": detector.units_.mean, "units.scale": detector.units_.scale}
    if detector.calibration_scores_ is not None:
        arrays["calibration_scores"] = detector.calibration_scores_
    document = json.dumps(_document(detector))
    metadata = {"skgenad": document, "sha256": _digest(document, arrays)}
    save_file(arrays, path, metadata=metadata)


def _document(detector: BaseGenerativeDetector) -> dict[str, Any]:
    names = getattr(detector, "feature_names_in_", None)
    classes = getattr(detector, "classes_", None)
    return {
        "format": _FORMAT,
        "class": type(detector).__name__,
        "parameters": {
            name: _to_json(name, value)
            for name, value in detector._fitted_parameters.items()
            if name not in _NOT_KEPT
        },
        "n_features_in": detector.n_features_in_,
        "feature_names_in": None if names is None else list(names),
        "classes": None if classes is None else _classes_to_json(classes),
        "offset": detector.offset_,
        "tolerance": detector.units_.tolerance,
        "seed": detector.seed_,
        "n_fits": detector._n_fits,
        "history": detector.history_.to_json(orient="split", double_precision=15),
        "versions": {name: _version(name) for name in ("skgenad", "torch", "scikit-learn")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree
        return "not installed"


def _to_json(name: str, value: Any) -> Any:
    """JSON form of a parameter; tuples are marked, since JSON has lists only."""
    if isinstance(value, tuple):
        return {"tuple": [_to_json(name, item) for item in value]}
    if isinstance(value, list):
        return [_to_json(name, item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, np.random.RandomState):
        return None
    raise TypeError(
        f"Parameter {name}={value!r} cannot be saved: files hold numbers, strings and tuples, "
        "neither objects nor code. Use pickle for a detector with an object or factory of your own."
    )


def _classes_to_json(classes: NDArray) -> dict[str, Any]:
    if classes.dtype.kind not in _KINDS:
        raise TypeError(
            f"Classes of type {classes.dtype} cannot be saved: files hold numbers and strings. "
            "Fit with such labels, or use pickle."
        )
    values = [_to_json("classes_", value) for value in classes.tolist()]
    return {"type": classes.dtype.str, "values": values}


def _classes_from_json(document: dict[str, Any]) -> NDArray:
    kind = np.dtype(document["type"])
    if kind.kind not in _KINDS:
        raise ValueError(f"classes of type {kind}")
    return np.array(document["values"], dtype=kind)


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(_from_json(item) for item in value["tuple"])
    return [_from_json(item) for item in value] if isinstance(value, list) else value


def _digest(document: str, arrays: dict[str, NDArray]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Return the document and the arrays of a file whose digest is right."""
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
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} holds no valid JSON document: {error}") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise ValueError(f"{path} has format {found!r}; this version reads format {_FORMAT}.")
    return document, arrays


def load_detector(
    base: type[BaseGenerativeDetector], path: Path, device: str | None
) -> BaseGenerativeDetector:
    """Read a detector; see :meth:`BaseGenerativeDetector.load`."""
    document, arrays = _read(path)
    cls = base._registry.get(str(document.get("class")))
    if cls is None or not issubclass(cls, base):
        raise ValueError(
            f"{path} holds a {document.get('class')!r}, which is not a {base.__name__} of this "
            f"version. Load it by its own class; this version knows {sorted(base._registry)}."
        )
    try:
        detector = _rebuild(cls, document, arrays, device)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not describe a {cls.__name__}: {error}") from error
    # Outside the block above: a device that this machine lacks is no fault of the file.
    detector.device_ = resolve_device(detector.device)
    detector.module_.to(detector.device_)
    return detector


def _rebuild(
    cls: type[BaseGenerativeDetector],
    document: dict[str, Any],
    arrays: dict[str, NDArray],
    device: str | None,
) -> BaseGenerativeDetector:
    """Build the detector on the CPU."""
    parameters = {name: _from_json(value) for name, value in document["parameters"].items()}
    unknown = set(parameters) - set(cls._get_param_names())
    if unknown:
        raise ValueError(f"unknown parameters {sorted(unknown)}")
    detector = cls(**parameters | ({} if device is None else {"device": device}))
    detector._validate_params()
    detector.n_features_in_ = int(document["n_features_in"])
    if document["feature_names_in"] is not None:
        detector.feature_names_in_ = np.array(document["feature_names_in"], dtype=object)
    # Absent in files from before there were classes.
    if document.get("classes") is not None:
        detector.classes_ = _classes_from_json(document["classes"])
    detector._fitted_parameters = detector.get_params(deep=False)
    detector.seed_, detector._n_fits = int(document["seed"]), int(document["n_fits"])
    detector.offset_ = float(document["offset"])
    detector.units_ = _take_units(arrays, detector.n_features_in_, float(document["tolerance"]))
    if parameters.get("image_shape") is not None:
        detector.units_ = PixelUnits(detector.n_features_in_)
    detector.calibration_scores_ = arrays.pop("calibration_scores", None)
    history = pd.read_json(StringIO(document["history"]), orient="split", precise_float=True)
    detector.history_ = history if len(history) else empty_history()
    detector.module_ = _build_module(detector, arrays)
    detector._moments = {}
    return detector


def _take_units(arrays: dict[str, NDArray], n_features: int, tolerance: float) -> StandardUnits:
    mean, scale = arrays.pop("units.mean"), arrays.pop("units.scale")
    if not mean.shape == scale.shape == (n_features,):
        raise ValueError(f"units of shapes {mean.shape} and {scale.shape} for {n_features} columns")
    return StandardUnits(mean, scale, tolerance)


def _build_module(detector: BaseGenerativeDetector, arrays: dict[str, NDArray]) -> nn.Module:
    with seeded(detector.seed_):  # the first weights are random, though none of them stays
        module = detector._make_module(detector.n_features_in_)
    module.load_state_dict(
        {name.removeprefix(_WEIGHTS): torch.from_numpy(value) for name, value in arrays.items()}
    )
    return module.eval()
