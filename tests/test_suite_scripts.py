"""The scripts of the suites: what they run, which tables they show apart, what they write."""

import importlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skgenad.benchmark import list_detectors, read_rows
from skgenad.datasets import list_oddbench
from tests._benchmark import make_set
from tests.test_benchmark_report import write_rows

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def rows_of(suite, protocol, datasets, detectors, *, slow=(), auroc=lambda d, n: 0.8, **columns):
    """Rows of three seeds, slow detectors with the first alone."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "suite": suite,
            "dataset": dataset,
            "protocol": protocol,
            "contaminate": 0.0,
            "seed": seed,
            "detector": name,
            "status": "ok",
            "auroc": auroc(dataset, name) + rng.uniform(0, 1e-3),
            "average_precision": 0.5,
            "fit_seconds": 1.0,
            "score_seconds": 0.25,
            "peak_memory_mb": 1.0,
            "n_train": 100,
            "n_test": 100,
            "n_test_anomalies": 10,
            **columns,
        }
        for dataset in datasets
        for name in detectors
        for seed in ((1,) if name in slow else (1, 2, 3))
    ]
    return pd.DataFrame(rows)


def lines_of(text, title, name):
    """Cells of the lines that begin with a name, in the section of a title."""
    section = re.split(rf"^#+ {re.escape(title)}.*$", text, flags=re.M)[1].split("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines()]
    return [cells[1:] for cells in lines if cells[0] == name]


# ---- what choices are made on ------------------------------------------------


def test_tables_tuned_on_are_few_and_of_the_suites(script):
    tables, adbench = script("_tables"), script("adbench")
    assert len(set(tables.tuned_on("adbench"))) == 10
    assert set(tables.tuned_on("adbench")) <= {tables.short(name) for name in adbench.SETS}
    assert len(set(tables.tuned_on("oddbench"))) == 40
    assert set(tables.tuned_on("oddbench")) <= set(list_oddbench())
    rows = pd.DataFrame({"dataset": ["6_cardio", "38_thyroid", "CrimeIncident", "CrimeFraud"]})
    assert tables.is_tuned(rows, "adbench").tolist() == [True, False, False, False]
    assert tables.is_tuned(rows, "oddbench").tolist() == [False, False, True, False]


def test_scripts_name_detectors_that_there_are(script):
    tables, oddbench, contaminated = map(script, ("_tables", "oddbench", "contaminated"))
    later = {"Committee", "Neighbors", "KernelDenoiser", "LocalGaussian"}
    there = set(list_detectors()) | later
    for names in (oddbench.DETECTORS, contaminated.DETECTORS, tables.RIVALS, tables.REFERENCES):
        assert set(names) <= there
    for others in (*tables.REFERENCES.values(), *contaminated.REFERENCES.values()):
        assert set(others) <= there
    assert set(oddbench.SLOW) <= set(oddbench.DETECTORS)
    assert set(script("summary").NAMES) <= set(oddbench.DETECTORS)
    assert tables.known(["KNN", "nothing"]) == ["KNN"]


def test_sets_that_train_whole_are_those_of_the_rule(script):
    tables, contaminated = script("_tables"), script("contaminated")
    rows = read_rows(BENCHMARKS / "results" / "adbench" / "rows.csv")
    rows = rows[(rows["protocol"] == "clean") & ~tables.is_tuned(rows, "adbench")]
    shapes = rows.groupby("dataset")[["n_test", "n_features"]].max()
    large = shapes[shapes["n_test"] >= 0.3 * 500]["n_features"].sort_values()
    assert set(contaminated.WHOLE_SETS) == set(large.index[:10])
    assert large.iloc[9] < large.iloc[10]  # the rule leaves no choice


# ---- OddBench ----------------------------------------------------------------


def test_tables_of_oddbench_show_those_tuned_on_apart(script, tmp_path):
    oddbench, tables = script("oddbench"), script("_tables")
    tuned = list(tables.tuned_on("oddbench"))[:5]
    others = [name for name in list_oddbench() if name not in tables.tuned_on("oddbench")][:6]
    rows = rows_of(
        "oddbench",
        "fixed",
        tuned + others,
        ["Committee", "kNN-z", "MPDR-R", "Glow"],
        slow=oddbench.SLOW,
        auroc=lambda d, n: (0.9 if d in tuned else 0.6) + 0.05 * (n == "Committee"),
    )
    out = tmp_path / "oddbench"
    write_rows(out / "rows.csv", rows)
    oddbench.tables(out)
    text = (tmp_path / "oddbench.md").read_text()
    several, first = lines_of(text, "Tables not tuned on (6)", "kNN-z")
    assert several[1].startswith("0.600") and first[1].startswith("0.600")
    assert lines_of(text, "Tables tuned on (5)", "kNN-z")[0][1].startswith("0.900")
    (gap,) = lines_of(text, "Tables not tuned on (6)", "Committee − kNN-z")
    assert (
        gap[0].startswith("+0.0")
        and gap[2] == "6/0/0"
        and gap[4:]
        == [
            "+0.0000",
            "[+0.0000, +0.0000]",
            "0/6/0",
            "1.0000",
        ]
    )
    # A slow detector has one seed, and its pairs are in the table of that seed.
    assert len(lines_of(text, "Tables not tuned on (6)", "Glow")) == 1
    assert text.index("seed 1, with those that ran with it only") < text.index("Committee − Glow")
    assert (out / "ranks.png").exists()


def test_missing_cells_are_named_and_absent_detectors_left_out(script):
    tables = script("_tables")
    rows = rows_of("s", "fixed", "abc", ["kNN-z", "KNN", "MPDR-R"])
    rows = rows[~(rows["dataset"].eq("b") & rows["detector"].eq("KNN"))]
    text = "\n".join(tables.section("Some", rows, ()))
    assert "Left out, because cells are missing: b." in text
    assert "MPDR-R − KNN" in text and "MPDR-R − AE" not in text and "Committee" not in text


# ---- training on rows that are not all normal --------------------------------


def test_all_rows_train_and_are_scored(script, tmp_path, monkeypatch):
    contaminated = script("contaminated")
    X, y = make_set(n=300)
    monkeypatch.setattr(contaminated, "fetch_adbench", lambda *a, **k: (X, y))
    file = contaminated.whole_sets_file(tmp_path)
    with file:
        for name in contaminated.known(["kNN-z", "IForest", "Committee-robust"]):
            for place in contaminated.WHOLE_SETS:
                (row,) = contaminated._compute(place, 1, name, data_home=None)
                cell = {"dataset": place, "seed": 1, "detector": name}
                file.append({**cell, **row, "machine": "m", "date": "2026-11-30"})
    rows = file.read()
    assert (rows["n_test"] == 300).all() and (rows["n_test_anomalies"] == 50).all()
    assert (rows["auroc"] > 0.7).all()
    shares = [
        rows_of("adbench", "clean", contaminated.SETS, ["kNN-z", "IForest"], contaminate=share)
        for share in contaminated.SHARES
    ]
    left_in = pd.concat(shares).assign(
        n_train_anomalies=lambda rows: (100 * rows["contaminate"]).round().astype(int),
        auroc=lambda rows: 0.9 - rows["contaminate"],
    )
    few = left_in["dataset"].eq("45_wine") & left_in["contaminate"].eq(0.1)
    left_in.loc[few, "n_train_anomalies"] = 2
    write_rows(tmp_path / "contaminated" / "rows.csv", left_in)
    contaminated.tables(tmp_path)
    text = (tmp_path / "contaminated.md").read_text()
    assert "there are no more: 45_wine (10 %)." in text
    assert lines_of(text, "Anomalies left in training", "kNN-z") == [["0.8500", "0.8000"]]
    for title in ("5 % anomalies in training", "All rows train and are scored"):
        assert f"## {title}" in text
    assert text.count("### Sets not tuned on (20)") == 2
    assert text.count("### Sets tuned on (10)") == 2
    assert text.count("### Sets not tuned on (10)") == 1


# ---- README's table and picture ----------------------------------------------


@pytest.fixture
def both(script, tmp_path):
    summary, adbench = script("summary"), script("adbench")
    worth = {"Committee": 0.05, "LUNAR": -0.02, "ECOD": -0.2}
    for suite, protocol, sets in (
        ("oddbench", "fixed", list_oddbench()),
        ("adbench", "clean", adbench.SETS),
    ):
        rows = rows_of(
            suite,
            protocol,
            sets,
            ["kNN-z", "MPDR-R", *worth],
            slow=["LUNAR"],
            auroc=lambda d, n: 0.7 + worth.get(n, 0.0),
        )
        write_rows(tmp_path / suite / "rows.csv", rows)
    return summary, tmp_path


def test_summary_is_a_table_and_a_picture_of_tables_not_tuned_on(both):
    summary, folder = both
    page = folder / "page.md"
    page.write_text(f"before\n{summary.BEGIN}\nold\n{summary.END}\nafter\n")
    summary.main(folder, page)
    text = (folder / "summary.md").read_text()
    made = text[text.index(summary.BEGIN) : text.index(summary.END) + len(summary.END)]
    assert page.read_text() == f"before\n{made}\nafter\n"
    summary.main(folder, page)
    assert page.read_text() == f"before\n{made}\nafter\n"
    lines = [line.strip("| ").split(" | ") for line in made.splitlines() if line.startswith("| ")]
    assert [line[0] for line in lines[1:]][0] == "Committee"
    assert [line[0] for line in lines[1:]][-1] == "ECOD"
    assert lines[1][1:4] == ["**0.750**", "**0.500**", "**1.0**"] and lines[1][-2:] == ["1", "0.25"]
    assert "OddBench: 60 tables, fixed splits, seed 1." in made
    assert "ADBench: 20 tables, protocol `clean`, seed 1." in made
    assert (folder / "summary.png").read_bytes().startswith(b"\x89PNG")


def test_differences_are_paired_on_the_seeds_that_both_have(both):
    summary, folder = both
    (rows, _) = (part.rows for part in summary.read_parts(folder))
    later = rows["detector"].eq("kNN-z") & rows["seed"].gt(1)
    rows.loc[later, "auroc"] += 0.3  # of no concern to LUNAR, which has the first seed alone
    gaps = summary.differences(rows)["difference"]
    assert gaps["LUNAR"] == pytest.approx(-0.02, abs=1e-3)
    assert gaps["MPDR-R"] == pytest.approx(-0.2, abs=1e-3)


def test_a_page_without_markers_stays_as_it_is(script):
    summary = script("summary")
    for text in ("nothing", f"half {summary.BEGIN}"):
        assert summary.replace_block(text, "new") == text


def test_readme_has_the_summary_that_was_made(script):
    summary = script("summary")
    made = BENCHMARKS / "results" / "summary.md"
    blocks = [
        re.findall(f"{summary.BEGIN}.*?{summary.END}", path.read_text(), flags=re.S)
        for path in (ROOT / "README.md", made)
        if path.exists()
    ]
    assert blocks[0] == (blocks[1] if made.exists() else [])
