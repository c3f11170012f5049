"""The registry in process: one replica however often it is started, from any thread, and nothing shared with it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk.protocol.errors import InvalidRequestError, NotFoundError, UnavailableError
from registry import AgentRegistry, CommunicationBus, ServiceQuery
from registry.replica import Replica
from registry.shell.bus_nats import UnreachableError
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.contract.wire import agent, is_served

AGENT: dict[str, Any] = {"agent_id": "a", "agent_type": "worker", "capabilities": ["trading"]}


async def elsewhere(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Carry work out in another thread, on a loop of its own, which then ends."""
    return await asyncio.to_thread(lambda: asyncio.run(work()))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Replica]:
    """All replicas that were made."""
    made: list[Replica] = []

    class Counted(Replica):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("registry.api.Replica", Counted)
    return made


@pytest.fixture
async def local(made: list[Replica], nats_server: NatsServer) -> AsyncIterator[AgentRegistry]:
    """A registry that was not started yet."""
    bus = CommunicationBus(nats_server.url)
    await bus.start()
    registry = AgentRegistry(bus)
    yield registry
    await registry.stop()


# Starting and stopping.


async def test_started_twice_at_once(local: AgentRegistry, made: list[Replica]) -> None:
    """It is one replica, whoever asks, and from wherever."""
    await asyncio.gather(local.start(), local.start(), elsewhere(local.start))
    await local.start()
    assert len(made) == 1
    await local.register_agent(AGENT)


async def test_started_in_several_threads_at_once(local: AgentRegistry, made: list[Replica]) -> None:
    """The first one's loop is its home; the others' wait there."""
    first, done = threading.Barrier(3), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def start() -> None:
        first.wait(10)
        await local.start()
        if threading.get_ident() == local._home._thread:
            loop.call_soon_threadsafe(done.set)
            await asyncio.to_thread(stopped.wait, 10)

    stopped = threading.Event()
    starting = [asyncio.ensure_future(elsewhere(start)) for _ in range(3)]
    await done.wait()
    assert len(made) == 1
    await local.stop()
    stopped.set()
    await asyncio.gather(*starting)


async def test_stopped_from_another_loop(local: AgentRegistry, made: list[Replica], nc: Client) -> None:
    """It is stopped where it was started, wholly: nobody answers any more, and no task is left."""
    before = asyncio.all_tasks()
    await local.start()
    await elsewhere(local.stop)
    assert not await is_served(nc, "registry.stats")
    await eventually(lambda: made[0].bus.client.is_closed)
    await eventually(lambda: asyncio.all_tasks() <= before)
    await local.start()
    assert await is_served(nc, "registry.stats")


async def test_stopped_while_it_starts(local: AgentRegistry, made: list[Replica], nc: Client) -> None:
    """One after the other."""
    await asyncio.gather(local.start(), local.stop())
    assert not await is_served(nc, "registry.stats")
    await local.start()
    await asyncio.gather(local.stop(), local.start())
    assert await is_served(nc, "registry.stats")
    assert len(made) == 3
    assert [replica.bus.client.is_closed for replica in made] == [True, True, False]


