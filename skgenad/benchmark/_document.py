"""What a report is made of, before it is written as Markdown or as a page of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Strong:
    """Text that stands out."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text as it is typed."""

    text: str


@dataclass(frozen=True)
class Link:
    """Text that leads to a file beside the report, by its name."""

    text: str
    file: str


Inline = str | Strong | Code | Link


@dataclass(frozen=True)
class Heading:
    """A title; the one of level 1 is the document's."""

    text: str
    level: int


@dataclass(frozen=True)
class Paragraph:
    """Pieces of text, one after the other."""

    pieces: Sequence[Inline]


@dataclass(frozen=True)
class Table:
    """Titles of columns, and rows of as many cells; the first column has names."""

    header: Sequence[str]
    rows: Sequence[Sequence[Inline]]


@dataclass(frozen=True)
class Picture:
    """A picture beside the report: the name of a PNG and an SVG file, without their suffix."""

    alt: str
    stem: str


@dataclass(frozen=True)
class Listing:
    """A list of items, each of which is like a paragraph."""

    items: Sequence[Sequence[Inline]]


Block = Heading | Paragraph | Table | Picture | Listing


def strong(text: str, condition: object) -> Inline:
    """Let a cell stand out where a condition holds."""
    return Strong(text) if condition else text
