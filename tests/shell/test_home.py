"""Work is carried out on the loop to which it belongs, whoever calls from wherever; or refused in so many words."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from agents_sdk.protocol.errors import UnavailableError
from registry.shell.home import Home

Work = Callable[[], Coroutine[Any, Any, Any]]


class LoopThread:
    """A thread with a loop of its own, which ends when the test says."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            self._done = asyncio.Event()
            runner.run(self._done.wait())

    def do(self, work: Work) -> Any:
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(10)

    def end(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._done.set)
            self._thread.join()


@pytest.fixture
def elsewhere() -> Iterator[LoopThread]:
    """Another loop, in another thread."""
    thread = LoopThread()
    yield thread
    thread.end()


@pytest.fixture
def home(elsewhere: LoopThread) -> Home[str]:
    """A home on that other loop."""
    home = Home[str]("the thing")

    async def claim() -> None:
        assert home.claim()

    elsewhere.do(claim)
    return home


async def where() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def test_work_is_carried_out_at_home(home: Home[str], elsewhere: LoopThread) -> None:
    assert await home.run(where) is elsewhere.loop
    assert elsewhere.do(lambda: home.run(where)) is elsewhere.loop
    assert home.call(threading.get_ident) == elsewhere._thread.ident


async def test_what_goes_wrong_is_raised_where_it_was_asked_for(home: Home[str]) -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await home.run(fail)
    with pytest.raises(ZeroDivisionError):
        home.call(lambda: 1 // 0)


async def test_there_is_one_home(home: Home[str], elsewhere: LoopThread) -> None:
    """Who claims it second has it not, until it was left."""
    assert not home.claim()
    assert home.loop is elsewhere.loop
    home.leave()
    assert home.claim()
    assert home.loop is asyncio.get_running_loop()


async def test_nobody_s_home(elsewhere: LoopThread) -> None:
    """Where nothing was started, work is done on the spot: it says so itself."""
    home = Home[str]("the thing")
    assert await home.run(where) is asyncio.get_running_loop()
    assert home.call(threading.get_ident) == threading.get_ident()


async def test_a_home_whose_loop_has_ended(home: Home[str], elsewhere: LoopThread) -> None:
    """Nothing is carried out there; the next claim is good, and what lived there is forgotten."""
    home.occupant = "somebody"
    elsewhere.end()
    assert home.has_ended
    made: list[str] = []

    async def work() -> None:
        made.append("ran")

    with pytest.raises(RuntimeError, match="on which the thing was started has ended; start it anew"):
        await home.run(work)
    with pytest.raises(RuntimeError, match="has ended; start it anew"):
        home.call(lambda: made.append("ran"))
    assert made == []
    assert home.claim()
    assert home.occupant is None


async def test_a_loop_that_ends_meanwhile(home: Home[str], elsewhere: LoopThread) -> None:
    """Who waits for work there is told; he is not cancelled himself."""
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    waiting = asyncio.ensure_future(home.run(work))
    await asyncio.to_thread(begun.wait, 10)
    await asyncio.to_thread(elsewhere.end)
    with pytest.raises(RuntimeError, match="has ended"):
        await waiting


def test_a_loop_that_does_not_run(elsewhere: LoopThread) -> None:
    """Between two runs of a loop nothing can be carried out there; its own thread may look."""
    home = Home[str]("the thing")
    loop = asyncio.new_event_loop()

    async def claim() -> None:
        home.claim()

    loop.run_until_complete(claim())
    with pytest.raises(RuntimeError, match="does not run now"):
        elsewhere.do(lambda: home.run(where))

    async def look() -> None:
        home.call(where)

    with pytest.raises(RuntimeError, match="does not run now"):
        elsewhere.do(look)
    assert home.call(lambda: 5) == 5
    loop.close()


async def test_who_gives_up_stops_the_work(home: Home[str]) -> None:
    """Work that nobody waits for any more is cancelled."""
    begun, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.ensure_future(home.run(work))
    await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(cancelled.wait, 10)


async def test_patience_ends(home: Home[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is blocked, or work without an end, does not hold its callers for ever."""
    monkeypatch.setattr("registry.shell.home.PATIENCE", 0.05)
    monkeypatch.setattr("registry.shell.home.CALL_PATIENCE", 0.05)
    blocked, release = threading.Event(), threading.Event()

    async def block() -> None:
        blocked.set()
        release.wait(10)

    with pytest.raises(UnavailableError, match=r"did not answer within 0\.05 s"):
        await home.run(asyncio.Event().wait)
    waiting = asyncio.ensure_future(home.run(block))
    await asyncio.to_thread(blocked.wait, 10)
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.05 s"):
        home.call(lambda: None)
    with pytest.raises(UnavailableError):
        await waiting
    release.set()


async def test_changes_take_turns(home: Home[str]) -> None:
    """Who starts and who stops do so one after the other, and nobody else's home is changed."""
    home.leave()
    order: list[str] = []
    first = asyncio.Event()

    async def start() -> None:
        async with home.changing():
            order.append("starts")
            first.set()
            await asyncio.sleep(0)
            home.occupant = "somebody"
            order.append("started")

    async def stop() -> None:
        await first.wait()
        async with home.changing():
            home.occupant = None
            order.append("stopped")

    await asyncio.gather(start(), stop())
    assert order == ["starts", "started", "stopped"]
    assert home.loop is None


async def test_a_change_that_came_too_late(home: Home[str]) -> None:
    """While it waited for its turn, the object moved to another loop."""
    with pytest.raises(RuntimeError, match="the thing was started on another event loop meanwhile"):
        async with home.changing():
            pass
