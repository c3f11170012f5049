"""Tables that fit their window: on a narrow one columns give way, and no name is broken in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAP = 2
"""Spaces between two columns."""

LONGEST_WORD = 32
"""Characters for which a column that wraps makes room in one piece; longer words are broken."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    rank: int = 0
    """When there is no room for all, the highest goes first; 0 stays."""
    wraps: bool = False
    """Whether its cells may take several lines; they break between words."""
    least: int = 0
    """Characters below which wrapping makes no sense."""
    right: bool = False


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int) -> Table:
    """Return a table in the style of the `kubectl` and `nats` command lines: no lines, a plain heading.

    Args:
        columns: All columns.
        rows: A cell for each column.
        width: Columns of the window. What needs more even so is wider than it.
    """
    cells = [[_text(row[index]) for row in rows] for index in range(len(columns))]
    natural = [max(cell_len(column.name), *(cell.cell_len for cell in cells[i]), 0) for i, column in enumerate(columns)]
    least = [_least(column, cells[i]) if column.wraps else natural[i] for i, column in enumerate(columns)]
    kept = list(range(len(columns)))
    while _total(least, kept) > width and any(columns[i].rank for i in kept):
        kept.remove(max(kept, key=lambda i: columns[i].rank))
    spare = max(0, width - _total(least, kept))
    widths = dict(zip(kept, (least[i] for i in kept), strict=True))
    for i in sorted(kept, key=lambda i: columns[i].rank):
        more = min(spare, natural[i] - widths[i])
        widths[i], spare = widths[i] + more, spare - more
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0), width=_total(widths, kept))
    for i in kept:
        table.add_column(
            columns[i].name, width=widths[i], overflow="fold", justify="right" if columns[i].right else "left"
        )
    for number in range(len(rows)):
        table.add_row(*(cells[i][number] for i in kept))
    lost = [column.name for i, column in enumerate(columns) if i not in kept]
    if lost:
        table.caption = Text(f"no room for {', '.join(lost)}", style="dim")
        table.caption_justify = "left"
    return table


def _total(widths: Sequence[int] | dict[int, int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + GAP * (len(kept) - 1)


def _least(column: Column, cells: Sequence[Text]) -> int:
    """Return the fewest characters in which a column that wraps can be read."""
    words = [word for cell in cells for word in cell.plain.split()]
    longest = min(LONGEST_WORD, max(map(cell_len, words), default=0))
    return max(column.least, len(column.name), longest)


def _text(cell: str | Text) -> Text:
    return Text(cell) if isinstance(cell, str) else cell
