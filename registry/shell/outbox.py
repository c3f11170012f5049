"""Events on their way to the stream: none is lost, none is there twice, those of one agent are there in order.

Theory of operation
-------------------
Each event says where the stream must end to take it (`Nats-Expected-Last-Sequence`): where it ended when it was last
looked into, and one further for each event sent since. So any number can be on their way at once, and when one of them
is lost, or somebody else publishes, the stream refuses what follows. That is noticed at once; then this looks into the
stream which of the events are there, and sends the others anew.

The same number makes late copies harmless. A leader that was cut off, suspended or killed may have left copies anywhere
on the way. Whoever leads next, or itself, publishes all of these events again; by then the stream has grown past every
number that they carry, and refuses them however late they come. Dropping them by their id only has to work while that
is under way, so that two minutes are plenty.

Who publishes there without end would stop every event by this. After a few refusals in a row events are sent without
the number for a while, so that late copies of these are dropped by their ids alone.

The number does not keep the order, for a message of somebody else may take a lost one's place, so that the next event
fits. Therefore an agent's event is sent when the one before it is confirmed; those of different agents do not wait for
each other. Orders, and what the registry tells of itself, wait for each other as if they were an agent's: a successor
does not publish them again, but one more of its own, that it leads; so that at most one at a time is on its way.

`Nats-Expected-Last-Msg-Id` would say more than the number, but the replicas of a stream do not agree on it: nats-server
2.15 does not restore it in one that was away, which then refuses what the others took.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from registry.core.record import revision_of
from registry.shell.clock import monotonic
from registry.shell.jetstream_nats import MissingError, StoreError
from registry.shell.logs import get_logger
from registry.shell.missing import Missing
from registry.shell.store import EXPECTED, Store
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from registry.shell.acks import Ack

log = get_logger(__name__)

WINDOW = 2_000
"""Events that may be unconfirmed; a stream that takes 400 a second still confirms them before they count as lost."""

MIN_WAIT = 0.05
MAX_WAIT = 2.0
"""Seconds, give or take half, before the stream is looked into again: at once if all was well for `MAX_WAIT`, then the
least, doubling up to the most."""

MAX_REFUSALS = 3
"""Refusals, each soon after the one before, that are taken for somebody else who publishes without end."""

LENIENCE = 10.0
"""Seconds for which nothing is expected of the stream then."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the events were published.

    Attributes:
        revision: The stream has, or had, the event of every entry of the log up to this revision.
        sequence: In the stream, the events of later entries come after this sequence.
        log: Name of the log; in another one the same revisions are others.
    """

    revision: int = 0
    sequence: int = 0
    log: str = ""


Message = tuple[str, bytes, dict[str, str]]
"""Subject, payload and headers, with `Nats-Msg-Id` among them."""

Build = Callable[[], Message | None]
"""Makes an event, the same each time; None if it cannot be told."""


class _Event:
    """An event that is not confirmed yet.

    Attributes:
        key: Its revision; its id if it is not a status event.
        lane: Events of the same lane are published one after the other.
        build: Makes it, when it is sent.
        since: Neither it nor what was put later is in the stream up to this sequence.
        next: Of the same lane; sent when this one is confirmed.
    """

    __slots__ = ("build", "key", "lane", "next", "since")

    def __init__(self, key: int | str, lane: str, build: Build, since: int) -> None:
        self.key = key
        self.lane = lane
        self.build = build
        self.since = since
        self.next: _Event | None = None


class Outbox:
    """Publishes events, each of them until it is in the stream.

    Args:
        store: Where the stream is.
        may_send: Whether this replica is sure to lead.
    """

    def __init__(self, store: Store, may_send: Callable[[], bool]) -> None:
        self.published = 0
        """Events that the stream took from here."""
        self.room = asyncio.Event()
        """Set while fewer than `WINDOW` events are unconfirmed."""
        self.room.set()
        self._trouble = Trouble(log)
        self._store = store
        self._missing = Missing(store, store.events)
        self._may_send = may_send
        self._unconfirmed: dict[int | str, _Event] = {}
        """By key, oldest first."""
        self._lanes: dict[str, _Event] = {}
        """The last unconfirmed event of each lane; the first is the one that was sent."""
        self._ahead: set[int] = set()
        """Revisions of events that are in the stream and were not put here yet."""
        self._log = ""
        """Name of the log whose events are published."""
        self._put = 0
        """Newest revision whose event was put here."""
        self._seen = 0
        """Events that were not put here yet are not in the stream up to this sequence."""
        self._end = 0
        """Where the stream will end when all that was sent since it was looked into is there."""
        self._open = False
        """Whether `_end` holds."""
        self._chain = 0
        """Counts the looks into the stream; what was sent before the last one is judged no more."""
        self._opened = 0.0
        self._wait = 0.0
        self._refusals = 0
        self._lenient_until = 0.0
        self._looking: asyncio.Task[None] | None = None

    def begin(self, mark: Mark) -> None:
        """Publish from now on what comes after a mark."""
        self._log = mark.log
        self._put, self._seen, self._ahead = mark.revision, mark.sequence, set()
        self._wait, self._refusals, self._lenient_until = 0.0, 0, 0.0
        for event in self._unconfirmed.values():
            event.since = mark.sequence
        self._close()

    def end(self) -> asyncio.Task[None] | None:
        """Publish nothing more; forget what is unconfirmed. Returns what has been cancelled, if anything was."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
        self._open = False
        self._chain += 1
        self._unconfirmed.clear()
        self._lanes.clear()
        self.room.set()
        return looking

    async def put(self, lane: str, key: int | str, build: Build) -> None:
        """Take an event that is to be published, unless it is under way; status events in the order of their revisions.

        Args:
            lane: Events of the same lane are published one after the other.
            key: The revision that it tells of; its id if it is not a status event.
            build: Makes it.
        """
        if isinstance(key, int):
            self._put = key
            if key in self._ahead:
                self._ahead.discard(key)
                return
        if key in self._unconfirmed:
            return
        event = _Event(key, lane, build, self._seen)
        self._unconfirmed[key] = event
        if len(self._unconfirmed) >= WINDOW:
            self.room.clear()
        before = self._lanes.get(lane)
        self._lanes[lane] = event
        if before is not None:
            before.next = event
        elif self._open:
            await self._send(event)

    def mark(self, revision: int) -> Mark:
        """Return how far the events are confirmed, given that those up to a revision were put here."""
        self._ahead = {known for known in self._ahead if known > revision}
        for key, event in self._unconfirmed.items():
            if isinstance(key, int):
                return Mark(key - 1, event.since, self._log)
        return Mark(revision, self._seen, self._log)

    async def _send(self, event: _Event) -> None:
        """Send the first event of a lane, unless this is not the time."""
        if not self._may_send():
            self._lose("leadership is not confirmed")
            return
        message = event.build()
        if message is None:
            await self._done(event.key)
            return
        subject, payload, headers = message
        if not self._lenient_until:
            headers[EXPECTED] = str(self._end)
            self._end += 1
        elif monotonic() > self._lenient_until:
            self._wait, self._refusals = 0.0, 0
            self._close()
            return
        await self._store.publish_event(subject, payload, headers, partial(self._ended, event.key, self._chain))

    async def _ended(self, key: int | str, chain: int, ack: Ack) -> None:
        if ack.seq and not ack.duplicate:
            self.published += 1
            if chain == self._chain and self._open and not self._ahead and not self._lenient_until:
                self._seen = ack.seq
        elif chain == self._chain:
            self._lose(f"{key} was not taken", ack.err_code)
        if ack.seq:
            await self._done(key)

    async def _done(self, key: int | str) -> None:
        event = self._unconfirmed.pop(key, None)
        if event is None:
            return  # it was found in the stream before its acknowledgement came
        if len(self._unconfirmed) < WINDOW:
            self.room.set()
        if event.next is None:
            del self._lanes[event.lane]
        elif self._open:
            await self._send(event.next)

    def _lose(self, why: str, err_code: int = 0) -> None:
        """Look into the stream, for it is not known any more where it ends."""
        if not self._open:
            return
        unconfirmed = len(self._unconfirmed)
        self._trouble.warning("events_held", of=err_code, why=why, err_code=err_code, unconfirmed=unconfirmed)
        if monotonic() - self._opened > MAX_WAIT:
            self._wait, self._refusals = 0.0, 0
        else:
            self._back_off()
        self._refusals += err_code != 0
        self._close()

    def _back_off(self) -> None:
        self._wait = min(max(2 * self._wait, MIN_WAIT), MAX_WAIT)

    def _close(self) -> None:
        self._open = False
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_until_open())

    async def _look_until_open(self) -> None:
        while not self._open:
            await asyncio.sleep(self._wait * random.uniform(0.5, 1.5))
            if not self._may_send():
                self._wait = MIN_WAIT
                continue
            try:
                await self._look()
            except StoreError as error:
                self._trouble.warning("events_wait", error=str(error))
                self._back_off()
            except Exception as error:
                self._trouble.defect("events_wait", error=error)
                self._back_off()
            else:
                self._trouble.over("events_wait")

    async def _look(self) -> None:
        """Look which events are in the stream, and send the others.

        Raises:
            StoreError: If that cannot be learnt now.
        """
        oldest = next(iter(self._unconfirmed.values()), None)
        start = self._seen if oldest is None else oldest.since
        try:
            end, found = await self._store.events_after(start)
        except MissingError:
            await self._missing.missed()
            raise
        except StoreError:
            self._missing.unknown()
            raise
        self._missing.found()
        newest = await self._store.last_revision()
        seen = end
        for event_id, sequence in found.items():
            revision = revision_of(event_id, self._log)
            if self._unconfirmed.pop(event_id if revision is None else revision, None) is not None:
                continue
            if revision is not None and self._put < revision <= newest:
                self._ahead.add(revision)
                seen = min(seen, sequence - 1)
        if end < start:
            seen = 0  # the stream was made anew
        first = self._line_up(seen)
        self._seen, self._end = seen, end
        self._chain += 1
        self._open, self._opened = True, monotonic()
        self._lenient_until = self._opened + LENIENCE if self._refusals >= MAX_REFUSALS else 0.0
        chain = self._chain
        for event in first:
            if chain == self._chain and self._open and event.key in self._unconfirmed:
                await self._send(event)

    def _line_up(self, seen: int) -> list[_Event]:
        """Make the lanes anew, of what is unconfirmed; return the first of each."""
        self._lanes.clear()
        first = []
        for event in self._unconfirmed.values():
            event.since, event.next = min(event.since, seen), None
            before = self._lanes.get(event.lane)
            if before is None:
                first.append(event)
            else:
                before.next = event
            self._lanes[event.lane] = event
        if len(self._unconfirmed) < WINDOW:
            self.room.set()
        return first
