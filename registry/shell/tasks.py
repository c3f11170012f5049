"""The end of tasks."""

from __future__ import annotations

import asyncio
from typing import Any

INSIST = 0.1
"""Seconds until a task that has not ended is cancelled once more."""


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task, if there is one, and return when it has ended.

    In Python 3.11 `wait_for` swallows a cancellation that comes together with what it waits for, and the task goes on:
    so it may have to be asked more than once.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=INSIST)
