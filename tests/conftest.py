"""Real servers for tests: one nats-server and one registry a test, on free ports, in temporary folders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.contract.proxy import Proxy

Start = Callable[..., Awaitable[Replica]]


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A real nats-server with JetStream."""
    server = await NatsServer.start(port=0, store=tmp_path / "nats")
    yield server
    await server.stop()


@pytest.fixture
def settings() -> Settings:
    """The registry's settings; a test module overrides this fixture to have others."""
    return Settings()


@pytest.fixture
async def registry(nats_server: NatsServer, settings: Settings) -> AsyncIterator[Replica]:
    """A running replica, which leads."""
    replica = Replica(settings, nats_server.url)
    await replica.start()
    yield replica
    await replica.stop()
    replica.state.validate()


@pytest.fixture
async def start(nats_server: NatsServer, settings: Settings) -> AsyncIterator[Start]:
    """Starts replicas, with other settings where that is asked for; what still runs is stopped at the end."""
    running: list[Replica] = []

    async def begin(**changed: Any) -> Replica:
        replica = Replica(settings.model_copy(update=changed), nats_server.url)
        running.append(replica)
        await replica.start()
        return replica

    yield begin
    for replica in running:
        await replica.stop()
        replica.state.validate()


@pytest.fixture
async def nc(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A plain connection to the server."""
    client = await nats.connect(nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    yield client
    await client.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A way to NATS that can have bad luck."""
    proxy = Proxy()
    yield proxy
    await proxy.stop()


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], within: float = 10.0, seen: object = None
) -> None:
    """Wait until a condition holds; fail when it does not within `within` seconds, and show what was `seen`."""
    deadline = time.monotonic() + within
    while True:
        met = condition()
        if not isinstance(met, bool):
            met = await met
        if met:
            return
        assert time.monotonic() < deadline, f"not within {within} s: {seen or condition}"
        await asyncio.sleep(0.01)
