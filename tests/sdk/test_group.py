"""Groups: who belongs to one at each moment, through joins, losses, outages and restarts."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk import (
    Agent,
    AgentStatus,
    Changed,
    Group,
    InvalidRequestError,
    Joined,
    Left,
    QuorumError,
    RegistryClient,
    ServiceQuery,
    UnavailableError,
)
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.sdk.crowd import TOPIC, Crowd, names
from tests.sdk.outage import Server, serving

LONG = 30.0
"""Seconds; who waits for the deadline has failed."""


@pytest.fixture
def settings() -> Settings:
    """Who is killed is given up at once, also when others are at the same moment."""
    return Settings(reconnect_grace=0.0)


@pytest.fixture
def crowd(nc: Client, client: RegistryClient) -> Crowd:
    return Crowd(nc, client)


@pytest.fixture
async def group(client: RegistryClient) -> AsyncIterator[Group]:
    async with client.group("research") as group:
        yield group


async def until(group: Group, *wanted: str) -> None:
    async with asyncio.timeout(15):
        await group.until(lambda members: {agent.agent_id for agent in members} == set(wanted))


class Reader:
    """Reads a group's changes, each within a time limit, and refuses those that cannot be."""

    def __init__(self, group: Group) -> None:
        self.changes = group.changes()
        self.known: set[str] = set()
        self.read = 0

    async def next(self) -> Joined | Changed | Left:
        async with asyncio.timeout(15):
            change = await anext(self.changes)
        self.read += 1
        match change:
            case Joined(agent):
                assert agent.agent_id not in self.known, "nobody joins twice"
                self.known.add(agent.agent_id)
            case Changed(agent):
                assert agent.agent_id in self.known
            case Left(agent_id):
                self.known.remove(agent_id)
        return change

    async def until(self, *wanted: str) -> None:
        while self.known != set(wanted):
            await self.next()


async def test_who_joins_and_leaves_is_known(client: RegistryClient, crowd: Crowd) -> None:
    await crowd.add("before")
    async with client.group("research") as group:
        assert [agent.agent_id for agent in group.members] == ["before"], "all who are there when it is entered"
        await crowd.add("a", tags=["x"])
        await crowd.add("other", capabilities=["trading"])
        await until(group, "before", "a")
        assert [agent.agent_id for agent in group.members] == ["before", "a"]
        await client.suspend_agent("a")
        await until(group, "before")
        await client.resume_agent("a")
        await until(group, "before", "a")
        await client.update_agent_health("before", {"health_score": 0.6, "load_factor": 1.0})
        async with asyncio.timeout(15):
            await group.until(lambda members: members[0].status is AgentStatus.DEGRADED)
        await client.drain_agent("before")
        await until(group, "a")
        await client.deregister_agent("a")
        await until(group)


async def test_what_an_agent_declares_decides(client: RegistryClient, crowd: Crowd) -> None:
    query = ServiceQuery(capabilities={"research"}, tags={"x"}, metadata={"zone": 1}, version=">=2", limit=1)
    fits: dict[str, Any] = {"tags": ["x"], "metadata": {"zone": 1}, "version": "2.1.0"}
    async with client.group(query) as group:
        await crowd.add("a", "b", "c", "d", instance_id="i", **fits)
        await until(group, "a", "b", "c", "d")
        await crowd.add("a", instance_id="i", **{**fits, "tags": ["y"]})
        await crowd.add("b", instance_id="i", **{**fits, "metadata": {"zone": 2}})
        await crowd.add("c", instance_id="i", **{**fits, "version": "1.9.0"})
        await until(group, "d")


async def test_changes_begin_with_those_who_are_there(client: RegistryClient, crowd: Crowd, group: Group) -> None:
    await crowd.add("a", instance_id="i")
    await until(group, "a")
    reader = Reader(group)
    assert isinstance(await reader.next(), Joined)
    await crowd.add("a", instance_id="i", tags=["x"])
    changed = await reader.next()
    assert isinstance(changed, Changed)
    assert changed.agent.tags == {"x"}
    await client.deregister_agent("a")
    assert await reader.next() == Left("a", None)


async def test_a_slow_reader_is_told_the_difference(client: RegistryClient, crowd: Crowd, group: Group) -> None:
    reader = Reader(group)
    await crowd.add("stays", "goes", "returns")
    await reader.until("stays", "goes", "returns")
    read = reader.read
    await client.deregister_agent("goes")
    await client.deregister_agent("returns")
    await until(group, "stays")
    await crowd.add("returns", "comes")
    await until(group, "stays", "returns", "comes")
    changes = [await reader.next() for _ in range(3)]
    assert [type(change) for change in changes if isinstance(change, Left)] == [Left]
    assert [change.agent.agent_id for change in changes if isinstance(change, Changed)] == ["returns"]
    assert reader.known == {"stays", "returns", "comes"}
    assert reader.read == read + 3


