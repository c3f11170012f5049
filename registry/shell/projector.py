"""Publishes events: the bucket's log as status events, in the log's order, by the leader alone.

What an entry of the log means is decided by the entry alone (`record.event_of`), and the event's id is its log and its
revision. So a new leader reads in the stream of events how far they were published, publishes the log from there on,
and what its predecessor had published already is dropped as a duplicate. The same repair serves when the stream did not
take an event. A bucket that was made anew is another log: its revisions begin again, and nothing of it was published.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from agents_sdk.protocol.events import cloud_event_headers
from registry.core.record import EVENT_VERSION, Record, event_of, published_up_to
from registry.shell.clock import wall
from registry.shell.log_reader import reading
from registry.shell.logs import get_logger
from registry.shell.records import record_in
from registry.shell.store_nats import Store, StoreError

if TYPE_CHECKING:
    from agents_sdk.protocol.subjects import Subjects
    from registry.shell.bus_nats import Ack

log = get_logger(__name__)

RETRY_WAIT = 0.5
"""Seconds, with as much again as jitter, before the stream is tried again."""


class Projector:
    """Turns entries of the log into events.

    Args:
        store: Where the log and the stream are.
        subjects: Names.
        replica: Id of this replica.
    """

    def __init__(self, store: Store, subjects: Subjects, replica: str) -> None:
        self.published = 0
        """Events that the stream took from here."""
        self._store = store
        self._subjects = subjects
        self._replica = replica
        self._source = f"/{subjects.prefix}"
        self._log = ""
        """Name of the log that is published; looked up whenever publishing begins."""
        self._seen = 0
        """Newest revision of the log that this replica has seen."""
        self._handed = 0
        """Newest revision whose event was handed to the stream."""
        self._led_at = 0
        """Newest revision that this replica had seen when it began to lead."""
        self._live = False
        """Whether all that was seen has been handed over, so that the next entry can be at once."""
        self._unconfirmed: set[int] = set()
        self._repair: asyncio.Task[None] | None = None

    @property
    def settled(self) -> bool:
        """Whether the stream has the event of every entry that was seen."""
        return self._live and not self._unconfirmed

    async def lead(self) -> None:
        """Publish from now on, beginning with what the predecessor left."""
        self._led_at = self._seen
        self._start_repair(0.0)

    async def follow(self) -> None:
        """Publish no longer."""
        self._live = False
        self._unconfirmed.clear()
        if self._repair is not None:
            self._repair.cancel()
            self._repair = None

    async def advanced(self, revision: int, record: Record | None) -> None:
        """Take the next entry of the log."""
        self._seen = revision
        if self._live:
            await self._hand(revision, record)

    def begin_anew(self) -> None:
        """Take note that the log is another one: what was seen of the one before is none of it."""
        self._seen = self._led_at = 0
        self._unconfirmed.clear()
        if self._repair is not None:  # this replica leads
            self._repair.cancel()
            self._repair = None
            self._start_repair(0.0)

    async def publish_order(self, order: Mapping[str, Any]) -> None:
        """Publish a scaling order."""
        subject = self._subjects.scaling_event(order["action"], order["capability"])
        await self._publish(subject, order["order_id"], "scaling", order["capability"], order, order["issued_at"])

    async def publish_state(self, what: str, epoch: int) -> None:
        """Publish that something happened to the registry itself."""
        at = round(wall(), 3)
        event_id = f"{what}:{self._replica}:{epoch}"
        body = {
            "v": EVENT_VERSION,
            "event_id": event_id,
            "what": what,
            "replica": self._replica,
            "epoch": epoch,
            "at": at,
        }
        await self._publish(self._subjects.registry_event(what), event_id, "registry", self._replica, body, at)

    async def _hand(self, revision: int, record: Record | None) -> None:
        self._handed = revision
        event = None if record is None else event_of(record, revision, self._log)
        if event is None:
            return
        self._unconfirmed.add(revision)
        subject = self._subjects.status_event(event["to"], event["agent_id"])
        trace = record.change.trace if record is not None and record.change is not None else None
        await self._publish(
            subject, event["event_id"], "status", event["agent_id"], event, event["at"], revision, trace
        )

    async def _publish(
        self,
        subject: str,
        event_id: str,
        kind: str,
        about: str,
        body: Mapping[str, Any],
        at: float,
        revision: int = 0,
        trace: str | None = None,
    ) -> None:
        async def ended(ack: Ack) -> None:
            if ack.seq:
                self.published += not ack.duplicate
                self._unconfirmed.discard(revision)
            elif revision and self._live:
                log.warning("event_not_taken", event_id=event_id, err_code=ack.err_code)
                self._start_repair(RETRY_WAIT)
            elif not revision:
                log.warning("event_lost", event_id=event_id, err_code=ack.err_code)

        headers = cloud_event_headers(event_id, kind, self._source, about, at)
        if trace is not None:
            headers["traceparent"] = trace
        await self._store.publish_event(subject, orjson.dumps(body), headers, ended)

    def _start_repair(self, wait: float) -> None:
        self._live = False
        if self._repair is None or self._repair.done():
            self._repair = asyncio.ensure_future(self._catch_up(wait))

    async def _catch_up(self, wait: float) -> None:
        """Publish the log from the newest published event on until nothing is left, then go live."""
        while not self._live:
            if wait:
                await asyncio.sleep(wait + random.uniform(0.0, wait))
            try:
                self._log = await self._store.log_name()
                await self._replay(await self._first_unpublished())
            except StoreError as error:
                log.warning("events_wait", error=str(error))
            wait = RETRY_WAIT

    async def _first_unpublished(self) -> int:
        """Return the revision after the last one whose event is in the stream.

        Raises:
            StoreError: If the stream cannot be asked.
        """
        if self._unconfirmed:
            return min(self._unconfirmed)
        newest = await self._store.last_status_event()
        if newest is not None:
            return published_up_to(orjson.loads(newest), self._log) + 1
        # None was ever published; or all are older than the stream keeps, and so are the changes that they told of.
        return self._led_at + 1 if await self._store.events_have_gone() else 1

    async def _replay(self, start: int) -> None:
        """Publish the log from a revision on, and go live when it has been caught up with.

        Raises:
            StoreError: If the log cannot be read.
        """
        self._unconfirmed.clear()
        self._handed = start - 1
        last = await self._store.last_revision()
        if start > max(self._seen, last):  # what was seen while the bucket was asked counts too
            self._live = True
            return
        async with reading(self._store, start=start) as next_entry:
            while not self._live:
                entry = await next_entry()
                await self._hand(entry.revision, record_in(entry))
                self._live = entry.pending == 0 and entry.revision >= self._seen
