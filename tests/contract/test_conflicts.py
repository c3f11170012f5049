"""Conflicts on the wire: who is refused, what is told of it, and what outlives a replica, a leader and a holder."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from nats.aio.client import Client

from agents_sdk import ConflictError, ConflictEvent, RegistryClient
from agents_sdk.protocol.conflicts import ConflictReport
from registry.core.violation import Violation
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import Start, eventually
from tests.contract.wire import TRADER, Answer, ask, assert_error, assert_is, listening, payloads, stats, told
from tests.contract.wire import stored_events as stored

BOTH = {"name": "four-eyes", "kind": "combination", "capabilities": ["trading", "risk_management"]}
MAJORS = {"name": "majors", "kind": "versions", "agent_type": "trading_agent", "versions": ["<2", ">=2"]}

EVENTS = "registry.events.conflict.*"


@pytest.fixture
def settings() -> Settings:
    """Nobody is asked in turn before long, and who is found gone is believed."""
    return Settings(health_check_interval=0.2, reconnect_grace=0.0, leader_lease=1.0)


def trader(agent_id: str, **fields: Any) -> dict[str, Any]:
    return {**TRADER, "agent_id": agent_id, "instance_id": "i1", **fields}


async def conflicts(nc: Client, count: int) -> list[dict[str, Any]]:
    """What the stream has of conflicts, once there are so many."""
    return payloads(await stored(nc, count, EVENTS))


async def register(nc: Client, request: dict[str, Any], at: Replica | None = None) -> Answer:
    """Register, at one replica if one is named; one that is late on a busy machine says so, and is asked again."""
    subject = "registry.register" if at is None else f"registry.replica.{at.replica_id}.register"
    answer = await ask(nc, subject, request)

    async def decided() -> bool:
        nonlocal answer
        if answer.code == "unavailable":
            answer = await ask(nc, subject, request)
        return answer.code != "unavailable"

    await eventually(decided)
    return answer


async def refused(nc: Client, request: dict[str, Any], field: str, at: Replica | None = None) -> Answer:
    """A registration is refused for a conflict."""
    answer = await register(nc, request, at)
    assert_error(answer, "conflict", field)
    return answer


async def broken(nc: Client) -> dict[str, list[str]]:
    """Who breaks which rule."""
    report = await told(nc, "registry.conflict.get")
    return {rule["name"]: rule["violation"]["agents"] for rule in report["rules"] if rule["violation"]}


async def test_a_refused_claim(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", trader("a", claims=["account-7"]))
    async with listening(nc, EVENTS) as events:
        for _ in range(3):
            answer = await refused(nc, trader("b", claims=["account-7"]), "claims")
            assert "'a'" in answer.body["error"]["message"]
        event = await events.next()
        assert event.subject == "registry.events.conflict.claim"
        body = orjson.loads(event.data)
        assert_is(ConflictEvent, body)
        assert {name: body[name] for name in ("claim", "rule", "agents", "refused", "resolved")} == {
            "claim": "account-7", "rule": None, "agents": ["b", "a"], "refused": True, "resolved": False,
        }  # fmt: skip
        assert event.headers is not None
        assert (event.headers["ce-type"], event.headers["ce-subject"]) == ("registry.conflict", "b")
    assert len(await conflicts(nc, 1)) == 1
    assert (await stats(nc))["conflicts"] == {"refused": {"claim": 3}, "standing": {}}


async def test_a_combination_that_is_forbidden(registry: Replica, nc: Client) -> None:
    report = await told(nc, "registry.conflict.set", BOTH)
    assert_is(ConflictReport, report)
    answer = await refused(nc, trader("a", capabilities=["trading", "risk_management"]), "capabilities")
    assert "rule 'four-eyes'" in answer.body["error"]["message"]
    await told(nc, "registry.register", trader("a"))
    (event,) = await conflicts(nc, 1)
    assert (event["kind"], event["rule"], event["agents"]) == ("combination", "four-eyes", ["a"])
    await told(nc, "registry.conflict.set", {"name": "four-eyes", "remove": True})
    await told(nc, "registry.register", trader("b", capabilities=["trading", "risk_management"]))


async def test_versions_are_changed_over_by_draining(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.conflict.set", MAJORS)
    await told(nc, "registry.register", trader("old", version="1.4.2"))
    await refused(nc, trader("new", version="2.0.0"), "version")
    await told(nc, "registry.drain.old")
    await told(nc, "registry.register", trader("new", version="2.0.0"))
    await refused(nc, trader("odd", version="1.9"), "version")
    await told(nc, "registry.register", trader("of-no-range", version="nightly"))


async def test_a_rule_throws_nobody_out_and_is_told_as_broken_until_it_is_kept(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.register", trader("a", version="1.0"))
    await told(nc, "registry.register", trader("b", version="2.0"))
    (rule,) = (await told(nc, "registry.conflict.set", MAJORS))["rules"]
    assert (rule["violation"]["agents"], rule["violation"]["total"]) == (["a", "b"], 2)
    assert (await told(nc, "registry.heartbeat.a"))["status"] == "active"
    await told(nc, "registry.register", trader("a", version="1.0", tags=["still-here"]))
    (began,) = await conflicts(nc, 1)
    assert_is(ConflictEvent, began)
    assert (began["agents"], began["refused"], began["resolved"]) == (["a", "b"], False, False)
    assert began["message"] == "rule 'majors': <2 run by a, >=2 run by b"
    assert (await stats(nc))["conflicts"]["standing"] == {"versions": 1}
    (rule,) = (await told(nc, "registry.conflict.get", {"name": "majors"}))["rules"]
    assert rule["violation"]["since"] == began["at"]
    await told(nc, "registry.deregister.a")
    _, ended = await conflicts(nc, 2)
    assert (ended["agents"], ended["resolved"]) == ([], True)
    assert (await broken(nc), (await stats(nc))["conflicts"]["standing"]) == ({}, {})


async def test_a_rule_that_only_reports(registry: Replica, nc: Client) -> None:
    await told(nc, "registry.conflict.set", {**BOTH, "action": "report"})
    await told(nc, "registry.register", trader("a", capabilities=["trading", "risk_management"]))
    (event,) = await conflicts(nc, 1)
    assert (event["agents"], event["refused"]) == (["a"], False)
    assert await broken(nc) == {"four-eyes": ["a"]}


# More than one replica.


@pytest.fixture
async def two(start: Start) -> list[Replica]:
    """Two replicas; the first leads."""
    return [await start(), await start()]


async def test_what_a_follower_refuses_the_leader_tells(two: list[Replica], nc: Client) -> None:
    leader, follower = two
    await told(nc, "registry.conflict.set", BOTH)
    await eventually(lambda: bool(follower.state.catalog.rules.own))
    for replica in (follower, leader, follower):
        await refused(nc, trader("a", capabilities=["trading", "risk_management"]), "capabilities", replica)
    await told(nc, "registry.register", trader("a", claims=["db"]))
    await eventually(lambda: follower.log.revision == leader.log.revision)
    await refused(nc, trader("b", claims=["db"]), "claims", follower)
    assert [(event["kind"], event["agents"]) for event in await conflicts(nc, 2)] == [
        ("combination", ["a"]), ("claim", ["b", "a"]),
    ]  # fmt: skip
    assert [sum(replica.state.refusals.counts.values()) for replica in two] == [1, 3]


async def test_at_two_replicas_at_once_it_is_refused_or_told(two: list[Replica], nc: Client) -> None:
    await told(nc, "registry.conflict.set", MAJORS)
    await eventually(lambda: all(replica.state.catalog.rules.own for replica in two))
    wanted = [trader("a", version="1.0"), trader("b", version="2.0")]
    answers = await asyncio.gather(*(register(nc, one, replica) for one, replica in zip(wanted, two, strict=True)))
    assert [answer.code for answer in answers].count(None) >= 1
    (event, *_) = await conflicts(nc, 1)
    assert event["refused"] is any(answer.code == "conflict" for answer in answers)


async def test_another_leader_goes_on_where_the_one_before_was(two: list[Replica], start: Start, nc: Client) -> None:
    """A rule, and what was told of it, outlive every replica; the end is told by whoever leads then."""
    await told(nc, "registry.register", trader("a", version="1.0", heartbeat_interval=600))
    await told(nc, "registry.register", trader("b", version="2.0", heartbeat_interval=600))
    await told(nc, "registry.conflict.set", MAJORS)
    (began,) = await conflicts(nc, 1)
    await two[0].stop()
    await eventually(lambda: two[1].state.leading)
    await two[1].stop()
    third = await start()
    await eventually(lambda: third.state.leading and third.state.sure)
    await refused(nc, trader("c", version="2.0"), "version")
    await told(nc, "registry.deregister.a")
    events = await conflicts(nc, 3)
    assert [event["event_id"] for event in events].count(began["event_id"]) == 1
    assert [(event["refused"], event["resolved"]) for event in events] == [(False, False), (True, False), (False, True)]


async def test_what_a_leader_wrote_and_did_not_live_to_publish(start: Start, nc: Client) -> None:
    """The next one publishes it; and, as it is over, that."""
    await (await start()).stop()
    bucket = await nc.jetstream().key_value("registry_control")
    rule = {name: value for name, value in MAJORS.items() if name != "name"}
    revision = await bucket.put("conflict.majors", orjson.dumps(rule))
    now = time.time()
    found = Violation("versions", revision, ("a", "b"), 2, now, now, 1, "rule 'majors': <2 run by a, >=2 run by b")
    await bucket.put("violation.majors", orjson.dumps(found.to_json()))
    await start()
    began, ended = await conflicts(nc, 2)
    assert (began["agents"], began["epoch"], began["message"]) == (["a", "b"], 1, found.message)
    assert (ended["resolved"], ended["epoch"]) == (True, 2)


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"[]", b'{"kind":"claim"}', b'{"kind":"x","name":"a","agent_id":"a","message":""}']
)
async def test_what_no_replica_would_tell_is_not_told(registry: Replica, nc: Client, payload: bytes) -> None:
    await nc.publish("registry.replicas.refused", payload)
    await told(nc, "registry.register", trader("a", claims=["db"]))
    await refused(nc, trader("b", claims=["db"]), "claims")
    assert [event["claim"] for event in await conflicts(nc, 1)] == ["db"]


# The bucket.


@pytest.mark.parametrize("value", [b"not JSON", b"[]", b'{"kind":"both"}', b'{"kind":"combination"}', b'{"newer":1}'])
async def test_what_is_no_rule_does_not_hold(
    registry: Replica, nc: Client, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = await nc.jetstream().key_value("registry_control")
    await bucket.put("conflict.four-eyes", value)
    await eventually(lambda: bool(registry.state.catalog.rules.unreadable))
    assert "rule_unreadable" in caplog.text
    assert (await told(nc, "registry.conflict.get"))["unreadable"] == ["four-eyes"]
    await told(nc, "registry.register", trader("a", capabilities=["trading", "risk_management"]))
    (rule,) = (await told(nc, "registry.conflict.set", BOTH))["rules"]
    assert rule["violation"]["agents"] == ["a"]


@pytest.mark.parametrize("value", [b"not JSON", b"{}", b'{"agents":5}'])
async def test_what_was_told_and_cannot_be_read_is_told_again(registry: Replica, nc: Client, value: bytes) -> None:
    bucket = await nc.jetstream().key_value("registry_control")
    await bucket.put("violation.four-eyes", value)
    await told(nc, "registry.register", trader("a", capabilities=["trading", "risk_management"]))
    await told(nc, "registry.conflict.set", BOTH)
    (event,) = await conflicts(nc, 1)
    assert event["agents"] == ["a"]


async def test_changes_at_once(registry: Replica, nc: Client) -> None:
    """Each is acknowledged or told to ask again; what was acknowledged last is what stands there."""
    rules = [{**BOTH, "capabilities": ["trading", other]} for other in ("execution", "research", "backtesting")]
    answers = await asyncio.gather(*(ask(nc, "registry.conflict.set", rule) for rule in rules))
    revisions = [answer.body["rules"][0]["revision"] for answer in answers if answer.code is None]
    assert {answer.code for answer in answers} <= {None, "unavailable"}
    (rule,) = (await told(nc, "registry.conflict.get"))["rules"]
    assert rule["revision"] == max(revisions)
    stale = await ask(nc, "registry.conflict.set", {**BOTH, "revision": min(revisions) - 1})
    assert_error(stale, "conflict", "revision")


# Claims, and the SDK.

HOLDER = """\
from agents_sdk import Agent

