"""The newest events that the registry's stream keeps."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext

from agents_sdk.connection import Connection
from agents_sdk.protocol.errors import Detail, InvalidRequestError, UnavailableError
from agents_sdk.protocol.subjects import Subjects

MAX_EVENTS = 100
"""Events in one answer: an LLM reads all of it."""

MAX_READ = 5000
"""Events that are looked through, some 3 MB."""

BATCH = 500

TIMEOUT = 2.0
"""Seconds to wait for JetStream; who may not ask it gets no answer."""

INACTIVE = 5.0
"""Seconds after which the server forgets a consumer that was left behind."""

_NOISE = ("v", "event_id", "previous_revision", "epoch")
"""Fields for programs that must miss nothing."""


@dataclass(frozen=True, slots=True)
class Past:
    """Which events to show; what is None does not matter."""

    kind: str | None = None
    agent_id: str | None = None
    capability: str | None = None

    async def newest(self, connection: Connection, subjects: Subjects, limit: int) -> list[dict[str, Any]]:
        """Return the newest of these events, oldest first, each with its `kind` and its `age` in seconds.

        Args:
            connection: The way to NATS.
            subjects: Subjects of the registry.
            limit: How many to return at most.

        Raises:
            InvalidRequestError: If events of that kind are not of an agent, or of a capability, at all.
            UnavailableError: If the stream cannot be read.
        """
        patterns = self._patterns(subjects)
        found: deque[dict[str, Any]] = deque(maxlen=limit)
        kind_at, now = subjects.prefix.count(".") + 2, datetime.now(UTC)
        jetstream = connection.client.jetstream(timeout=TIMEOUT)
        try:
            async for msg in _read(jetstream, subjects.events_stream, patterns):
                event = _told_in(msg)
                if event is not None and self._is_of_the_capability(event):
                    age = max(0.0, (now - msg.metadata.timestamp).total_seconds())
                    found.append({"kind": msg.subject.split(".")[kind_at], "age": round(age, 1), **event})
        except (NatsError, TimeoutError) as error:
            why = str(error) or "no answer in time; perhaps this user may not ask JetStream"
            raise UnavailableError(f"the stream {subjects.events_stream} cannot be read: {why}") from error
        return list(found)

    def _patterns(self, subjects: Subjects) -> list[str]:
        """Return the subjects on which such events are."""
        if self.agent_id is None and self.capability is None:
            return [subjects.all_events if self.kind is None else subjects.events_of(self.kind)]
        found = {"status": subjects.status_event("*", self.agent_id or "*")}
        if self.agent_id is None and self.capability is not None:
            found["scaling"] = subjects.scaling_event("*", self.capability)
        if self.agent_id is not None and self.capability is None:
            found["assignment"] = subjects.loss_event(self.agent_id)
        if self.kind is None:
            return list(found.values())
        if self.kind not in found:
            message = f"with this agent_id or capability there are only {' and '.join(found)} events; got {self.kind!r}"
            raise InvalidRequestError(f"kind: {message}", [Detail("kind", message)])
        return [found[self.kind]]

    def _is_of_the_capability(self, event: dict[str, Any]) -> bool:
        capabilities = event.get("capabilities")
        return self.capability is None or capabilities is None or self.capability in capabilities


def _told_in(msg: Msg) -> dict[str, Any] | None:
    """Return an event without what tells an LLM nothing; None if the message is none, for anybody may write there."""
    try:
        event = orjson.loads(msg.data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict):
        return None
    return {name: value for name, value in event.items() if name not in _NOISE and value is not None}


async def _read(jetstream: JetStreamContext, stream: str, patterns: list[str]) -> AsyncIterator[Msg]:
    """Yield the events on some subjects among the newest `MAX_READ`, oldest first."""
    state = (await jetstream.stream_info(stream)).state
    config = ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=max(state.first_seq, state.last_seq - MAX_READ + 1, 1),
        filter_subjects=patterns,
        inactive_threshold=INACTIVE,
        mem_storage=True,
        num_replicas=1,
    )
    info = await jetstream.add_consumer(stream, config=config)
    left = info.num_pending or 0
    subscription = await jetstream.pull_subscribe_bind(consumer=info.name, stream=stream)
    try:
        while left > 0:
            for msg in await subscription.fetch(min(left, BATCH), timeout=TIMEOUT):
                left -= 1
                yield msg
    finally:
        await subscription.unsubscribe()
