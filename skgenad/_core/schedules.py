"""How learning rates fall in a stage of training."""

from __future__ import annotations

import math
from collections.abc import Callable

# Maps a step and the number of steps to a factor on the learning rate, up to a constant: from step
# to step the rate changes as the factor does.
Schedule = Callable[[int, int], float]


def constant(step: int, n_steps: int) -> float:
    """Rate that stays."""
    return 1.0


def cosine(step: int, n_steps: int) -> float:
    """Rate that falls to 0 as half a cosine."""
    return (1 + math.cos(math.pi * step / n_steps)) / 2


# By the names that the detectors' parameter `schedule` has.
SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "constant": constant}
