"""Publishes the events of assignments that were lost, each once: in the order of the log, one after the other.

So the newest of them in the stream says how far they are published, whoever did it. Who begins to lead asks for that,
reads from the log what came later, and goes on with what is heard. The outbox sees to it that the stream takes no event
twice. A lost assignment stays in the log for an hour; what nobody has published by then is told to nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from registry.core.assignment import Assignment, loss_of
from registry.core.record import revision_of
from registry.shell.assignment_log import assignment_in
from registry.shell.log_reader import reading
from registry.shell.messages import Messages
from registry.shell.outbox import Outbox
from registry.shell.store import Store

LANE = "::"
"""No agent has this id, and nothing else is published in it."""


class Losses:
    """Turns entries of the log of assignments into events, while this replica leads.

    Args:
        store: Where the log and the stream are.
        messages: Makes events.
        outbox: Publishes them.
    """

    def __init__(self, store: Store, messages: Messages, outbox: Outbox) -> None:
        self._store = store
        self._messages = messages
        self._outbox = outbox
        self._heard: deque[tuple[int, Assignment]] = deque()
        """Not published yet."""
        self._listening = False
        self._more = asyncio.Event()
        self._anew = False
        self._log = ""
        """Name of the log."""
        self._taken = 0
        """What was lost up to this revision was handed to the outbox, or is in the stream."""

    def take(self, revision: int, assignment: Assignment) -> None:
        """Take an entry of the log, of an assignment that was lost."""
        if self._listening:
            self._heard.append((revision, assignment))
            self._more.set()

    def begin_anew(self) -> None:
        """Take note that the log is another one."""
        self._heard.clear()
        self._anew = True
        self._more.set()

    async def publish(self, insist: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]) -> None:
        """Publish what was lost, until this is cancelled.

        Args:
            insist: Does something until it succeeds.
        """
        self._heard.clear()
        self._listening = self._anew = True
        try:
            while True:
                if self._anew:
                    self._anew = False
                    await insist(self._resume)
                while self._heard and not self._anew:
                    await self._put(*self._heard.popleft())
                self._more.clear()
                if not self._heard and not self._anew:
                    await self._more.wait()
        finally:
            self._listening = False

    async def _resume(self) -> None:
        """Publish what the log has and the stream does not.

        Raises:
            StoreError: If one of them cannot be read.
        """
        bucket = self._store.assignments
        self._log = f"{bucket}:{await self._store.made(bucket)}"
        event_id = await self._store.newest_loss()
        self._taken = revision_of(event_id, self._log) or 0
        if self._taken > (await self._store.extent(bucket)).last:
            self._taken = 0  # the bucket went back to an older state of its own
        newest = await self._store.newest_revision(bucket)
        if newest <= self._taken:
            return
        async with reading(self._store, bucket, self._taken + 1) as next_entry:
            while True:
                entry = await next_entry()
                assignment = assignment_in(entry)
                if assignment is not None and assignment.is_lost:
                    await self._put(entry.revision, assignment)
                if entry.revision >= newest:  # a copy that lags may have nothing more for now
                    return

    async def _put(self, revision: int, assignment: Assignment) -> None:
        event = loss_of(assignment, revision, self._log)
        if event is None or revision <= self._taken:
            return
        await self._outbox.room.wait()
        self._taken = revision
        await self._outbox.put(LANE, event["event_id"], partial(self._messages.loss, event))
