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

from .derived import DerivingModule
from .device import precise


def still(module: Any) -> Any:
    """Copy a module so that it has the same numbers, none of which takes a gradient."""
    return _copied(module, lambda tensor: tensor)


class PreciselyScored(DerivingModule):
    """Base of modules with a copy of themselves in float64, where the device has that, to score by.

    It is made when it is first asked for, and again after a training, of which every one calls
    ``train``: versions of tensors do not tell, since fused optimisers leave them as they are.
    """

    @property
    def precise_twin(self) -> Any:
        """The copy."""
        return self.derived("twin", lambda: _copied(self, _precise))

    def train(self, mode: bool = True) -> Self:
        """Go to training or evaluation; what the weights are next is not known."""
        self.forget()
        return super().train(mode)


def _precise(tensor: Tensor) -> Tensor:
    return precise(tensor) if tensor.is_floating_point() else tensor


def _copied(module: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """Copy a module but for its tensors, each of which is changed instead."""
    tensors = [*module.parameters(), *module.buffers()]
    # Gradients with respect to rows may be asked of it, which tensors of inference mode refuse.
    with torch.inference_mode(False), torch.no_grad():
        return copy.deepcopy(module, {id(tensor): change(tensor.detach()) for tensor in tensors})
