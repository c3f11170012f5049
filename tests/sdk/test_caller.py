"""Calling agents by what they can do, against agents that misbehave on purpose."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agents_sdk import (
    Agent,
    AgentCallError,
    AgentInfo,
    Listing,
    NotFoundError,
    OverloadedError,
    RegistryClient,
    ServiceQuery,
    UnavailableError,
)
from agents_sdk.caller import LISTING_AGE, REFRESH, Caller, candidates_query
from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from agents_sdk.protocol.codec import encode, parse
from agents_sdk.protocol.errors import RegistryError
from agents_sdk.reports import Reports
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.sdk.outage import Server, settle


class Agents:
    """Plain NATS agents that count what they are asked."""

    def __init__(self, nc: Client, client: RegistryClient) -> None:
        self.nc = nc
        self.client = client
        self.asked: Counter[str] = Counter()

    async def add(self, agent_id: str, answer: Any = None, **fields: Any) -> None:
        """Register an agent that answers `check` with a value, an error, or what a coroutine function makes of it."""
        await self.client.register({"agent_type": "t", "capabilities": ["research"], "agent_id": agent_id, **fields})

        async def on_message(msg: Msg) -> None:
            self.asked[agent_id] += 1
            if isinstance(answer, RegistryError):
                await self.nc.publish(msg.reply, encode(answer.to_body()), headers=answer.to_headers())
            elif callable(answer):
                await answer(msg)
            else:
                await self.nc.publish(msg.reply, encode({"by": agent_id, "got": parse(msg.data)}))

        await self.nc.subscribe(f"agent.{agent_id}.check", cb=on_message)
        await settle(self.nc)


@pytest.fixture
def agents(nc: Client, client: RegistryClient) -> Agents:
    return Agents(nc, client)


async def silent(msg: Msg) -> None:
    pass


async def test_an_agent_is_found_and_its_answer_returned(client: RegistryClient, agents: Agents) -> None:
    await agents.add("a")
    assert await client.call("research", "check", {"x": 1}) == {"by": "a", "got": {"x": 1}}
    assert await client.call("RESEARCH", "check") == {"by": "a", "got": {}}


async def test_nobody_there_is_another_ones_turn(client: RegistryClient, agents: Agents) -> None:
    await client.register({"agent_type": "t", "capabilities": ["research"], "agent_id": "dead"})
    await agents.add("alive")
    for _ in range(10):
        assert (await client.call("research", "check", at_most_once=True))["by"] == "alive"


@pytest.mark.parametrize("error", [OverloadedError("busy"), UnavailableError("leaving")])
async def test_an_agent_that_did_not_begin_is_passed_over(
    client: RegistryClient, agents: Agents, error: RegistryError
) -> None:
    await agents.add("busy", error)
    await agents.add("free")
    for _ in range(10):
        assert (await client.call("research", "check", at_most_once=True))["by"] == "free"


async def test_silence_is_another_ones_turn(client: RegistryClient, agents: Agents) -> None:
    await agents.add("silent", silent)
    await agents.add("alive")
    started = time.monotonic()
    answers = [await client.call("research", "check", timeout=1.0) for _ in range(4)]
    assert {answer["by"] for answer in answers} == {"alive"}
    assert time.monotonic() - started < 4.0


async def test_silence_is_final_where_once_is_the_limit(client: RegistryClient, agents: Agents) -> None:
    await agents.add("silent", silent)
    with pytest.raises(UnavailableError, match=r"silent: no answer within .* it may have begun"):
        await client.call("research", "check", timeout=0.3, at_most_once=True)
    assert agents.asked["silent"] == 1


async def test_an_agents_error_is_raised_and_nobody_else_is_asked(client: RegistryClient, agents: Agents) -> None:
    async def refuse(msg: Msg) -> None:
        headers = {"Nats-Service-Error-Code": "418", "Nats-Service-Error": "I am a teapot"}
        await agents.nc.publish(msg.reply, b"", headers=headers)

    await agents.add("a", refuse)
    await agents.add("b", refuse)
    with pytest.raises(AgentCallError, match="teapot") as raised:
        await client.call("research", "check")
    assert (raised.value.status, raised.value.code, raised.value.message) == (418, "418", "I am a teapot")
    assert raised.value.agent_id in {"a", "b"}
    assert agents.asked.total() == 1


async def test_nobody_at_all_is_said_in_time(client: RegistryClient) -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"no agent found for research within 0.3 s"):
        await client.call("research", "check", timeout=0.3)
    assert time.monotonic() - started < 2.0


async def test_who_was_asked_and_why_it_failed_is_told(client: RegistryClient, agents: Agents) -> None:
    await agents.add("busy", OverloadedError("I am full"))
    with pytest.raises(UnavailableError, match=r"did 'check' within 0.3 s \(busy: I am full\)"):
        await client.call("research", "check", timeout=0.3)
    assert agents.asked["busy"] > 1, "it is asked again after a while"


async def test_an_agent_that_comes_late_is_found(client: RegistryClient, agents: Agents) -> None:
    calling = asyncio.create_task(client.call("research", "check", timeout=10.0))
    await asyncio.sleep(0)
    await agents.add("late")
    assert (await calling)["by"] == "late"


async def test_the_callers_filters_count(client: RegistryClient, agents: Agents) -> None:
    await agents.add("plain")
    await agents.add("tagged", tags=["fast"])
    query = ServiceQuery(tags={"fast"})
    for _ in range(5):
        assert (await client.call("research", "check", query=query))["by"] == "tagged"
    with pytest.raises(UnavailableError, match="no agent found"):
        await client.call("research", "check", query=ServiceQuery(tags={"none"}), timeout=0.1)


def test_a_capability_is_added_to_the_callers_filters() -> None:
    query = candidates_query("research", ServiceQuery(capabilities={"trading"}, limit=3))
    assert (query.capabilities, query.limit) == ({"trading", "research"}, 3)
    assert candidates_query("research", None).limit == 10


async def test_agents_work_on_without_a_registry(client: RegistryClient, agents: Agents, registry: Replica) -> None:
    await agents.add("a")
    await client.call("research", "check")
    await registry.stop()
    for cached in client._caller._listings.values():
        cached.asked_at -= 2 * LISTING_AGE
    assert (await client.call("research", "check"))["by"] == "a"


async def test_a_bad_query_is_the_callers_error(client: RegistryClient) -> None:
    with pytest.raises(ValueError, match="min_health_score"):
        await client.call("research", "check", query=ServiceQuery(min_health_score=7.0))


async def test_an_answer_that_is_not_json_is_the_agents_error(client: RegistryClient, agents: Agents) -> None:
    async def mumble(msg: Msg) -> None:
        await agents.nc.publish(msg.reply, b"hello")

    await agents.add("a", mumble)
    with pytest.raises(AgentCallError, match=r"a answered internal .*not JSON"):
        await client.call("research", "check")


@pytest.mark.parametrize("known", [True, False])
async def test_nats_that_is_away_for_a_moment_is_waited_for(server: Server, known: bool) -> None:
    """Whether or not it was known before whom to ask."""
    await server.start()
    registry = Replica(Settings(), server.url)
    await registry.start()
    agent = Agent("trader", ["trading"], nats=server.url)
    agent.handle("quote")(lambda request: 42.0)
    async with agent, RegistryClient(server.url, timeout=1.0) as client:
        if known:
            assert await client.call("trading", "quote") == 42.0
        await server.kill()
        await eventually(lambda: not client._connection.is_connected)
        calling = asyncio.create_task(client.call("trading", "quote", timeout=20.0))
        await server.start()
        assert await calling == 42.0
    await registry.stop()


async def test_nats_that_stays_away_is_named(server: Server) -> None:
    await server.start()
    async with RegistryClient(server.url, timeout=0.2) as client:
        await server.kill()
        await eventually(lambda: not client._connection.is_connected)
        with pytest.raises(UnavailableError, match=r"within 0.5 s \(agents cannot be found: there is no connection"):
            await client.call("trading", "quote", timeout=0.5)


async def test_a_call_under_way_ends_when_its_client_is_closed(nats_server: NatsServer) -> None:
    """With an error of its own: nobody has cancelled it."""
    client = RegistryClient(nats_server.url, timeout=30.0)
    await client.connect()
    calling = asyncio.create_task(client.call("trading", "quote", timeout=30.0))
    await eventually(lambda: bool(client._caller._listings))
    await client.close()
    async with asyncio.timeout(10):
        with pytest.raises(UnavailableError, match="is closed"):
            await calling


# Without a registry: what is asked of it, and how agents are chosen.

Discover = Callable[[ServiceQuery], Awaitable[Listing]]


def info(agent_id: str, load: float = 0.0, max_concurrency: int | None = 10) -> AgentInfo:
    return AgentInfo(agent_id, "t", set(), load_factor=load, max_concurrency=max_concurrency)


@pytest.fixture
async def caller(nats_server: NatsServer, nc: Client):
    connection = Connection(Address((nats_server.url,)))
    await connection.open()
    made = Fleet(connection, nc)
    yield made
    made.caller.close()
    await connection.close()


class Fleet:
    """A caller, and agents that exist only as a listing and a subscription to all of them."""

    def __init__(self, connection: Connection, nc: Client) -> None:
        self.agents = [info("a")]
        self.asked: Counter[str] = Counter()
        self.discovered = 0
        self.slow = asyncio.Event()
        self.slow.set()
        self.caller = Caller(connection, self.discover, Reports(self.report), random.Random(1))
        self.reported: list[tuple[str, str]] = []
        self._nc = nc

    async def report(self, agent_id: str, problem: str) -> None:
        self.reported.append((agent_id, problem))

    async def discover(self, query: ServiceQuery) -> Listing:
        self.discovered += 1
        await self.slow.wait()
        return Listing(list(self.agents), len(self.agents), 1)

    async def serve(self) -> None:
        async def answer(msg: Msg) -> None:
            self.asked[msg.subject.split(".")[1]] += 1
            await self._nc.publish(msg.reply, b"{}")

        await self._nc.subscribe("agent.*.do", cb=answer)
        await settle(self._nc)

    async def call(self, within: float = 2.0) -> Any:
        return await self.caller.call(ServiceQuery(), "do", None, within, at_most_once=False)


async def test_one_listing_serves_the_calls_of_a_second(caller: Fleet) -> None:
    await caller.serve()
    await asyncio.gather(*(caller.call() for _ in range(20)))
    for _ in range(20):
        await caller.call()
    assert caller.discovered <= 2


async def test_calls_that_find_everybody_busy_do_not_ask_for_a_listing_each(caller: Fleet) -> None:
    busy = OverloadedError("full")

    async def refuse(msg: Msg) -> None:
        await caller._nc.publish(msg.reply, encode(busy.to_body()), headers=busy.to_headers())

    await caller._nc.subscribe("agent.*.do", cb=refuse)
    await settle(caller._nc)
    outcomes = await asyncio.gather(*(caller.call(1.0) for _ in range(100)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {UnavailableError}
    assert caller.discovered <= 1 + 1.0 / REFRESH


async def test_calls_that_wait_for_a_listing_give_up_alone(caller: Fleet) -> None:
    await caller.serve()
    caller.slow.clear()
    patient = asyncio.create_task(caller.call(10.0))
    with pytest.raises(UnavailableError, match="agents cannot be found"):
        await caller.call(0.05)
    caller.slow.set()
    assert await patient == {}
    assert caller.discovered == 1


async def test_the_less_loaded_of_two_is_asked(caller: Fleet) -> None:
    await caller.serve()
    caller.agents = [info("idle", 0.1), info("full", 0.9)]
    for _ in range(20):
        await caller.call()
    assert caller.asked == {"idle": 20}


async def test_nearly_equal_agents_are_both_asked(caller: Fleet) -> None:
    """A load of nearly nothing is as good as none: an adopted service reports what it measured, others what they do."""
    agents = [info("a"), info("b", 0.015)]
    assert {caller.caller._choose(agents).agent_id for _ in range(100)} == {"a", "b"}
    assert {caller.caller._choose([info("a"), info("b", 0.03)]).agent_id for _ in range(100)} == {"a"}


async def test_load_is_spread_over_equals(caller: Fleet) -> None:
    await caller.serve()
    caller.agents = [info(name) for name in "abcd"]
    await asyncio.gather(*(caller.call() for _ in range(200)))
    assert min(caller.asked[name] for name in "abcd") >= 30


async def test_what_is_in_flight_counts_as_load(caller: Fleet) -> None:
    caller.agents = [info("a"), info("b")]
    caller.caller._in_flight["a"] = 5
    assert caller.caller._choose(caller.agents).agent_id == "b"
    assert caller.caller._load(info("a", 0.2, None)) == pytest.approx(0.2 + 5 / 16)


async def test_what_was_in_flight_is_forgotten(caller: Fleet) -> None:
    await caller.serve()
    await asyncio.gather(*(caller.call() for _ in range(10)))
    assert caller.caller._in_flight == {}


async def test_an_agent_that_does_not_answer_is_reported(agents: Agents, client: RegistryClient) -> None:
    """Whoever calls notices first; the registry asks the agent, and judges by what it finds."""
    await agents.add("mute", silent)
    with pytest.raises(UnavailableError):
        await client.call("research", "check", {}, timeout=0.3)

    async def reported() -> bool:
        found = await client.get_agent_info("mute")
        assert found is not None
        assert found.evidence is not None
        return found.evidence.reports == 1 and str(found.evidence.problem).startswith("check: no answer within")

    await eventually(reported)


async def test_a_report_by_hand(agents: Agents, client: RegistryClient) -> None:
    await agents.add("a")
    receipt = await client.report_agent("a", "answers nonsense")
    assert (receipt.agent_id, receipt.verdict, receipt.probed) == ("a", "alive", False)
    with pytest.raises(NotFoundError):
        await client.report_agent("nobody", "is not there")


async def test_reports_of_one_agent_are_few(caller: Fleet) -> None:
    """However often it does not answer: once a second."""
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await caller.caller.call(ServiceQuery(), "check", {}, 0.2, at_most_once=False)
    assert [agent_id for agent_id, _ in caller.reported] == ["a"]
