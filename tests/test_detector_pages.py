"""Pages of detectors: idea, equation, picture, example, cost, limits; all figures are measured."""

import re
from pathlib import Path

import pytest

from ._settings import EVERY

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "guide"
INDEX = (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
# Not models, but ways to calibrate any, and to use any on sounds: their pages are of that.
NO_PAGE = {"CrossCalibrated", "GroupedDetector"}
PAGE_OF = {
    name: page
    for name, page in re.findall(r"^:class:`skgenad\.(\w+)` .*:doc:`guide/(\w+)`", INDEX, re.M)
    if name not in NO_PAGE
}
PAGES = sorted(set(PAGE_OF.values()))
MEASURED = ("Cost", "When not to use it")


def read(page):
    return (GUIDE / f"{page}.rst").read_text(encoding="utf-8")


def section(text, title):
    """Return what is below a title, down to the next one."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n-+\n|\Z)", text, re.M | re.S)
    return found[1].strip() if found else ""


def test_every_detector_has_a_page():
    assert PAGE_OF.keys() == {c.__name__ for c in EVERY} - NO_PAGE
    assert [page for page in PAGES if not (GUIDE / f"{page}.rst").exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_idea_equation_picture_example_cost_and_limits(page):
    text = read(page)
    assert len(text.split(".. ", 1)[0].split()) > 20, "the idea, before all else"
    assert ".. math::" in text
    picture = re.search(r"^\.\. plot::\n((?:    :.*\n)+)\n((?:    .*\n|\n)+)", text, re.M)
    assert ":alt: " in picture[1] and ":caption: " in picture[1]
    example = text.index(".. code-block:: python")
    assert example < text.index(section(text, "Cost"))
    for title in MEASURED:
        assert len(section(text, title).split()) > 25, title


@pytest.mark.parametrize(("name", "page"), PAGE_OF.items())
def test_the_picture_and_an_example_of_a_page_are_of_its_detectors(name, page):
    text = read(page)
    pictures = "".join(re.findall(r"^\.\. plot::\n(?:(?:    .*)?\n)+", text, re.M))
    examples = "".join(re.findall(r"^\.\. code-block:: python\n(?:(?:    .*)?\n)+", text, re.M))
    assert f"{name}(" in pictures
    assert re.search(rf"\b{name}\b", examples)


def numbers_of(text):
    """List the numbers of a text, and how many decimals each has; those in names are none."""
    found = re.findall(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?![\w]|-\w)", text)
    plain = [number.replace(",", "").lstrip("+") for number in found]
    return [(float(n), len(n.partition(".")[2])) for n in plain]


def sources_of(text):
    return re.findall(r"``(benchmarks/results/\w+\.md)``", text)


def unmeasured(text):
    """List the numbers of a text that none of the results it names has, not even rounded."""
    measured = {
        abs(value)
        for source in sources_of(text)
        for value, _ in numbers_of((ROOT / source).read_text(encoding="utf-8"))
    }
    claims = re.sub(r"``.*?``|\d{4}-\d\d-\d\d", "", text, flags=re.S)
    return [
        value
        for value, digits in numbers_of(claims)
        if not any(abs(abs(value) - found) <= 0.5001 * 10.0**-digits for found in measured)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_figures_of_costs_and_limits_are_those_of_the_results_they_name(page):
    text = "\n".join(section(read(page), title) for title in MEASURED)
    assert sources_of(text) != []
    assert unmeasured(text) == []


def test_a_figure_that_nobody_measured_is_found():
    text = "It takes 1.6 s for 5,000 rows and 987.6 s for others (``benchmarks/results/speed.md``)"
    assert unmeasured(text) == [987.6]
