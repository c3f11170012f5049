"""A loop in a thread of its own: work is done there, or not at all, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest

from agents_sdk.loop_thread import LoopThread
from tests.conftest import eventually


async def forever() -> None:
    await asyncio.Event().wait()


async def test_work_is_done_there_and_what_it_raises_is_raised_here() -> None:
    thread, seen = LoopThread("there", forever, print), []

    async def look() -> None:
        seen.append(threading.current_thread().name)

    async def fail() -> None:
        raise KeyError("x")

    thread.start()
    await thread.run(look())
    assert seen == ["there"]
    with pytest.raises(KeyError):
        await thread.run(fail())
    running = asyncio.create_task(thread.run(forever()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await thread.stop()
    await thread.run(look())
    assert seen == ["there"]


async def test_work_under_way_ends_with_the_thread() -> None:
    thread, begun = LoopThread("there", forever, print), threading.Event()

    async def work() -> None:
        begun.set()
        await forever()

    thread.start()
    running = asyncio.create_task(thread.run(work()))
    await asyncio.to_thread(begun.wait, 10)
    await thread.stop()
    async with asyncio.timeout(10):
        await running


async def test_work_that_comes_while_the_thread_ends_is_not_waited_for() -> None:
    ending, go, kept = threading.Event(), threading.Event(), []

    async def closed_last() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            ending.set()
            go.wait(10)

    async def live() -> None:
        kept.append(closed_last())
        await anext(kept[0])

    thread = LoopThread("there", live, print)
    thread.start()
    await asyncio.to_thread(ending.wait, 10)
    running = asyncio.create_task(thread.run(forever()))
    await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(10):
        await running


async def test_what_ends_it_is_told() -> None:
    told: list[Exception] = []

    async def fail() -> None:
        raise OSError("no more")

    thread = LoopThread("there", fail, told.append)
    thread.start()
    await eventually(lambda: bool(told))
    assert isinstance(told[0], OSError)
    await thread.stop()
