"""What a file holds of a committee: its parameters, and its members' own documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from skgenad._core.files import from_json, to_json
from skgenad._core.rows import Shape, row_shape
from skgenad._core.saving import SavingMixin
from skgenad._core.state import NOT_KEPT, STATE, Fitted, dismantle, joined, restore
from skgenad._tensors.tails import Tail

from ._members import Member

# What a committee has in common with other fitted detectors.
_COMMON = (
    *("n_features_in_", "feature_names_in_", "classes_", "seed_", "offset_", "_offset_is_for"),
    *("calibration_scores_", "history_"),
)


def _known(name: str) -> type[SavingMixin]:
    kind = SavingMixin._registry.get(name)
    if kind is None:
        raise ValueError(f"a member of the unknown class {name!r}")
    return kind


# ---- parameters ---------------------------------------------------------------------------


def _parameters_to_json(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Document of parameters, among which there may be `members`, of names that a prefix has."""
    document = {n: to_json(prefix + n, v) for n, v in parameters.items() if n != "members"}
    members = parameters.get("members")
    if isinstance(members, str):
        document["members"] = members
    elif members is not None:
        document["members"] = [[name, _unfitted(name, member)] for name, member in members]
    return document


def _unfitted(name: str, member: Any) -> Any:
    if isinstance(member, str):
        return member
    if not isinstance(member, SavingMixin):
        raise TypeError(
            f"The member {name!r}, {member!r}, cannot be saved: it has no `save`, and files hold "
            "no objects of others. Use pickle."
        )
    own = member.get_params(deep=False)  # type: ignore[attr-defined]
    kept = {key: value for key, value in own.items() if key not in NOT_KEPT}
    return {"class": type(member).__name__, "parameters": _parameters_to_json(kept, f"{name}__")}


def _parameters(document: dict[str, Any], device: str | None) -> dict[str, Any]:
    parameters = {n: from_json(value) for n, value in document.items() if n != "members"}
    members = document.get("members")
    if isinstance(members, str):
        parameters["members"] = members
    elif members is not None:
        parameters["members"] = [(str(n), _made(member, device)) for n, member in members]
    return parameters


def _made(document: Any, device: str | None) -> Any:
    if isinstance(document, str):
        return document
    kind: Any = _known(document["class"])
    parameters = _parameters(document["parameters"], device)
    if device is not None and "device" in kind._get_param_names():
        parameters["device"] = device
    member = kind(**parameters)
    member._validate_params()
    return member


# ---- fitted members -----------------------------------------------------------------------


def _write_members(members: list[Member]) -> dict[str, Any]:
    kept: dict[str, Any] = {"names": [[m.name, len(m.models)] for m in members]}
    for j, member in enumerate(members):
        for k, (model, tail) in enumerate(zip(member.models, member.tails, strict=True)):
            document, arrays = model._dismantle()
            kept[f"{j}.{k}"] = document
            kept |= {f"{j}.{k}.{name}": array for name, array in arrays.items()}
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
            raise ValueError(f"a member {name!r} without a model")
        members.append(member)
    if len(members) != len(committee._weights):
        raise ValueError(f"{len(members)} members with {len(committee._weights)} weights")
    if left:
        raise ValueError(f"Unexpected key {min(left)!r}")
    return members


def _read_model(left: dict[str, Any], place: str, committee: Any) -> tuple[Any, Tail]:
    """Take a fitted model and its tail out of what has not been read yet."""
    document, prefix = left.pop(place), f"{place}."
    names = [name for name in left if name.startswith(prefix)]
    arrays = {name.removeprefix(prefix): left.pop(name) for name in names}
    state = {
        name.removeprefix("tail."): torch.from_numpy(arrays.pop(name))
        for name in list(arrays)
        if name.startswith("tail.")
    }
    model = _known(document["class"])._rebuild(document, arrays, committee._device_of_members)
    if model.n_features_in_ != committee.n_features_in_:
        raise ValueError(
            f"a member for {model.n_features_in_} columns in a committee for "
            f"{committee.n_features_in_}"
        )
    tail = Tail()
    tail.load_state_dict(state)
    return model, tail


def _read_weights(kept: NDArray, committee: Any) -> NDArray:
    if kept.ndim != 1 or kept.dtype.kind != "f" or not (kept >= 0).all() or not kept.sum() > 0:
        raise ValueError(f"weights that are no list of numbers of at least 0: {kept!r}")
    return kept


def _read_shape(kept: Sequence[int] | None, committee: Any) -> Shape | None:
    return None if kept is None else row_shape(kept, committee.n_features_in_)  # type: ignore[return-value]


TABLE = (
    *(field for field in STATE if field.name in _COMMON),
    Fitted(
        "_fitted_parameters",
        _parameters_to_json,
        lambda kept, committee: _parameters(kept, committee._device_of_members),
    ),
    Fitted("_image_shape", lambda shape: None if shape is None else list(shape), _read_shape),
    Fitted("_weights", lambda weights: weights, _read_weights),
    Fitted("_members", _write_members, _read_members),
)


def dismantle_committee(committee: Any) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Document and arrays of a fitted committee."""
    return dismantle(committee, TABLE)


def rebuild_committee(
    cls: type, document: dict[str, Any], arrays: dict[str, NDArray], device: str | None
) -> Any:
    """Make a fitted committee of what :func:`dismantle_committee` made."""
    state = joined(document["state"], arrays, TABLE)
    committee: Any = cls(**_parameters(state["_fitted_parameters"], device))
    committee._validate_params()
    committee._device_of_members = device
    names = [name for name, _ in committee._voters()[0]]
    restore(committee, state, TABLE)
    read = [member.name for member in committee._members]
    # Those of a committee without a list of members are what they were in the version that wrote.
    if isinstance(committee.members, list) and read != names:
        raise ValueError(f"members {read} where the parameters have {names}")
    del committee._device_of_members
    return committee
