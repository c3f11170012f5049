"""The contract as an AsyncAPI 3.0 document, as the registry sees it: it receives requests, and sends events.

Who writes a client turns that round. The address of each channel begins with a parameter, the prefix, whose default
is that of the registry in question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agents_sdk.protocol.operations import OPERATIONS, Kind, Operation
from agents_sdk.protocol.schema.components import JSON, SCHEMAS, Object, messages, parameters, summary_of
from agents_sdk.protocol.schema.json_schema import BOUND, definitions, definitions_at
from agents_sdk.protocol.schema.messages import EVENTS
from agents_sdk.protocol.subjects import DRAIN, LED, SHARED, TELEMETRY, Subjects, agent_topic
from agents_sdk.protocol.topics import HEALTH_CHECK

VERSION = "3.0.0"
"""Of AsyncAPI."""

REPLY = "reply"
"""The channel of every answer."""

_CHANNELS = "#/channels"

_DESCRIPTION = """\
Agents register, are found by what they can do and how well they do it, are watched for failure, and are scaled.

- Requests, answers and events are JSON objects in UTF-8. An empty payload is `{}`: all defaults.
- Durations are seconds, timestamps are Unix seconds, both with fractions. Scores and loads go from 0 to 1.
- Unknown fields are refused in commands and queries, and ignored in reports. Expect unknown ones in answers and events.
- An error is an answer with the headers `Nats-Service-Error-Code` and `Nats-Service-Error`, and an object `error`.
- "No responders" says that no registry is there: try again after a short, random wait.
- What one of the replicas answers, each also serves by itself on `{prefix}.replica.<replica>.<operation>`.
"""

_TAGS = {
    Kind.COMMAND: "Changes something; answered when the change is durable.",
    Kind.REPORT: "Says how an agent is.",
    Kind.HINT: "Makes the registry look, and decides nothing.",
    Kind.QUERY: "Changes nothing.",
    "event": "Tells what has changed.",
    "agent": "What the registry says to an agent.",
}


def asyncapi(subjects: Subjects, version: str) -> Object:
    """Return the document.

    Args:
        subjects: The registry's; their prefix is the default of the parameter.
        version: Of the registry's software.
    """
    channels: Object = {}
    operations: Object = {}
    for operation in OPERATIONS.values():
        _add_operation(channels, operations, operation, subjects)
    for kind, event in EVENTS.items():
        channel, name = f"{kind}Event", event.message.__name__
        channels[channel] = _channel(_address(event.subject(subjects), subjects), [name])
        operations[channel] = _sends(channel, name, summary_of(name), "event")
    _add_agent_topics(channels, operations)
    channels[REPLY] = {
        "address": None,
        "title": "Answers",
        "description": "The reply subject that a request carries, as every NATS client makes one by itself.",
        "messages": _messages_of(_replies()),
    }
    return {
        "asyncapi": VERSION,
        "id": f"urn:agent-registry:{subjects.prefix}",
        "info": {
            "title": "Agent registry",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": str(name), "description": text} for name, text in _TAGS.items()],
        },
        "defaultContentType": JSON,
        "servers": {
            "local": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "NATS on this machine, as `agent-registry up` starts it.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages(),
            "parameters": parameters(subjects),
            "schemas": definitions_at(SCHEMAS),
        },
    }


def _add_operation(channels: Object, operations: Object, operation: Operation, subjects: Subjects) -> None:
    """Add an operation, and its agent-bound form if it has one."""
    first, *others = operation.name.split(".")
    name, request = first + "".join(map(str.capitalize, others)), operation.request.__name__
    forms = {name: (subjects.operation(operation.name), request)}
    if operation.agent_bound:
        bound = BOUND + request if BOUND + request in definitions() else request
        forms[name + BOUND] = (subjects.operation(operation.name, "{agent_id}"), bound)
    for form, (subject, message) in forms.items():
        channels[form] = _channel(_address(subject, subjects), [message])
        operations[form] = {
            "action": "receive",
            "channel": {"$ref": f"{_CHANNELS}/{form}"},
            "summary": operation.summary,
            "description": _who_answers(operation.name),
            "tags": [{"name": str(operation.kind)}],
            **_queue(operation.name, subjects),
            "messages": [{"$ref": f"{_CHANNELS}/{form}/messages/{message}"}],
            "reply": _reply(operation.reply.__name__, "ErrorReply"),
            "x-error-codes": list(operation.codes),
        }


def _add_agent_topics(channels: Object, operations: Object) -> None:
    channels["healthCheck"] = _channel(agent_topic("{agent_id}", HEALTH_CHECK), ["HealthCheck"]) | {
        "description": "By convention; an agent registers the subject on which it is asked."
    }
    channels["drainNotice"] = _channel(agent_topic("{agent_id}", DRAIN), ["DrainNotice"])
    channels["agentTopic"] = _channel(agent_topic("{agent_id}", "{topic}"), ["Call", "Canary"]) | {
        "description": "How an agent is reached; topics are between it and its callers."
    }
    operations["healthCheck"] = _sends("healthCheck", "HealthCheck", "asks an agent how it is", "agent") | {
        "reply": _reply("HealthAnswer")
    }
    operations["drainNotice"] = _sends("drainNotice", "DrainNotice", "tells an agent to leave", "agent")
    operations["canary"] = _sends("agentTopic", "Canary", "asks an agent what it must know", "agent") | {
        "reply": _reply("Answer", "ErrorReply")
    }


def _address(subject: str, subjects: Subjects) -> str:
    return "{prefix}" + subject.removeprefix(subjects.prefix)


def _channel(address: str, carried: Iterable[str]) -> Object:
    names = re.findall(r"{(\w+)}", address)
    named = {"parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in names}}
    return {"address": address, "messages": _messages_of(carried), **named}


def _messages_of(names: Iterable[str]) -> Object:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _sends(channel: str, message: str, summary: str, tag: str) -> Object:
    return {
        "action": "send",
        "channel": {"$ref": f"{_CHANNELS}/{channel}"},
        "summary": summary,
        "tags": [{"name": tag}],
        "messages": [{"$ref": f"{_CHANNELS}/{channel}/messages/{message}"}],
    }


def _reply(*names: str) -> Object:
    references = [{"$ref": f"{_CHANNELS}/{REPLY}/messages/{name}"} for name in names]
    return {"channel": {"$ref": f"{_CHANNELS}/{REPLY}"}, "messages": references}


def _replies() -> Iterable[str]:
    replies = (operation.reply.__name__ for operation in OPERATIONS.values())
    return dict.fromkeys((*replies, "HealthAnswer", "Answer", "ErrorReply"))


def _who_answers(name: str) -> str:
    if name in SHARED:
        return "One of the replicas answers."
    if name in TELEMETRY:
        return "Every replica hears it; the leader answers, if an answer is asked for."
    return "The leader answers." if name in LED else "Every replica answers for itself."


def _queue(name: str, subjects: Subjects) -> Object:
    if name not in SHARED:
        return {}
    return {"bindings": {"nats": {"queue": subjects.service, "bindingVersion": "0.1.0"}}}
