"""Being asked to end: the first SIGTERM or Ctrl-C asks, the second does not."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Whether this process has been asked to end."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.at_once: Callable[[], None] | None = None
        """Called at the second signal, just before the process ends."""

    @property
    def asked(self) -> bool:
        """Whether it has been asked."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return when it has been asked."""
        await self._asked.wait()

    def ask(self) -> None:
        """Ask it from within."""
        self._asked.set()

    def _signalled(self, number: signal.Signals) -> None:
        if not self._asked.is_set():
            self._asked.set()
            return
        if self.at_once is not None:
            self.at_once()
        os._exit(128 + number)  # not sys.exit: that would let the draining go on


@contextmanager
def until_signalled() -> Iterator[Stopping]:
    """Yield a `Stopping` that the process's signals ask, for as long as the block lasts."""
    loop = asyncio.get_running_loop()
    stopping = Stopping()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopping._signalled, number)  # noqa: SLF001
    try:
        yield stopping
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
