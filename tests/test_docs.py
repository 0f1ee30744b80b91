"""The documentation: its snippets run, it names what is public, and no parameter that is not."""

import dataclasses
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest

from skgenad._core.training import run_stage

from ._settings import EVERY
from .test_docstrings import OBJECTS
from .test_layering import MAY_IMPORT

DOCS = Path(__file__).resolve().parents[1] / "docs"
MADE = {"_build", "auto_examples", "generated"}  # by Sphinx
PAGES = {
    str(path.relative_to(DOCS)): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.rst"))
    if not MADE & set(path.relative_to(DOCS).parts)
}
# What is printed, and what a comment adds so that this runs.
BLOCK = re.compile(r"( *)\.\. (code-block:: python|snippet-setup)")
# Snippets that are not run, by what they say they need.
NOT_RUN = {"needs-network": 6, "needs-nonconform": 1, "needs-tables": 13, "needs-torchvision": 1}
NOT_RUN |= {"needs-spark": 2}
# Those of tests/test_watching.py.
NOT_RUN |= {"needs-rich": 1, "needs-tensorboard": 1, "needs-mlflow": 1}
MOST_STEPS = 20


class Snippet(NamedTuple):
    """Code of a page: the line before it, and what it needs."""

    line: int
    code: str
    needs: list[str]


def snippets_of(page: str) -> Iterator[Snippet]:
    lines = page.splitlines()
    for number, line in enumerate(lines, start=1):
        if not (found := BLOCK.fullmatch(line)):
            continue
        margin = found[1] + " "
        below = [text if text.startswith(margin) or not text else None for text in lines[number:]]
        block = list(takewhile(lambda text: text is not None, below))
        options = list(takewhile(str.strip, block))
        code = inspect.cleandoc("\n".join(block[len(options) :]))
        needs = re.findall(r"\bneeds-\w+", " ".join(options))
        yield Snippet(number + len(options) + 1, code, needs)


WITH_CODE = [name for name, page in PAGES.items() if list(snippets_of(page))]
# These are run where the documentation is built.
AT_LENGTH = {"guide/benchmark.rst", "guide/flows.rst", "guide/likelihood_ratio.rst"}


@pytest.fixture
def short_stages(monkeypatch):
    """Let stages end after a few steps: pages show what can be written, not how good it is."""

    def shortened(module, stage, *args, **kwargs):
        short = dataclasses.replace(stage, n_steps=min(stage.n_steps, MOST_STEPS))
        return run_stage(module, short, *args, **kwargs)

    monkeypatch.setattr("skgenad._core.running.run_stage", shortened)


@pytest.fixture
def _no_figure_stays():
    yield
    plt.close("all")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in AT_LENGTH else []) for n in WITH_CODE],
)
def test_the_snippets_of_a_page_run_one_after_the_other(
    name, short_stages, tmp_path, monkeypatch, _no_figure_stays
):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "snippets"}
    for snippet in snippets_of(PAGES[name]):
        if not snippet.needs:
            exec(compile("\n" * snippet.line + snippet.code, name, "exec"), namespace)


def test_snippets_that_are_not_run_are_few_and_known():
    snippets = [snippet for page in PAGES.values() for snippet in snippets_of(page)]
    assert Counter(need for snippet in snippets for need in snippet.needs) == NOT_RUN
    assert len(snippets) > 50


def test_snippets_are_found_as_they_are_printed():
    block = "    :class: needs-x\n\n    a = 1\n\n    if a:\n        b\n\n"
    page = f"Text\n\n.. code-block:: python\n{block}End"
    assert list(snippets_of(page)) == [Snippet(5, "a = 1\n\nif a:\n    b", ["needs-x"])]


def test_every_example_has_a_place_in_the_gallery():
    conf = (DOCS / "conf.py").read_text(encoding="utf-8")
    names = [path.stem.removeprefix("plot_") for path in (DOCS / "examples").glob("plot_*.py")]
    assert names and [name for name in names if f'"{name}"' not in conf] == []


def test_lines_of_snippets_are_as_wide_as_the_page_at_most():
    snippets = [(name, snippet) for name in WITH_CODE for snippet in snippets_of(PAGES[name])]
    lines = [(name, line) for name, snippet in snippets for line in snippet.code.splitlines()]
    assert [(name, line) for name, line in lines if len(line) > 100] == []


@pytest.mark.parametrize("name", PAGES)
def test_no_code_is_printed_in_a_form_that_is_not_run(name):
    assert ">>>" not in PAGES[name]
    assert not re.search(r"(?<!:)::\n\n +(import|from) ", PAGES[name])


