"""Telling the registry of agents that could not be reached, not too often."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

PAUSE = 1.0
"""Seconds between two reports of the same agent; the registry asks it no more often because of them."""

MAX_REPORTED = 1024
"""Agents whose last report is remembered; one more and all are forgotten."""

Report = Callable[[str, str], Awaitable[None]]
"""Tells the registry of an agent that could not be reached, with why; waits for no answer."""


class Reports:
    """Passes on what callers find out, so that the registry asks the agent itself; they may be the first to notice.

    Args:
        report: Tells the registry.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._reported: dict[str, float] = {}
        """When an agent was last reported."""

    async def tell(self, agent_id: str, problem: str) -> None:
        """Report an agent, unless that was done within the last second."""
        now = time.monotonic()
        if now < self._reported.get(agent_id, 0.0) + PAUSE:
            return
        if len(self._reported) >= MAX_REPORTED:
            self._reported.clear()
        self._reported[agent_id] = now
        await self._report(agent_id, problem)
