"""Changes of scaling policies, made at once and by several: none that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.kv import KeyValue

from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.contract.wire import told

FIELDS = {"min_agents": 3, "max_agents": 20, "high_load": 0.9, "low_load": 0.1, "stabilisation_down": 60.0}


@pytest.fixture
async def follower(registry: Replica, nats_server: NatsServer) -> AsyncIterator[Replica]:
    """A second replica."""
    replica = Replica(Settings(), nats_server.url)
    await replica.start()
    yield replica
    await replica.stop()


@pytest.fixture
async def bucket(registry: Replica, nc: Client) -> KeyValue:
    """Where the policies stand."""
    return await nc.jetstream().key_value("registry_control")


async def change(nc: Client, **fields: Any) -> dict[str, Any]:
    report = await told(nc, "registry.scaling.set", {"capability": "trading", **fields})
    policy: dict[str, Any] = report["capabilities"][0]["policy"]
    return policy


def own(replica: Replica) -> dict[str, Any]:
    return dict(replica.state.scaler.policies.own.get("trading", {}))


async def test_changes_at_once(registry: Replica, follower: Replica, nc: Client, bucket: KeyValue) -> None:
    """Each sets another field; all of them hold, in the bucket and at every replica."""
    for _ in range(10):
        await change(nc, reset=True)
        policies = await asyncio.gather(*(change(nc, **{name: value}) for name, value in FIELDS.items()))
        assert policies[-1].items() >= FIELDS.items()
        assert json.loads((await bucket.get("policy.trading")).value or b"") == FIELDS
        assert own(registry) == FIELDS
        await eventually(lambda: own(follower) == FIELDS)


async def test_a_change_that_was_not_heard_of(registry: Replica, nc: Client, bucket: KeyValue) -> None:
    """What another leader wrote a moment ago is merged with, whether the log has told of it yet or not."""
    for number in range(20):
        await bucket.put("policy.trading", json.dumps({"max_agents": 20 + number}).encode())
        policy = await change(nc, min_agents=3)
        assert (policy["min_agents"], policy["max_agents"]) == (3, 20 + number)
        await bucket.delete("policy.trading")
        assert (await change(nc, min_agents=4))["max_agents"] == 10


async def test_every_policy_that_was_accepted_is_understood(registry: Replica, follower: Replica, nc: Client) -> None:
    """Whoever hears or restores it reads it as who accepted it: without a target, that lies between its bounds."""
    policy = await change(nc, high_load=0.4, low_load=0.1)
    assert policy["target_load"] == 0.25
    await eventually(lambda: follower.state.scaler.policies.of("trading").target_load == 0.25)


@pytest.mark.parametrize("value", [b"not JSON", b"[]", b'{"max_agents":"many"}', b'{"of_a_newer_version":4}'])
async def test_what_is_no_policy_scales_nothing(
    registry: Replica, nc: Client, bucket: KeyValue, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told where one looks for it, and in the log; a new policy takes its place."""
    await change(nc, max_agents=4)
    await bucket.put("policy.trading", value)
    await eventually(lambda: registry.state.scaler.policies.fault("trading") is not None)
    assert "policy_unreadable" in caplog.text
    assert (await change(nc, min_agents=3))["source"] == "policy"
    assert own(registry) == {"min_agents": 3}
