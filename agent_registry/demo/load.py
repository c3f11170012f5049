"""The load of the demo: trades, asked for at a rate that rises and falls."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from agent_registry.demo.story import rate_at

if TYPE_CHECKING:
    from agents_sdk import RegistryClient

SYMBOLS = ("BTC", "ETH", "SOL", "ADA")
TRADE_TIMEOUT = 4.0

WINDOW = 2.0
"""Seconds over which rates and times are averaged."""


class Load:
    """Asks for trades.

    Args:
        registry: Finds the traders.
        seconds: How long the demo lasts.
    """

    def __init__(self, registry: RegistryClient, seconds: float) -> None:
        self._registry = registry
        self._seconds = seconds
        self._calls: set[asyncio.Task[None]] = set()
        self._recent: deque[tuple[float, float]] = deque()
        self.rate = 0.0
        """Trades asked for a second, now."""
        self.done = 0
        self.failed = 0
        self.last_failure = ""

    async def run(self, begun: float) -> None:
        """Ask for trades until cancelled.

        Args:
            begun: Instant at which the demo began, by the monotonic clock.
        """
        due = begun
        try:
            while True:
                self.rate = rate_at((time.monotonic() - begun) / self._seconds)
                call = asyncio.ensure_future(self._trade())
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
                due += random.uniform(0.7, 1.3) / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)

    def recent(self) -> tuple[float, float]:
        """Return trades done a second, and the mean seconds that one took, of the last moments."""
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        if not self._recent:
            return 0.0, 0.0
        return len(self._recent) / WINDOW, sum(took for _, took in self._recent) / len(self._recent)

    async def _trade(self) -> None:
        from agents_sdk import AgentCallError, RegistryError, ServiceQuery

        # Busy traders may be asked too: one that is full says so, and the next one is tried.
        anyone = ServiceQuery(max_load_factor=1.0, limit=10)
        trade = {"symbol": random.choice(SYMBOLS), "quantity": random.randint(1, 100)}
        begun = time.monotonic()
        try:
            await self._registry.call("trading", "trade", trade, timeout=TRADE_TIMEOUT, query=anyone)
        except (RegistryError, AgentCallError) as error:
            self.failed += 1
            self.last_failure = str(error)
            return
        self.done += 1
        self._recent.append((time.monotonic(), time.monotonic() - begun))
