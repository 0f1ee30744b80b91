"""Seeds that never leak: every random draw of the package happens inside :func:`seeded`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state


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
    """Run a block with torch's generators seeded; give the caller's states back after it.

    Parameters
    ----------
    seed : int
        Seed for the CPU generator and for the one of `device`.
    device : torch.device or str, default="cpu"
        Device on which the block draws, besides the CPU.
    """
    device = torch.device(device)
    cuda = [device] if device.type == "cuda" else []
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=cuda):
        torch.random.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        if mps_state is not None:
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if mps_state is not None:
                torch.mps.set_rng_state(mps_state)
