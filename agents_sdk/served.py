"""What an agent serves: a subject, and how a request on it is answered or refused."""

from __future__ import annotations

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.msg import Msg

from agents_sdk.connection import Connection
from agents_sdk.micro import Endpoint
from agents_sdk.protocol.codec import encode, parse
from agents_sdk.protocol.errors import InternalError, RegistryError, UnavailableError
from agents_sdk.threads import in_thread

Handler = Callable[[dict[str, Any]], Any] | Callable[[dict[str, Any]], Awaitable[Any]]
"""Takes the request, a JSON object; returns anything that is JSON."""

logger = logging.getLogger(__name__)


class LostAnswerError(InternalError):
    """Of an answer in parts some may not have arrived."""


class Request:
    """A request, and the way back to whoever sent it.

    Args:
        msg: The message.
        connection: Where it came from.
        agent_id: Who is asked.
    """

    def __init__(self, msg: Msg, connection: Connection, agent_id: str) -> None:
        self._connection = connection
        self._agent_id = agent_id
        self._to = msg.reply
        self.data: bytes = msg.data
        self.headers: dict[str, str] | None = msg.headers

    @property
    def losses(self) -> int:
        """How often NATS has gone away so far; what was sent before may not have arrived."""
        return self._connection.counters.losses

    async def reply(self, payload: bytes, headers: dict[str, str] | None = None) -> bool:
        """Send an answer, or a part of one, if one is wanted; returns False if it is lost, which is logged.

        Raises:
            PayloadTooLargeError: If the server does not take messages of that size.
        """
        if self._to:
            try:
                # Not msg.respond, which sends the request's headers back.
                await self._connection.publish(self._to, payload, headers)
            except UnavailableError as error:
                logger.warning("a reply of %s is lost: %s", self._agent_id, error.message)
                return False
        return True


class Served(Endpoint, ABC):
    """An endpoint with somebody behind it."""

    @abstractmethod
    async def answer(self, request: Request) -> None:
        """Do what is asked, and send the answer.

        Raises:
            InvalidRequestError: If something is wrong with the request.
            PayloadTooLargeError: If it is too large, or its answer would be.
            LostAnswerError: If parts of the answer may be lost.
            Exception: Whatever went wrong here.
        """

    @abstractmethod
    async def refuse(self, request: Request, error: RegistryError) -> None:
        """Send an error, also when a part of the answer was sent."""


class Topic(Served):
    """A topic of an agent: a JSON object is asked, and JSON answered.

    Args:
        name: What follows the agent's id in the subject.
        subject: The subject.
        handler: Answers.
    """

    def __init__(self, name: str, subject: str, handler: Handler) -> None:
        super().__init__(name, subject)
        self._handler = handler

    async def answer(self, request: Request) -> None:
        """Send what the handler returns."""
        await request.reply(encode(await call(self._handler, parse(request.data))))

    async def refuse(self, request: Request, error: RegistryError) -> None:
        """Send an error in the registry's own form."""
        await request.reply(encode(error.to_body()), error.to_headers())


async def call(handler: Callable[[Any], Any], argument: Any) -> Any:
    """Return what a handler returns: an `async` one runs on the loop, another one in a thread."""
    if inspect.iscoroutinefunction(handler):
        return await handler(argument)
    result = await in_thread(handler, argument)
    return await result if inspect.isawaitable(result) else result