async def test_readers_do_not_disturb_each_other(client: RegistryClient, crowd: Crowd, group: Group) -> None:
    one, other = Reader(group), Reader(group)
    await crowd.add(*names(3))
    await asyncio.gather(one.until(*names(3)), other.until(*names(3)))
    async with aclosing(one.changes):
        pass
    await client.deregister_agent("a0")
    await other.until("a1", "a2")


async def test_a_burst_is_complete(client: RegistryClient, crowd: Crowd, group: Group) -> None:
    reader = Reader(group)
    reading = asyncio.create_task(reader.until(*names(120)[1::2]))
    await crowd.add(*names(120), absent=True)
    await asyncio.gather(*(client.deregister_agent(name) for name in names(120)[::2]))
    await until(group, *names(120)[1::2])
    await reading


async def test_members_are_asked_and_told(client: RegistryClient, crowd: Crowd, group: Group) -> None:
    await crowd.add(*names(100))
    await until(group, *names(100))
    await client.suspend_agent("a7")
    await until(group, *set(names(100)) - {"a7"})
    answers = await group.scatter(TOPIC, {"x": 1}, quorum="all", deadline=LONG)
    assert {answer.agent_id for answer in answers.good} == set(names(100)) - {"a7"}
    crowd.heard.clear()
    told = await group.broadcast(TOPIC, {"x": 2})
    assert {agent.agent_id for agent in told} == set(names(100)) - {"a7"}
    await eventually(lambda: len(crowd.heard) == 99)
    async with aclosing(group.answers(TOPIC, n=3, deadline=LONG)) as stream:
        assert len([answer async for answer in stream if answer.is_good]) == 3


async def test_some_of_the_members(client: RegistryClient, crowd: Crowd, group: Group) -> None:
    """By chance, for their loads are not known; those in trouble last; and nobody's place stays empty."""
    await crowd.add(*names(8))
    await crowd.add("ill")
    await crowd.add("dead", absent=True)
    await client.update_agent_health("ill", {"health_score": 0.6})
    async with asyncio.timeout(15):
        await group.until(lambda members: len(members) == 10 and "degraded" in {agent.status for agent in members})
    for _ in range(12):
        answers = await group.scatter(TOPIC, n=4, quorum=4, deadline=LONG)
        assert len(answers.good) == 4
    assert set(crowd.asked) == set(names(8))
    assert len((await group.scatter(TOPIC, n=9, quorum=9, deadline=LONG)).good) == 9
    assert crowd.asked["ill"] == 1
    with pytest.raises(QuorumError):
        await group.scatter(TOPIC, n=20, quorum="majority", deadline=LONG)


async def test_an_empty_group(group: Group) -> None:
    assert group.members == ()
    assert (await group.scatter(TOPIC, deadline=LONG)).everybody == ()
    assert await group.broadcast(TOPIC) == []
    with pytest.raises(QuorumError):
        await group.scatter(TOPIC, quorum=1, deadline=LONG)
    with pytest.raises(InvalidRequestError, match="topic"):
        await group.broadcast("a b")


async def test_who_has_just_joined_can_be_asked(nats_server: NatsServer, group: Group, patient: None) -> None:
    """An agent of the SDK takes requests a moment after it is known."""
    agents = [Agent("worker", ["research"], agent_id=name, nats=nats_server.url) for name in names(5)]
    for agent in agents:
        agent.handle(TOPIC)(lambda request: 1)
    starting = asyncio.gather(*(agent.start() for agent in agents))
    for joined in range(1, 6):
        async with asyncio.timeout(15):
            await group.until(lambda members, wanted=joined: len(members) >= wanted)
        await group.scatter(TOPIC, quorum="all", deadline=LONG)
    await starting
    for agent in agents:
        await agent.stop()
    await until(group)


PROGRAM = """\
import asyncio
from agents_sdk import Agent

agent = Agent("worker", ["research"])


@agent.handle("check")
async def check(request):
    await asyncio.sleep(0 if agent.agent_id in request["quick"] else 3600)
    return agent.agent_id


agent.run()
"""


