"""What an agent hears of the registry: health checks, the order to drain, what is announced of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from nats.aio.msg import Msg

from agents_sdk.condition import Condition
from agents_sdk.connection import Connection
from agents_sdk.micro import MicroService
from agents_sdk.protocol.codec import encode
from agents_sdk.protocol.errors import UnavailableError
from agents_sdk.protocol.subjects import DRAIN, Subjects, agent_topic
from agents_sdk.protocol.topics import HEALTH_CHECK

logger = logging.getLogger(__name__)


class Ears:
    """Answers health checks, and tells the heart what else was heard.

    Args:
        agent_id: Whose ears these are.
        instance_id: Its life; in the answers to health checks.
        subjects: Subjects of the registry.
        condition: How the agent is doing.
        service: Its face as a NATS micro service.
        on_drain: Called with the reason and the deadline, if there is one, when the agent is told to drain.
        on_doubt: Called when something was announced that may concern the lease.
    """

    def __init__(
        self,
        agent_id: str,
        instance_id: str | None,
        subjects: Subjects,
        condition: Condition,
        service: MicroService,
        on_drain: Callable[[str, float | None], None],
        on_doubt: Callable[[], None],
    ) -> None:
        self.incarnation = 0
        self.is_leaving = False
        self._agent_id = agent_id
        self._instance_id = instance_id
        self._subjects = subjects
        self._condition = condition
        self._service = service
        self._on_drain = on_drain
        self._on_doubt = on_doubt
        self._opening = asyncio.Lock()
        self._heard: set[str] = set()
        self._answers: set[asyncio.Task[None]] = set()

    async def open(self, connection: Connection) -> None:
        """Hear from now on; what has failed half-way goes on where it stopped.

        Raises:
            UnavailableError: If NATS is away, or does not confirm it.
        """

        async def answer(msg: Msg) -> None:
            # Not awaited here: the next one would wait for a slow health function, and be answered too late.
            task = asyncio.create_task(self._answer(connection, msg))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

        async with self._opening:
            await self._hear(connection, agent_topic(self._agent_id, HEALTH_CHECK), answer)
            await self._hear(connection, agent_topic(self._agent_id, DRAIN), self._take_order)
            # To hear at once of what the next answer to a beat would tell as well.
            await self._hear(
                connection, self._subjects.status_event("*", self._agent_id), self._take_event, optional=True
            )
            for subject in self._service.subjects:
                await self._hear(connection, subject, self._service.responder(connection), optional=True)
            await connection.flush()

    async def _hear(
        self,
        connection: Connection,
        subject: str,
        callback: Callable[[Msg], Awaitable[None]],
        *,
        optional: bool = False,
    ) -> None:
        if subject not in self._heard:
            await connection.subscribe(subject, callback, optional=optional)
            self._heard.add(subject)

    async def _answer(self, connection: Connection, msg: Msg) -> None:
        answer = await self._condition.answer()
        answer |= {"instance_id": self._instance_id, "incarnation": self.incarnation}
        if self.is_leaving:
            answer["status"] = "draining"
        if msg.reply:
            try:
                await connection.publish(msg.reply, encode(answer))
            except UnavailableError as error:
                logger.info("a health check of %s is not answered: %s", self._agent_id, error.message)

    async def _take_order(self, msg: Msg) -> None:
        order = _object(msg)
        deadline = order.get("deadline")
        self._on_drain(
            str(order.get("reason", "drain")), float(deadline) if isinstance(deadline, int | float) else None
        )

    async def _take_event(self, msg: Msg) -> None:
        """Look at what the registry announces of this agent; whether it concerns us, a beat finds out."""
        event = _object(msg)
        if event.get("incarnation") != self.incarnation or event.get("to") in ("offline", "deregistering"):
            self._on_doubt()


def _object(msg: Msg) -> dict[str, Any]:
    """Return the JSON object of a message; an empty one if it has none, which is logged."""
    try:
        parsed = orjson.loads(msg.data or b"{}")
    except orjson.JSONDecodeError as error:
        logger.warning("%s carries no JSON: %s", msg.subject, error)
        return {}
    return parsed if isinstance(parsed, dict) else {}
