"""Where a fit stands: written to a folder once in a while, and put back in another process.

All that comes before the stages of a fit, and between them, depends on the rows, the parameters and
the seed alone, and is done again. What a stage has changed is written down at the end of an epoch:
weights and buffers, replayed chains among them; the optimisers' moments and learning rates; the
generators; the order of rows; the history; and what callbacks remember.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgenad._tensors.seeds import generator_states, set_generator_states
from skgenad._writing import remove_leftovers

from .batches import STEPS_PER_EPOCH
from .callbacks import TrainingState, put_weights, restore, training_state
from .checkpoints import CheckpointFolder, check_identity, folder_of, held
from .files import open_file, write_file
from .loop import Stage, StageNet
from .optimizers import put_moments
from .users_callbacks import memory_of, remember

# Writing takes at most this share of the time of a fit.
_SHARE = 1 / 20
# Stands for a tensor in a document.
_TENSOR = "tensor"
# Kinds of numbers that are kept as arrays where a column of the history has one of them alone.
_PLAIN = {bool: torch.bool, int: torch.int64, float: torch.float64}
# By their names in a file.
Tensors = dict[str, Tensor]


class Keeper:
    """Writes down where a fit stands, and puts it back.

    Parameters
    ----------
    folder : CheckpointFolder
        Where.
    """

    def __init__(self, folder: CheckpointFolder) -> None:
        self.folder = folder
        self.identity: dict[str, Any] = {}
        self._place, self._finished = 0, list[Any]()
        self._stages: Sequence[Stage] = ()
        self._last, self._cost = time.monotonic(), 0.0
        self._found: dict[str, Any] | None = None
        self._arrays: dict[str, NDArray] = {}
        self._strides: dict[str, list[int]] = {}
        if folder.file.exists():
            self._found, self._arrays = _read(folder)
            self._strides = self._found["strides"]

    # ---- which fit it is ------------------------------------------------------------------

    def seed(self, seed: int, random_state: Any) -> int:
        """Seed of the fit: that of the checkpoint where the user leaves it to chance."""
        if self._found is None or random_state is not None:
            return seed
        kept = self._found["fit"].get("seed") if isinstance(self._found["fit"], dict) else None
        return kept if type(kept) is int else seed

    def identify(self, identity: dict[str, Any]) -> None:
        """Say which fit this is, or that the checkpoint is of another one."""
        self.identity = identity
        if self._found is not None:
            check_identity(self.folder.file, self._found["fit"], identity)

    # ---- where it stands ------------------------------------------------------------------

    def begin(self, module: Any, stages: Sequence[Stage], device: Any) -> list[pd.DataFrame]:
        """Take the stages of the fit; put the module back; tables of the stages that are done."""
        self._stages, self._device = stages, device
        if self._found is None:
            return []
        with self._of_this_fit():
            self._place = self._found["place"]
            for i, stage in enumerate(stages[: self._place]):
                moments = self._moments(f"done/{i}", self._found["done"][i])
                for optimizer, state in zip(stage.optimizers.values(), moments, strict=True):
                    put_moments(optimizer, state)
            parameters, buffers, _ = self._state("now", self._found["now"])
            put_weights(module, parameters, buffers)
            self._finished = [
                self._rows(f"tables/{i}", kept) for i, kept in enumerate(self._found["tables"])
            ]
        return [pd.DataFrame(rows) for rows in self._finished]

    @property
    def n_done(self) -> int:
        """Number of stages that are done."""
        return self._place

    @property
    def is_within_stage(self) -> bool:
        """Whether the next stage goes on, and does not begin."""
        return self._found is not None

    def finish_stage(self, table: pd.DataFrame) -> None:
        """Take the table of a stage that is done."""
        self._finished.append(table.to_dict("records"))
        self._place += 1

    def keep(self, net: StageNet) -> None:
        """Write down where a net stands, before an epoch, if it is time to."""
        has_begun = self._place > 0 or len(net.history) > 0
        least = self.folder.seconds and max(self.folder.seconds, self._cost / _SHARE)
        start = time.monotonic()
        if not has_begun or start - self._last < least:
            return
        tensors: Tensors = {}
        document = {"fit": self.identity, "place": self._place, **self._done(tensors)}
        document |= _position(net, tensors)
        tensors |= {f"generators/{kind}": state for kind, state in generator_states().items()}
        # Kernels for a tensor of another layout may round in another way.
        strides = {n: list(t.stride()) for n, t in tensors.items() if not t.is_contiguous()}
        arrays = {name: _numbers(tensor) for name, tensor in tensors.items()}
        write_file(self.folder.file, {"checkpoint": {**document, "strides": strides}}, arrays)
        self._last = time.monotonic()
        self._cost = self._last - start

    def _done(self, tensors: Tensors) -> dict[str, Any]:
        """Take apart what stages that are done leave: their tables, and optimisers' moments."""
        tables = [
            _packed_rows(tensors, f"tables/{i}", rows) for i, rows in enumerate(self._finished)
        ]
        done = [
            _packed_moments(tensors, f"done/{i}", moments_of(stage))
            for i, stage in enumerate(self._stages[: self._place])
        ]
        return {"tables": tables, "done": done}

    # ---- and goes on ----------------------------------------------------------------------

    def resume(self, net: StageNet) -> int:
        """Put a net back to where it stood, if it is the one; return the epochs that are done."""
        if self._found is None:
            return 0
        found, self._found = self._found, None
        with self._of_this_fit():
            restore(net, self._state("now", found["now"]))
            for optimizer, rates in zip(net.stage.optimizers.values(), found["rates"], strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
            rows = self._rows("epochs", found["epochs"])
            net.history.extend({**row, "batches": []} for row in rows)
            n_done = len(net.history)
            net.go_on(found["net"], self._tensor("order"), n_done * STEPS_PER_EPOCH)
            for callback in net.own:
                self._remind(callback, net, found["own"].get(type(callback).__name__, {}))
            for name, callback in _users(net):
                if name in found["users"]:  # one that is new begins here
                    remember(callback, found["users"][name])
            names = [name for name in self._arrays if name.startswith("generators/")]
            set_generator_states({n.partition("/")[2]: self._tensor(n, "cpu") for n in names})
        self._arrays = {}
        return n_done

    def _remind(self, callback: Any, net: StageNet, kept: Mapping[str, Any]) -> None:
        for name in getattr(callback, "numbers", ()):
            setattr(callback, name, kept[name])
        for name in getattr(callback, "states", ()):
            at = f"{type(callback).__name__}.{name}"
            value = None if kept[name] is None else self._state(at, kept[name])
            setattr(callback, name, value)
        if hasattr(callback, "go_on"):
            callback.go_on(net)

    # ---- what a document and its arrays hold ----------------------------------------------

    def _tensor(self, name: str, device: Any = None) -> Tensor:
        value = torch.tensor(self._arrays[name], device=device or self._device)
        if name not in self._strides:
            return value
        return value.new_empty_strided(value.shape, self._strides[name]).copy_(value)

    def _state(self, at: str, kept: Any) -> TrainingState:
        parts = [
            {
                name.removeprefix(beginning): self._tensor(name)
                for name in self._arrays
                if name.startswith(beginning)
            }
            for beginning in (f"{at}/parameters/", f"{at}/buffers/")
        ]
        return parts[0], parts[1], self._moments(at, kept)

    def _moments(self, at: str, kept: Any) -> list[dict]:
        return [
            {
                int(place): {
                    name: self._tensor(f"{at}/{i}/{place}/{name}", "cpu")
                    if value == _TENSOR
                    else value
                    for name, value in state.items()
                }
                for place, state in moments.items()
            }
            for i, moments in enumerate(kept)
        ]

    def _rows(self, at: str, kept: Mapping[str, Any]) -> list[dict[str, Any]]:
        columns = {
            name: self._arrays[f"{at}/{name}"].tolist() if values is None else values
            for name, values in kept["columns"].items()
        }
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return [{name: v for name, v in row.items() if v is not None} for row in rows]

    @contextmanager
    def _of_this_fit(self) -> Iterator[None]:
        """Say of what is missing, or of another shape, that a checkpoint does not fit."""
        try:
            yield
        except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.folder.file} does not fit this detector ({error}): a network or a callback "
                "of yours has changed. Name another folder, or delete this one."
            ) from error


