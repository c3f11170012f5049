"""What is put into an outbox is in the stream once and in order: a stream and a network that do their worst.

The real stream is in `tests/contract/test_exactly_once.py`; here chance decides what is lost, late, or somebody else's,
and when leaders die, many times over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from registry.shell import outbox
from registry.shell.acks import Ack
from registry.shell.jetstream_nats import StoreError
from registry.shell.outbox import Mark, Message, Outbox

OnAck = Callable[[Ack], Awaitable[None]]
Copy = tuple[str, str | None, OnAck]
"""A message on its way: id, the end it expects, whom to tell."""

BUCKET = "b"


class Stream:
    """A stream, as nats-server has it, with a network before it."""

    bucket = BUCKET
    events = "EVENTS"

    def __init__(self) -> None:
        self.ids: list[str] = []
        """Of the messages in it; empty for a stranger's."""
        self.remembers: set[str] = set()
        """Ids whose second copy is dropped."""
        self.log = 0
        """Newest revision of the log."""
        self.wire: list[Copy] = []
        self.away = False

    async def publish_event(self, subject: str, payload: bytes, headers: dict[str, str], on_ack: OnAck) -> None:
        self.wire.append((headers["Nats-Msg-Id"], headers.get("Nats-Expected-Last-Sequence"), on_ack))

    async def arrive(self, copy: Copy, heard: bool = True) -> None:
        """Take a copy or refuse it, and say so if the answer is heard."""
        event_id, expected, on_ack = copy
        if expected is not None and int(expected) != len(self.ids):
            ack = Ack(err_code=10071)
        elif event_id in self.remembers:
            ack = Ack(seq=self.ids.index(event_id) + 1, duplicate=True)
        else:
            self.ids.append(event_id)
            self.remembers.add(event_id)
            ack = Ack(seq=len(self.ids))
        if heard:
            await on_ack(ack)

    async def events_after(self, sequence: int) -> tuple[int, dict[str, int]]:
        await asyncio.sleep(0)
        if self.away:
            raise StoreError("away")
        start = 0 if sequence > len(self.ids) else sequence
        return len(self.ids), {event_id: start + n + 1 for n, event_id in enumerate(self.ids[start:]) if event_id}

    async def last_revision(self) -> int:
        await asyncio.sleep(0)
        return self.log


def message(event_id: str) -> Message:
    return "subject", b"", {"Nats-Msg-Id": event_id}


async def turns() -> None:
    """Let go on whatever can; no step here takes more than a few turns of the loop."""
    for _ in range(100):
        await asyncio.sleep(0)


