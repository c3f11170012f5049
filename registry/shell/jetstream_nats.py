"""JetStream, as buckets and streams need it: leaders are waited for, and what goes wrong is said in our own words.

The other module that imports nats.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import nats.errors
import nats.js.errors
from nats.js.api import (
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from registry.shell.acks import Ack
from registry.shell.clock import monotonic
from registry.shell.logs import get_logger

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.api import RawStreamMsg, StreamInfo

    from registry.shell.bus_nats import Bus

T = TypeVar("T")

log = get_logger(__name__)

IDLE_HEARTBEAT = 0.5
"""Seconds; a lost consumer is noticed after two. nats-py's own watch takes 10 to 20 s."""

WRONG_LAST_SEQUENCE = (10071, 10164)
"""The compare-and-set was lost; the second code comes from replicated streams."""

NO_MESSAGE = 10037
"""The stream has no message on the subject."""

NO_CLUSTER = 10074
"""More than one copy is wanted of a server that is in no cluster."""

NO_LEADER = (10005, 10008, 10009, 10118)
"""No peer to place a copy on, no leader of the cluster, not this server, or none of a stream's servers is there."""

LEADER_TIMEOUT = 30.0
"""Seconds to wait for a leader where nothing goes on without; servers that start together choose theirs within 10."""

LEADER_WAIT = 0.25
"""Seconds, with as much again as jitter, before it is tried again."""

ANSWER_TIMEOUT = 5.0
"""Seconds for one answer of JetStream."""

PROMPT_TIMEOUT = 0.5
"""Seconds for one answer where the question is asked again: while there is no leader, nobody may answer at all, and who
waits long for nobody is late for the new one."""


class StoreError(Exception):
    """JetStream does not answer, or refuses what the registry needs; the message says which."""


class MissingError(StoreError):
    """A bucket or a stream is not there."""


class CopiesError(StoreError):
    """A server by itself is to keep several copies, and never will.

    Attributes:
        wanted: How many.
    """

    def __init__(self, wanted: int) -> None:
        super().__init__(f"this nats-server is in no cluster: it can keep 1 copy, and kv_replicas is {wanted}")
        self.wanted = wanted


class NoLeaderError(StoreError):
    """JetStream, or the stream, has no leader; it should have one within seconds."""


