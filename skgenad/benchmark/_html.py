"""A document written as one page of HTML that needs no other file, no library and no network.

Styles and the script that sorts tables are inside it, pictures and files are ``data:`` addresses.
All text is escaped, and the page's own security policy lets nothing be fetched and no other script
be run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from ._document import (
    Block,
    Code,
    Heading,
    Inline,
    Link,
    Listing,
    Paragraph,
    Picture,
    Strong,
    Table,
)

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?(?=$|\s)")
# Cells of a column of numbers that have none.
_NO_NUMBER = {"", "failed"}
# What neither XML nor a reader has a use for; messages of errors may hold them.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


def page(blocks: Sequence[Block], folder: Path) -> str:
    """Write a document as one page.

    Parameters
    ----------
    blocks : sequence of blocks
        The document, as `skgenad.benchmark._document` has it.
    folder : Path
        Where the files are that it names.

    Returns
    -------
    text : str
        HTML that is well-formed XML, too.

    Examples
    --------
    >>> from pathlib import Path
    >>> from skgenad.benchmark._document import Heading, Paragraph
    >>> from skgenad.benchmark._html import page
    >>> text = page([Heading("Ranks", 1), Paragraph(["a < b"])], Path("."))
    >>> "<h1>Ranks</h1>" in text and "<p>a &lt; b</p>" in text
    True
    """
    title = next(block.text for block in blocks if isinstance(block, Heading))
    style, script = _read("_page.css"), _read("_page.js")
    allowed = f"style-src {_digest(style)}; script-src {_digest(script)}"
    policy = f"default-src 'none'; img-src data:; {allowed}"
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{_escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(_body(blocks, folder))
        + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _escape(text: str) -> str:
    return html.escape(_CONTROLS.sub("\ufffd", text))


def _body(blocks: Iterable[Block], folder: Path) -> Iterable[str]:
    """Write the blocks, with links to the sections before the first of these."""
    blocks = list(blocks)
    sections = [b.text for b in blocks if isinstance(b, Heading) and b.level == 2]
    links = "".join(
        f'<li><a href="#section-{k}">{_escape(text)}</a></li>' for k, text in enumerate(sections)
    )
    count = 0
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2:
            if not count:
                yield f"<nav><ul>{links}</ul></nav>"
            yield f'<h2 id="section-{count}">{_escape(block.text)}</h2>'
            count += 1
        else:
            yield _block(block, folder)


def _block(block: Block, folder: Path) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{_escape(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p>{_line(block.pieces, folder)}</p>"
        case Picture():
            picture = _data(folder / f"{block.stem}.svg", "image/svg+xml")
            return f'<figure><img alt="{_escape(block.alt)}" src="{picture}"/></figure>'
        case Listing():
            items = "\n".join(f"<li>{_line(item, folder)}</li>" for item in block.items)
            return f'<ul class="settings">\n{items}\n</ul>'
        case Table():
            return _table(block, folder)


def _line(pieces: Iterable[Inline], folder: Path) -> str:
    return "".join(_inline(piece, folder) for piece in pieces)


def _inline(piece: Inline, folder: Path) -> str:
    match piece:
        case Strong():
            return f"<strong>{_escape(piece.text)}</strong>"
        case Code():
            return f"<code>{_escape(piece.text)}</code>"
        case Link():
            data = _data(folder / piece.file, "text/csv")
            return f'<a download="{_escape(piece.file)}" href="{data}">{_escape(piece.text)}</a>'
        case _:
            return _escape(piece)


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _table(table: Table, folder: Path) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    kinds = [_kind(column) for column in columns]
    heads = "".join(
        f'<th scope="col" class="{kind}" data-kind="{kind}" aria-sort="none">'
        f'<button type="button">{_escape(title)}</button></th>'
        for title, kind in zip(table.header, kinds, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(map(_cell, row, kinds, [folder] * len(row))) + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _text(cell: Inline) -> str:
    return cell if isinstance(cell, str) else cell.text


def _kind(column: Sequence[Inline]) -> str:
    """Say whether a column is one of numbers, which a few cells may lack."""
    texts = [_text(cell) for cell in column if _text(cell) not in _NO_NUMBER]
    return "number" if texts and all(map(_NUMBER.match, texts)) else "text"


def _cell(cell: Inline, kind: str, folder: Path) -> str:
    found = _NUMBER.match(_text(cell)) if kind == "number" else None
    value = f' data-value="{float(found[0])!r}"' if found else ""
    best = " best" if isinstance(cell, Strong) else ""
    inside = _escape(_text(cell)) if best else _inline(cell, folder)
    return f'<td class="{kind}{best}"{value}>{inside}</td>'
