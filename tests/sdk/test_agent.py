"""Agents and a real registry: registering, serving, being heard of, leaving."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from agents_sdk import (
    Agent,
    AgentCallError,
    AgentInfo,
    AgentStatus,
    AlreadyRegisteredError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RegistryClient,
    ServiceQuery,
    StaleIncarnationError,
    UnavailableError,
    health,
    link,
    reach,
    serving,
)
from agents_sdk.connection import Connection
from agents_sdk.heart import Ended
from agents_sdk.requester import Requester
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.sdk.outage import Server

MakeAgent = Callable[..., Agent]


@pytest.fixture
async def make(nats_server: NatsServer, registry: Replica) -> AsyncIterator[MakeAgent]:
    """Makes agents, and stops those that a test leaves running."""
    agents: list[Agent] = []

    def make(agent_id: str = "a", capabilities: tuple[str, ...] = ("trading",), **fields: Any) -> Agent:
        agents.append(Agent("trader", capabilities, agent_id=agent_id, nats=nats_server.url, **fields))
        return agents[-1]

    yield make
    for agent in agents:
        await agent.stop()


async def ask(nc: Client, subject: str, request: Any = None) -> tuple[Any, int]:
    """Return an agent's answer and the number of the error, 0 if it is none."""
    payload = request if isinstance(request, bytes) else orjson.dumps(request or {})
    reply = await nc.request(subject, payload, timeout=10)
    return orjson.loads(reply.data), int((reply.headers or {}).get("Nats-Service-Error-Code", 0))


async def known(client: RegistryClient, agent_id: str = "a") -> AgentInfo:
    agent = await client.get_agent_info(agent_id)
    assert agent is not None
    return agent


async def test_it_is_found_serves_and_is_gone(make: MakeAgent, client: RegistryClient, nc: Client) -> None:
    agent = make(tags=["fast"], metadata={"exchange": "x"}, version="2.1.0", max_concurrency=7)

    @agent.handle("quote")
    async def quote(request: dict[str, Any]) -> dict[str, Any]:
        return {"symbol": request["symbol"], "price": 42.0}

    async with agent:
        found = await known(client)
        assert (found.tags, found.metadata, found.version) == ({"fast"}, {"exchange": "x"}, "2.1.0")
        assert (found.max_concurrency, found.instance_id) == (7, agent.instance_id)
        assert found.health_subject == "agent.a.health_check"
        assert await client.call("trading", "quote", {"symbol": "BTC"}) == {"symbol": "BTC", "price": 42.0}
    assert await client.get_agent_info("a") is None
    with pytest.raises(NoRespondersError):
        await nc.request("agent.a.quote")
    with pytest.raises(NoRespondersError):
        await nc.request("agent.a.health_check")


async def test_an_agent_without_an_id_makes_one(nats_server: NatsServer, client: RegistryClient) -> None:
    one, other = (Agent("my.type", ["trading"], nats=nats_server.url) for _ in range(2))
    assert one.agent_id.startswith("my-type-")
    assert one.agent_id != other.agent_id
    async with one, other:
        assert {agent.agent_id for agent in await client.discover_agents()} == {one.agent_id, other.agent_id}


