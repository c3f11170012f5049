"""Watching agents: a snapshot first, then every change, through restarts of NATS and the registry."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

from nats.aio.msg import Msg
from pydantic import ValidationError

from agents_sdk.connection import Connection
from agents_sdk.directory import Change, Directory, Refresh, Snapshot
from agents_sdk.pages import Pages
from agents_sdk.protocol.discovery import MAX_LIMIT, AgentInfo, Listing, ServiceQuery
from agents_sdk.protocol.errors import NotFoundError, RegistryError, UnavailableError
from agents_sdk.protocol.events import StatusEvent, says_something_new
from agents_sdk.protocol.subjects import GET
from agents_sdk.protocol.vocabulary import SortBy
from agents_sdk.requester import Requester
from agents_sdk.retry import Backoff

LOOK_AGAIN = 60.0
"""Seconds between two comparisons with the registry. Events are core NATS messages: a cluster can
lose one without either end noticing."""

MAX_QUEUED = 10_000
"""Events that may wait for a slow reader; beyond that it starts over from a snapshot."""

NOTICED = 5.0
"""Seconds after which every replica has noticed that the bucket was made anew; a snapshot before that
may be of the one that was there before."""

GATHER = 0.05
"""Seconds for which events gather that only a comparison can judge."""

MAX_LOOKS = 3
"""After so many comparisons without an answer that is new enough, the watch starts over: the bucket
may have been made anew, with revisions that begin again, and no event may have said so yet."""

logger = logging.getLogger(__name__)


class Watch:
    """One reader's watch of the agents that match a query.

    Args:
        connection: The way to NATS.
        requester: The way to the registry.
        query: Whom to watch; see `Directory` for what counts of it.
    """

    def __init__(self, connection: Connection, requester: Requester, query: ServiceQuery) -> None:
        self._connection = connection
        self._requester = requester
        self._query = replace(
            query,
            min_health_score=0.0,
            max_load_factor=1.0,
            sort_by=SortBy.RANDOM,
            prefer_tags=None,
            limit=MAX_LIMIT,
            explain=False,
        )
        self._pages = Pages(requester)
        self._directory = Directory(query)
        self._events: asyncio.Queue[StatusEvent] = asyncio.Queue(MAX_QUEUED)
        self._woken = asyncio.Event()
        self._log: str | None = None
        """The log that the last event was of."""
        self._anew = False
        """Whether a log has begun that no snapshot is known to be of."""
        self._start_over = True
        self._look_at = 0.0
        self._looks = 0
        self._backoff = Backoff(0.1, 5.0)

    async def changes(self) -> AsyncGenerator[Change, None]:
        """Yield a snapshot, then changes; after an outage of NATS a snapshot again.

        Raises:
            ClosedError: When the connection is closed.
            RegistryError: If there is no first snapshot. After it, trying again is the answer to every error.
        """
        # Events first: what happens between subscribing and the snapshot is in both, never in none.
        subject = self._requester.subjects.events_of("status")
        subscription = await self._connection.subscribe(subject, self._on_event)
        self._connection.listen(self._on_link)
        try:
            yield await self._snapshot()
            while True:
                for change in await self._next():
                    yield change
        finally:
            self._connection.unlisten(self._on_link)
            await self._connection.unsubscribe(subscription)

    async def _next(self) -> list[Change]:
        """Wait until something happened and return what it changed."""
        self._connection.check_open()
        try:
            if self._start_over:
                return [await self._snapshot()]
            if time.monotonic() >= self._look_at:
                return await self._look()
            if not self._events.empty():
                return await self._fold(self._events.get_nowait())
        except RegistryError as error:
            self._look_at = time.monotonic()
            retryable = isinstance(error, UnavailableError)
            logger.log(logging.INFO if retryable else logging.WARNING, "watch: %s; trying again", error.message)
            await asyncio.sleep(self._backoff.next())
            return []
        self._woken.clear()
        try:
            async with asyncio.timeout(max(0.0, self._look_at - time.monotonic())):
                await self._woken.wait()
        except TimeoutError:
            pass  # time to look
        return []

    async def _snapshot(self) -> Snapshot:
        self._start_over = False
        try:
            listing = await self._discover(0)
        except RegistryError:
            self._start_over = True
            raise
        if listing.total > len(listing.agents):
            logger.warning(
                "watch: %d agents match; the first %d are known, the others once they change",
                listing.total,
                len(listing.agents),
            )
        self._settled(NOTICED if self._anew else LOOK_AGAIN)
        self._anew = False
        return self._directory.reset(listing)

    async def _look(self) -> list[Change]:
        """Compare with the registry."""
        newest = self._directory.newest
        try:
            listing = await self._discover(newest)
            if listing.revision < newest:
                raise UnavailableError(f"revision {listing.revision} is older than event {newest}")
        except RegistryError:
            self._looks += 1
            self._start_over = self._start_over or self._looks >= MAX_LOOKS
            raise
        self._settled(LOOK_AGAIN)
        return self._directory.reconcile(listing)

    async def _fold(self, event: StatusEvent) -> list[Change]:
        before, self._log = self._log, event.log
        if before not in (None, event.log):  # its revisions say nothing about those that are known
            self._start_over = self._anew = True
            return []
        outcome = self._directory.apply(event)
        if outcome is None:
            return []
        if not isinstance(outcome, Refresh):
            return [outcome]
        if not self._directory.can_judge:
            self._look_at = min(self._look_at, time.monotonic() + GATHER)
            return []
        change = self._directory.put(await self._get(event), event)
        return [] if change is None else [change]

    async def _get(self, event: StatusEvent) -> AgentInfo | None:
        """Return the agent of an event, None if it is gone, from a state as new as the event."""
        fields = {"agent_id": event.agent_id, "min_revision": event.revision}
        try:
            return AgentInfo.from_wire(await self._requester.ask(GET, fields))
        except NotFoundError:
            return None

    async def _discover(self, min_revision: int) -> Listing:
        query = replace(self._query, min_revision=min_revision)
        return await self._pages.discover(query.to_wire())

    def _settled(self, look_again: float) -> None:
        self._backoff.reset()
        self._looks = 0
        self._look_at = time.monotonic() + look_again * random.uniform(0.9, 1.1)

    async def _on_event(self, msg: Msg) -> None:
        try:
            event = StatusEvent.model_validate_json(msg.data)
        except ValidationError as error:
            if says_something_new(error):
                self._look_at = time.monotonic()  # what it says is not known here, but to the registry
                self._woken.set()
            else:
                logger.warning("watch: not a status event on %s: %s", msg.subject, error)
            return
        if self._events.full():
            logger.warning("watch: the reader is %d events behind; starting over", MAX_QUEUED)
            while not self._events.empty():
                self._events.get_nowait()
            self._start_over = True
        self._events.put_nowait(event)
        self._woken.set()

    def _on_link(self, connected: bool) -> None:
        self._start_over = self._start_over or connected
        self._woken.set()
