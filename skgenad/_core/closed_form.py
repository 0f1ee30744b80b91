"""The base of detectors without gradient steps: their modules learn in ``finish``."""

from __future__ import annotations

from typing import Any, ClassVar

from .detector import BaseGenerativeDetector
from .loop import Stage

# Constructor parameters of gradient steps.
_OF_TRAINING = ("batch_size", "stopping", "verbose", "callbacks")


class ClosedFormDetector(BaseGenerativeDetector):
    """Base of detectors that have no stages, nor the constructor parameters of them."""

    trained_by_gradients: ClassVar[bool] = False
    _outlives_units: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict] = {
        name: allowed
        for name, allowed in BaseGenerativeDetector._parameter_constraints.items()
        if name not in _OF_TRAINING
    }

    def _stages(self, module: Any) -> list[Stage]:
        return []
