"""The committed results are read by the scripts that made them, as they are."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
RESULTS = BENCHMARKS / "results"
SCRIPTS = (
    "cance_tables",
    "cifar_ood",
    "density_2d",
    "mnist_holdout",
    "mnist_one_class",
    "mnist_ood",
    "pwae_textures",
)


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.mark.parametrize("name", SCRIPTS)
def test_rows_of_a_script_are_read(name, script):
    file = script(name).ROWS
    assert file.path == RESULTS / name / "rows.csv"
    rows = file.read()
    assert len(rows) == file.path.read_text().count("\n") - 1
    assert rows["date"].str.match(r"20\d\d-\d\d-\d\d$").all() and (rows["machine"] != "").all()


def test_rows_of_the_hierarchies_are_read(script):
    rows = script("hierarchies")._file(RESULTS / "hierarchies").read()
    assert set(rows["metric"]) == {"auroc", "test bits", "training bits"}


def test_steps_of_glow_on_digits_are_read(script):
    from skgenad.benchmark import ResultsFile

    columns = script("glow_digits").COLUMNS
    file = ResultsFile(RESULTS / "glow_digits.csv", key=("step",), columns=columns)
    assert file.read()["step"].is_monotonic_increasing


def test_every_section_of_the_speeds_is_read(script):
    sections = script("speed")._SECTIONS
    assert {path.stem for path in (RESULTS / "speed").glob("*.csv")} == set(sections)
    for name, section in sections.items():
        assert len(section.file(name).read())


def test_every_file_of_results_is_that_of_a_script():
    known = {*SCRIPTS, "adbench", "hierarchies", "results", "speed", "speed_gpu"}
    assert {path.parent.name for path in RESULTS.rglob("*.csv")} == known
