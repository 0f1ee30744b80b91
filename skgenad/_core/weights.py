"""Weights of modules in files: a module is built within what the file holds, and then filled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skgenad._tensors.budget import Budget
from skgenad._tensors.foreign import own_draws
from skgenad._tensors.seeds import seeded

from .files import Stored
from .registry import brief

# What building a module may take: numbers and calls of torch for each number and array that the
# file holds, and so many more. Modules of this package make 2 numbers for one that they keep, and
# call torch 30 times for an array; 1,000 permutations of 100 patches are in no array.
_ROOM, _LEAST_ROOM = 4, 2**23
_CALLS, _LEAST_CALLS = 100, 2000


def weights_of(module: Any) -> dict[str, NDArray]:
    """Take the weights and buffers of a module, by their names.

    Raises
    ------
    ValueError
        If one of them is not finite, so that the module would be refused by a load.
    """
    state = module.state_dict()
    broken = next(_broken(module), None)
    if broken is not None:
        raise ValueError(
            f"{broken} of the module holds NaN or infinity: training has diverged, and nothing was "
            "saved. Look at history_, and fit again with a lower learning rate."
        )
    return {name: value.cpu().contiguous().numpy() for name, value in state.items()}


def _broken(module: nn.Module) -> Iterator[str]:
    """Names of weights and buffers that hold NaN, or infinity where there may be none."""
    unbounded = {
        f"{place}.{name}".lstrip(".")
        for place, part in module.named_modules()
        for name in getattr(part, "unbounded", ())
    }
    for name, value in module.state_dict().items():
        if value.isnan().any() or (name not in unbounded and value.isinf().any()):
            yield name


def module_of_weights(weights: dict[str, Stored], detector: Any) -> Any:
    """Make the module that a detector's parameters ask for, and fill it with a file's arrays."""
    n_numbers = sum(math.prod(stored.shape) for stored in weights.values())
    budget = Budget(_ROOM * n_numbers + _LEAST_ROOM, _CALLS * len(weights) + _LEAST_CALLS)
    with seeded(detector.seed_), own_draws(), budget:  # what is drawn here is all replaced
        module = detector._make_module(detector.n_features_in_)
        if not any(_has_open_shapes(part) for part in module.modules()):
            _check_shapes(module, weights)
        arrays = {name: stored.read(finite=False) for name, stored in weights.items()}
        module.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    _check_weights(module, weights)
    module.eval()
    with torch.no_grad():  # a row that every detector can score: all columns at their means
        energy = module.energy(torch.zeros(1, detector.n_features_in_))
    if energy.shape != (1,) or energy.isnan().any():
        raise ValueError("a module without energies")
    return module


def _has_open_shapes(part: nn.Module) -> bool:
    """Whether a part of a module takes arrays of other shapes than those it is made with."""
    return type(part)._load_from_state_dict is not nn.Module._load_from_state_dict


def _check_shapes(module: nn.Module, weights: Mapping[str, Stored]) -> None:
    """Raise ValueError unless a module has the arrays of a file, before they are read."""
    own = module.state_dict()
    for name in sorted(own.keys() - weights.keys()):
        raise ValueError(f"Missing key {name!r}")
    for name, stored in weights.items():
        if name not in own:
            raise ValueError(f'Unexpected key "{brief(name)[1:-1]}"')
        if stored.shape != tuple(own[name].shape):
            raise ValueError(
                f"size mismatch for {name}: {stored.shape} in place of {tuple(own[name].shape)}"
            )


def _check_weights(module: nn.Module, weights: Mapping[str, Stored]) -> None:
    """Raise ValueError for numbers of another type than the module's, or that are not finite."""
    for name, value in module.state_dict().items():
        kept, own = weights[name].dtype, np.dtype(str(value.dtype).removeprefix("torch."))
        # Where a device has no float64, float32 stands for it.
        if kept != own and not (kept == np.float32 and own == np.float64):
            raise ValueError(f"{name} is of {kept} in place of {own}")
    for name in _broken(module):
        raise ValueError(f"{name} holds NaN or infinity")
