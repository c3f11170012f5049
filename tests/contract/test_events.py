"""Every change of an agent is one event: announced live, kept in the stream, in order, with headers and ids; and the
record behind it can be read in the bucket."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import KeyNotFoundError

from agents_sdk.protocol.events import RegistryEvent, StatusEvent
from agents_sdk.protocol.scaling import ScalingOrder
from registry.replica import Replica
from registry.settings import Settings
from tests.conftest import eventually
from tests.contract.wire import (
    AGENTS_STREAM,
    EVENTS_STREAM,
    TRADER,
    agent,
    answering,
    ask,
    assert_is,
    decoded,
    encoded,
    listening,
    moves,
    payloads,
    stats,
    stored_events,
    told,
    until_status,
)

Act = Callable[[Client], Awaitable[Any]]


def _does(operation: str, **fields: Any) -> Act:
    async def act(nc: Client) -> None:
        await told(nc, f"registry.{operation}.trader-1", fields)

    return act


LIFE: list[tuple[Act, tuple[str, str, str]]] = [
    (_does("register", **{**TRADER, "instance_id": "run-1"}), ("registering", "active", "registered")),
    (_does("register", **{**TRADER, "instance_id": "run-1", "tags": ["eu"]}), ("active", "active", "updated")),
    (_does("health", health_score=0.6), ("active", "degraded", "health")),
    (_does("health", health_score=0.2), ("degraded", "suspended", "health")),
    (_does("health", health_score=0.9), ("suspended", "active", "recovered")),
    (_does("suspend"), ("active", "suspended", "operator")),
    (_does("resume"), ("suspended", "active", "operator")),
    (_does("register", **{**TRADER, "instance_id": "run-2", "takeover": True}), ("active", "active", "takeover")),
    (_does("drain", reason="scale_down"), ("active", "deregistering", "draining")),
    (_does("deregister", reason="done"), ("deregistering", "deregistering", "deregistered")),
]
"""What is done to trader-1, one after the other, and what the event tells of it: from, to, reason."""


async def test_every_change_is_one_event_in_order(registry: Replica, nc: Client) -> None:
    async with listening(nc, "registry.events.status.>") as live:
        heard = []
        for act, _ in LIFE:
            await act(nc)
            heard.append(await live.next())
        assert live.empty()
    assert moves(heard) == [move for _, move in LIFE]
    for msg, event in zip(heard, payloads(heard), strict=True):
        assert_is(StatusEvent, event)
        assert msg.subject == f"registry.events.status.{event['to']}.trader-1"
        assert event["capabilities"] == ["trading"]
    events = payloads(heard)
    assert [event["removed"] for event in events] == [False] * 9 + [True]
    assert [event["incarnation"] for event in events] == [1] * 7 + [2] * 3
    assert [event["note"] for event in events] == [None] * 8 + ["scale_down", "done"]
    # The chain: a gap shows in `previous_revision`.
    revisions = [event["revision"] for event in events]
    assert revisions == sorted(set(revisions))
    assert [event["previous_revision"] for event in events] == [0, *revisions[:-1]]
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    stored = await stored_events(nc, len(LIFE))
    assert [(msg.subject, msg.data) for msg in stored] == [(msg.subject, msg.data) for msg in heard]


async def test_headers_are_cloud_events_in_binary_mode(registry: Replica, nc: Client) -> None:
    async with listening(nc, "registry.events.status.>") as live:
        await told(nc, "registry.register", TRADER)
        msg = await live.next()
    event, headers = decoded(msg.data), dict(msg.headers or {})
    made = (await nc.jetstream().stream_info(AGENTS_STREAM)).created
    assert made is not None
    assert event["event_id"] == f"registry_agents:{int(made.timestamp() * 1000)}:{event['revision']}"
    at = headers.pop("ce-time")
    assert datetime.fromisoformat(at).timestamp() == pytest.approx(event["at"], abs=0.001)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    assert headers.pop("Nats-Expected-Last-Sequence") == "1"
    assert headers == {
        "Nats-Msg-Id": event["event_id"],
        "ce-specversion": "1.0",
        "ce-id": event["event_id"],
        "ce-type": "registry.agent.status",
        "ce-source": "/registry",
        "ce-subject": "trader-1",
        "ce-datacontenttype": "application/json",
    }


@pytest.mark.parametrize(
    ("sent", "carried"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-0af7651916cd43dd8448eb211c80319c", False),
        ("nonsense", False),
    ],
)
async def test_an_event_carries_the_trace_of_the_request_that_led_to_it(
    registry: Replica, nc: Client, sent: str, carried: bool
) -> None:
    async with listening(nc, "registry.events.status.>") as live:
        await nc.request("registry.register", encoded(TRADER), headers={"traceparent": sent})
        assert ((await live.next()).headers or {}).get("traceparent") == (sent if carried else None)
        await told(nc, "registry.suspend.trader-1")
        assert "traceparent" not in ((await live.next()).headers or {}), "it is that request's alone"


@pytest.mark.parametrize(
    ("payload", "subject"),
    [
        ({}, "heartbeat.trader-1"),
        ({"load_factor": 0.7, "health_score": 0.95}, "heartbeat.trader-1"),
        ({"health_score": 0.81, "memory": 0.5}, "health.trader-1"),
        ({"metrics": {"success_rate": 0.4}}, "performance.trader-1"),
        ({**TRADER, "instance_id": "run-1"}, "register"),
        ({}, "resume.trader-1"),
        ({}, "deregister.nobody"),
    ],
)
async def test_what_changes_nothing_durable_is_no_event(
    registry: Replica, nc: Client, payload: dict[str, Any], subject: str
) -> None:
    revision = (await told(nc, "registry.register", {**TRADER, "instance_id": "run-1"}))["revision"]
    before = len(await stored_events(nc, 1))
    await told(nc, f"registry.{subject}", payload)
    # What would be said of it comes before what is said of the next change.
    async with listening(nc, "registry.events.status.>") as live:
        await told(nc, "registry.register", {**TRADER, "agent_id": "trader-2"})
        assert decoded((await live.next()).data)["agent_id"] == "trader-2"
    assert len(await stored_events(nc, before + 1)) == before + 1
    assert (await agent(nc))["revision"] == revision


async def test_the_removal_event_carries_the_last_status(registry: Replica, nc: Client) -> None:
    async with listening(nc, "registry.events.status.suspended.trader-1") as live:
        await told(nc, "registry.register", TRADER)
        await told(nc, "registry.suspend.trader-1")
        gone = await told(nc, "registry.deregister.trader-1")
        _, event = payloads(await live.take(2))
    assert (event["removed"], event["from"], event["to"]) == (True, "suspended", "suspended")
    assert event["revision"] == gone["revision"]


async def test_a_new_life_begins_a_new_chain(registry: Replica, nc: Client) -> None:
    for operation in ("register", "deregister", "register"):
        await told(nc, f"registry.{operation}.trader-1", TRADER if operation == "register" else None)
    events = payloads(await stored_events(nc, 3))
    assert [(event["previous_revision"] == 0, event["removed"]) for event in events] == [
        (True, False), (False, True), (True, False),
    ]  # fmt: skip


class TestRetentionAndSilence:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(offline_retention=0.2)

    async def test_silence_ends_in_an_offline_event_and_then_in_a_removal(self, registry: Replica, nc: Client) -> None:
        async with listening(nc, "registry.events.status.>") as live:
            await told(nc, "registry.register", {**TRADER, "heartbeat_interval": 0.1, "heartbeat_timeout": 0.2})
            heard = await live.take(3)
        assert moves(heard) == [
            ("registering", "active", "registered"),
            ("active", "offline", "heartbeat_timeout"),
            ("offline", "offline", "retention"),
        ]
        assert [event["removed"] for event in payloads(heard)] == [False, False, True]
        assert heard[2].subject == "registry.events.status.offline.trader-1"


async def test_an_offline_agent_comes_back_by_registering(registry: Replica, nc: Client) -> None:
    quick = {**TRADER, "heartbeat_interval": 0.1, "heartbeat_timeout": 0.2}
    async with listening(nc, "registry.events.status.>") as live:
        await told(nc, "registry.register", quick)
        await live.take(2)
        answer = await ask(nc, "registry.heartbeat.trader-1")
        assert answer.code == "not_found", "an agent that was given up registers again"
        receipt = await told(nc, "registry.register", {**quick, "heartbeat_timeout": 60})
        assert moves([await live.next()]) == [("offline", "active", "registered")]
    assert receipt["incarnation"] == 2


class TestDrainDeadline:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(drain_timeout=0.2)

    async def test_who_does_not_finish_in_time_is_removed(self, registry: Replica, nc: Client) -> None:
        async with listening(nc, "registry.events.status.deregistering.>") as live:
            await told(nc, "registry.register", TRADER)
            await told(nc, "registry.drain.trader-1")
            heard = await live.take(2)
        assert moves(heard) == [
            ("active", "deregistering", "draining"),
            ("deregistering", "deregistering", "draining"),
        ]
        assert decoded(heard[1].data)["removed"] is True


# Events of the registry itself, and orders.


async def test_a_new_leader_says_so(registry: Replica, nc: Client) -> None:
    (msg,) = await stored_events(nc, 1, "registry.events.registry.>")
    event = decoded(msg.data)
    assert_is(RegistryEvent, event)
    assert msg.subject == "registry.events.registry.leader_changed"
    assert (event["what"], event["replica"], event["epoch"]) == ("leader_changed", registry.replica_id, 1)
    assert (msg.headers or {})["ce-type"] == "registry.state"
    assert (msg.headers or {})["Nats-Msg-Id"] == event["event_id"]


async def test_orders_are_events_and_open_until_fulfilled(registry: Replica, nc: Client) -> None:
    async with listening(nc, "registry.events.scaling.>") as live:
        await told(nc, "registry.register", TRADER)
        msg = await live.next()
    order, headers = decoded(msg.data), msg.headers or {}
    assert_is(ScalingOrder, order)
    assert msg.subject == "registry.events.scaling.scale_up.trading"
    assert headers["ce-type"] == "registry.scaling.order"
    assert headers["ce-subject"] == "trading"
    assert headers["Nats-Msg-Id"] == headers["ce-id"] == order["order_id"]
    assert (order["desired"], order["delta"], order["agents"]) == (2, 1, [])
    assert order["observed"]["agents"] == 1
    assert (order["generation"], order["attempt"], order["epoch"]) == (1, 1, 1)
    assert order["expires_at"] == pytest.approx(order["issued_at"] + 120.0)
    report = (await told(nc, "registry.scaling.get", {"capability": "trading"}))["capabilities"][0]
    assert report["orders"] == [order]
    assert (await stats(nc))["auto_scaling_events"] == 1


class TestScalingOff:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(auto_scaling_enabled=False, scaling_interval=0.05)

    async def test_nothing_is_ordered_but_what_would_be_is_told(self, registry: Replica, nc: Client) -> None:
        await told(nc, "registry.register", TRADER)

        async def looked_at() -> bool:
            report = await told(nc, "registry.scaling.get", {"capability": "trading"})
            assert report["enabled"] is False
            return bool(report["capabilities"][0]["reason"].startswith("auto-scaling is off; would be: 1 agent"))

        await eventually(looked_at)
        assert await stored_events(nc, 0, "registry.events.scaling.>") == []


class TestScalingByLoad:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(
            min_agents_per_capability=1,
            max_agents_per_capability=4,
            scaling_interval=0.05,
            scale_down_stabilisation=0,
            reconnect_grace=0,
        )

    @pytest.mark.parametrize(
        ("agents", "vitals", "action", "desired", "named"),
        [
            (2, {"load_factor": 0.9}, "scale_up", 4, []),
            (2, {"load_factor": 0.1}, "scale_down", 1, ["trader-1"]),
            (1, {"load_factor": 0.5, "health_score": 0.55}, "replace", 1, ["trader-0"]),
            (5, {"load_factor": 0.5}, "scale_down", 4, ["trader-4"]),
        ],
    )
    async def test_orders(
        self,
        registry: Replica,
        nc: Client,
        agents: int,
        vitals: dict[str, Any],
        action: str,
        desired: int,
        named: list[str],
    ) -> None:
        async with listening(nc, "registry.events.scaling.>") as live:
            for number in range(agents):
                await told(nc, f"registry.register.trader-{number}", {**TRADER, "agent_id": f"trader-{number}"})
                # The last one is the least loaded: several may be registered within the same millisecond.
                told_of = {**vitals, "load_factor": vitals["load_factor"] - number / 100}
                await nc.publish(f"registry.heartbeat.trader-{number}", json.dumps(told_of).encode())
            order = decoded((await live.next()).data)
        assert (order["action"], order["desired"]) == (action, desired)
        assert order["agents"] == named


# The stream, for who was away.


async def test_a_durable_consumer_goes_on_where_it_left_off(registry: Replica, nc: Client) -> None:
    js = nc.jetstream()
    config = ConsumerConfig(
        durable_name="orchestrator", ack_policy=AckPolicy.EXPLICIT, filter_subject="registry.events.status.>"
    )
    await js.add_consumer(EVENTS_STREAM, config)
    await told(nc, "registry.register", TRADER)
    first = await js.pull_subscribe_bind("orchestrator", stream=EVENTS_STREAM)
    (seen,) = await first.fetch(1, timeout=5)
    await seen.ack_sync()
    await first.unsubscribe()
    await told(nc, "registry.suspend.trader-1")  # while it is away
    await told(nc, "registry.resume.trader-1")
    again = await js.pull_subscribe_bind("orchestrator", stream=EVENTS_STREAM)
    missed: list[Msg] = []
    while len(missed) < 2:
        missed += await again.fetch(2, timeout=5)
    assert moves(missed) == [("active", "suspended", "operator"), ("suspended", "active", "operator")]
    assert decoded(missed[0].data)["previous_revision"] == decoded(seen.data)["revision"]


async def test_a_second_copy_of_an_event_is_dropped_by_its_id(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    (msg,) = await stored_events(nc, 1)
    ack = await nc.jetstream().publish(
        msg.subject, msg.data, headers={"Nats-Msg-Id": (msg.headers or {})["Nats-Msg-Id"]}
    )
    assert ack.duplicate is True
    assert len(await stored_events(nc, 1)) == 1


async def test_the_stream_is_bounded(registry: Replica, nc: Client) -> None:
    config = (await nc.jetstream().stream_info(EVENTS_STREAM)).config
    assert config.subjects == ["registry.events.>"]
    assert config.max_age == 7 * 24 * 3600
    assert config.max_bytes == 1024**3
    assert config.duplicate_window == 120


# The bucket.


async def test_the_record_can_be_read_in_the_bucket(registry: Replica, nc: Client) -> None:
    declared = {"metadata": {"exchange": "hyperliquid"}, "canaries": {"trading": {"topic": "quote"}}}
    await told(nc, "registry.register", {**TRADER, **declared})
    bucket = await nc.jetstream().key_value("registry_agents")
    entry, seen = await bucket.get("trader-1"), await agent(nc)
    record = decoded(entry.value)
    assert entry.revision == seen["revision"]
    shown = set(record) & set(seen)
    assert shown >= set(seen) - {"adopted", "load_age", "reserved", "revision", "suspicion", "evidence"}
    assert {name: record[name] for name in shown} == {name: seen[name] for name in shown}
    (event,) = payloads(await stored_events(nc, 1))
    assert record["change"] == {
        "from": event["from"], "reason": event["reason"], "at": event["at"], "note": None, "removed": False,
        "previous_revision": 0, "trace": None, "epoch": None,
    }  # fmt: skip
    assert (await bucket.status()).history == 8


async def test_a_deregistered_key_reads_as_deleted_and_its_history_says_why(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.deregister.trader-1", {"reason": "done"})
    bucket = await nc.jetstream().key_value("registry_agents")
    with pytest.raises(KeyNotFoundError):
        await bucket.get("trader-1")
    *_, last = await bucket.history("trader-1")
    assert last.operation == "DEL"
    assert decoded(last.value)["change"]["note"] == "done"


async def test_beats_are_not_written(registry: Replica, nc: Client) -> None:
    revision = (await told(nc, "registry.register", TRADER))["revision"]
    for number in range(50):
        await told(nc, "registry.heartbeat.trader-1", {"seq": number, "load_factor": number / 50})
    assert (await nc.jetstream().stream_info("KV_registry_agents")).state.last_seq == revision


class TestCheckpoints:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(checkpoint_interval=0.05)

    async def test_vitals_are_saved_now_and_then_without_an_event(self, registry: Replica, nc: Client) -> None:
        await told(nc, "registry.register", TRADER)
        await told(nc, "registry.heartbeat.trader-1", {"load_factor": 0.5})
        bucket = await nc.jetstream().key_value("registry_agents")

        async def saved() -> bool:
            return bool(decoded((await bucket.get("trader-1")).value)["load_factor"] == 0.5)

        await eventually(saved)
        await told(nc, "registry.suspend.trader-1")
        events = payloads(await stored_events(nc, 2))
        assert [event["reason"] for event in events] == ["registered", "operator"]
        assert events[1]["previous_revision"] == events[0]["revision"], "a checkpoint is no gap"
        assert events[1]["revision"] > events[0]["revision"] + 1


async def test_a_record_removed_by_hand_is_gone(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    await (await nc.jetstream().key_value("registry_agents")).purge("trader-1")

    async def gone() -> bool:
        return (await ask(nc, "registry.get.trader-1")).code == "not_found"

    await eventually(gone)
    assert (await told(nc, "registry.register", TRADER))["status"] == "active"


@pytest.mark.parametrize("value", [b"not a record", b"[]", b'{"v":1,"agent_id":"trader-9","status":"asleep"}'])
async def test_an_unreadable_record_is_passed_over_and_can_be_replaced(
    registry: Replica, nc: Client, value: bytes
) -> None:
    await (await nc.jetstream().key_value("registry_agents")).put("trader-9", value)
    receipt = await told(nc, "registry.register", TRADER)
    assert (await told(nc, "registry.discover", {"min_revision": receipt["revision"]}))["total"] == 1
    assert (await told(nc, "registry.register.trader-9", {**TRADER, "agent_id": "trader-9"}))["status"] == "active"


# Probes.


PROBED = {**TRADER, "health_subject": "agent.trader-1.health_check"}


class TestProbes:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(health_check_interval=0.1, probe_timeout=0.2, reconnect_grace=0.0)

    async def test_who_answers_stays_and_is_believed(self, registry: Replica, nc: Client) -> None:
        vitals = {"status": "active", "health_score": 0.9, "load_factor": 0.35}
        async with answering(nc, "agent.trader-1.health_check", vitals) as probes:
            await told(nc, "registry.register", PROBED)
            await probes.take(3)
            seen = await agent(nc)
            assert (seen["status"], seen["health_score"], seen["load_factor"]) == ("active", 0.9, 0.35)
            assert (await stats(nc))["health_checks_performed"] >= 2
            assert (await stats(nc))["failed_health_checks"] == 0

    @pytest.mark.parametrize("answer", [b"", b"pong", b"[]", {"health_score": "good", "load_factor": 7}])
    async def test_any_answer_is_a_sign_of_life(self, registry: Replica, nc: Client, answer: Any) -> None:
        quick = {**PROBED, "heartbeat_interval": 0.1, "heartbeat_timeout": 0.5}
        async with answering(nc, "agent.trader-1.health_check", answer) as probes:
            await told(nc, "registry.register", quick)
            await probes.take(8)  # longer than the lease
            seen = await agent(nc)
            assert (seen["status"], seen["health_score"], seen["load_factor"]) == ("active", 1.0, 0.0)

    async def test_an_answer_moves_the_status(self, registry: Replica, nc: Client) -> None:
        async with answering(nc, "agent.trader-1.health_check", {"health_score": 0.6}):
            await told(nc, "registry.register", PROBED)
            assert (await until_status(nc, "degraded"))["status_reason"] == "health"

    async def test_no_responders_is_gone(self, registry: Replica, nc: Client) -> None:
        async with listening(nc, "registry.events.status.offline.>") as live:
            await told(nc, "registry.register", PROBED)
            assert moves([await live.next()]) == [("active", "offline", "no_responders")]
        assert (await stats(nc))["failed_health_checks"] >= 2
        assert (await ask(nc, "registry.heartbeat.trader-1")).code == "not_found"

    async def test_no_answer_in_time_is_hung_and_an_answer_later_recovers(self, registry: Replica, nc: Client) -> None:
        async with listening(nc, "registry.events.status.>") as live:
            async with listening(nc, "agent.trader-1.health_check"):  # takes probes and says nothing
                await told(nc, "registry.register", PROBED)
                heard = await live.take(2)
            assert moves(heard)[1] == ("active", "degraded", "probe_timeout")
            async with answering(nc, "agent.trader-1.health_check", {}):
                assert moves([await live.next()]) == [("degraded", "active", "recovered")]
