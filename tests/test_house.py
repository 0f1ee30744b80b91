"""The limits of the house: short functions, few parameters, files that hold one idea."""

import importlib.util
import statistics
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "house.py"
# Files that are longer than 450 lines, and why.
LONG_FILES: dict[str, str] = {
    "autoencoders/cance.py": "features, a density over them, four scores: one story",
    "autoencoders/pwae.py": "a paper of four losses and three scores, 27 parameters: one story",
    "autoencoders/vae.py": "a model with three scores, densities and samples: one story",
    "energies/mpdr.py": "a model of three stages, 26 parameters, samples, a label-free score",
    "energies/nae.py": "a model of three ways to sample, 29 parameters, densities and samples",
}


@pytest.fixture(scope="module")
def house():
    spec = importlib.util.spec_from_file_location("house", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_functions_fit_on_a_screen(house):
    lengths = house.function_lengths()
    assert {place: n for place, n in lengths.items() if n > 50} == {}
    assert statistics.median(lengths.values()) <= 4
    assert house.quantile(list(lengths.values()), 0.9) <= 16


def test_constructors_stay_small(house):
    sizes = house.constructor_sizes()
    # NAE's own, without parts, are the paper's letters; its authors' code has two more.
    assert {name: n for name, n in sizes.items() if n > 29} == {"NAE": 31}
    # The sum grows with the number of detectors, the mean does not.
    assert statistics.median(sizes.values()) <= 19 and statistics.mean(sizes.values()) <= 18


def test_files_of_more_than_450_lines_are_known(house):
    assert {name for name, n in house.file_lengths().items() if n > 450} == set(LONG_FILES)


def test_families_import_nothing_from_each_other(house):
    families = {"autoencoders", "energies", "likelihoods", "neighbors"}
    pairs = house.imports_between_rooms()
    assert pairs["energies", "_core"] > 0
    assert [pair for pair in pairs if set(pair) <= families] == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f():\n    return 1\n", 1),
        ('def f():\n    """Doc.\n\n    More.\n    """\n\n    # Why.\n    return 1\n', 1),
        ("def f(\n    a,\n    b,\n):\n    x = [\n        a,\n    ]\n    return x\n", 4),
    ],
)
def test_lengths_count_code_alone(house, source, lines):
    import ast

    assert house.length_of(ast.parse(source).body[0], source.splitlines()) == lines
