"""What the SDK's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents_sdk import RegistryClient
from registry.replica import Replica
from registry.shell.embedded import NatsServer
from tests.sdk.outage import Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A nats-server that the test may take down; not started."""
    server = Server(tmp_path)
    yield server
    await server.kill()


@pytest.fixture
async def client(nats_server: NatsServer, registry: Replica) -> AsyncIterator[RegistryClient]:
    """A connected client of a running registry."""
    async with RegistryClient(nats_server.url) as client:
        yield client


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents are new for longer: a busy machine may take more than a moment between registering and serving."""
    monkeypatch.setattr("agents_sdk.scatter.NEW", 30.0)
    monkeypatch.setattr("agents_sdk.scatter.NEW_PATIENCE", 15.0)
