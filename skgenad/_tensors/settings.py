"""Torch's settings of the caller, which change nothing here: the package computes under its own.

A gradient switched off, a default type of float64, autocasting of a service around it: what is
fitted and scored within has the same bits as without. What belongs to a thread is set for the
length of a block. What belongs to the process, as the default type, is never set, since other
threads would see it: there every tensor that is made without a type or a device is given one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

# Types of devices that have an autocast of their own.
_AUTOCASTS = ("cpu", "cuda", "mps", "xpu")
_TYPE = torch.float32
_NUMPY: dict[str, Any] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
# Functions that make tensors of the default type, and those that do so for Python's floats.
_OF_FLOATS = {torch.empty, torch.empty_permuted, torch.empty_strided, torch.zeros, torch.ones}
_OF_FLOATS |= {torch.eye, torch.linspace, torch.logspace, torch.rand, torch.randn}
_OF_FLOATS |= {torch.bartlett_window, torch.blackman_window, torch.hamming_window}
_OF_FLOATS |= {torch.hann_window, torch.kaiser_window, torch.fft.fftfreq, torch.fft.rfftfreq}
_OF_VALUES = {torch.arange, torch.full, torch.tensor, torch.as_tensor, torch.asarray}
_OF_VALUES |= {torch.scalar_tensor}


@contextmanager
def own_settings() -> Iterator[None]:
    """Run a block, such as a fit, as if no setting of torch or numpy had been changed.

    Gradients are on, inference mode and autocasting off; floats are float32 and on the CPU unless
    the code says otherwise; numpy's errors are its own warnings.
    """
    changes = list(_changes())
    if not changes:  # as it is nearly always: a request of one row takes little longer than this
        yield
        return
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(change)
        yield


def _changes() -> Iterator[AbstractContextManager]:
    """Yield contexts that undo what the caller has set."""
    if torch.is_inference_mode_enabled():
        yield torch.inference_mode(False)
    if not torch.is_grad_enabled():
        yield torch.enable_grad()
    for kind in _AUTOCASTS:
        if torch.is_autocast_enabled(kind):
            yield torch.autocast(kind, enabled=False)
    made = torch.empty(0)
    if made.device.type != "cpu":
        yield torch.device("cpu")
    if made.dtype is not _TYPE:
        yield _OwnType()
    if np.geterr() != _NUMPY:
        yield np.errstate(**_NUMPY)


class _OwnType(TorchFunctionMode):
    """Makes floats of float32, whatever torch's default type is."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") is None and func in _OF_FLOATS:
            kwargs = {**kwargs, "dtype": _TYPE}
        made = func(*args, **kwargs)
        if func not in _OF_VALUES or kwargs.get("dtype") is not None:
            return made
        # Arrays and tensors have a type; Python's floats become what is torch's default.
        has_type = bool(args) and hasattr(args[0], "dtype")
        if has_type or made.dtype is not torch.get_default_dtype():
            return made
        return func(*args, **{**kwargs, "dtype": _TYPE})
