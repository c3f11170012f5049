"""What is stopped has ended."""

from __future__ import annotations

import asyncio
import contextlib

from registry.shell.tasks import end


async def test_a_cancellation_that_comes_with_what_was_waited_for_is_asked_for_again() -> None:
    """In Python 3.11 `wait_for` swallows it."""
    here = asyncio.Event()

    async def wait() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(here.wait(), 60.0)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60.0)  # it may well be asked more than once
        await asyncio.sleep(60.0)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    here.set()
    await asyncio.wait_for(end(task), 5.0)
    assert task.done()


async def test_what_has_ended_and_what_never_began_need_not_end() -> None:
    task = asyncio.ensure_future(asyncio.sleep(0))
    await task
    await end(task)
    await end(None)
