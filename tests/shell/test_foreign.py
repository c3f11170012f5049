"""What services say of themselves, read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents_sdk.protocol.errors import InvalidRequestError
from registry.core.events import RegisterRequested
from registry.core.service import MICRO, SYNADIA, SYNADIA_SERVICE
from registry.shell import foreign
from registry.shell.foreign import UnreadableError

INFO = {
    "type": "io.nats.micro.v1.info_response", "name": "quotes", "id": "Q1", "version": "1.2.0", "description": "Quotes",
    "metadata": {}, "endpoints": [{"name": "quote", "subject": "quotes.quote", "queue_group": "q", "metadata": None}],
}  # fmt: skip


def adopted(protocol: str = MICRO, **info: Any) -> RegisterRequested:
    told = foreign.description(json.dumps({**INFO, **info}).encode())
    return foreign.adopted(told, protocol, "registry", None, None, 1.0, None)  # type: ignore[arg-type]


def test_a_micro_service():
    fact = adopted()
    assert (fact.agent_id, fact.instance_id, fact.agent_type, fact.version) == ("Q1", "Q1", "quotes", "1.2.0")
    assert fact.capabilities == ("quotes",)
    assert fact.metadata == {"description": "Quotes"}
    assert fact.health_subject == "$SRV.PING.quotes.Q1"
    assert fact.adopted == {"protocol": "micro", "service": "quotes", "endpoints": {"quote": "quotes.quote"}}


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("trading", ("trading",)),
        ("trading,Research", ("research", "trading")),
        (" trading ,  research ", ("research", "trading")),
        ("trading research", ("research", "trading")),
        ('["trading", "research"]', ("research", "trading")),
        ("", ("quotes",)),
        (" , ", ("quotes",)),
        ("[]", ("quotes",)),
    ],
)
def test_capabilities_stand_in_its_metadata(said: str, read: tuple[str, ...]):
    assert adopted(metadata={"capabilities": said}).capabilities == read


@pytest.mark.parametrize(
    ("name", "capability"), [("Quotes", "quotes"), ("EU_Quotes-2", "eu_quotes-2"), ("9lives", "9lives")]
)
def test_without_any_its_name_is_what_it_can_do(name: str, capability: str):
    assert adopted(name=name).capabilities == (capability,)


def test_more_of_its_metadata():
    fact = adopted(metadata={"tags": "eu,crypto", "max_concurrency": "8", "team": "pricing"})
    assert (fact.tags, fact.max_concurrency) == (("crypto", "eu"), 8)
    assert fact.metadata["team"] == "pricing"


@pytest.mark.parametrize(
    ("info", "field"),
    [
        ({"metadata": {"capabilities": "tra.ding"}}, "capabilities"),
        ({"metadata": {"capabilities": "[trading"}}, "capabilities"),
        ({"metadata": {"tags": "eu,!"}}, "tags"),
        ({"name": "_quotes"}, "agent_type"),
        ({"metadata": {"max_concurrency": "0"}}, "max_concurrency"),
        ({"metadata": {"max_concurrency": "9" * 18}}, "max_concurrency"),
        ({"metadata": {"big": "x" * 20_000}}, "metadata"),
        ({"version": "1 0"}, "version"),
    ],
)
def test_what_makes_no_agent_is_refused_by_name(info: dict[str, Any], field: str):
    with pytest.raises(InvalidRequestError, match=field):
        adopted(**info)


def test_a_number_of_slots_that_is_none_is_not_read():
    """Python refuses to read so many digits, and what it refuses is an error of the registry's own."""
    assert adopted(metadata={"max_concurrency": "9" * 5000}).max_concurrency is None


def test_endpoints_that_cannot_be_reached_are_left_out():
    endpoints = [{"name": "a", "subject": "a.>"}, {"name": "b", "subject": "a b"}, {"name": "", "subject": "c"},
                 {"name": "d", "subject": "d"}, {"name": "d", "subject": "other"}, {"name": "e", "subject": "e..e"},
                 {"name": "f", "subject": "f" * 257}, {"name": "g" * 257, "subject": "g"},
                 {"name": "h", "subject": "$JS.API.STREAM.DELETE.x"}, {"name": "i", "subject": "_INBOX.x"},
                 {"name": "j", "subject": "registry.deregister.x"}, {"name": "k", "subject": "registry"}]  # fmt: skip
    assert (adopted(endpoints=endpoints).adopted or {})["endpoints"] == {"d": "d"}


