"""Whether requests reach an agent: one of its two connections says so of the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

MISSED = 2.0
"""Seconds for which the work connection must stay away, although NATS is there, before requests count as lost.

After an outage the heart's connection may be back first, by tenths of a second. Whoever says then that it is full,
because it is not quite back, has agents started for nothing.
"""


class Reach:
    """Tells the loss of the work connection from an outage of NATS, and from the moment after one.

    Args:
        away_since: Instant, of `time.monotonic`, since which the work connection is away; None while it is there. It is
            asked in the heart's thread.
    """

    def __init__(self, away_since: Callable[[], float | None]) -> None:
        self._away_since = away_since
        self._there_since = math.inf
        """Since when NATS has been there, as the heart knows it; infinite while it is away."""

    def note(self, connected: bool) -> None:
        """Take note that the heart's own connection is back, or lost."""
        self._there_since = time.monotonic() if connected else math.inf

    def holds(self) -> bool:
        """Return whether requests reach the agent, as far as is known."""
        away_since = self._away_since()
        if away_since is None:
            return True
        # An outage takes both: what counts is for how long the work connection stayed away by itself.
        return time.monotonic() - max(away_since, self._there_since) < MISSED
