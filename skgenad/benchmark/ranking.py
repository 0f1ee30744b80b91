"""From rows to ranks and tests: which detector is better, and how sure that is.

The unit of every comparison is a source, of which several data sets may be made: ten digits, each
an anomaly in its turn, are one. Scores and ranks are averaged over seeds, then over the data sets
of a source; tests and intervals know of sources alone. A detector that failed on a data set with
any seed is ranked last on it, ties averaged. Where scores are averaged or subtracted, the cell that
failed counts as chance: an AUROC of one half, an average precision of the share of anomalies.
Nothing is dropped, so failing never improves a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from skgenad._extras import require

from ._suites import source_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METRICS = ("auroc", "average_precision")
GROUP = ("suite", "protocol", "contaminate")


@dataclass(frozen=True)
class ScoreTable:
    """Scores of detectors on the data sets that all of them were run on.

    Attributes
    ----------
    values : DataFrame of shape (n_datasets, n_detectors)
        Means over seeds; NaN where the detector failed with any seed.
    filled : DataFrame of shape (n_datasets, n_detectors)
        The same with chance in place of every cell that failed.
    incomplete : list of str
        Data sets left out because rows of some detector or seed are missing.
    unread : dict of str to str, default={}
        Data sets left out because they could not be read or split with any seed, so that no
        detector saw them, with their message.
    sources : dict of str to str, default={}
        What a data set was made from, where several share it; others are their own source.

    Examples
    --------
    >>> import pandas as pd
    >>> from skgenad.benchmark import ScoreTable
    >>> values = pd.DataFrame({"x": [0.9, 0.7], "y": [0.8, None]}, index=["a", "b"])
    >>> ScoreTable(values, values.fillna(0.5), incomplete=[]).ranks["y"].tolist()
    [2.0, 2.0]
    """

    values: pd.DataFrame
    filled: pd.DataFrame
    incomplete: list[str]
    unread: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def by_source(self, values: pd.DataFrame) -> pd.DataFrame:
        """Average a table over the data sets of each source.

        Parameters
        ----------
        values : DataFrame of shape (n_datasets, n_detectors)
            Such as `filled` or `ranks`.

        Returns
        -------
        means : DataFrame of shape (n_sources, n_detectors)
            Sources in the order of their first data sets.
        """
        sources = [self.sources.get(name, name) for name in values.index]
        return values.groupby(np.array(sources, dtype=object), sort=False).mean()

    @property
    def n_sources(self) -> int:
        """Number of sources: the number of independent cases."""
        return len({self.sources.get(name, name) for name in self.values.index})

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Ranks per data set: 1 is best, failures last, ties averaged."""
        worst = self.values.fillna(-np.inf)
        return worst.rank(axis="columns", ascending=False, method="average")


@dataclass(frozen=True)
class Significance:
    """Tests whether differences between detectors are more than chance.

    Attributes
    ----------
    friedman_statistic, friedman_p : float
        Friedman's test over all detectors; NaN for fewer than three.
    p_values : DataFrame of shape (n_detectors, n_detectors)
        Wilcoxon's signed-rank test of every pair, adjusted by Holm over all pairs.
    smallest : float
        The smallest adjusted p-value of a pair that so many sources can give.

    Examples
    --------
    >>> from skgenad.benchmark import Comparison, read_rows
    >>> rows = read_rows("results/rows.csv")  # doctest: +SKIP
    >>> Comparison(rows).significance.friedman_p  # doctest: +SKIP
    """

    friedman_statistic: float
    friedman_p: float
    p_values: pd.DataFrame
    smallest: float = 0.0


