"""What the files around the package say agrees with each other and with the package."""

import ast
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import skgenad

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def pins(name):
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text(name), re.MULTILINE))


def lower_bounds(requirements):
    found = (re.match(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in requirements)
    return {bound[1]: bound[2] for bound in found if bound}


# ---- one version ----------------------------------------------------------------------------


def test_the_version_is_written_in_one_place():
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    source = text(PYPROJECT["tool"]["hatch"]["version"]["path"])
    assert re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE) == [skgenad.__version__]


def test_an_installed_package_has_that_version():
    try:
        installed = version("skgenad")
    except PackageNotFoundError:
        pytest.skip("run from a source tree")
    assert installed == skgenad.__version__


def test_the_citation_is_of_this_version():
    cited = re.search(r"^version: (\S+)$", text("CITATION.cff"), re.MULTILINE)[1]
    assert cited == skgenad.__version__.removesuffix(".dev0")


# ---- the oldest versions --------------------------------------------------------------------


def test_the_oldest_pins_are_the_lower_bounds_that_are_promised():
    promised = lower_bounds(PROJECT["dependencies"])
    for extra in ("flows", "images"):
        promised |= lower_bounds(PROJECT["optional-dependencies"][extra])
    oldest = pins("constraints-oldest.txt")
    assert promised.keys() <= oldest.keys()
    for name, bound in promised.items():
        assert f"{oldest[name]}.0".startswith(f"{bound}."), name


def test_every_core_dependency_has_a_lower_and_an_upper_bound():
    assert len(lower_bounds(PROJECT["dependencies"])) == len(PROJECT["dependencies"])
    assert all(re.search(r",<\d+$", requirement) for requirement in PROJECT["dependencies"])


def test_the_short_suite_names_tests_that_there_are():
    listed = text("tests/short_suite.txt").split()
    assert listed and all((ROOT / path).is_file() for path in listed)


# ---- tasks ----------------------------------------------------------------------------------


def sessions():
    tree = ast.parse(text("noxfile.py"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_task_is_explained_to_contributors():
    explained = set(re.findall(r"^nox -s (\w+)", text("CONTRIBUTING.md"), re.MULTILINE))
    assert explained == sessions()


@pytest.mark.parametrize("command", ["sphinx-build", "@tests/short_suite.txt", "mypy", "codespell"])
def test_ci_runs_what_the_tasks_run(command):
    assert command in text(".ci/run") and command in text("noxfile.py")


def test_every_optional_dependency_of_a_task_is_declared():
    extras = set(re.findall(r'"(?:-e", ")?\.\[(\w+)\]"', text("noxfile.py")))
    assert extras and extras <= PROJECT["optional-dependencies"].keys()
