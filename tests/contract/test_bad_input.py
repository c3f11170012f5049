"""Bad input is answered with what was wrong, changes nothing, is counted, and leaves no traceback in the log."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from agents_sdk.protocol import subjects
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.contract.wire import (
    TRADER,
    ask,
    assert_error,
    everything,
    listening,
    stats,
    stored_events,
    told,
    until_status,
)

HOLDER = {**TRADER, "instance_id": "run-1", "claims": ["account-7"], "max_concurrency": 2}
"""What is registered in every one of these tests."""

OTHER = {**TRADER, "agent_id": "trader-2"}


@dataclass(frozen=True)
class Case:
    """A request that is wrong, and what the answer has to say."""

    name: str
    subject: str
    payload: Any
    names: str | None
    """The field that is at fault."""
    code: str = "invalid_request"

    def __str__(self) -> str:
        return f"{self.subject}: {self.name}"


def _register(name: str, names: str, **changed: Any) -> Case:
    return Case(name, "register", {**OTHER, **changed}, names)


def _deep(levels: int) -> str:
    return "[" * levels + "]" * levels


NOT_JSON = [
    Case(name, subject, payload, "payload")
    for name, payload in (
        ("not JSON", b"hello"),
        ("half of it", b'{"agent_id":'),
        ("two objects", b"{}{}"),
        ("single quotes", b"{'agent_id': 'trader-1'}"),
        ("an array", b"[]"),
        ("a number", b"5"),
        ("null", b"null"),
        ("a string", b'"trader-1"'),
        ("NaN", b'{"agent_id":"trader-1","load_factor":NaN}'),
        ("Infinity", b'{"agent_id":"trader-1","load_factor":Infinity}'),
        ("not UTF-8", b'{"agent_id":"\xff\xfe"}'),
        ("half a surrogate", b'{"agent_id":"\\ud800"}'),
        ("a byte order mark", b'\xef\xbb\xbf{"agent_id":"trader-1"}'),
        ("nests beyond what the parser takes", '{"agent_id":' + _deep(50_000) + "}"),
    )
    for subject in ("register", "heartbeat", "discover")
]

BAD_IDS: dict[str, Any] = {
    "a dot": "a.b", "a space": "a b", "a star": "*", "a greater-than": "a>", "empty": "", "a slash": "a/b",
    "an umlaut": "ä", "a newline at the end": "trader-1\n", "too long": "a" * 129, "a number": 7,
    "a list": ["trader-1"],
}  # fmt: skip

IDS = [
    Case(f"id: {name}", operation, {**(TRADER if operation == "register" else {}), "agent_id": bad}, "agent_id")
    for name, bad in BAD_IDS.items()
    for operation in ("register", "deregister", "heartbeat", "get")
]

IDS_IN_THE_SUBJECT = [
    Case(f"id in the subject: {name}", f"{operation}.{bad}", None, "agent_id")
    for name, bad in (("two tokens", "a.b"), ("a star", "*"), ("a greater-than", ">"), ("a slash", "a/b"),
                      ("an umlaut", "ä"), ("too long", "a" * 129))
    for operation in ("register", "drain", "health", "get")
]  # fmt: skip

REGISTRATIONS = [
    Case("nothing", "register", {}, "agent_type"),
    _register("unknown field", "capabilites", capabilites=["trading"]),
    _register("no capabilities", "capabilities", capabilities=[]),
    _register("unknown capability", "capabilities", capabilities=["trading", "juggling"]),
    _register("capability with a space", "capabilities[0]", capabilities=["risk management"]),
    _register("capability too long", "capabilities[0]", capabilities=["a" * 65]),
    _register("a string for a list", "capabilities", capabilities="trading"),
    _register("a number in the list", "capabilities[1]", capabilities=["trading", 5]),
    _register("65 capabilities", "capabilities", capabilities=[f"c{n}" for n in range(65)]),
    _register("null", "capabilities", capabilities=None),
    _register("empty type", "agent_type", agent_type=""),
    _register("type with a space", "agent_type", agent_type="trading agent"),
    _register("type too long", "agent_type", agent_type="a" * 129),
    _register("metadata is a list", "metadata", metadata=[]),
    _register("metadata too large", "metadata", metadata={"text": "x" * 16_384}),
    _register("metadata nests too deep", "metadata", metadata={"a": json.loads(_deep(64))}),
    _register("metadata nests far too deep", "metadata", metadata={"a": json.loads(_deep(900))}),
    _register("version with a space", "version", version="1 0"),
    _register("version is a number", "version", version=2),
    _register("tag with a space", "tags[0]", tags=["a b"]),
    _register("65 tags", "tags", tags=[f"t{n}" for n in range(65)]),
    _register("interval too short", "heartbeat_interval", heartbeat_interval=0.09),
    _register("interval too long", "heartbeat_interval", heartbeat_interval=3601),
    _register("interval is text", "heartbeat_interval", heartbeat_interval="30"),
    _register("interval is a boolean", "heartbeat_interval", heartbeat_interval=True),
    _register("lease too short", "heartbeat_timeout", heartbeat_timeout=0.1),
    _register("lease shorter than the interval", "heartbeat_timeout", heartbeat_timeout=5, heartbeat_interval=10),
    _register("health subject with a wildcard", "health_subject", health_subject="agent.*.health"),
    _register("health subject with a space", "health_subject", health_subject="agent x"),
    _register("health subject with an empty token", "health_subject", health_subject="agent..x"),
    *[
        _register(f"health subject that is not the agent's: {subject}", "health_subject", health_subject=subject)
        for subject in (
            "$KV.registry_agents.trader-1", "$JS.API.STREAM.DELETE.KV_registry_agents", "$SYS.REQ.SERVER.PING",
            "$SRV.PING.registry", "_INBOX.trader-1", "_INBOX_trader-1.x", "_R_.x", "registry",
            "registry.deregister.trader-1", "registry.replica.x", "registry.events.status.offline.trader-1",
        )
    ],
    _register("no concurrency", "max_concurrency", max_concurrency=0),
    _register("half a task", "max_concurrency", max_concurrency=1.5),
    _register("claim with a space", "claims[0]", claims=["a b"]),
    _register("takeover is text", "takeover", takeover="true"),
    *[
        _register(f"canary: {name}", f"canaries.trading{at}", canaries={"trading": {"topic": "quote", **changed}})
        for name, at, changed in (
            ("no topic", ".topic", {"topic": None}), ("topic with a wildcard", ".topic", {"topic": "quote.*"}),
            ("topic with a space", ".topic", {"topic": "a b"}), ("topic ends in a dot", ".topic", {"topic": "quote."}),
            ("topic too long", ".topic", {"topic": "q" * 257}), ("payload is text", ".payload", {"payload": "ping"}),
            ("payload too large", ".payload", {"payload": {"text": "x" * 16_384}}),
            ("expect is a list", ".expect", {"expect": ["ok"]}), ("timeout too short", ".timeout", {"timeout": 0.04}),
            ("timeout too long", ".timeout", {"timeout": 61}), ("period too short", ".period", {"period": 0.5}),
            ("period beyond a day", ".period", {"period": 86_401}), ("unknown field", ".interval", {"interval": 5}),
        )
    ],
    _register("canary without a topic", "canaries.trading.topic", canaries={"trading": {}}),
    _register("canary is text", "canaries.trading", canaries={"trading": "quote"}),
    _register("canary of another capability", "canaries", canaries={"research": {"topic": "quote"}}),
    _register("canary of no capability", "canaries", canaries={"no name": {"topic": "quote"}}),
    _register("17 canaries", "canaries", canaries={f"c{n}": {"topic": "quote"} for n in range(17)}),
    _register("canaries too large, all together", "canaries", capabilities=["trading", "research"],
              canaries={name: {"topic": "q", "payload": {"text": "x" * 9_000}} for name in ("trading", "research")}),
    _register("connection lacks a field", "connection.client_id", connection={"server_id": "N1"}),
    _register("connection has one field too many", "connection.port",
              connection={"server_id": "N1", "client_id": 1, "port": 2}),
    _register("wrong type, deeply nested", "agent_type", agent_type=json.loads(_deep(900))),
    Case("wrong type, nested as deep as JSON is read", "register", '{"agent_type":' + _deep(1020) + "}", "agent_type"),
]  # fmt: skip

COMMANDS = [
    Case("reason too long", "suspend", {"agent_id": "trader-1", "reason": "x" * 257}, "reason"),
    Case("reason is a number", "deregister", {"agent_id": "trader-1", "reason": 5}, "reason"),
    Case("unknown field", "drain", {"agent_id": "trader-1", "force": True}, "force"),
    Case("unknown field", "get", {"agent_id": "trader-1", "verbose": True}, "verbose"),
    Case("unknown field", "stats", {"reset": True}, "reset"),
    Case("unknown field", "capabilities", {"agent_type": "x"}, "agent_type"),
    *[
        Case("nobody of that name", operation, {"agent_id": "nobody"}, "agent_id", "not_found")
        for operation in ("suspend", "resume", "drain", "get", "heartbeat", "health")
    ],
    Case("nobody of that name", "performance", {"agent_id": "nobody", "metrics": {}}, "agent_id", "not_found"),
    Case("nobody of that name", "report", {"agent_id": "nobody", "problem": "timeout"}, "agent_id", "not_found"),
    Case("no problem", "report.trader-1", {}, "problem"),
    Case("problem too long", "report.trader-1", {"problem": "x" * 257}, "problem"),
    Case("unknown field", "report.trader-1", {"problem": "timeout", "kill": True}, "kill"),
]

REPORTS = [
    Case("health above 1", "heartbeat.trader-1", {"health_score": 1.01}, "health_score"),
    Case("health below 0", "health.trader-1", {"health_score": -0.01}, "health_score"),
    Case("health is text", "health.trader-1", {"health_score": "good"}, "health_score"),
    Case("health is a boolean", "heartbeat.trader-1", {"health_score": True}, "health_score"),
    Case("load above 1", "heartbeat.trader-1", {"load_factor": 80}, "load_factor"),
    Case("more digits than a float has", "heartbeat.trader-1", b'{"load_factor":1e999}', None),
    Case("negative response time", "health.trader-1", {"response_time": -1}, "response_time"),
    Case("response time beyond a day", "heartbeat.trader-1", {"response_time": 86_401}, "response_time"),
    Case("negative seq", "heartbeat.trader-1", {"seq": -1}, "seq"),
    Case("seq is no whole number", "heartbeat.trader-1", {"seq": 1.5}, "seq"),
    Case("seq beyond 2^53", "heartbeat.trader-1", {"seq": 2**53 + 1}, "seq"),
    Case("busy until text", "heartbeat.trader-1", {"busy_until": "tomorrow"}, "busy_until"),
    Case("metrics is a list", "performance.trader-1", {"metrics": [1]}, "metrics"),
    Case("metric is text", "performance.trader-1", {"metrics": {"uptime": "99"}}, "metrics.uptime"),
    Case("metric is a boolean", "heartbeat.trader-1", {"metrics": {"up": True}}, "metrics.up"),
    Case("success rate above 1", "performance.trader-1", {"metrics": {"success_rate": 1_000_000}},
         "metrics.success_rate"),
    Case("success rate below 0", "heartbeat.trader-1", {"metrics": {"success_rate": -5}}, "metrics.success_rate"),
    Case("success rate above 1", "health.trader-1", {"success_rate": 99.5}, "success_rate"),
    Case("65 metrics", "performance.trader-1", {"metrics": {f"m{n}": n for n in range(65)}}, "metrics"),
    Case("metric without a name", "performance.trader-1", {"metrics": {"": 1}}, None),
    Case("metric with too long a name", "performance.trader-1", {"metrics": {"m" * 65: 1}}, None),
    Case("129 further numbers", "health.trader-1", {f"m{n}": n for n in range(129)}, "metrics"),
    Case("further number with too long a name", "health.trader-1", {"m" * 65: 1}, None),
    Case("no metrics", "performance.trader-1", {}, "metrics"),
    Case("older incarnation", "heartbeat.trader-1", {"incarnation": 0}, "incarnation", "stale_incarnation"),
    Case("older incarnation", "health.trader-1", {"incarnation": 0}, "incarnation", "stale_incarnation"),
    Case("older incarnation", "performance.trader-1", {"incarnation": 0, "metrics": {}}, "incarnation",
         "stale_incarnation"),
]  # fmt: skip

QUERIES = [
    Case("no agents", "discover", {"limit": 0}, "limit"),
    Case("too many agents", "discover", {"limit": 1001}, "limit"),
    Case("limit is no whole number", "discover", {"limit": 10.0}, "limit"),
    Case("limit is a boolean", "discover", {"limit": True}, "limit"),
    Case("unknown field", "discover", {"capabilites": ["trading"]}, "capabilites"),
    Case("unknown capability", "discover", {"capabilities": ["juggling"]}, "capabilities"),
    Case("a string for a list", "discover", {"capabilities": "trading"}, "capabilities"),
    Case("unknown order", "discover", {"sort_by": "price"}, "sort_by"),
    Case("unknown status", "discover", {"statuses": ["asleep"]}, "statuses[0]"),
    Case("no status", "discover", {"statuses": []}, "statuses"),
    Case("health above 1", "discover", {"min_health_score": 1.1}, "min_health_score"),
    Case("load below 0", "discover", {"max_load_factor": -0.1}, "max_load_factor"),
    Case("no version specifier", "discover", {"version": "newest"}, "version"),
    Case("tag with a space", "discover", {"tags": ["a b"]}, "tags[0]"),
    Case("bad id", "discover", {"exclude": ["a.b"]}, "exclude[0]"),
    Case("metadata is text", "discover", {"metadata": "x"}, "metadata"),
    Case("metadata nests too deep", "discover", {"metadata": {"a": json.loads(_deep(64))}}, "metadata"),
    Case("explain is a number", "discover", {"explain": 1}, "explain"),
    Case("negative revision", "discover", {"min_revision": -1}, "min_revision"),
]

ASSIGNMENTS = [
    Case("nobody free", "assign", {"capabilities": ["research"]}, "wait", "unavailable"),
    Case("nothing to renew", "assign", {"task_id": "none", "renew": True}, "task_id", "not_found"),
    Case("renews no task", "assign", {"renew": True}, "task_id"),
    Case("renews a bit", "assign", {"task_id": "none", "renew": 1}, "renew"),
    Case("more slots than anybody has", "assign", {"agent_type": HOLDER["agent_type"], "slots": 3}, "slots"),
    Case("unknown capability", "assign", {"capabilities": ["juggling"]}, "capabilities"),
    Case("unknown field", "assign", {"limit": 1}, "limit"),
    Case("no slots", "assign", {"slots": 0}, "slots"),
    Case("too many slots", "assign", {"slots": 1001}, "slots"),
    Case("half a slot", "assign", {"slots": 1.5}, "slots"),
    Case("too short", "assign", {"ttl": 0.5}, "ttl"),
    Case("too long", "assign", {"ttl": 86_401}, "ttl"),
    Case("waits too long", "assign", {"wait": 61}, "wait"),
    Case("waits backwards", "assign", {"wait": -1}, "wait"),
    Case("no task", "assign", {"task_id": ""}, "task_id"),
    Case("task too long", "assign", {"task_id": "t" * 129}, "task_id"),
    Case("task is a number", "assign", {"task_id": 7}, "task_id"),
    Case("no version", "assign", {"version": "new"}, "version"),
    Case("nothing", "release", {}, "assignment_id"),
    Case("two things", "release", {"assignment_id": "a", "task_id": "a"}, "assignment_id"),
    Case("no task", "release", {"task_id": ""}, "task_id"),
    Case("a list", "release", {"assignment_id": ["a"]}, "assignment_id"),
    Case("unknown field", "release", {"assignment_id": "a", "id": "a"}, "id"),
    Case("no agent id", "assignments", {"agent_id": "a b"}, "agent_id"),
    Case("no limit", "assignments", {"limit": 0}, "limit"),
]

SCALING = [
    Case("unknown capability", "scaling.get", {"capability": "juggling"}, "capability"),
    Case("unknown capability", "scaling.set", {"capability": "juggling", "max_agents": 3}, "capability"),
    Case("unknown field", "scaling.set", {"capability": "trading", "max": 3}, "max"),
    Case("negative", "scaling.set", {"capability": "trading", "min_agents": -1}, "min_agents"),
    Case("too many", "scaling.set", {"capability": "trading", "max_agents": 10_001}, "max_agents"),
    Case("no whole number", "scaling.set", {"capability": "trading", "max_agents": 2.5}, "max_agents"),
    Case("fewest above most", "scaling.set", {"capability": "trading", "min_agents": 11}, "min_agents"),
    Case("most is none", "scaling.set", {"capability": "trading", "min_agents": 0, "max_agents": 0}, "max_agents"),
    Case("low above high", "scaling.set", {"capability": "trading", "low_load": 0.9}, "low_load"),
    Case("oscillates", "scaling.set", {"capability": "trading", "min_agents": 1, "low_load": 0.5}, "low_load"),
    Case("target above high", "scaling.set", {"capability": "trading", "target_load": 0.9}, "target_load"),
    Case("load above 1", "scaling.set", {"capability": "trading", "high_load": 1.5}, "high_load"),
    Case("beyond a day", "scaling.set", {"capability": "trading", "stabilisation": 86_401}, "stabilisation"),
    Case("order too short", "scaling.set", {"capability": "trading", "order_timeout": 0.5}, "order_timeout"),
    Case("reset is text", "scaling.set", {"capability": "trading", "reset": "yes"}, "reset"),
]

SCHEMAS = [
    Case("no such form", "schema", {"format": "xml"}, "format"),
    Case("no such message", "schema", {"name": "Recipt"}, "name"),
    Case("no name", "schema", {"name": ""}, "name"),
    Case("one message in a document of all", "schema", {"format": "asyncapi", "name": "Receipt"}, "name"),
    Case("unknown field", "schema", {"message": "Receipt"}, "message"),
]
COMBINE = {"name": "x", "kind": "combination", "capabilities": ["trading", "research"]}
VERSIONS = {"name": "x", "kind": "versions", "agent_type": "trading_agent", "versions": ["<2", ">=2"]}

RULES = [
    Case("no name", "conflict.get", {"name": "a.b"}, "name"),
    Case("unknown field", "conflict.get", {"rule": "x"}, "rule"),
    *[
        Case(name, "conflict.set", {**base, **changed}, names)
        for base, name, changed, names in (
            (COMBINE, "no name", {"name": "a b"}, "name"), (COMBINE, "name too long", {"name": "x" * 65}, "name"),
            (COMBINE, "unknown kind", {"kind": "both"}, "kind"), (COMBINE, "no kind", {"kind": None}, "kind"),
            (COMBINE, "one capability", {"capabilities": ["trading"]}, "capabilities"),
            (COMBINE, "the same one twice", {"capabilities": ["trading", "Trading"]}, "capabilities"),
            (COMBINE, "unknown capability", {"capabilities": ["trading", "juggling"]}, "capabilities"),
            (COMBINE, "versions of a combination", {"versions": ["<2", ">=2"]}, "versions"),
            (COMBINE, "type of a combination", {"agent_type": "x"}, "agent_type"),
            (COMBINE, "unknown action", {"action": "kill"}, "action"),
            (COMBINE, "removes and sets", {"remove": True}, "remove"),
            (COMBINE, "removes a bit", {"remove": 1}, "remove"),
            (COMBINE, "unknown field", {"capabilites": []}, "capabilites"),
            (COMBINE, "negative revision", {"revision": -1}, "revision"),
            (VERSIONS, "one version", {"versions": ["<2"]}, "versions"),
            (VERSIONS, "no versions", {"versions": None}, "versions"),
            (VERSIONS, "no specifier", {"versions": ["<2", "newest"]}, "versions[1]"),
            (VERSIONS, "they overlap", {"versions": ["<2", ">=1.5"]}, "versions[1]"),
            (VERSIONS, "17 versions", {"versions": [f"=={n}" for n in range(17)]}, "versions"),
            (VERSIONS, "of nobody", {"agent_type": None}, "agent_type"),
            (VERSIONS, "of two kinds of agents", {"capability": "trading"}, "agent_type"),
            (VERSIONS, "unknown capability", {"agent_type": None, "capability": "juggling"}, "capability"),
            (VERSIONS, "capabilities of versions", {"capabilities": ["trading", "research"]}, "capabilities"),
        )
    ],
    Case("another is there", "conflict.set", {**COMBINE, "revision": 7}, "revision", "conflict"),
]  # fmt: skip

TOO_LARGE = [
    Case("a byte too large", operation, b"{" + b" " * (256 * 1024 - 1) + b"}", None, "payload_too_large")
    for operation in ("register", "heartbeat.trader-1", "discover", "scaling.set")
]

NOT_THE_SAME_AGENT = [
    Case("id differs from the subject's", f"{operation}.trader-2", {**more, "agent_id": "trader-1"}, "agent_id",
         "forbidden")
    for operation in subjects.AGENT_BOUND
    for more in ({} if operation != "register" else {"agent_type": "x", "capabilities": ["trading"]},)
]  # fmt: skip

NOT_IN_THIS_STATUS = [
    Case(f"{agent_id} is beyond that", operation, {"agent_id": agent_id}, "agent_id", "conflict")
    for operation, agent_ids in (
        ("suspend", ("leaving", "gone")), ("resume", ("leaving", "gone")), ("drain", ("gone",))
    )
    for agent_id in agent_ids
] + [
    Case("who is offline registers again", operation, {"agent_id": "gone", **more}, "agent_id", "not_found")
    for operation, more in (("heartbeat", {}), ("health", {}), ("performance", {"metrics": {}}))
]  # fmt: skip

NOT_THIS_INCARNATION = [
    Case(f"{kind} incarnation", f"{operation}.trader-1", {"incarnation": incarnation}, "incarnation", code)
    for kind, incarnation, code in (("older", 0, "stale_incarnation"), ("newer", 2, "not_found"))
    for operation in ("suspend", "resume", "drain", "deregister")
]

NOT_YET = [
    Case("a revision that does not come", "discover", {"min_revision": 2**53}, "min_revision", "unavailable"),
    Case(
        "a revision that does not come", "get", {"agent_id": "a", "min_revision": 2**53}, "min_revision", "unavailable"
    ),
]

DUPLICATES = [
    Case("held by another instance", "register", {**TRADER, "instance_id": "run-2"}, "instance_id",
         "already_registered"),
    Case("held, and no instance given", "register", TRADER, "instance_id", "already_registered"),
    Case("claim held by another", "register", {**OTHER, "claims": ["free", "account-7"]}, "claims", "conflict"),
]  # fmt: skip

HOSTILE = [
    Case("name that would be a header", "register", {**OTHER, "x\r\nNats-Service-Error-Code: 200\r\n\r\n": 1}, None),
    Case("name with control characters", "register", {**OTHER, "x\x00\x07\x1b\x7f": 1}, None),
    Case("name with brackets", "register", {**OTHER, "tags[]": ["a"]}, "tags[]"),
    Case("name with parentheses", "discover", {"limit(max)": 1}, "limit(max)"),
    Case("value with control characters", "register", {**OTHER, "agent_type": "\x00\x1b[31m\x7f"}, "agent_type"),
    Case("long name", "register", {**OTHER, "a" * 250_000: 1}, None),
    Case("long value", "register", {**OTHER, "agent_type": "a" * 250_000}, "agent_type"),
    Case("many faults", "discover", {"exclude": ["."] * 40_000}, None),
]

CASES = [
    *NOT_JSON, *IDS, *IDS_IN_THE_SUBJECT, *REGISTRATIONS, *COMMANDS, *REPORTS, *QUERIES, *ASSIGNMENTS, *SCALING,
    *SCHEMAS, *RULES, *TOO_LARGE, *NOT_THE_SAME_AGENT, *NOT_IN_THIS_STATUS, *NOT_THIS_INCARNATION, *NOT_YET,
    *DUPLICATES, *HOSTILE,
]  # fmt: skip


PYTHON = re.compile(r"\b(Input|should|valid|validation|tuple|frozenset|dict|list|str|int|bool|None|True|False)\b")
"""Words of what checks the requests, not of what is written in them."""


async def _refused(nc: Client) -> dict[str, int]:
    refused: dict[str, int] = (await stats(nc))["requests_refused"]
    return refused


async def _endpoint(nc: Client, case: Case) -> dict[str, Any]:
    operation = next(name for name in subjects.OPERATIONS if f"{case.subject}.".startswith(f"{name}."))
    endpoints = (await told(nc, "$SRV.STATS.registry"))["endpoints"]
    found: dict[str, Any] = next(one for one in endpoints if one["name"] == operation.replace(".", "-"))
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A connection to one registry for the whole table: none of these requests may change it."""
    server = await NatsServer.start(port=0, store=tmp_path_factory.mktemp("nats"))
    replica = Replica(Settings(), server.url)
    await replica.start()
    nc = await nats.connect(server.url)
    await told(nc, "registry.register", HOLDER)
    await told(nc, "registry.register", {**TRADER, "agent_id": "leaving"})
    await told(nc, "registry.drain.leaving")
    await told(nc, "registry.register", {**TRADER, "agent_id": "gone", "heartbeat_interval": 0.1})
    await until_status(nc, "offline", "gone")
    await stored_events(nc, 5)
    yield nc
    await nc.close()
    await replica.stop()
    await server.stop()
    replica.state.validate()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_is_refused_and_changes_nothing(shared: Client, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    nc = shared
    before, refused, endpoint = await everything(nc), await _refused(nc), await _endpoint(nc, case)
    async with listening(nc, "registry.events.status.>") as events:
        answer = await ask(nc, f"registry.{case.subject}", case.payload)
        assert_error(answer, case.code, case.names)
        assert PYTHON.search(answer.body["error"]["message"]) is None, answer.body
        assert await everything(nc) == before
        assert events.empty()
    assert await _refused(nc) == {**refused, case.code: refused.get(case.code, 0) + 1}
    counted = await _endpoint(nc, case)
    assert counted["num_errors"] == endpoint["num_errors"] + 1
    assert counted["last_error"].startswith(f"{case.code}: ")
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING] == []
