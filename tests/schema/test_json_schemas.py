"""The JSON Schemas say what the models check, and what the registry says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from nats.aio.client import Client

from agents_sdk.protocol import subjects
from agents_sdk.protocol.codec import adapter, check, parse
from agents_sdk.protocol.errors import RegistryError
from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.schema.examples import EXAMPLES
from agents_sdk.protocol.schema.json_schema import BOUND, all_schemas, definitions, schema_of
from agents_sdk.protocol.schema.messages import MESSAGES
from registry.replica import Replica
from tests.contract.test_bad_input import CASES, Case
from tests.contract.test_operations import OPERATIONS as REQUESTS
from tests.contract.wire import TRADER, ask, assert_is, encoded, told

DRAFTS = (Draft202012Validator, Draft7Validator)

REQUEST_NAMES = {operation.request.__name__ for operation in OPERATIONS.values()}


def faults(name: str, message: Any) -> list[str]:
    """What both drafts find wrong with a message; they must agree."""
    found = [sorted(error.message for error in draft(schema_of(name)).iter_errors(message)) for draft in DRAFTS]
    assert found[0] == found[1]
    return found[0]


def objects_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from objects_in(item)


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("name", definitions())
def test_each_is_a_schema_in_both_drafts(name: str, draft: Any) -> None:
    draft.check_schema(schema_of(name))


def test_nothing_stands_beside_a_reference() -> None:
    """A reader of draft 07 would ignore it."""
    references = [node for node in objects_in(all_schemas()) if isinstance(node.get("$ref"), str)]
    assert references
    assert all(set(node) == {"$ref"} for node in references)


def test_every_message_has_an_example_and_nothing_else_has() -> None:
    """A new message needs one in `agents_sdk/protocol/schema/examples.py`."""
    assert set(EXAMPLES) == set(MESSAGES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid(name: str) -> None:
    message, side = MESSAGES[name]
    assert faults(name, EXAMPLES[name]) == []
    if side == "serialization":
        assert_is(message, EXAMPLES[name])
    else:
        check(adapter(message), EXAMPLES[name])


def test_one_document_has_them_all() -> None:
    document = all_schemas()
    for draft in DRAFTS:
        draft.check_schema(document)
        for example in EXAMPLES.values():
            assert draft(document).is_valid(example)
        assert not draft(document).is_valid("text")
    assert {one["$ref"].rpartition("/")[2].removeprefix(BOUND) for one in document["anyOf"]} == set(MESSAGES)


def test_every_field_of_an_answer_is_promised_but_three() -> None:
    lacking = {
        (name, field)
        for name, schema in definitions().items()
        if name not in REQUEST_NAMES and name.removeprefix(BOUND) not in REQUEST_NAMES
        for field in set(schema.get("properties", ())) - set(schema.get("required", ()))
        if name not in ("HealthAnswer", "Connection", "DeclaredCanary")
    }
    assert lacking == {("AgentInfo", "evidence"), ("Listing", "near_misses"), ("Deregistered", "revision")}


TRADER_1 = {**TRADER, "instance_id": "run-1"}
"""Who may register again at any time."""


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_the_registry_says_is_valid(registry: Replica, nc: Client, operation: str) -> None:
    """The answer to an operation, plain and agent-bound, and an error."""
    request, reply = REQUESTS[operation][0], OPERATIONS[operation].reply.__name__
    if operation == subjects.REGISTER:
        request = TRADER_1
    assert faults(OPERATIONS[operation].request.__name__, request) == []
    await told(nc, "registry.register", TRADER_1)
    assert faults(reply, await told(nc, f"registry.{operation}", request)) == []
    if operation in subjects.AGENT_BOUND:
        assert faults(reply, await told(nc, f"registry.{operation}.trader-1", request)) == []
    assert faults("ErrorReply", (await ask(nc, f"registry.{operation}", "[]")).body) == []


# The schemas refuse what the models refuse, as far as a schema can say it.

UNSAID = {
    "metadata too large", "canary: payload too large", "canaries too large, all together",
    "success rate above 1", "success rate below 0",
    "limit is no whole number",  # it is 10.0, which is 10 to JSON Schema
    "id: a newline at the end",  # to Python's expressions, with which this validator reads patterns, `$` is before it
}  # fmt: skip
"""Cases of bad input that the schema lets pass: sizes, and rules across fields, are not for it to say."""


def _of_models() -> list[tuple[Case, str, dict[str, Any]]]:
    """Return the bad requests that are JSON objects and that the model refuses, with the name of their schema."""
    found = []
    for case in CASES:
        name = next(name for name in subjects.OPERATIONS if f"{case.subject}.".startswith(f"{name}."))
        message, fields = OPERATIONS[name].request, None
        try:
            fields = parse(encoded(case.payload))
            given = {"agent_id": "trader-1", **fields} if case.subject != name else fields
            check(adapter(message), given)
        except RegistryError:
            if fields is not None:
                bound = BOUND + message.__name__
                is_bound = case.subject != name and bound in definitions()
                found.append((case, bound if is_bound else message.__name__, fields))
    return found


BAD = _of_models()


@pytest.mark.parametrize(("case", "name", "fields"), BAD, ids=[str(case) for case, _, _ in BAD])
def test_a_schema_refuses_what_its_model_refuses(case: Case, name: str, fields: dict[str, Any]) -> None:
    refused = not Draft202012Validator(schema_of(name)).is_valid(fields)
    assert refused is (case.name not in UNSAID)


def test_there_is_enough_that_is_bad() -> None:
    assert len(BAD) > 150
    assert {case.name for case, _, _ in BAD} >= UNSAID
    lacking = REQUEST_NAMES - {name.removeprefix(BOUND) for _, name, _ in BAD}
    assert lacking == {"ScalingQuery"}, "which only the registry can refuse, who knows the capabilities"


def test_a_request_in_its_agent_bound_form_lacks_nothing_without_an_id() -> None:
    assert faults("Heartbeat", {}) == ["'agent_id' is a required property"]
    assert faults("BoundHeartbeat", {}) == []
    assert {BOUND + name for name in REQUEST_NAMES} & set(definitions()) == {
        "BoundHeartbeat", "BoundHealthReport", "BoundPerformanceReport", "BoundProblemReport", "BoundAgentQuery",
        "BoundAgentCommand",
    }  # fmt: skip


def test_what_the_registry_reads_leniently_is_valid() -> None:
    """Repetitions in sets, unknown fields in reports and answers."""
    assert faults("ServiceQuery", {"tags": ["a", "a"], "statuses": ["active", "active"]}) == []
    assert faults("Heartbeat", {"agent_id": "a", "new": 1}) == []
    assert faults("Ack", {**EXAMPLES["Ack"], "new": 1}) == []
    assert faults("ServiceQuery", {"new": 1}) != []
