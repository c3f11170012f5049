"""Reads a Markdown page as what it says: sections with their tables and code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Block:
    """A fenced block: its language and its lines."""

    language: str
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines)


@dataclass
class Table:
    """A table: the header's cells, and rows of as many cells."""

    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    caption: str = ""
    """The paragraph before it."""

    def column(self, name: str) -> list[str]:
        """The cells under a header."""
        return [row[self.header.index(name)] for row in self.rows]


@dataclass
class Section:
    """What stands under one heading, up to the next one of any level."""

    level: int
    title: str
    lines: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Everything outside of code blocks."""
        return "\n".join(self.lines)

    def paragraph(self, start: str) -> str | None:
        """The paragraph that begins with `start`, on one line."""
        for paragraph in re.split(r"\n\n+", self.text):
            if paragraph.startswith(start):
                return " ".join(paragraph.split("\n"))
        return None

    def table_after(self, caption: str) -> Table:
        """The table whose paragraph before it is `caption`."""
        found = [table for table in self.tables if table.caption == caption]
        assert len(found) == 1, f"{len(found)} tables after {caption!r} in {self.title}"
        return found[0]


def parse(path: Path) -> list[Section]:
    """Return the sections of a page, in order."""
    sections, block = [Section(0, "")], None
    for line in path.read_text(encoding="utf-8").splitlines():
        here = sections[-1]
        if block is not None:
            if line == "```":
                block = None
            else:
                block.lines.append(line)
        elif line.startswith("```"):
            block = Block(line.removeprefix("```"))
            here.blocks.append(block)
        elif heading := re.fullmatch(r"(#+) (.+)", line):
            sections.append(Section(len(heading[1]), unquoted(heading[2])))
        else:
            here.lines.append(line)
    assert block is None, "a code block is not closed"
    for section in sections:
        section.tables = list(_tables(section.lines))
    return sections


def _tables(lines: list[str]) -> Iterator[Table]:
    table, caption = None, ""
    for line in lines:
        if not line.startswith("|"):
            if table is not None:
                yield table
            table = None
            caption = line or caption
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if table is None:
            table = Table(cells, caption=caption)
        elif set("".join(cells)) != {"-"}:
            assert len(cells) == len(table.header), f"{len(cells)} cells: {line}"
            table.rows.append(cells)
    if table is not None:
        yield table


def unquoted(cell: str) -> str:
    """A cell or heading without its backticks."""
    return cell.removeprefix("`").removesuffix("`")


def quoted(text: str) -> list[str]:
    """Everything between backticks."""
    return re.findall(r"`([^`]+)`", text)


def anchor(title: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
