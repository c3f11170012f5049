"""Serving what an agent can be asked: requests in, handlers run, replies out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection

from nats.aio.msg import Msg

from agents_sdk.assigned import working
from agents_sdk.canary import handling, says_canary
from agents_sdk.connection import Connection, Subscription
from agents_sdk.protocol.errors import (
    InternalError,
    InvalidRequestError,
    OverloadedError,
    PayloadTooLargeError,
    RegistryError,
    UnavailableError,
)
from agents_sdk.served import LostAnswerError, Request, Served
from agents_sdk.tracing import continued
from agents_sdk.vitals import Vitals

CANCEL_TIMEOUT = 2.0
"""Seconds that cancelled handlers get to clean up."""

logger = logging.getLogger(__name__)


class Service:
    """Runs handlers for the requests to one agent, so many at once and no more.

    What a handler raises becomes an error reply: `InvalidRequestError` tells the caller what is wrong with the request;
    of anything else only the class is told, the rest is logged.

    Args:
        agent_id: Who is asked.
        endpoints: What it can be asked.
        vitals: Where work is counted.
        max_concurrency: Handlers that run at once; who comes then is told to try another agent.
        on_work: Called when a request begins or ends.
    """

    def __init__(
        self,
        agent_id: str,
        endpoints: Collection[Served],
        vitals: Vitals,
        max_concurrency: int,
        on_work: Callable[[], None],
    ) -> None:
        self._agent_id = agent_id
        self._endpoints = endpoints
        self._vitals = vitals
        self._max_concurrency = max_concurrency
        self._on_work = on_work
        self._refusal: RegistryError | None = None
        self._connection: Connection | None = None
        self._subscriptions: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()

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
        for endpoint in self._endpoints:
            taker = self._taker(endpoint, connection)
            self._subscriptions.append(await connection.subscribe(endpoint.subject, taker, queue=endpoint.queue))
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

    def _taker(self, endpoint: Served, connection: Connection) -> Callable[[Msg], Awaitable[None]]:
        async def take(msg: Msg) -> None:
            # nats-py hands over the next message when this returns, so the work is not awaited here.
            request, canary = Request(msg, connection, self._agent_id), says_canary(msg.headers)
            if self._refusal is not None:
                await endpoint.refuse(request, self._refusal)
            elif not self._vitals.begin(canary):
                busy = f"{self._agent_id} is doing {self._max_concurrency} requests already"
                await endpoint.refuse(request, OverloadedError(busy))
            else:
                task = asyncio.create_task(self._work(request, endpoint, canary))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self._on_work()

        return take

    async def _work(self, request: Request, endpoint: Served, canary: bool) -> None:
        started = time.monotonic()
        error: RegistryError | None = None
        try:
            with continued(request.headers), handling(canary), working(request.headers):
                await endpoint.answer(request)
        except (InvalidRequestError, PayloadTooLargeError) as refusal:
            await endpoint.refuse(request, refusal)
        except LostAnswerError as lost:
            error = lost
            await endpoint.refuse(request, error)
        except asyncio.CancelledError:
            error = InternalError(f"{self._agent_id} stopped before it was done")
            await endpoint.refuse(request, error)
            raise
        except Exception as failure:
            logger.exception("handler %r of %s failed", endpoint.name, self._agent_id)
            error = InternalError(f"{type(failure).__name__} in handler {endpoint.name!r} of {self._agent_id}")
            await endpoint.refuse(request, error)
        finally:
            if canary:
                self._vitals.end_canary()
            else:
                self._count(endpoint, time.monotonic() - started, error)

    def _count(self, endpoint: Served, seconds: float, error: RegistryError | None) -> None:
        endpoint.counts.add(seconds, error)
        self._vitals.end(seconds, failed=error is not None)
        self._on_work()
