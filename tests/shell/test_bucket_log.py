"""A revision is announced when the state has it, never goes back, and the projector hears each entry once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson

from registry.core.effects import Effect
from registry.core.events import Event, RecordChanged, WriteCommitted
from registry.core.record import Record
from registry.shell.bucket_log import BucketLog
from registry.shell.entry import Entry


class Store:
    bucket = "b"


class World:
    """What is around a log: a core that learns, a connection that is full, a projector that notes what it hears."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.taken: list[int] = []
        self.log = BucketLog(Store(), self.decide, self.perform, self)  # type: ignore[arg-type]
        self.log._progress.advance(10)
        self.log._restored = True

    def decide(self, event: Event) -> list[Effect]:
        assert isinstance(event, RecordChanged | WriteCommitted)
        self.known[event.agent_id] = max(event.revision, self.known.get(event.agent_id, 0))
        return []

    async def perform(self, _: Iterable[Effect]) -> None:
        await self.gate.wait()

    def take(self, revision: int, record: Record | None) -> None:
        assert record is not None
        assert self.known[record.agent_id] >= revision, "the state has it first"
        assert self.log.revision >= revision
        self.taken.append(revision)

    async def pump(self) -> None:
        await self.gate.wait()

    def heard(self, revision: int) -> asyncio.Task[None]:
        """The log shows an entry."""
        value = orjson.dumps(record(revision).to_json())
        return asyncio.ensure_future(self.log._heard(Entry(f"a{revision}", revision, value, False, False, 0)))

    def acknowledged(self, revision: int) -> asyncio.Task[None]:
        """An own write is acknowledged."""
        fact = WriteCommitted(0.0, f"a{revision}", "", revision)
        return asyncio.ensure_future(self.log.committed(record(revision), fact))


def record(revision: int) -> Record:
    return Record(f"a{revision}", "trading_agent", ("trading",))


async def settled(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.gather(*tasks)


async def test_an_entry_that_has_to_wait_is_not_announced_again_after_later_ones() -> None:
    """The connection is full: what follows from an entry waits, and acknowledgements come meanwhile."""
    world = World()
    tasks = [world.heard(11)]
    await asyncio.sleep(0)
    tasks += [world.acknowledged(revision) for revision in (11, 12, 13)]
    await asyncio.sleep(0)
    assert world.log.revision == 13
    world.gate.set()
    await settled(*tasks)
    assert world.log.revision == 13
    assert world.taken == [11, 12, 13]


async def test_who_waits_for_a_revision_finds_it_in_the_state() -> None:
    world = World()
    waiting = [asyncio.ensure_future(world.log.reached(revision, 5.0)) for revision in (11, 12)]
    await asyncio.sleep(0)
    tasks = [world.acknowledged(11), world.heard(12)]
    assert await asyncio.gather(*waiting) == [True, True]
    assert world.known == {"a11": 11, "a12": 12}
    world.gate.set()
    await settled(*tasks)


async def test_an_own_write_that_is_not_the_next_entry_waits_for_the_log() -> None:
    world = World()
    world.gate.set()
    await world.acknowledged(12)
    assert (world.log.revision, world.taken, world.known) == (10, [], {"a12": 12})
    await world.heard(11)
    await world.heard(12)
    assert (world.log.revision, world.taken) == (12, [11, 12])


async def test_an_own_write_that_the_log_passes_over_is_told_all_the_same() -> None:
    """Newer revisions of the agent have pushed it out of the bucket before it was read."""
    world = World()
    world.gate.set()
    await world.acknowledged(12)
    await world.acknowledged(13)
    await world.heard(15)
    assert (world.log.revision, world.taken) == (15, [12, 13, 15])
    assert not world.log._own


async def test_an_entry_that_is_known_is_passed_by() -> None:
    world = World()
    world.gate.set()
    await world.heard(10)
    await world.acknowledged(11)
    await world.heard(11)
    assert (world.log.revision, world.taken) == (11, [11])
