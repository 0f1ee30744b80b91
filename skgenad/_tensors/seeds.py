"""Seeds and the generators that they make: nobody else's generator is read or moved.

Whatever is drawn is drawn inside :func:`seeded`, by a generator of that block's own. Torch's
default generators belong to the whole process: a library that seeds them, if only for a while,
changes what other threads draw, and is changed by it. So what is drawn here, by
:mod:`skgenad._tensors.draws`, names its generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

# Generators of the innermost `seeded`, by the type of their device. Every thread has its own.
_GENERATORS: ContextVar[Mapping[str, torch.Generator] | None] = ContextVar(
    "_GENERATORS", default=None
)


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    """Draw one integer seed from a scikit-learn style `random_state`."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def derived_seed(seed: int, call: int) -> int:
    """Seed of the `call`-th continuation of a fit that began with `seed`.

    Continuing with the first call's seed would replay its noise; this draws a new one that
    still depends on nothing but the two numbers.
    """
    return int(np.random.SeedSequence([seed, call]).generate_state(1)[0])


def seed_unseeded(estimator: Any, seed: int) -> None:
    """Seed those ``random_state`` parameters of an estimator, nested ones too, that are None.

    An object without scikit-learn's parameters stays as it is.
    """
    if not (hasattr(estimator, "get_params") and hasattr(estimator, "set_params")):
        return
    draws = np.random.RandomState(seed)
    parameters = estimator.get_params(deep=True)
    states = sorted(n for n in parameters if n.rpartition("__")[2] == "random_state")
    # A seed is drawn for each name, so that a user who sets one leaves the others unchanged.
    seeds = {name: draw_seed(draws) for name in states}
    unset = {name: seeds[name] for name in states if parameters[name] is None}
    if unset:
        estimator.set_params(**unset)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block that draws from generators of its own; see :mod:`skgenad._tensors.draws`.

    Blocks nest: the inner one has other generators, and those of the outer one stand still.

    Parameters
    ----------
    seed : int
        Seed for the CPU's generator and for the one of `device`.
    device : torch.device or str, default="cpu"
        Device on which the block draws, besides the CPU.
    """
    devices: dict[str, torch.device | str] = {"cpu": "cpu", torch.device(device).type: device}
    generators = {
        kind: torch.Generator(device=each).manual_seed(seed) for kind, each in devices.items()
    }
    token = _GENERATORS.set(generators)
    try:
        yield
    finally:
        _GENERATORS.reset(token)


def generator_states() -> dict[str, Tensor]:
    """States of the generators of the innermost :func:`seeded`, by the type of their device."""
    return {kind: generator.get_state() for kind, generator in (_GENERATORS.get() or {}).items()}


def set_generator_states(states: Mapping[str, Tensor]) -> None:
    """Put the generators of the innermost :func:`seeded` back to states that they were in."""
    generators = _GENERATORS.get() or {}
    for kind, state in states.items():
        generators[kind].set_state(state)


def generator_on(device: torch.device | str | None) -> torch.Generator:
    """Return the generator of the innermost :func:`seeded` on a device; None is the CPU.

    Raises
    ------
    RuntimeError
        Outside of such a block, or if it knows nothing of the device: what torch would do then,
        draw from the default generator, is what must never happen.
    """
    kind = "cpu" if device is None else torch.device(device).type
    generators = _GENERATORS.get()
    if generators is None or kind not in generators:
        where = "outside of" if generators is None else f"on {kind!r}, which is no device of"
        raise RuntimeError(f"a random draw {where} `seeded`: it has no generator of its own.")
    return generators[kind]