class Comparison:
    """Scores, ranks and tests of the detectors of one protocol, each computed once, when asked for.

    Parameters
    ----------
    rows : DataFrame
        Rows of `run_benchmark` or `read_rows`, of one suite, protocol and contamination.
    metric : {"auroc", "average_precision"}, default="auroc"
        Score that is ranked and tested.
    sources : mapping of str to str, default=None
        What data sets were made from, where several share it. By default what is known of the
        suites ``"builtin"`` and ``"adbench"``.

    Attributes
    ----------
    rows : DataFrame
        As given.
    metric : str
        As given.
    sources : mapping of str to str or None
        As given.

    Raises
    ------
    ValueError
        If the metric is unknown, if there are no rows, if rows of several protocols are mixed, or
        if a cell occurs twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from skgenad.benchmark import Comparison
    >>> cell = {"suite": "s", "protocol": "clean", "contaminate": 0.0, "seed": 1, "status": "ok"}
    >>> rows = pd.DataFrame(
    ...     [
    ...         cell | {"dataset": dataset, "detector": detector, "auroc": auroc}
    ...         for dataset in "abc"
    ...         for detector, auroc in [("x", 0.9), ("y", 0.8)]
    ...     ]
    ... )
    >>> comparison = Comparison(rows)
    >>> comparison.scores.ranks.mean().to_dict()
    {'x': 1.0, 'y': 2.0}
    >>> float(comparison.significance.p_values.loc["x", "y"])
    0.25
    >>> float(comparison.differences("x").loc["y", "difference"].round(3))
    0.1
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        metric: str = "auroc",
        *,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        _check_rows(rows, metric)
        self.rows = rows
        self.metric = metric
        self.sources = sources
        self._tables: dict[str, ScoreTable] = {}

    @property
    def scores(self) -> ScoreTable:
        """Scores per data set, these in the order of the rows.

        Raises
        ------
        ValueError
            If no data set has rows of every detector and seed.
        """
        return self._scores_of(self.metric)

    def _scores_of(self, metric: str) -> ScoreTable:
        if metric not in self._tables:
            self._tables[metric] = _score_table(self.rows, metric, self.sources)
        return self._tables[metric]

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """One line per detector, the best average rank first.

        ``auroc`` and ``average_precision`` (means over sources of means over their data sets),
        ``rank`` and ``rank_error`` (mean rank of the same kind, and its standard error over
        sources), ``wins`` (data sets with the best score,
        shared wins count for each), ``failures`` (cells that failed or passed the time limit),
        ``fit_seconds`` and ``score_seconds`` (medians over cells) and ``peak_memory_mb`` (maximum).
        """
        table = self.scores
        cells = self.rows[self.rows["dataset"].isin(table.values.index)].groupby("detector")
        best = table.values.max(axis="columns")
        ranks = table.by_source(table.ranks)
        summary = pd.DataFrame(
            {name: table.by_source(self._scores_of(name).filled).mean() for name in METRICS}
            | {
                "rank": ranks.mean(),
                "rank_error": ranks.std(ddof=1) / np.sqrt(len(ranks)),
                "wins": table.values.eq(best, axis="index").sum(),
                "failures": cells["status"].agg(lambda status: int((status != "ok").sum())),
                "fit_seconds": cells["fit_seconds"].median(),
                "score_seconds": cells["score_seconds"].median(),
                "peak_memory_mb": cells["peak_memory_mb"].max(),
            }
        )
        return summary.sort_values("rank", kind="stable").rename_axis("detector")

    @cached_property
    def significance(self) -> Significance:
        """Tests of all detectors at once (Friedman), and of every pair (Wilcoxon, Holm).

        Raises
        ------
        ValueError
            If there are fewer than two detectors, or data sets of two sources.
        """
        table = self.scores
        # Ranks and not scores, because a failure has a rank but no score.
        ranks = table.by_source(table.ranks)
        n_sources, n_detectors = ranks.shape
        if n_detectors < 2 or n_sources < 2:
            raise ValueError(
                f"a test needs at least 2 detectors on data sets of 2 sources, got {n_detectors} "
                f"on {n_sources}"
            )
        statistic = p = np.nan
        if n_detectors >= 3 and (ranks.nunique(axis="columns") > 1).any():
            statistic, p = stats.friedmanchisquare(*ranks.to_numpy().T)
        posthocs = require("scikit_posthocs", extra="bench")
        long = table.by_source(table.filled).melt(var_name="detector", value_name="score")
        p_values = posthocs.posthoc_wilcoxon(
            long, val_col="score", group_col="detector", zero_method="zsplit", p_adjust="holm"
        )
        names = table.values.columns
        # All differences of one sign: one of 2^n ways, on either side.
        smallest = min(1.0, math.comb(n_detectors, 2) * 2.0 ** (1 - n_sources))
        return Significance(float(statistic), float(p), p_values.loc[names, names], smallest)

    def differences(
        self,
        detector: str,
        others: Sequence[str] | None = None,
        *,
        n_boot: int = 10_000,
        random_state: int = 0,
    ) -> pd.DataFrame:
        """Compare one detector with others, source by source.

        Parameters
        ----------
        detector : str
            The detector of interest.
        others : sequence of str, default=None
            Detectors to compare it with, all others by default.
        n_boot : int, default=10_000
            Bootstrap samples of the sources.
        random_state : int, default=0
            Seed of the bootstrap.

        Returns
        -------
        table : DataFrame
            One line per other detector: ``difference`` (mean over sources of detector minus
            other), ``low`` and ``high`` (95 % percentile bootstrap interval over sources),
            ``wins``, ``ties``, ``losses`` (data sets), ``p_value`` (Wilcoxon's signed-rank test
            over sources, two-sided, not adjusted) and ``p_holm`` (the same, adjusted by Holm over
            the lines of this table).

        Raises
        ------
        ValueError
            If a detector is not in the rows, or data sets are of fewer than two sources.
        """
        table = self.scores
        filled, by_source = table.filled, table.by_source(table.filled)
        if others is None:
            others = [name for name in filled.columns if name != detector]
        for name in (detector, *others):
            if name not in filled.columns:
                known = ", ".join(filled.columns)
                raise ValueError(f"no rows of detector {name!r}; there are {known}")
        if len(by_source) < 2:
            raise ValueError(
                f"a comparison needs data sets of at least 2 sources, got {len(by_source)}"
            )
        lines = {
            other: _paired(
                (by_source[detector] - by_source[other]).to_numpy(), n_boot, random_state
            )
            | _counts((filled[detector] - filled[other]).to_numpy())
            for other in others
        }
        found = pd.DataFrame.from_dict(lines, orient="index").rename_axis("other")
        found = found[["difference", "low", "high", "wins", "ties", "losses", "p_value"]]
        return found.assign(p_holm=holm(found["p_value"]))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust the p-values of several tests by Holm's step-down method.

    Parameters
    ----------
    p_values : array-like of shape (n_tests,)
        P-values of all tests that are made.

    Returns
    -------
    adjusted : ndarray of shape (n_tests,), float64
        Rejecting those of at most alpha keeps the chance of any false rejection below alpha.

    Examples
    --------
    >>> from skgenad.benchmark.ranking import holm
    >>> holm([0.01, 0.25, 0.03]).tolist()
    [0.03, 0.25, 0.06]
    """
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw)
    n_left = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * n_left), 1)
    return adjusted


