"""What a fitted detector is: one table, read by files, pickles and tests.

A detector without one of these attributes is not fitted (those that are optional aside), and a
fitted one has no others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgenad._tensors.device import resolve_device

from .files import Stored
from .foreign import cloned
from .history import history_of_file, history_to_file
from .parts import copied
from .reference import reference_of_file, reference_to_file
from .registry import brief, name_of
from .streams import Stream
from .units import COARSEST, StandardUnits
from .values import NOT_KEPT, Packer, Unpacker, make, packed, packed_parameters, unpacked
from .weights import module_of_weights, weights_of

# Kinds of numpy types that labels may have, and what their values are in JSON.
_KINDS: dict[str, tuple[type, ...]] = {
    **{"b": (bool,), "i": (int,), "u": (int,), "f": (int, float), "U": (str,)},
    "O": (bool, int, float, str),
}


@dataclass(frozen=True)
class Fitted:
    """An attribute of a fitted detector.

    Parameters
    ----------
    name : str
        Name of the attribute.
    write : callable
        Maps its value to what a file holds: a JSON value, an array, or a dict of both.
    read : callable
        Maps what a file holds and the detector, as far as it has been restored, to the value.
    optional : bool, default=False
        Whether a detector may be fitted without it.
    on_cpu : callable, default=None
        Copies the value to the CPU, for pickles of a detector on another device; None: it knows no
        device.
    """

    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any, Any], Any]
    optional: bool = False
    on_cpu: Callable[[Any], Any] | None = None


# ---- how single attributes are written and read -------------------------------------------


def _is_classes(value: NDArray) -> dict[str, Any]:
    if value.dtype.kind not in _KINDS:
        raise TypeError(
            f"Classes of type {value.dtype} cannot be saved: files hold numbers and strings. "
            "Fit with such labels, or use pickle."
        )
    values = [Packer(models=False).parameter("classes_", item) for item in value.tolist()]
    return {"type": value.dtype.str, "values": values}


def _classes(document: dict[str, Any], detector: Any) -> NDArray:
    name, values = document["type"], document["values"]
    # A type such as "<U9999999" has a name of more characters than any that counts.
    kind = np.dtype(name) if isinstance(name, str) and len(name) <= 8 else np.dtype("V")
    allowed = _KINDS.get(kind.kind, ())
    if not isinstance(values, list) or not values or not all(type(v) in allowed for v in values):
        raise ValueError(f"classes of type {kind}: {brief(values)}")
    if not detector._uses_labels:
        raise ValueError("classes without use_labels=True")
    if len(set(values)) < len(values):
        raise ValueError(f"classes that are there twice: {brief(values)}")
    # Strings get the room that they need, whatever the file says.
    return np.array(values, dtype=np.str_ if kind.kind == "U" else kind)


def _names(kept: list[str], detector: Any) -> NDArray:
    listed = isinstance(kept, list) and all(isinstance(name, str) for name in kept)
    if not listed or not len(kept) == len(set(kept)) == detector.n_features_in_:
        raise ValueError(f"the names {brief(kept)} for {detector.n_features_in_} columns")
    return np.array(kept, dtype=object)


def _whole(least: int) -> Callable[[Any, Any], int]:
    """Read a whole number of at least `least`."""

    def read(kept: Any, detector: Any) -> int:
        if type(kept) is not int or not least <= kept < 2**63:
            raise ValueError(f"{brief(kept)} is no whole number of at least {least}")
        return kept

    return read


def finite(kept: Any, detector: Any) -> float:
    """Read a finite number."""
    if type(kept) not in (int, float) or not math.isfinite(kept):
        raise ValueError(f"{brief(kept)} is no finite number")
    return float(kept)


def _threshold_to_file(value: float) -> Any:
    if math.isnan(value):
        raise ValueError(
            "offset_ is NaN, so that every row would be normal: nothing was saved. Look at the "
            "training rows and at history_, and fit again."
        )
    return Packer(models=False).pack("offset_", float(value))  # a user may have set infinity


def _threshold(kept: Any, detector: Any) -> float:
    value = Unpacker({}).unpack(kept)
    if type(value) not in (int, float) or math.isnan(value):
        raise ValueError(f"the threshold {brief(kept)}")
    return float(value)


def _stream(kept: Any, detector: Any) -> Stream:
    # Files of format 2 do not say how many rows there were.
    return Stream(n_rows=1 if kept is None else _whole(1)(kept, detector), is_complete=False)


def _scores(kept: Any, detector: Any) -> NDArray | None:
    if kept is None:
        return None
    if not isinstance(kept, Stored) or len(kept.shape) != 1 or kept.dtype != np.float64:
        raise ValueError("calibration scores that are no list of numbers")
    scores = kept.read(finite=False)
    if not len(scores) or np.isnan(scores).any() or (scores[1:] < scores[:-1]).any():
        raise ValueError("calibration scores that are not in order")
    return scores


def _codes(kept: Any, detector: Any) -> NDArray | None:
    if kept is None:
        return None
    scores = detector.calibration_scores_
    if scores is None or not isinstance(kept, Stored):
        raise ValueError("classes of calibration scores that are not there")
    codes = kept.read(scores.shape, np.int64)
    if len(codes) and not 0 <= codes.min() <= codes.max() < len(detector.classes_):
        raise ValueError("calibration scores of classes that there are not")
    return codes


def array_of(kept: Any, name: str) -> Stored:
    """Array that a field of a file has by a name."""
    found = kept.get(name) if isinstance(kept, dict) else None
    if not isinstance(found, Stored):
        raise ValueError(f"{name!r} is no array")
    return found


def units_to_file(units: StandardUnits) -> dict[str, Any]:
    """Take units apart, as files hold them."""
    return {"mean": units.mean, "scale": units.scale, "tolerance": units.tolerance}


def units_of_file(kept: dict[str, Any], kind: type[StandardUnits], n: int) -> StandardUnits:
    """Units of `n` columns that a file holds."""
    mean, scale = (array_of(kept, name).read((n,), np.float64) for name in ("mean", "scale"))
    tolerance = finite(kept["tolerance"], None)
    if (scale < 0).any() or not 0 <= tolerance <= COARSEST:
        raise ValueError("units of a negative scale, or a tolerance that is no rounding")
    return kind(mean, scale, tolerance)


def _units(kept: dict[str, Any], detector: Any) -> StandardUnits:
    mean, scale = array_of(kept, "mean"), array_of(kept, "scale")
    n = detector.n_features_in_
    if not mean.shape == scale.shape == (n,):
        raise ValueError(f"units of shapes {mean.shape} and {scale.shape} for {n} columns")
    return units_of_file(kept, detector._units_class(), n)


def _moments_on_cpu(moments: Any) -> Any:
    if isinstance(moments, dict):
        return {key: _moments_on_cpu(value) for key, value in moments.items()}
    return moments.cpu() if isinstance(moments, Tensor) else moments


def kept_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a fit, safe from what is done later to the objects among them."""
    return {name: copied(value) for name, value in parameters.items() if name not in NOT_KEPT}


