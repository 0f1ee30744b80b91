import re
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from skgenad.benchmark import Comparison, ranking, read_rows, report
from skgenad.benchmark._app import _parse_seeds, app
from skgenad.benchmark._rows import COLUMNS, benchmark_file
from skgenad.benchmark.ranking import METRICS
from tests._benchmark import make_folder
from tests.test_benchmark_ranking import SMALL, make_many
from tests.test_benchmark_store import make_row


def write_rows(path, rows):
    defaults = make_row()
    with benchmark_file(path) as file:
        records = rows.to_dict("records")
        file.append(*({n: row.get(n, defaults[n]) for n in COLUMNS} for row in records))
    return path


@pytest.fixture
def results(tmp_path):
    both = pd.concat([make_many(), make_many(seed=1).assign(protocol="adbench")])
    return write_rows(tmp_path / "rows.csv", both)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_report_has_every_part_and_every_file(results, tmp_path):
    made = report(results, tmp_path / "out", reference="d0")
    text = made.path.read_text()
    for protocol in ("clean", "adbench"):
        assert f"## s, protocol {protocol}" in text
    assert text.count("Friedman's test") == 2
    assert text.count("### d0 minus others") == 2
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == 4
    for link in [*links, "ranks.csv", "per_set.csv"]:
        assert (tmp_path / "out" / link).stat().st_size > 0
    for protocol in ("clean", "adbench"):
        stem = tmp_path / "out" / f"critical_differences_s_{protocol}"
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert stem.with_suffix(".svg").read_text().count("<svg") == 1


def test_report_ranks_once_for_each_section(results, tmp_path, monkeypatch):
    asked, make = [], ranking._score_table

    def count(rows, metric, sources):
        asked.append((rows["protocol"].iloc[0], metric))
        return make(rows, metric, sources)

    monkeypatch.setattr(ranking, "_score_table", count)
    report(results, tmp_path / "out", reference="d0")
    # Each section has its own metric's table, and the other's for the means beside the ranks.
    assert sorted(asked) == [(p, m) for p in ("adbench", "clean") for m in sorted(METRICS)]


def test_numbers_of_the_report_are_those_of_the_rows(results, tmp_path):
    made = report(results, tmp_path / "out")
    expected = Comparison(make_many()).ranks
    section = made.path.read_text().split("## s, protocol clean")[1]
    lines = section.partition("Times are")[0].splitlines()
    shown = {cells(line)[0]: cells(line) for line in lines if line.startswith("| d")}
    for name, line in expected.iterrows():
        rank = f"{line['rank']:.2f} ± {line['rank_error']:.2f}"
        assert shown[name][1:4] == [
            rank,
            f"{line['auroc']:.3f}",
            f"{line['average_precision']:.3f}",
        ]
    saved = pd.read_csv(tmp_path / "out" / "ranks.csv")
    saved = saved[saved["protocol"] == "clean"].set_index("detector")
    pd.testing.assert_series_equal(saved["rank"], expected["rank"])
    per_set = pd.read_csv(tmp_path / "out" / "per_set.csv")
    assert len(per_set) == 60


@pytest.mark.parametrize(
    ("seconds", "shown"), [(36.8178, "36.82"), (0.5, "0.50"), (0.0023, "0.0023"), (0.0, "0.00")]
)
def test_times_below_a_hundredth_of_a_second_are_seen(tmp_path, seconds, shown):
    rows = make_many(4).assign(score_seconds=seconds)
    text = report(write_rows(tmp_path / "rows.csv", rows), tmp_path).path.read_text()
    assert {cells(line)[7] for line in text.splitlines() if line.startswith("| d0 |")} >= {shown}


def test_failures_are_listed_with_their_messages(tmp_path):
    rows = SMALL.assign(message=SMALL["status"].map({"ok": "", "failed": "boom | bang"}))
    text = report(write_rows(tmp_path / "rows.csv", rows), tmp_path).path.read_text()
    assert text.count("boom \\| bang |") == 3
    assert "| c | failed | **0.400** | failed |" in text


def test_one_detector_or_one_set_gives_a_table_without_tests(tmp_path):
    rows = SMALL[SMALL["detector"] == "z"]
    text = report(write_rows(tmp_path / "rows.csv", rows), tmp_path).path.read_text()
    assert "Too few detectors, or sources of data sets, for a test." in text
    assert not list(tmp_path.glob("*.png"))


def test_missing_cells_are_named(tmp_path):
    rows = SMALL[~(SMALL["dataset"].eq("b") & SMALL["detector"].eq("z"))]
    text = report(write_rows(tmp_path / "rows.csv", rows), tmp_path).path.read_text()
    assert "Left out, because cells are missing: b." in text


def test_contaminated_sets_with_too_few_anomalies_are_named(tmp_path):
    rows = make_many(4).assign(contaminate=0.1, n_train=100, n_train_anomalies=10)
    rows.loc[rows["dataset"] == "set 2", "n_train_anomalies"] = 3
    text = report(write_rows(tmp_path / "rows.csv", rows), tmp_path).path.read_text()
    assert "10 % anomalies asked for in training" in text
    assert "Fewer anomalies than asked for in: set 2." in text


