"""What is durable, in JetStream: the bucket of agents with its log, the control bucket, the stream of events.

The other module that imports nats.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import nats.errors
import nats.js.errors
import orjson
from nats.js.api import (
    ConsumerConfig,
    DeliverPolicy,
    KeyValueConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from agents_sdk.protocol.subjects import MESSAGE_ID
from registry.shell.acks import Ack, OnAck
from registry.shell.bus_nats import Bus, Headers
from registry.shell.clock import monotonic
from registry.shell.entry import Entry, Extent, OnEntry, entry_of, position
from registry.shell.logs import get_logger
from registry.shell.sweeping import what_hinders

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.api import RawStreamMsg, StreamInfo
    from nats.js.client import JetStreamContext

    from agents_sdk.protocol.subjects import Subjects

T = TypeVar("T")

log = get_logger(__name__)

HISTORY = 8
"""Revisions kept of each agent's record: what a new leader may find unpublished."""

EVENTS_MAX_AGE = 7 * 24 * 3600.0
EVENTS_MAX_BYTES = 1024**3
DUPLICATE_WINDOW = 120.0
"""Seconds within which a second copy of an event is dropped by its id."""

HEADERS_ROOM = 4096
"""Bytes of a message that are left to its headers."""

IDLE_HEARTBEAT = 0.5
"""Seconds; a lost consumer is noticed after two. nats-py's own watch takes 10 to 20 s."""

WRONG_LAST_SEQUENCE = (10071, 10164)
"""The compare-and-set was lost; the second code comes from replicated streams."""

NO_MESSAGE = 10037
"""The stream has no message on the subject."""

READ_TIMEOUT = 5.0
"""Seconds without another message after which the rest of a stream is not waited for."""

MARKER_SECONDS = 3600
"""How long the marker of a swept removal stays in the log, for replicas that were away."""

LEADER_TIMEOUT = 30.0
"""Seconds to wait for a leader where nothing goes on without; servers that start together choose theirs within 10."""

LEADER_WAIT = 0.25
"""Seconds, with as much again as jitter, before it is tried again."""

ANSWER_TIMEOUT = 5.0
"""Seconds for one answer of JetStream."""

PROMPT_TIMEOUT = 0.5
"""Seconds for one answer where the question is asked again: while there is no leader, nobody may answer at all, and who
waits long for nobody is late for the new one."""

NO_LEADER = (10005, 10008, 10009, 10118)
"""No peer to place a copy on, no leader of the cluster, not this server, or none of a stream's servers is there."""


class StoreError(Exception):
    """JetStream does not answer, or refuses what the registry needs; the message says which."""


class MissingError(StoreError):
    """A bucket or a stream is not there."""


class NoLeaderError(StoreError):
    """JetStream, or the stream, has no leader; it should have one within seconds."""


