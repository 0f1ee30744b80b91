"""What a fitted detector is: one table, read by files, pickles and tests.

A detector without one of these attributes is not fitted (those that are optional aside), and a
fitted one has no others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgenad._tensors.device import resolve_device
from skgenad._tensors.foreign import own_draws
from skgenad._tensors.seeds import seeded

from .files import from_json, to_json
from .parts import copied
from .streams import Stream
from .training import empty_history
from .units import StandardUnits

# Parameters of training alone, which neither a file nor a fitted detector keeps.
NOT_KEPT = ("callbacks",)
# Kinds of numpy types that labels may have: booleans, numbers, strings.
_KINDS = "biufUO"


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
    values = [to_json("classes_", item) for item in value.tolist()]
    return {"type": value.dtype.str, "values": values}


def _classes(document: dict[str, Any], detector: Any) -> NDArray:
    kind, values = np.dtype(document["type"]), document["values"]
    if kind.kind not in _KINDS or not all(isinstance(v, bool | int | float | str) for v in values):
        raise ValueError(f"classes of type {kind}: {values!r}")
    if not detector._uses_labels:
        raise ValueError("classes without use_labels=True")
    return np.array(values, dtype=kind)


def _names(kept: list[str], detector: Any) -> NDArray:
    if len(kept) != detector.n_features_in_ or not all(isinstance(name, str) for name in kept):
        raise ValueError(f"{len(kept)} names for {detector.n_features_in_} columns")
    return np.array(kept, dtype=object)


def _whole(least: int) -> Callable[[Any, Any], int]:
    """Read a whole number of at least `least`."""

    def read(kept: Any, detector: Any) -> int:
        if type(kept) is not int or kept < least:
            raise ValueError(f"{kept!r} is no whole number of at least {least}")
        return kept

    return read


def _scores(kept: NDArray | None, detector: Any) -> NDArray | None:
    if kept is None or (isinstance(kept, np.ndarray) and kept.ndim == 1 and kept.dtype.kind == "f"):
        return kept
    raise ValueError("calibration scores that are no list of numbers")


def _history(text: str, detector: Any) -> pd.DataFrame:
    # A name stays a name, even if it is "1".
    names: Any = {"stage": str, "member": str}
    history = pd.read_json(StringIO(text), orient="split", precise_float=True, dtype=names)
    return history if len(history) else empty_history()


def _units(kept: dict[str, Any], detector: Any) -> StandardUnits:
    mean, scale, n = kept["mean"], kept["scale"], detector.n_features_in_
    if not mean.shape == scale.shape == (n,):
        raise ValueError(f"units of shapes {mean.shape} and {scale.shape} for {n} columns")
    return detector._units_class()(mean, scale, float(kept["tolerance"]))


def _weights(module: Any) -> dict[str, NDArray]:
    state = module.state_dict().items()
    return {name: value.cpu().contiguous().numpy() for name, value in state}


def _module(weights: dict[str, NDArray], detector: Any) -> Any:
    with seeded(detector.seed_), own_draws():  # all weights drawn here are replaced, by a load
        module = detector._make_module(detector.n_features_in_)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return module.eval()


def _moments_on_cpu(moments: Any) -> Any:
    if isinstance(moments, dict):
        return {key: _moments_on_cpu(value) for key, value in moments.items()}
    return moments.cpu() if isinstance(moments, Tensor) else moments


def kept_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a fit, safe from what is done later to the objects among them."""
    return {name: copied(value) for name, value in parameters.items() if name not in NOT_KEPT}


def _parameters_to_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_json(name, value) for name, value in parameters.items()}


# The attributes of a fitted detector, in the order in which they are restored.
STATE = (
    Fitted(
        "_fitted_parameters",
        _parameters_to_json,
        lambda kept, detector: kept_parameters(detector.get_params(deep=False)),
    ),
    Fitted("n_features_in_", int, _whole(1)),
    Fitted("feature_names_in_", list, _names, optional=True),
    Fitted("classes_", _is_classes, _classes, optional=True),
    Fitted("seed_", int, _whole(0)),
    Fitted("_n_fits", int, _whole(1)),
    Fitted("offset_", float, lambda kept, detector: float(kept)),
    # A file's `contamination` is the one that its threshold is for.
    Fitted(
        "_offset_is_for",
        lambda contamination: None,
        lambda kept, detector: detector.contamination,
        optional=True,
    ),
    Fitted(
        "units_",
        lambda units: {"mean": units.mean, "scale": units.scale, "tolerance": units.tolerance},
        _units,
    ),
    Fitted("calibration_scores_", lambda scores: scores, _scores),
    Fitted(
        "history_",
        lambda table: table.to_json(orient="split", double_precision=15),
        _history,
    ),
    Fitted("module_", _weights, _module, on_cpu=lambda module: copy.deepcopy(module).cpu()),
    # A file has no rows and no moments: optimisers start anew, and the device is that of the
    # reading machine.
    Fitted(
        "_stream",
        lambda stream: stream.n_rows,
        lambda kept, detector: Stream(n_rows=_whole(1)(kept, detector), is_complete=False),
    ),
    Fitted("_moments", lambda moments: None, lambda kept, detector: {}, on_cpu=_moments_on_cpu),
    Fitted("device_", lambda device: None, lambda kept, detector: torch.device("cpu")),
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
        if field.name == "_fitted_parameters":  # the threshold follows this one without a fit
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
    return {"class": type(detector).__name__, "state": state}, arrays


def rebuild(
    cls: type, document: dict[str, Any], arrays: dict[str, NDArray], device: str | None
) -> Any:
    """Make a fitted detector of `cls`, on the CPU, of what :func:`dismantle` made."""
    state = joined(document["state"], arrays, STATE)
    parameters = {n: from_json(value) for n, value in state["_fitted_parameters"].items()}
    unknown = set(parameters) - set(cls._get_param_names())  # type: ignore[attr-defined]
    if unknown:
        raise ValueError(f"unknown parameters {sorted(unknown)}")
    detector = cls(**parameters | ({} if device is None else {"device": device}))
    detector._validate_params()
    restore(detector, state, STATE)
    return detector


def restore(detector: Any, state: dict[str, Any], table: Sequence[Fitted]) -> None:
    """Give a detector the attributes of a table, in its order."""
    for field in table:
        if field.name in state or not field.optional:
            setattr(detector, field.name, field.read(state[field.name], detector))


def joined(
    state: dict[str, Any], arrays: dict[str, NDArray], table: Sequence[Fitted]
) -> dict[str, Any]:
    """Put arrays back to where they were in the state; refuse what belongs nowhere."""
    known = {field.name for field in table}
    whole = {
        name: dict(value) if isinstance(value, dict) else value for name, value in state.items()
    }
    strange = [n for n in state if n not in known]
    strange += [n for n in arrays if n.partition(".")[0] not in known]
    if strange:
        raise ValueError(f"Unexpected key {strange[0]!r}")
    for name, array in arrays.items():
        owner, _, key = name.partition(".")
        if key:
            whole.setdefault(owner, {})[key] = array
        else:
            whole[owner] = array
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


def take_state(module: nn.Module, other: nn.Module) -> None:
    """Give a module all that another holds; what it has beyond that stays."""
    try:
        strange = module.load_state_dict(other.state_dict(), strict=False).unexpected_keys
        problem = f"there is no place for its {strange[0]}" if strange else ""
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
    if problem:
        raise ValueError(
            f"start has another architecture ({problem}). Give both detectors the same parameters, "
            "and rows of as many columns."
        )
