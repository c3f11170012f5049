"""The connection to NATS, where it differs from what nats-py does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from registry.shell.bus_nats import Bus
from tests.conftest import eventually
from tests.sdk.outage import Server


async def test_closed_while_nats_is_away(tmp_path: Path) -> None:
    """What waits to be sent is dropped, and nothing is left behind."""
    server = Server(tmp_path)
    await server.start()
    before = asyncio.all_tasks()
    bus = Bus(server.url, "test")
    await bus.connect()

    async def nothing(_: object) -> None:
        pass

    await bus.subscribe("a", nothing)
    await server.kill()
    await eventually(lambda: not bus.connected)
    await bus.publish("b", b"never sent")
    await bus.close()
    assert bus.client.is_closed
    await eventually(lambda: asyncio.all_tasks() <= before)


async def test_an_outage_that_fails_in_two_ways_in_turn_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus("nats://127.0.0.1:1", "test")
    for _ in range(64):
        await bus._on_error(ConnectionRefusedError("refused"))
        await bus._on_error(TimeoutError("silent"))
    assert caplog.text.count("nats_error") == 2 * 7
    assert bus.errors == 128
