"""How much a module may ask for while it is built from what a file says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# Functions whose arguments alone say how large their result is; all others are judged by the
# result, which is no larger than what they are given makes it.
_MAKERS = (
    *("arange", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "ones", "rand"),
    *("randint", "randn", "randperm", "tril_indices", "triu_indices", "zeros"),
    *("new_empty", "new_full", "new_ones", "new_zeros", "repeat", "repeat_interleave", "tile"),
    *("cartesian_prod", "combinations", "diag_embed", "kron", "meshgrid", "outer"),
)


class Budget(TorchFunctionMode):
    """Stops a block of code that makes more numbers, or calls torch more often, than it may.

    Only the calls of the thread that enters it are counted, and nothing they compute is changed.

    Parameters
    ----------
    n_numbers : int
        The most numbers of one tensor, and of all that are made and not computed.
    n_calls : int
        The most calls.
    """

    def __init__(self, n_numbers: int, n_calls: int) -> None:
        super().__init__()
        self.n_numbers, self.n_calls = n_numbers, n_calls
        self.n_made = 0.0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Count the call, and look at the size of what it asks for before it is made."""
        kwargs = kwargs or {}
        self.n_calls -= 1
        if self.n_calls < 0:
            raise ValueError("its parameters ask for more parts than there are arrays for")
        if getattr(func, "__name__", "") in _MAKERS:
            self.n_made += _asked(func, args, kwargs)
            self._check(self.n_made)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self._check(result.numel())
        return result

    def _check(self, n: float) -> None:
        if n > self.n_numbers:
            raise ValueError(f"its parameters ask for {n:.0f} numbers, more than its arrays hold")


def _asked(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Size of the result of a call, by making it without numbers."""
    args, kwargs = tree_map(_without_numbers, (args, kwargs))
    kwargs.pop("generator", None)
    if not any(isinstance(value, Tensor) for value in args):
        kwargs["device"] = "meta"
    try:
        result = func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError):
        return 0  # it fails, or needs the numbers themselves
    return math.prod(result.shape) if isinstance(result, Tensor) else 0


def _without_numbers(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device="meta")
    return value
