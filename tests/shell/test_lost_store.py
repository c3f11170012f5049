"""A server that lost what it had stored: replicas that run make their buckets anew, and begin with what is there."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from agents_sdk import Agent
from registry.settings import Settings
from tests.conftest import Start, eventually
from tests.contract.wire import TRADER, agent, ask, found, payloads, stats, stored_events, told
from tests.sdk.outage import Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A nats-server that the test takes down."""
    server = Server(tmp_path)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
def nats_server(server: Server) -> Server:
    """The one that replicas and clients go to."""
    return server


@pytest.fixture
def settings() -> Settings:
    return Settings(leader_lease=1.0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas look often, and have little patience."""
    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.1)
    monkeypatch.setattr("registry.shell.missing.PATIENCE", 0.3)


async def lose(server: Server, directory: Path) -> None:
    """Let the server end, and begin with an empty store."""
    await server.kill()
    shutil.rmtree(directory / "jetstream")
    await server.start()


async def is_empty_and_led(nc: Client) -> bool:
    """Whether requests are answered, by replicas that know of nobody, one of which leads."""
    try:
        answers = [await stats(nc) for _ in range(10)]
    except (nats.errors.Error, TimeoutError, AssertionError):
        return False
    return all(one["registered_agents"] == 0 for one in answers) and any(one["leader"] for one in answers)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_server_that_lost_its_store_is_made_use_of_again(
    server: Server, start: Start, nc: Client, tmp_path: Path, replicas: int
) -> None:
    for _ in range(replicas):
        await start()
    await told(nc, "registry.register", {**TRADER, "agent_id": "gone"})
    await told(nc, "registry.register", TRADER)
    epoch = max([(await stats(nc))["leader_epoch"] for _ in range(10)])
    await lose(server, tmp_path)
    await eventually(lambda: is_empty_and_led(nc), within=20.0)
    receipt = await told(nc, "registry.register", TRADER)
    assert (await told(nc, "registry.discover", {"min_revision": receipt["revision"]}))["total"] == 1

    async def has_newer_epoch() -> bool:
        return max([(await stats(nc))["leader_epoch"] for _ in range(10)]) > epoch

    await eventually(has_newer_epoch)  # an epoch that came again would have orders of the new leader ignored
    assert (await ask(nc, "registry.get.gone")).code == "not_found"

    async def is_told() -> bool:
        try:
            events = payloads(await stored_events(nc, 1))
        except nats.errors.Error:
            return False
        return [(event["agent_id"], event["revision"]) for event in events] == [("trader-1", receipt["revision"])]

    await eventually(is_told)


async def test_agents_of_the_sdk_are_there_again(server: Server, start: Start, nc: Client, tmp_path: Path) -> None:
    await start()
    async with Agent("trading_agent", ["trading"], agent_id="trader-1", nats=server.url, heartbeat_interval=0.2):
        assert await found(nc) == ["trader-1"]
        made = (await nc.jetstream().stream_info("KV_registry_agents")).created
        await lose(server, tmp_path)

        async def is_there() -> bool:
            try:
                again = (await nc.jetstream().stream_info("KV_registry_agents")).created
                return again != made and await found(nc) == ["trader-1"]
            except (nats.errors.Error, TimeoutError, AssertionError):
                return False

        await eventually(is_there, within=20.0)


@pytest.mark.parametrize("bucket", ["registry_agents", "registry_control"])
async def test_a_bucket_that_is_removed_is_made_anew(start: Start, nc: Client, bucket: str) -> None:
    """While the server runs on, and the other bucket has all that it had."""
    replica = await start()
    await told(nc, "registry.register", TRADER)
    await nc.jetstream().delete_stream(f"KV_{bucket}")

    async def is_back() -> bool:
        return bool(await replica.store.made(bucket))

    await eventually(is_back)
    await eventually(lambda: (bucket == "registry_control") == ("trader-1" in replica.state.agents))
    await eventually(replica.election.holds)
    await told(nc, "registry.register.trader-2", {**TRADER, "agent_id": "trader-2"})
    await told(nc, "registry.scaling.set", {"capability": "trading", "max_agents": 5})


async def test_the_stream_of_events_is_made_anew(start: Start, nc: Client) -> None:
    """Nothing else changes meanwhile; and the log has still what is to be told."""
    await start()
    await told(nc, "registry.register", TRADER)
    await stored_events(nc, 1)
    await nc.jetstream().delete_stream("REGISTRY_EVENTS")
    assert await found(nc) == ["trader-1"]
    await told(nc, "registry.suspend.trader-1")

    async def is_told() -> bool:
        try:
            events = payloads(await stored_events(nc, 1))
        except nats.errors.Error:
            return False
        return any(event["to"] == "suspended" for event in events)

    await eventually(is_told)


async def test_a_log_that_went_back_is_read_anew(server: Server, start: Start, nc: Client, tmp_path: Path) -> None:
    """The server was restored from a backup, or lost power before its disk had all."""
    replica = await start()
    await told(nc, "registry.register", TRADER)
    await server.kill()
    shutil.copytree(tmp_path / "jetstream", tmp_path / "backup")
    await server.start()
    await eventually(lambda: nc.is_connected and replica.bus.connected and replica.election.holds())
    await told(nc, "registry.register", {**TRADER, "agent_id": "lost"})
    await told(nc, "registry.suspend.trader-1")
    await server.kill()
    shutil.rmtree(tmp_path / "jetstream")
    shutil.copytree(tmp_path / "backup", tmp_path / "jetstream")
    await server.start()
    await eventually(lambda: list(replica.state.agents) == ["trader-1"])
    await eventually(lambda: nc.is_connected and replica.election.holds())
    assert (await agent(nc))["status"] == "active"
    await told(nc, "registry.suspend.trader-1")
    assert (await agent(nc))["status"] == "suspended"
