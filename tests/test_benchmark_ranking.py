import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from skgenad.benchmark import Comparison
from skgenad.benchmark._suites import source_of
from skgenad.benchmark.ranking import holm
from skgenad.datasets import list_adbench, list_builtin, list_oddbench

NAN = float("nan")


def make_rows(scores, seeds=1, **columns):
    """Rows from a table of AUROC: data sets by detectors, NaN for failures."""
    rows = [
        {
            "suite": "s",
            "dataset": dataset,
            "protocol": "clean",
            "contaminate": 0.0,
            "seed": seed,
            "detector": detector,
            "status": "failed" if np.isnan(auroc) else "ok",
            "auroc": auroc,
            "average_precision": auroc / 2,
            "fit_seconds": 1.0 + seed,
            "score_seconds": 0.5,
            "peak_memory_mb": 10.0 * seed,
            "n_test": 40,
            "n_test_anomalies": 10,
        }
        for seed in range(1, seeds + 1)
        for dataset, line in scores.items()
        for detector, auroc in line.items()
    ]
    return pd.DataFrame(rows).assign(**columns)


SMALL = make_rows(
    {
        "a": {"x": 0.9, "y": 0.8, "z": 0.7},
        "b": {"x": 0.6, "y": 0.6, "z": 0.9},
        "c": {"x": NAN, "y": 0.4, "z": NAN},
        "d": {"x": 0.9, "y": NAN, "z": 0.3},
    }
)


def test_ranks_of_a_small_table_by_hand():
    ranks = Comparison(SMALL).scores.ranks
    by_hand = {"x": [1, 2.5, 2.5, 1], "y": [2, 2.5, 1, 3], "z": [3, 1, 2.5, 2]}
    pd.testing.assert_frame_equal(
        ranks, pd.DataFrame(by_hand, index=list("abcd")), check_names=False
    )
    table = Comparison(SMALL).ranks
    assert table["rank"].to_dict() == {"x": 1.75, "y": 2.125, "z": 2.125}
    assert table["rank_error"]["x"] == pytest.approx(np.std([1, 2.5, 2.5, 1], ddof=1) / 2)
    assert table["wins"].to_dict() == {"x": 2, "y": 1, "z": 1}
    assert table["failures"].to_dict() == {"x": 1, "y": 1, "z": 1}
    assert list(table.index)[0] == "x"


def test_failures_count_as_chance_in_means():
    table = Comparison(SMALL).ranks
    assert table["auroc"]["x"] == pytest.approx((0.9 + 0.6 + 0.5 + 0.9) / 4)
    assert table["average_precision"]["x"] == pytest.approx((0.45 + 0.3 + 0.25 + 0.45) / 4)


def test_failure_is_ranked_below_worse_than_chance():
    rows = make_rows({"a": {"x": NAN, "y": 0.01}, "b": {"x": 0.5, "y": 0.5}})
    assert Comparison(rows).scores.ranks.loc["a"].to_dict() == {"x": 2, "y": 1}


def test_one_failed_seed_is_ranked_last_but_keeps_the_other_seed_in_the_mean():
    rows = make_rows({"a": {"x": 0.9, "y": 0.1}, "b": {"x": 0.9, "y": 0.1}}, seeds=2)
    rows.loc[0, ["auroc", "average_precision"]] = NAN
    rows.loc[0, "status"] = "timeout"
    table = Comparison(rows).scores
    assert table.ranks.loc["a"].to_dict() == {"x": 2, "y": 1}
    assert table.filled.loc["a", "x"] == pytest.approx((0.9 + 0.5) / 2)
    assert Comparison(rows).ranks["failures"]["x"] == 1