class JetStream:
    """JetStream over a connection.

    Args:
        bus: The connection, connected.
    """

    def __init__(self, bus: Bus) -> None:
        self._url = bus.url
        self._patient = bus.client.jetstream(timeout=ANSWER_TIMEOUT)
        self._prompt = bus.client.jetstream(timeout=PROMPT_TIMEOUT)

    async def led(self, otherwise: str, work: Callable[[], Awaitable[T]]) -> T:
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

    async def make_bucket(self, bucket: str, history: int, copies: int, marker_seconds: float) -> bool:
        """Make a bucket, unless it is there, and return whether it was not. Use it within `led`.

        Raises:
            CopiesError: If there is one server for several copies.
        """
        if await self._is_there(f"KV_{bucket}", copies):
            return False
        config = KeyValueConfig(
            bucket=bucket, history=history, replicas=copies, storage=StorageType.FILE, direct=True,
            limit_marker_ttl=marker_seconds,
        )  # fmt: skip
        await _made(self._patient.create_key_value(config), copies)
        return True

    async def make_batch_bucket(self, bucket: str, copies: int) -> bool:
        """Make a bucket that takes several entries at once, where the server can do so; else as `make_bucket`.

        What ends by its own time there leaves no marker.
        """
        return await self.make_stream(
            f"KV_{bucket}", copies, subjects=[f"$KV.{bucket}.>"], max_msgs_per_subject=1, discard=DiscardPolicy.NEW,
            allow_rollup_hdrs=True, deny_delete=True, allow_msg_ttl=True, allow_atomic=True,
        )  # fmt: skip

    async def make_stream(self, name: str, copies: int, **settings: Any) -> bool:
        """Make a stream, unless it is there, and return whether it was not. Use it within `led`.

        Raises:
            CopiesError: If there is one server for several copies.
        """
        if await self._is_there(name, copies):
            return False
        config = StreamConfig(
            name=name, num_replicas=copies, retention=RetentionPolicy.LIMITS, storage=StorageType.FILE,
            allow_direct=True, **settings,
        )  # fmt: skip
        await _made(self._patient.add_stream(config), copies)
        return True

    async def _is_there(self, stream: str, copies: int) -> bool:
        try:
            info = await self._prompt.stream_info(stream)
        except nats.js.errors.NotFoundError:
            return False
        if info.config.num_replicas != copies:
            log.warning("copies_differ", stream=stream, has=info.config.num_replicas, wanted=copies)
        return True

    async def info(self, stream: str) -> StreamInfo:
        """Return what there is to know of a stream, as its leader knows it.

        Raises:
            MissingError: If it is not there.
            StoreError: If it cannot be learnt now.
        """
        try:
            return await self._patient.stream_info(stream)
        except nats.js.errors.NotFoundError as error:
            raise MissingError(f"{stream} is not there") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreError(f"{stream} cannot be asked: {error!r}") from error

    async def newest(self, stream: str, subject: str, prompt: bool = False) -> RawStreamMsg | None:
        """Return the newest message on a subject, as the stream's leader knows it; None if there is none.

        Args:
            stream: Its name.
            subject: May have wildcards.
            prompt: Whether to wait no longer than `PROMPT_TIMEOUT`.

        Raises:
            NoLeaderError: If the stream may have no leader now.
            StoreError: If it cannot be read now.
        """
        try:
            return await self._newest(stream, subject, prompt)
        except (nats.errors.Error, TimeoutError) as error:
            kind = NoLeaderError if _lacks_leader(error) else StoreError
            raise kind(f"{subject} of {stream} cannot be read: {error!r}") from error

    async def newest_led(self, stream: str, subject: str) -> RawStreamMsg | None:
        """Return the newest message on a subject; wait for the stream's leader.

        Raises:
            StoreError: If JetStream refuses, or has no leader within `LEADER_TIMEOUT`.
        """
        return await self.led(f"{stream} cannot be read", lambda: self._newest(stream, subject))

    async def _newest(self, stream: str, subject: str, prompt: bool = False) -> RawStreamMsg | None:
        try:
            return await (self._prompt if prompt else self._patient).get_last_msg(stream, subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None  # unlike a stream that is not there
            raise

    async def subscribe(
        self, stream: str, subject: str, hear: Callable[[Msg], Awaitable[None]], start: int, headers_only: bool = False
    ) -> Any:
        """Hear a stream through an ordered consumer; return the subscription.

        Args:
            stream: Its name.
            subject: Of the messages to hear.
            hear: Takes them, one after the other.
            start: Sequence to begin with; 0 for the newest message of each subject.
            headers_only: Whether their payloads are left out.

        Raises:
            StoreError: If JetStream refuses, or has no leader within `LEADER_TIMEOUT`.
        """
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if start else DeliverPolicy.LAST_PER_SUBJECT,
            opt_start_seq=start or None,
            headers_only=headers_only or None,
        )

        async def subscribe() -> Any:
            return await self._patient.subscribe(
                subject, stream=stream, cb=hear, ordered_consumer=True, idle_heartbeat=IDLE_HEARTBEAT, config=config,
                pending_msgs_limit=-1, pending_bytes_limit=-1,
            )  # fmt: skip

        return await self.led(f"{stream} cannot be followed", subscribe)

    async def unsubscribe(self, subscription: Any) -> None:
        """End what `subscribe` began, whatever has become of it."""
        try:
            await subscription.unsubscribe()
        except nats.errors.Error as error:
            log.warning("unsubscribe_failed", error=repr(error))

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str], within: float) -> int | None:
        """Publish to a stream and wait until it has it; return the sequence, None if the compare-and-set was lost.

        Raises:
            StoreError: If the outcome is unknown after so many seconds, or it was refused.
        """
        try:
            ack = await self._patient.publish(subject, payload, timeout=within, headers=dict(headers))
        except nats.js.errors.APIError as error:
            if is_conflict(Ack(err_code=error.err_code or 0)):
                return None
            raise StoreError(f"{subject} cannot be written: {error!r}") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreError(f"{subject} cannot be written: {error!r}") from error
        return ack.seq


async def _made(making: Awaitable[Any], copies: int) -> None:
    try:
        await making
    except nats.js.errors.APIError as error:
        if error.err_code == NO_CLUSTER:
            raise CopiesError(copies) from error
        raise


def _lacks_leader(error: Exception) -> bool:
    """Return whether a failure may be the lack of a leader; of JetStream that is off it is not."""
    if isinstance(error, nats.js.errors.APIError):
        return error.err_code in NO_LEADER
    return isinstance(error, TimeoutError)


def is_conflict(ack: Ack) -> bool:
    """Return whether a write was refused because somebody else's came first."""
    return ack.err_code in WRONG_LAST_SEQUENCE
