"""The vectors that every SDK is tested with, and the Python one: what is written is read, and what is wrong is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from agents_sdk.feed import Feed
from agents_sdk.protocol.codec import adapter, check, decode_reply, parse
from agents_sdk.protocol.discovery import AgentInfo, ServiceQuery
from agents_sdk.protocol.errors import ERRORS, RegistryError, error_from_body
from agents_sdk.protocol.events import cloud_event_headers
from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.subjects import Subjects
from agents_sdk.replies import ELSEWHERE, AgentCallError, answer_in
from agents_sdk.requester import Requester, encode_fields

HERE = Path(__file__).parent


def vectors(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text())


def named(listed: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", [pytest.param(each, id=each["name"]) for each in listed])


def plain(value: Any) -> Any:
    """Return a message as the JSON that it is."""
    if isinstance(value, AgentInfo):
        return value.to_wire()
    if isinstance(value, BaseModel):
        return {name: plain(item) for name, item in value.model_dump(by_alias=True, exclude_unset=True).items()}
    if is_dataclass(value):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, AbstractSet):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {name: plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def refused(error: RegistryError, wanted: Mapping[str, Any]) -> None:
    """See that an error is what a vector says."""
    assert error.code == wanted["code"]
    assert [detail.field for detail in error.details] == wanted["fields"]
    if "begins" in wanted:
        assert error.message.startswith(wanted["begins"])
    else:
        assert error.message == wanted["message"]


@named(vectors("request"))
def test_requests(vector: dict[str, Any]) -> None:
    operation, fields = vector["operation"], vector["fields"]
    requester = Requester(Connection(Address(())), Subjects(), 1.0)
    assert requester._subject(operation, fields) == vector["subject"]
    received = parse(encode_fields(fields))
    assert received == fields
    message = adapter(OPERATIONS[operation].request)
    if "error" in vector:
        with pytest.raises(RegistryError) as raised:
            check(message, received)
        refused(raised.value, vector["error"])
        return
    read = check(message, received)
    written = read.to_wire() if isinstance(read, ServiceQuery) else plain(read)
    assert written == vector.get("normal", fields)


def test_there_are_requests_of_every_operation() -> None:
    assert {each["operation"] for each in vectors("request")} | {"replicas"} == set(OPERATIONS)


@named(vectors("payload"))
def test_payloads(vector: dict[str, Any]) -> None:
    with pytest.raises(RegistryError) as raised:
        parse(vector["payload"].encode())
    refused(raised.value, vector["error"])


@named(vectors("reply"))
def test_replies(vector: dict[str, Any]) -> None:
    reply = vector["reply"]
    form = OPERATIONS[vector["operation"]].reply
    read = getattr(form, "from_wire", None) or form.model_validate
    written = plain(read(decode_reply(orjson.dumps({**reply, **vector.get("later", {})}))))
    assert {name: written[name] for name in reply} == reply


def test_what_is_no_reply() -> None:
    with pytest.raises(RegistryError, match="reply: must be a JSON object; is an array"):
        decode_reply(b"[1]")


@named(vectors("error")["errors"])
def test_errors(vector: dict[str, Any]) -> None:
    with pytest.raises(RegistryError) as raised:
        decode_reply(orjson.dumps(vector["body"]))
    error = raised.value
    assert type(error).__name__ == vector["class"]
    assert error.to_body() == vector["body"]
    assert error.to_headers() == vector["headers"]


def test_there_is_an_error_of_every_code() -> None:
    assert {each["body"]["error"]["code"] for each in vectors("error")["errors"]} == set(ERRORS)


@named(vectors("error")["unknown"])
def test_errors_that_say_something_else(vector: dict[str, Any]) -> None:
    error = error_from_body(vector["body"])
    assert type(error).__name__ == vector["class"]
    assert error.message == vector["message"]
    assert error.to_body()["error"]["details"] == vector["details"]


@named(vectors("error")["calls"])
def test_answers_of_agents(vector: dict[str, Any]) -> None:
    reply: Any = SimpleNamespace(headers=vector["headers"], data=vector["data"].encode())
    if "error" not in vector:
        assert answer_in("a", reply) == vector["value"]
        return
    with pytest.raises(AgentCallError) as raised:
        answer_in("a", reply)
    error = raised.value
    told = {"code": error.code, "status": error.status, "message": error.message}
    assert {**told, "begun": error.status not in ELSEWHERE} == vector["error"]


@named(vectors("event"))
def test_events(vector: dict[str, Any]) -> None:
    feed = Feed(Connection(Address(())), Subjects(), ())
    data = vector["text"].encode() if "text" in vector else orjson.dumps(vector["event"])
    msg: Any = SimpleNamespace(subject=vector["subject"], data=data)
    read = feed._decode(msg)
    if "text" in vector:
        assert read is None
        return
    assert isinstance(read, BaseModel) is vector["known"]
    assert plain(read) == vector["event"]
    if "headers" in vector:
        headers, at = vector["headers"], vector["event"].get("at", vector["event"].get("issued_at"))
        given = (headers["ce-id"], vector["kind"], headers["ce-source"], headers["ce-subject"], at)
        assert cloud_event_headers(*given) == headers
