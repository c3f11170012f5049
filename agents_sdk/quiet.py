"""Trouble that may last, told now and then."""

from __future__ import annotations

import logging
import math
import time

QUIET = 30.0
"""Seconds between two log lines about the same trouble."""


class QuietLog:
    """Logs a warning, unless it has logged one a short while ago.

    Args:
        logger: Where to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._until = -math.inf

    def warning(self, text: str, *args: object) -> None:
        """Log a warning if the time for one has come."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + QUIET
            self._logger.warning(text, *args)
