"""What is durable, in JetStream: the bucket of agents with its log, the control bucket, the stream of events."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from agents_sdk.protocol.subjects import MESSAGE_ID
from registry.shell.acks import OnAck
from registry.shell.entry import Entry, Extent, OnEntry, entry_of, position
from registry.shell.jetstream_nats import ANSWER_TIMEOUT, JetStream, MissingError, StoreError
from registry.shell.logs import get_logger
from registry.shell.sweeping import Settings, what_hinders

if TYPE_CHECKING:
    from agents_sdk.protocol.subjects import Subjects
    from registry.shell.bus_nats import Bus, Headers, Message

log = get_logger(__name__)

HISTORY = 8
"""Revisions kept of each agent's record: what a new leader may find unpublished."""

EVENTS_MAX_AGE = 7 * 24 * 3600.0
EVENTS_MAX_BYTES = 1024**3
DUPLICATE_WINDOW = 120.0
"""Seconds within which a second copy of an event is dropped by its id."""

HEADERS_ROOM = 4096
"""Bytes of a message that are left to its headers."""

READ_TIMEOUT = 5.0
"""Seconds without another message after which the rest of a stream is not waited for."""

MARKER_SECONDS = 3600
"""How long the marker of a swept removal stays in the log, for replicas that were away."""


EXPECTED = "Nats-Expected-Last-Sequence"
"""Where a stream has to end to take a message."""


@dataclass(frozen=True, slots=True)
class AssignmentWrite:
    """What is written of an assignment; `kept` is how many seconds it stays once it has ended, None while it lives."""

    key: str
    value: bytes
    kept: int | None

    def headers(self) -> dict[str, str]:
        """Return what makes it a removal, if it is one."""
        return {} if self.kept is None else {"KV-Operation": "DEL", "Nats-TTL": f"{self.kept}s"}


