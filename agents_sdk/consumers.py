"""JetStream's consumers of the event stream: one with a name, which the server remembers, and one without."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Protocol

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from agents_sdk.protocol.errors import Detail, InvalidRequestError
from agents_sdk.protocol.subjects import Subjects

FETCH = 2.0
"""Seconds that one request for the next event waits at the server; also how long a request that an
outage swallowed goes unnoticed."""

INACTIVE = 60.0
"""Seconds after which the server forgets a consumer without a name that nobody reads."""

ACK_WAIT = 30.0
"""Seconds after which an event that nobody acknowledges, or holds, comes again."""

HELD_ACK_WAIT = 10.0
"""The same where each is acknowledged by itself, when what it asks for is done: who was killed has somebody else do it
soon."""

logger = logging.getLogger(__name__)


class Consumer(Protocol):
    """A JetStream pull consumer, and whether what comes from it is complete."""

    async def attach(self, jetstream: JetStreamContext) -> JetStreamContext.PullSubscription:
        """Return a subscription to it."""
        ...

    def follows(self, _msg: Msg, /) -> bool:
        """Return whether nothing was lost before a message."""
        ...


class Durable:
    """A consumer with a name: the server remembers what was read.

    Args:
        subjects: Subjects of the registry.
        patterns: Those to read.
        name: Name of the consumer, made if there is none.
        ack_wait: Seconds after which an event that nobody acknowledges, or holds, comes again; one that is there keeps
            its own.
    """

    def __init__(self, subjects: Subjects, patterns: list[str], name: str, ack_wait: float) -> None:
        self.ack_wait = ack_wait
        self._stream = subjects.events_stream
        self._everything = subjects.all_events
        self._patterns = patterns
        self._name = name

    async def attach(self, jetstream: JetStreamContext) -> JetStreamContext.PullSubscription:
        """Return a subscription to it.

        Raises:
            InvalidRequestError: If there is one of that name, and it reads something else.
        """
        try:
            info = await jetstream.consumer_info(self._stream, self._name)
            self._check(info)
        except NotFoundError:
            config = ConsumerConfig(
                durable_name=self._name,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=self.ack_wait,
                filter_subjects=self._patterns,
            )
            info = await jetstream.add_consumer(self._stream, config=config)
        self.ack_wait = info.config.ack_wait or self.ack_wait
        return await jetstream.pull_subscribe_bind(consumer=self._name, stream=self._stream)

    def follows(self, _msg: Msg, /) -> bool:
        """Return True: what is lost comes again."""
        return True

    def _check(self, info: ConsumerInfo) -> None:
        """Refuse one that reads what was not asked for, or nothing of a kind that was; less is its maker's will."""
        read = info.config.filter_subjects or [info.config.filter_subject or self._everything]
        strange = [each for each in read if not any(_is_within(each, pattern) for pattern in self._patterns)]
        missing = [pattern for pattern in self._patterns if not any(_is_within(each, pattern) for each in read)]
        if strange or missing:
            message = f"{self._name!r} exists and reads {', '.join(read)}, not {', '.join(self._patterns)}"
            hint = f"take another name, or remove it: nats consumer rm {self._stream} {self._name}"
            raise InvalidRequestError(f"durable: {message}; {hint}", [Detail("durable", message)])


class Ordered:
    """A consumer without a name: made anew behind the last message seen, it skips none.

    Args:
        subjects: Subjects of the registry.
        patterns: Those to read.
    """

    def __init__(self, subjects: Subjects, patterns: list[str]) -> None:
        self._stream = subjects.events_stream
        self._patterns = patterns
        self._last: int | None = None
        self._next = 1
        self._created: datetime | None = None

    async def attach(self, jetstream: JetStreamContext) -> JetStreamContext.PullSubscription:
        """Return a subscription to a new consumer."""
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.NEW,
            filter_subjects=self._patterns,
            inactive_threshold=INACTIVE,
            mem_storage=True,
            num_replicas=1,
        )
        if self._last is not None:
            if await self._is_new(jetstream):
                self._last = 0
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._last + 1
        info = await jetstream.add_consumer(self._stream, config=config)
        if self._last is None:
            self._last = 0 if info.delivered is None else info.delivered.stream_seq
            await self._is_new(jetstream)
        self._next = 1
        return await jetstream.pull_subscribe_bind(consumer=info.name, stream=self._stream)

    def follows(self, msg: Msg, /) -> bool:
        """Return whether a message is the next one; if not, some were lost on their way."""
        sequence = msg.metadata.sequence
        if sequence.consumer != self._next:
            return False
        self._next += 1
        self._last = sequence.stream
        return True

    async def _is_new(self, jetstream: JetStreamContext) -> bool:
        """Return whether the stream was made anew since the last time: then it counts from 1 again."""
        before = self._created
        try:
            self._created = (await jetstream.stream_info(self._stream)).created
        except TimeoutError:
            logger.debug("nobody says when the stream %s was made; the user may not be allowed to ask", self._stream)
        return before is not None and self._created != before


async def next_message(subscription: JetStreamContext.PullSubscription) -> Msg | None:
    """Return the next message, None if there is none for a while."""
    try:
        messages = await subscription.fetch(1, timeout=FETCH)
    except TimeoutError:
        return None
    return messages[0]


def _is_within(subjects: str, pattern: str) -> bool:
    """Return whether a pattern that ends with `>` receives all of some subjects, themselves a pattern perhaps."""
    return subjects.startswith(pattern.removesuffix(">"))
