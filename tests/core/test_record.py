"""What is durable: the record's JSON form, and the event that an entry of the log stands for."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from registry.core.record import RECORD_VERSION, Change, Record, event_of, revision_of
from registry.core.status import Status
from tests.core.make import make_record

FULL = Record(
    agent_id="trader-1",
    agent_type="trader",
    capabilities=("analysis", "trading"),
    status=Status.SUSPENDED,
    status_reason="operator",
    status_note="lunch",
    status_since=1700.5,
    held=True,
    registered_at=1600.25,
    incarnation=3,
    instance_id="i-7",
    version="2.3.1",
    tags=("eu", "gpu"),
    metadata={"region": "eu", "nested": {"list": [1, 2.5, None, True]}},
    heartbeat_interval=5.0,
    heartbeat_timeout=15.0,
    health_subject="agent.trader-1.health_check",
    max_concurrency=4,
    claims=("db",),
    canaries={"analysis": {"topic": "echo", "payload": {"x": 1}, "expect": {}, "timeout": 2.0, "period": 60.0}},
    connection={"server_id": "S", "client_id": 9},
    adopted={"protocol": "micro", "service": "quotes", "endpoints": {"quote": "quotes.quote"}},
    identity="ACC/user",
    health_score=0.7,
    load_factor=0.4,
    performance_metrics={"requests_served": 10.0, "avg_response_time": 0.25},
    last_heartbeat=1700.125,
    load_reported_at=1700.0,
    busy_until=1800.0,
    change_revision=0,
    write_id="w-1",
    claims_since={"db": 5},
    commands=("c-1", "c-2"),
    flaps={"returns": 2, "penalty": 1.5, "at": 12.0, "until": 0.0},
    change=Change(Status.ACTIVE, "health", 1700.5, 41, note="slow disk", removed=False),
    extra={"zone": "b"},
)


def round_trip(record: Record) -> Record:
    return Record.from_json(json.loads(json.dumps(record.to_json())))


def test_every_field_is_tried():
    """The full record here differs from a default one in every field but `change_revision`."""
    defaults = make_record("other")
    same = {item.name for item in fields(Record) if getattr(FULL, item.name) == getattr(defaults, item.name)}
    assert same == {"change_revision"}


@pytest.mark.parametrize(
    "record",
    [
        FULL,
        make_record(),
        replace(FULL, change=None, change_revision=41),
        replace(FULL, change=Change(Status.ACTIVE, "deregistered", 1.0, 2, None, removed=True)),
    ],
    ids=["full", "plain", "checkpoint", "removal"],
)
def test_round_trip(record: Record):
    """What is written is read back as it was, with the types that it had."""
    back = round_trip(record)
    assert back == record
    assert type(back.status) is Status
    assert type(back.capabilities) is type(back.tags) is type(back.claims) is tuple
    assert back.change is None or type(back.change.previous) is Status


def test_every_field_is_written():
    """The JSON form has every field, by name, and its version."""
    written = set(FULL.to_json())
    assert written == ({item.name for item in fields(Record)} - {"extra"}) | {"v", "zone"}
    assert FULL.to_json()["v"] == RECORD_VERSION


def test_a_record_without_canaries_does_not_speak_of_them():
    """Hardly any agent has one, and the log has room for what matters."""
    assert "canaries" not in make_record().to_json()


def test_fields_of_a_newer_version_are_kept():
    """A newer record is served as far as it is understood, and written back with all that it had, and its version."""
    form = json.loads(json.dumps(FULL.to_json()))
    form.update(v=RECORD_VERSION + 1, future={"deep": [1]}, zone="c")
    back = Record.from_json(form)
    assert back.agent_id == FULL.agent_id
    assert back.to_json()["v"] == RECORD_VERSION + 1
    assert json.loads(json.dumps(back.to_json())) == form
    changed = replace(back, status=Status.SUSPENDED)
    assert round_trip(changed) == changed
    assert changed.to_json()["future"] == {"deep": [1]}


def test_fields_that_are_missing_have_their_defaults():
    """An older record, with fewer fields, is read."""
    form = {"v": 1, "agent_id": "a", "agent_type": "worker", "capabilities": ["analysis"], "status": "active"}
    assert Record.from_json(form) == make_record()


GOOD: dict[str, Any] = {"v": 1, "agent_id": "a", "agent_type": "w", "capabilities": [], "status": "active"}


@pytest.mark.parametrize(
    "form",
    [
        {},
        {name: value for name, value in GOOD.items() if name != "v"},
        {**GOOD, "status": "sleeping"},
        {**GOOD, "change": {"from": "active"}},
        {**GOOD, "change": {"from": "sleeping", "reason": "x", "at": 1.0, "previous_revision": 0}},
        {name: value for name, value in GOOD.items() if name != "agent_id"},
        {**GOOD, "v": "one"},
        {**GOOD, "capabilities": 5},
        {**GOOD, "capabilities": "trading"},
        {**GOOD, "tags": ["eu", 5]},
        {**GOOD, "commands": [None]},
        {**GOOD, "agent_id": 7},
        {**GOOD, "version": None},
        {**GOOD, "health_score": 5},
        {**GOOD, "health_score": "good"},
        {**GOOD, "health_score": True},
        {**GOOD, "load_factor": -0.1},
        {**GOOD, "heartbeat_interval": 0},
        {**GOOD, "heartbeat_timeout": "90s"},
        {**GOOD, "heartbeat_timeout": -1.0},
        {**GOOD, "registered_at": None},
        {**GOOD, "incarnation": 0},
        {**GOOD, "incarnation": 2**64 - 1},
        {**GOOD, "incarnation": 1.5},
        {**GOOD, "change_revision": -1},
        {**GOOD, "canaries": []},
        {**GOOD, "canaries": {"analysis": "echo"}},
        {**GOOD, "canaries": {"analysis": {}}},
        {**GOOD, "canaries": {"analysis": {"topic": 5}}},
        {**GOOD, "canaries": {"analysis": {"topic": "echo", "payload": []}}},
        {**GOOD, "canaries": {"analysis": {"topic": "echo", "expect": "ok"}}},
        {**GOOD, "canaries": {"analysis": {"topic": "echo", "timeout": 0}}},
        {**GOOD, "canaries": {"analysis": {"topic": "echo", "period": "1m"}}},
        {**GOOD, "metadata": []},
        {**GOOD, "performance_metrics": {"success_rate": "high"}},
        {**GOOD, "performance_metrics": {"success_rate": None}},
        {**GOOD, "max_concurrency": "many"},
        {**GOOD, "connection": "mine"},
        {**GOOD, "change": "active"},
        {**GOOD, "change": {"from": "active", "reason": "x", "at": "now", "previous_revision": 0}},
        {**GOOD, "change": {"from": "active", "reason": "x", "at": 1.0, "previous_revision": None}},
        {**GOOD, "change": {"from": "active", "reason": "x", "at": 1.0, "previous_revision": 0, "removed": 1}},
        [],
        [GOOD],
        "record",
        7,
        None,
    ],
    ids=str,
)
def test_what_is_not_a_record_is_refused(form: Any):
    """Whatever somebody wrote into the bucket by hand: KeyError or ValueError, as promised, and nothing else."""
    with pytest.raises((KeyError, ValueError)):
        Record.from_json(form)


@pytest.mark.parametrize("field", ["metadata", "connection", "future"])
def test_what_cannot_be_written_as_json_again_is_no_record(field: str):
    """JSON is read to a greater depth than it is written."""
    deep = Record.from_json({**GOOD, field: nested(64)})
    assert json.loads(json.dumps(deep.to_json()))[field] == nested(64)
    with pytest.raises(ValueError, match="64 levels"):
        Record.from_json({**GOOD, field: nested(65)})


def nested(levels: int) -> dict[str, Any]:
    """An object that nests so many levels, arrays and objects in turn."""
    inner: Any = 1
    for level in range(1, levels):
        inner = {"a": inner} if level % 2 else [inner]
    return {"a": inner}


def test_whole_numbers_are_numbers():
    """Other programs write 1 where Python writes 1.0."""
    record = Record.from_json({**GOOD, "health_score": 1, "load_factor": 0, "heartbeat_interval": 30})
    assert (record.health_score, record.load_factor, record.heartbeat_interval) == (1, 0, 30)


@pytest.mark.parametrize(
    ("status", "reason", "held"),
    [
        (Status.SUSPENDED, "operator", True),
        (Status.SUSPENDED, "health", False),
        (Status.ACTIVE, "operator", False),
        (Status.OFFLINE, "operator", False),
    ],
)
def test_held(status: Status, reason: str, held: bool):
    """What wrote no `held` meant that an agent which an operator suspended is."""
    form = json.loads(json.dumps(make_record(status=status, status_reason=reason).to_json()))
    del form["held"]
    assert Record.from_json(form).held is held
    assert not Record.from_json({**form, "status": "active", "held": True}).held


def test_event_of_a_change():
    """The event of an entry is made of the entry alone; its id is the log's name and the revision."""
    assert event_of(FULL, 42, "agents") == {
        "event_id": "agents:42",
        "agent_id": "trader-1",
        "v": 1,
        "agent_type": "trader",
        "capabilities": ("analysis", "trading"),
        "from": "active",
        "to": "suspended",
        "reason": "health",
        "note": "slow disk",
        "removed": False,
        "incarnation": 3,
        "revision": 42,
        "previous_revision": 41,
        "epoch": None,
        "at": 1700.5,
    }


def test_event_survives_the_bucket():
    """Who reads the entry from the log makes the same event as who wrote it."""
    event = event_of(FULL, 42, "agents")
    assert json.dumps(event_of(round_trip(FULL), 42, "agents")) == json.dumps(event)


def test_a_checkpoint_is_no_event():
    """A revision that changed nothing to speak of has no event."""
    assert event_of(replace(FULL, change=None), 42, "agents") is None


@pytest.mark.parametrize(
    ("event_id", "expected"),
    [
        ("agents:1700:42", 42),
        ("agents:1600:42", None),
        ("agents:42", 42),
    ],
    ids=["this log's", "one of a bucket that was there before", "one of before logs had a name"],
)
def test_the_revision_that_an_event_tells_of(event_id: str, expected: int | None):
    """Its id says so, if it is of this log."""
    assert revision_of(event_id, "agents:1700") == expected


def test_an_event_says_its_revision():
    """What one leader publishes, the next one understands."""
    event = event_of(FULL, 42, "agents:1700")
    assert event is not None
    assert revision_of(event["event_id"], "agents:1700") == 42