# The attributes of a fitted detector, in the order in which they are restored.
STATE = (
    Fitted(
        "_fitted_parameters",
        partial(packed_parameters, models=False),
        lambda kept, detector: kept_parameters(detector.get_params(deep=False)),
    ),
    Fitted("n_features_in_", int, _whole(1)),
    Fitted("feature_names_in_", list, _names, optional=True),
    Fitted("classes_", _is_classes, _classes, optional=True),
    Fitted("seed_", int, _whole(0)),
    Fitted("_n_fits", int, _whole(1)),
    Fitted("offset_", _threshold_to_file, _threshold),
    # A file's `contamination` is the one that its threshold is for.
    Fitted(
        "_offset_is_for",
        lambda contamination: None,
        lambda kept, detector: detector.contamination,
        optional=True,
    ),
    Fitted("units_", units_to_file, _units),
    # Files of earlier versions have none.
    Fitted("_reference", reference_to_file, reference_of_file, optional=True),
    Fitted("calibration_scores_", lambda scores: scores, _scores),
    Fitted(
        "_calibration_codes",
        lambda codes: None if codes is None else codes.astype(np.int64),
        _codes,
        optional=True,
    ),
    Fitted("history_", history_to_file, history_of_file),
    Fitted(
        "module_", weights_of, module_of_weights, on_cpu=lambda module: copy.deepcopy(module).cpu()
    ),
    # A file has no rows and no moments: optimisers start anew, and the device is that of the
    # reading machine.
    Fitted("_stream", lambda stream: stream.n_rows, _stream),
    Fitted("_moments", lambda moments: None, lambda kept, detector: {}, on_cpu=_moments_on_cpu),
    Fitted("device_", lambda device: None, lambda kept, detector: torch.device("cpu")),
)


