"""How late the work loop is, seen from another thread."""

from __future__ import annotations

import asyncio
import time


class Pulse:
    """Knocks at a loop now and then and measures how long it takes to answer.

    Args:
        loop: The loop to watch. It runs in one thread, `knock` and `lag` are called from another.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._knocked_at: float | None = None
        self._lag = 0.0

    def knock(self) -> None:
        """Knock, unless the loop has not answered the last time."""
        if self._knocked_at is None and not self._loop.is_closed():
            self._knocked_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._answer)

    def lag(self) -> float:
        """Return how late the loop is, in seconds."""
        knocked_at = self._knocked_at
        return self._lag if knocked_at is None else max(self._lag, time.monotonic() - knocked_at)

    def _answer(self) -> None:
        if self._knocked_at is not None:
            self._lag = time.monotonic() - self._knocked_at
            self._knocked_at = None