class Store:
    """Buckets and streams of one registry.

    Args:
        bus: The connection, connected.
        subjects: Names of buckets and streams.
        replicas: Copies that JetStream keeps of each.
    """

    def __init__(self, bus: Bus, subjects: Subjects, replicas: int) -> None:
        self._bus = bus
        self._jetstream = JetStream(bus)
        self._subjects = subjects
        self._replicas = replicas
        self.bucket = subjects.agents_bucket
        self.assignments = subjects.assignments_bucket
        self.events = subjects.events_stream
        self.can_sweep = True
        """Whether the bucket's settings allow to sweep removals."""
        self.can_batch = False
        """Whether the bucket of assignments takes several entries at once; nats-server does so from 2.12 on."""
        self._put_subject = f"$KV.{self.bucket}."
        self._assignment_subject = f"$KV.{self.assignments}."

    @property
    def max_event(self) -> int:
        """Bytes that the payload of an event may have, so that there is room for its headers."""
        return self._bus.max_payload - HEADERS_ROOM

    async def open(self) -> list[str]:
        """Make the buckets and the stream, or find them as they are; wait for a cluster that is still forming.

        Returns:
            The names of those that were not there.

        Raises:
            CopiesError: If there is one server for several copies.
            StoreError: If JetStream is off, or has no leader in time.
        """
        names = (self.bucket, self._subjects.control_bucket, self.assignments, self.events)
        return [name for name in names if await self.make(name)]

    async def make(self, name: str) -> bool:
        """Make one of the buckets, or the stream of events, unless it is there; return whether it was not.

        Raises:
            CopiesError: If there is one server for several copies.
            StoreError: If JetStream is off, or has no leader in time.
        """
        special = {self.events: self._make_events, self.assignments: self._make_assignments}
        make = special.get(name) or partial(self._make_bucket, name)
        return await self._jetstream.led(f"JetStream at {self._bus.url} does not do what is needed", make)

    async def _make_bucket(self, name: str) -> bool:
        history = HISTORY if name == self.bucket else 1
        return await self._jetstream.make_bucket(name, history, self._replicas, MARKER_SECONDS)

    async def _make_assignments(self) -> bool:
        return await self._jetstream.make_batch_bucket(self.assignments, self._replicas)

    async def _make_events(self) -> bool:
        return await self._jetstream.make_stream(
            self.events,
            self._replicas,
            description="Status and scaling events of the agent registry",
            subjects=[self._subjects.all_events],
            max_age=EVENTS_MAX_AGE,
            max_bytes=EVENTS_MAX_BYTES,
            duplicate_window=DUPLICATE_WINDOW,
        )

    async def put(self, key: str, value: bytes, expected: int, removed: bool, on_ack: OnAck) -> None:
        """Write a key if its last revision is still `expected`.

        A removal carries its last value, so that one entry of the log says all; every client reads it as deleted.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        if removed:
            headers["KV-Operation"] = "DEL"
        await self._bus.publish_acked(self._put_subject + key, value, headers, on_ack)

    async def sweep(self, key: str, expected: int, on_ack: OnAck) -> None:
        """Replace a key's removal and its history by a marker that ends by itself, if nothing newer came."""
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(expected),
            "KV-Operation": "PURGE",
            "Nats-Rollup": "sub",
            "Nats-TTL": f"{MARKER_SECONDS}s",
        }
        await self._bus.publish_acked(self._put_subject + key, b"", headers, on_ack)

    async def read(self, key: str) -> Entry | None:
        """Read a key's newest entry from the bucket's leader, so that one's own writes are seen.

        Raises:
            StoreError: If it cannot be read now.
        """
        return await self._read(self.bucket, key)

    async def _read(self, bucket: str, key: str) -> Entry | None:
        found = await self._jetstream.newest(f"KV_{bucket}", f"$KV.{bucket}.{key}", prompt=True)
        return None if found is None else entry_of(key, found.seq or 0, found.data or b"", found.headers, 0)

    async def last_revision(self) -> int:
        """Return the newest revision that the bucket ever had.

        Raises:
            StoreError: If it cannot be learnt now.
        """
        return (await self._jetstream.info(f"KV_{self.bucket}")).state.last_seq

    async def newest_revision(self, bucket: str) -> int:
        """Return the revision of the newest entry that a bucket still has; 0 if it has none.

        Raises:
            StoreError: If JetStream refuses, or has no leader in time.
        """
        newest = await self._jetstream.newest_led(f"KV_{bucket}", f"$KV.{bucket}.>")
        return 0 if newest is None else newest.seq or 0

    async def newest_event(self, subject: str) -> str | None:
        """Return the id of the newest event on a subject; None if there is none.

        Raises:
            StoreError: If the stream cannot be read now.
        """
        newest = await self._jetstream.newest(self.events, subject)
        return None if newest is None or newest.headers is None else newest.headers.get(MESSAGE_ID)

    async def follow(self, on_entry: OnEntry, bucket: str | None = None, start: int = 0) -> Any:
        """Hear every entry of a bucket's log: first the newest of each key, or all from `start`, then each as it comes.

        After a gap only the newest entries of keys may come. Returns the subscription.

        Raises:
            StoreError: If JetStream refuses, or has no leader in time.
        """
        bucket = bucket or self.bucket
        prefix = len(f"$KV.{bucket}.")

        async def hear(msg: Message) -> None:
            revision, pending = position(msg.reply)
            await on_entry(entry_of(msg.subject[prefix:], revision, msg.data, msg.headers, pending))

        return await self._jetstream.subscribe(f"KV_{bucket}", f"$KV.{bucket}.>", hear, start)

    async def unfollow(self, subscription: Any) -> None:
        """End what `follow` began, whatever has become of it."""
        await self._jetstream.unsubscribe(subscription)

    async def made(self, bucket: str) -> str:
        """Return when a bucket was made, in Unix milliseconds; "" if it is not there.

        It tells a bucket from one of the same name that was there before, in which the same revisions were others.

        Raises:
            StoreError: If it cannot be learnt now.
        """
        try:
            return (await self.extent(bucket)).made
        except MissingError:
            return ""

    async def extent(self, bucket: str) -> Extent:
        """Return which log a bucket has, and how far it reaches.

        Raises:
            MissingError: If the bucket is not there.
            StoreError: If it cannot be learnt now.
        """
        info = await self._jetstream.info(f"KV_{bucket}")
        if bucket == self.bucket:
            self._note_settings(info.config)
        elif bucket == self.assignments:
            self.can_batch = bool(info.config.allow_atomic)
        assert info.created is not None
        return Extent(str(int(info.created.timestamp() * 1000)), info.state.last_seq)

    def _note_settings(self, settings: Settings) -> None:
        wrong = what_hinders(settings)
        if wrong and self.can_sweep:
            stream, change = f"KV_{self.bucket}", "; ".join(wrong)
            log.warning("bucket_not_swept", stream=stream, removals="stay for ever", change=change)
        self.can_sweep = not wrong

    async def log_name(self) -> str:
        """Return what names the log of agents in the ids of events: the bucket, and when it was made.

        Raises:
            StoreError: If it cannot be learnt now.
        """
        return f"{self.bucket}:{(await self.extent(self.bucket)).made}"

    async def put_assignments(self, writes: Sequence[AssignmentWrite], expected: int, on_ack: OnAck) -> None:
        """Write assignments in this order if their log ends at `expected`; several only if `can_batch`.

        Several are one batch (ADR-50): all of them are written, without anything between them, or none is.
        """
        batch = secrets.token_hex(8)
        for number, write in enumerate(writes, start=1):
            subject, headers = self._assignment_subject + write.key, write.headers()
            if number == 1:
                headers[EXPECTED] = str(expected)
            if len(writes) > 1:
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            if number < len(writes):
                await self._bus.publish(subject, write.value, headers)
                continue
            if len(writes) > 1:
                headers["Nats-Batch-Commit"] = "1"
            await self._bus.publish_acked(subject, write.value, headers, on_ack)

    async def newest_loss(self) -> str:
        """Return the id of the newest event of an assignment that was lost; "" if there is none.

        Raises:
            StoreError: If it cannot be learnt now.
        """
        newest = await self._jetstream.newest(self.events, self._subjects.events_of("assignment"))
        return "" if newest is None else (newest.headers or {}).get(MESSAGE_ID, "")

    def publish_event(self, subject: str, payload: bytes, headers: Headers, on_ack: OnAck) -> Awaitable[None]:
        """Publish an event to the stream; a second copy with the same `Nats-Msg-Id` is dropped there."""
        return self._bus.publish_acked(subject, payload, headers, on_ack)

    async def events_after(self, sequence: int) -> tuple[int, dict[str, int]]:
        """Return where the stream of events ends, and the ids of the events after a sequence, with theirs.

        What there is to read is asked of the stream's leader, and then waited for: a consumer may be served by a copy
        of the stream that lags.

        Raises:
            MissingError: If the stream is not there.
            StoreError: If it cannot be learnt now.
        """
        stream, events = self.events, self._subjects.all_events
        end = (await self._jetstream.info(stream)).state.last_seq
        newest = await self._jetstream.newest(stream, events)
        last = 0 if newest is None else newest.seq or 0
        heard = start = 0 if sequence > end else sequence  # beyond its end it was made anew
        found: dict[str, int] = {}
        more = asyncio.Event()

        async def hear(msg: Message) -> None:
            nonlocal heard
            heard, _ = position(msg.reply)
            event_id = (msg.headers or {}).get(MESSAGE_ID)
            if event_id:
                found[event_id] = heard
            more.set()

        if last <= start:
            return end, found
        subscription = await self._jetstream.subscribe(stream, events, hear, start + 1, headers_only=True)
        try:
            while heard < last:
                more.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(more.wait(), READ_TIMEOUT)
                if not more.is_set():
                    raise StoreError(f"{stream} cannot be read: {heard} came, {last} is there")
        finally:
            await self.unfollow(subscription)
        return max(end, last), found

    async def read_control(self, key: str) -> Entry | None:
        """Read a key of the control bucket.

        Raises:
            StoreError: If it cannot be read now.
        """
        return await self._read(self._subjects.control_bucket, key)

    async def put_control(
        self, key: str, value: Any, expected: int | None = None, within: float = ANSWER_TIMEOUT
    ) -> int | None:
        """Write a key of the control bucket, or remove it if `value` is None.

        Args:
            key: Which.
            value: A JSON value.
            expected: Revision that the key must have; any if left out.
            within: Seconds after which the outcome counts as unknown.

        Returns:
            The new revision, or None if the compare-and-set was lost.

        Raises:
            StoreError: If the outcome is unknown.
        """
        headers = {} if expected is None else {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        if value is None:
            headers["KV-Operation"] = "DEL"
        payload = b"" if value is None else orjson.dumps(value)
        subject = f"$KV.{self._subjects.control_bucket}.{key}"
        return await self._jetstream.publish(subject, payload, headers, within)
