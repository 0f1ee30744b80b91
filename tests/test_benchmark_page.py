"""The report as a page: whole, closed, escaped, the same as in Markdown, and sorted by a click."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from importlib import resources

import pytest

from skgenad.benchmark import report
from skgenad.benchmark._document import Code, Heading, Listing, Paragraph, Strong, Table
from skgenad.benchmark._html import page
from tests.test_benchmark_ranking import SMALL, make_many
from tests.test_benchmark_report import invoke, write_rows

EVIL = "<script>alert(1)</script> & \"quoted\" 'too'"
XHTML = "{http://www.w3.org/1999/xhtml}"


def read(text):
    """Read a page as XML, which has it that all tags are closed and all text is escaped."""
    return ElementTree.fromstring(text)


def words(element):
    return re.sub(r"\s+", " ", "".join(element.itertext())).strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = make_many(8)
    rows["dataset"] = rows["dataset"].replace({"set 1": EVIL})
    rows.loc[rows.index[-1], ["status", "message"]] = ["failed", f"\x1b[31m{EVIL}\x00"]
    return report(write_rows(folder / "rows.csv", rows), folder, reference="d0", html=True)


@pytest.fixture(scope="module")
def text(made):
    return made.html.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_nothing_of_rows_is_markup(text):
    root = read(text)
    assert [words(e) for e in root.iter(f"{XHTML}script")] == [words_of("_page.js")]
    assert text.count("<script>") == 1 and "alert(1)</script>" not in text
    cells = [words(cell) for cell in root.iter(f"{XHTML}td")]
    assert EVIL in cells  # in the table of data sets, as it is written
    assert any(EVIL in cell and cell.startswith("\ufffd[31m") for cell in cells)  # a message


def words_of(name):
    source = resources.files("skgenad.benchmark").joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", source).strip()


def test_the_page_asks_for_nothing_and_says_so(text):
    root = read(text)
    addresses = [e.get(name) for e in root.iter() for name in ("src", "href") if e.get(name)]
    assert len(addresses) >= 3
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not {e.tag.removeprefix(XHTML) for e in root.iter()} & {"link", "iframe", "object"}
    assert "url(" not in words_of("_page.css") and "@import" not in words_of("_page.css")
    (policy,) = [e.get("content") for e in root.iter(f"{XHTML}meta") if e.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy and "script-src 'sha256-" in policy


def test_the_policy_allows_the_style_and_the_script_that_are_there(text):
    root = read(text)
    for tag in ("style", "script"):
        (element,) = root.iter(f"{XHTML}{tag}")
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text.replace("&#x27;", "'")


def test_pictures_and_files_are_inside_the_page(text, made):
    root, folder = read(text), made.path.parent
    (picture,) = root.iter(f"{XHTML}img")
    kind, _, data = picture.get("src").partition(";base64,")
    assert kind == "data:image/svg+xml" and picture.get("alt") == "critical-difference diagram"
    assert base64.b64decode(data) == (folder / "critical_differences_s_clean.svg").read_bytes()
    (file,) = [e for e in root.iter(f"{XHTML}a") if e.get("download")]
    assert file.get("download") == "p_values_s_clean.csv"
    data = file.get("href").removeprefix("data:text/csv;base64,")
    assert base64.b64decode(data) == (folder / "p_values_s_clean.csv").read_bytes()


def test_the_page_says_what_the_markdown_says(text, made):
    root = read(text)
    plain = made.path.read_text(encoding="utf-8").replace("\\|", "|")
    titles = [words(e) for e in root.iter() if re.fullmatch(f"{XHTML}h[123]", e.tag)]
    assert titles == re.findall(r"^#+ (.*)$", plain, re.M)
    tables = re.findall(r"(?:^\|.*\n)+", plain, re.M)
    found = list(root.iter(f"{XHTML}table"))
    assert len(found) == len(tables) >= 4
    for element, lines in zip(found, tables, strict=True):
        rows = [line.strip("| \n").split(" | ") for line in lines.splitlines()]
        cells = [[words(cell) for cell in row] for row in element.iter(f"{XHTML}tr")]
        bare = [[cell.replace("**", "").strip() for cell in row] for row in rows]
        if "\x1b" not in lines:
            assert cells == [bare[0], *bare[2:]]
    body = words(root)
    for line in plain.splitlines():
        if line and line[0] not in "#|!-":
            shown = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line).replace("`", "")
            assert shown in body


def test_no_page_is_written_unless_it_is_asked_for(tmp_path):
    rows = write_rows(tmp_path / "rows.csv", SMALL)
    assert report(rows, tmp_path).html is None
    assert not list(tmp_path.glob("*.html"))
    plain = invoke("report", rows, "--out", tmp_path)
    assert "browser" not in plain.stdout and not list(tmp_path.glob("*.html"))
    result = invoke("report", rows, "--out", tmp_path, "--html")
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "report.html") in result.stdout.replace("\n", "")
    read((tmp_path / "report.html").read_text(encoding="utf-8"))


NUMBERS = ["0.9", "10.25 ± 0.1", "failed", "-2 to +3", "9.9e-04", "12 / 0 / 1", "+0.5"]
NAMES = ["set 10", "set 9", "6_cardio", "Zoo", "apple", "b", "10_cover"]


def make_page(folder):
    rows = [[name, Strong(number)] for name, number in zip(NAMES, NUMBERS, strict=True)]
    blocks = [Heading("t", 1), Paragraph([Code("x")]), Table(["name", "n"], rows)]
    return page([*blocks, Listing([["a"]]), Table(["empty"], [])], folder)


def test_cells_of_numbers_have_the_value_they_are_sorted_by(tmp_path):
    first, empty = read(make_page(tmp_path)).iter(f"{XHTML}table")
    cells = [row[1] for row in first.find(f"{XHTML}tbody")]
    values = [cell.get("data-value") for cell in cells]
    assert values == ["0.9", "10.25", None, "-2.0", "0.00099", "12.0", "0.5"]
    assert all("best" in cell.get("class") for cell in cells)
    heads = [[h.get("data-kind") for h in table.iter(f"{XHTML}th")] for table in (first, empty)]
    assert heads == [["text", "number"], ["text"]]
    assert not any(row[0].get("data-value") for row in first.find(f"{XHTML}tbody"))


STUB = """
const data = JSON.parse(process.argv[1]);
const rows = data.map((cells) => ({ cells: cells.map(([textContent, value]) => (
  { textContent, dataset: value === null ? {} : { value } })) }));