def _score_table(
    rows: pd.DataFrame, metric: str, sources: Mapping[str, str] | None = None
) -> ScoreTable:
    """Average the scores of checked rows over seeds."""
    rows, unread = _without_unread(rows)
    datasets, detectors = rows["dataset"].unique(), rows["detector"].unique()
    counts = pd.crosstab(rows["dataset"], rows["detector"]).reindex(datasets)[detectors]
    complete = (counts == rows["seed"].nunique()).all(axis="columns")
    if not complete.any():
        raise ValueError(
            "no data set has rows of every detector with every seed; finish the benchmark, or "
            "select rows so that detectors and seeds are complete"
        )
    kept = list(counts.index[complete])
    chance = pd.Series(0.5, index=rows.index)
    if metric == "average_precision":
        chance = rows["n_test_anomalies"] / rows["n_test"].clip(lower=1)
    scores = rows[metric].where(rows["status"] == "ok")

    def tabulate(column: pd.Series) -> pd.DataFrame:
        means = column.groupby([rows["dataset"], rows["detector"]]).agg(
            lambda s: s.mean(skipna=False)
        )
        return means.unstack("detector").loc[kept, detectors]

    if sources is None:
        suite = rows["suite"].iloc[0]
        sources = {dataset: source_of(suite, dataset) for dataset in kept}
    return ScoreTable(
        tabulate(scores),
        tabulate(scores.fillna(chance)),
        list(counts.index[~complete]),
        unread,
        dict(sources),
    )


def _without_unread(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Split off data sets that no detector saw: a rank on them would say nothing."""
    if "n_features" not in rows:  # a table that somebody made by hand
        return rows, {}
    was_read = (rows["n_features"] > 0).groupby(rows["dataset"]).any()
    unread = rows[~rows["dataset"].map(was_read)].drop_duplicates("dataset")
    messages = dict(zip(unread["dataset"], unread["message"], strict=True))
    if not was_read.any():
        name, message = next(iter(messages.items()))
        raise ValueError(f"no data set could be read; of {name!r}: {message}")
    return rows[~rows["dataset"].isin(messages)], messages


def _check_rows(rows: pd.DataFrame, metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; choose one of {', '.join(METRICS)}")
    if rows.empty:
        raise ValueError("there are no rows; run a benchmark first")
    for name in GROUP:
        if rows[name].nunique() > 1:
            raise ValueError(
                f"rows of several values of {name} are mixed: {rows[name].unique().tolist()}; "
                "select one of them"
            )
    twice = rows.duplicated(["dataset", "seed", "detector"])
    if twice.any():
        row = rows[twice].iloc[0]
        raise ValueError(
            f"the cell {row['dataset']}, seed {row['seed']}, {row['detector']} occurs twice"
        )


def _paired(difference: np.ndarray, n_boot: int, random_state: int) -> dict[str, float]:
    low, high = _bootstrap_interval(difference, n_boot, random_state)
    return {
        "difference": difference.mean(),
        "low": low,
        "high": high,
        "p_value": float(stats.wilcoxon(difference, zero_method="zsplit").pvalue),
    }


def _counts(difference: np.ndarray) -> dict[str, int]:
    return {
        "wins": int((difference > 0).sum()),
        "ties": int((difference == 0).sum()),
        "losses": int((difference < 0).sum()),
    }


def _bootstrap_interval(values: np.ndarray, n_boot: int, random_state: int) -> tuple[float, float]:
    if np.ptp(values) == 0:  # all bootstrap samples have the same mean
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=n_boot, random_state=random_state
    ).confidence_interval
    return float(interval.low), float(interval.high)
