"""Where a command's words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


PIPE_WIDTH = 10_000
"""Columns of a table that goes to a file or a pipe, where nothing has to fit a window."""


def print_table(make: Callable[[int], RenderableType]) -> None:
    """Print a table, or what has some in it: as wide as the window, or in a pipe as wide as it likes.

    In a pipe no line ends in spaces.

    Args:
        make: Makes it for so many columns.
    """
    console = screen()
    table = make(console.width)
    if console.is_terminal:
        console.print(table, crop=False)
        return
    with console.capture() as printed:
        console.print(table, crop=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))
    sys.stdout.flush()


def screen() -> Console:
    """Return the console for results."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(highlight=False, width=wide)


def emit(document: Any) -> None:
    """Print one JSON document, indented so that people can read it too."""
    sys.stdout.write(json.dumps(plain(document), indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def emit_line(document: Any) -> None:
    """Print one JSON document on one line, at once, for a pipe that follows along."""
    sys.stdout.write(json.dumps(plain(document), separators=(",", ":"), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """Return the wire's JSON form of what the SDK returns."""
    if hasattr(value, "to_wire"):
        return value.to_wire()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
