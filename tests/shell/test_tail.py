"""Following a log: what one entry does to the others, and what a start does when nothing comes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from registry.shell.entry import Entry, OnEntry
from registry.shell.jetstream_nats import StoreError
from registry.shell.store import Store
from registry.shell.tail import Tail
from tests.conftest import eventually


async def never() -> None:
    """The bucket stays the same."""


async def put(nc: Client, *keys: str) -> None:
    bucket = await nc.jetstream().key_value("registry_agents")
    for key in keys:
        await bucket.put(key, b"{}")


async def test_an_entry_that_fails_keeps_none_of_the_others(
    store: Store, nc: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest one above all: a start waits for it."""
    heard = []

    async def on_entry(entry: Entry) -> None:
        if entry.key.startswith("bad"):
            raise ZeroDivisionError(entry.key)
        heard.append(entry.key)

    await put(nc, "good-1", "bad-1", "good-2", "bad-2")
    tail = Tail(store, store.bucket, on_entry, never)
    await asyncio.wait_for(tail.start(), 5.0)
    await put(nc, "good-3")
    await eventually(lambda: heard == ["good-1", "good-2", "good-3"])
    await tail.stop()
    told = [record for record in caplog.records if "entry_failed" in record.getMessage()]
    assert ["bad-1" in told[0].getMessage(), "bad-2" in told[1].getMessage(), len(told)] == [True, True, 2]
    assert all("ZeroDivisionError" in record.getMessage() or record.exc_info for record in told), "with its traceback"


async def test_a_start_gives_up_a_log_that_does_not_come(
    store: Store, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = Store.follow

    async def mute(self: Store, on_entry: OnEntry, bucket: str | None = None, start: int = 0) -> Any:
        async def lost(entry: Entry) -> None: ...

        return await follow(self, lost, bucket, start)

    async def on_entry(entry: Entry) -> None: ...

    monkeypatch.setattr(Store, "follow", mute)
    monkeypatch.setattr("registry.shell.tail.STALLED", 0.3)
    await put(nc, "a", "b")
    tail = Tail(store, store.bucket, on_entry, never)
    with pytest.raises(StoreError, match=r"no entry after 0 came within 0\.3 s, 2 is there"):
        await asyncio.wait_for(tail.start(), 5.0)
    await tail.stop()
