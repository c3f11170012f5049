"""The parts of the AsyncAPI document that its channels and operations refer to: messages and parameters."""

from __future__ import annotations

from typing import Any

from agents_sdk.protocol.errors import error_from_body
from agents_sdk.protocol.events import cloud_event_headers
from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.schema import headers
from agents_sdk.protocol.schema.examples import EXAMPLES
from agents_sdk.protocol.schema.json_schema import BOUND, definitions
from agents_sdk.protocol.schema.messages import EVENTS, MESSAGES
from agents_sdk.protocol.subjects import COMMANDS, Subjects
from agents_sdk.protocol.vocabulary import AgentStatus, ConflictKind, ScalingAction

JSON = "application/json"
SCHEMAS = "#/components/schemas"

Object = dict[str, Any]


def messages() -> Object:
    """Return every message: those that have a model, and those on an agent's topics, whose form is the agent's."""
    made = {name: _message(name) for name in definitions() if name.removeprefix(BOUND) in MESSAGES}
    for operation in OPERATIONS.values():
        request = operation.request.__name__
        for name in (request, BOUND + request):
            if name in made:
                made[name]["headers"] = headers.of_request(operation.name in COMMANDS)
    for kind, event in EVENTS.items():
        name = event.message.__name__
        made[name]["headers"] = headers.of_event(kind)
        made[name]["examples"][0]["headers"] = _event_headers(kind, EXAMPLES[name])
    made["ErrorReply"]["headers"] = headers.of_error()
    made["ErrorReply"]["examples"][0]["headers"] = error_from_body(EXAMPLES["ErrorReply"]).to_headers()
    return made | _on_topics()


def parameters(subjects: Subjects) -> Object:
    """Return what stands in braces in the addresses of channels.

    Args:
        subjects: The registry's; their prefix is the default of the parameter of that name.
    """
    return {
        "prefix": {"default": subjects.prefix, "description": "What all subjects of the registry begin with."},
        "agent_id": {"description": "The agent.", "examples": ["trader-1"]},
        "topic": {"description": "A topic of the agent.", "examples": ["quote"]},
        "capability": {"description": "The capability.", "examples": ["trading"]},
        "status": {"description": "The new status, or the last one.", "enum": [str(each) for each in AgentStatus]},
        "action": {"description": "What is ordered.", "enum": [str(each) for each in ScalingAction]},
        "kind": {"description": "What it is about.", "enum": [str(each) for each in ConflictKind]},
        "what": {"description": "What happened.", "examples": ["leader_changed", "protection_on", "protection_off"]},
    }


def summary_of(name: str) -> str:
    """Return what a message is, in one sentence."""
    return str(definitions()[name]["description"]).partition("\n")[0]


def _message(name: str) -> Object:
    example = EXAMPLES[name.removeprefix(BOUND)]
    if name.startswith(BOUND):
        example = {field: value for field, value in example.items() if field != "agent_id"}
    return _said(name, summary_of(name), {"$ref": f"{SCHEMAS}/{name}"}, example)


def _event_headers(kind: str, event: Object) -> dict[str, str]:
    about = event.get("agent_id") or event.get("capability") or event.get("replica") or event["agents"][0]
    event_id, at = event.get("event_id") or event["order_id"], event.get("at") or event["issued_at"]
    return cloud_event_headers(event_id, kind, "/registry", about, at)


def _on_topics() -> Object:
    theirs = {"description": "By convention a JSON object."}
    question, answer = {"symbol": "BTC"}, {"symbol": "BTC", "price": 42.0}
    check = _said("HealthCheck", "An empty message: how are you?", {"description": "Nothing."}, None)
    call = _said("Call", "A request to an agent.", theirs, question, headers.of_call())
    canary = _said(
        "Canary", "A request with a known answer; real work has no such header.", theirs, question, headers.of_canary()
    )
    canary["examples"][0]["headers"] = headers.CANARY
    said = (check, call, canary, _said("Answer", "What an agent answers.", theirs, answer))
    return {message["name"]: message for message in said}


def _said(name: str, summary: str, payload: Object, example: Any, its_headers: Object | None = None) -> Object:
    return {
        "name": name,
        "summary": summary,
        "contentType": JSON,
        **({} if its_headers is None else {"headers": its_headers}),
        "payload": payload,
        **({} if example is None else {"examples": [{"payload": example}]}),
    }
