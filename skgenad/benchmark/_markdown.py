"""Tables and whole documents written as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ._document import Block, Code, Heading, Inline, Link, Listing, Paragraph, Picture, Strong


def document(blocks: Iterable[Block]) -> str:
    """Write a document as Markdown, which has its pictures and files beside it."""
    return "\n".join(_block(block) for block in blocks)


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}\n"
        case Paragraph():
            return _line_of(block.pieces) + "\n"
        case Picture():
            return f"![{block.alt}]({block.stem}.png)\n"
        case Listing():
            return "".join(f"- {_line_of(item)}\n" for item in block.items)
        case _:
            return table(block.header, ([_inline(cell) for cell in row] for row in block.rows))


def _line_of(pieces: Sequence[Inline]) -> str:
    return "".join(map(_inline, pieces))


def _inline(piece: Inline) -> str:
    match piece:
        case Strong():
            return bold(piece.text, True)
        case Code():
            return f"`{piece.text}`"
        case Link():
            return f"[{piece.text}]({piece.file})"
        case _:
            return piece


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
