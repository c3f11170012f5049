"""What a whole backup says: its lines one after the other, none of them missing and none there twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from agent_registry.backup.form import (
    MAX_LINE,
    BackupError,
    Header,
    Saved,
    SavedAgent,
    SavedPolicy,
    SavedRule,
    read_header,
    read_line,
)
from registry.core.status import Status


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream; of one that is too long only as much as shows that it is."""
    while line := stream.readline(MAX_LINE + 1):
        yield line


def read(stream: BinaryIO) -> tuple[Header, Iterator[Saved]]:
    """Return what the first line says, and what yields each agent, policy and rule, each once it was found right.

    Raises:
        BackupError: At the first line that is wrong; at the end, if there are not as many as the first one says.
    """
    lines = lines_of(stream)
    header = read_header(next(lines, b""))
    return header, _entries(header, lines)


def _entries(header: Header, lines: Iterable[bytes]) -> Iterator[Saved]:
    """Yield what the lines after the first one say; only keys and claims of them are remembered."""
    keys: dict[tuple[str, str], int] = {}
    claims: dict[str, int] = {}
    counts = {SavedAgent.kind: 0, SavedPolicy.kind: 0, SavedRule.kind: 0}
    number = 1
    for number, line in enumerate(lines, 2):
        saved = read_line(number, line)
        counts[saved.kind] += 1
        _check_unique(saved, keys, claims)
        yield saved
    for kind, noun, expected in (
        ("agent", "agents", header.agents),
        ("policy", "policies", header.policies),
        ("rule", "rules", header.rules),
    ):
        if counts[kind] != expected:
            what = "the backup is cut off" if counts[kind] < expected else "there are too many"
            raise BackupError(number, f"is the last one; {noun}: {counts[kind]}, and line 1 says {expected}: {what}")


def _check_unique(saved: Saved, keys: dict[tuple[str, str], int], claims: dict[str, int]) -> None:
    """Refuse a key that comes again, and a claim that would have two holders.

    Raises:
        BackupError: Naming the line that was first.
    """
    before = keys.setdefault((saved.kind, saved.key), saved.line)
    if before != saved.line:
        raise BackupError(saved.line, f"key: {saved.key!r} is that of line {before}, too; each stands there once")
    if not isinstance(saved, SavedAgent) or saved.record is None or saved.record.status is Status.OFFLINE:
        return
    for claim in saved.record.claims:
        before = claims.setdefault(claim, saved.line)
        if before != saved.line:
            raise BackupError(saved.line, f"record.claims: {claim!r} is claimed in line {before}, too; one may hold it")
