"""Optimisers, in the fused form where there is one, and penalties on weights that they apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
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
    weights = list(_weights(penalized))
    biases = [p for p in penalized.parameters() if p.ndim <= 1]
    free = [p for module in rest for p in module.parameters()]
    return [{"params": weights, "weight_decay": 2 * penalty}, {"params": biases + free}]


def in_order_with_penalty(
    module: nn.Module, penalized: nn.Module, penalty: float
) -> list[dict[str, Any]]:
    """Such groups of all of a module's parameters, in their order.

    An optimiser numbers its moments by that order, so that those of a training without the
    penalty, or with another, are of the same parameters.
    """
    chosen = set(map(id, _weights(penalized)))
    runs = groupby(module.parameters(), key=lambda p: id(p) in chosen)
    decays = {True: {"weight_decay": 2 * penalty}, False: {}}
    return [{"params": list(run), **decays[is_chosen]} for is_chosen, run in runs]


def _weights(module: nn.Module) -> Iterable[nn.Parameter]:
    return (p for p in module.parameters() if p.ndim > 1)


def put_moments(optimizer: torch.optim.Optimizer, moments: Mapping[int, Mapping[str, Any]]) -> None:
    """Let an optimiser go on with moments; fused ones write beyond those of a wrong shape."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, kept in moments.items():
        shapes = {tuple(value.shape) for value in kept.values() if getattr(value, "ndim", 0)}
        if i >= len(parameters) or shapes - {tuple(parameters[i].shape)}:
            raise ValueError("The moments of the optimiser are those of other weights.")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
