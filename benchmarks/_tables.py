"""What the scripts of the suites share: which tables were tuned on, ranks, paired differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from skgenad.benchmark import Comparison, list_detectors
from skgenad.benchmark._markdown import table

_TUNED_ON = Path(__file__).with_name("tuning_tables.json")
# What the committee is compared with, pair by pair: other families of detectors, and its parts.
RIVALS = (
    *("kNN-z", "KNN", "IForest", "OCSVM", "LOF", "ECOD", "pyod-AE", "LUNAR"),
    *("MPDR-R", "NAE", "CANCE", "Glow", "AE"),
    *("KernelDenoiser", "Neighbors", "LocalGaussian", "Mahalanobis"),
)
# Detector -> what it is compared with, in the tables of every suite.
REFERENCES: dict[str, Sequence[str]] = {
    "Committee": RIVALS,
    "KernelDenoiser": ("kNN-z", "Neighbors", "AE", "NAE"),
    "Neighbors": ("kNN-z", "KNN"),
    "LocalGaussian": ("kNN-z", "Mahalanobis"),
    "MPDR-R": ("KNN", "kNN-z", "AE", "IForest"),
    "NAE": ("AE", "MPDR-R", "kNN-z"),
    "CANCE": ("CNCE", "LatNCE", "CANCE-error", "AE", "MPDR-R", "kNN-z"),
    "CNCE": ("LatNCE", "CANCE-error"),
    "Glow": ("MPDR-R", "AE", "kNN-z", "NSF"),
}
HOLM = (
    "Brackets: 95 % percentile bootstrap over tables. p: Wilcoxon's signed-rank test with Holm's "
    "correction over the lines of the same detector."
)


def tuned_on(suite: str) -> tuple[str, ...]:
    """Names, without numbers, of the tables of a suite that choices were made on."""
    return tuple(json.loads(_TUNED_ON.read_text(encoding="utf-8"))[suite])


def short(name: str) -> str:
    """Name of a table without its number, such as ``cardio`` for ``6_cardio``."""
    number, _, rest = name.partition("_")
    return rest if number.isdigit() else name


def is_tuned(rows: pd.DataFrame, suite: str) -> pd.Series:
    """Say of each row whether its table is one that choices were made on."""
    return rows["dataset"].map(short).isin(tuned_on(suite))


def known(names: Iterable[str]) -> list[str]:
    """Those of the names that are detectors of today's package."""
    there = set(list_detectors())
    return [name for name in names if name in there]


def as_benchmark(rows: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """Rows of a script's own, none of which failed, with what comparisons look at.

    Parameters
    ----------
    rows : DataFrame
        One row for each table and what is compared there.
    **columns : dict
        Values of ``detector``, ``suite`` and so on that the rows lack.

    Returns
    -------
    rows : DataFrame
        With all columns; counts and times that are not there are 0 and NaN.
    """
    absent: dict[str, object] = {"suite": "", "protocol": "", "seed": 1, "n_test": 1}
    absent |= {"n_test_anomalies": 0}
    absent |= dict.fromkeys(("fit_seconds", "score_seconds", "peak_memory_mb"), np.nan)
    absent = {name: value for name, value in absent.items() if name not in rows}
    return rows.assign(**absent | {"contaminate": 0.0, "status": "ok"} | columns)


def section(
    title: str,
    rows: pd.DataFrame,
    slow: Sequence[str],
    references: Mapping[str, Sequence[str]] = REFERENCES,
) -> list[str]:
    """Ranks, means and paired differences of one group of tables, as paragraphs.

    Parameters
    ----------
    title : str
        Of the section; the number of tables is added.
    rows : DataFrame
        Rows of one suite, protocol and share of anomalies in training.
    slow : sequence of str
        Detectors that ran with the first seed alone: they have tables of that seed.
    references : mapping of str to sequence of str
        Detector -> what it is compared with; those without rows are left out.

    Returns
    -------
    paragraphs : list of str
        Markdown.
    """
    seeds = sorted(rows["seed"].unique())
    parts = [f"### {title} ({rows['dataset'].nunique()})"]
    is_slow = rows["detector"].isin(slow)
    several = rows[~is_slow]
    if len(several):
        pairs = _pairs(references, set(several["detector"]))
        parts += _paragraphs(several, pairs, f"seeds {', '.join(map(str, seeds))}")
    if is_slow.any():
        first = rows[rows["seed"] == seeds[0]]
        # Pairs without a slow detector are in the table of all seeds.
        ran_once = set(rows.loc[is_slow, "detector"])
        pairs = {
            ours: [name for name in others if {ours, name} & ran_once]
            for ours, others in _pairs(references, set(first["detector"])).items()
        }
        what = f"seed {seeds[0]}, with those that ran with it only"
        parts += _paragraphs(first, {ours: o for ours, o in pairs.items() if o}, what)
    return parts


def _pairs(references: Mapping[str, Sequence[str]], there: set[str]) -> dict[str, list[str]]:
    pairs = {
        ours: [name for name in others if name in there]
        for ours, others in references.items()
        if ours in there
    }
    return {ours: others for ours, others in pairs.items() if others}


def _paragraphs(rows: pd.DataFrame, pairs: Mapping[str, Sequence[str]], what: str) -> Iterable[str]:
    comparison = Comparison(rows)
    incomplete = comparison.scores.incomplete
    left_out = f" Left out, because cells are missing: {', '.join(incomplete)}."
    yield f"Means and ranks, {what}:" + (left_out if incomplete else "")
    yield rank_lines(comparison.ranks)
    if pairs and len(comparison.scores.values) > 1:
        yield f"Paired differences, {what}. {HOLM}"
        yield pair_lines(rows, pairs)


def rank_lines(ranks: pd.DataFrame) -> str:
    """Table of mean ranks, mean scores and median times."""
    header = ["detector", "rank", "AUROC", "AP", "wins", "failures", "fit s", "score s"]
    lines = [
        [
            name,
            f"{line['rank']:.2f} ± {line['rank_error']:.2f}",
            f"{line['auroc']:.4f}",
            f"{line['average_precision']:.4f}",
            f"{line['wins']:.0f}",
            f"{line['failures']:.0f}",
            f"{line['fit_seconds']:.2f}",
            f"{line['score_seconds']:.3f}",
        ]
        for name, line in ranks.iterrows()
    ]
    return table(header, lines)


def pair_lines(rows: pd.DataFrame, pairs: Mapping[str, Sequence[str]]) -> str:
    """Table of paired differences in AUROC and AP, one line for each pair of detectors."""
    both = [Comparison(rows, metric) for metric in ("auroc", "average_precision")]
    header = ["", *(t for m in ("AUROC", "AP") for t in (m, "95 %", "won/tied/lost", "p"))]
    lines = []
    for ours, others in pairs.items():
        auroc, ap = (comparison.differences(ours, others) for comparison in both)
        lines += [
            [f"{ours} − {name}", *_cells(auroc.loc[name]), *_cells(ap.loc[name])] for name in others
        ]
    return table(header, lines)


def _cells(line: pd.Series) -> list[str]:
    p = line["p_holm"]
    return [
        f"{line['difference']:+.4f}",
        f"[{line['low']:+.4f}, {line['high']:+.4f}]",
        f"{line['wins']:.0f}/{line['ties']:.0f}/{line['losses']:.0f}",
        f"{p:.4f}" if p >= 1e-4 else f"{p:.0e}",
    ]
