"""A report from files of results: rank table, tests, diagram, per-set table, failures."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from skgenad._writing import write_whole

from . import _html, _markdown
from ._diagram import plot_critical_differences
from ._document import (
    Block,
    Code,
    Heading,
    Inline,
    Link,
    Listing,
    Paragraph,
    Picture,
    Table,
    strong,
)
from ._rows import KEY, read_rows
from .ranking import GROUP, Comparison, ScoreTable, Significance

_METRIC_NAMES = {"auroc": "AUROC", "average_precision": "average precision"}
_TITLES = {
    "rank": "average rank",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "wins": "wins",
    "failures": "failures",
    "fit_seconds": "fit (s)",
    "score_seconds": "score (s)",
    "peak_memory_mb": "memory (MiB)",
}


@dataclass(frozen=True)
class Report:
    """What `report` wrote.

    Attributes
    ----------
    path : Path
        The Markdown file.
    ranks : DataFrame
        The rank tables of all groups under each other, as in ``ranks.csv``.
    html : Path or None
        The same as one page of HTML, where that was asked for.

    Examples
    --------
    >>> from skgenad.benchmark import report
    >>> report("results", "results").ranks  # doctest: +SKIP
    """

    path: Path
    ranks: pd.DataFrame
    html: Path | None = None


def report(
    results_files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    metric: str = "auroc",
    reference: str | None = None,
    others: Sequence[str] | None = None,
    html: bool = False,
) -> Report:
    """Write ``report.md`` with its tables (CSV) and diagrams (PNG and SVG) into a folder.

    Rows are grouped by suite, protocol and share of contamination; each group is a section with
    a rank table (mean scores, average rank with standard error, wins, failures, time, memory),
    Friedman's test and Wilcoxon's tests with Holm's correction, a critical-difference diagram, the
    scores per data set, and every failure with its message.

    Parameters
    ----------
    results_files : path-like or sequence of path-like
        Files that `run_benchmark` wrote, or folders with a ``rows.csv``.
    out : path-like
        Folder to write to; created when missing, files of an earlier report are replaced.
    metric : {"auroc", "average_precision"}, default="auroc"
        Score that is ranked and tested.
    reference : str, default=None
        A detector; adds its mean paired difference to others, with a 95 % bootstrap interval over
        data sets, or over their sources where several have one.
    others : sequence of str, default=None
        Detectors to compare `reference` with, all by default.
    html : bool, default=False
        Whether to write ``report.html`` as well: the same on one page that holds its pictures and
        needs no other file. Its tables are sorted by a click on a title. Without it, a page of
        an earlier report stays as it is.

    Returns
    -------
    report : Report
        The paths of the files to read, and the rank tables.

    Raises
    ------
    ResultsFileError
        If a line of a file is damaged.
    ValueError
        If there are no rows, two files hold the same cell, or `reference` is not a detector in
        them.

    Examples
    --------
    >>> from skgenad.benchmark import report
    >>> report("results", "results", reference="MPDR-R")  # doctest: +SKIP
    """
    rows = read_all(results_files)
    _check_detectors(rows, reference, others)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    blocks, ranks, scores = _head(rows, metric), [], []
    for values, group in rows.groupby(list(GROUP), sort=False):
        comparison = Comparison(group, metric)
        blocks += _section(comparison, folder, reference, others)
        labels = dict(zip(GROUP, values, strict=True))
        ranks.append(comparison.ranks.reset_index().assign(**labels))
        scores.append(comparison.scores.values.reset_index().assign(**labels))
    ranks_table = _first(pd.concat(ranks, ignore_index=True))
    write_whole(folder / "ranks.csv", ranks_table.to_csv(index=False))
    per_set = _first(pd.concat(scores, ignore_index=True))
    write_whole(folder / "per_set.csv", per_set.to_csv(index=False))
    blocks += _foot(rows)
    path, page = folder / "report.md", folder / "report.html"
    write_whole(path, _markdown.document(blocks))
    if html:
        write_whole(page, _html.page(blocks, folder))
    return Report(path, ranks_table, page if html else None)


def read_all(
    results_files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> pd.DataFrame:
    """Read several files of results as one, refusing cells that are in two of them."""
    if isinstance(results_files, (str, os.PathLike)):
        results_files = [results_files]
    paths = [
        Path(item) / "rows.csv" if Path(item).is_dir() else Path(item) for item in results_files
    ]
    if gone := next((path for path in paths if not path.is_file()), None):
        raise FileNotFoundError(
            f"{gone} is not there; name a file or folder of results that `skgenad benchmark` wrote"
        )
    frames = [read_rows(path).assign(file=str(path)) for path in paths]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if rows.empty:
        raise ValueError(f"no rows in {', '.join(map(str, paths)) or 'no files'}")
    twice = rows[rows.duplicated(list(KEY), keep=False)]
    if len(twice):
        files = " and ".join(twice["file"].unique())
        cell = ", ".join(str(twice.iloc[0][name]) for name in KEY)
        raise ValueError(f"the same cell ({cell}) is in {files}; give only one of them")
    return rows.drop(columns="file")


def _check_detectors(
    rows: pd.DataFrame, reference: str | None, others: Sequence[str] | None
) -> None:
    known = list(rows["detector"].unique())
    for name in [reference, *(others or [])]:
        if name is not None and name not in known:
            raise ValueError(f"no rows of detector {name!r}; there are {', '.join(known)}")


def _file_name(suite: str, protocol: str, contaminate: float) -> str:
    share = f"_contaminated_{contaminate:g}" if contaminate else ""
    return re.sub(r"[^A-Za-z0-9.]+", "_", f"{suite}_{protocol}{share}")


def _first(frame: pd.DataFrame) -> pd.DataFrame:
    """Put the columns that name the group first."""
    return frame[[*GROUP, *(name for name in frame.columns if name not in GROUP)]]


def _head(rows: pd.DataFrame, metric: str) -> list[Block]:
    what = (
        f"{len(rows)} cells. Scores are averaged over seeds, then over data sets; ranks are those "
        f"of the {_METRIC_NAMES[metric]} per data set (1 is best), with the standard error over "
        "data sets. Where several data sets are made from one source, scores and ranks are first "
        "averaged within it, and it is a source that is one case for errors, intervals and "
        "tests. A detector that failed with any seed is ranked last on that data set; the "
        "failed cell counts as chance in means and differences. "
    )
    resamples = (
        " resamples sets of fewer than 1,000 rows before it splits them, so that copies of "
        "training rows are tested; "
    )
    pieces: list[Inline] = [what, Code("adbench"), resamples, Code("clean"), " does not."]
    return [Heading("Benchmark of anomaly detectors", 1), Paragraph(pieces)]


def _section(
    comparison: Comparison, folder: Path, reference: str | None, others: Sequence[str] | None
) -> list[Block]:
    suite, protocol, share = (comparison.rows[column].iloc[0] for column in GROUP)
    name = _file_name(suite, protocol, share)
    title = f"{suite}, protocol {protocol}"
    if share:
        title += f", {100 * share:g} % anomalies asked for in training"
    scores = comparison.scores
    blocks: list[Block] = [
        Heading(title, 2),
        Paragraph([_scope(comparison.rows, scores)]),
        *_rank_blocks(comparison.ranks),
    ]
    if scores.n_sources >= 2 and scores.values.shape[1] >= 2:
        plot_critical_differences(comparison, folder / f"critical_differences_{name}", title=title)
        tests = comparison.significance
        write_whole(folder / f"p_values_{name}.csv", tests.p_values.to_csv())
        blocks += _test_blocks(tests, comparison.ranks.index[0], name)
        if reference is not None and reference in scores.values.columns:
            blocks += _reference_blocks(comparison, reference, others)
    else:
        blocks.append(Paragraph(["Too few detectors, or sources of data sets, for a test."]))
    return [*blocks, *_per_set_blocks(comparison), *_failure_blocks(comparison.rows)]


def _scope(rows: pd.DataFrame, scores: ScoreTable) -> str:
    seeds = ", ".join(map(str, sorted(rows["seed"].unique())))
    sets = f"{len(scores.values)} data sets"
    if scores.n_sources < len(scores.values):
        sets += f" from {scores.n_sources} source{'s' * (scores.n_sources > 1)}"
    text = f"{rows['detector'].nunique()} detectors, {sets}, seeds {seeds}."
    if scores.incomplete:
        text += f" Left out, because cells are missing: {', '.join(scores.incomplete)}."
    if scores.unread:
        text += f" Left out, because they could not be read: {', '.join(scores.unread)}."
    asked = rows["contaminate"].iloc[0]
    if asked:
        share = rows["n_train_anomalies"] / rows["n_train"].clip(lower=1)
        short = rows.loc[share < 0.95 * asked, "dataset"].unique()
        if len(short):
            text += f" Fewer anomalies than asked for in: {', '.join(short)}."
    return text


def _seconds(value: float) -> str:
    """Two digits after the point, or the first two that are not 0: many score in milliseconds."""
    return f"{value:.2f}" if not 0 < value < 0.1 else f"{value:.2g}"


def _rank_blocks(ranks: pd.DataFrame) -> list[Block]:
    lines = []
    for name, line in ranks.iterrows():
        cells = [
            str(name),
            f"{line['rank']:.2f} ± {line['rank_error']:.2f}",
            f"{line['auroc']:.3f}",
            f"{line['average_precision']:.3f}",
            f"{int(line['wins'])}",
            f"{int(line['failures'])}",
            *(_seconds(line[column]) for column in ("fit_seconds", "score_seconds")),
            f"{line['peak_memory_mb']:.0f}",
        ]
        lines.append(cells)
    note = (
        "Times are medians over cells, on one thread; memory is the maximum over cells of what "
        "fitting and scoring added."
    )
    return [Table(["detector", *_TITLES.values()], lines), Paragraph([note])]


def _test_blocks(tests: Significance, best: str, name: str) -> list[Block]:
    text = ""
    if tests.friedman_p == tests.friedman_p:
        text = (
            f"Friedman's test: chi-squared {tests.friedman_statistic:.1f}, "
            f"p = {_p(tests.friedman_p)}. "
        )
    against = tests.p_values[best].drop(best).sort_values()
    same = [other for other, p in against.items() if p >= 0.05]
    text += (
        f"Wilcoxon's test with Holm's correction over all pairs: {best}, first by rank, differs "
        f"(5 %) from {len(against) - len(same)} of {len(against)} detectors"
        + (f", not from {', '.join(same)}" if same else "")
    )
    end = ")."
    if tests.smallest >= 0.05:
        end += (
            "\nThese are too few sources for this test: whatever the scores, it could not find a "
            f"pair that differs (smallest p possible: {_p(tests.smallest)})."
        )
    return [
        Paragraph([f"{text} (", Link("all p-values", f"p_values_{name}.csv"), end]),
        Picture("critical-difference diagram", f"critical_differences_{name}"),
    ]


def _reference_blocks(
    comparison: Comparison, reference: str, others: Sequence[str] | None
) -> list[Block]:
    present = set(comparison.rows["detector"])
    chosen = None if others is None else [name for name in others if name in present]
    differences = comparison.differences(reference, chosen)
    lines = [
        (
            str(other),
            strong(f"{line['difference']:+.4f}", line["low"] > 0 or line["high"] < 0),
            f"{line['low']:+.4f} to {line['high']:+.4f}",
            f"{int(line['wins'])} / {int(line['ties'])} / {int(line['losses'])}",
            _p(line["p_value"]),
            _p(line["p_holm"]),
        )
        for other, line in differences.sort_values("difference").iterrows()
    ]
    titles = ["other", "mean difference", "95 % interval", "wins / ties / losses", "p", "Holm's p"]
    note = (
        f"Paired differences in {_METRIC_NAMES[comparison.metric]}; percentile bootstrap over "
        "data sets (sources, where these are fewer), Wilcoxon's test alone and with Holm's "
        "correction over these lines. Bold where the interval leaves out zero."
    )
    return [Heading(f"{reference} minus others", 3), Table(titles, lines), Paragraph([note])]


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _per_set_blocks(comparison: Comparison) -> list[Block]:
    values = comparison.scores.values[comparison.ranks.index]
    best = values.max(axis="columns")
    lines: list[list[Inline]] = [
        [
            str(dataset),
            *(
                strong(f"{value:.3f}", value == best[dataset]) if value == value else "failed"
                for value in line
            ),
        ]
        for dataset, line in zip(values.index, values.to_numpy(), strict=True)
    ]
    title = f"{_METRIC_NAMES[comparison.metric]} per data set"
    return [Heading(title, 3), Table(["data set", *values.columns], lines)]


def _failure_blocks(rows: pd.DataFrame) -> list[Block]:
    failed = rows[rows["status"] != "ok"]
    if failed.empty:
        return []
    columns = ["detector", "dataset", "seed", "status", "message"]
    ordered = failed.sort_values(columns[:3], kind="stable")
    lines = [[str(cell) for cell in line] for line in ordered[columns].itertuples(index=False)]
    return [Heading("Failures", 3), Table(columns, lines)]


def _foot(rows: pd.DataFrame) -> list[Block]:
    settings = rows.drop_duplicates(["detector", "settings"])
    items: list[list[Inline]] = [
        [f"{name}: ", Code(text)]
        for name, text in zip(settings["detector"], settings["settings"], strict=True)
    ]
    versions = f"Versions: {'; or '.join(rows['versions'].unique())}."
    return [Heading("Settings", 2), Listing(items), Paragraph([versions])]
