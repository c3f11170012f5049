"""Scaling orders are carried out: as far as it still has to be done, and capacity never drops."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from agents_sdk import (
    AgentStatus,
    Orchestrator,
    RegistryClient,
    ScalingAction,
    ScalingOrder,
    ServiceQuery,
    orchestrator,
)
from agents_sdk.cancelling import cancel
from registry.settings import Settings
from tests.conftest import eventually


@pytest.fixture
def settings() -> Settings:
    return Settings(health_check_interval=0.2, auto_scaling_enabled=False)


class Beginning:
    """A fleet whose agents register when the test says so."""

    def __init__(self, registry: RegistryClient) -> None:
        self.registry = registry
        self.started: list[str] = []

    async def start(self, capability: str) -> str:
        self.started.append(f"new-{len(self.started)}")
        return self.started[-1]

    def running(self, capability: str) -> list[str]:
        return self.started

    async def register(self, *names: str, **fields: Any) -> None:
        for name in names:
            usual = {"agent_type": "t", "capabilities": ["trading"], "agent_id": name, "heartbeat_interval": 3600.0}
            await self.registry.register({**usual, **fields})


@pytest.fixture
def fleet(client: RegistryClient) -> Beginning:
    return Beginning(client)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def carrying(client: RegistryClient, fleet: Beginning, said: list[str]) -> Orchestrator:
    return Orchestrator(client, fleet, ["trading"], durable="test", say=said.append)


def order(action: ScalingAction, desired: int, *agents: str, capability: str = "trading", age: float = 0.0) -> Any:
    observed = {"agents": 0, "pending": 0, "mean_load": None, "mean_health": None, "sample_age": None}
    issued_at = time.time() - age
    fields = {"order_id": "o", "reason": "r", "generation": 1, "attempt": 1, "epoch": 1, "delta": 0}
    return ScalingOrder.model_validate(
        {
            **fields, "capability": capability, "action": action, "observed": observed, "desired": desired,
            "agents": list(agents), "issued_at": issued_at, "expires_at": issued_at + 120.0,
        }
    )  # fmt: skip


async def drained(client: RegistryClient) -> set[str]:
    return {
        agent.agent_id for agent in await client.discover_agents(ServiceQuery(statuses={AgentStatus.DEREGISTERING}))
    }


async def test_as_many_are_started_as_are_missing_and_those_that_are_coming_count(
    fleet: Beginning, carrying: Orchestrator, said: list[str]
) -> None:
    await fleet.register("a")
    for _ in range(2):
        await carrying.carry_out(order(ScalingAction.SCALE_UP, 3))
    assert fleet.started == ["new-0", "new-1"]
    await fleet.register("new-0")
    await carrying.carry_out(order(ScalingAction.SCALE_UP, 4))
    assert len(fleet.started) == 3
    assert said == ["starts new-0, new-1", "starts new-2"]


async def test_no_more_are_drained_than_are_too_many(
    client: RegistryClient, fleet: Beginning, carrying: Orchestrator
) -> None:
    await fleet.register("a", "b", "c")
    for _ in range(2):
        await carrying.carry_out(order(ScalingAction.SCALE_DOWN, 2, "gone", "c", "b"))
    assert await drained(client) == {"c"}


async def test_a_replacement_is_there_first_and_a_repeated_order_starts_no_second_one(
    client: RegistryClient, fleet: Beginning, carrying: Orchestrator, monkeypatch
) -> None:
    await fleet.register("a", "sick")
    monkeypatch.setattr(orchestrator, "REPLACEMENT_TIMEOUT", 0.0)
    for _ in range(2):
        await carrying.carry_out(order(ScalingAction.REPLACE, 2, "sick"))
    assert fleet.started == ["new-0"]
    assert await drained(client) == set()
    monkeypatch.setattr(orchestrator, "REPLACEMENT_TIMEOUT", 10.0)
    replacing = asyncio.create_task(carrying.carry_out(order(ScalingAction.REPLACE, 2, "sick")))
    await fleet.register("new-0")
    await replacing
    assert await drained(client) == {"sick"}
    assert fleet.started == ["new-0"]


async def test_who_went_meanwhile_needs_no_draining(
    client: RegistryClient, fleet: Beginning, carrying: Orchestrator, said: list[str]
) -> None:
    await fleet.register("a")
    await fleet.register("crashed", health_subject="agent.crashed.health_check")

    async def is_offline() -> bool:
        known = await client.get_agent_info("crashed")
        return known is not None and known.status == "offline"

    await eventually(is_offline, within=30.0)  # in turn, and with the grace of who was not told of
    await carrying.carry_out(order(ScalingAction.REPLACE, 1, "crashed", "never-there"))
    assert [words.partition(":")[0] for words in said] == ["need not drain crashed"]


async def test_what_is_too_old_is_left_alone(fleet: Beginning, carrying: Orchestrator) -> None:
    await carrying.carry_out(order(ScalingAction.SCALE_UP, 3, age=121.0))
    await carrying.carry_out(order(ScalingAction.REBALANCE, 3))
    assert fleet.started == []


async def test_among_more_agents_than_it_can_see_it_starts_none(
    client: RegistryClient, fleet: Beginning, carrying: Orchestrator, said: list[str], monkeypatch
) -> None:
    """What one look does not show is there all the same, and would be started again with each order."""
    monkeypatch.setattr(orchestrator, "MAX_LIMIT", 2)
    await fleet.register("a", "b", "c")
    for action in (ScalingAction.SCALE_UP, ScalingAction.REPLACE):
        await carrying.carry_out(order(action, 3, "a"))
        assert said.pop() == "starts none for trading: 3 agents are more than the 2 that it can see"
    assert fleet.started == []
    assert await drained(client) == set()


async def test_among_more_agents_than_it_can_see_those_may_leave_that_it_sees(
    client: RegistryClient, fleet: Beginning, carrying: Orchestrator, monkeypatch
) -> None:
    monkeypatch.setattr(orchestrator, "MAX_LIMIT", 2)
    await fleet.register("a", "b", "c")
    await carrying.carry_out(order(ScalingAction.SCALE_DOWN, 1, "a", "b", "c"))
    assert len(await drained(client)) == 1
    assert fleet.started == []


async def test_an_agent_that_cannot_be_started_is_said_and_the_next_order_carried_out(
    client: RegistryClient, fleet: Beginning, carrying: Orchestrator, said: list[str], monkeypatch, caplog
) -> None:
    begin = fleet.start

    async def fail_after_one(capability: str) -> str:
        if fleet.started:
            monkeypatch.setattr(fleet, "start", begin)
            raise FileNotFoundError(2, "No such file", "trader")
        return await begin(capability)

    monkeypatch.setattr(fleet, "start", fail_after_one)
    running = asyncio.create_task(carrying.run())
    for _ in range(2):
        payload = order(ScalingAction.SCALE_UP, 3).model_dump_json().encode()
        await client._connection.publish("registry.events.scaling.scale_up.trading", payload)
    await eventually(lambda: len(fleet.started) == 3 or running.done())
    assert not running.done()
    failed = "cannot carry out scale_up of trading: FileNotFoundError(2, 'No such file')"
    await eventually(lambda: said == ["starts new-0", failed, "starts new-1, new-2"])
    assert "Traceback" in caplog.text
    await cancel(running)


async def test_it_reads_orders_that_are_its_own_and_goes_on_after_one_that_fails(
    client: RegistryClient, fleet: Beginning, carrying: Orchestrator, said: list[str]
) -> None:
    running = asyncio.create_task(carrying.run())
    for each in (
        order(ScalingAction.SCALE_UP, 1, capability="research"),
        order(ScalingAction.SCALE_UP, 0, capability="no such thing"),
        order(ScalingAction.SCALE_UP, 2),
    ):
        subject = f"registry.events.scaling.{each.action}.{each.capability.replace(' ', '-')}"
        await client._connection.publish(subject, each.model_dump_json().encode())
    await eventually(lambda: fleet.started == ["new-0", "new-1"])
    failing = Orchestrator(client, fleet, ["no such thing"], durable="other", say=said.append)
    await cancel(running)
    running = asyncio.create_task(failing.run())
    await eventually(lambda: any("cannot carry out scale_up of no such thing" in words for words in said))
    assert not running.done()
    await cancel(running)