class Store:
    """Buckets and streams of one registry.

    Args:
        bus: The connection, connected.
        subjects: Names of buckets and streams.
        replicas: Copies that JetStream keeps of each.
    """

    def __init__(self, bus: Bus, subjects: Subjects, replicas: int) -> None:
        self._bus = bus
        self._subjects = subjects
        self._replicas = replicas
        self._js: JetStreamContext = bus.client.jetstream(timeout=ANSWER_TIMEOUT)
        self._prompt: JetStreamContext = bus.client.jetstream(timeout=PROMPT_TIMEOUT)
        self.bucket = subjects.agents_bucket
        self.can_sweep = True
        """Whether the bucket's settings allow to sweep removals."""
        self._put_subject = f"$KV.{self.bucket}."
        self._follower: Any = None

    @property
    def max_event(self) -> int:
        """Bytes that the payload of an event may have, so that there is room for its headers."""
        return self._bus.max_payload - HEADERS_ROOM

    async def open(self) -> None:
        """Make the buckets and the stream, or find them as they are; wait for a cluster that is still forming.

        Raises:
            StoreError: If JetStream is off, or has no leader within `LEADER_TIMEOUT`.
        """
        await self._led(f"JetStream at {self._bus.url} does not do what is needed", self._make)

    async def _make(self) -> None:
        for bucket, history in ((self.bucket, HISTORY), (self._subjects.control_bucket, 1)):
            if not await self._is_there(f"KV_{bucket}"):
                await self._js.create_key_value(
                    KeyValueConfig(
                        bucket=bucket, history=history, replicas=self._replicas, storage=StorageType.FILE,
                        direct=True, limit_marker_ttl=MARKER_SECONDS,
                    )
                )  # fmt: skip
        if not await self._is_there(self._subjects.events_stream):
            await self._js.add_stream(self._events_config())

    async def _is_there(self, stream: str) -> bool:
        try:
            info = await self._prompt.stream_info(stream)
        except nats.js.errors.NotFoundError:
            return False
        if info.config.num_replicas != self._replicas:
            log.warning("copies_differ", stream=stream, has=info.config.num_replicas, wanted=self._replicas)
        return True

    def _events_config(self) -> StreamConfig:
        return StreamConfig(
            name=self._subjects.events_stream,
            description="Status and scaling events of the agent registry",
            subjects=[self._subjects.all_events],
            retention=RetentionPolicy.LIMITS,
            max_age=EVENTS_MAX_AGE,
            max_bytes=EVENTS_MAX_BYTES,
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            duplicate_window=DUPLICATE_WINDOW,
            allow_direct=True,
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
        try:
            return await self._last(self._prompt, bucket, key)
        except (nats.errors.Error, TimeoutError) as error:
            kind = NoLeaderError if _lacks_leader(error) else StoreError
            raise kind(f"{bucket}/{key} cannot be read: {error!r}") from error

    async def _last(self, js: JetStreamContext, bucket: str, key: str) -> Entry | None:
        found = await self._newest(js, f"KV_{bucket}", f"$KV.{bucket}.{key}")
        if found is None:
            return None
        assert found.seq is not None
        return entry_of(key, found.seq, found.data or b"", found.headers, 0)

    async def _newest(self, js: JetStreamContext, stream: str, subject: str) -> RawStreamMsg | None:
        """Return the newest message on a subject, as the stream's leader knows it."""
        try:
            return await js.get_last_msg(stream, subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None  # unlike a stream that is not there
            raise

    async def last_revision(self) -> int:
        """Return the newest revision that the bucket ever had.

        Raises:
            StoreError: If it cannot be learnt now.
        """
        return await self._end(f"KV_{self.bucket}")

    async def _end(self, stream: str) -> int:
        """Return the sequence of the newest message that a stream ever had, which need not be there any more."""
        return (await self._info(stream)).state.last_seq

    async def _info(self, stream: str) -> StreamInfo:
        try:
            return await self._js.stream_info(stream)
        except nats.js.errors.NotFoundError as error:
            raise MissingError(f"{stream} is not there") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreError(f"{stream} cannot be asked: {error!r}") from error

    async def follow(self, on_entry: OnEntry, bucket: str | None = None, start: int = 0) -> Any:
        """Hear every entry of a bucket's log: first the newest of each key, or all from `start`, then each as it comes.

        After a gap only the newest entries of keys may come. Returns the subscription.

        Raises:
            StoreError: If JetStream refuses, or has no leader within `LEADER_TIMEOUT`.
        """
        bucket = bucket or self.bucket
        prefix = len(f"$KV.{bucket}.")

        async def hear(msg: Msg) -> None:
            revision, pending = position(msg.reply)
            await on_entry(entry_of(msg.subject[prefix:], revision, msg.data, msg.headers, pending))

        async def subscribe() -> Any:
            return await self._subscribe(f"KV_{bucket}", f"$KV.{bucket}.>", hear, start)

        return await self._led(f"{bucket} cannot be followed", subscribe)

    async def _subscribe(
        self, stream: str, subject: str, hear: Callable[[Msg], Awaitable[None]], start: int, headers_only: bool = False
    ) -> Any:
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if start else DeliverPolicy.LAST_PER_SUBJECT,
            opt_start_seq=start or None,
            headers_only=headers_only or None,
        )
        return await self._js.subscribe(
            subject, stream=stream, cb=hear, ordered_consumer=True,
            idle_heartbeat=IDLE_HEARTBEAT, config=config, pending_msgs_limit=-1, pending_bytes_limit=-1,
        )  # fmt: skip

    async def unfollow(self, subscription: Any) -> None:
        """End what `follow` began, whatever has become of it."""
        try:
            await subscription.unsubscribe()
        except nats.errors.Error as error:
            log.warning("unsubscribe_failed", error=repr(error))

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
        info = await self._info(f"KV_{bucket}")
        if bucket == self.bucket:
            self._note_settings(info.config)
        assert info.created is not None
        return Extent(str(int(info.created.timestamp() * 1000)), info.state.last_seq)

    def _note_settings(self, config: StreamConfig) -> None:
        wrong = what_hinders(config)
        if wrong and self.can_sweep:
            stream, change = f"KV_{self.bucket}", "; ".join(wrong)
            log.warning("bucket_not_swept", stream=stream, removals="stay for ever", change=change)
        self.can_sweep = not wrong

    async def log_name(self) -> str:
        """Return what names the log of agents in the ids of events: the bucket, and when it was made.

        Raises:
            StoreError: If it cannot be learnt now.
        """
        made = await self.made(self.bucket)
        if not made:
            raise StoreError(f"{self.bucket} is not there")
        return f"{self.bucket}:{made}"

    async def newest_revision(self, bucket: str) -> int:
        """Return the revision of the newest entry that a bucket still has; 0 if it has none.

        Raises:
            StoreError: If JetStream refuses, or has no leader within `LEADER_TIMEOUT`.
        """
        newest = await self._led(f"{bucket} cannot be read", lambda: self._last(self._js, bucket, ">"))
        return 0 if newest is None else newest.revision

    async def _led(self, otherwise: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do what needs a leader; do it again while there is none.

        Args:
            otherwise: What it means if it cannot be done, for the error.
            work: What to do.

        Raises:
            StoreError: If JetStream refuses it, or has no leader within `LEADER_TIMEOUT`.
        """
        deadline, told = monotonic() + LEADER_TIMEOUT, False
        while True:
            try:
                return await work()
            except (nats.errors.Error, TimeoutError) as error:
                if not _lacks_leader(error) or monotonic() > deadline:
                    raise StoreError(f"{otherwise}: {str(error) or repr(error)}") from error
                if not told:
                    log.warning("waiting_for_leader", otherwise=otherwise, error=repr(error), seconds=LEADER_TIMEOUT)
                    told = True
            await asyncio.sleep(LEADER_WAIT + random.uniform(0.0, LEADER_WAIT))

    def publish_event(self, subject: str, payload: bytes, headers: Headers, on_ack: OnAck) -> Awaitable[None]:
        """Publish an event to the stream; a second copy with the same `Nats-Msg-Id` is dropped there."""
        return self._bus.publish_acked(subject, payload, headers, on_ack)

    async def events_after(self, sequence: int) -> tuple[int, dict[str, int]]:
        """Return where the stream of events ends, and the ids of the events after a sequence, with theirs.

        What there is to read is asked of the stream's leader, and then waited for: a consumer may be served by a copy
        of the stream that lags.

        Raises:
            StoreError: If it cannot be learnt now.
        """
        stream = self._subjects.events_stream
        end = await self._end(stream)
        try:
            newest = await self._newest(self._js, stream, self._subjects.all_events)
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreError(f"{stream} cannot be read: {error!r}") from error
        last = 0 if newest is None else newest.seq or 0
        heard = start = 0 if sequence > end else sequence  # beyond its end it was made anew
        found: dict[str, int] = {}
        more = asyncio.Event()

        async def hear(msg: Msg) -> None:
            nonlocal heard
            heard, _ = position(msg.reply)
            event_id = (msg.headers or {}).get(MESSAGE_ID)
            if event_id:
                found[event_id] = heard
            more.set()

        if last <= start:
            return end, found
        try:
            subscription = await self._subscribe(stream, self._subjects.all_events, hear, start + 1, headers_only=True)
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreError(f"{stream} cannot be followed: {error!r}") from error
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
        try:
            ack = await self._js.publish(
                f"$KV.{self._subjects.control_bucket}.{key}", payload, timeout=within, headers=headers
            )
        except nats.js.errors.APIError as error:
            if is_conflict(Ack(err_code=error.err_code or 0)):
                return None
            raise StoreError(f"{key} cannot be written: {error!r}") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreError(f"{key} cannot be written: {error!r}") from error
        return ack.seq


def _lacks_leader(error: Exception) -> bool:
    """Return whether a failure may be the lack of a leader; of JetStream that is off it is not."""
    if isinstance(error, nats.js.errors.APIError):
        return error.err_code in NO_LEADER
    return isinstance(error, TimeoutError)


def is_conflict(ack: Ack) -> bool:
    """Return whether a write was refused because somebody else's came first."""
    return ack.err_code in WRONG_LAST_SEQUENCE
