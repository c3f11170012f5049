"""Watching a real registry: a snapshot, then changes, through outages and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import nats
import pytest

from agents_sdk import (
    AgentStatus,
    Changed,
    Joined,
    Left,
    RegistryClient,
    ServiceQuery,
    Snapshot,
    UnavailableError,
    watch,
)
from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from agents_sdk.protocol.codec import encode, parse
from agents_sdk.protocol.events import StatusEvent
from agents_sdk.protocol.subjects import Subjects
from agents_sdk.requester import Requester
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.sdk.outage import Server


class Reader:
    """Reads changes, each within a time limit, and keeps the state that they make."""

    def __init__(self, changes: Any) -> None:
        self.changes = changes
        self.agents: dict[str, AgentStatus] = {}

    async def next(self) -> Any:
        async with asyncio.timeout(15):
            change = await anext(self.changes)
        match change:
            case Snapshot(agents):
                self.agents = {agent.agent_id: agent.status for agent in agents}
            case Joined(agent) | Changed(agent, _):
                self.agents[agent.agent_id] = agent.status
            case Left(agent_id, _):
                del self.agents[agent_id]
        return change

    async def until(self, **agents: str) -> None:
        while self.agents != agents:
            await self.next()


@pytest.fixture
async def reader(client: RegistryClient) -> AsyncIterator[Reader]:
    async with aclosing(client.watch(ServiceQuery(capabilities={"trading"}))) as changes:
        yield Reader(changes)


def trader(agent_id: str, **fields: Any) -> dict[str, Any]:
    return {"agent_type": "t", "capabilities": ["trading"], "agent_id": agent_id, "instance_id": "i", **fields}


async def test_a_life_is_seen_in_order(client: RegistryClient, reader: Reader) -> None:
    await client.register(trader("before"))
    snapshot = await reader.next()
    assert isinstance(snapshot, Snapshot)
    assert [agent.agent_id for agent in snapshot.agents] == ["before"]
    await client.register(trader("a", tags=["x"]))
    joined = await reader.next()
    assert isinstance(joined, Joined)
    assert joined.agent.tags == {"x"}
    await client.update_agent_health("a", {"health_score": 0.6})
    degraded = await reader.next()
    assert isinstance(degraded, Changed)
    assert degraded.agent.status is AgentStatus.DEGRADED
    assert degraded.event is not None
    assert degraded.event.reason == "health"
    await client.register(trader("a", tags=["y"]))
    updated = await reader.next()
    assert isinstance(updated, Changed)
    assert updated.agent.tags == {"y"}
    await client.suspend_agent("a")
    assert isinstance(await reader.next(), Left)
    await client.resume_agent("a")
    assert isinstance(await reader.next(), Joined)
    await client.deregister_agent("a")
    left = await reader.next()
    assert isinstance(left, Left)
    assert left.event is not None
    assert left.event.removed


async def test_others_are_not_shown(client: RegistryClient, reader: Reader) -> None:
    await reader.next()
    await client.register(trader("other", capabilities=["research"]))
    await client.register(trader("a"))
    assert (await reader.next()).agent.agent_id == "a"
    await client.register(trader("a", capabilities=["research"]))
    assert isinstance(await reader.next(), Left)


async def test_health_and_load_do_not_hide_an_agent(client: RegistryClient, reader: Reader) -> None:
    await client.register(trader("busy"))
    await client.update_agent_health("busy", {"load_factor": 1.0})
    assert [agent.agent_id for agent in (await reader.next()).agents] == ["busy"]


async def test_a_version_is_judged_by_the_registry(client: RegistryClient) -> None:
    async with aclosing(client.watch(ServiceQuery(version=">=2"))) as changes:
        reader = Reader(changes)
        await reader.next()
        await client.register(trader("old", version="1.0.0"))
        await client.register(trader("new", version="2.1.0"))
        await reader.until(new="active")
        await client.register(trader("new", version="1.9.0"))
        await reader.until()


async def test_a_burst_is_complete(client: RegistryClient, reader: Reader) -> None:
    await reader.next()
    await asyncio.gather(*(client.register(trader(f"a{n}")) for n in range(50)))
    await asyncio.gather(*(client.deregister_agent(f"a{n}") for n in range(0, 50, 2)))
    await reader.until(**{f"a{n}": "active" for n in range(1, 50, 2)})


async def test_without_a_registry_there_is_no_first_snapshot(nats_server: NatsServer) -> None:
    async with RegistryClient(nats_server.url, timeout=0.2) as client:
        with pytest.raises(UnavailableError, match="no registry"):
            await anext(client.watch())


async def test_it_survives_a_restart_of_nats(server: Server) -> None:
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    async with RegistryClient(server.url) as client, aclosing(client.watch()) as changes:
        reader = Reader(changes)
        await client.register(trader("a", heartbeat_interval=3600))
        await reader.until(a="active")
        await server.kill()
        await server.start()
        again = await reader.next()
        assert isinstance(again, Snapshot)
        await reader.until(a="active")
        await client.register(trader("b"))
        await reader.until(a="active", b="active")
    await registry.stop()


async def test_it_survives_a_restart_of_the_registry(
    client: RegistryClient, reader: Reader, registry: Replica, nats_server: NatsServer
) -> None:
    await client.register(trader("a"))
    await reader.until(a="active")
    await registry.stop()
    again = Replica(registry.settings, nats_server.url)
    await again.start()
    await client.deregister_agent("a")
    await client.register(trader("b"))
    await reader.until(b="active")
    await again.stop()


class Scripted:
    """A registry that answers as a test says, to play what a real one does only under bad luck."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.agents: dict[str, dict[str, Any]] = {}
        self.revision = 0
        self.log = "registry_agents:1795400000000"
        self.asked: list[str] = []
        self.behind: dict[str, int] = {}

    async def serve(self) -> Scripted:
        await self.connection.subscribe("registry.discover", self.discover)
        await self.connection.subscribe("registry.get.*", self.get)
        return self

    async def discover(self, msg: Any) -> None:
        self.asked.append("discover")
        body: dict[str, Any] = {
            "agents": list(self.agents.values()),
            "total": len(self.agents),
            "revision": self.revision,
        }
        if parse(msg.data).get("min_revision", 0) > self.revision:
            error = UnavailableError("this replica is behind")
            await self.connection.publish(msg.reply, encode(error.to_body()), error.to_headers())
            return
        await self.connection.publish(msg.reply, encode(body))

    async def get(self, msg: Any) -> None:
        agent_id = msg.subject.rpartition(".")[2]
        self.asked.append(agent_id)
        if self.behind.get(agent_id, 0) > 0:
            self.behind[agent_id] -= 1
            error = UnavailableError("this replica is behind")
            await self.connection.publish(msg.reply, encode(error.to_body()), error.to_headers())
            return
        await self.connection.publish(msg.reply, encode(self.agents[agent_id]))

    async def put(self, agent_id: str, *, announce: bool = True, **fields: Any) -> None:
        self.revision += 1
        before = self.agents.get(agent_id, {}).get("revision", 0)
        self.agents[agent_id] = {
            "agent_id": agent_id, "agent_type": "t", "capabilities": ["trading"], "status": "active",
            "incarnation": 1, "revision": self.revision, **fields,
        }  # fmt: skip
        if announce:
            await self.announce(agent_id, before)

    async def announce(self, agent_id: str, before: int, **fields: Any) -> None:
        agent = self.agents[agent_id]
        event = {
            "event_id": f"{self.log}:{self.revision}",
            "agent_id": agent_id, "agent_type": "t", "capabilities": ["trading"],
            "from": "registering", "to": agent["status"], "reason": "registered", "removed": False, "incarnation": 1,
            "revision": agent["revision"], "previous_revision": before, "at": 0.0, **fields,
        }  # fmt: skip
        StatusEvent.model_validate(event)
        await self.connection.publish(f"registry.events.status.{agent['status']}.{agent_id}", encode(event))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the watch look again after a tenth of a second; to be named before `scripted`."""
    monkeypatch.setattr(watch, "LOOK_AGAIN", 0.1)


@pytest.fixture
async def scripted(nats_server: NatsServer) -> AsyncIterator[tuple[Scripted, Reader]]:
    connection = Connection(Address((nats_server.url,)))
    await connection.open()
    script = await Scripted(connection).serve()
    async with aclosing(
        watch.Watch(connection, Requester(connection, Subjects(), 0.5), ServiceQuery()).changes()
    ) as it:
        reader = Reader(it)
        await reader.next()
        yield script, reader
    await connection.close()


async def test_a_replica_that_lags_is_asked_again(scripted: tuple[Scripted, Reader]) -> None:
    script, reader = scripted
    script.behind["a"] = 2
    await script.put("a")
    assert isinstance(await reader.next(), Joined)
    assert script.asked.count("a") == 3


async def test_a_lost_event_is_found_by_looking(impatient: None, scripted: tuple[Scripted, Reader]) -> None:
    script, reader = scripted
    await script.put("a")
    await reader.until(a="active")
    await script.put("b", announce=False)
    await script.put("a", announce=False, status="offline")
    script.agents.pop("a")
    await reader.until(b="active")


async def test_an_answer_that_stays_too_old_is_looked_up(scripted: tuple[Scripted, Reader]) -> None:
    script, reader = scripted
    script.behind["a"] = 10**6
    await script.put("a")
    await reader.until(a="active")


async def test_a_bucket_made_anew_is_started_over_from(impatient: None, scripted: tuple[Scripted, Reader]) -> None:
    script, reader = scripted
    for name in "abc":
        await script.put(name)
    await reader.until(a="active", b="active", c="active")
    script.revision, script.agents = 0, {}
    await script.put("z", announce=False)
    await reader.until(z="active")


async def test_an_event_of_a_bucket_made_anew_starts_over_at_once(scripted: tuple[Scripted, Reader]) -> None:
    script, reader = scripted
    for name in "abc":
        await script.put(name)
    await reader.until(a="active", b="active", c="active")
    script.revision, script.agents, script.log = 0, {}, "registry_agents:1795500000000"
    await script.put("z")
    assert isinstance(await reader.next(), Snapshot)
    await script.put("y")
    await reader.until(z="active", y="active")


async def test_a_snapshot_of_the_bucket_before_does_not_last(
    scripted: tuple[Scripted, Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica that was asked had not noticed yet that the bucket is another one."""
    monkeypatch.setattr(watch, "NOTICED", 0.1)
    script, reader = scripted
    for name in "abc":
        await script.put(name)
    await reader.until(a="active", b="active", c="active")
    known = script.agents
    script.log, script.agents = "registry_agents:1795500000000", {"z": {**known["a"], "agent_id": "z", "revision": 1}}
    await script.announce("z", 0)
    script.agents = known
    assert isinstance(await reader.next(), Snapshot)
    script.revision, script.agents = 0, {}
    await script.put("z", announce=False)
    await reader.until(z="active")


