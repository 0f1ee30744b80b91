"""Tables written as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    r"""Write a Markdown table: the first column to the left, the others to the right.

    Parameters
    ----------
    header : sequence of str
        Titles of the columns.
    lines : iterable of sequences
        Cells; whatever they hold is written with `str`, and vertical bars are escaped.

    Returns
    -------
    text : str
        Lines that end with a newline.

    Examples
    --------
    >>> from skgenad.benchmark._markdown import table
    >>> print(table(["name", "n"], [["a|b", 1]]), end="")
    | name | n |
    |---|---:|
    | a\|b | 1 |
    """
    rule = "|---" + "|---:" * (len(header) - 1) + "|"
    rows = [_line(header), rule, *(_line(line) for line in lines)]
    return "\n".join(rows) + "\n"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def bold(text: str, condition: object) -> str:
    """Set a cell in bold type where a condition holds."""
    return f"**{text}**" if condition else text