async def test_a_start_that_fails_can_be_repeated(
    made: list[Replica], nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on another loop."""
    monkeypatch.setattr("registry.shell.bus_nats.CONNECT_TIMEOUT", 0.3)
    bus = CommunicationBus("nats://127.0.0.1:1")
    await bus.start()
    registry = AgentRegistry(bus)

    async def fail() -> None:
        with pytest.raises(UnreachableError):
            await registry.start()

    await elsewhere(fail)
    bus._url = nats_server.url
    await registry.start()
    await registry.register_agent(AGENT)
    await registry.stop()


async def test_a_bus_that_is_started_twice_has_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is ended from wherever `stop` is called."""
    monkeypatch.delenv("NATS_URL", raising=False)
    bus = CommunicationBus()
    await asyncio.gather(bus.start(), bus.start())
    server = bus._home.occupant
    assert server is not None
    await bus.start()
    assert bus._home.occupant is server
    await elsewhere(bus.stop)
    assert server._process is not None
    assert not server._process.runs
    with pytest.raises(RuntimeError, match="start the CommunicationBus first"):
        _ = bus.url


# Calls from other threads, and after the end.


async def test_calls_from_another_loop(local: AgentRegistry) -> None:
    """They are carried out at home; what is wrong is raised where it was asked for."""
    await local.start()

    async def use() -> None:
        assert await local.register_agent(AGENT) == "a"
        await local.update_agent_health("a", {"health_score": 0.9, "load_factor": 0.2})
        [found] = await local.discover_agents(ServiceQuery())
        assert (found.agent_id, found.load_factor) == ("a", 0.2)
        known = local.get_agent_info("a")
        assert known is not None
        assert known.health_score == 0.9
        assert local.get_registry_stats()["registered_agents"] == 1
        with pytest.raises(NotFoundError):
            await local.update_agent_health("nobody", {})
        assert await local.deregister_agent("a")

    await elsewhere(use)


async def test_before_it_was_started(local: AgentRegistry) -> None:
    with pytest.raises(RuntimeError, match="start the AgentRegistry first"):
        local.get_agent_info("a")
    with pytest.raises(RuntimeError, match="start the AgentRegistry first"):
        await local.register_agent(AGENT)


@pytest.mark.parametrize("stopped", [True, False])
async def test_after_its_loop_has_ended(local: AgentRegistry, nc: Client, stopped: bool) -> None:
    """Every call says so, whether it was stopped before or not, and leaves nothing behind; it can be started anew."""

    async def live() -> None:
        await local.start()
        replica = local._replica
        assert replica is not None
        if stopped:
            await local.stop()
        else:  # the program ends without a goodbye; its connection must not outlive the loop
            await replica.stop()

    await elsewhere(live)
    match = "start the AgentRegistry first" if stopped else "the AgentRegistry was started has ended; start it anew"
    with pytest.raises(RuntimeError, match=match):
        local.get_agent_info("a")
    with pytest.raises(RuntimeError, match=match):
        local.get_registry_stats()
    for call in (local.register_agent(AGENT), local.deregister_agent("a"), local.discover_agents(ServiceQuery())):
        with pytest.raises(RuntimeError, match=match):
            await call
    await local.stop()
    await local.start()
    assert await is_served(nc, "registry.stats")


# Nothing is shared.


async def test_what_is_returned_is_the_caller_s(local: AgentRegistry) -> None:
    """Whatever a caller does to it, the record stays what it was."""
    await local.start()
    await local.register_agent({**AGENT, "metadata": {"k": {"deep": [1]}}, "tags": ["t"]})
    await local.update_agent_performance("a", {"success_rate": 0.9})
    for _ in range(2):
        known, [found] = local.get_agent_info("a"), await local.discover_agents(ServiceQuery())
        assert known is not None
        for info in (known, found):
            assert info.metadata == {"k": {"deep": [1]}}
            assert (info.performance_metrics, info.tags) == ({"success_rate": 0.9}, {"t"})
            info.metadata["k"]["deep"].append("changed")
            info.metadata["more"] = True
            info.performance_metrics["success_rate"] = 0.0
            info.tags.clear()
            info.capabilities.clear()


async def test_what_was_given_is_the_caller_s(local: AgentRegistry, nc: Client) -> None:
    """A registration is what it was when it was made; in process it reads as everywhere else."""
    await local.start()
    metadata: dict[str, Any] = {"k": {"n": 1}, "pair": (1, 2)}
    registering = asyncio.ensure_future(local.register_agent({**AGENT, "metadata": metadata}))
    await registering
    metadata["k"]["n"] = 2
    known = local.get_agent_info("a")
    assert known is not None
    assert known.metadata == (await agent(nc, "a"))["metadata"] == {"k": {"n": 1}, "pair": [1, 2]}


async def test_a_query_is_the_caller_s(local: AgentRegistry) -> None:
    """Changed afterwards, it does not change what the same question finds."""
    await local.start()
    await local.register_agent({**AGENT, "metadata": {"site": {"name": "x"}}})
    wanted: dict[str, Any] = {"site": {"name": "x"}}
    assert len(await local.discover_agents(ServiceQuery(metadata=wanted))) == 1
    wanted["site"]["name"] = "y"
    await local.register_agent({**AGENT, "agent_id": "b", "metadata": {"site": {"name": "y"}}})
    found = await local.discover_agents(ServiceQuery(metadata={"site": {"name": "x"}}))
    assert [info.agent_id for info in found] == ["a"]


# NATS is lost for good.


async def test_a_connection_that_was_closed_for_good(local: AgentRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and so does every call; what was known then is not taken for what is."""
    await local.start()
    await local.register_agent(AGENT)
    assert local._replica is not None
    await local._replica.bus.client._process_err("'maximum subscriptions exceeded'")
    await eventually(lambda: "registry_failed" in caplog.text)
    for call in (
        local.register_agent(AGENT),
        local.deregister_agent("a"),
        local.discover_agents(ServiceQuery()),
        local.update_agent_health("a", {}),
        local.start(),
    ):
        with pytest.raises(UnavailableError, match="NATS closed the connection for good"):
            await call
    with pytest.raises(UnavailableError, match="NATS closed the connection for good"):
        local.get_agent_info("a")
    await local.stop()
    await local.start()
    assert local.get_agent_info("a") is not None


async def test_a_server_of_its_own_that_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and so does every call."""
    monkeypatch.delenv("NATS_URL", raising=False)
    monkeypatch.setattr("registry.shell.embedded.MAX_RESTARTS", 0)
    bus = CommunicationBus()
    await bus.start()
    registry = AgentRegistry(bus)
    await registry.start()
    await registry.register_agent(AGENT)
    assert bus._home.occupant is not None
    os.kill(bus._home.occupant.pid, signal.SIGKILL)
    await eventually(lambda: "nats_failed" in caplog.text)
    match = "the embedded nats-server ended and does not start again"
    with pytest.raises(UnavailableError, match=match):
        registry.get_agent_info("a")
    with pytest.raises(UnavailableError, match=match):
        await registry.register_agent(AGENT)
    await registry.stop()
    await bus.stop()
    await bus.start()
    await registry.start()
    assert registry.get_agent_info("a") is None, "a new server, with a store of its own"
    await registry.stop()
    await bus.stop()


async def test_assignments(local: AgentRegistry) -> None:
    await local.start()
    await local.register_agent({**AGENT, "max_concurrency": 1})
    trading = ServiceQuery(capabilities={"trading"})
    won = await local.assign(trading, task_id="one")
    assert won.agent.agent_id == "a"
    assert (await local.assign(trading, task_id="one")).assignment_id == won.assignment_id
    with pytest.raises(UnavailableError, match="nobody is free"):
        await local.assign(trading)
    with pytest.raises(InvalidRequestError, match="slots"):
        await local.assign(trading, slots=0)
    assert await local.release(won.assignment_id) is True
    assert await local.release(won.assignment_id) is False
