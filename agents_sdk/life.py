"""The life of an agent: it connects, registers, serves, drains and leaves. Once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable

from agents_sdk.cancelling import cancel
from agents_sdk.connection import Connection
from agents_sdk.heart import DrainOrdered, Ended, Heart, Registered, Signal
from agents_sdk.lease_facts import Moved
from agents_sdk.protocol.errors import UnavailableError
from agents_sdk.protocol.registration import Receipt
from agents_sdk.protocol.subjects import DRAIN
from agents_sdk.retry import Backoff
from agents_sdk.serving import Service

MakeHeart = Callable[[asyncio.AbstractEventLoop, Callable[[Signal], None]], Heart]

logger = logging.getLogger(__name__)


class Life:
    """Brings an agent's parts up and down in the right order.

    Topics are subscribed after registering: until then the id may be another instance's, and so is its work. When
    leaving they are given up last, after deregistering, so that whoever still asks is sent elsewhere at once.

    Args:
        agent_id: Whose life it is.
        connection: The work loop's connection.
        service: Serves the topics.
        make_heart: Makes the heart, from the work loop and from where it tells its signals.
        drain_timeout: Seconds that the work in flight gets in the end.
    """

    def __init__(
        self, agent_id: str, connection: Connection, service: Service, make_heart: MakeHeart, drain_timeout: float
    ) -> None:
        self.is_serving = False
        self._agent_id = agent_id
        self._connection = connection
        self._service = service
        self._make_heart = make_heart
        self._drain_timeout = drain_timeout
        self._heart: Heart | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._registered: asyncio.Future[Receipt] | None = None
        self._receipt: Receipt | None = None
        self._over: asyncio.Future[None] | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it has begun; it may be over."""
        return self._loop is not None

    @property
    def incarnation(self) -> int:
        """The incarnation it was first registered as, 0 before."""
        return 0 if self._receipt is None else self._receipt.incarnation

    async def begin(self) -> None:
        """Connect, register and serve. Whoever ends it meanwhile has this return when it is over.

        Raises:
            RegistryError: If the registry refuses the registration for good, or takes it back at once.
            RuntimeError: If it has begun before.
        """
        if self._loop is not None:
            raise RuntimeError(f"{self._agent_id} has been started before; make another Agent")
        self._loop = asyncio.get_running_loop()
        self._registered, self._over = self._loop.create_future(), self._loop.create_future()
        self._over.add_done_callback(_retrieve)
        self._beginning = asyncio.create_task(self._bring_up())
        error: BaseException | None
        try:
            await asyncio.wait((self._beginning,))
            error = None if self._beginning.cancelled() else self._beginning.exception()
        except asyncio.CancelledError as cancelled:
            error = cancelled
        if error is not None and self._ending is None:
            self._ending = asyncio.create_task(self._abandon(error))
        if self._ending is not None:
            await asyncio.shield(self._ending)
        if error is not None:
            raise error
        if self._ending is not None:
            await self.over()

    async def end(self) -> None:
        """Drain and leave; return when that is done, whoever began it."""
        if self._over is None or self._over.done():
            return
        if self._ending is None:
            self._ending = asyncio.create_task(self._leave("stopped", None, announce=True))
        await asyncio.shield(self._ending)

    async def over(self) -> None:
        """Wait for the end.

        Raises:
            StaleIncarnationError: If another instance has taken the id over.
            RuntimeError: If it has not begun.
        """
        if self._over is None:
            raise RuntimeError(f"{self._agent_id} has not been started")
        await asyncio.shield(self._over)

    def moved(self) -> None:
        """Have the registry know soon that the agent has something new to say; from any thread."""
        if self._heart is not None:
            self._heart.note(Moved())

    async def _bring_up(self) -> None:
        assert self._loop is not None
        assert self._registered is not None
        await self._connection.open(math.inf)
        self._heart = self._make_heart(self._loop, self._tell)
        self._heart.start()
        await self._registered
        backoff = Backoff(0.1, 5.0)
        while not self.is_serving:
            try:
                await self._service.open(self._connection)
                await self._heart.appear()
                self.is_serving = True
            except UnavailableError:
                await asyncio.sleep(backoff.next())

    def _tell(self, signal: Signal) -> None:
        """Take a signal to the work loop; called in the heart's thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the agent has ended
                self._loop.call_soon_threadsafe(self._hear, signal)

    def _hear(self, signal: Signal) -> None:
        registered = self._registered
        if registered is None:
            return
        match signal:
            case Registered(receipt):
                self._receipt = self._receipt or receipt
                if not registered.done():
                    registered.set_result(receipt)
                elif self._ending is None:
                    logger.info("%s is registered again, as incarnation %d", self._agent_id, receipt.incarnation)
            case DrainOrdered(reason, deadline):
                if self._ending is None:
                    why = "" if reason == DRAIN else f": {reason}"  # else nobody gave one
                    logger.info("%s is told to drain%s", self._agent_id, why)
                    self._ending = asyncio.create_task(self._leave(reason, deadline, announce=False))
            case Ended(error):
                if not registered.done():
                    registered.set_exception(error)
                elif self._ending is None:
                    logger.error("%s stops serving: %s", self._agent_id, error)
                    self._ending = asyncio.create_task(self._give_up(error))

    async def _leave(self, reason: str, deadline: float | None, *, announce: bool) -> None:
        """Finish the work in flight, deregister, go.

        Args:
            reason: Why, for the registry's log.
            deadline: Unix time by which it should be gone.
            announce: Whether the registry has yet to learn that the agent takes no new work.
        """
        within = self._drain_timeout
        if deadline is not None:
            within = min(within, max(0.0, deadline - time.time()))
        try:
            await self._end_beginning()
            self._service.refuse("is draining and takes no new work; ask another agent")
            if self._heart is not None:
                announce = announce and self._service.in_flight > 0
                await asyncio.gather(self._heart.leave(announce=announce), self._service.finish(within))
                await self._heart.release(reason)
            await self._service.close()
        finally:
            await self._shut(None)
            logger.info("%s has left", self._agent_id)

    async def _give_up(self, error: Exception) -> None:
        """Stop without deregistering: the id is another instance's, which also gets the requests."""
        try:
            await self._end_beginning()
            await self._service.unsubscribe()
            await self._service.finish(self._drain_timeout)
        finally:
            await self._shut(error)

    async def _abandon(self, error: BaseException) -> None:
        """Undo as much as has begun."""
        try:
            await self._end_beginning()
            if self._heart is not None:
                await self._heart.leave(announce=False)
                await self._heart.release("did not start")
        finally:
            await self._shut(error)

    async def _end_beginning(self) -> None:
        if self._beginning is not None:
            await cancel(self._beginning)

    async def _shut(self, error: BaseException | None) -> None:
        self.is_serving = False
        await self._service.unsubscribe()
        if self._heart is not None:
            await self._heart.stop()
        await self._connection.close()
        if self._over is None or self._over.done():
            return
        if isinstance(error, Exception):
            self._over.set_exception(error)
        else:
            self._over.set_result(None)


def _retrieve(over: asyncio.Future[None]) -> None:
    """Take note of how the life ended; that has been logged, and nobody may be waiting."""
    if not over.cancelled():
        over.exception()
