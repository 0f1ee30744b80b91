"""Benchmarks of anomaly detectors: protocols, a runner that survives kills, ranks, reports."""

from ._detectors import list_detectors
from ._diagram import plot_critical_differences
from ._rows import read_rows
from ._suites import Suite, open_suite
from .cells import run_cells
from .protocols import Split, make_fixed_split, make_split, split_rows
from .ranking import Comparison, ScoreTable, Significance
from .report import Report, report
from .runner import run_benchmark
from .store import ResultsFile, ResultsFileError

__all__ = [
    "Comparison",
    "Report",
    "ResultsFile",
    "ResultsFileError",
    "ScoreTable",
    "Significance",
    "Split",
    "Suite",
    "list_detectors",
    "make_fixed_split",
    "make_split",
    "open_suite",
    "plot_critical_differences",
    "read_rows",
    "report",
    "run_benchmark",
    "run_cells",
    "split_rows",
]
