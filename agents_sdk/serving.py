"""Serving an agent's topics: requests in, handlers run, replies out."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nats.aio.msg import Msg

from agents_sdk.assigned import working
from agents_sdk.canary import handling, says_canary
from agents_sdk.connection import Connection, Subscription
from agents_sdk.micro import Counts
from agents_sdk.protocol.codec import encode, parse
from agents_sdk.protocol.errors import (
    InternalError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    RegistryError,
    UnavailableError,
)
from agents_sdk.protocol.subjects import agent_topic
from agents_sdk.threads import in_thread
from agents_sdk.tracing import continued
from agents_sdk.vitals import Vitals

CANCEL_TIMEOUT = 2.0
"""Seconds that cancelled handlers get to clean up."""

Handler = Callable[[dict[str, Any]], Any] | Callable[[dict[str, Any]], Awaitable[Any]]
"""Takes the request, a JSON object; returns anything that is JSON."""

logger = logging.getLogger(__name__)


class Service:
    """Runs handlers for the requests to one agent, so many at once and no more.

    `async` handlers run as tasks on the loop, others in threads. What a handler raises becomes an error reply:
    `InvalidRequestError` tells the caller what is wrong with the request; of anything else only the class is told, the
    rest is logged.

    Args:
        agent_id: Whose topics these are.
        handlers: Topic to handler.
        vitals: Where work is counted.
        max_concurrency: Handlers that run at once; who comes then is told to try another agent.
        on_work: Called when a request begins or ends.
    """

    def __init__(
        self,
        agent_id: str,
        handlers: Mapping[str, Handler],
        vitals: Vitals,
        max_concurrency: int,
        on_work: Callable[[], None],
    ) -> None:
        self._agent_id = agent_id
        self._handlers = handlers
        self._vitals = vitals
        self._max_concurrency = max_concurrency
        self._on_work = on_work
        self._refusal: RegistryError | None = None
        self._connection: Connection | None = None
        self._subscriptions: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts: dict[str, Counts] = {}
        """Topic to what was counted of it."""

    @property
    def in_flight(self) -> int:
        """Requests that are worked on now."""
        return len(self._tasks)

    async def open(self, connection: Connection) -> None:
        """Take requests from now on.

        Raises:
            UnavailableError: If NATS is away.
        """
        self._connection = connection
        await self.unsubscribe()
        for topic, handler in self._handlers.items():
            self.counts[topic] = Counts()
            subject = agent_topic(self._agent_id, topic)
            self._subscriptions.append(await connection.subscribe(subject, self._taker(topic, handler)))
        await connection.flush()

    def refuse(self, reason: str) -> None:
        """Begin nothing new: from now on requests are answered with 503, which sends callers elsewhere."""
        self._refusal = UnavailableError(f"{self._agent_id} {reason}")

    async def finish(self, within: float) -> None:
        """Wait for the work in flight.

        Args:
            within: Seconds to wait; what is not done by then is cancelled and answered with an error.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        if late:
            logger.warning("%s cancels %d requests that are not done after %g s", self._agent_id, len(late), within)
            await asyncio.wait(late, timeout=CANCEL_TIMEOUT)

    async def close(self) -> None:
        """Have NATS send no requests any more, and answer those that it has sent."""
        ending, self._subscriptions = self._subscriptions, []
        if self._connection is None or not ending:
            return
        try:
            await self._connection.drain(ending)
        except UnavailableError as error:
            logger.warning("requests to %s may stay without an answer: %s", self._agent_id, error.message)

    async def unsubscribe(self) -> None:
        """Take no requests any more, not even to refuse them."""
        if self._connection is not None:
            for subscription in self._subscriptions:
                await self._connection.unsubscribe(subscription)
        self._subscriptions.clear()

    def _taker(self, topic: str, handler: Handler) -> Callable[[Msg], Awaitable[None]]:
        async def take(msg: Msg) -> None:
            # nats-py hands over the next message when this returns, so the work is not awaited here.
            canary = says_canary(msg.headers)
            if self._refusal is not None:
                await self._reply_error(msg, self._refusal)
            elif not self._vitals.begin(canary):
                busy = f"{self._agent_id} is doing {self._max_concurrency} requests already"
                await self._reply_error(msg, OverloadedError(busy))
            else:
                task = asyncio.create_task(self._work(msg, topic, handler, canary))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self._on_work()

        return take

    async def _work(self, msg: Msg, topic: str, handler: Handler, canary: bool) -> None:
        started, error = time.monotonic(), None
        try:
            with continued(msg.headers), handling(canary), working(msg.headers):
                answer = encode(await self._run(handler, parse(msg.data)))
            await self._reply(msg, answer)
        except (InvalidRequestError, PayloadTooLargeError) as refusal:
            await self._reply_error(msg, refusal)
        except asyncio.CancelledError:
            error = InternalError(f"{self._agent_id} stopped before it was done")
            await self._reply_error(msg, error)
            raise
        except Exception as failure:
            logger.exception("handler %r of %s failed", topic, self._agent_id)
            error = InternalError(f"{type(failure).__name__} in handler {topic!r} of {self._agent_id}")
            await self._reply_error(msg, error)
        finally:
            if canary:
                self._vitals.end_canary()
            else:
                self._count(topic, time.monotonic() - started, error)

    def _count(self, topic: str, seconds: float, error: RegistryError | None) -> None:
        counts = self.counts[topic]
        counts.requests += 1
        counts.seconds += seconds
        if error is not None:
            counts.errors += 1
            counts.last_error = f"{error.status}:{error.message}"
        self._vitals.end(seconds, failed=error is not None)
        self._on_work()

    async def _run(self, handler: Handler, request: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(handler):
            return await handler(request)
        result = await in_thread(handler, request)
        return await result if inspect.isawaitable(result) else result

    async def _reply(self, msg: Msg, payload: bytes, headers: dict[str, str] | None = None) -> None:
        if not msg.reply or self._connection is None:
            return
        try:
            # Not msg.respond, which sends the request's headers back.
            await self._connection.publish(msg.reply, payload, headers)
        except UnavailableError as error:
            logger.warning("a reply of %s is lost: %s", self._agent_id, error.message)

    async def _reply_error(self, msg: Msg, error: RegistryError) -> None:
        await self._reply(msg, encode(error.to_body()), error.to_headers())
