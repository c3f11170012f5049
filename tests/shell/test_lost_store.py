"""A server that lost what it had stored: replicas that run make their buckets anew, and begin with what is there."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from agents_sdk import Agent
from registry.replica import Replica
from registry.settings import Settings
from tests.conftest import eventually
from tests.contract.wire import TRADER, agent, ask, found, payloads, stats, stored_events, told
from tests.sdk.outage import Server

Begin = Callable[[], Awaitable[Replica]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A nats-server that the test takes down."""
    server = Server(tmp_path)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def begin(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Begin]:
    """Starts replicas that look often, and have little patience; they are stopped at the end."""
    monkeypatch.setattr("registry.shell.tail.WATCH_INTERVAL", 0.1)
    monkeypatch.setattr("registry.shell.missing.PATIENCE", 0.3)
    running: list[Replica] = []

    async def begin() -> Replica:
        replica = Replica(Settings(leader_lease=1.0), server.url)
        running.append(replica)
        await replica.start()
        return replica

    yield begin
    for replica in running:
        await replica.stop()
        replica.state.validate()


@pytest.fixture
async def client(server: Server, begin: Begin) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    yield client
    await client.close()


async def lose(server: Server, directory: Path) -> None:
    """Let the server end, and begin with an empty store."""
    await server.kill()
    shutil.rmtree(directory / "jetstream")
    await server.start()


async def is_empty_and_led(client: Client) -> bool:
    """Whether requests are answered, by replicas that know of nobody, one of which leads."""
    try:
        answers = [await stats(client) for _ in range(10)]
    except (nats.errors.Error, TimeoutError, AssertionError):
        return False
    return all(one["registered_agents"] == 0 for one in answers) and any(one["leader"] for one in answers)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_server_that_lost_its_store_is_made_use_of_again(
    server: Server, begin: Begin, client: Client, tmp_path: Path, replicas: int
) -> None:
    for _ in range(replicas):
        await begin()
    await told(client, "registry.register", {**TRADER, "agent_id": "gone"})
    await told(client, "registry.register", TRADER)
    epoch = max([(await stats(client))["leader_epoch"] for _ in range(10)])
    await lose(server, tmp_path)
    await eventually(lambda: is_empty_and_led(client), within=20.0)
    receipt = await told(client, "registry.register", TRADER)
    assert (await told(client, "registry.discover", {"min_revision": receipt["revision"]}))["total"] == 1

    async def has_newer_epoch() -> bool:
        return max([(await stats(client))["leader_epoch"] for _ in range(10)]) > epoch

    await eventually(has_newer_epoch)  # an epoch that came again would have orders of the new leader ignored
    assert (await ask(client, "registry.get.gone")).code == "not_found"

    async def is_told() -> bool:
        try:
            events = payloads(await stored_events(client, 1))
        except nats.errors.Error:
            return False
        return [(event["agent_id"], event["revision"]) for event in events] == [("trader-1", receipt["revision"])]

    await eventually(is_told)


async def test_agents_of_the_sdk_are_there_again(server: Server, begin: Begin, client: Client, tmp_path: Path) -> None:
    await begin()
    async with Agent("trading_agent", ["trading"], agent_id="trader-1", nats=server.url, heartbeat_interval=0.2):
        assert await found(client) == ["trader-1"]
        made = (await client.jetstream().stream_info("KV_registry_agents")).created
        await lose(server, tmp_path)

        async def is_there() -> bool:
            try:
                again = (await client.jetstream().stream_info("KV_registry_agents")).created
                return again != made and await found(client) == ["trader-1"]
            except (nats.errors.Error, TimeoutError, AssertionError):
                return False

        await eventually(is_there, within=20.0)


@pytest.mark.parametrize("bucket", ["registry_agents", "registry_control"])
async def test_a_bucket_that_is_removed_is_made_anew(begin: Begin, client: Client, bucket: str) -> None:
    """While the server runs on, and the other bucket has all that it had."""
    replica = await begin()
    await told(client, "registry.register", TRADER)
    await client.jetstream().delete_stream(f"KV_{bucket}")

    async def is_back() -> bool:
        return bool(await replica.store.made(bucket))

    await eventually(is_back)
    await eventually(lambda: (bucket == "registry_control") == ("trader-1" in replica.state.agents))
    await eventually(replica.election.holds)
    await told(client, "registry.register.trader-2", {**TRADER, "agent_id": "trader-2"})
    await told(client, "registry.scaling.set", {"capability": "trading", "max_agents": 5})


async def test_the_stream_of_events_is_made_anew(begin: Begin, client: Client) -> None:
    """Nothing else changes meanwhile; and the log has still what is to be told."""
    await begin()
    await told(client, "registry.register", TRADER)
    await stored_events(client, 1)
    await client.jetstream().delete_stream("REGISTRY_EVENTS")
    assert await found(client) == ["trader-1"]
    await told(client, "registry.suspend.trader-1")

    async def is_told() -> bool:
        try:
            events = payloads(await stored_events(client, 1))
        except nats.errors.Error:
            return False
        return any(event["to"] == "suspended" for event in events)

    await eventually(is_told)


async def test_a_log_that_went_back_is_read_anew(server: Server, begin: Begin, client: Client, tmp_path: Path) -> None:
    """The server was restored from a backup, or lost power before its disk had all."""
    replica = await begin()
    await told(client, "registry.register", TRADER)
    await server.kill()
    shutil.copytree(tmp_path / "jetstream", tmp_path / "backup")
    await server.start()
    await eventually(lambda: client.is_connected and replica.bus.connected and replica.election.holds())
    await told(client, "registry.register", {**TRADER, "agent_id": "lost"})
    await told(client, "registry.suspend.trader-1")
    await server.kill()
    shutil.rmtree(tmp_path / "jetstream")
    shutil.copytree(tmp_path / "backup", tmp_path / "jetstream")
    await server.start()
    await eventually(lambda: list(replica.state.agents) == ["trader-1"])
    await eventually(lambda: client.is_connected and replica.election.holds())
    assert (await agent(client))["status"] == "active"
    await told(client, "registry.suspend.trader-1")
    assert (await agent(client))["status"] == "suspended"