def test_a_synadia_agent():
    metadata = {"agent": "claude-code", "owner": "ada", "session": "main", "protocol_version": "0.3"}
    endpoints = [{"name": "prompt", "subject": "agents.prompt.claude-code.ada.main"},
                 {"name": "status", "subject": "agents.status.claude-code.ada.main"}]  # fmt: skip
    fact = adopted(SYNADIA, name=SYNADIA_SERVICE, metadata=metadata, endpoints=endpoints)
    assert (fact.agent_type, fact.capabilities, fact.tags) == ("claude-code", ("prompt",), ("ada", "main"))
    assert fact.health_subject == "$SRV.PING.agents.Q1"
    assert fact.metadata["owner"] == "ada"
    other = adopted(SYNADIA, name=SYNADIA_SERVICE, metadata={**metadata, "capabilities": "coding", "owner": "_x"})
    assert (other.capabilities, other.tags) == (("coding",), ("main",))


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [({}, False), ({"agent_id": "a"}, True), ({"prefix": "registry", "replica": "x"}, True), ({"prefix": "x"}, False)],
)
def test_our_own_are_no_strangers(metadata: dict[str, str], ours: bool):
    assert foreign.seen(json.dumps({**INFO, "metadata": metadata}).encode(), 1.0).registers_itself is ours


def test_a_heartbeat():
    beat = {
        "agent": "a",
        "owner": "o",
        "session": "s",
        "instance_id": "A1",
        "ts": "2026-01-01T00:00:00Z",
        "interval_s": 5,
    }
    fact = foreign.beaten(json.dumps({**beat, "load_factor": 0.5}).encode(), 1.0)
    assert (fact.service.name, fact.service.id, fact.is_beat) == (SYNADIA_SERVICE, "A1", True)
    assert (fact.load_factor, fact.health_score) == (0.5, None)
    assert not fact.registers_itself
    assert foreign.beaten(json.dumps({**beat, "agent_id": "trader-1"}).encode(), 1.0).registers_itself
    assert foreign.interval(json.dumps(beat).encode()) == 5


def test_work_of_all_endpoints():
    endpoints = [
        {"name": "a", "num_requests": 3, "num_errors": 1, "processing_time": 500_000_000, "data": None},
        {"name": "b", "num_requests": 2, "num_errors": 0, "processing_time": 250_000_000, "last_error": ""},
    ]
    found = foreign.sample(json.dumps({**INFO, "endpoints": endpoints}).encode(), 9.0)
    assert (found.at, found.requests, found.errors, found.seconds) == (9.0, 5, 1, 0.75)


def test_to_be_asked_for_its_status_is_no_work():
    endpoints = [{"name": "prompt", "num_requests": 3}, {"name": "status", "num_requests": 50}]
    assert foreign.sample(json.dumps({**INFO, "name": "agents", "endpoints": endpoints}).encode(), 9.0).requests == 3


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        ("agents.status.a.b.c", True),
        ("agents.status.a.*.c", False),
        ("agents.status.", False),
        ("agents.prompt.a.b.c", False),
        ("orders.cancel", False),
        ("agents.status." + "a" * 256, False),
    ],
)
def test_where_a_status_is_asked_for(subject: str, asked: bool):
    """Nowhere but where the protocol has it: it is asked with rights of the registry."""
    told = foreign.description(json.dumps({**INFO, "endpoints": [{"name": "status", "subject": subject}]}).encode())
    assert told.status_subject() == (subject if asked else None)


@pytest.mark.parametrize("field", ["num_requests", "num_errors", "processing_time"])
def test_work_that_nobody_can_have_done_is_none(field: str):
    """It would not fit a float."""
    with pytest.raises(UnreadableError, match=field):
        foreign.sample(json.dumps({**INFO, "endpoints": [{"name": "a", field: 10**400}]}).encode(), 1.0)


CONNZ = {"server": {}, "data": {"server_id": "S", "connections": [{"cid": 7, "ip": "127.0.0.1"}, {"cid": 8}]}}


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        (CONNZ, {"server_id": "S", "client_id": 7}),
        ({"data": {"server_id": "S", "connections": []}}, None),
        ({"data": {"server_id": "S", "connections": None}}, None),
        ({"error": {"code": 403}}, None),
        ([], None),
    ],
)
def test_where_it_is_connected(answer: Any, place: Any):
    assert foreign.connection(json.dumps(answer).encode()) == place


READERS = [
    lambda payload: foreign.seen(payload, 1.0),
    lambda payload: foreign.beaten(payload, 1.0),
    foreign.description,
    foreign.interval,
    lambda payload: foreign.sample(payload, 1.0),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"null", b"5", b'{"name": 1, "id": [], "interval_s": "x", "instance_id": {}}', b"\xff"],
)
def test_what_is_no_answer(read: Any, payload: bytes):
    with pytest.raises(UnreadableError):
        read(payload)


@pytest.mark.parametrize(
    "fields", [{"id": "a.b"}, {"id": ""}, {"name": "a b"}, {"id": "x" * 129}, {"name": "quotes.>"}]
)
def test_names_that_cannot_stand_in_a_subject(fields: dict[str, str]):
    with pytest.raises(UnreadableError, match="A-Za-z0-9_-"):
        foreign.seen(json.dumps({**INFO, **fields}).encode(), 1.0)
