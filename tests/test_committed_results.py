"""The committed results are read by the scripts that made them, as they are."""

import importlib
import json
from pathlib import Path

import pytest

from skgenad import MPDR

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
    hierarchies = script("hierarchies")
    rows = hierarchies._file(RESULTS / "hierarchies").read()
    assert set(rows["metric"]) == {"auroc", "test bits", "training bits"}
    shapes = ((1, 32, 32), (3, 32, 32))
    models = {hierarchies._settings(hierarchies._model(s, 1, False, None)) for s in shapes}
    assert set(rows["model"]) == models  # the cells of today's script


def test_hashes_of_scores_are_read(script):
    assert len(script("same_bits").FILE.read())


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


@pytest.mark.parametrize("changed", [{}, {"max_steps": 3}, {"visible_chain__noise": 0.2}])
def test_old_settings_are_those_of_a_detector_of_today_only_if_nothing_changed(script, changed):
    convert = script("convert_results")
    defaults = json.loads(convert.OLD_DEFAULTS.read_text())
    old = json.dumps(defaults["MPDR"])
    differences = convert.unexplained(old, MPDR().set_params(**changed))
    assert set(differences) == set(changed)
    assert set(convert.unexplained(old, MPDR(energy="scalar"))) == {"energy"}


def test_every_file_of_results_is_that_of_a_script():
    known = {*SCRIPTS, "adbench", "hierarchies", "results", "speed", "speed_gpu"}
    assert {path.parent.name for path in RESULTS.rglob("*.csv")} == known
