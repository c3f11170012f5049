"""The registry's events as they happen, from the stream that keeps them or, without one, live."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import orjson
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError, ServiceUnavailableError
from pydantic import ValidationError

from agents_sdk.connection import Connection, Subscription
from agents_sdk.denials import PUBLISH
from agents_sdk.link import ClosedError
from agents_sdk.protocol.errors import InvalidRequestError, UnavailableError
from agents_sdk.protocol.events import RegistryEvent, StatusEvent
from agents_sdk.protocol.scaling import ScalingOrder
from agents_sdk.protocol.subjects import EVENT_KINDS, Subjects
from agents_sdk.retry import Backoff

Event = StatusEvent | ScalingOrder | RegistryEvent | dict[str, Any]
"""An event; a dict when this version has no class for its kind."""

FETCH = 2.0
"""Seconds that one request for the next event waits at the server; also how long a request that an
outage swallowed goes unnoticed."""

JETSTREAM_TIMEOUT = 2.0
"""Seconds to wait for JetStream's answer; who may not ask it gets none."""

FIRST_ATTACH = 10.0
"""Seconds after which a JetStream that does not answer counts as out of reach; choosing a leader takes it up to 8."""

INACTIVE = 60.0
"""Seconds after which the server forgets a consumer without a name that nobody reads."""

MAX_QUEUED = 10_000
"""Live events that may wait for a slow reader; beyond that the oldest are dropped."""

_NOT_ENABLED = 10039
"""JetStream's error code for an account without it."""

_CLASSES: Mapping[str, type[StatusEvent | ScalingOrder | RegistryEvent]] = {
    "status": StatusEvent,
    "scaling": ScalingOrder,
    "registry": RegistryEvent,
}

logger = logging.getLogger(__name__)


class Feed:
    """Reads one registry's events.

    Args:
        connection: The way to NATS.
        subjects: Subjects of the registry.
        kinds: Kinds of events to read, from `EVENT_KINDS`; all when empty.

    Raises:
        InvalidRequestError: If there is no such kind.
    """

    def __init__(self, connection: Connection, subjects: Subjects, kinds: Sequence[str]) -> None:
        unknown = [kind for kind in kinds if kind not in EVENT_KINDS]
        if unknown:
            raise InvalidRequestError(f"kinds: {unknown[0]!r} is none of {', '.join(EVENT_KINDS)}")
        self._connection = connection
        self._stream = subjects.events_stream
        self._kind_at = subjects.prefix.count(".") + 2
        self._patterns = [subjects.events_of(kind) for kind in kinds] or [subjects.all_events]

    async def durable(self, name: str) -> AsyncGenerator[Event, None]:
        """Yield every event that is kept and was not read under this name, then each new one.

        An event counts as read when the next one is asked for, so the one that was being worked on
        when its reader died comes again. Several readers of one name share the events.

        Raises:
            ClosedError: When the connection is closed.
            UnavailableError: If JetStream cannot be reached.
        """
        async with aclosing(self._messages(_Durable(self._stream, self._patterns, name))) as msgs:
            async for msg in msgs:
                event = self._decode(msg)
                if event is None:
                    await msg.term()
                    continue
                yield event
                await _acknowledge(msg)

    async def from_now_on(self) -> AsyncGenerator[Event, None]:
        """Yield each event from now on, in order.

        Where JetStream can be reached, an outage delays events and loses none.

        Raises:
            ClosedError: When the connection is closed.
        """
        try:
            async with aclosing(self._messages(_Ordered(self._stream, self._patterns))) as msgs:
                async for msg in msgs:
                    event = self._decode(msg)
                    if event is not None:
                        yield event
        except ClosedError:
            raise
        except UnavailableError as error:
            logger.info("%s; reading events as they happen", error)
        async with aclosing(self._live()) as events:
            async for event in events:
                yield event

    async def _messages(self, consumer: _Consumer) -> AsyncGenerator[Msg, None]:
        """Yield a consumer's messages, attaching to it anew whenever it is in doubt.

        Raises:
            ClosedError: When the connection is closed.
            UnavailableError: If JetStream cannot be reached the first time.
        """
        backoff = Backoff(0.1, 5.0)
        give_up_at: float | None = time.monotonic() + FIRST_ATTACH
        while True:
            epoch, asked_at = self._connection.counters.reconnects, time.monotonic()
            try:
                client = self._connection.client
                subscription = await consumer.attach(client.jetstream(timeout=JETSTREAM_TIMEOUT))
            except ClosedError:
                raise
            except (UnavailableError, TimeoutError, NatsError) as error:
                denied = self._connection.denials.since(asked_at, PUBLISH, "$JS")
                if give_up_at is not None and (denied or _is_final(error) or time.monotonic() >= give_up_at):
                    why = f"the stream {self._stream} cannot be read: {error}"
                    raise UnavailableError(why) from error
                logger.info("events: %s; trying again", error)
                await asyncio.sleep(backoff.next())
                continue
            give_up_at = None
            try:
                while self._connection.counters.reconnects == epoch and not self._connection.is_closed:
                    msg = await _next(subscription)
                    if msg is None:
                        continue
                    if not consumer.follows(msg):
                        break
                    backoff.reset()
                    yield msg
            except NatsError as error:
                logger.info("events: %s; attaching anew", error)
            finally:
                if client.is_connected:  # else it went with its client
                    await subscription.unsubscribe()
            await asyncio.sleep(backoff.next())

    async def _live(self) -> AsyncGenerator[Event, None]:
        queue: asyncio.Queue[Msg | None] = asyncio.Queue(MAX_QUEUED)

        def put(msg: Msg | None) -> None:
            if queue.full():
                queue.get_nowait()
                logger.warning("events: dropped the oldest of %d, the reader is too slow", MAX_QUEUED)
            queue.put_nowait(msg)

        async def on_message(msg: Msg) -> None:
            put(msg)

        def on_link(_connected: bool) -> None:
            if self._connection.is_closed:
                put(None)

        subscriptions: list[Subscription] = []
        self._connection.listen(on_link)
        try:
            for pattern in self._patterns:
                subscription = await self._connection.subscribe(pattern, on_message)
                subscriptions.append(subscription)
            while (msg := await queue.get()) is not None:
                event = self._decode(msg)
                if event is not None:
                    yield event
            self._connection.check_open()
        finally:
            self._connection.unlisten(on_link)
            for subscription in subscriptions:
                await self._connection.unsubscribe(subscription)

    def _decode(self, msg: Msg) -> Event | None:
        kind = msg.subject.split(".")[self._kind_at]
        known = _CLASSES.get(kind)
        try:
            if known is not None:
                return known.model_validate_json(msg.data)
            event: dict[str, Any] = orjson.loads(msg.data)
        except (ValidationError, orjson.JSONDecodeError) as error:
            logger.warning("events: %s carries no event: %s", msg.subject, error)
            return None
        return event


