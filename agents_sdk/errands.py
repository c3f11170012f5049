"""Work that is waited for so long and no longer, and then left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Errands:
    """Runs what must not be cancelled just because nobody waits for it any more.

    nats-py swallows a cancellation while it waits for its socket, and its read loop ends on the answer to a ping that
    nobody waits for. So each errand is a task of its own.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T], within: float) -> T:
        """Return what `work` returns.

        Raises:
            TimeoutError: If it takes longer than so many seconds; it goes on then.
        """
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait((task,), timeout=within)
        if not done:
            raise TimeoutError
        return task.result()

    def cancel(self) -> None:
        """End what still runs."""
        for task in self._running:
            task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits, if anybody does
