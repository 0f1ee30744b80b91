"""Benchmarks of anomaly detectors: protocols, a runner that survives kills, ranks, reports."""

from skgenad.benchmark._detectors import list_detectors
from skgenad.benchmark._store import ResultsFileError, read_rows
from skgenad.benchmark._suites import Suite, open_suite
from skgenad.benchmark.protocols import Split, make_split
from skgenad.benchmark.runner import run_benchmark

__all__ = [
    "ResultsFileError",
    "Split",
    "Suite",
    "list_detectors",
    "make_split",
    "open_suite",
    "read_rows",
    "run_benchmark",
]