async def test_processes_that_are_killed_while_they_are_asked(
    tmp_path: Path, nats_server: NatsServer, registry: Replica, group: Group
) -> None:
    """What they were asked stays without an answer, and the group is without them at once."""
    await eventually(lambda: registry.state.connections_watched)
    path = tmp_path / "agent.py"
    path.write_text(PROGRAM)
    shared = {**os.environ, "NATS_URL": nats_server.url, "PYTHONPATH": str(Path(__file__).parents[2])}
    programs = {
        name: await asyncio.create_subprocess_exec(
            sys.executable,
            str(path),
            env={**shared, "AGENT_REGISTRY_AGENT_ID": name},
            stderr=asyncio.subprocess.DEVNULL,
        )
        for name in names(4)
    }
    try:
        async with asyncio.timeout(LONG):
            await group.until(lambda members: len(members) == 4)
        await group.scatter(TOPIC, {"quick": names(4)}, quorum="all", deadline=LONG)
        async with (
            asyncio.timeout(LONG),
            aclosing(group.answers(TOPIC, {"quick": ["a0", "a1"]}, deadline=2.0)) as answers,
        ):
            assert {(await anext(answers)).value, (await anext(answers)).value} == {"a0", "a1"}
            for name in ("a2", "a3"):
                programs[name].kill()
            await until(group, "a0", "a1")
            assert {str(answer.outcome) async for answer in answers} == {"timeout"}
        survivors = await group.scatter(TOPIC, {"quick": names(4)}, quorum="all", deadline=LONG)
        assert set(survivors.values) == {"a0", "a1"}
    finally:
        for program in programs.values():
            if program.returncode is None:
                program.kill()
            await program.wait()


async def test_it_survives_a_restart_of_nats(server: Server) -> None:
    await server.start()
    async with serving(server.url), RegistryClient(server.url) as client, client.group("research") as group:
        crowd, reader = Crowd(client._connection.client, client), Reader(group)
        await crowd.add("a", "b", absent=True)
        await reader.until("a", "b")
        read = reader.read
        await server.kill()
        await eventually(lambda: not client._connection.is_connected)
        assert len(group.members) == 2, "whoever was in it last"
        with pytest.raises(UnavailableError, match="no connection"):
            await group.scatter(TOPIC, deadline=LONG)
        with pytest.raises(UnavailableError, match="0 of 2 agents may have been told"):
            await group.broadcast(TOPIC)
        await server.start()
        async with RegistryClient(server.url, timeout=10.0) as other:
            await other.deregister_agent("a")
            await Crowd(other._connection.client, other).add("c", absent=True)
        await reader.until("b", "c")
        assert reader.read == read + 2, "nobody is told of who is as before"


async def test_it_survives_a_restart_of_the_registry(
    client: RegistryClient, crowd: Crowd, group: Group, registry: Replica, nats_server: NatsServer
) -> None:
    await crowd.add("a", "b")
    await until(group, "a", "b")
    reader = Reader(group)
    await reader.until("a", "b")
    await registry.stop()
    assert len((await group.scatter(TOPIC, quorum="all", deadline=LONG)).values) == 2, "nobody has to be found"
    again = Replica(registry.settings, nats_server.url)
    await again.start()
    await client.deregister_agent("a")
    await crowd.add("c")
    await reader.until("b", "c")
    await again.stop()


async def test_without_a_registry_it_is_not_entered(nats_server: NatsServer) -> None:
    async with RegistryClient(nats_server.url, timeout=0.2) as client:
        with pytest.raises(UnavailableError, match="discover"):
            async with client.group("research"):
                pass
        assert not client._connection._subscriptions


async def test_it_is_known_only_while_it_is_entered(client: RegistryClient) -> None:
    group = client.group("research")
    with pytest.raises(RuntimeError, match="only inside"):
        _ = group.members
    before = len(client._connection._subscriptions)
    async with group:
        waiting = asyncio.create_task(group.until(lambda members: len(members) == 1))
        reading = asyncio.ensure_future(anext(group.changes()))
        await asyncio.sleep(0)
    for ended in (waiting, reading):
        async with asyncio.timeout(15):
            with pytest.raises(RuntimeError, match="only inside"):
                await ended
    with pytest.raises(RuntimeError, match="only inside"):
        await group.scatter(TOPIC)
    assert len(client._connection._subscriptions) == before


async def test_it_ends_with_its_client(nats_server: NatsServer, registry: Replica) -> None:
    client = RegistryClient(nats_server.url)
    async with client, client.group("research") as group:
        waiting = asyncio.create_task(group.until(lambda members: len(members) == 1))
        await asyncio.sleep(0)
        await client.close()
        async with asyncio.timeout(15):
            with pytest.raises(UnavailableError, match="is closed"):
                await waiting
        with pytest.raises(UnavailableError, match="is closed"):
            await group.scatter(TOPIC)


async def test_entering_it_can_be_cancelled(nats_server: NatsServer, nc: Client) -> None:
    asked = asyncio.Event()

    async def hear(msg: Msg) -> None:
        asked.set()

    await nc.subscribe("registry.discover", cb=hear)
    await nc.flush()
    async with RegistryClient(nats_server.url, timeout=LONG) as client:
        entering = asyncio.create_task(client.group("research").__aenter__())
        await asked.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert not client._connection._subscriptions
