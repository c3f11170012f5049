"""Being asked to end: the first SIGTERM or Ctrl-C asks, the second does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
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

    def _end(self) -> None:
        if self.at_once is not None:
            self.at_once()


@contextmanager
def until_signalled() -> Iterator[Stopping]:
    """Yield a `Stopping` that the process's signals ask, for as long as the block lasts."""
    stopping = Stopping()
    with on_stop_signal(asyncio.get_running_loop(), lambda _: stopping.ask(), stopping._end):  # noqa: SLF001
        yield stopping
