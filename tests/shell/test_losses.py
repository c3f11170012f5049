"""Which lost assignments are published when a replica begins to lead, whatever its copy of the log has at first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from registry.core.assignment import EXPIRED, Assignment
from registry.shell.assignment_log import assignment_in, write_of
from registry.shell.entry import Entry
from registry.shell.losses import Losses
from tests.conftest import eventually

LOG = "registry_assignments:1"


@dataclass
class Extent:
    last: int


class Bucket:
    """A log of assignments that ends with `last`; its newest event in the stream is of `published`."""

    assignments = "registry_assignments"

    def __init__(self, last: int, published: int) -> None:
        self.last = last
        self.published = published

    async def made(self, _: str) -> str:
        return "1"

    async def extent(self, _: str) -> Extent:
        return Extent(self.last)

    async def newest_loss(self) -> str:
        return f"{LOG}:{self.published}"

    async def newest_revision(self, _: str) -> int:
        return self.last


class Outbox:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.ids: list[str] = []

    async def put(self, lane: str, event_id: str, make: Callable[[], Any]) -> None:
        self.ids.append(event_id)


class Messages:
    """Makes nothing of an event."""

    def loss(self, event: dict[str, Any]) -> None:
        return None


def lost(revision: int, pending: int = 0) -> Entry:
    one = Assignment(f"a{revision}", f"t{revision}", "a", 1, 1, 0.0, 1.0, None, revision - 1).end(EXPIRED, 2.0, "e")
    return Entry(
        key=one.assignment_id, revision=revision, value=write_of(one).value, removed=True, swept=False, pending=pending
    )


async def published(monkeypatch: pytest.MonkeyPatch, bucket: Bucket, log: list[Entry], later: list[int]) -> list[int]:
    """Return what is published of a log as it is read, and of what is heard later."""

    @asynccontextmanager
    async def reading(*_: Any) -> AsyncIterator[Callable[[], Awaitable[Entry]]]:
        entries = iter(log)

        async def next_entry() -> Entry:
            return next(entries)

        yield next_entry

    async def insist(work: Callable[[], Awaitable[None]]) -> None:
        await work()
        resumed.set()

    monkeypatch.setattr("registry.shell.losses.reading", reading)
    outbox, resumed = Outbox(), asyncio.Event()
    losses = Losses(bucket, Messages(), outbox)  # type: ignore[arg-type]
    publishing = asyncio.ensure_future(losses.publish(insist))
    await asyncio.wait_for(resumed.wait(), 5.0)
    for revision in later:
        assignment = assignment_in(lost(revision))
        assert assignment is not None
        losses.take(revision, assignment)
    expected = len(log) + len(later)
    try:
        await eventually(lambda: len(outbox.ids) >= expected)
    finally:
        publishing.cancel()
    return [int(event_id.rpartition(":")[2]) for event_id in outbox.ids]


async def test_a_copy_that_lags_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing more for now, and the log has."""
    log = [lost(48), lost(50)]
    assert await published(monkeypatch, Bucket(50, 40), log, [60]) == [48, 50, 60]


async def test_a_bucket_that_went_back_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its newest event is of a revision that it has not reached again."""
    assert await published(monkeypatch, Bucket(100, 500), [lost(100)], [102, 104]) == [100, 102, 104]