@contextmanager
def kept_in(checkpoint: Any) -> Iterator[Keeper | None]:
    """Give the keeper of what the parameter `checkpoint` of `fit` asks for; None without one."""
    folder = folder_of(checkpoint)
    if folder is None:
        yield None
        return
    with held(folder):
        yield Keeper(folder)
        remove_leftovers(folder.file)


def moments_of(stage: Stage) -> list[dict]:
    """Moments of a stage's optimisers."""
    return [optimizer.state_dict()["state"] for optimizer in stage.optimizers.values()]


def _read(folder: CheckpointFolder) -> tuple[dict[str, Any], dict[str, NDArray]]:
    try:
        with open_file(folder.file) as (document, arrays):
            found = document.get("checkpoint")
            if not isinstance(found, dict) or not {"fit", "strides"} <= found.keys():
                raise ValueError(f"{folder.file} is no checkpoint of a fit.")
            return found, {name: array.read(finite=False) for name, array in arrays.items()}
    except ValueError as error:
        raise ValueError(f"{error} Name another folder, or delete this one.") from error


def _position(net: StageNet, tensors: Tensors) -> dict[str, Any]:
    """Take apart where a net stands in its stage."""
    numbers, order = net.position()
    tensors["order"] = order
    own = {}
    for callback in net.own:
        kept = {name: getattr(callback, name) for name in getattr(callback, "numbers", ())}
        for name in getattr(callback, "states", ()):
            at, state = f"{type(callback).__name__}.{name}", getattr(callback, name)
            kept[name] = None if state is None else _packed(tensors, at, state)
        own[type(callback).__name__] = kept
    optimizers = net.stage.optimizers.values()
    epochs = [{name: v for name, v in row.items() if name != "batches"} for row in net.history]
    return {
        "now": _packed(tensors, "now", training_state(net)),
        "rates": [[float(group["lr"]) for group in o.param_groups] for o in optimizers],
        "epochs": _packed_rows(tensors, "epochs", epochs),
        "net": numbers,
        "own": own,
        "users": {name: memory_of(callback) for name, callback in _users(net)},
    }