async def nobody_hears(_: Ack) -> None:
    """The leader is dead."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MIN_WAIT", 0.0)
    monkeypatch.setattr(outbox, "MAX_WAIT", 0.0)
    monkeypatch.setattr(outbox, "WINDOW", 8)


class Leader:
    """One that believes to lead, and has heard the log up to some revision."""

    def __init__(self, epoch: int, outbox: Outbox, mark: Mark) -> None:
        self.outbox = outbox
        self.taken = mark.revision
        self.epoch = epoch
        self._orders = 0
        outbox.begin(mark)

    async def take(self, agents: list[str]) -> None:
        if self.taken < len(agents) and self.outbox.room.is_set():
            self.taken += 1
            lane = agents[self.taken - 1]
            await self.outbox.put(lane, self.taken, partial(message, f"{BUCKET}:{self.taken}"))

    async def order(self) -> None:
        self._orders += 1
        event_id = f"order:{self.epoch}:{self._orders}"
        await self.outbox.put(":", event_id, partial(message, event_id))


class World:
    """A log of changes of a few agents, and leaders that publish it, one after the other.

    Args:
        seed: Of chance.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stream = Stream()
        self.agents: list[str] = []
        """Whose change each revision is, from 1 on."""
        self.mark = Mark(log=BUCKET)
        self.late: list[Copy] = []
        """Copies of the dead and of the impatient, which may still arrive."""
        self.sure = True
        self.epoch = 0
        self.leaders: list[Leader] = []

    async def lead(self) -> None:
        """A new leader begins, at the last mark that was left, and says so."""
        self.epoch += 1
        leader = Leader(self.epoch, Outbox(self.stream, lambda: self.sure), self.mark)  # type: ignore[arg-type]
        self.leaders.append(leader)
        await leader.order()

    def some(self) -> Leader:
        """One of those that believe to lead."""
        return self.chance.choice(self.leaders)

    async def change(self) -> None:
        """Something happens to an agent."""
        self.agents.append(f"agent-{self.chance.randrange(3)}")
        self.stream.log = len(self.agents)

    async def take(self) -> None:
        """A leader hears the next change."""
        await self.some().take(self.agents)

    async def order(self) -> None:
        """A leader has something to say that a successor does not repeat."""
        await self.some().order()

    async def deliver(self) -> None:
        """What was sent first arrives."""
        if self.stream.wire:
            await self.stream.arrive(self.stream.wire.pop(0))

    async def unheard(self) -> None:
        """What was sent first arrives, and the answer is lost."""
        if self.stream.wire:
            copy = self.stream.wire.pop(0)
            await self.stream.arrive(copy, heard=False)
            await copy[2](Ack())

    async def delay(self) -> None:
        """Something that was sent is given up, and may arrive later or never."""
        if self.stream.wire:
            copy = self.stream.wire.pop(self.chance.randrange(len(self.stream.wire)))
            self.late.append((copy[0], copy[1], nobody_hears))
            await copy[2](Ack())

    async def come_late(self) -> None:
        """Something that was given up arrives."""
        if self.late:
            await self.stream.arrive(self.late.pop(self.chance.randrange(len(self.late))))

    async def disturb(self) -> None:
        """A stranger publishes."""
        self.stream.ids.append("")

    async def save(self) -> None:
        leader = self.some()
        self.mark = leader.outbox.mark(leader.taken)

    async def die(self) -> None:
        """A leader dies; what was sent may arrive later or never."""
        leader = self.some()
        leader.outbox.end()
        self.leaders.remove(leader)
        self.late += [(event_id, expected, nobody_hears) for event_id, expected, _ in self.stream.wire]
        wire, self.stream.wire = self.stream.wire, []
        for _, _, on_ack in wire:
            await on_ack(Ack())
        if not self.leaders or self.leaders[-1].epoch != self.epoch:
            await self.lead()  # who leads no more leads again only as somebody new

    async def usurp(self) -> None:
        """Another one begins to lead while the old one goes on."""
        if len(self.leaders) < 3:
            await self.lead()

    async def turn(self) -> None:
        """NATS goes or comes; leadership is doubted or confirmed."""
        if self.chance.random() < 0.5:
            self.sure = not self.sure
        else:
            self.stream.away = not self.stream.away

    async def settle(self) -> None:
        """All goes well, and only the newest leads, until everything is told."""
        self.sure, self.stream.away = True, False
        for leader in self.leaders[:-1]:
            leader.outbox.end()
        del self.leaders[:-1]
        (leader,) = self.leaders
        for _ in range(10_000):
            await leader.take(self.agents)
            await self.deliver()
            await asyncio.sleep(0)
            if leader.outbox.mark(leader.taken).revision == len(self.agents) and not leader.outbox._unconfirmed:
                return
        raise AssertionError(f"not settled: {leader.outbox._unconfirmed.keys()}")

    def check(self) -> None:
        """Nothing is there twice, or before what comes before it."""
        told = [event_id for event_id in self.stream.ids if event_id]
        assert len(told) == len(set(told)), told
        last: dict[str, int] = {}
        for event_id in told:
            if event_id.startswith(f"{BUCKET}:"):
                revision = int(event_id.partition(":")[2])
                agent = self.agents[revision - 1]
                assert last.get(agent, 0) < revision, told
                last[agent] = revision


ACTS: list[tuple[str, int]] = [
    ("change", 10), ("take", 10), ("deliver", 14), ("order", 1), ("unheard", 1), ("delay", 2), ("come_late", 2),
    ("disturb", 1), ("save", 2), ("die", 1), ("usurp", 1), ("turn", 1),
]  # fmt: skip


