"""How learning rates fall in a stage of training."""

from __future__ import annotations

import math
from collections.abc import Callable

# Maps a step and the number of steps to the learning rate, up to a constant factor: only the ratio
# of one step's value to the next one's is used.
Schedule = Callable[[int, int], float]


def constant(step: int, n_steps: int) -> float:
    """Leave the rate as it is."""
    return 1.0


def cosine(step: int, n_steps: int) -> float:
    """Let the rate fall to 0 as half a cosine."""
    return (1 + math.cos(math.pi * step / n_steps)) / 2


# The values of the detectors' parameter `schedule`, and what they mean.
SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "constant": constant}
