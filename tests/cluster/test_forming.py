"""A replica that is there before the cluster is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.cluster.nodes import make_nodes
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from registry.shell.jetstream_nats import StoreError
from registry.shell.nats_process import NatsProcess
from tests.conftest import eventually


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[NatsProcess]]:
    """Three nodes, of which the first one runs."""
    nodes = make_nodes(tmp_path, 0)
    await nodes[0].start()
    yield nodes
    await asyncio.gather(*(node.stop() for node in nodes))


@pytest.fixture
async def replica(nodes: list[NatsProcess]) -> AsyncIterator[Replica]:
    """A replica that knows of the first node."""
    replica = Replica(Settings(kv_replicas=3), nodes[0].url)
    yield replica
    await replica.stop()


async def test_it_waits_for_the_others(
    nodes: list[NatsProcess], replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    starting = asyncio.ensure_future(replica.start())
    await eventually(lambda: "waiting_for_leader" in caplog.text)
    assert not starting.done()
    await asyncio.gather(*(node.start() for node in nodes[1:]))
    await starting
    for stream in ("KV_registry_agents", "KV_registry_control", "REGISTRY_EVENTS"):
        info = await replica.bus.client.jetstream().stream_info(stream)
        assert info.config.num_replicas == 3


async def test_it_does_not_wait_without_end(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.shell.jetstream_nats.LEADER_TIMEOUT", 0.5)
    with pytest.raises(StoreError, match="does not do what is needed"):
        await asyncio.wait_for(replica.start(), 10.0)


async def test_it_does_not_wait_for_what_will_not_come(nats_server: NatsServer) -> None:
    """One server cannot keep three copies, however long one waits."""
    replica = Replica(Settings(kv_replicas=3), nats_server.url)
    with pytest.raises(StoreError, match="it can keep 1 copy, and kv_replicas is 3"):
        await asyncio.wait_for(replica.start(), 5.0)
    await replica.stop()


async def test_copies_that_are_fewer_than_wanted_are_told(
    nats_server: NatsServer, registry: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """The buckets were made when there was one server; what is set later does not change them."""
    replica = Replica(Settings(kv_replicas=3), nats_server.url)
    await replica.start()
    await replica.stop()
    assert "copies_differ" in caplog.text
