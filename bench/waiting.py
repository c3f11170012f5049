"""Waiting for what has to come about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bench.processes import BenchError

T = TypeVar("T")

LOOK_INTERVAL = 0.05
"""Seconds."""


async def until(look: Callable[[], Awaitable[T | None]], what: str, within: float) -> T:
    """Look again and again, and return what is seen once it is something.

    Args:
        look: Returns what it sees; None or False for nothing.
        what: What is waited for, for the error.
        within: Seconds after which waiting is given up.

    Raises:
        BenchError: If it does not come about in time.
    """
    deadline = time.monotonic() + within
    while not (seen := await look()):
        if time.monotonic() > deadline:
            raise BenchError(f"not within {within:g} s: {what}")
        await asyncio.sleep(LOOK_INTERVAL)
    return seen
