"""Being asked to end: the first SIGTERM or Ctrl-C asks, the second does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from agents_sdk.signals import on_stop_signal


class Stopping:
    """Whether this process has been asked to end."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.at_once: Callable[[], None] | None = None
        """Called at the second signal, just before the process ends."""

    async def wait(self) -> None:
        """Return when it has been asked."""
        await self._asked.wait()

    def ask(self) -> None:
        """Ask it to end, as a signal does."""
        self._asked.set()

    async def or_until(self, *work: Awaitable[None]) -> None:
        """Do all of this until it has been asked, or the first of it ends.

        Raises:
            Exception: What the first that ended raised.
        """
        tasks = [asyncio.ensure_future(each) for each in (self.wait(), *work)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self) -> None:
        if self.at_once is not None:
            self.at_once()


@contextmanager
def until_signalled() -> Iterator[Stopping]:
    """Yield a `Stopping` that the process's signals ask, for as long as the block lasts."""
    stopping = Stopping()
    with on_stop_signal(asyncio.get_running_loop(), lambda _: stopping.ask(), stopping._end):  # noqa: SLF001
        yield stopping