def test_an_agent_without_an_id_takes_the_one_that_whoever_started_it_gave(monkeypatch) -> None:
    monkeypatch.setenv("AGENT_REGISTRY_AGENT_ID", "trading-7-0")
    assert Agent("trader", ["trading"]).agent_id == "trading-7-0"
    assert Agent("trader", ["trading"], agent_id="own").agent_id == "own"
    monkeypatch.setenv("AGENT_REGISTRY_AGENT_ID", "")
    assert Agent("trader", ["trading"]).agent_id.startswith("trader-")
    monkeypatch.setenv("AGENT_REGISTRY_AGENT_ID", "a b")
    with pytest.raises(InvalidRequestError, match=r"^agent_id"):
        Agent("trader", ["trading"])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"capabilities": ()}, "capabilities"),
        ({"capabilities": "trading"}, "capabilities"),
        ({"agent_id": "a b"}, "agent_id"),
        ({"heartbeat_interval": 0.0}, "heartbeat_interval"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"metadata": {"x": "y" * 20_000}}, "metadata"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {1: 2}}, "metadata"),
        ({"capabilities": None}, "capabilities"),
        ({"tags": None}, "tags"),
        ({"claims": 5}, "claims"),
        ({"drain_timeout": "x"}, "drain_timeout"),
        ({"drain_timeout": float("nan")}, "drain_timeout"),
        ({"nats": "nats://[::1"}, "nats"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_written(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{named}"):
        Agent("trader", **{"capabilities": ["trading"], **fields})


@pytest.mark.parametrize("topic", ["", "a b", "quote.*", "health_check", "drain"])
def test_a_topic_that_cannot_be_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        Agent("t", ["trading"]).handle(topic)


def test_a_topic_has_one_handler() -> None:
    agent = Agent("t", ["trading"])
    agent.handle("quote")(print)
    with pytest.raises(ValueError, match="has a handler already"):
        agent.handle("quote")


async def test_what_handlers_raise_is_answered_and_logged(make: MakeAgent, nc: Client, caplog) -> None:
    agent = make()

    @agent.handle("fail")
    async def fail(request: dict[str, Any]) -> None:
        raise KeyError("the secret of the house")

    @agent.handle("refuse")
    async def refuse(request: dict[str, Any]) -> None:
        raise InvalidRequestError("symbol: is required")

    @agent.handle("nonsense")
    async def nonsense(request: dict[str, Any]) -> object:
        return object()

    async with agent:
        body, code = await ask(nc, "agent.a.fail")
        assert (code, body["error"]["message"]) == (500, "KeyError in handler 'fail' of a")
        assert "secret" not in str(body)
        assert "the secret of the house" in caplog.text
        body, code = await ask(nc, "agent.a.refuse")
        assert (code, body["error"]["message"]) == (400, "symbol: is required")
        assert (await ask(nc, "agent.a.nonsense"))[1] == 500
        assert (await ask(nc, "agent.a.fail", b"[1]"))[1] == 400
        assert (await ask(nc, "agent.a.fail", b"{"))[1] == 400
        reading = agent._vitals.read()
        assert (reading.served, reading.failed, reading.in_flight) == (5, 2, 0)
        with pytest.raises(AgentCallError, match="KeyError in handler"):
            await agent.client.call("trading", "fail")


async def test_blocking_handlers_run_beside_the_loop(make: MakeAgent, nc: Client) -> None:
    agent = make()
    together = threading.Barrier(3, timeout=10)

    @agent.handle("wait")
    def wait(request: dict[str, Any]) -> str:
        together.wait()
        return threading.current_thread().name

    async with agent:
        answers = await asyncio.gather(*(ask(nc, "agent.a.wait") for _ in range(3)))
        assert all(code == 0 for _, code in answers)
        assert threading.main_thread().name not in [name for name, _ in answers]


async def test_a_message_that_wants_no_answer_is_handled_too(make: MakeAgent, nc: Client) -> None:
    agent, got = make(), asyncio.Event()

    @agent.handle("tell")
    async def tell(request: dict[str, Any]) -> None:
        got.set()

    async with agent:
        await nc.publish("agent.a.tell", b"{}")
        async with asyncio.timeout(10):
            await got.wait()


async def test_more_than_it_can_do_is_sent_elsewhere(make: MakeAgent, nc: Client, client: RegistryClient) -> None:
    agent, go = make(max_concurrency=2), asyncio.Event()

    @agent.handle("work")
    async def work(request: dict[str, Any]) -> str:
        await go.wait()
        return "done"

    async with agent:
        working = [asyncio.create_task(ask(nc, "agent.a.work")) for _ in range(2)]
        await eventually(lambda: agent._vitals.read().in_flight == 2)
        body, code = await ask(nc, "agent.a.work")
        assert (code, body["error"]["retryable"]) == (429, True)
        # The load shows at the registry while the work is done, long before the next regular heartbeat.
        await eventually(lambda: _load_is(client, 1.0))
        go.set()
        assert [await task for task in working] == [("done", 0)] * 2
        await eventually(lambda: _load_is(client, 0.0))


async def _load_is(client: RegistryClient, load: float) -> bool:
    return (await known(client)).load_factor == load


async def test_what_it_measured_is_known(make: MakeAgent, client: RegistryClient, nc: Client) -> None:
    agent = make(heartbeat_interval=0.2)

    @agent.handle("quote")
    async def quote(request: dict[str, Any]) -> int:
        if request.get("fail"):
            raise ValueError
        return 1

    async with agent:
        for n in range(4):
            await ask(nc, "agent.a.quote", {"fail": n == 0})
        await eventually(lambda: _served(client, 4))
        metrics = (await known(client)).performance_metrics
        assert 0.0 < metrics["avg_response_time"] < 1.0
        assert 0.0 < metrics["uptime"] <= 100.0
        assert metrics["work_loop_lag"] >= 0.0
        assert "success_rate" in metrics


async def _served(client: RegistryClient, count: int) -> bool:
    return (await known(client)).performance_metrics.get("requests_served") == count


async def test_what_it_reports_itself_leaves_soon(make: MakeAgent, client: RegistryClient) -> None:
    agent = make()
    async with agent:
        await asyncio.to_thread(agent.report, load_factor=0.7, health_score=0.6, metrics={"queue_depth": 12.0})
        await eventually(lambda: _load_is(client, 0.7))
        found = await known(client)
        assert found.health_score == 0.6
        assert found.performance_metrics["queue_depth"] == 12.0
        await eventually(lambda: _status_is(client, AgentStatus.DEGRADED))
        with pytest.raises(InvalidRequestError, match="load_factor"):
            agent.report(load_factor=1.5)
        with pytest.raises(InvalidRequestError, match="metrics"):
            agent.report(metrics={f"m{n}": 1.0 for n in range(64)})
        with pytest.raises(InvalidRequestError, match="metrics"):
            agent.report(metrics={"m": float("nan")})


async def _status_is(client: RegistryClient, status: AgentStatus) -> bool:
    return (await known(client)).status is status


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_its_own_opinion_of_its_health_counts(
    make: MakeAgent, client: RegistryClient, nc: Client, kind: str
) -> None:
    agent, score = make(heartbeat_interval=0.1), [0.6]
    if kind == "async":

        @agent.health
        async def health() -> float:
            return score[0]

    else:

        @agent.health
        def health_in_a_thread() -> float:
            assert threading.current_thread() is not threading.main_thread()
            return score[0]

    async with agent:
        await eventually(lambda: _status_is(client, AgentStatus.DEGRADED))
        assert (await ask(nc, "agent.a.health_check"))[0]["health_score"] == 0.6
        score[0] = 0.9
        await eventually(lambda: _status_is(client, AgentStatus.ACTIVE))


async def test_a_slow_opinion_holds_up_neither_heartbeats_nor_health_checks(
    make: MakeAgent, client: RegistryClient, nc: Client, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.3)
    agent, go = make(heartbeat_interval=0.1), asyncio.Event()

    @agent.health
    async def slow() -> float:
        await go.wait()
        return 0.6

    async with agent:
        started = time.monotonic()
        answers = await asyncio.gather(*(ask(nc, "agent.a.health_check") for _ in range(10)))
        assert time.monotonic() - started < 10 * 0.3
        assert {answer["health_score"] for answer, _ in answers} == {1.0}
        go.set()
        await eventually(lambda: _status_is(client, AgentStatus.DEGRADED))
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_health_checks_are_answered_while_a_handler_blocks_the_loop(
    make: MakeAgent, nats_server: NatsServer, client: RegistryClient, nc: Client
) -> None:
    """The agent lives in a loop of its own here, so that the test can look while it is blocked."""
    agent, blocked, go = make(heartbeat_interval=0.2), threading.Event(), threading.Event()

    @agent.handle("block")
    async def block(request: dict[str, Any]) -> str:
        blocked.set()
        go.wait(30)
        return "done"

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(agent.start(), loop))
        working = asyncio.create_task(ask(nc, "agent.a.block"))
        await asyncio.to_thread(blocked.wait, 10)
        answer, _ = await ask(nc, "agent.a.health_check")
        assert answer["health_score"] == 1.0
        await eventually(lambda: _load_is(client, 1.0))  # it could not begin anything
        assert (await ask(nc, "agent.a.health_check"))[0]["status"] == "busy"
        before = (await known(client)).last_heartbeat
        await eventually(lambda: _beaten_since(client, before + 0.5))
        assert (await known(client)).status is AgentStatus.ACTIVE
        go.set()
        assert await working == ("done", 0)
        await eventually(lambda: _load_is(client, 0.0))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(agent.stop(), loop))
    finally:
        go.set()
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()


