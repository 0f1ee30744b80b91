"""Copies of modules that compute otherwise: a module that scores is never changed.

Several threads may score, sample and save one module at a time. What needs it in another type, or
without gradients, works on a copy of its structure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from .device import precise


def still(module: Any) -> Any:
    """Copy a module so that it has the same numbers, none of which takes a gradient."""
    return _copied(module, lambda tensor: tensor)


class PreciselyScored(nn.Module):
    """Base of modules with a copy of themselves in float64, where the device has that, to score by.

    It is made when it is first asked for, and again after a training, of which every one calls
    ``train``. Copies and pickles are without it.
    """

    _twin: tuple[Any, Any] | None = None

    @property
    def precise_twin(self) -> Any:
        """The copy."""
        state = _state_of(self)
        # It is read and set once: another thread may make the same twin meanwhile.
        kept = self._twin
        if kept is None or kept[0] != state:
            twin = _copied(self, lambda t: precise(t) if t.is_floating_point() else t)
            self._twin = kept = (state, twin)
        return kept[1]

    def train(self, mode: bool = True) -> Self:
        """Go to training or evaluation; what weights are next is not known."""
        # Versions of tensors do not tell: fused optimisers leave them as they are.
        self._twin = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_twin"}


def _copied(module: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """Copy a module but for its tensors, each of which is changed instead."""
    tensors = [*module.parameters(), *module.buffers()]
    # Gradients with respect to rows may be asked of it, which tensors of inference mode refuse.
    with torch.inference_mode(False), torch.no_grad():
        return copy.deepcopy(module, {id(tensor): change(tensor.detach()) for tensor in tensors})


def _state_of(module: nn.Module) -> Any:
    """Return what changes when a module is moved, or when its tensors are filled."""
    tensors = [*module.parameters(), *module.buffers()]
    return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
