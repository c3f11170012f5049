"""What an answer of JetStream says is of a moment ago, and may be of one copy of several, which lags."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from nats.aio.client import Client

from registry.replica import Replica
from registry.shell import missing, tail
from registry.shell.entry import Entry, Extent, OnEntry
from registry.shell.jetstream_nats import MissingError, StoreError
from registry.shell.log_reader import contents
from registry.shell.store import Store
from tests.conftest import Start
from tests.contract.wire import TRADER, told

ALL = {"trader-1", "trader-2", "trader-3"}


async def _register(nc: Client, *agent_ids: str) -> list[int]:
    return [(await told(nc, "registry.register", {**TRADER, "agent_id": one}))["revision"] for one in agent_ids]


@pytest.fixture
def lagging(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], asyncio.Event]:
    """Has the log of agents served by a copy that knows nothing beyond a revision, until the event is set."""
    follow = Store.follow

    def begin(last: int) -> asyncio.Event:
        caught_up = asyncio.Event()

        async def of_a_copy(self: Store, on_entry: OnEntry, bucket: str | None = None, start: int = 0) -> Any:
            async def hear(entry: Entry) -> None:
                if entry.revision > last:
                    await caught_up.wait()
                    await on_entry(entry)
                else:
                    await on_entry(replace(entry, pending=last - entry.revision))

            return await follow(self, hear if bucket in (None, self.bucket) else on_entry, bucket, start)

        monkeypatch.setattr(Store, "follow", of_a_copy)
        return caught_up

    return begin


async def test_a_start_waits_for_a_copy_that_lags(
    registry: Replica, start: Start, nc: Client, lagging: Callable[[int], asyncio.Event]
) -> None:
    _, last, _ = await _register(nc, *sorted(ALL))
    caught_up = lagging(last)
    starting = asyncio.ensure_future(start())
    await told(nc, "registry.stats")
    assert not starting.done()
    caught_up.set()
    assert set((await starting).state.agents) == ALL


async def test_the_contents_of_a_bucket_are_all_of_it(
    registry: Replica, nc: Client, lagging: Callable[[int], asyncio.Event]
) -> None:
    _, last, _ = await _register(nc, *sorted(ALL))
    caught_up = lagging(last)

    async def keys() -> set[str]:
        return {entry.key async for entry in contents(registry.store, registry.store.bucket)}

    reading = asyncio.ensure_future(keys())
    await told(nc, "registry.stats")
    assert not reading.done()
    caught_up.set()
    assert await reading == ALL


async def test_what_comes_while_a_bucket_is_asked_does_not_make_it_shorter(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _register(nc, "trader-1")
    extent, coming = registry.store.extent, iter(("trader-2", "trader-3"))

    async def answered_late(bucket: str) -> Extent:
        answer = await extent(bucket)
        if bucket == registry.store.bucket:
            await _register(nc, next(coming))
        return answer

    monkeypatch.setattr(registry.store, "extent", answered_late)
    for _ in range(2):
        await registry.log._tail._look()
    monkeypatch.undo()
    assert set(registry.state.agents) == ALL


# Patience with what is missing.


class Bucket:
    """A store whose answers the test gives: "missing", or an error."""

    bucket = "b"

    def __init__(self) -> None:
        self.answer = "missing"
        self.made: list[str] = []

    async def extent(self, bucket: str) -> Extent:
        raise (MissingError if self.answer == "missing" else StoreError)(bucket)

    async def make(self, name: str) -> None:
        self.made.append(name)


async def test_only_what_was_missing_at_every_look_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(missing, "uptime", lambda: clock[0])
    bucket = Bucket()
    watching = tail.Tail(bucket, "b", None, None)  # type: ignore[arg-type]
    for at, answer in ((0.0, "missing"), (2.0, "error"), (4000.0, "missing"), (4009.0, "missing")):
        clock[0], bucket.answer = at, answer
        await watching._watch_once()
        assert not bucket.made
    clock[0] = 4010.0
    await watching._watch_once()
    assert bucket.made == ["b"]
