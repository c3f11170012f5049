"""The headers of messages, as schemas."""

from __future__ import annotations

from typing import Any

from agents_sdk.protocol.canary import CANARY_HEADER
from agents_sdk.protocol.errors import MESSAGE_HEADER, STATUS_HEADER
from agents_sdk.protocol.events import CE_TYPES
from agents_sdk.protocol.subjects import MESSAGE_ID
from agents_sdk.protocol.topics import ASSIGNMENT_HEADER, TOKEN_HEADER

Schema = dict[str, Any]

CANARY = {CANARY_HEADER: "1"}
"""The header of a canary."""

_TRACE: Schema = {"type": "string", "description": "W3C trace context."}


def of_request(command: bool) -> Schema:
    """Return the headers of a request; of a command one more, by which it is carried out once."""
    once = {
        "type": "string",
        "pattern": "^[A-Za-z0-9_-]{1,64}$",
        "description": "A new one for each command; sent again with it, the command is carried out once.",
    }
    return _headers({"traceparent": _TRACE, **({MESSAGE_ID: once} if command else {})})


def of_error() -> Schema:
    """Return the headers of an answer that is an error."""
    number = {"type": "string", "pattern": "^[1-5][0-9]{2}$", "description": "The number of the error's code."}
    text = {"type": "string", "description": "The beginning of the error's message, in ASCII."}
    return _headers({STATUS_HEADER: number, MESSAGE_HEADER: text}, STATUS_HEADER, MESSAGE_HEADER)


def of_event(kind: str) -> Schema:
    """Return the headers of an event: a CloudEvent in binary mode.

    Args:
        kind: A key of `CE_TYPES`.
    """
    always = {
        MESSAGE_ID: {"type": "string", "description": "The same as `ce-id`: JetStream drops a second copy."},
        "ce-specversion": {"type": "string", "const": "1.0"},
        "ce-id": {"type": "string", "description": "The event's id, the same for every copy."},
        "ce-type": {"type": "string", "const": CE_TYPES[kind]},
        "ce-source": {"type": "string", "format": "uri-reference", "description": "The registry, as `/registry`."},
        "ce-subject": {"type": "string", "description": "The agent, the capability, or the replica."},
        "ce-time": {"type": "string", "format": "date-time", "description": "When it happened."},
        "ce-datacontenttype": {"type": "string", "const": "application/json"},
    }
    expected = {"type": "string", "description": "Where the stream of events had to end to take it."}
    return _headers({**always, "Nats-Expected-Last-Sequence": expected, "traceparent": _TRACE}, *always)


def of_call() -> Schema:
    """Return the headers of a request to an agent: of assigned work, they name the assignment."""
    token = {"type": "string", "pattern": "^[0-9]{1,19}$", "description": "Its fencing token."}
    assignment = {"type": "string", "description": "The assignment that the request is for."}
    return _headers({ASSIGNMENT_HEADER: assignment, TOKEN_HEADER: token, "traceparent": _TRACE})


def of_canary() -> Schema:
    """Return the headers of a canary."""
    return _headers({name: {"type": "string", "const": value} for name, value in CANARY.items()}, *CANARY)


def _headers(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}