def _users(net: StageNet) -> list[tuple[str, Any]]:
    return [(name, callback) for name, callback in net.callbacks_ if callback not in net.own]


def _numbers(value: Tensor) -> NDArray:
    return value.detach().cpu().contiguous().numpy()


def _packed(tensors: Tensors, at: str, state: TrainingState) -> Any:
    """Take a state of training apart, into tensors and what is returned."""
    for kind, values in zip(("parameters", "buffers"), state[:2], strict=True):
        tensors |= {f"{at}/{kind}/{name}": value for name, value in values.items()}
    return _packed_moments(tensors, at, state[2])


def _packed_moments(tensors: Tensors, at: str, moments: Iterable[dict]) -> list[dict]:
    packed = []
    for i, states in enumerate(moments):
        kept: dict[str, dict[str, Any]] = {}
        for place, state in states.items():
            kept[str(place)] = {}
            for name, value in state.items():
                is_tensor = isinstance(value, Tensor)
                kept[str(place)][name] = _TENSOR if is_tensor else value
                if is_tensor:
                    tensors[f"{at}/{i}/{place}/{name}"] = value
        packed.append(kept)
    return packed


def _packed_rows(tensors: Tensors, at: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Take rows of a history apart, column by column."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [_plain(name, row.get(name)) for row in rows]
        kinds = {type(value) for value in values}
        kind = _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
        if kind is not None:
            tensors[f"{at}/{name}"] = torch.tensor(values, dtype=kind)
        columns[name] = values if kind is None else None
    return {"columns": columns}


def _plain(name: str, value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"A callback recorded {name!r} of type {type(value).__name__} in the history, which a "
        "checkpoint cannot hold: record numbers and strings."
    )
