"""Benchmarks of anomaly detectors: protocols, a runner that survives kills, ranks, reports."""

from ._detectors import list_detectors
from ._diagram import plot_critical_differences
from ._store import ResultsFileError, read_rows
from ._suites import Suite, open_suite
from .protocols import Split, make_split, split_rows
from .ranking import (
    ScoreTable,
    Significance,
    paired_differences,
    rank_table,
    score_table,
    significance,
)
from .report import Report, report
from .runner import run_benchmark

__all__ = [
    "Report",
    "ResultsFileError",
    "ScoreTable",
    "Significance",
    "Split",
    "Suite",
    "list_detectors",
    "make_split",
    "open_suite",
    "paired_differences",
    "plot_critical_differences",
    "rank_table",
    "read_rows",
    "report",
    "run_benchmark",
    "score_table",
    "significance",
    "split_rows",
]
