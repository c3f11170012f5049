"""A replica that was away for longer than the marks of removals live keeps nobody who is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from registry.core.events import BucketListed, Event
from registry.replica import Replica
from registry.settings import Settings
from registry.shell import bucket_log, tail
from registry.shell.embedded import NatsServer
from registry.shell.jetstream_nats import StoreError
from registry.shell.store import Store
from tests.conftest import eventually
from tests.contract.proxy import Proxy
from tests.contract.wire import TRADER, told

Pair = tuple[Replica, Replica]


@pytest.fixture
async def pair(nats_server: NatsServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """One replica that is there, and one that the test cuts off. Removals and their marks are soon gone."""
    monkeypatch.setattr("registry.core.state.REMOVAL_KEPT", 0.1)
    monkeypatch.setattr("registry.shell.store.MARKER_SECONDS", 1)
    monkeypatch.setattr(tail, "WATCH_INTERVAL", 0.1)
    url = await proxy.start(int(nats_server.url.rpartition(":")[2]))
    near, far = Replica(Settings(), nats_server.url), Replica(Settings(), url)
    await near.start()
    await far.start()
    yield near, far
    await proxy.mend()
    await eventually(lambda: far.bus.connected)
    for replica in (far, near):
        await replica.stop()
        replica.state.validate()


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Up to which revision buckets were gone through."""
    told: list[int] = []

    def noted(at: float, agent_ids: set[str], revision: int) -> Event:
        told.append(revision)
        return BucketListed(at, agent_ids, revision)

    monkeypatch.setattr(bucket_log, "BucketListed", noted)
    return told


async def register(nc: Client, *agents: str) -> None:
    for agent_id in agents:
        await told(nc, "registry.register", {**TRADER, "agent_id": agent_id})


async def leave_without_trace(nc: Client, replica: Replica, agent_id: str) -> None:
    """Deregister an agent, and wait until the bucket knows nothing of it."""
    await told(nc, f"registry.replica.{replica.replica_id}.deregister", {"agent_id": agent_id})

    async def gone() -> bool:
        info = await nc.jetstream().stream_info("KV_registry_agents", subjects_filter=f"$KV.registry_agents.{agent_id}")
        return not info.state.subjects

    await eventually(gone)


async def cut_off(proxy: Proxy, far: Replica) -> None:
    proxy.cut()
    await eventually(lambda: not far.bus.connected)


@pytest.mark.parametrize("others", [[], ["trader-2"]], ids=["nothing is left", "the log goes on"])
async def test_who_left_while_a_replica_was_away_for_long_is_not_kept(
    pair: Pair, proxy: Proxy, nc: Client, monkeypatch: pytest.MonkeyPatch, others: list[str]
) -> None:
    near, far = pair
    await register(nc, "trader-1", *others)
    await eventually(lambda: len(far.state.agents) == 1 + len(others))
    await cut_off(proxy, far)
    await leave_without_trace(nc, near, "trader-1")
    monkeypatch.setattr(tail, "AWAY", 0.5)  # all this took longer
    await proxy.mend()
    await eventually(lambda: set(far.state.agents) == set(near.state.agents) == set(others))
    receipt = await told(nc, f"registry.replica.{far.replica_id}.register", TRADER)
    assert receipt["agent_id"] == "trader-1", "and the id can be used again"
    await eventually(lambda: "trader-1" in near.state.agents)


async def test_who_came_back_meanwhile_is_kept(
    pair: Pair, proxy: Proxy, nc: Client, monkeypatch: pytest.MonkeyPatch, listed: list[int]
) -> None:
    near, far = pair
    await register(nc, "trader-1")
    await eventually(lambda: "trader-1" in far.state.agents)
    await cut_off(proxy, far)
    await leave_without_trace(nc, near, "trader-1")
    await told(nc, f"registry.replica.{near.replica_id}.register", {**TRADER, "metadata": {"life": 2}})
    monkeypatch.setattr(tail, "AWAY", 0.5)
    await proxy.mend()
    await eventually(lambda: bool(listed) and far.log.revision == near.log.revision)
    assert far.state.agents["trader-1"].record.metadata == {"life": 2}


async def test_it_is_tried_until_it_succeeds(
    pair: Pair, proxy: Proxy, nc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    follow, attempts = Store.follow, 0
    await register(nc, "trader-1")
    await eventually(lambda: "trader-1" in far.state.agents)
    await cut_off(proxy, far)
    await leave_without_trace(nc, near, "trader-1")
    await register(nc, "trader-2")

    async def fails(self: Store, *args: object, **named: object) -> object:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise StoreError("not now")
        return await follow(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(tail, "AWAY", 0.5)
    monkeypatch.setattr(Store, "follow", fails)
    await proxy.mend()
    await eventually(lambda: set(far.state.agents) == {"trader-2"})
    assert attempts >= 3


async def test_a_short_outage_costs_nothing(
    pair: Pair, proxy: Proxy, nc: Client, monkeypatch: pytest.MonkeyPatch, listed: list[int]
) -> None:
    _, far = pair
    looks, look = 0, far.log._tail._look

    async def counted() -> None:
        nonlocal looks
        await look()
        looks += 1

    monkeypatch.setattr(far.log._tail, "_look", counted)
    await register(nc, "trader-1")
    await cut_off(proxy, far)
    await register(nc, "trader-2")
    await proxy.mend()
    await eventually(lambda: "trader-2" in far.state.agents)
    before = looks
    await eventually(lambda: looks >= before + 3)
    assert not listed