async def test_an_agent_whose_requests_do_not_reach_it_counts_as_fully_loaded(
    make: MakeAgent, client: RegistryClient, nc: Client, monkeypatch
) -> None:
    """It has two connections: the one for its work can be gone, and not come back, while its heart beats on."""
    monkeypatch.setattr(reach, "MISSED", 0.2)
    agent, dial, away = make(), link.dial, True

    async def dial_not_for_work(address: Any, callbacks: Any) -> Any:
        if away and address.name == "work:a":
            raise UnavailableError("no")
        return await dial(address, callbacks)

    async with agent:
        await eventually(lambda: _load_is(client, 0.0))
        monkeypatch.setattr(link, "dial", dial_not_for_work)
        await agent._connection.client._process_err("'user authentication expired'")
        await eventually(lambda: _load_is(client, 1.0))
        assert (await ask(nc, "agent.a.health_check"))[0]["status"] == "busy"
        away = False
        await eventually(lambda: _load_is(client, 0.0), within=20)


async def _beaten_since(client: RegistryClient, instant: float) -> bool:
    return (await known(client)).last_heartbeat > instant


async def test_a_forgotten_agent_registers_again(make: MakeAgent, client: RegistryClient) -> None:
    async with make(heartbeat_interval=0.2):
        await client.deregister_agent("a")
        await eventually(lambda: _is_known(client, "a"))