def test_pages_of_notebooks_show_todays_cells(monkeypatch):
    monkeypatch.syspath_prepend(DOCS.parent / "benchmarks")
    notebooks = importlib.import_module("notebooks")
    paths = sorted(notebooks.NOTEBOOKS.glob("*.py"))
    assert len(paths) == 3
    for path in paths:
        page = notebooks.page_of(path).read_text(encoding="utf-8")
        for cell in notebooks.cells_of(path):
            assert cell.text in page and notebooks.block(cell.code) in page, path.name


def listed(page: str) -> set[str]:
    """Names of the tables of a page of the reference, with their modules."""
    module, names = "", set()
    for line in page.splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r"    \w+", line):
            names.add(f"{module}.{line.strip()}")
    return names


def test_the_reference_names_every_public_object_and_no_other():
    documented = listed(PAGES["api.rst"])
    errors = {path for path, thing in OBJECTS.items() if path.endswith("Warning")}
    assert OBJECTS.keys() - errors - documented == set()
    assert documented - OBJECTS.keys() == set()


def test_the_first_page_and_the_readme_name_every_detector():
    for page in (PAGES["index.rst"], (DOCS.parent / "README.md").read_text(encoding="utf-8")):
        assert [c.__name__ for c in EVERY if not re.search(rf"\b{c.__name__}\b", page)] == []


def test_the_architecture_page_and_the_contributors_page_name_every_room():
    rooms = MAY_IMPORT.keys() - {"_extras"}
    contributing = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert {room for room in rooms if f"``{room}``" not in PAGES["architecture.rst"]} == set()
    assert {room for room in rooms if f"`{room}`" not in contributing} == set()


def test_the_architecture_page_names_modules_of_the_core_that_there_are():
    page = PAGES["architecture.rst"]
    table = page[page.index("from the bottom up") : page.index("A row's journey")]
    rows = [line[:20] for line in table.splitlines() if line.startswith("``")]
    modules = {name for row in rows for name in re.findall(r"``(\w+)``", row)}
    there = {path.stem for path in (DOCS.parent / "skgenad" / "_core").glob("*.py")}
    assert len(modules) > 10 and modules <= there


def names() -> set[str]:
    """Names of all public objects, of what they have, and of their parameters."""
    found = set()
    for path, thing in OBJECTS.items():
        found |= {*path.split("."), *dir(thing)}
        members = (
            [m for _, m in inspect.getmembers(thing, callable)] if inspect.isclass(thing) else []
        )
        for function in [thing, *members]:
            try:
                found |= inspect.signature(function).parameters.keys()
            except (TypeError, ValueError):  # written in C
                continue
    return found


NAMES = names()
# Names that are not of skgenad: of scikit-learn, torch, the environment, a history's columns.
OTHERS = {"scoring", "refit", "y", "OMP_NUM_THREADS", "n_neighbors", "novelty", "validation_loss"}
OTHERS |= {"enable_metadata_routing", "error_score", "mmap_mode", "return_train_score"}
OTHERS |= {"add_indicator", "handle_unknown", "min_frequency", "missing_values", "sparse_output"}
OTHERS |= {"class_weight", "strategy"}
# Of Spark.
OTHERS |= {"predict_batch_udf"}
# Those of skorch.
OTHERS |= {"at", "dur", "f_params", "monitor", "net", "on_train", "patience", "training"}
OTHERS |= {"state_dict", "load_state_dict", "fitted_estimator", "max_propagation_depth"}
OTHERS |= {"train_loss", "train_loss_best", "valid_loss", "valid_loss_best"}


def spoken_of(page: str) -> set[str]:
    """What a page calls a parameter, or writes as one word that can only be a name."""
    literals = re.findall(r"``([^`]+)``", page)
    assigned = {name for literal in literals for name in re.findall(r"(\w+)=", literal)}
    words = {literal for literal in literals if re.fullmatch(r"[a-z]+(_+[a-z]+)+", literal)}
    return {name.rpartition("__")[2] for name in assigned | words}


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("guide")])
def test_names_that_a_page_of_the_guide_speaks_of_are_there(name):
    assert spoken_of(PAGES[name]) - NAMES - OTHERS == set()


def test_names_are_found_where_a_page_speaks_of_them():
    page = "``Chain(2, noise=0.1)``, ``no_such_name``, ``a__b=1``; ``fit`` and ``x <- x``."
    assert spoken_of(page) == {"noise", "no_such_name", "b"}
