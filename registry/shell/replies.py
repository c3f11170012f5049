"""Where answers go: back over NATS, or to a caller in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from agents_sdk.protocol.errors import Detail, PayloadTooLargeError, RegistryError
from registry.core.agent import Agent
from registry.core.errors import RefusedError
from registry.shell.clock import monotonic
from registry.shell.wire import encode_body, to_error

if TYPE_CHECKING:
    from registry.shell.bus_nats import Bus
    from registry.shell.micro import Endpoint

Body = Mapping[str, Any] | Agent | RefusedError


class Reply(Protocol):
    """Takes one answer."""

    async def send(self, body: Body) -> None:
        """Deliver the answer."""


class NatsReply:
    """The answer to a NATS request; its time and outcome count for the endpoint it came to.

    Only `answer` publishes, and only to the subject the request named: headers of the request are never echoed.
    """

    __slots__ = ("_bus", "_endpoint", "_on_end", "_started", "_subject", "ended")

    def __init__(
        self, bus: Bus, subject: str, endpoint: Endpoint, started: int, on_end: Callable[[str | None], None] | None
    ) -> None:
        self._bus = bus
        self._subject = bus.inbox(subject)
        self._endpoint = endpoint
        self._started = started
        self._on_end = on_end
        """Told the error code, or None, when the request has been answered; ends its span."""
        self.ended = False
        """Whether the outcome was counted."""

    def mute(self) -> None:
        """Count the outcome but send nothing: nobody waits, or the leader answers."""
        self._subject = ""

    async def send(self, body: Body) -> None:
        """Answer with fields, an agent or a refusal."""
        if isinstance(body, RefusedError):
            await self.fail(to_error(body))
        else:
            await self.answer(encode_body(body, monotonic()))

    async def answer(self, payload: bytes) -> None:
        """Answer with JSON bytes."""
        if len(payload) > self._bus.max_payload:
            most = self._bus.max_payload
            message = f"the answer has {len(payload)} bytes, and a message holds {most}; ask for fewer with limit"
            await self.fail(PayloadTooLargeError(message, [Detail("limit", message)]))
            return
        if self._subject:
            await self._bus.publish(self._subject, payload)
        self.done()

    def done(self) -> None:
        """Count a request that was carried out."""
        self.ended = True
        self._endpoint.succeeded(time.perf_counter_ns() - self._started)
        if self._on_end is not None:
            self._on_end(None)

    async def fail(self, error: RegistryError) -> None:
        """Answer with an error."""
        if self._subject:
            await self._bus.publish(self._subject, orjson.dumps(error.to_body()), error.to_headers())
        self.ended = True
        self._endpoint.failed(time.perf_counter_ns() - self._started, f"{error.code}: {error.message}")
        if self._on_end is not None:
            self._on_end(error.code)


class LocalReply:
    """The answer to a caller in this process."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def send(self, body: Body) -> None:
        """Hand the answer over, or raise the refusal at the caller's."""
        if self.future.done():
            return  # the caller gave up waiting
        if isinstance(body, RefusedError):
            self.future.set_exception(to_error(body))
        else:
            self.future.set_result(body)