async def _is_known(client: RegistryClient, agent_id: str) -> bool:
    return await client.get_agent_info(agent_id) is not None


async def test_an_id_that_is_taken_is_refused_and_names_its_holder(make: MakeAgent, client: RegistryClient) -> None:
    async with make() as holder:
        with pytest.raises(AlreadyRegisteredError, match=holder.instance_id):
            await make().start()
        assert (await known(client)).instance_id == holder.instance_id


async def test_a_replaced_agent_stops_serving_and_leaves_its_successor_alone(
    make: MakeAgent, client: RegistryClient, nc: Client, caplog
) -> None:
    old, new = make(), make(takeover=True)
    for agent in (old, new):
        agent.handle("who")(lambda request, agent=agent: agent.instance_id)
    await old.start()
    await new.start()
    # Long before its next heartbeat is due: the registry's event made it ask.
    async with asyncio.timeout(10):
        with pytest.raises(StaleIncarnationError):
            await old.wait()
    assert "a stops serving" in caplog.text
    await old.stop()
    assert (await known(client)).instance_id == new.instance_id
    assert await ask(nc, "agent.a.who") == (new.instance_id, 0)


async def test_an_agent_that_is_replaced_before_it_serves_does_not_start(make: MakeAgent) -> None:
    agent = make()
    replaced = StaleIncarnationError("replaced")

    async def open_too_late(connection: Any) -> None:
        agent._life._hear(Ended(replaced))
        raise UnavailableError("closing")

    agent._service.open = open_too_late  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        with pytest.raises(StaleIncarnationError):
            await agent.start()
        with pytest.raises(StaleIncarnationError):
            await agent.wait()


async def test_an_agent_that_is_its_own_successor_registers_again(server: Server, tmp_path: Path, caplog) -> None:
    """The registry has one store, then another, then the first one again, where the agent is of a later incarnation."""
    caplog.set_level("INFO")
    store, other, running = tmp_path / "jetstream", tmp_path / "other", AsyncExitStack()

    async def serve(change: Callable[[], object] = lambda: None) -> None:
        await running.aclose()
        await server.kill()
        change()
        await server.start()
        registry = Replica(Settings(), server.url)
        running.push_async_callback(registry.stop)
        await registry.start()

    async with running:
        await serve()
        client = await running.enter_async_context(RegistryClient(server.url))
        await client.register({"agent_type": "trader", "capabilities": ["trading"], "agent_id": "a"})
        await client.deregister_agent("a")
        async with Agent("trader", ["trading"], agent_id="a", nats=server.url) as agent:
            await serve(lambda: store.rename(tmp_path / "first"))
            await eventually(lambda: "a is registered again, as incarnation 1" in caplog.text, within=20)
            await serve(lambda: (store.rename(other), (tmp_path / "first").rename(store)))
            await eventually(lambda: "a is registered again, as incarnation 2" in caplog.text, within=20)
            assert "stops serving" not in caplog.text
            async with RegistryClient(server.url) as client:
                beaten = (await known(client)).last_heartbeat
                agent.report(load_factor=0.5)
                await eventually(lambda: _beaten_since(client, beaten))
                assert (await known(client)).instance_id == agent.instance_id


@pytest.mark.parametrize("fails", [UnavailableError("no leader"), None])
async def test_replaced_it_stops_once_it_has_seen_who_holds_its_id(
    make: MakeAgent, monkeypatch, fails: UnavailableError | None
) -> None:
    """While that cannot be seen it goes on: to stop is for good."""
    asked, ask_registry = [], Requester.ask

    async def ask_in_vain(requester: Requester, operation: str, fields: Any, **options: Any) -> dict[str, Any]:
        if operation == "get":
            asked.append(1)
            if fails is not None and len(asked) < 3:
                raise fails
        return await ask_registry(requester, operation, fields, **options)

    old, new = make(heartbeat_interval=0.2), make(takeover=True)
    await old.start()
    monkeypatch.setattr(Requester, "ask", ask_in_vain)
    await new.start()
    async with asyncio.timeout(10):
        with pytest.raises(StaleIncarnationError):
            await old.wait()
    assert len(asked) == (1 if fails is None else 3)


