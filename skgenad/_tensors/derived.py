"""What follows from a module's buffers and is dear to compute: once, and anew when they change."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class DerivingModule(nn.Module):
    """A module that keeps what it derives from its buffers for as long as they stay.

    Copies, pickles and files hold none of it. Who changes a buffer calls :meth:`forget`; a move to
    another device and a load do it by themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self._derived: dict[Hashable, Any] = {}

    def derived(self, name: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when it was called for this name."""
        kept = self._derived
        if name not in kept:
            # What is made in inference mode could never be a part of a gradient.
            with torch.inference_mode(False), torch.no_grad():
                kept[name] = make()
        return kept[name]

    def forget(self) -> None:
        """Derive everything anew from now on."""
        self._derived = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.forget()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *rest: object
    ) -> None:
        self.forget()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_derived": {}}
