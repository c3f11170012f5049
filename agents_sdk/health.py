"""What an agent's own function says of its health."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from agents_sdk.threads import in_thread

PATIENCE = 1.0
"""Seconds that a health function may take before the score it returned last is used."""

HealthFunction = Callable[[], float] | Callable[[], Awaitable[float]]

logger = logging.getLogger(__name__)


class HealthCheck:
    """Asks the application how healthy it is, without ever waiting long for the answer.

    An `async` function runs on the work loop, where the application's objects live; another one runs in a thread. One
    that raises says 0.0: a failed check is an answer. One that is late leaves the last score standing.

    Args:
        function: Returns 0.0 (unfit) to 1.0 (well).
        work_loop: Where `async` functions run.
    """

    def __init__(self, function: HealthFunction, work_loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._work_loop = work_loop
        self._last = 1.0
        self._running: asyncio.Future[Any] | None = None

    async def score(self) -> float:
        """Return the health, 0.0 to 1.0; called on one other loop only. Who asks meanwhile gets the same answer."""
        running = self._running = self._running or self._start()
        await asyncio.wait((running,), timeout=PATIENCE)
        if running.done() and running is self._running:
            self._running = None
            self._last = self._judge(running)
        return self._last

    def _start(self) -> asyncio.Future[Any]:
        if inspect.iscoroutinefunction(self._function):
            return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._function(), self._work_loop))
        return asyncio.ensure_future(in_thread(self._function))

    def _judge(self, finished: asyncio.Future[Any]) -> float:
        if finished.cancelled():
            return self._last
        error = finished.exception()
        if error is not None:
            logger.error("the health function failed; the agent counts as unfit", exc_info=error)
            return 0.0
        score = finished.result()
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0.0 <= score <= 1.0:
            logger.error("the health function returned %r; it must return 0.0 to 1.0", score)
            return 0.0
        return float(score)
