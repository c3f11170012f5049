"""Trouble that lasts, told to the log at growing intervals, so that an outage does not fill it; and when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from registry.shell.clock import monotonic

FIRST_WAIT = 1.0
LONGEST_WAIT = 300.0
"""Seconds from the first to the second line about the same trouble, and at most between two; they double."""

QUIET = 60.0
QUIET_AFTER_ALL = 5.0
"""Seconds without it after which a trouble is a new one; the second when it was said to be over."""

MAX_TROUBLES = 1000
"""Troubles told apart; beyond, all begin anew."""


@dataclass(slots=True)
class _Told:
    """What has been told of one trouble. Instants are monotonic seconds."""

    at: float
    """When the last line was told."""
    wait: float
    """Seconds from that line to the next."""
    last: float
    """When it came last."""
    times: int = 0
    """How often it came since the last line."""


class Trouble:
    """Tells of the same trouble at once, then at growing intervals.

    One that comes and goes is told no more often than one that stays.

    Args:
        log: Where to.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._told: dict[tuple[str, Any], _Told] = {}
        self._open: set[str] = set()
        """Events of what was told, and not that it is over."""

    def warning(self, event: str, of: Any = None, **fields: Any) -> None:
        """Tell of something outside, if it is time to.

        Args:
            event: What happened.
            of: Sets troubles with the same event apart.
            fields: Of the line; `times` says how often it came since the line before.
        """
        times = self._due(event, of)
        if times:
            self._log.warning(event, times=times, **fields)

    def defect(self, event: str, of: Any = None, error: BaseException | None = None, **fields: Any) -> None:
        """Tell, with its traceback, of an exception that nobody expects, if it is time to.

        Args:
            event: What failed.
            of: Sets troubles with the same event apart, beside the kind of exception.
            error: The exception.
            fields: Of the line.
        """
        times = self._due(event, (of, type(error)))
        if times:
            self._log.error(event, times=times, exc_info=error, **fields)

    def over(self, event: str) -> None:
        """Tell that the trouble is over, if it was told that there is any."""
        if event in self._open:
            self._open.discard(event)
            self._log.info("trouble_over", trouble=event)

    def _due(self, event: str, of: Any) -> int:
        """Count one, and return how often it came since the last line; 0 if it is not time for another."""
        now = monotonic()
        told = self._told.get((event, of))
        if told is None or now - told.last > (QUIET if event in self._open else QUIET_AFTER_ALL):
            if len(self._told) >= MAX_TROUBLES:
                self._told.clear()
            told = self._told[event, of] = _Told(at=now, wait=0.0, last=now)
        told.last = now
        told.times += 1
        if now - told.at < told.wait:
            return 0
        times = told.times
        told.at, told.times = now, 0
        self._open.add(event)
        told.wait = min(LONGEST_WAIT, 2 * told.wait or FIRST_WAIT)
        return times
