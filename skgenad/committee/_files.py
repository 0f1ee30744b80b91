"""What a file holds of a committee: its parameters, and its members' own documents."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from skgenad._core.files import from_json, to_json
from skgenad._core.saving import SavingMixin
from skgenad._core.state import NOT_KEPT, STATE, Fitted, dismantle, joined, restore
from skgenad._tensors.tails import Tail

from ._members import Member

# What a committee has in common with other fitted detectors.
_COMMON = (
    *("n_features_in_", "feature_names_in_", "classes_", "seed_", "offset_"),
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
            f"The member {name!r}, {member!r}, cannot be saved: files hold detectors of this "
            "package, and no objects of others. Use pickle."
        )
    own = member.get_params(deep=False)  # type: ignore[attr-defined]
    kept = {key: value for key, value in own.items() if key not in NOT_KEPT}
    return {"class": type(member).__name__, "parameters": _parameters_to_json(kept, f"{name}__")}


def _parameters(document: dict[str, Any]) -> dict[str, Any]:
    parameters = {n: from_json(value) for n, value in document.items() if n != "members"}
    members = document.get("members")
    if isinstance(members, str):
        parameters["members"] = members
    elif members is not None:
        parameters["members"] = [(str(n), _made(member)) for n, member in members]
    return parameters


def _made(document: Any) -> Any:
    if isinstance(document, str):
        return document
    member: Any = _known(document["class"])(**_parameters(document["parameters"]))
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
    members = []
    for j, (name, n_models) in enumerate(kept["names"]):
        member = Member(str(name))
        for k in range(n_models):
            prefix = f"{j}.{k}."
            arrays = {n.removeprefix(prefix): v for n, v in kept.items() if n.startswith(prefix)}
            tail = {
                n.removeprefix("tail."): torch.from_numpy(arrays.pop(n))
                for n in list(arrays)
                if n.startswith("tail.")
            }
            document = kept[f"{j}.{k}"]
            kind = _known(document["class"])
            member.models.append(kind._rebuild(document, arrays, committee._device_of_members))
            member.tails.append(Tail())
            member.tails[-1].load_state_dict(tail)
        members.append(member)
    return members


TABLE = (
    *(field for field in STATE if field.name in _COMMON),
    Fitted("_fitted_parameters", _parameters_to_json, lambda kept, committee: _parameters(kept)),
    Fitted(
        "_image_shape",
        lambda shape: None if shape is None else list(shape),
        lambda kept, committee: None if kept is None else tuple(map(int, kept)),
    ),
    Fitted("_weights", lambda weights: weights, lambda kept, committee: kept),
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
    committee: Any = cls(**_parameters(state["_fitted_parameters"]))
    committee._validate_params()
    committee._device_of_members = device
    restore(committee, state, TABLE)
    del committee._device_of_members
    return committee