async def test_who_took_an_id_over_once_does_not_take_it_back(make: MakeAgent, client: RegistryClient) -> None:
    """An instance that was forgotten, while another one registered, asks for the id as anybody does."""
    old = make(takeover=True, heartbeat_interval=0.2)
    await old.start()
    assert old._life._heart is not None
    requests: list[dict[str, Any]] = []
    ask_registry = old._life._heart._requester.ask

    async def listen(operation: str, fields: Any, **options: Any) -> dict[str, Any]:
        if operation == "register":
            requests.append(dict(fields))
        return await ask_registry(operation, fields, **options)

    old._life._heart._requester.ask = listen  # type: ignore[method-assign]
    await client.deregister_agent("a")
    await eventually(lambda: bool(requests))
    assert requests[0]["takeover"] is False


async def test_stopping_while_replaced_leaves_the_successor_alone(make: MakeAgent, client: RegistryClient) -> None:
    old, new = make(), make(takeover=True)
    await old.start()
    starting = asyncio.create_task(new.start())
    await eventually(lambda: _incarnation_is(client, 2))
    await old.stop()
    await starting
    assert (await known(client)).instance_id == new.instance_id


async def _incarnation_is(client: RegistryClient, incarnation: int) -> bool:
    return (await known(client)).incarnation == incarnation


async def test_an_order_to_drain_ends_it_after_its_work(make: MakeAgent, client: RegistryClient, nc: Client) -> None:
    agent, go = make(), asyncio.Event()

    @agent.handle("work")
    async def work(request: dict[str, Any]) -> str:
        await go.wait()
        return "done"

    await agent.start()
    working = asyncio.create_task(ask(nc, "agent.a.work"))
    await eventually(lambda: agent._vitals.read().in_flight == 1)
    await client.drain_agent("a", "scale down")
    await eventually(lambda: _is_draining(nc))
    body, code = await ask(nc, "agent.a.work")
    assert (code, body["error"]["retryable"]) == (503, True)
    assert body["error"]["message"] == "a is draining and takes no new work; ask another agent"
    assert (await known(client)).status is AgentStatus.DEREGISTERING
    go.set()
    assert await working == ("done", 0)
    async with asyncio.timeout(10):
        await agent.wait()
    assert await client.get_agent_info("a") is None


async def _is_draining(nc: Client) -> bool:
    return (await ask(nc, "agent.a.health_check"))[0]["status"] == "draining"


async def test_stopping_tells_the_registry_first_when_there_is_work_left(
    make: MakeAgent, client: RegistryClient, nc: Client
) -> None:
    agent, go = make(), asyncio.Event()

    @agent.handle("work")
    async def work(request: dict[str, Any]) -> str:
        await go.wait()
        return "done"

    await agent.start()
    working = asyncio.create_task(ask(nc, "agent.a.work"))
    await eventually(lambda: agent._vitals.read().in_flight == 1)
    stopping = [asyncio.create_task(agent.stop()) for _ in range(2)]
    await eventually(lambda: _status_is(client, AgentStatus.DEREGISTERING))
    go.set()
    assert await working == ("done", 0)
    await asyncio.gather(*stopping)
    await agent.stop()


