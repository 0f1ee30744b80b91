"""Optimisers, in the fused form where there is one, and penalties on weights that they apply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def adam(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Adam:
    """Adam in its fused form where the parameters' device has one."""
    groups: list[Any] = list(parameters)
    return torch.optim.Adam(groups, lr=learning_rate, betas=betas, fused=_can_be_fused(groups))


def adamw(
    parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW in its fused form where the parameters' device has one."""
    group = list(parameters)
    return torch.optim.AdamW(
        group, lr=learning_rate, weight_decay=weight_decay, fused=_can_be_fused(group)
    )


def adamax(
    parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Adamax:
    """Adamax over all parameters at once; it has no fused form."""
    return torch.optim.Adamax(
        list(parameters), lr=learning_rate, weight_decay=weight_decay, foreach=True
    )


def _can_be_fused(groups: list[Any]) -> bool:
    flat = [
        p for group in groups for p in (group["params"] if isinstance(group, dict) else [group])
    ]
    return all(p.device.type in ("cpu", "cuda") for p in flat)


def with_penalty(
    penalized: nn.Module, rest: Iterable[nn.Module], penalty: float
) -> list[dict[str, Any]]:
    """Parameter groups in which `penalized` carries the loss term ``penalty * |weights|^2``.

    Biases are not penalised. The optimiser applies the term: losses are recorded without it.
    """
    weights = [p for p in penalized.parameters() if p.ndim > 1]
    biases = [p for p in penalized.parameters() if p.ndim <= 1]
    free = [p for module in rest for p in module.parameters()]
    return [{"params": weights, "weight_decay": 2 * penalty}, {"params": biases + free}]
