"""The README: its example runs as printed, its links lead somewhere, and it is short."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_and_finds_the_anomalies(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    auroc = re.search(r"AUROC (\S+)", capsys.readouterr().out)
    assert float(auroc[1]) > 0.9


def test_it_is_short_and_has_what_a_newcomer_looks_for():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert "For whom" in text and len(re.findall(r"^```sh$", text, re.M)) == 2  # two commands
    assert len(re.findall(r"^!\[", text, re.M)) == 1  # one picture
    assert len(re.findall(r"^\|(?:---:?\|)+$", text, re.M)) == 1  # one table
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 13  # ten lines, and imports


def test_what_it_links_to_is_there():
    links = re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    files = [link for link in links if not link.startswith("http")]
    assert len(files) > 20 and [f for f in files if not (README.parent / f).exists()] == []