async def test_work_that_does_not_end_is_cancelled_and_answered(make: MakeAgent, nc: Client, caplog) -> None:
    agent = make(drain_timeout=0.2)

    @agent.handle("work")
    async def work(request: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    await agent.start()
    working = asyncio.create_task(ask(nc, "agent.a.work"))
    await eventually(lambda: agent._vitals.read().in_flight == 1)
    await agent.stop()
    body, code = await working
    assert (code, body["error"]["message"]) == (500, "a stopped before it was done")
    assert "cancels 1 requests" in caplog.text


async def test_an_order_to_drain_that_was_lost_is_read_from_the_answer_to_a_beat(
    make: MakeAgent, client: RegistryClient, registry: Replica, caplog
) -> None:
    caplog.set_level("INFO")
    agent = make(heartbeat_interval=0.2)
    await agent.start()
    assert agent._life._heart is not None

    async def deaf(msg: Any) -> None:
        pass

    for subscription in agent._life._heart._connection._subscriptions:
        if subscription.subject.endswith(".drain"):
            assert subscription.inner is not None
            subscription.inner._cb = deaf
    await client.drain_agent("a")
    async with asyncio.timeout(10):
        await agent.wait()
    assert await client.get_agent_info("a") is None
    assert "a is told to drain" in [record.getMessage() for record in caplog.records], "nobody said why"


async def test_an_agent_waits_for_its_registry(nats_server: NatsServer, caplog) -> None:
    agent = Agent("trader", ["trading"], agent_id="a", nats=nats_server.url)
    starting = asyncio.create_task(agent.start())
    await eventually(lambda: "a is not registered yet: no registry serves 'register'" in caplog.text, within=20)
    registry = Replica(Settings(), nats_server.url)
    await registry.start()
    async with asyncio.timeout(20):
        await starting
    await agent.stop()
    await registry.stop()


async def test_an_agent_waits_for_nats_and_can_be_stopped_meanwhile(server: Server, caplog) -> None:
    agent = Agent("trader", ["trading"], agent_id="a", nats=server.url)
    starting = asyncio.create_task(agent.start())
    await eventually(lambda: "waiting for NATS" in caplog.text, within=20)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_stopped_while_it_waits_for_nats_it_does_not_come_later(server: Server, caplog) -> None:
    agent = Agent("trader", ["trading"], agent_id="a", nats=server.url)
    starting = asyncio.create_task(agent.start())
    await eventually(lambda: "waiting for NATS" in caplog.text, within=20)
    async with asyncio.timeout(10):
        await agent.stop()
        await starting
        await agent.wait()
    await server.start()
    assert not agent._connection.is_connected
    assert not [thread for thread in threading.enumerate() if thread.name == "heart:a"]


async def test_stopped_while_it_waits_for_its_registry_it_has_started_and_ended(
    nats_server: NatsServer, caplog
) -> None:
    agent = Agent("trader", ["trading"], agent_id="a", nats=nats_server.url)
    starting = asyncio.create_task(agent.start())
    await eventually(lambda: "a is not registered yet" in caplog.text, within=20)
    async with asyncio.timeout(10):
        await agent.stop()
        await starting
        await agent.wait()


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_given_up_while_it_registers_it_leaves_no_ghost(
    make: MakeAgent, client: RegistryClient, monkeypatch, how: str
) -> None:
    agent, on_its_way, go = make("ghost"), asyncio.Event(), asyncio.Event()
    loop, ask_registry = asyncio.get_running_loop(), Requester.ask

    async def ask_late(requester: Requester, operation: str, fields: Any, **options: Any) -> dict[str, Any]:
        answer = await ask_registry(requester, operation, fields, **options)
        if operation == "register":
            loop.call_soon_threadsafe(on_its_way.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), loop))
        return answer

    monkeypatch.setattr(Requester, "ask", ask_late)
    starting = asyncio.create_task(agent.start())
    await on_its_way.wait()
    if how == "cancelled":
        ending = starting
        starting.cancel()
    else:
        ending = asyncio.create_task(agent.stop())
    await eventually(lambda: agent._life._ending is not None)
    go.set()
    await asyncio.wait((starting, ending), timeout=10)
    assert starting.done()
    assert await client.get_agent_info("ghost") is None


async def test_a_heart_that_may_not_connect_says_why(make: MakeAgent, monkeypatch) -> None:
    """The heart's thread ends as soon as it has begun."""

    async def refuse(*_) -> None:
        raise ForbiddenError("NATS refuses this user")

    for _ in range(10):
        agent = make()
        make_heart = agent._life._make_heart

        def with_refusal(*arguments: Any, make_heart=make_heart) -> Any:
            heart = make_heart(*arguments)
            heart._connection.open = refuse.__get__(heart._connection)
            return heart

        agent._life._make_heart = with_refusal
        async with asyncio.timeout(10):
            with pytest.raises(ForbiddenError, match="refuses this user"):
                await agent.start()


async def test_what_is_heard_is_heard_once_however_often_it_failed(
    make: MakeAgent, client: RegistryClient, nc: Client, monkeypatch
) -> None:
    flush, failures = Connection.flush, []

    async def fail_at_first(connection: Connection, within: float = 2.0) -> None:
        if threading.current_thread().name == "heart:a" and len(failures) < 3:
            failures.append(1)
            raise UnavailableError("NATS does not answer")
        await flush(connection, within)

    monkeypatch.setattr(Connection, "flush", fail_at_first)
    async with make():
        assert len(failures) == 3
        answers: list[bytes] = []

        async def hear(msg: Any) -> None:
            answers.append(msg.data)

        inbox = nc.new_inbox()
        await nc.subscribe(inbox, cb=hear)
        await nc.publish("agent.a.health_check", b"", reply=inbox)
        await eventually(lambda: bool(answers))
        await ask(nc, "agent.a.health_check")  # whatever else there was has come before this
        assert len(answers) == 1


