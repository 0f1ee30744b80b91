"""Benchmarks of anomaly detectors: protocols, a runner that survives kills, ranks, reports."""

from skgenad.benchmark._detectors import list_detectors
from skgenad.benchmark._diagram import plot_critical_differences
from skgenad.benchmark._store import ResultsFileError, read_rows
from skgenad.benchmark._suites import Suite, open_suite
from skgenad.benchmark.protocols import Split, make_split, split_rows
from skgenad.benchmark.ranking import (
    ScoreTable,
    Significance,
    paired_differences,
    rank_table,
    score_table,
    significance,
)
from skgenad.benchmark.report import Report, report
from skgenad.benchmark.runner import run_benchmark

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
