"""The registry's events as they happen, from the stream that keeps them or, without one, live."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError, ServiceUnavailableError
from pydantic import ValidationError

from agents_sdk.connection import Connection, Subscription
from agents_sdk.consumers import ACK_WAIT, Consumer, Durable, Ordered, next_message
from agents_sdk.denials import PUBLISH
from agents_sdk.link import ClosedError
from agents_sdk.protocol.errors import InvalidRequestError, UnavailableError
from agents_sdk.protocol.events import AssignmentLost, ConflictEvent, RegistryEvent, StatusEvent, says_something_new
from agents_sdk.protocol.scaling import ScalingOrder
from agents_sdk.protocol.subjects import EVENT_KINDS, Subjects
from agents_sdk.retry import Backoff

Event = StatusEvent | ScalingOrder | ConflictEvent | RegistryEvent | AssignmentLost | dict[str, Any]
"""An event; a dict when this version has no class for its kind, or no word for something that it says."""

JETSTREAM_TIMEOUT = 2.0
"""Seconds to wait for JetStream's answer; who may not ask it gets none."""

FIRST_ATTACH = 10.0
"""Seconds after which a JetStream that does not answer counts as out of reach; choosing a leader takes it up to 8."""

MAX_QUEUED = 10_000
"""Live events that may wait for a slow reader; beyond that the oldest are dropped."""

_NOT_ENABLED = 10039
"""JetStream's error code for an account without it."""

_CLASSES: Mapping[str, type[StatusEvent | ScalingOrder | ConflictEvent | RegistryEvent | AssignmentLost]] = {
    "status": StatusEvent,
    "scaling": ScalingOrder,
    "conflict": ConflictEvent,
    "registry": RegistryEvent,
    "assignment": AssignmentLost,
}

logger = logging.getLogger(__name__)


class Held:
    """An event that nobody else of its durable's readers gets, until it is acknowledged or given back.

    Args:
        event: What was read.
        msg: The message that it came in.
        every: Seconds between two messages that tell the server that it is worked on.
    """

    def __init__(self, event: Event, msg: Msg, every: float) -> None:
        self.event = event
        self._msg = msg
        self._holding = asyncio.create_task(_hold(msg, every))

    async def acknowledge(self) -> None:
        """Have it count as read; where that cannot be told the server, it comes again."""
        self.let_go()
        try:
            await self._msg.ack_sync(JETSTREAM_TIMEOUT)
        except (NatsError, TimeoutError) as error:
            logger.info("events: %s is not acknowledged and comes again: %r", self._msg.subject, error)

    async def give_back(self) -> None:
        """Have it come again at once, to whoever reads then."""
        self.let_go()
        try:
            await self._msg.nak()
        except NatsError as error:
            logger.info("events: %s is not given back and comes again later: %r", self._msg.subject, error)

    def let_go(self) -> None:
        """Hold it no longer: without more it comes again after a while."""
        self._holding.cancel()


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
        self._subjects = subjects
        self._kind_at = subjects.prefix.count(".") + 2
        self._patterns = [subjects.events_of(kind) for kind in kinds] or [subjects.all_events]

    async def durable(self, name: str) -> AsyncGenerator[Event, None]:
        """Yield every event that is kept and was not read under this name, then each new one.

        An event counts as read when the next one is asked for, so the one that was being worked on
        when its reader died comes again. Several readers of one name share the events; each keeps what
        it works on, however long that takes.

        Raises:
            ClosedError: When the connection is closed.
            InvalidRequestError: If there is a consumer of that name, and it reads other kinds.
            UnavailableError: If JetStream cannot be reached.
        """
        async with aclosing(self.held(name, ACK_WAIT)) as events:
            async for held in events:
                try:
                    yield held.event
                finally:
                    held.let_go()
                await held.acknowledge()

    async def held(self, name: str, ack_wait: float) -> AsyncGenerator[Held, None]:
        """Yield the same events, each to be acknowledged by itself, several at a time if need be.

        Args:
            name: Name of the durable.
            ack_wait: Seconds after which what nobody holds any more comes again.

        Raises:
            ClosedError: When the connection is closed.
            InvalidRequestError: If there is a consumer of that name, and it reads other kinds.
            UnavailableError: If JetStream cannot be reached.
        """
        consumer = Durable(self._subjects, self._patterns, name, ack_wait)
        async with aclosing(self._messages(consumer)) as msgs:
            async for msg in msgs:
                event = self._decode(msg)
                if event is None:
                    await msg.term()
                else:
                    yield Held(event, msg, consumer.ack_wait / 3)

    async def from_now_on(self) -> AsyncGenerator[Event, None]:
        """Yield each event from now on, in order.

        Where JetStream can be reached, an outage delays events and loses none.

        Raises:
            ClosedError: When the connection is closed.
        """
        try:
            async with aclosing(self._messages(Ordered(self._subjects, self._patterns))) as msgs:
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

    async def _messages(self, consumer: Consumer) -> AsyncGenerator[Msg, None]:
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
                    why = f"the stream {self._subjects.events_stream} cannot be read: {error}"
                    raise UnavailableError(why) from error
                logger.info("events: %s; trying again", error)
                await asyncio.sleep(backoff.next())
                continue
            give_up_at = None
            try:
                while self._connection.counters.reconnects == epoch and not self._connection.is_closed:
                    msg = await next_message(subscription)
                    if msg is None:
                        continue
                    if not consumer.follows(msg):
                        break
                    backoff.reset()
                    yield msg
            except NatsError as error:
                logger.info("events: %s; attaching anew", error)
            finally:
                if not client.is_closed:  # else it went with its client
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
        except ValidationError as error:
            if not says_something_new(error):
                logger.warning("events: %s carries no event: %s", msg.subject, error)
                return None
        try:
            event: dict[str, Any] = orjson.loads(msg.data)
        except orjson.JSONDecodeError as error:
            logger.warning("events: %s carries no event: %s", msg.subject, error)
            return None
        return event


def _is_final(error: Exception) -> bool:
    """Return whether asking again cannot help: there is no such stream, or no JetStream in this account."""
    if isinstance(error, ServiceUnavailableError):
        return error.err_code in (None, _NOT_ENABLED)
    return isinstance(error, NotFoundError)


async def _hold(msg: Msg, every: float) -> None:
    """Have the server know that a message is worked on, so that it gives it to nobody else."""
    while True:
        await asyncio.sleep(every)
        try:
            await msg.in_progress()
        except NatsError as error:
            logger.info("events: %s cannot be held and may come again: %r", msg.subject, error)
            return
