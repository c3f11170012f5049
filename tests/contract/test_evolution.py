"""Replicas of different versions share a bucket: each serves what it understands, and harms nothing that it does not.

`records/v1.json` is as the first version wrote it; `v2.json` is one of a version to come with more fields; `v3.json` is
one whose form nobody here knows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from registry.core.record import RECORD_VERSION
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.contract.wire import TRADER, agent, ask, assert_error, decoded, told

RECORDS = Path(__file__).parent / "records"


async def put(nc: Client, key: str, name: str) -> bytes:
    """Write a record as another replica would; return its bytes."""
    value = (RECORDS / name).read_bytes()
    await (await nc.jetstream().key_value("registry_agents")).put(key, value)
    return value


async def kept(nc: Client, key: str) -> dict[str, Any]:
    entry = await (await nc.jetstream().key_value("registry_agents")).get(key)
    found: dict[str, Any] = json.loads(entry.value or b"")
    return found


async def test_an_old_record_is_served_after_a_start(nats_server: NatsServer, nc: Client) -> None:
    first = Replica(Settings(), nats_server.url)
    await first.start()
    await put(nc, "trader-1", "v1.json")
    await first.stop()
    replica = Replica(Settings(), nats_server.url)
    await replica.start()
    try:
        seen, written = await agent(nc), json.loads((RECORDS / "v1.json").read_bytes())
        assert {name: seen[name] for name in seen if name in written} == {
            name: written[name] for name in seen if name in written
        }
        beat = await told(nc, "registry.heartbeat.trader-1", {"incarnation": 3, "health_score": 0.95})
        assert (beat["incarnation"], beat["status"]) == (3, "degraded")
    finally:
        await replica.stop()


async def test_fields_of_a_newer_version_outlive_a_change(registry: Replica, nc: Client) -> None:
    assert RECORD_VERSION < 2, "make v2.json newer than what is written now"
    await put(nc, "trader-2", "v2.json")
    receipt = await told(nc, "registry.suspend.trader-2", {"reason": "audit"})
    assert receipt["status"] == "suspended"
    record = await kept(nc, "trader-2")
    assert (record["status"], record["v"], record["region"]) == ("suspended", 2, {"name": "eu-west", "zone": 3})


@pytest.mark.parametrize(
    ("subject", "payload"),
    [
        ("registry.register.trader-3", {**TRADER, "agent_id": "trader-3"}),
        ("registry.suspend.trader-3", {}),
        ("registry.deregister.trader-3", {}),
    ],
)
async def test_a_record_of_an_unknown_form_is_left_alone(
    registry: Replica, nc: Client, subject: str, payload: dict[str, Any]
) -> None:
    value = await put(nc, "trader-3", "v3.json")
    answer = await ask(nc, subject, payload, within=10.0)
    assert_error(answer, "unavailable")
    assert "newer version" in answer.body["error"]["message"]
    assert (await told(nc, "registry.discover"))["total"] == 0
    entry = await (await nc.jetstream().key_value("registry_agents")).get("trader-3")
    assert entry.value == value


async def test_records_of_an_unknown_form_do_not_stop_a_start(nats_server: NatsServer, nc: Client) -> None:
    first = Replica(Settings(), nats_server.url)
    await first.start()
    await told(nc, "registry.register", TRADER)
    await put(nc, "trader-3", "v3.json")
    await first.stop()
    replica = Replica(Settings(), nats_server.url)
    await replica.start()
    try:
        answer = await nc.request("registry.discover", b"")
        assert [found["agent_id"] for found in decoded(answer.data)["agents"]] == ["trader-1"]
    finally:
        await replica.stop()
