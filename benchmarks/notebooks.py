"""Run the notebooks of the guide on tables that are not shipped, and write their pages.

    SKGENAD_DATA=DIR python benchmarks/notebooks.py    # a minute; writes docs/guide/table_*.rst

`DIR/tables` holds adult.csv, hypothyroid.csv and insurance_claims.csv; see mixed_tables.py. A
notebook is a script in docs/notebooks with cells that begin with "# %%", as those of the gallery.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from _measure import machine

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTEBOOKS, PAGES = DOCS / "notebooks", DOCS / "guide"
# How test_docs.py knows that a snippet cannot be run without the tables.
_NEEDS = "needs-tables"


class Cell(NamedTuple):
    """Text, and the code below it."""

    text: str
    code: str


def cells_of(path: Path) -> Iterator[Cell]:
    """Cells of a notebook; the first one's text is the docstring."""
    first, *others = re.split(r"^# %%\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = ast.get_docstring(ast.parse(first)) or ""
    yield Cell(text, first[first.index('"""', 3) + 3 :].strip())
    for cell in others:
        lines = cell.splitlines()
        n = next(i for i, line in enumerate(lines) if not line.startswith("#"))
        said = [line.removeprefix("#").removeprefix(" ") for line in lines[:n]]
        yield Cell("\n".join(said), "\n".join(lines[n:]).strip())


def page_of(path: Path) -> Path:
    """Page that a notebook's output stands on."""
    return PAGES / f"table_{path.stem}.rst"


def block(code: str) -> str:
    """Code as a page prints it."""
    return f".. code-block:: python\n    :class: {_NEEDS}\n\n{_indented(code)}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def write(path: Path) -> None:
    """Run a notebook and write its page and its pictures."""
    import matplotlib.pyplot as plt

    page, parts, names = page_of(path), [], {"__name__": "notebook"}
    for number, cell in enumerate(cells_of(path)):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            exec(compile(cell.code, path.name, "exec"), names)
        parts += [cell.text, block(cell.code)]
        if printed.getvalue():
            parts.append(f".. code-block:: text\n\n{_indented(printed.getvalue())}")
        for figure in map(plt.figure, plt.get_fignums()):
            picture = page.with_name(f"{page.stem}_{number}.png")
            figure.savefig(picture, dpi=90)
            parts.append(f".. image:: {picture.name}\n    :alt: What the code above draws.")
        plt.close("all")
    parts.append(f"Output of ``benchmarks/notebooks.py``, {date.today().isoformat()}, {machine()}.")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Write all pages."""
    mpl.use("Agg")
    for path in sorted(NOTEBOOKS.glob("*.py")):
        write(path)


if __name__ == "__main__":
    main()
