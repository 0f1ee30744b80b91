"""Random draws, all of them from the generators of the block of :func:`seeded` they are in.

The functions draw what torch's functions of the same names draw after ``torch.manual_seed``, bit
by bit, in float32 unless they are told otherwise and whatever torch's default type is. What a
module draws when it is made is drawn as in torch's own layers, by ``torch.randn`` and its like:
detectors make modules in :func:`skgenad._tensors.foreign.own_draws`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .seeds import generator_on

Device = torch.device | str | None


def rand(*size: int, device: Device = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw uniformly from [0, 1)."""
    return torch.empty(size, device=device or "cpu", dtype=dtype).uniform_(
        generator=generator_on(device)
    )


def randn(*size: int, device: Device = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw from the standard normal distribution."""
    return torch.empty(size, device=device or "cpu", dtype=dtype).normal_(
        generator=generator_on(device)
    )


def rand_like(x: Tensor) -> Tensor:
    """Draw uniformly from [0, 1), in the shape, type and layout of `x`."""
    return torch.empty_like(x).uniform_(generator=generator_on(x.device))


def randn_like(x: Tensor) -> Tensor:
    """Draw from the standard normal distribution, in the shape, type and layout of `x`."""
    return torch.empty_like(x).normal_(generator=generator_on(x.device))


def randint(high: int, size: Sequence[int] = (), device: Device = None) -> Tensor:
    """Draw whole numbers uniformly from 0 to `high` - 1."""
    generator = generator_on(device)
    return torch.randint(high, tuple(size), generator=generator, device=device or "cpu")


def randperm(n: int, device: Device = None) -> Tensor:
    """Draw an order of the numbers from 0 to `n` - 1."""
    return torch.randperm(n, generator=generator_on(device), device=device or "cpu")


def multinomial(weights: Tensor, n: int) -> Tensor:
    """Draw `n` places, each with a probability proportional to its weight."""
    generator = generator_on(weights.device)
    return torch.multinomial(weights, n, replacement=True, generator=generator)


def seed() -> int:
    """Draw a seed for a generator of something else."""
    return int(randint(2**31 - 1))


def _dropped(x: Tensor, share: float, kept: Tensor) -> Tensor:
    """Multiply `x` by factors, written to `kept`, of which a share is 0 and whose mean is 1."""
    kept.bernoulli_(1 - share, generator=generator_on(x.device))
    return x * kept.div_(1 - share)


class Dropout(nn.Dropout):
    """Leaves out a share of the numbers, in training; keeps the others' sum what it was."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop numbers of `x`."""
        return _dropped(x, self.p, torch.empty_like(x)) if self.training and self.p else x


class Dropout2d(nn.Dropout2d):
    """Leaves out a share of the maps of images (n, C, H, W), in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop maps of `x`."""
        if not self.training or not self.p:
            return x
        return _dropped(x, self.p, x.new_empty(*x.shape[:2], 1, 1))