async def test_what_was_sent_before_it_left_is_answered(make: MakeAgent, nc: Client) -> None:
    """NATS goes on sending until it has read that the agent wants no more; whoever asked would wait in vain."""
    agent = make()
    agent.handle("quote")(lambda request: 1)
    await agent.start()
    assert agent._life._heart is not None
    release, publish, answers = agent._life._heart.release, agent._connection.publish, []

    async def hear(msg: Any) -> None:
        answers.append(msg.headers["Nats-Service-Error-Code"])

    async def release_late(reason: str) -> None:
        await release(reason)
        for _ in range(50):
            await nc.publish("agent.a.quote", b"", reply=inbox)
        await nc.flush()

    async def publish_slowly(*arguments: Any, **options: Any) -> None:
        await asyncio.sleep(0.01)
        await publish(*arguments, **options)

    inbox = nc.new_inbox()
    await nc.subscribe(inbox, cb=hear)
    agent._life._heart.release = release_late  # type: ignore[method-assign]
    agent._connection.publish = publish_slowly  # type: ignore[method-assign]
    await agent.stop()
    await eventually(lambda: answers == ["503"] * 50)


async def test_a_cancellation_that_gets_lost_does_not_make_it_miss_a_signal(
    make: MakeAgent, client: RegistryClient
) -> None:
    """asyncio.wait_for swallows one that comes together with its result, until Python 3.12."""
    agent = make()
    open_service = agent._service.open

    async def open_and_swallow(connection: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await open_service(connection)

    agent._service.open = open_and_swallow  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        await agent._run()
    assert await client.get_agent_info("a") is None


async def test_handlers_that_cannot_be_cancelled_do_not_keep_it(make: MakeAgent, nc: Client, monkeypatch) -> None:
    monkeypatch.setattr(serving, "CANCEL_TIMEOUT", 0.1)
    agent, stubborn = make(drain_timeout=0.1), asyncio.Event()

    @agent.handle("work")
    async def work(request: dict[str, Any]) -> None:
        while not stubborn.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stubborn.wait()

    await agent.start()
    await nc.publish("agent.a.work", b"{}")
    await eventually(lambda: agent._vitals.read().in_flight == 1)
    await agent.stop()
    stubborn.set()


async def test_it_survives_a_restart_of_nats(server: Server) -> None:
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    agent = Agent("trader", ["trading"], agent_id="a", nats=server.url, heartbeat_interval=30.0)
    agent.handle("ping")(lambda request: "pong")
    async with agent, RegistryClient(server.url) as client:
        await eventually(lambda: _has_beaten(client))
        before = (await known(client)).last_heartbeat
        await server.kill()
        await server.start()
        # Within seconds, not at the end of its interval.
        await eventually(lambda: _comes_back(client, before), within=20)
        assert (await known(client)).status is AgentStatus.ACTIVE
        assert await client.call("trading", "ping", timeout=10.0) == "pong"
    await registry.stop()


async def test_back_from_an_outage_it_is_not_full_because_its_other_connection_comes_later(
    server: Server, monkeypatch
) -> None:
    """All agents of a capability that say that they are full have the scaler start more of them at once."""
    monkeypatch.setattr(reach, "MISSED", 3600.0)
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    agent = Agent("trader", ["trading"], agent_id="a", nats=server.url)
    async with agent, RegistryClient(server.url) as client:
        await eventually(lambda: _has_beaten(client))
        before = (await known(client)).last_heartbeat
        # The work connection does not come back while this test looks.
        work = agent._connection.client
        work._reconnect_to_server_handler = lambda servers, _info: (servers[0], 3600.0)
        await server.kill()
        await server.start()
        await eventually(lambda: _comes_back(client, before), within=20)
        assert not agent._connection.is_connected
        assert (await known(client)).load_factor == 0.0
    await registry.stop()


async def _has_beaten(client: RegistryClient) -> bool:
    return "uptime" in (await known(client)).performance_metrics


async def _comes_back(client: RegistryClient, before: float) -> bool:
    try:
        return (await known(client)).last_heartbeat > before
    except UnavailableError:
        return False


async def test_agents_call_each_other(make: MakeAgent, client: RegistryClient) -> None:
    risk, trader = make("risk", ("risk_management",)), make("trader")

    @risk.handle("check")
    async def check(request: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": request["amount"] < 100}

    @trader.handle("buy")
    async def buy(request: dict[str, Any]) -> dict[str, Any]:
        verdict = await trader.client.call("risk_management", "check", {"amount": request["amount"]})
        return {"bought": verdict["allowed"]}

    async with risk, trader:
        assert await client.call("trading", "buy", {"amount": 5}) == {"bought": True}
        assert await client.call("trading", "buy", {"amount": 500}) == {"bought": False}


async def test_an_agent_starts_once(make: MakeAgent) -> None:
    agent = make()
    with pytest.raises(RuntimeError, match="has not been started"):
        await agent.wait()
    async with agent:
        with pytest.raises(RuntimeError, match="started before"):
            await agent.start()
        with pytest.raises(RuntimeError, match="has started"):
            agent.handle("late")
    await agent.stop()
    await agent.wait()
    assert repr(agent) == "<Agent a of type trader>"


async def test_a_stopped_agent_whose_registry_is_away_goes_anyway(make: MakeAgent, registry: Replica, caplog) -> None:
    agent = make()
    await agent.start()
    await registry.stop()
    started = time.monotonic()
    await agent.stop()
    assert time.monotonic() - started < 15.0
    assert "could not deregister" in caplog.text


async def test_nothing_is_left_behind(make: MakeAgent) -> None:
    before = threading.active_count()
    async with AsyncExitStack() as stack:
        for n in range(5):
            await stack.enter_async_context(make(f"a{n}"))
        assert threading.active_count() >= before + 5
    await eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("heart:")])


