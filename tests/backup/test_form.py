"""The lines of a backup: what is written is read, and what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_registry.backup.form import (
    FORMAT,
    MAX_LINE,
    VERSION,
    BackupError,
    SavedAgent,
    SavedPolicy,
    SavedRule,
    encode_agent,
    encode_header,
    encode_policy,
    encode_rule,
    read_header,
    read_line,
)
from registry.core.record import RECORD_VERSION, Record
from tests.backup.lines import agent, entry, header, policy, rule, stored


def refused(line: bytes) -> str:
    with pytest.raises(BackupError) as caught:
        read_line(7, line)
    assert caught.value.line == 7
    return caught.value.message


# What is right.


def test_the_first_line_says_what_it_is() -> None:
    line = encode_header("eu.agents", "eu-agents_agents", 5012, 1795476800.5, 5000, 2, 1)
    assert json.loads(line) == {
        "format": FORMAT, "version": VERSION, "prefix": "eu.agents", "bucket": "eu-agents_agents", "revision": 5012,
        "at": 1795476800.5, "agents": 5000, "policies": 2, "rules": 1,
    }  # fmt: skip
    assert read_header(line).agents == 5000


def test_a_backup_of_before_there_were_rules() -> None:
    form = json.loads(header(1, 2, 3))
    del form["rules"]
    assert read_header(json.dumps({**form, "version": 1}).encode() + b"\n").rules == 0


def test_an_agent_is_read_as_it_was_written() -> None:
    form = stored()
    line = encode_agent("trader-1", 17, json.dumps(form, indent=2).encode())
    assert line.count(b"\n") == 1, "one line, however it stood in the bucket"
    assert json.loads(line) == {"kind": "agent", "key": "trader-1", "revision": 17, "record": form}
    saved = read_line(2, line)
    assert saved == SavedAgent(2, "trader-1", Record.from_json({**form, "change": None}), form)


def test_a_policy_is_read_as_it_was_written() -> None:
    line = encode_policy("trading", 3, b'{"min_agents": 3, "high_load": 0.9}')
    assert read_line(2, line) == SavedPolicy(2, "trading", {"min_agents": 3, "high_load": 0.9})


def test_a_rule_is_read_as_it_was_written() -> None:
    form = {"kind": "versions", "action": "report", "agent_type": "trader", "versions": ["<2", ">=2"]}
    assert read_line(2, encode_rule("majors", 3, json.dumps(form).encode())) == SavedRule(2, "majors", form)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (rule(kind="both"), "record.kind: must be 'combination' or 'versions'; got 'both'"),
        (rule(kind="combination", capabilities=["trading"]), "record.capabilities: must have 2 or more entries; has 1"),
        (rule(kind="versions", agent_type="x", versions=["<2", "new"]), "record.versions[1]: must be a version spec"),
        (rule(kind="combination", remove=True), "record.remove: is not a field of a rule"),
        (rule("x", name="x"), "record.name: is not a field of a rule"),
        (rule("x" * 65), "record.name: must be 1 to 64 characters"),
    ],
)
def test_a_rule_that_is_wrong(line: bytes, said: str) -> None:
    assert refused(line).startswith(said)


def test_a_record_of_an_older_version_has_fewer_fields() -> None:
    form = {"v": 1, "agent_id": "a", "agent_type": "t", "capabilities": ["trading"], "status": "active"}
    saved = read_line(2, entry("agent", "a", form))
    assert isinstance(saved, SavedAgent)
    assert saved.record == Record.from_json(form)


def test_a_record_of_a_newer_version_is_read_as_far_as_it_is_understood() -> None:
    saved = read_line(2, entry("agent", "trader-2", stored("v2.json")))
    assert isinstance(saved, SavedAgent)
    assert saved.record is not None
    assert saved.record.to_json()["region"] == {"name": "eu-west", "zone": 3}


def test_a_record_of_an_unknown_form_is_kept_as_it_is() -> None:
    form = stored("v3.json")
    assert read_line(2, entry("agent", "trader-3", form)) == SavedAgent(2, "trader-3", None, form)


def test_sets_are_sets() -> None:
    saved = read_line(2, agent(capabilities=["Trading", "research", "trading"], tags=["b", "a", "b"]))
    assert isinstance(saved, SavedAgent)
    assert saved.record is not None
    assert (saved.record.capabilities, saved.record.tags) == (("research", "trading"), ("a", "b"))


# What is wrong.


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\x1f\x8b\x08\x00\n", "is not JSON"),
        (b"[]\n", "must be a JSON object; is list"),
        (b'{"v":1,"agent_id":"a"}\n', "format: must be 'agent-registry-backup'"),
        (b'{"format":"other"}\n', "format: must be 'agent-registry-backup'"),
        (header().replace(b'"version":2', b'"version":3'), "version: is 3, and this agent-registry reads up to 2"),
        (header().replace(b'"agents":1', b'"agents":-1'), "agents: must be at least 0; got -1"),
        (header().replace(b'"revision":9,', b""), "revision: is required"),
        (header().replace(b'"at"', b'"when"'), "at: is required"),
    ],
)
def test_a_first_line_that_is_wrong(line: bytes, said: str) -> None:
    with pytest.raises(BackupError) as caught:
        read_header(line)
    assert caught.value.line == 1
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\n", "is empty"),
        (b"nonsense\n", "is not JSON"),
        (agent()[:200], "ends in the middle: the backup is cut off"),
        (b"7\n", "must be a JSON object; is int"),
        (b"x" * (MAX_LINE + 1), f"has more than {MAX_LINE} bytes"),
        (entry("lease", "leader", {}), "kind: must be 'agent', 'policy' or 'rule'; got 'lease'"),
        (entry("agent", "a.b", stored()), "key: must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -; got 'a.b'"),
        (entry("agent", "a", []), "record: must be an object"),
        (entry("agent", "a", stored(), revision=-1), "revision: must be at least 0"),
        (entry("agent", "a", {}), "record.v: is required"),
        (b'{"kind":"agent","key":"a","revision":1}\n', "record: is required"),
        (b'{"kind":"agent","key":"a","revision":1,"record":{},"more":1}\n', "more: is not a field"),
    ],
)
def test_a_line_that_is_wrong(line: bytes, said: str) -> None:
    assert said in refused(line)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("v", "1", "must be a whole number"),
        ("v", 0, "must be at least 1"),
        ("agent_type", "a b", "must be 1 to 128 characters of letters"),
        ("capabilities", [], "must have 1 or more"),
        ("capabilities", "trading", "must be an array"),
        ("status", "asleep", "must be 'active', 'degraded', 'suspended', 'deregistering' or 'offline'"),
        ("status", "registering", "must be 'active'"),
        ("status", ..., "is required"),
        ("status_since", "yesterday", "must be a number"),
        ("registered_at", -1, "must be at least 0"),
        ("incarnation", 0, "must be at least 1"),
        ("incarnation", 1.5, "must be a whole number"),
        ("instance_id", 7, "must be a string"),
        ("metadata", [1], "must be an object"),
        ("metadata", {"a": "x" * 20_000}, "must be at most 16384 bytes"),
        ("heartbeat_interval", None, "must be a number"),
        ("heartbeat_timeout", 0.0, "must be at least 0.2"),
        ("health_subject", "agent.*.health", "must be a NATS subject without wildcards"),
        ("max_concurrency", 0, "must be at least 1"),
        ("claims", ["a b"], "must be 1 to 128"),
        ("connection", {"server_id": "S"}, "is required"),
        ("health_score", 1.5, "must be at most 1"),
        ("load_factor", True, "must be a number"),
        ("performance_metrics", {"a": "fast"}, "must be a number"),
        ("performance_metrics", {str(n): 1.0 for n in range(129)}, "128 or fewer"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_would_be_right(field: str, value: Any, said: str) -> None:
    message = refused(agent("trader-1", **{field: value}))
    assert message.startswith(f"record.{field}")
    assert said in message


def test_a_record_is_that_of_its_key() -> None:
    line = entry("agent", "trader-2", stored())
    assert refused(line) == "record.agent_id: must be the key, 'trader-2'; got 'trader-1'"


def test_a_field_that_nobody_knows_may_be_anything_but_too_deep() -> None:
    deep: Any = []
    read_line(7, agent(region=deep))
    for _ in range(70):
        deep = [deep]
    assert refused(agent(region=deep)) == "record.region: must nest at most 64 levels; nests 71"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (policy(min_agents="many"), "record.min_agents: must be a whole number"),
        (policy(mni_agents=2), "record.mni_agents: is not a field"),
        (policy(high_load=7), "record.high_load: must be at most 1"),
        (policy(min_agents=None), "record.min_agents: must be a number, or left out; got null"),
        (policy(reset=True), "record.reset: is not a field of a policy"),
        (policy(capability="trading"), "record.capability: is not a field of a policy"),
        (policy("Trading", min_agents=2), "key: must be in lower case; got 'Trading'"),
    ],
)
def test_a_policy_that_is_wrong(line: bytes, said: str) -> None:
    assert said in refused(line)


@pytest.mark.parametrize("value", [b"not a record", b"[]", b'{"v":1,"agent_id":"a","status":"asleep"}'])
def test_what_could_not_be_put_back_is_not_saved(value: bytes) -> None:
    """Or else a backup would be refused as a whole for what stood in the bucket by somebody's hand."""
    with pytest.raises(BackupError):
        encode_agent("a", 3, value)


def test_the_version_of_records_is_older_than_those_of_the_tests() -> None:
    assert RECORD_VERSION == 1, "make v2.json and v3.json newer than what is written now"
