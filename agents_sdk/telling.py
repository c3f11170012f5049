"""Telling whoever listens, who has no part in the work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


def unfailing(tell: Callable[[T], None]) -> Callable[[T], None]:
    """Return a function that passes on what it is told. What `tell` raises is logged once, and stops nobody."""
    has_failed = False

    def pass_on(told: T) -> None:
        nonlocal has_failed
        try:
            tell(told)
        except Exception:
            if not has_failed:
                logger.exception("cannot tell of %r; the next ones that cannot be told are not logged", told)
            has_failed = True

    return pass_on
