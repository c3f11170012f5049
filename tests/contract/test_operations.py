"""Every operation does what it says, answers with every field it promises, and is served in all its forms."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from nats.aio.client import Client

from agents_sdk.protocol import subjects
from agents_sdk.protocol.assignments import AssignmentListing, Grant, ReleaseReceipt
from agents_sdk.protocol.conflicts import ConflictReport
from agents_sdk.protocol.discovery import AgentInfo, Listing, NearMiss, Vocabulary
from agents_sdk.protocol.registration import Deregistered, Receipt
from agents_sdk.protocol.scaling import CapabilityScaling, Observed, ScalingPolicy, ScalingReport
from agents_sdk.protocol.schema.query import Document
from agents_sdk.protocol.statistics import Presence, Statistics
from agents_sdk.protocol.telemetry import Ack, ReportReceipt
from agents_sdk.protocol.vocabulary import AgentCapability
from registry.replica import Replica
from registry.settings import Settings
from tests.conftest import eventually
from tests.contract.wire import (
    TRADER,
    agent,
    ask,
    assert_error,
    assert_is,
    decoded,
    encoded,
    everything,
    found,
    is_served,
    listening,
    settle,
    stats,
    told,
    until_status,
)

OPERATIONS: dict[str, tuple[Any, type[Any]]] = {
    subjects.REGISTER: (TRADER, Receipt),
    subjects.DEREGISTER: ({"agent_id": "trader-1", "reason": "replaced"}, Deregistered),
    subjects.SUSPEND: ({"agent_id": "trader-1", "reason": "maintenance"}, AgentInfo),
    subjects.RESUME: ({"agent_id": "trader-1"}, AgentInfo),
    subjects.DRAIN: ({"agent_id": "trader-1"}, AgentInfo),
    subjects.HEARTBEAT: ({"agent_id": "trader-1", "incarnation": 1, "seq": 1, "load_factor": 0.2}, Ack),
    subjects.HEALTH: ({"agent_id": "trader-1", "health_score": 0.9, "response_time": 0.1}, Ack),
    subjects.PERFORMANCE: ({"agent_id": "trader-1", "metrics": {"success_rate": 0.9}}, Ack),
    subjects.DISCOVER: ({"capabilities": ["trading"]}, Listing),
    subjects.REPORT: ({"agent_id": "trader-1", "problem": "timeout"}, ReportReceipt),
    subjects.GET: ({"agent_id": "trader-1"}, AgentInfo),
    subjects.STATS: ({}, Statistics),
    subjects.CAPABILITIES: ({}, Vocabulary),
    subjects.SCALING_GET: ({"capability": "trading"}, ScalingReport),
    subjects.SCALING_SET: ({"capability": "trading", "max_agents": 5}, ScalingReport),
    subjects.CONFLICT_GET: ({}, ConflictReport),
    subjects.CONFLICT_SET: (
        {"name": "majors", "kind": "versions", "capability": "trading", "versions": ["<2", ">=2"]},
        ConflictReport,
    ),
    subjects.REPLICAS: ({}, Presence),
    subjects.ASSIGN: ({"capabilities": ["trading"], "task_id": "order-7"}, Grant),
    subjects.RELEASE: ({"assignment_id": "a-1"}, ReleaseReceipt),
    subjects.ASSIGNMENTS: ({}, AssignmentListing),
    subjects.SCHEMA: ({}, Document),
}
"""Operation to a request that succeeds once trader-1 is registered, and to what it answers with."""


NEED_MORE = (subjects.REGISTER, subjects.PERFORMANCE, subjects.REPORT, subjects.RELEASE)
"""Of the agent-bound operations, those that the id alone is not enough for."""


def test_every_operation_is_here() -> None:
    assert set(OPERATIONS) == set(subjects.OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_answers_with_every_field(registry: Replica, nc: Client, operation: str) -> None:
    request, reply = OPERATIONS[operation]
    if operation != subjects.REGISTER:
        await told(nc, "registry.register", TRADER)
    assert_is(reply, await told(nc, f"registry.{operation}", request))


@pytest.mark.parametrize("operation", subjects.AGENT_BOUND)
async def test_agent_bound_form_does_the_same(registry: Replica, nc: Client, operation: str) -> None:
    request, reply = OPERATIONS[operation]
    if operation != subjects.REGISTER:
        await told(nc, "registry.register", TRADER)
    without_id = {name: value for name, value in request.items() if name != "agent_id"}
    answer = await told(nc, f"registry.{operation}.trader-1", without_id)
    assert_is(reply, answer)
    assert answer.get("agent_id", "trader-1") == "trader-1"
    assert ("agent_id" in answer) is (operation != subjects.RELEASE), "what is released is named, not whose it was"


@pytest.mark.parametrize("operation", subjects.AGENT_BOUND)
async def test_agent_bound_form_takes_the_same_id_again(registry: Replica, nc: Client, operation: str) -> None:
    request, _ = OPERATIONS[operation]
    if operation != subjects.REGISTER:
        await told(nc, "registry.register", TRADER)
    answer = await told(nc, f"registry.{operation}.trader-1", request)
    assert answer.get("agent_id", "trader-1") == "trader-1"


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in subjects.AGENT_BOUND])
async def test_only_what_names_one_agent_has_an_agent_bound_form(registry: Replica, nc: Client, operation: str) -> None:
    assert not await is_served(nc, f"registry.{operation}.trader-1")


# An empty payload means "all defaults".


@pytest.mark.parametrize(
    "operation", ["discover", "stats", "capabilities", "scaling.get", "conflict.get", "replicas", "schema"]
)
async def test_empty_payload_asks_with_all_defaults(registry: Replica, nc: Client, operation: str) -> None:
    _, reply = OPERATIONS[operation]
    assert_is(reply, await told(nc, f"registry.{operation}", b""))


@pytest.mark.parametrize(
    "operation",
    [name for name in subjects.AGENT_BOUND if name not in NEED_MORE],
)
async def test_empty_payload_is_enough_where_the_subject_names_the_agent(
    registry: Replica, nc: Client, operation: str
) -> None:
    await told(nc, "registry.register", TRADER)
    assert (await told(nc, f"registry.{operation}.trader-1", b""))["agent_id"] == "trader-1"


@pytest.mark.parametrize(
    ("operation", "missing"),
    [
        ("register", ["agent_type", "capabilities"]),
        ("performance", ["agent_id", "metrics"]),
        ("report", ["agent_id", "problem"]),
        ("scaling.set", ["capability"]),
        ("conflict.set", ["name"]),
        *[(name, ["agent_id"]) for name in ("deregister", "suspend", "resume", "drain", "heartbeat", "health", "get")],
    ],
)
async def test_empty_payload_is_told_what_it_lacks(
    registry: Replica, nc: Client, operation: str, missing: list[str]
) -> None:
    answer = await ask(nc, f"registry.{operation}", b"")
    assert_error(answer, "invalid_request")
    assert answer.fields == missing


# Registering.


async def test_defaults_of_a_registration(registry: Replica, nc: Client) -> None:
    receipt = await told(nc, "registry.register", TRADER)
    assert receipt["status"] == "active"
    assert receipt["incarnation"] == 1
    assert (receipt["heartbeat_interval"], receipt["heartbeat_timeout"]) == (30.0, 90.0)
    seen = await agent(nc)
    assert {name: seen[name] for name in ("metadata", "tags", "claims", "version", "performance_metrics")} == {
        "metadata": {}, "tags": [], "claims": [], "version": "1.0.0", "performance_metrics": {},
    }  # fmt: skip
    assert (seen["health_score"], seen["load_factor"], seen["load_age"]) == (1.0, 0.0, None)
    assert (seen["status"], seen["status_reason"]) == ("active", "registered")
    assert seen["registered_at"] == seen["last_heartbeat"] == seen["status_since"] == receipt["registered_at"]
    assert seen["revision"] == receipt["revision"]


async def test_everything_that_was_said_is_shown(registry: Replica, nc: Client) -> None:
    said = {
        "agent_type": "trading_agent", "capabilities": ["execution", "trading"],
        "metadata": {"venue": {"a": [1, None]}}, "version": "2.1.0", "tags": ["crypto", "eu"], "instance_id": "run-7",
        "heartbeat_interval": 5.0, "heartbeat_timeout": 12.5, "health_subject": "agent.trader-1.health_check",
        "max_concurrency": 4, "claims": ["account-7"],
    }  # fmt: skip
    await told(nc, "registry.register.trader-1", said)
    seen = await agent(nc)
    assert {name: seen[name] for name in said} == said


async def test_lists_are_sorted_and_unique_and_capabilities_are_read_case_insensitively(
    registry: Replica, nc: Client
) -> None:
    request = {**TRADER, "capabilities": [" Trading", "EXECUTION", "trading"], "tags": ["b", "a", "b"]}
    await told(nc, "registry.register", request)
    seen = await agent(nc)
    assert seen["capabilities"] == ["execution", "trading"]
    assert seen["tags"] == ["a", "b"]
    assert await found(nc, capabilities=["TRADING"]) == ["trader-1"]


async def test_an_id_is_made_from_the_type(registry: Replica, nc: Client) -> None:
    request = {"agent_type": "quant.v2+beta", "capabilities": ["trading"]}
    ids = {(await told(nc, "registry.register", request))["agent_id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"quant-v2-beta-[A-Za-z0-9_-]+", made) for made in ids)


async def test_registering_without_asking_for_an_answer(registry: Replica, nc: Client) -> None:
    await nc.publish("registry.register", encoded(TRADER))
    await eventually(lambda: "trader-1" in registry.state.agents)


class TestDefaultsOfTheDeployment:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(heartbeat_interval=7.0, capabilities="Options, arbitrage")

    async def test_interval(self, registry: Replica, nc: Client) -> None:
        receipt = await told(nc, "registry.register", TRADER)
        assert (receipt["heartbeat_interval"], receipt["heartbeat_timeout"]) == (7.0, 21.0)

    async def test_capabilities(self, registry: Replica, nc: Client) -> None:
        await told(nc, "registry.register", {**TRADER, "capabilities": ["options"]})
        known = {item["name"]: item for item in (await told(nc, "registry.capabilities"))["capabilities"]}
        assert known["options"] == {"name": "options", "agents": 1, "builtin": False}
        assert known["arbitrage"] == {"name": "arbitrage", "agents": 0, "builtin": False}


class TestOpenVocabulary:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(capabilities="*")

    async def test_any_well_formed_name_is_taken(self, registry: Replica, nc: Client) -> None:
        await told(nc, "registry.register", {**TRADER, "capabilities": ["juggling"]})
        vocabulary = await told(nc, "registry.capabilities")
        assert vocabulary["open"] is True
        assert {"name": "juggling", "agents": 1, "builtin": False} in vocabulary["capabilities"]
        assert_error(
            await ask(nc, "registry.register", {**TRADER, "capabilities": ["no spaces"]}),
            "invalid_request",
            "capabilities[0]",
        )


class TestOtherPrefix:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(prefix="eu.agents")

    async def test_every_name_follows_it(self, registry: Replica, nc: Client) -> None:
        async with listening(nc, "eu.agents.events.status.>") as events:
            await told(nc, "eu.agents.register", TRADER)
            event = await events.next()
        assert event.subject == "eu.agents.events.status.active.trader-1"
        assert event.headers["ce-source"] == "/eu.agents"
        assert (await told(nc, "$SRV.PING.eu-agents"))["name"] == "eu-agents"
        assert (await (await nc.jetstream().key_value("eu-agents_agents")).get("trader-1")).value
        assert (await nc.jetstream().stream_info("EU-AGENTS_EVENTS")).state.messages >= 1
        assert not await is_served(nc, "registry.register")


# Commands on an agent.


async def test_deregister_says_whether_there_was_one(registry: Replica, nc: Client) -> None:
    receipt = await told(nc, "registry.register", TRADER)
    gone = await told(nc, "registry.deregister", {"agent_id": "trader-1"})
    assert gone["deregistered"] is True
    assert gone["revision"] > receipt["revision"]
    assert await told(nc, "registry.deregister.trader-1") == {"agent_id": "trader-1", "deregistered": False}
    assert_error(await ask(nc, "registry.get.trader-1"), "not_found", "agent_id")
    assert await found(nc) == []


async def test_suspend_is_sticky_and_resume_lifts_it(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    suspended = await told(nc, "registry.suspend.trader-1", {"reason": "lunch"})
    assert (suspended["status"], suspended["status_reason"]) == ("suspended", "operator")
    assert suspended["status_note"] == (await agent(nc))["status_note"] == "lunch"
    await told(nc, "registry.health.trader-1", {"health_score": 1.0})
    assert (await agent(nc))["status"] == "suspended"
    assert await found(nc) == []
    assert await found(nc, statuses=["suspended"]) == ["trader-1"]
    resumed = await told(nc, "registry.resume.trader-1")
    assert (resumed["status"], resumed["status_reason"]) == ("active", "operator")
    assert resumed["status_note"] is None, "it was said of the status before"
    assert await found(nc) == ["trader-1"]


async def test_resume_puts_an_agent_where_its_health_belongs(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.suspend.trader-1")
    await told(nc, "registry.health.trader-1", {"health_score": 0.6})
    assert (await told(nc, "registry.resume.trader-1"))["status"] == "degraded"


@pytest.mark.parametrize("verb", ["suspend", "resume", "drain"])
async def test_asking_twice_changes_nothing_the_second_time(registry: Replica, nc: Client, verb: str) -> None:
    await told(nc, "registry.register", TRADER)
    first = await told(nc, f"registry.{verb}.trader-1")
    before = await everything(nc)
    again = await told(nc, f"registry.{verb}.trader-1")
    assert (again["status"], again["revision"]) == (first["status"], first["revision"])
    assert await everything(nc) == before


async def test_drain_takes_an_agent_out_and_tells_it(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    async with listening(nc, "agent.trader-1.drain") as orders:
        draining = await told(nc, "registry.drain.trader-1", {"reason": "scale_down"})
        order = await orders.next()
    assert (draining["status"], draining["status_reason"]) == ("deregistering", "draining")
    assert await found(nc) == []
    body = decoded(order.data)
    assert set(body) == {"agent_id", "reason", "deadline"}
    assert (body["agent_id"], body["reason"]) == ("trader-1", "scale_down")
    assert body["deadline"] == pytest.approx(draining["status_since"] + 300.0, abs=5.0)
    await told(nc, "registry.heartbeat.trader-1")  # it beats on while it finishes
    assert (await agent(nc))["status"] == "deregistering"
    assert (await told(nc, "registry.deregister.trader-1"))["deregistered"] is True


# Reports.


async def test_reports_replace_what_was_known(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    beat = {"health_score": 0.9, "load_factor": 0.4, "response_time": 0.2, "metrics": {"queue": 3}}
    await told(nc, "registry.heartbeat.trader-1", beat)
    seen = await agent(nc)
    assert (seen["health_score"], seen["load_factor"]) == (0.9, 0.4)
    assert seen["performance_metrics"] == {"queue": 3.0, "response_time": 0.2}
    assert 0.0 <= seen["load_age"] < 5.0
    await told(nc, "registry.heartbeat.trader-1")
    kept = await agent(nc)
    assert (kept["health_score"], kept["load_factor"]) == (0.9, 0.4)
    assert kept["last_heartbeat"] >= seen["last_heartbeat"]


async def test_further_numbers_of_a_health_report_are_metrics(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    report = {"active_connections": 5, "memory_usage": 0.6, "note": "fine", "ok": True, "none": None, "list": [1]}
    await told(nc, "registry.health.trader-1", report)
    assert (await agent(nc))["performance_metrics"] == {"active_connections": 5.0, "memory_usage": 0.6}


async def test_averages_are_weighted_by_the_requests_since(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    for served, average in ((100, 0.2), (300, 0.5)):
        metrics = {"requests_served": served, "avg_response_time": average, "uptime": 99.0}
        await told(nc, "registry.performance.trader-1", {"metrics": metrics})
    seen = (await agent(nc))["performance_metrics"]
    assert seen["avg_response_time"] == pytest.approx((100 * 0.2 + 200 * 0.5) / 300)
    assert seen["requests_served"] == 300
    assert seen["uptime"] == 99.0


async def test_an_older_beat_is_dropped(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    await told(nc, "registry.heartbeat.trader-1", {"seq": 2, "load_factor": 0.2})
    await told(nc, "registry.heartbeat.trader-1", {"seq": 1, "load_factor": 0.9})
    assert (await agent(nc))["load_factor"] == 0.2
    assert (await stats(nc))["heartbeats_dropped"] == 1


async def test_fields_that_a_report_does_not_know_are_ignored(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    future = {"shoe_size": [43], "load_factor": 0.3}
    await told(nc, "registry.heartbeat.trader-1", future)
    await told(nc, "registry.performance.trader-1", {"metrics": {}, **future})
    assert (await agent(nc))["load_factor"] == 0.3


@pytest.mark.parametrize("operation", subjects.TELEMETRY)
async def test_reports_need_no_answer(registry: Replica, nc: Client, operation: str) -> None:
    await told(nc, "registry.register", TRADER)
    request, _ = OPERATIONS[operation]
    await nc.publish(f"registry.{operation}", encoded(request))

    async def taken() -> bool:
        return bool((await stats(nc))["heartbeats_received"] == 1)

    await eventually(taken)


async def test_health_below_and_back_moves_the_status(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)
    for score, status, reason in (
        (0.8, "active", "registered"),
        (0.79, "degraded", "health"),
        (0.5, "degraded", "health"),
        (0.49, "suspended", "health"),
        (0.5, "degraded", "health"),
        (0.95, "active", "recovered"),
    ):
        await told(nc, "registry.health.trader-1", {"health_score": score})
        seen = await until_status(nc, status)
        assert seen["status_reason"] == reason, score


# Queries.


FLEET: dict[str, dict[str, Any]] = {
    "alpha": {"capabilities": ["trading"], "tags": ["eu"], "version": "2.1.0", "metadata": {"venue": "x", "n": 1}},
    "beta": {"capabilities": ["trading", "execution"], "tags": ["eu", "fast"], "version": "2.9.9"},
    "gamma": {"capabilities": ["research"], "agent_type": "researcher", "tags": ["us"], "version": "3.0.0"},
    "sick": {"capabilities": ["trading"], "version": "not-a-version"},
    "full": {"capabilities": ["trading"]},
}
VITALS = {"sick": {"health_score": 0.6}, "full": {"load_factor": 0.9}, "beta": {"load_factor": 0.5}}


@pytest.fixture
async def fleet(registry: Replica, nc: Client) -> Replica:
    """Some agents that differ."""
    for agent_id, fields in FLEET.items():
        await told(nc, f"registry.register.{agent_id}", {"agent_type": "trading_agent", **fields})
    for agent_id, vitals in VITALS.items():
        await told(nc, f"registry.heartbeat.{agent_id}", vitals)
    await until_status(nc, "degraded", "sick")
    return registry


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["alpha", "beta", "gamma", "sick"]),
        ({"max_load_factor": 1.0}, ["alpha", "beta", "full", "gamma", "sick"]),
        ({"min_health_score": 0.7}, ["alpha", "beta", "gamma"]),
        ({"capabilities": ["trading"]}, ["alpha", "beta", "sick"]),
        ({"capabilities": ["trading", "execution"]}, ["beta"]),
        ({"capabilities": ["backtesting"]}, []),
        ({"capabilities": []}, ["alpha", "beta", "gamma", "sick"]),
        ({"agent_type": "researcher"}, ["gamma"]),
        ({"tags": ["eu"]}, ["alpha", "beta"]),
        ({"tags": ["eu", "fast"]}, ["beta"]),
        ({"version": ">=2,<3"}, ["alpha", "beta"]),
        ({"version": "==2.1.0"}, ["alpha"]),
        ({"metadata": {"venue": "x"}}, ["alpha"]),
        ({"metadata": {"venue": "x", "n": 2}}, []),
        ({"exclude": ["alpha", "nobody"]}, ["beta", "gamma", "sick"]),
        ({"statuses": ["degraded"]}, ["sick"]),
        ({"statuses": ["offline"]}, []),
    ],
)
async def test_discover_finds_what_is_asked_for(
    fleet: Replica, nc: Client, query: dict[str, Any], expected: list[str]
) -> None:
    listing = await told(nc, "registry.discover", query)
    assert sorted(one["agent_id"] for one in listing["agents"]) == expected
    assert listing["total"] == len(expected)


async def test_discover_ranks_best_first(fleet: Replica, nc: Client) -> None:
    async def order(**query: Any) -> list[str]:
        listing = await told(nc, "registry.discover", {"max_load_factor": 1.0, **query})
        return [one["agent_id"] for one in listing["agents"]]

    assert (await order(sort_by="load"))[-2:] == ["beta", "full"]
    assert (await order(sort_by="health"))[-1] == "sick"
    assert (await order(sort_by="performance"))[-1] == "full"
    assert (await order(prefer_tags=["fast"]))[0] == "beta"
    assert set(await order(sort_by="random")) == set(FLEET)


async def test_nearly_equal_agents_come_shuffled(fleet: Replica, nc: Client) -> None:
    query = {"limit": 1, "agent_type": "trading_agent", "tags": ["eu"], "sort_by": "health"}
    seen = set()
    for _ in range(64):  # both miss each other with a chance of 2**-63
        seen.add((await told(nc, "registry.discover", query))["agents"][0]["agent_id"])
    assert seen == {"alpha", "beta"}


async def test_total_counts_all_matches(fleet: Replica, nc: Client) -> None:
    listing = await told(nc, "registry.discover", {"limit": 1, "exclude": ["alpha"]})
    assert len(listing["agents"]) == 1
    assert listing["total"] == 3


async def test_explain_says_why_others_were_left_out(fleet: Replica, nc: Client) -> None:
    listing = await told(nc, "registry.discover", {"capabilities": ["trading"], "version": ">=2", "explain": True})
    assert_is(Listing, listing)
    for miss in listing["near_misses"]:
        assert_is(NearMiss, miss)
    why = {miss["agent_id"]: miss["reasons"] for miss in listing["near_misses"]}
    assert why == {
        "full": ["load_factor is 0.9; wanted at most 0.8", "version is 1.0.0; wanted >=2"],
        "sick": ["version is not-a-version; wanted >=2"],
    }


async def test_an_answer_is_at_least_as_new_as_asked(registry: Replica, nc: Client) -> None:
    revision = (await told(nc, "registry.register", TRADER))["revision"]
    listing = await told(nc, "registry.discover", {"min_revision": revision})
    assert listing["revision"] >= revision
    refused = await ask(nc, "registry.discover", {"min_revision": revision + 1})
    assert_error(refused, "unavailable", "min_revision")


async def test_waiting_for_a_revision_ends_when_it_comes(registry: Replica, nc: Client) -> None:
    revision = (await told(nc, "registry.register", TRADER))["revision"]
    waiting = asyncio.ensure_future(told(nc, "registry.discover", {"min_revision": revision + 1}))
    await settle(nc)
    await told(nc, "registry.register", {**TRADER, "agent_id": "trader-2"})
    listing = await waiting
    assert listing["revision"] >= revision + 1
    assert listing["total"] == 2


async def test_waiting_for_a_revision_keeps_nobody_else_waiting(registry: Replica, nc: Client) -> None:
    """One caller that asks for a revision far away must not hold up all others for a second each time."""
    waiting = asyncio.ensure_future(ask(nc, "registry.discover", {"min_revision": 10**9}))
    await settle(nc)
    await told(nc, "registry.discover")
    assert not waiting.done(), "the one that came later was answered later"
    assert_error(await waiting, "unavailable", "min_revision")


async def test_an_agent_reads_the_same_everywhere(fleet: Replica, nc: Client) -> None:
    (listed,) = (await told(nc, "registry.discover", {"tags": ["fast"]}))["agents"]
    got = await agent(nc, "beta")
    for one in (listed, got):
        one.pop("load_age")
    assert got.pop("evidence")["verdict"] == "alive"
    assert listed == got


async def test_capabilities_are_counted_but_for_the_offline(fleet: Replica, nc: Client) -> None:
    vocabulary = await told(nc, "registry.capabilities")
    assert vocabulary["open"] is False
    counts = {item["name"]: item["agents"] for item in vocabulary["capabilities"]}
    assert set(counts) == {str(name) for name in AgentCapability}
    assert all(item["builtin"] for item in vocabulary["capabilities"])
    assert {name: count for name, count in counts.items() if count} == {"trading": 4, "execution": 1, "research": 1}
    assert list(counts) == sorted(counts)


async def test_statistics_count(fleet: Replica, nc: Client) -> None:
    await told(nc, "registry.discover")
    await told(nc, "registry.health.alpha", {"health_score": 0.9})
    await ask(nc, "registry.get.nobody")
    await told(nc, "registry.suspend.alpha")
    seen = await stats(nc)
    expected = {
        "total_registrations": 5, "registered_agents": 5, "active_agents": 3, "degraded_agents": 1,
        "service_discovery_requests": 1, "health_checks_performed": 1, "failed_health_checks": 0,
        "heartbeats_received": 4, "heartbeats_dropped": 0, "requests_refused": {"not_found": 1},
        "capabilities_distribution": {"execution": 1, "research": 1, "trading": 4},
        "health_distribution": {"healthy": 4, "degraded": 1, "unhealthy": 0},
        "status_distribution": {"active": 3, "degraded": 1, "suspended": 1},
        "write_conflicts": 0, "pending_writes": 0, "leader": True, "leader_epoch": 1,
        "replica": fleet.replica_id, "nats": {"reconnects": 0, "errors": 0, "slow_consumer_drops": 0, "resyncs": 0},
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected
    assert seen["revision"] == (await nc.jetstream().stream_info("KV_registry_agents")).state.last_seq
    assert seen["uptime"] > 0


# Scaling.


async def test_scaling_is_shown_with_every_part(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", TRADER)

    async def ordered() -> bool:
        return bool((await told(nc, "registry.scaling.get", {"capability": "trading"}))["capabilities"][0]["orders"])

    await eventually(ordered)
    report = await told(nc, "registry.scaling.get")
    assert_is(ScalingReport, report)
    assert report["enabled"] is True
    (trading,) = report["capabilities"]
    assert_is(CapabilityScaling, trading)
    assert_is(ScalingPolicy, trading["policy"])
    assert_is(Observed, trading["observed"])
    assert trading["desired"] == 2
    assert trading["orders"][0]["action"] == "scale_up"


async def test_a_policy_is_changed_field_by_field_and_reset(registry: Replica, nc: Client) -> None:
    defaults = (await told(nc, "registry.scaling.get", {"capability": "research"}))["capabilities"][0]["policy"]
    assert defaults == {
        "capability": "research", "min_agents": 2, "max_agents": 10, "high_load": 0.8, "low_load": 0.3,
        "health_degraded": 0.6, "target_load": 0.55, "tolerance": 0.1, "looks": 4, "stabilisation_up": 0.0,
        "stabilisation_down": 300.0, "panic_load": 0.9, "step_up": None, "step_down": None, "warm_up": 30.0,
        "queue_weight": 1.0, "replace_share": 0.1, "order_timeout": 120.0, "dry_run": False, "source": "default",
    }  # fmt: skip
    await told(nc, "registry.scaling.set", {"capability": "research", "max_agents": 4})
    answer = await told(nc, "registry.scaling.set", {"capability": "Research", "min_agents": 1, "high_load": 0.9})
    (scaling,) = answer["capabilities"]
    assert scaling["policy"] == {
        **defaults, "min_agents": 1, "max_agents": 4, "high_load": 0.9, "target_load": 0.6, "source": "policy",
    }  # fmt: skip
    answer = await told(nc, "registry.scaling.set", {"capability": "research", "reset": True})
    assert answer["capabilities"][0]["policy"] == defaults


async def test_a_policy_is_durable(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.scaling.set", {"capability": "research", "max_agents": 4})
    entry = await (await nc.jetstream().key_value("registry_control")).get("policy.research")
    assert decoded(entry.value) == {"max_agents": 4}
