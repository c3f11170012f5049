"""What the shell's tests share: parts of a replica on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agents_sdk.protocol.subjects import Subjects
from registry.shell.bus_nats import Bus
from registry.shell.embedded import NatsServer
from registry.shell.store import Store


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection of the registry's kind."""
    bus = Bus(nats_server.url, "test")
    await bus.connect()
    yield bus
    await bus.close()


@pytest.fixture
async def store(bus: Bus) -> Store:
    """Buckets and streams, made anew and empty."""
    store = Store(bus, Subjects("registry"), 1)
    await store.open()
    return store