def test_scores_are_averaged_over_seeds_before_ranking():
    rows = make_rows({"a": {"x": 0.9, "y": 0.7}, "b": {"x": 0.9, "y": 0.7}}, seeds=2)
    second = rows["seed"].eq(2) & rows["detector"].eq("y") & rows["dataset"].eq("a")
    rows.loc[second, "auroc"] = 1.0
    rows.loc[rows["seed"].eq(2) & rows["detector"].eq("x"), "auroc"] = 0.5
    table = Comparison(rows).scores
    assert table.values.loc["a"].to_dict() == pytest.approx({"x": 0.7, "y": 0.85})
    assert table.ranks.loc["a"].to_dict() == {"x": 2, "y": 1}


def test_sets_without_every_cell_are_left_out_and_named():
    rows = SMALL[~(SMALL["dataset"].eq("b") & SMALL["detector"].eq("z"))]
    table = Comparison(rows).scores
    assert table.incomplete == ["b"]
    assert list(table.values.index) == ["a", "c", "d"]
    with pytest.raises(ValueError, match="no data set has rows of every detector"):
        _ = Comparison(SMALL[SMALL["dataset"].eq("a") ^ SMALL["detector"].eq("z")]).scores


def test_times_are_medians_and_memory_is_the_maximum():
    table = Comparison(make_rows({"a": {"x": 0.9}, "b": {"x": 0.8}}, seeds=3)).ranks
    line = table.loc["x"]
    assert (line["fit_seconds"], line["score_seconds"], line["peak_memory_mb"]) == (3, 0.5, 30)


def test_other_metric_ranks_by_it():
    rows = SMALL.assign(average_precision=1 - SMALL["auroc"])
    ranks = Comparison(rows, "average_precision").ranks["rank"]
    assert ranks.to_dict() == {"x": 2.25, "y": 1.875, "z": 1.875}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (SMALL.iloc[:0], "there are no rows"),
        (pd.concat([SMALL, SMALL.assign(protocol="adbench")]), "values of protocol are mixed"),
        (pd.concat([SMALL, SMALL.iloc[:1]]), "the cell a, seed 1, x occurs twice"),
    ],
)
def test_rows_that_make_no_table_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        Comparison(rows)
    with pytest.raises(ValueError, match="unknown metric 'f1'"):
        Comparison(SMALL, "f1")


def make_many(n=30, seed=0, shift=(0.0, 0.002, 0.03, 0.1)):
    rng = np.random.default_rng(seed)
    return make_rows(
        {
            f"set {i}": {f"d{j}": 0.8 - s + rng.normal(0, 0.02) for j, s in enumerate(shift)}
            for i in range(n)
        }
    )


def test_wilcoxon_with_holm_by_hand():
    rows = make_many()
    values = Comparison(rows).scores.values
    names = list(values.columns)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    raw = [stats.wilcoxon(values[a], values[b]).pvalue for a, b in pairs]
    # Holm: the k-th smallest is multiplied by how many are left, and never gets below the last.
    order, adjusted, largest = np.argsort(raw), {}, 0.0
    for k, index in enumerate(order):
        largest = max(largest, min(1.0, raw[index] * (len(raw) - k)))
        adjusted[pairs[index]] = largest
    p_values = Comparison(rows).significance.p_values
    for (a, b), p in adjusted.items():
        assert p_values.loc[a, b] == pytest.approx(p, rel=1e-9)
        assert p_values.loc[b, a] == p_values.loc[a, b]
    assert p_values.loc["d0", "d3"] < 0.001 < 0.05 < p_values.loc["d0", "d1"]


def test_differences_are_adjusted_by_holm_over_the_lines_shown():
    comparison = Comparison(make_many())
    for others in (["d1", "d2", "d3"], ["d3", "d1"], ["d2"]):
        table = comparison.differences("d0", others)
        expected = multipletests(table["p_value"], method="holm")[1]
        np.testing.assert_allclose(table["p_holm"], expected, rtol=1e-12)
    ap = Comparison(make_many(), "average_precision").differences("d0")
    auroc = comparison.differences("d0")
    np.testing.assert_allclose(ap["difference"], auroc["difference"] / 2)  # as the rows are made


