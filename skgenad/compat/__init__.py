"""Detectors between scikit-learn's signs and pyod's."""

from ._detector import PyODDetector, PyODInterface, as_pyod

__all__ = ["PyODDetector", "PyODInterface", "as_pyod"]
