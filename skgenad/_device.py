"""Names of devices."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> torch.device:
    """Turn a device parameter into a device that exists.

    Raises
    ------
    ValueError
        If torch does not know the name or cannot reach the device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" makes tensors, but none with numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={name!r} cannot be used here ({str(error).splitlines()[0]}). "
            "Use 'auto', 'cpu', or the name of a device that torch can reach."
        ) from error
    return device


def precise(x: torch.Tensor) -> torch.Tensor:
    """`x` in float64 where its device has it; in its own type on MPS, which has not."""
    return x if x.device.type == "mps" else x.double()
