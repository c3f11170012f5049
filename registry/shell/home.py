"""The event loop on which something in this process lives, and how other threads and loops reach it.

What is bound to a loop, such as a connection or a process, may be used from that loop alone. Whoever calls from
elsewhere has the work carried out there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from agents_sdk.protocol.errors import UnavailableError

Occupant = TypeVar("Occupant")
T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which work at home is given up by who waits for it elsewhere: its loop stopped, or is blocked."""

CALL_PATIENCE = 15.0
"""The same for a plain call, which blocks its thread."""


class Home(Generic[Occupant]):
    """The loop of one object, and what lives on it while it is started.

    Args:
        whose: What the object is, for error texts.
    """

    def __init__(self, whose: str) -> None:
        self.occupant: Occupant | None = None
        """What lives there; None before it was started, and after it was stopped."""
        self._whose = whose
        self._changing = asyncio.Lock()
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._inhabited = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop; None while nobody lives there."""
        return self._loop if self._inhabited else None

    def claim(self) -> bool:
        """Make the running loop the home, unless there is one; return whether it is. One that was closed is none."""
        here = asyncio.get_running_loop()
        with self._guard:
            if self._loop is not here and (self.loop is None or self.has_ended):
                self.occupant, self._changing = None, asyncio.Lock()
                self._loop, self._thread = here, threading.get_ident()
            self._inhabited = self._inhabited or self._loop is here
            return self._loop is here

    def leave(self) -> None:
        """Nobody lives there any more; the next claim may be another loop's."""
        with self._guard:
            self.occupant, self._inhabited = None, False

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Wait at home until nobody else starts or stops the object; it is left as a home if it then has no occupant.

        Raises:
            RuntimeError: If it was started on another loop meanwhile.
        """
        self.claim()  # the lock is the home's
        async with self._changing:
            if not self.claim():
                raise RuntimeError(f"{self._whose} was started on another event loop meanwhile")
            try:
                yield
            finally:
                if self.occupant is None:
                    self.leave()

    @property
    def has_ended(self) -> bool:
        """Whether somebody lives there although the loop was closed."""
        return self.loop is not None and self.loop.is_closed()

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine at home, wherever the caller's loop is.

        Raises:
            RuntimeError: If the loop has ended, before or meanwhile, or does not run.
            UnavailableError: If it does not come to an end within `PATIENCE`.
        """
        loop = self.loop
        if loop is None or loop is asyncio.get_running_loop():
            return await make()
        self._check(loop)
        coroutine = make()
        try:
            there = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:  # closed this very moment
            coroutine.close()
            raise self._ended() from None
        try:
            here = asyncio.wrap_future(there)
            await asyncio.wait((here,), timeout=PATIENCE)
            if not here.done():
                raise self._late(PATIENCE)
            if here.cancelled():
                raise self._ended()
            return here.result()
        finally:
            there.cancel()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function where nothing changes meanwhile: in the home's thread.

        Raises:
            RuntimeError: If the loop has ended, or does not run.
            UnavailableError: If the thread does not come to it within `CALL_PATIENCE`.
        """
        loop = self.loop
        if loop is None:
            return function()
        if not loop.is_closed() and threading.get_ident() == self._thread:
            return function()
        self._check(loop)
        result: Future[T] = Future()

        def carry_out() -> None:
            try:
                result.set_result(function())
            except Exception as error:
                result.set_exception(error)

        try:
            loop.call_soon_threadsafe(carry_out)
        except RuntimeError:  # closed this very moment
            raise self._ended() from None
        try:
            return result.result(CALL_PATIENCE)
        except TimeoutError:
            raise self._late(CALL_PATIENCE) from None

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.is_closed():
            raise self._ended()
        if not loop.is_running():
            raise RuntimeError(f"the event loop on which {self._whose} was started does not run now")

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"the event loop on which {self._whose} was started has ended; start it anew")

    def _late(self, patience: float) -> UnavailableError:
        late = f"the event loop on which {self._whose} was started did not answer within {patience:g} s"
        return UnavailableError(f"{late}; what was asked for may still take place")
