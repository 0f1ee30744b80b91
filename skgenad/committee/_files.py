"""What a file holds of a committee: its parameters, and its members' own documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skgenad._core.files import Stored
from skgenad._core.registry import brief
from skgenad._core.rows import Shape, row_shape
from skgenad._core.state import PARAMETERS, SHARED, STATE, Fitted
from skgenad._core.values import Packer, Unpacker
from skgenad._tensors.tails import MOST_REFERENCES, Tail

from ._members import Member


def _write_members(members: list[Member]) -> dict[str, Any]:
    kept: dict[str, Any] = {"names": [[m.name, len(m.models)] for m in members]}
    for j, member in enumerate(members):
        for k, (model, tail) in enumerate(zip(member.models, member.tails, strict=True)):
            packer = Packer()
            kept[f"{j}.{k}"] = packer.pack(f"{j}.{k}", model)
            kept |= packer.arrays
            state = tail.state_dict().items()
            kept |= {f"{j}.{k}.tail.{name}": value.cpu().numpy() for name, value in state}
    return kept


def _read_members(kept: dict[str, Any], committee: Any) -> list[Member]:
    left = dict(kept)
    members = []
    for j, (name, n_models) in enumerate(left.pop("names")):
        member = Member(str(name))
        for k in range(n_models):
            model, tail = _read_model(left, f"{j}.{k}", committee)
            member.models.append(model)
            member.tails.append(tail)
        if not member.models:
            raise ValueError(f"a member {brief(name)} without a model")
        members.append(member)
    if len(members) != len(committee._weights):
        raise ValueError(f"{len(members)} members with {len(committee._weights)} weights")
    if left:
        raise ValueError(f"Unexpected key {brief(min(left))}")
    return members


def _read_model(left: dict[str, Any], place: str, committee: Any) -> tuple[Any, Tail]:
    """Take a fitted model and its tail out of what has not been read yet."""
    document, prefix = left.pop(place), f"{place}."
    arrays = {name: left.pop(name) for name in list(left) if name.startswith(prefix)}
    tail = _read_tail({n: arrays.pop(f"{prefix}tail.{n}") for n in ("places", "heights", "slopes")})
    return _model_of(document, place, arrays, committee), tail


def _model_of(document: Any, place: str, arrays: dict[str, Any], committee: Any) -> Any:
    unpacker = Unpacker(arrays, committee._loading_device)
    model = unpacker.unpack({"at": place, **document})
    if unpacker.arrays:
        raise ValueError(f"Unexpected key {brief(min(unpacker.arrays))}")
    if not hasattr(model, "score_samples"):
        raise ValueError(f"a member {model!r} without scores")
    if getattr(model, "n_features_in_", committee.n_features_in_) != committee.n_features_in_:
        raise ValueError(
            f"a member for {model.n_features_in_} columns in a committee for "
            f"{committee.n_features_in_}"
        )
    return model


def _read_tail(kept: dict[str, Stored]) -> Tail:
    arrays = {name: stored.read() for name, stored in kept.items()}
    places, heights = arrays["places"], arrays["heights"]
    # Where a device has no float64, float32 stands for it.
    if not (
        all(array.dtype in (np.float32, np.float64) for array in arrays.values())
        and places.ndim == 1
        and 0 < len(places) <= MOST_REFERENCES
        and (places[1:] > places[:-1]).all()
        and (heights[1:] >= heights[:-1]).all()
        and (arrays["slopes"] >= 0).all()
    ):
        raise ValueError("a member without reference scores in order")
    tail = Tail()
    tail.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return tail


def _write_models(models: list[Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {"n": len(models)}
    for k, model in enumerate(models):
        packer = Packer()
        kept[str(k)] = packer.pack(str(k), model)
        kept |= packer.arrays
    return kept


def _read_models(kept: dict[str, Any], detector: Any) -> list[Any]:
    left = dict(kept)
    models = []
    for place in map(str, range(left.pop("n"))):
        document, prefix = left.pop(place), f"{place}."
        arrays = {name: left.pop(name) for name in list(left) if name.startswith(prefix)}
        models.append(_model_of(document, place, arrays, detector))
    if left or not models:
        raise ValueError(f"Unexpected key {brief(min(left, default='n'))}")
    return models


def _read_folds(kept: Any, detector: Any) -> NDArray | None:
    if kept is None:
        return None
    folds = kept.read(detector.calibration_scores_.shape, np.int64)
    if not 0 <= folds.min() <= folds.max() < len(detector._models):
        raise ValueError("calibration scores of models that there are not")
    return folds


def _read_weights(kept: Any, committee: Any) -> NDArray:
    weights = kept.read(dtype=np.float64) if isinstance(kept, Stored) else np.empty(0)
    if weights.ndim != 1 or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"weights that are no list of numbers of at least 0: {brief(kept)}")
    return weights


def _read_shape(kept: Sequence[int] | None, committee: Any) -> Shape | None:
    return None if kept is None else row_shape(kept, committee.n_features_in_)  # type: ignore[return-value]


_COMMON = (
    PARAMETERS,
    *SHARED,
    *(field for field in STATE if field.name == "history_"),
    Fitted("_image_shape", lambda shape: None if shape is None else list(shape), _read_shape),
)
TABLE = (
    *_COMMON,
    Fitted("_weights", lambda weights: weights, _read_weights),
    Fitted("_members", _write_members, _read_members),
)
CROSS_CALIBRATED = (
    *_COMMON,
    Fitted("_models", _write_models, _read_models),
    Fitted("_folds", lambda folds: folds, _read_folds),
)
