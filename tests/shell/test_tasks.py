"""What is stopped has ended."""

from __future__ import annotations

import asyncio
import contextlib

from registry.shell.tasks import end


async def test_a_cancellation_that_comes_with_what_was_waited_for_is_asked_for_again() -> None:
    """In Python 3.11 `wait_for` swallows it."""
    waiting, here, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        waiting.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(here.wait(), 60.0)
        with contextlib.suppress(asyncio.CancelledError):
            await never.wait()  # it may well be asked more than once
        await never.wait()

    task = asyncio.ensure_future(wait())
    await waiting.wait()
    here.set()
    await asyncio.wait_for(end(task), 5.0)
    assert task.done()


async def test_what_has_ended_and_what_never_began_need_not_end() -> None:
    done = asyncio.Event()
    done.set()
    task = asyncio.ensure_future(done.wait())
    await task
    await end(task)
    await end(None)