agent = Agent("trading_agent", capabilities=["trading"], agent_id="holder", claims=["account-7"])


@agent.handle("quote")
async def quote(request):
    return {}


agent.run()
"""


@pytest.fixture
async def sdk(registry: Replica, nats_server: NatsServer) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(nats_server.url) as client:
        yield client


async def test_a_claim_is_free_when_its_holder_dies(
    sdk: RegistryClient, nats_server: NatsServer, nc: Client, tmp_path: Path
) -> None:
    """Killed, it is found gone, which an event says; then who waits for the claim gets it."""
    program = tmp_path / "holder.py"
    program.write_text(HOLDER)
    environment = {**os.environ, "NATS_URL": nats_server.url, "PYTHONPATH": str(Path(__file__).parents[2])}
    holder = await asyncio.create_subprocess_exec(sys.executable, str(program), env=environment)
    wanted = trader("waiting", claims=["account-7"])
    try:
        await eventually(lambda: sdk_has(sdk, "holder"))
        with pytest.raises(ConflictError, match="held by agent 'holder'"):
            await sdk.register(wanted)
        async with listening(nc, "registry.events.status.offline.holder") as gone:
            holder.kill()
            event = orjson.loads((await gone.next()).data)
        assert event["reason"] == "no_responders"
        await sdk.register(wanted)
        assert (await told(nc, "registry.get.waiting"))["claims"] == ["account-7"]
    finally:
        if holder.returncode is None:
            holder.kill()
        await holder.wait()


async def sdk_has(sdk: RegistryClient, agent_id: str) -> bool:
    return await sdk.get_agent_info(agent_id) is not None


async def test_the_sdk_sets_rules_and_reads_conflicts(sdk: RegistryClient) -> None:
    report = await sdk.set_conflict("four-eyes", kind="combination", capabilities={"trading", "execution"})
    assert report.rules[0].capabilities == ["execution", "trading"]
    events = sdk.events("conflict", durable="auditor")
    with pytest.raises(ConflictError):
        await sdk.register(trader("a", capabilities=["trading", "execution"]))
    event = await anext(events)
    assert isinstance(event, ConflictEvent)
    assert (event.rule, event.agents, event.refused) == ("four-eyes", ["a"], True)
    await events.aclose()
    assert [rule.name for rule in (await sdk.conflicts()).rules] == ["four-eyes"]
    assert (await sdk.conflicts("another")).rules == []
    assert (await sdk.statistics()).conflicts.refused == {"combination": 1}
    assert (await sdk.set_conflict("four-eyes", remove=True)).rules == []
