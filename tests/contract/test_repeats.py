"""Replicas by name, and commands sent again because no answer came: what a client needs when a replica stands still."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk import RegistryClient
from agents_sdk.protocol import subjects
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.contract.wire import TRADER, Answer, ask, assert_error, decoded, encoded, is_served, stored_events, told


async def named(nc: Client, subject: str, payload: Any, name: str) -> Answer:
    """Send a command under a name."""
    msg = await nc.request(subject, encoded(payload), timeout=5, headers={"Nats-Msg-Id": name})
    return Answer(decoded(msg.data), dict(msg.headers or {}))


@pytest.fixture
async def second(nats_server: NatsServer, registry: Replica) -> Any:
    """A second replica, which follows."""
    replica = Replica(Settings(), nats_server.url)
    await replica.start()
    yield replica
    await replica.stop()


async def test_a_command_sent_twice_is_carried_out_once(registry: Replica, second: Replica, nc: Client) -> None:
    anonymous = {"agent_type": "trading_agent", "capabilities": ["trading"]}
    receipts = [await named(nc, "registry.register", anonymous, "r-1") for _ in range(8)]
    assert [receipt.body for receipt in receipts] == [receipts[0].body] * 8
    agent_id = receipts[0].body["agent_id"]
    assert agent_id == "trading_agent-r-1"
    for operation in ("suspend", "resume", "drain", "deregister"):
        answers = [(await named(nc, f"registry.{operation}.{agent_id}", None, "1")).body for _ in range(8)]
        assert len({str(answer.get("revision")) for answer in answers}) == 1, answers
    assert len(await stored_events(nc, 5)) == 5


@pytest.mark.parametrize("operation", subjects.COMMANDS)
@pytest.mark.parametrize("name", ["a.b", "a b", "x" * 65, "*"])
async def test_a_name_that_is_none(registry: Replica, nc: Client, operation: str, name: str) -> None:
    fields = TRADER if operation == subjects.REGISTER else {"agent_id": "trader-1"}
    assert_error(await named(nc, f"registry.{operation}", fields, name), "invalid_request", "Nats-Msg-Id")
    assert registry.state.statistics.refused["invalid_request"] == 1


async def test_replicas_answer_for_themselves(registry: Replica, second: Replica, nats_server: NatsServer) -> None:
    async with RegistryClient(nats_server.url) as client:
        await client.register({**TRADER, "agent_id": "a"})
        found = await client.replicas()
    assert [one.replica for one in found] == [registry.replica_id, second.replica_id], "the leader first"
    assert [one.leader for one in found] == [True, False]
    assert {(one.registered_agents, one.revision) for one in found} == {(1, 1)}


async def test_a_replica_is_asked_by_name(registry: Replica, second: Replica, nc: Client) -> None:
    for replica in (registry, second):
        start = f"registry.replica.{replica.replica_id}"
        assert (await told(nc, f"{start}.stats"))["replica"] == replica.replica_id
        agent_id = (await told(nc, f"{start}.register.{replica.replica_id}", {**TRADER, "agent_id": None}))["agent_id"]
        assert (await told(nc, f"{start}.get.{agent_id}"))["agent_id"] == agent_id
        assert_error(await ask(nc, f"{start}.get.a.b"), "invalid_request", "agent_id")
        assert_error(await ask(nc, f"{start}.suspend.{agent_id}", {"agent_id": "b"}), "forbidden", "agent_id")
        for operation in (*subjects.TELEMETRY, *subjects.LED, subjects.REPLICAS):
            assert not await is_served(nc, f"{start}.{operation}"), "every replica hears it anyhow"
