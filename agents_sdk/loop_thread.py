"""A thread that runs an event loop of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class LoopThread:
    """Runs one coroutine on a loop in a daemon thread, and takes work for that loop from others.

    Args:
        name: Name of the thread.
        main: Makes the coroutine; the thread ends with it.
        on_failure: Called in the thread with what the coroutine raised.
    """

    def __init__(
        self, name: str, main: Callable[[], Coroutine[Any, Any, None]], on_failure: Callable[[Exception], None]
    ) -> None:
        self._main = main
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        """None before it runs, and once it takes nothing more."""
        self._task: asyncio.Task[None] | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; return when its loop runs."""
        self._thread.start()
        self._begun.wait()

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop soon; from any thread. Nothing happens before `start` or after the end."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the loop and wait for it; from another loop. If the thread ends first, so does this."""
        with self._lock:
            if self._loop is None:
                work.close()
                return
            running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def stop(self) -> None:
        """Cancel the coroutine and wait for the end of the thread."""
        if self._task is not None:
            self.post(self._task.cancel)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            pass  # stopped
        except Exception as error:
            logger.exception("%s failed", self._thread.name)
            self._on_failure(error)
        finally:
            self._begun.set()

    async def _live(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._begun.set()
        try:
            await self._main()
        finally:
            # What is taken after this would not be done, and whoever waits for it would do so for ever; what has been
            # taken is cancelled with the loop.
            with self._lock:
                self._loop = None