class _Consumer(Protocol):
    """A JetStream pull consumer, and whether what comes from it is complete."""

    async def attach(self, jetstream: JetStreamContext) -> JetStreamContext.PullSubscription: ...

    def follows(self, _msg: Msg, /) -> bool: ...


class _Durable:
    """A consumer with a name: the server remembers what was read."""

    def __init__(self, stream: str, patterns: list[str], name: str) -> None:
        self._stream = stream
        self._patterns = patterns
        self._name = name

    async def attach(self, jetstream: JetStreamContext) -> JetStreamContext.PullSubscription:
        try:
            await jetstream.consumer_info(self._stream, self._name)
        except NotFoundError:
            config = ConsumerConfig(
                durable_name=self._name,
                ack_policy=AckPolicy.EXPLICIT,
                filter_subjects=self._patterns,
            )
            await jetstream.add_consumer(self._stream, config=config)
        return await jetstream.pull_subscribe_bind(consumer=self._name, stream=self._stream)

    def follows(self, _msg: Msg, /) -> bool:
        return True  # what is lost on its way comes again


class _Ordered:
    """A consumer without a name: made anew behind the last message seen, it skips none."""

    def __init__(self, stream: str, patterns: list[str]) -> None:
        self._stream = stream
        self._patterns = patterns
        self._last: int | None = None
        self._next = 1

    async def attach(self, jetstream: JetStreamContext) -> JetStreamContext.PullSubscription:
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.NEW,
            filter_subjects=self._patterns,
            inactive_threshold=INACTIVE,
            mem_storage=True,
            num_replicas=1,
        )
        if self._last is not None:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._last + 1
        info = await jetstream.add_consumer(self._stream, config=config)
        if self._last is None:
            self._last = 0 if info.delivered is None else info.delivered.stream_seq
        self._next = 1
        return await jetstream.pull_subscribe_bind(consumer=info.name, stream=self._stream)

    def follows(self, msg: Msg, /) -> bool:
        sequence = msg.metadata.sequence
        if sequence.consumer != self._next:
            return False
        self._next += 1
        self._last = sequence.stream
        return True


def _is_final(error: Exception) -> bool:
    """Return whether asking again cannot help: there is no such stream, or no JetStream in this account."""
    if isinstance(error, ServiceUnavailableError):
        return error.err_code in (None, _NOT_ENABLED)
    return isinstance(error, NotFoundError)


async def _acknowledge(msg: Msg) -> None:
    try:
        await msg.ack()
    except NatsError as error:
        logger.info("events: %s is not acknowledged and comes again: %r", msg.subject, error)


async def _next(subscription: JetStreamContext.PullSubscription) -> Msg | None:
    """Return the next message, None if there is none for a while."""
    try:
        messages = await subscription.fetch(1, timeout=FETCH)
    except TimeoutError:
        return None
    return messages[0]
