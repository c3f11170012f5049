"""Ending a task that may not hear it the first time."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN = 0.1
"""Seconds between two cancellations."""


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end.

    Once is not enough: nats-py swallows a cancellation while it waits for its socket, and asyncio.wait_for, which it
    uses, does until Python 3.12 if it comes together with a result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=AGAIN)