LEAST = """
accounts {{ A {{ jetstream: enabled, users: [
  {{ user: registry, password: r }},
  {{ user: agent, password: a, permissions: {{
      publish: {{ allow: ["registry.*.{id}", "registry.discover", "agent.>"] }},
      subscribe: {{ allow: ["_INBOX_{id}.>", "agent.{id}.>"] }},
      allow_responses: {{ max: 1, expires: "30s" }} }} }}
] }} }}
"""


async def test_the_least_permissions_are_enough(server: Server, caplog) -> None:
    """An identity that is bound to one agent: its own subjects, its own inbox, and to answer."""
    caplog.set_level("INFO")
    await server.start(LEAST.format(id="trader-1"))
    registry_url = server.url.replace("//", "//registry:r@")
    registry = Replica(Settings(), registry_url)
    await registry.start()
    fields = {"nats": server.url.replace("//", "//agent:a@"), "inbox_prefix": "_INBOX_trader-1"}
    agent = Agent("trader", ["trading"], agent_id="trader-1", heartbeat_interval=0.2, **fields)
    agent.handle("quote")(lambda request: 42.0)
    async with agent, RegistryClient(registry_url) as client:
        assert await client.call("trading", "quote") == 42.0
        await eventually(lambda: _served_by(client, "trader-1"))
        assert await agent.client.call("trading", "quote") == 42.0
    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    other = Agent("trader", ["trading"], agent_id="trader-2", **fields)
    with pytest.raises(ForbiddenError, match=r"publish to registry\.register\.trader-2"):
        await other.start()
    await registry.stop()


async def _served_by(client: RegistryClient, agent_id: str) -> bool:
    return (await known(client, agent_id)).performance_metrics.get("requests_served") == 1


async def test_it_is_a_micro_service(make: MakeAgent, nc: Client) -> None:
    agent = make(version="2.1.0")

    @agent.handle("quote.fast")
    async def quote(request: dict[str, Any]) -> float:
        return 1 / request["x"]

    async with agent:
        await ask(nc, "agent.a.quote.fast", {"x": 1})
        await ask(nc, "agent.a.quote.fast", {"x": 0})
        info, _ = await ask(nc, "$SRV.INFO.trader")
        assert info["type"] == "io.nats.micro.v1.info_response"
        assert (info["name"], info["id"], info["version"]) == ("trader", agent.instance_id, "2.1.0")
        assert info["description"] == "Agent a"
        [endpoint] = info["endpoints"]
        assert (endpoint["name"], endpoint["subject"]) == ("quote-fast", "agent.a.quote.fast")
        assert (await ask(nc, f"$SRV.PING.trader.{agent.instance_id}"))[0]["metadata"]["agent_id"] == "a"
        stats, _ = await ask(nc, "$SRV.STATS.trader")
        [endpoint] = stats["endpoints"]
        assert (endpoint["num_requests"], endpoint["num_errors"]) == (2, 1)
        assert endpoint["last_error"] == "500:ZeroDivisionError in handler 'quote.fast' of a"
        assert endpoint["average_processing_time"] > 0


async def test_nobody_by_that_name(client: RegistryClient, make: MakeAgent) -> None:
    async with make():
        with pytest.raises(NotFoundError):
            await client.drain_agent("b")
        assert (await client.discover(ServiceQuery(agent_type="trader"))).total == 1
