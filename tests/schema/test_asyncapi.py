"""The AsyncAPI document says what the registry serves and sends, and hangs together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator
from nats.aio.client import Client

from agents_sdk.protocol import events, subjects
from agents_sdk.protocol.errors import ERRORS
from agents_sdk.protocol.operations import OPERATIONS, Kind
from agents_sdk.protocol.schema.asyncapi import asyncapi
from agents_sdk.protocol.schema.messages import EVENTS, MESSAGES
from agents_sdk.protocol.subjects import Subjects
from registry.replica import Replica
from registry.shell.store import EXPECTED
from tests.contract.wire import TRADER, decoded, listening, told

NAMES = Subjects("eu.agents")
DOCUMENT = asyncapi(NAMES, "1.2.3")


def pointed_at(reference: str, document: Any = DOCUMENT) -> Any:
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        document = document[step]
    return document


def references_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from references_in(item)


def subject_of(channel: Any) -> str:
    """The address with the default of the prefix, and everything else as it stands."""
    return str(channel["address"]).replace("{prefix}", DOCUMENT["components"]["parameters"]["prefix"]["default"])


def with_references(schema: Any) -> Any:
    """A schema of the document that a validator can follow."""
    return {**schema, "components": DOCUMENT["components"]}


def test_every_reference_leads_somewhere() -> None:
    references = set(references_in(DOCUMENT))
    assert references
    for reference in references:
        assert pointed_at(reference) is not None


def test_nothing_of_the_components_is_unused() -> None:
    used = set(references_in(DOCUMENT))
    for kind in ("messages", "parameters", "schemas"):
        unused = {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]} - used
        assert unused == set()


@pytest.mark.parametrize("name", subjects.OPERATIONS)
def test_every_operation_is_received_where_it_is_served(name: str) -> None:
    operation, key = OPERATIONS[name], re.sub(r"\.(\w)", lambda dot: dot[1].upper(), name)
    forms = {key: NAMES.operation(name)}
    if operation.agent_bound:
        forms[f"{key}Bound"] = NAMES.operation(name, "{agent_id}")
    assert {form for form in DOCUMENT["operations"] if re.fullmatch(rf"{key}(Bound)?", form)} == set(forms)
    for form, subject in forms.items():
        told = DOCUMENT["operations"][form]
        channel = pointed_at(told["channel"]["$ref"])
        assert subject_of(channel) == subject
        assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))
        assert told["action"] == "receive"
        (message,) = (pointed_at(pointed_at(one["$ref"])["$ref"]) for one in told["messages"])
        assert message["name"].removeprefix("Bound") == operation.request.__name__
        replies = [pointed_at(pointed_at(one["$ref"])["$ref"])["name"] for one in told["reply"]["messages"]]
        assert replies == [operation.reply.__name__, "ErrorReply"]
        assert pointed_at(told["reply"]["channel"]["$ref"])["address"] is None
        queue = told.get("bindings", {}).get("nats", {}).get("queue")
        assert queue == ("eu-agents" if name in subjects.SHARED else None)
        assert told["x-error-codes"] == list(operation.codes)
        assert told["tags"] == [{"name": operation.kind}]


def test_what_the_table_of_operations_says_fits_the_subjects() -> None:
    assert tuple(sorted(OPERATIONS)) == tuple(sorted(subjects.OPERATIONS))
    assert {name for name, one in OPERATIONS.items() if one.kind is Kind.REPORT} == set(subjects.TELEMETRY)
    assert {name for name, one in OPERATIONS.items() if one.kind is Kind.COMMAND} >= set(subjects.COMMANDS)
    assert all(set(one.codes) <= set(ERRORS) for one in OPERATIONS.values())


async def test_the_registry_checks_requests_with_the_models_of_the_table(registry: Replica) -> None:
    served = {one.name: one.adapter._type for one in registry.routes._operations}
    assert served == {name: one.request for name, one in OPERATIONS.items()}


def test_every_kind_of_event_is_sent() -> None:
    assert set(EVENTS) == set(events.CE_TYPES) == set(subjects.EVENT_KINDS)
    for kind, event in EVENTS.items():
        told = DOCUMENT["operations"][f"{kind}Event"]
        assert told["action"] == "send"
        assert subject_of(pointed_at(told["channel"]["$ref"])) == event.subject(NAMES)


async def test_headers_of_events_are_those_that_come(registry: Replica, nc: Client) -> None:
    async with listening(nc, "registry.events.status.>") as heard:
        await told(nc, "registry.register", TRADER)
        msg = await heard.next()
    schema = DOCUMENT["components"]["messages"]["StatusEvent"]["headers"]
    headers = dict(msg.headers or {})
    Draft7Validator(schema).validate(headers)
    assert set(headers) - {EXPECTED} == set(schema["required"])
    assert set(schema["properties"]) == {*headers, EXPECTED, "traceparent"}
    assert decoded(msg.data)["event_id"] == headers["ce-id"]


@pytest.mark.parametrize("name", DOCUMENT["components"]["messages"])
def test_examples_are_valid(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]
    assert message["name"] == name
    if name == "HealthCheck":
        assert "examples" not in message
        return
    (example,) = message["examples"]
    Draft7Validator(with_references(message["payload"])).validate(example["payload"])
    if "headers" in message:
        Draft7Validator.check_schema(message["headers"])
        Draft7Validator(message["headers"]).validate(example.get("headers", {}))


def test_messages_with_required_headers_show_them() -> None:
    required = {
        name for name, one in DOCUMENT["components"]["messages"].items() if one.get("headers", {}).get("required")
    }
    assert required == {"ErrorReply", "Canary", *(event.message.__name__ for event in EVENTS.values())}
    error = DOCUMENT["components"]["messages"]["ErrorReply"]["examples"][0]
    assert error["headers"]["Nats-Service-Error-Code"] == str(ERRORS[error["payload"]["error"]["code"]].status)


def test_every_message_is_there() -> None:
    names = {name.removeprefix("Bound") for name in DOCUMENT["components"]["messages"]}
    assert names == {*MESSAGES, "HealthCheck", "Call", "Canary", "Answer"}


def test_it_fits_into_one_answer_with_room_to_spare() -> None:
    assert len(json.dumps(DOCUMENT, separators=(",", ":"))) < 512 * 1024
