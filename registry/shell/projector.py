"""Publishes what is to be known: the bucket's log as status events, orders, and what happens to the registry itself.

Theory of operation
-------------------
What an entry of the log means is decided by the entry alone (`record.event_of`), and the event's id is its revision. So
it does not matter who publishes it, or how often it is tried: `Outbox` sees to it that the stream has it once.

What remains is where a new leader begins. Once a second the leader leaves a `Mark` in the control bucket: up to this
revision all is published, and what comes later is in the stream after this sequence. The newest event in the stream
says less: one before it may have been lost, somebody else may have published it, and a stream lets old events go. A
mark is true for ever, so it does no harm if an old one is left, or one of a leader that leads no more. Who begins to
lead takes the log from the mark on, and the outbox reads from the mark on which of its events are in the stream.

The bucket has eight revisions of each agent; more may come before somebody leads again. So every replica remembers the
changes that it hears until a mark shows that they are published, and reads from the log only what is older. The eight
set a limit only where nobody remembers: when all replicas ended, when a replica lost its consumer and hears the log
late, or when more than `MAX_BACKLOG` changes wait for the stream. A gap shows in `previous_revision`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from registry.core.record import EVENT_VERSION, Record
from registry.shell.clock import wall
from registry.shell.entry import Entry
from registry.shell.jetstream_nats import StoreError
from registry.shell.log_reader import reading
from registry.shell.logs import get_logger
from registry.shell.losses import Losses
from registry.shell.messages import Messages
from registry.shell.outbox import Mark, Outbox
from registry.shell.records import record_in
from registry.shell.store import Store
from registry.shell.tasks import end
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from agents_sdk.protocol.subjects import Subjects

log = get_logger(__name__)

KEY = "events"
"""Of the mark, in the control bucket."""

MARK_INTERVAL = 1.0
"""Seconds between two marks; a new leader has so much to look through."""

RETRY_WAIT = 0.5
MAX_RETRY_WAIT = 4.0
"""Seconds, with as much again as jitter, before what failed is tried again; they double up to the most."""

MAX_BACKLOG = 10_000
"""Changes remembered until they are published; older ones are read from the log."""

IN_TURN = 100
"""Events of the backlog that are published without letting others work."""

NO_DETAILS: Mapping[str, Any] = {"cause": None, "late_agents": None, "unreachable_agents": None, "live_agents": None}

OWN = ":"
"""Lane of what is not about an agent; no agent has this id."""


class Projector:
    """Turns entries of the log into events, while this replica leads.

    Args:
        store: Where the log and the stream are.
        subjects: Names.
        replica: Id of this replica.
        may_publish: Whether this replica is sure to lead.
    """

    def __init__(self, store: Store, subjects: Subjects, replica: str, may_publish: Callable[[], bool]) -> None:
        self._trouble = Trouble(log)
        self._store = store
        self._replica = replica
        self._messages = Messages(store, subjects, replica)
        self._outbox = Outbox(store, may_publish)
        self.losses = Losses(store, self._messages, self._outbox)
        """Publishes the events of the other log, of assignments."""
        self._log = ""
        """Name of the log that is heard."""
        self._seen = 0
        """Newest revision of the log that this replica has heard."""
        self._backlog: deque[tuple[int, Record]] = deque()
        """Changes that were heard and not put into the outbox."""
        self._complete_from = 1
        """Changes from this revision on that are not in the outbox are in the backlog; older ones may be in the log."""
        self._taken = 0
        """The events of all entries up to this revision were put into the outbox, while this replica leads."""
        self._live = False
        """Whether nothing is left behind, so that what is heard goes to the outbox at once."""
        self._behind = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        """What is done while this replica leads."""

    @property
    def published(self) -> int:
        """Events that the stream took from here."""
        return self._outbox.published

    @property
    def published_up_to(self) -> int:
        """The stream has the event of every entry up to this revision; 0 unless this replica leads."""
        return self._outbox.mark(self._taken).revision if self._tasks else 0

    @property
    def settled(self) -> bool:
        """Whether the stream has the event of every entry that was heard."""
        return self._live and self.published_up_to >= self._seen

    def restored(self, revision: int, log_name: str) -> None:
        """Note that the log of this name is heard entry by entry after this revision."""
        self._log = log_name
        self._seen = revision
        self._complete_from = revision + 1
        self._live = False
        self._behind.set()

    async def begin_anew(self) -> None:
        """Take note that the log is another one: what was heard of the one before is none of it."""
        leading = bool(self._tasks)
        await self.follow()
        self._backlog.clear()
        self._log = ""
        self._seen = self._taken = 0
        self._complete_from = 1
        if leading:
            self._begin()

    def noticed(self, entry: Entry) -> None:
        """Forget what a mark in the control bucket says is published."""
        mark = _mark_in(entry)
        if mark.log == self._log:
            self._forget(mark.revision)

    def take(self, revision: int, record: Record | None) -> None:
        """Take the next entry of the log; `pump` publishes it."""
        self._seen = revision
        if record is not None and record.change is not None:
            self._backlog.append((revision, record))
            if len(self._backlog) > MAX_BACKLOG:
                self._complete_from = self._backlog.popleft()[0] + 1
        elif self._live and not self._backlog:
            self._taken = revision

    async def pump(self) -> None:
        """Publish what was taken, if this replica leads and nothing older is left."""
        while self._live and self._backlog:
            if not self._outbox.room.is_set():
                self._live = False
                self._behind.set()
                return
            await self._put(*self._backlog.popleft())

    async def lead(self) -> None:
        """Publish from now on, beginning with what the predecessor left."""
        self._begin()

    def _begin(self) -> None:
        self._taken = 0
        self._tasks = [
            asyncio.ensure_future(self._project()),
            asyncio.ensure_future(self._keep_mark()),
            asyncio.ensure_future(self.losses.publish(self._insist)),
        ]

    async def follow(self) -> None:
        """Publish no longer; return when nothing is under way."""
        for task in self._end():
            await end(task)

    def _end(self) -> list[asyncio.Task[None]]:
        """Publish no longer, and return what has been cancelled."""
        tasks, self._tasks = self._tasks, []
        looking = self._outbox.end()
        if looking is not None:
            tasks.append(looking)
        for task in tasks:
            task.cancel()
        self._live = False
        self._complete_from = max(self._complete_from, self._taken + 1)
        return tasks

    async def publish_order(self, order: Mapping[str, Any]) -> None:
        """Publish a scaling order."""
        if self._tasks:
            await self._outbox.put(OWN, order["order_id"], partial(self._messages.order, order))

    async def publish_conflict(self, event: Mapping[str, Any]) -> None:
        """Publish the event of a conflict."""
        if self._tasks:
            await self._outbox.put(OWN, event["event_id"], partial(self._messages.conflict, event))

    async def publish_state(
        self, what: str, epoch: int, number: int = 0, details: Mapping[str, Any] = NO_DETAILS
    ) -> None:
        """Publish that something happened to the registry itself; what can happen again in an epoch has a number."""
        at = round(wall(), 3)
        event_id = f"{what}:{self._replica}:{epoch}" + (f":{number}" if number else "")
        body = {
            "v": EVENT_VERSION,
            "event_id": event_id,
            "what": what,
            "replica": self._replica,
            "epoch": epoch,
            "at": at,
            **details,
        }
        if self._tasks:
            await self._outbox.put(OWN, event_id, partial(self._messages.state, body))

    async def _put(self, revision: int, record: Record | None) -> None:
        """Publish the event of an entry, if it has one."""
        if revision > self._taken:
            self._taken = revision
            if record is not None and record.change is not None:
                build = partial(self._messages.status, record, revision, self._log)
                await self._outbox.put(str(record.agent_id), revision, build)

    async def _project(self) -> None:
        await self._insist(self._resume)
        while True:
            await self._insist(self._catch_up)
            await self._behind.wait()

    async def _keep_mark(self) -> None:
        saved = Mark()

        async def save() -> None:
            nonlocal saved
            mark = self._outbox.mark(self._taken)
            if self._taken and mark != saved:
                await self._store.put_control(KEY, asdict(mark))
                saved = mark

        while True:
            await asyncio.sleep(MARK_INTERVAL)
            await self._insist(save)

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something until it succeeds, or this replica leads no more."""
        wait = RETRY_WAIT
        while True:
            try:
                await work()
            except StoreError as error:
                self._trouble.warning("events_wait", error=str(error))
            except Exception as error:
                self._trouble.defect("events_wait", error=error)
            else:
                self._trouble.over("events_wait")
                return
            await asyncio.sleep(wait * random.uniform(1.0, 2.0))
            wait = min(2 * wait, MAX_RETRY_WAIT)

    async def _resume(self) -> None:
        """Begin at the mark."""
        mark = _mark_in(await self._store.read_control(KEY))
        newest = await self._store.last_revision()
        name = await self._store.log_name()
        if self._log and name != self._log:
            raise StoreError(f"{name} is not the log that is followed, {self._log}")
        self._log = name
        if mark.log != name:
            mark = Mark(log=name)
        if mark.revision > newest:
            log.warning("mark_not_believed", revision=mark.revision, newest=newest)
            mark = Mark(log=name)
        self._taken = mark.revision
        self._forget(mark.revision)
        self._outbox.begin(mark)

    def _forget(self, revision: int) -> None:
        """Forget changes that are known to be published."""
        revision = min(revision, self._seen)
        while self._backlog and self._backlog[0][0] <= revision:
            self._backlog.popleft()
        self._complete_from = max(self._complete_from, revision + 1)

    async def _catch_up(self) -> None:
        """Publish what is left behind, first what only the log has, and go live.

        Raises:
            StoreError: If the log cannot be read.
        """
        self._behind.clear()
        in_turn = 0
        while self._taken + 1 < self._complete_from or self._backlog:
            await self._outbox.room.wait()
            if self._taken + 1 < self._complete_from:
                await self._read(self._complete_from - 1)
            else:
                await self._put(*self._backlog.popleft())
                in_turn += 1
                if in_turn % IN_TURN == 0:
                    await asyncio.sleep(0)  # others have work, too
        self._taken = max(self._taken, self._seen)
        self._live = True

    async def _read(self, end: int) -> None:
        """Publish what the log has of the entries that come next, up to a revision."""
        newest = await self._store.newest_revision(self._store.bucket)
        if newest > self._taken:
            async with reading(self._store, start=self._taken + 1) as next_entry:
                while self._taken < min(newest, end):
                    entry = await next_entry()
                    if entry.revision > end:
                        break
                    await self._outbox.room.wait()
                    await self._put(entry.revision, record_in(entry))
        self._taken = max(self._taken, end)


def _mark_in(entry: Entry | None) -> Mark:
    """Return the mark that an entry holds; the beginning for nothing and for nonsense."""
    try:
        form = orjson.loads(entry.value) if entry is not None and entry.value else {}
        mark = Mark(int(form.get("revision", 0)), int(form.get("sequence", 0)), str(form.get("log", "")))
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        log.error("mark_unreadable", error=repr(error))  # noqa: TRY400
        return Mark()
    return mark if mark.revision >= 0 and mark.sequence >= 0 else Mark()