@pytest.mark.parametrize("n", [0, 1, 2, 10])
def test_holm_is_that_of_statsmodels(n):
    p_values = np.random.default_rng(n).uniform(size=n) ** 3
    np.testing.assert_allclose(
        holm(p_values), multipletests(p_values, method="holm")[1] if n else []
    )


def test_friedman_by_hand():
    rows = make_many()
    ranks = Comparison(rows).scores.ranks
    n, k = ranks.shape
    statistic = 12 * n / (k * (k + 1)) * ((ranks.mean() - (k + 1) / 2) ** 2).sum()
    tests = Comparison(rows).significance
    assert tests.friedman_statistic == pytest.approx(statistic)
    assert tests.friedman_p == pytest.approx(stats.chi2.sf(statistic, k - 1))


def test_equal_detectors_do_not_differ():
    rows = make_rows({name: {"x": 0.7, "y": 0.7, "z": 0.7} for name in "abcde"})
    tests = Comparison(rows).significance
    assert (tests.p_values == 1).all(axis=None)
    assert np.isnan(tests.friedman_p)
    line = Comparison(rows).differences("x").loc["y"]
    assert (line["difference"], line["low"], line["high"], line["p_value"]) == (0, 0, 0, 1)
    assert (line["wins"], line["ties"], line["losses"]) == (0, 5, 0)


def test_paired_differences_of_a_known_shift():
    rng = np.random.default_rng(0)
    difference = rng.normal(0.05, 0.02, 40)
    rows = make_rows({f"s{i}": {"x": 0.7 + d, "y": 0.7} for i, d in enumerate(difference)})
    line = Comparison(rows).differences("x", ["y"]).loc["y"]
    error = difference.std() / np.sqrt(40)
    assert line["difference"] == pytest.approx(difference.mean())
    assert line["low"] == pytest.approx(difference.mean() - 1.96 * error, abs=0.3 * error)
    assert line["high"] == pytest.approx(difference.mean() + 1.96 * error, abs=0.3 * error)
    assert line["p_value"] == pytest.approx(stats.wilcoxon(difference).pvalue, rel=1e-6)
    assert line["wins"] == (difference > 0).sum()


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        values = {f"s{i}": {"x": 0.5 + d, "y": 0.5} for i, d in enumerate(rng.normal(0, 0.1, 30))}
        line = Comparison(make_rows(values)).differences("x", n_boot=500).loc["y"]
        covered += line["low"] <= 0 <= line["high"]
    assert 0.85 <= covered / 100 <= 0.99