async def live(world: World, steps: int) -> None:
    """Let chance decide for a while, then let all be told, then let everything arrive that is still on its way."""
    names, weights = [name for name, _ in ACTS], [weight for _, weight in ACTS]
    for _ in range(steps):
        act: Any = getattr(world, world.chance.choices(names, weights)[0])
        await act()
        await asyncio.sleep(0)
        world.check()
    await world.settle()
    world.check()
    told = {event_id for event_id in world.stream.ids if event_id.startswith(f"{BUCKET}:")}
    assert told == {f"{BUCKET}:{revision}" for revision in range(1, len(world.agents) + 1)}, "none is lost"


@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("strict", [True, False])
async def test_each_event_is_there_once_and_in_order(monkeypatch: pytest.MonkeyPatch, block: int, strict: bool) -> None:
    """Whatever is lost, late, or somebody else's, and whenever leaders die. What says where the stream must end is
    refused even when it comes after the stream has forgotten the ids."""
    monkeypatch.setattr(outbox, "MAX_REFUSALS", 1_000_000 if strict else 0)
    for seed in range(40 * block, 40 * block + 40):
        world = World(seed)
        await world.lead()
        for _ in range(3):
            await live(world, 60)
            if strict:
                world.stream.remembers.clear()
            while world.late:
                await world.come_late()
            world.check()
        world.leaders[0].outbox.end()


async def settled(stream: Stream, sender: Outbox) -> None:
    """Let everything arrive that is sent."""
    for _ in range(100):
        await asyncio.sleep(0)
        while stream.wire:
            await stream.arrive(stream.wire.pop(0))
    assert not sender._unconfirmed


async def test_an_id_of_what_has_not_happened_yet_is_not_believed() -> None:
    stream = Stream()
    stream.ids.append(f"{BUCKET}:2")  # a stranger's
    stream.log = 1
    sender = Outbox(stream, lambda: True)  # type: ignore[arg-type]
    sender.begin(Mark(log=BUCKET))
    for revision in (1, 2):
        stream.log = revision
        await sender.put("agent", revision, partial(message, f"{BUCKET}:{revision}"))
        await settled(stream, sender)
    sender.end()
    assert stream.ids[1:] == [f"{BUCKET}:1", f"{BUCKET}:2"]


async def test_nothing_is_sent_in_doubt() -> None:
    stream, sure = Stream(), False
    sender = Outbox(stream, lambda: sure)  # type: ignore[arg-type]
    sender.begin(Mark(log=BUCKET))
    await sender.put("agent", 1, partial(message, f"{BUCKET}:1"))
    await turns()
    assert stream.wire == []
    sure = True
    await settled(stream, sender)
    sure = False
    await sender.put("agent", 2, partial(message, f"{BUCKET}:2"))
    await turns()
    assert stream.wire == []
    sure = True
    await settled(stream, sender)
    sender.end()
    assert stream.ids == [f"{BUCKET}:1", f"{BUCKET}:2"]


async def test_what_cannot_be_told_holds_nothing_back() -> None:
    stream = Stream()
    sender = Outbox(stream, lambda: True)  # type: ignore[arg-type]
    sender.begin(Mark(log=BUCKET))
    for revision, build in ((1, lambda: None), (2, partial(message, f"{BUCKET}:2")), (3, lambda: None)):
        await sender.put("agent", revision, build)
    await settled(stream, sender)
    assert sender.mark(3).revision == 3
    sender.end()
    assert stream.ids == [f"{BUCKET}:2"]


async def test_what_is_put_twice_holds_nothing_back() -> None:
    """A new leader tells again what it may just have told: the second is the first, and what came between is sent."""
    stream = Stream()
    sender = Outbox(stream, lambda: True)  # type: ignore[arg-type]
    sender.begin(Mark(log=BUCKET))
    await sender.put("own", "first", partial(message, "first"))
    await settled(stream, sender)
    for event_id in ("twice", "between", "twice"):
        await sender.put("own", event_id, partial(message, event_id))
    await settled(stream, sender)
    sender.end()
    assert stream.ids == ["first", "twice", "between"]
