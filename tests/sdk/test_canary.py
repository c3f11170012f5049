"""Canaries of the SDK's agents: declared with a handler, told from real work, and no load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk import Agent, AgentCapability, Canary, InvalidRequestError, RegistryClient, is_canary
from agents_sdk.canary import says_canary
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually

MakeAgent = Callable[..., Agent]

HEADERS = {"Registry-Canary": "1"}


@pytest.fixture
def settings() -> Settings:
    return Settings(reconnect_grace=0.0)


@pytest.fixture
async def make(nats_server: NatsServer, registry: Replica) -> AsyncIterator[MakeAgent]:
    """Makes agents, and stops them."""
    agents: list[Agent] = []

    def make(capabilities: tuple[str, ...] = ("trading",), **fields: Any) -> Agent:
        agents.append(Agent("trader", capabilities, agent_id="a", nats=nats_server.url, **fields))
        return agents[-1]

    yield make
    for agent in agents:
        await agent.stop()


async def reason(client: RegistryClient) -> str | None:
    agent = await client.get_agent_info("a")
    return None if agent is None else agent.status_reason


async def test_who_fails_is_degraded_until_it_passes(make: MakeAgent, client: RegistryClient) -> None:
    """Its answers are not taken for work: neither as load nor in the metrics."""
    agent, works, seen = make(heartbeat_interval=0.2, max_concurrency=1), False, set()

    @agent.handle("quote", canary=Canary({"symbol": "BTC"}, expect={"ok": True}, period=1.0, timeout=1.0))
    async def quote(request: dict[str, Any]) -> dict[str, Any]:
        seen.add((request["symbol"], is_canary()))
        if not works:
            raise ZeroDivisionError("a defect")
        return {"ok": True}

    async def is_there_for(wanted: str) -> bool:
        return await reason(client) == wanted

    async with agent:
        known = await client.get_agent_info("a")
        assert known is not None
        assert known.canaries == {
            "trading": {
                "topic": "quote", "payload": {"symbol": "BTC"}, "expect": {"ok": True}, "timeout": 1.0, "period": 1.0,
            }
        }  # fmt: skip
        await eventually(lambda: is_there_for("canary"))
        works = True
        await eventually(lambda: is_there_for("recovered"))
        assert seen == {("BTC", True)}
        assert await client.call("trading", "quote", {"symbol": "ETH"}) == {"ok": True}
        assert seen == {("BTC", True), ("ETH", False)}

        async def has_reported() -> bool:
            known = await client.get_agent_info("a")
            return known is not None and known.performance_metrics.get("requests_served") == 1.0

        await eventually(has_reported)
        known = await client.get_agent_info("a")
        assert known is not None
        assert known.performance_metrics["success_rate"] == 1.0
        assert agent._endpoints["agent.a.quote"].counts.requests == 1
        assert agent._endpoints["agent.a.quote"].counts.errors == 0


async def test_a_handler_in_a_thread_is_told_as_well(make: MakeAgent, nc: Client) -> None:
    agent = make()

    @agent.handle("quote", canary=Canary())
    def quote(request: dict[str, Any]) -> bool:
        return is_canary()

    async with agent:
        assert (await nc.request("agent.a.quote", b"", headers=HEADERS)).data == b"true"
        assert (await nc.request("agent.a.quote", b"")).data == b"false"
    assert not is_canary()


async def test_a_canary_is_no_load(make: MakeAgent, nc: Client) -> None:
    """But it takes the place of a request, and is refused as one when there is none."""
    agent, held, go_on = make(max_concurrency=1), asyncio.Event(), asyncio.Event()

    @agent.handle("quote")
    async def quote(request: dict[str, Any]) -> None:
        held.set()
        await go_on.wait()

    async with agent:
        first = asyncio.create_task(nc.request("agent.a.quote", b"", headers=HEADERS, timeout=5))
        await held.wait()
        assert agent._vitals.read().load_factor == 0.0
        refused = await nc.request("agent.a.quote", b"", headers=HEADERS)
        assert (refused.headers or {})["Nats-Service-Error-Code"] == "429"
        go_on.set()
        assert (await first).data == b"null"
        assert agent._vitals.read().served == 0


def declared(agent: Agent) -> dict[str, Any]:
    return {name: canary.topic for name, canary in agent._registration.canaries.items()}


def test_which_capability_it_shows() -> None:
    agent = Agent("trader", ["trading", "research"])
    agent.handle("quote", canary=Canary(capability="Trading"))(dict)
    agent.handle("find", canary=Canary(capability=AgentCapability.RESEARCH))(dict)
    assert declared(agent) == {"trading": "quote", "research": "find"}
    alone = Agent("trader", ["trading"])
    alone.handle("quote", canary=Canary())(dict)
    assert declared(alone) == {"trading": "quote"}


@pytest.mark.parametrize(
    ("canary", "names"),
    [
        (Canary(), "canary.capability: must be given, for the agent has several: research, trading"),
        (Canary(capability="vision"), "canary.capability: must be one of the agent's, research, trading; got 'vision'"),
        (Canary(capability="research"), "canary.capability: 'research' has a canary already, on find"),
        (Canary(capability="trading", timeout=0.01), "canaries.trading.timeout: must be at least 0.05"),
        (Canary(capability="trading", period=0), "canaries.trading.period: must be at least 1"),
        (Canary({"text": "x" * 20_000}, capability="trading"), "canaries.trading.payload: must be at most 16384 bytes"),
        (Canary(capability="trading", expect=["ok"]), "canaries.trading.expect: must be an object"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_said_when_it_is_declared(canary: Canary, names: str) -> None:
    agent = Agent("trader", ["trading", "research"])
    agent.handle("find", canary=Canary(capability="research"))(dict)
    with pytest.raises(InvalidRequestError) as refused:
        agent.handle("quote", canary=canary)(dict)
    assert str(refused.value).startswith(names)
    assert declared(agent) == {"research": "find"}


def test_who_declares_none_says_nothing_of_it() -> None:
    """A registry that does not know of canaries refuses what it does not know."""
    agent = Agent("trader", ["trading"])
    assert "canaries" not in agent._registration.model_dump(exclude_none=True, exclude_unset=True)


@pytest.mark.parametrize(
    ("headers", "is_one"),
    [(None, False), ({}, False), ({"Registry-Canary": "0"}, False), ({"traceparent": "x"}, False), (HEADERS, True)],
)
def test_what_says_so(headers: dict[str, str] | None, is_one: bool) -> None:
    assert says_canary(headers) is is_one