# Attributes that files of format 2 lack.
_SINCE_3 = ("_stream",)
# What every kind of detector has in common.
SHARED = tuple(
    field
    for field in STATE
    if field.name
    in (
        *("n_features_in_", "feature_names_in_", "classes_", "seed_", "offset_", "_offset_is_for"),
        *("calibration_scores_", "_calibration_codes", "_reference"),
    )
)
# Parameters of a fit, among which there may be other detectors.
PARAMETERS = Fitted(
    "_fitted_parameters",
    packed_parameters,
    lambda kept, detector: clone_of_parameters(detector),
)


def clone_of_parameters(detector: Any) -> dict[str, Any]:
    """Parameters of a fit and copies of the models among them, safe from what is set later."""
    values = detector.get_params(deep=False)
    return {
        name: cloned(value, safe=False) for name, value in values.items() if name not in NOT_KEPT
    }


def model_field(name: str) -> Fitted:
    """Attribute that is a fitted estimator, of this package or of the list of others."""
    return Fitted(
        name,
        lambda model: packed({"model": model}),
        lambda kept, detector: unpacked(kept, detector._loading_device)["model"],
    )


# ---- whole detectors ----------------------------------------------------------------------


def dismantle(
    detector: Any, table: Sequence[Fitted] = STATE
) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Document and arrays of a fitted detector with the attributes of a table."""
    state: dict[str, Any] = {}
    arrays: dict[str, NDArray] = {}
    for field in table:
        if field.optional and not hasattr(detector, field.name):
            continue
        value = getattr(detector, field.name)
        follows = "contamination" in detector._get_param_names()
        if field.name == "_fitted_parameters" and follows:  # the threshold does, without a fit
            value = {**value, "contamination": detector._threshold_now()[1]}
        kept = field.write(value)
        if isinstance(kept, np.ndarray):
            arrays[field.name] = kept
        elif isinstance(kept, dict):
            arrays |= {
                f"{field.name}.{key}": v for key, v in kept.items() if isinstance(v, np.ndarray)
            }
            state[field.name] = {k: v for k, v in kept.items() if not isinstance(v, np.ndarray)}
        else:
            state[field.name] = kept
    return {"class": name_of(type(detector)), "state": state}, arrays


def rebuild(
    cls: Any, document: dict[str, Any], arrays: Mapping[str, Stored], device: str | None
) -> Any:
    """Make a fitted detector of `cls`, on the CPU, of what :func:`dismantle` made."""
    state = joined(document["state"], arrays, cls._table)
    parameters = unpacked(state["_fitted_parameters"], device)
    detector = make(cls, cls._parameters_of_file(parameters), device)
    detector._loading_device = device
    restore(detector, state, cls._table)
    del detector._loading_device
    return detector


def restore(detector: Any, state: dict[str, Any], table: Sequence[Fitted]) -> None:
    """Give a detector the attributes of a table, in its order."""
    for field in table:
        if field.name in state or not field.optional:
            kept = state.get(field.name) if field.name in _SINCE_3 else state[field.name]
            try:
                value = field.read(kept, detector)
            except (AttributeError, IndexError, KeyError, TypeError) as error:
                raise ValueError(f"{field.name} cannot be read: {brief(kept)}") from error
            setattr(detector, field.name, value)


def joined(
    state: dict[str, Any], arrays: Mapping[str, Stored], table: Sequence[Fitted]
) -> dict[str, Any]:
    """Put arrays back to where they were in the state; refuse what belongs nowhere."""
    known = {field.name for field in table}
    whole = {
        name: dict(value) if isinstance(value, dict) else value for name, value in state.items()
    }
    strange = [n for n in state if n not in known]
    strange += [n for n in arrays if n.partition(".")[0] not in known]
    if strange:
        raise ValueError(f"Unexpected key {brief(strange[0])}")
    for name, array in arrays.items():
        owner, _, key = name.partition(".")
        place, key = (whole.setdefault(owner, {}), key) if key else (whole, owner)
        if key in place:
            raise ValueError(f"{brief(name)} is there twice")
        place[key] = array
    return whole


def state_on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """Copy a pickle's state of a detector on any device to the CPU."""
    moved = {
        field.name: field.on_cpu(state[field.name])
        for field in STATE
        if field.on_cpu is not None and field.name in state
    }
    return {**state, **moved}


def put_on_device(detector: Any) -> None:
    """Put an unpickled detector on its device or, where the machine lacks that, on the CPU."""
    try:
        detector.device_ = resolve_device(str(detector.device_))
    except ValueError:
        detector.device_ = torch.device("cpu")
    detector.module_.to(detector.device_)
