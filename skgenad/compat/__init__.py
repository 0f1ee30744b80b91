"""Detectors of others: any estimator with scores in our contract; between our signs and pyod's."""

from typing import TYPE_CHECKING, Any

from skgenad._extras import require

from ._detector import PyODDetector, as_pyod
from ._discriminative_ratio import DiscriminativeRatio
from ._scores import ScoreDetector

if TYPE_CHECKING:
    from ._interface import PyODInterface

__all__ = ["DiscriminativeRatio", "PyODDetector", "PyODInterface", "ScoreDetector", "as_pyod"]


def __getattr__(name: str) -> Any:
    # pyod is optional, so its base class is imported only when somebody asks for the class.
    if name == "PyODInterface":
        require("pyod", extra="bench")
        from ._interface import PyODInterface

        return PyODInterface
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