def test_several_files_are_one_report_but_no_cell_twice(results, tmp_path):
    more = write_rows(tmp_path / "more" / "rows.csv", make_many().assign(suite="t"))
    made = report([results, more.parent], tmp_path / "out")
    assert set(made.ranks["suite"]) == {"s", "t"}
    copy = tmp_path / "copy.csv"
    copy.write_bytes(results.read_bytes())
    with pytest.raises(ValueError, match="the same cell .* is in .*rows.csv and .*copy.csv"):
        report([results, copy], tmp_path / "out")


def test_report_repeats_byte_for_byte(results, tmp_path):
    for name in ("1", "2"):
        report(results, tmp_path / name, reference="d0")
    for first in (tmp_path / "1").iterdir():
        assert first.read_bytes() == (tmp_path / "2" / first.name).read_bytes(), first.name


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_runs_a_folder_and_shows_ranks(tmp_path):
    folder = make_folder(tmp_path / "mine", count=3)
    options = ["--detectors", "IForest,KNN,LOF", "--seeds", "1-2", "--jobs", 1]
    out = tmp_path / "out"
    result = invoke("benchmark", folder, *options, "--out", out, "--protocol", "clean")
    assert result.exit_code == 0, result.output
    rows = read_rows(out / "rows.csv")
    assert len(rows) == 18 and (rows["status"] == "ok").all()
    best = Comparison(rows).ranks.index[0]
    table = result.stdout.split("mine, protocol clean")[1].splitlines()
    assert table[3].split()[0] == best
    for name in ("report.md", "critical_differences_mine_clean.png", "ranks.csv"):
        assert (out / name).exists()
    again = invoke("report", out, "--out", tmp_path / "more", "--reference", "KNN")
    assert again.exit_code == 0, again.output
    assert "KNN minus others" in (tmp_path / "more" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benchmark", "--detectors", "KNM"], "unknown detector: 'KNM'; choose from Committee"),
        (["benchmark", "--datasets", "x"], "unknown data set: 'x'; choose from breast_cancer"),
        (["benchmark", "nowhere"], "unknown suite 'nowhere'"),
        (["benchmark", "--seeds", "a"], "seeds must look like 1-3 or 1,5, got 'a'"),
        (["benchmark", "--protocol", "x"], "unknown protocol 'x'; choose one of auto, adbench"),
        (["benchmark", "--protocol", "fixed"], "'builtin' do not: use protocol='adbench'"),
        (["benchmark", "oddbench", "--protocol", "clean"], "use protocol='fixed'"),
        (["benchmark", "oddbench", "--contaminate", "0.1"], "use contaminate=0"),
        (["benchmark", "oddbench", "--datasets", "x"], "OddBench has no data set 'x'"),
        (["benchmark", "--backend", "x"], "unknown backend 'x'"),
        (["benchmark", "--contaminate", "2"], "contaminate must be a share"),
        (["benchmark", "--scheduler", "tcp://x"], "needs backend='dask'"),
        (["report", "nowhere.csv"], "nowhere.csv is not there; name a file or folder of results"),
        (["report", "."], "rows.csv is not there; name a file or folder of results"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("skgenad: ") and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_damaged_results_are_reported_by_the_command(results, tmp_path):
    results.write_text(results.read_text().replace(",ok,", ",so,", 1))
    result = invoke("report", results, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{results}:2: status is 'so'" in result.stderr


@pytest.mark.parametrize(
    ("text", "seeds"), [("1-3", [1, 2, 3]), ("5", [5]), ("1,4-5, 9", [1, 4, 5, 9])]
)
def test_seeds_are_parsed(text, seeds):
    assert _parse_seeds(text) == seeds


def test_version_and_names_are_shown():
    version = invoke("--version")
    assert re.match(r"skgenad \d+\.\d+", version.stdout), version.output
    names = invoke("list").stdout
    assert (
        "MPDR-R" in names
        and "breast_cancer" in names
        and "6_cardio" in names
        and "CodeMetrics" in names
    )


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ["--version"]),
        ("pyod", ["benchmark"]),
        pytest.param("scikit_posthocs", ["benchmark"], marks=pytest.mark.slow),
        pytest.param("matplotlib", ["benchmark"], marks=pytest.mark.slow),
    ],
)
def test_without_the_extra_the_command_says_which(module, arguments, tmp_path):
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {arguments!r}\n"
        "from skgenad.benchmark.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 1
    assert 'pip install "skgenad[bench]"' in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_report_says_how_many_sources_there_are_and_where_they_are_too_few(tmp_path):
    rows = make_many(13)
    names = [f"digits_{k}" for k in range(10)] + ["wine_0", "wine_1", "breast_cancer"]
    rows["dataset"] = rows["dataset"].map({f"set {k}": name for k, name in enumerate(names)})
    path = write_rows(tmp_path / "rows.csv", rows.assign(suite="builtin"))
    text = report(path, tmp_path, reference="d0").path.read_text()
    assert "4 detectors, 13 data sets from 3 sources, seeds 1." in text
    assert "too few sources for this test" in text and "smallest p possible: 1.000" in text
    one = rows[rows["dataset"].str.startswith("digits")].assign(suite="builtin")
    text = report(write_rows(tmp_path / "one.csv", one), tmp_path / "one").path.read_text()
    assert "10 data sets from 1 source," in text and "Too few detectors, or sources" in text


def test_report_says_nothing_of_sources_where_each_set_has_its_own(results, tmp_path):
    text = report(results, tmp_path / "out").path.read_text().split("## ", 1)[1]
    assert "source" not in text