async def test_what_is_no_event_is_logged_and_skipped(scripted: tuple[Scripted, Reader], caplog) -> None:
    script, reader = scripted
    await script.connection.publish("registry.events.status.active.x", b'{"agent_id": 7}')
    await script.put("a")
    await reader.until(a="active")
    assert "not a status event" in caplog.text


async def test_a_status_of_a_later_version_is_looked_up(scripted: tuple[Scripted, Reader]) -> None:
    script, reader = scripted
    await script.put("a")
    await reader.until(a="active")
    script.revision += 1
    script.agents.pop("a")  # the registry knows that it is not what was asked for
    event = {
        "event_id": "x", "agent_id": "a", "agent_type": "t", "capabilities": ["trading"], "from": "active",
        "to": "paused", "reason": "rest", "removed": False, "incarnation": 1, "revision": script.revision,
        "previous_revision": 1, "at": 0.0,
    }  # fmt: skip
    await script.connection.publish("registry.events.status.paused.a", encode(event))
    await reader.until()


async def test_a_reader_that_is_too_slow_starts_over(scripted: tuple[Scripted, Reader], caplog) -> None:
    script, reader = scripted
    for _ in range(watch.MAX_QUEUED + 10):
        script.revision += 1
        script.agents["a"] = {
            "agent_id": "a", "agent_type": "t", "capabilities": ["trading"], "status": "active", "incarnation": 1,
            "revision": script.revision,
        }  # fmt: skip
        await script.announce("a", script.revision - 1, reason="health")
    await eventually(lambda: "starting over" in caplog.text)
    assert isinstance(await reader.next(), Snapshot)


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_it_ends_with_its_client(nats_server: NatsServer, registry: Replica, whose: str) -> None:
    theirs = await nats.connect(nats_server.url)
    client = RegistryClient(nats_server.url if whose == "ours" else theirs)
    async with client, aclosing(client.watch()) as changes:
        assert isinstance(await anext(changes), Snapshot)
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await (client.close() if whose == "ours" else theirs.close())
        async with asyncio.timeout(10):
            with pytest.raises(UnavailableError, match="is closed"):
                await waiting
    await theirs.close()
