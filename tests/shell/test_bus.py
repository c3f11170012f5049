"""The connection to NATS, where it differs from what nats-py does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry import AgentRegistry, CommunicationBus
from registry.shell import bus_nats
from registry.shell.acks import TOO_LARGE, Ack
from registry.shell.bus_nats import Bus, UnreachableError
from tests.conftest import eventually
from tests.sdk.outage import Server


@pytest.fixture
def closed() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"nats://127.0.0.1:{probe.getsockname()[1]}"


async def test_nobody_listens(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_nats, "CONNECT_TIMEOUT", 600.0)  # the test's own time would be over long before
    for url in (closed, f"{closed},{closed}"):
        bus = CommunicationBus(url)
        await bus.start()
        with pytest.raises(UnreachableError) as raised:
            await AgentRegistry(bus).start()
        assert str(raised.value) == f"NATS at {url} cannot be reached: connection refused"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A nats-server; not started."""
    server = Server(tmp_path)
    yield server
    await server.kill()


async def test_one_of_two_is_enough(closed: str, server: Server) -> None:
    await server.start()
    bus = Bus(f"{closed},{server.url}", "test")
    await bus.connect()
    assert bus.connected
    await bus.close()


async def test_a_refused_user_is_told_why(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_nats, "CONNECT_TIMEOUT", 0.5)
    await server.start('authorization { user: "ada", password: "secret" }')
    bus = Bus(server.url, "test")
    with pytest.raises(UnreachableError, match="cannot be reached: 'Authorization Violation'"):
        await bus.connect()
    await bus.close()


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
    bus._opened = True
    for _ in range(64):
        await bus._on_error(ConnectionRefusedError("refused"))
        await bus._on_error(TimeoutError("silent"))
    assert caplog.text.count("nats_error") == 2
    assert bus.errors == 128


async def test_what_is_a_byte_too_large_does_not_cost_the_connection(bus: Bus) -> None:
    heard: list[Ack] = []

    async def on_ack(ack: Ack) -> None:
        heard.append(ack)

    headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
    most = bus.max_payload
    for size in range(most - 80, most + 2):
        await bus.publish_acked(f"nobody.{size}", b"x" * size, headers, on_ack)
    await eventually(lambda: len(heard) == 82)
    refused = sum(ack.err_code == TOO_LARGE for ack in heard)
    assert refused == 53, "a header of 52 bytes comes with each, and one is a byte too large without it"
    assert (bus.client.is_connected, bus.reconnects, bus.errors) == (True, 0, 0)