const heads = ["text", "number"].map((kind) => (
  { dataset: { kind }, ariaSort: "none", addEventListener(_, f) { this.click = f; } }));
const body = { rows, append(...sorted) { this.rows = sorted; } };
const table = { tHead: { rows: [{ cells: heads }] }, tBodies: [body] };
globalThis.document = { querySelectorAll: () => [table] };
"""
CLICKS = """
const seen = [];
for (const column of [1, 1, 0, 0]) {
  heads[column].click();
  seen.push([heads.map((h) => h.ariaSort), body.rows.map((r) => r.cells[column].textContent)]);
}
console.log(JSON.stringify(seen));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js runs the page's script")
def test_a_click_sorts_numbers_as_numbers_and_what_is_none_stays_last(tmp_path):
    root = read(make_page(tmp_path))
    (script,) = root.iter(f"{XHTML}script")
    body = next(root.iter(f"{XHTML}tbody"))
    cells = [[[words(cell), cell.get("data-value")] for cell in row] for row in body]
    source = script.text.replace('"use strict";', "", 1)
    done = subprocess.run(
        ["node", "-e", STUB + source + CLICKS, json.dumps(cells)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (down, falling), (up, rising), (a_to_z, names), (z_to_a, back) = json.loads(done.stdout)
    numbers = ["12 / 0 / 1", "10.25 ± 0.1", "0.9", "+0.5", "9.9e-04", "-2 to +3"]
    assert falling == [*numbers, "failed"] and down == ["none", "descending"]
    assert rising == [*numbers[::-1], "failed"] and up == ["none", "ascending"]
    assert names == ["6_cardio", "10_cover", "apple", "b", "set 9", "set 10", "Zoo"]
    assert back == names[::-1] and (a_to_z[0], z_to_a[0]) == ("ascending", "descending")