def test_paired_differences_repeat_and_leave_global_generators_alone(global_rng_untouched):
    rows = make_many()
    first, again = (Comparison(rows).differences("d0") for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = Comparison(rows).differences("d0", random_state=1)
    assert not first["low"].equals(other["low"])


def test_tests_need_two_detectors_and_two_sets():
    one = make_rows({"a": {"x": 0.9, "y": 0.8}})
    with pytest.raises(ValueError, match="2 detectors on data sets of 2 sources, got 2 on 1"):
        _ = Comparison(one).significance
    with pytest.raises(ValueError, match="data sets of at least 2 sources, got 1"):
        Comparison(one).differences("x")
    with pytest.raises(ValueError, match="no rows of detector 'w'; there are x, y, z"):
        Comparison(SMALL).differences("w")


# ---- data sets of one source -----------------------------------------------------------------


def rows_of_sources(sources, gap=0.02, seed=0):
    """Rows of data sets called ``source_k``, so many of each; x is better than y by `gap`."""
    rng = np.random.default_rng(seed)
    scores = {}
    for source, count in sources.items():
        shared = gap + rng.normal(0, 0.01)
        for k in range(count):
            x, y, z = np.array([0.8 + shared, 0.8, 0.7]) + rng.normal(0, 0.001, 3)
            scores[f"{source}_{k}"] = {"x": x, "y": y, "z": z}
    return make_rows(scores)


def test_copies_of_a_data_set_prove_nothing():
    """Sets of one source count as one case: 40 of them are no stronger than the sources are."""
    few = {"digits": 10, "wine": 3, "iris": 3, "breast": 1}
    rows = rows_of_sources(few).assign(suite="builtin")
    rows["dataset"] = rows["dataset"].replace("breast_0", "breast_cancer")
    comparison = Comparison(rows)
    assert comparison.scores.n_sources == 4 and len(comparison.scores.values) == 17
    alone = Comparison(rows, sources={})
    assert alone.scores.n_sources == 17
    assert alone.differences("x").loc["y", "p_value"] < 0.001
    assert alone.significance.p_values.loc["x", "y"] < 0.01
    assert comparison.differences("x").loc["y", "p_value"] == 2 * 0.5**4
    assert comparison.significance.p_values.min(axis=None) >= 0.125
    assert comparison.significance.smallest == pytest.approx(3 * 2 * 0.5**4)
    assert comparison.significance.friedman_p > 10 * alone.significance.friedman_p
    # Wins are counted per data set, they are no test.
    assert comparison.differences("x").loc["y", ["wins", "ties", "losses"]].tolist() == [17, 0, 0]


def test_numbers_by_source_are_those_of_the_means_within_sources():
    rows = rows_of_sources({"a": 4, "b": 1, "c": 2, "d": 1, "e": 1, "f": 3})
    sources = {name: name[0] for name in rows["dataset"].unique()}
    found = Comparison(rows, sources=sources)
    means = rows.assign(dataset=rows["dataset"].str[0])
    means = means.groupby(["dataset", "detector"])[["auroc", "average_precision"]].mean()
    of_means = {source: means.loc[source, "auroc"].to_dict() for source in means.index.levels[0]}
    expected = Comparison(make_rows(of_means))
    pd.testing.assert_frame_equal(
        found.significance.p_values, expected.significance.p_values, check_names=False
    )
    same = ["difference", "low", "high", "p_value", "p_holm"]
    pd.testing.assert_frame_equal(
        found.differences("x")[same], expected.differences("x")[same], rtol=1e-9
    )
    columns = ["auroc", "rank", "rank_error"]
    assert found.ranks[columns].to_numpy() == pytest.approx(expected.ranks[columns].to_numpy())


def test_a_source_counts_once_however_often_its_sets_are_repeated():
    def mean_rank(copies):
        lines = {f"a_{k}": {"x": 0.9, "y": 0.8} for k in range(copies)}
        lines |= {"b": {"x": 0.7, "y": 0.8}, "c": {"x": 0.6, "y": 0.9}}
        rows = make_rows(lines)
        sources = {f"a_{k}": "a" for k in range(copies)}
        ranks = Comparison(rows, sources=sources).ranks
        return ranks[["rank", "rank_error", "auroc"]].loc[["x", "y"]].to_numpy()

    np.testing.assert_allclose(mean_rank(1), mean_rank(20), rtol=1e-12)


def test_sources_of_the_suites():
    builtin = {source_of("builtin", name) for name in list_builtin()}
    assert builtin == {"breast_cancer", "wine", "iris", "digits"}
    networks = [f"CV_by_{name}/CIFAR10_{k}" for name in ("ViT", "ResNet18") for k in "01"]
    assert {source_of("adbench", name) for name in networks} == {"CIFAR10"}
    assert len({source_of("adbench", name) for name in list_adbench("Classical")}) == 47
    for group, count in (("CV_by_ViT", 19), ("NLP_by_BERT", 5)):
        names = list_adbench(group)
        assert len(names) > len({source_of("adbench", name) for name in names}) == count
    names = list_oddbench()
    assert [source_of("oddbench", name) for name in names] == names
    # A folder's sets are what their names say, even where the names look like these.
    assert source_of("mine", "digits_1") == "digits_1"


def test_sources_may_be_called_like_detectors():
    names = ["x", "y"]
    table = pd.DataFrame([[0.1, 0.2], [0.3, 0.4]], index=names, columns=names)
    scores = Comparison(make_rows(table)).scores
    pd.testing.assert_frame_equal(scores.by_source(table), table)
