"""Devices: their names, and which of them compute in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class DeviceError(ValueError):
    """There is no such device here."""


def resolve_device(name: str) -> torch.device:
    """Turn a device parameter into a device that exists.

    Raises
    ------
    DeviceError
        If torch does not know the name or cannot reach the device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on "meta", whose tensors have no numbers
    except Exception as error:  # a backend that is not installed raises what its import raises
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise DeviceError(
            f"device={name!r} cannot be used here ({problem}). "
            "Use 'auto', 'cpu', or the name of a device that torch can reach."
        ) from error
    return device


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; MPS does not."""
    return device.type != "mps"


def precise(x: Tensor) -> Tensor:
    """`x` in float64 where its device has it, else in its own type."""
    return x.double() if has_float64(x.device) else x


def on_device(values: NDArray, device: torch.device) -> Tensor:
    """Put float64 values on a device, in float32 where it has no other."""
    kept = values if has_float64(device) else values.astype(np.float32)
    return torch.from_numpy(kept).to(device)


def shortened(values: Tensor) -> Tensor:
    """`values` with the digits of float32 and the range of float64, where the device has that.

    This is for scores: a row's place in the batch changes the last bits of small matrix products.
    """
    if values.dtype != torch.float64:
        largest = torch.finfo(values.dtype).max
        return values.clamp(-largest, largest)
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp(mantissa.float().double(), exponent)


class PreciseModule(nn.Module):
    """A module with float64 buffers that can be moved to devices without float64.

    There its buffers, and those of its parts, become float32 and stay so; code that computes with
    them takes them by :func:`precise`.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert everything; in float32 to a device without float64."""
        try:
            return super()._apply(fn, recurse)
        except TypeError:
            self.float()
            return super()._apply(fn, recurse)
