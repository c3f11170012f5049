"""What strangers say of themselves: micro services (ADR-32), and agents of the Synadia Agent Protocol among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from agents_sdk.protocol.codec import adapter, check
from agents_sdk.protocol.fields import NAME_PATTERN
from agents_sdk.protocol.registration import Registration
from registry.core.events import RegisterRequested
from registry.core.health_subject import may_be_asked
from registry.core.service import SYNADIA, SYNADIA_SERVICE, Sample, Service
from registry.core.service_events import ServiceSeen
from registry.shell.facts import registration
from registry.shell.replies import Reply
from registry.shell.vitals import vitals_in

PROMPT = "prompt"
"""What a Synadia agent can do that does not say more."""

MAX_ENDPOINTS = 64
"""Endpoints of a service that are known; those that it names first."""

_REGISTRATION = adapter(Registration)
_NO_CAPABILITY = re.compile(r"[^a-z0-9_-]")

_Object = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]


class UnreadableError(ValueError):
    """It is not what the protocol asks for."""


class _Identity(BaseModel):
    """What a service answers on PING, and repeats in its other answers."""

    name: str
    id: str
    version: str = "0.0.0"
    metadata: _Object = {}


class _Endpoint(BaseModel):
    name: str = ""
    subject: str = ""


class Description(_Identity):
    """What a service answers on INFO."""

    description: str | None = None
    endpoints: list[_Endpoint] = []

    def subjects(self) -> dict[str, str]:
        """Return on which subject each endpoint is reached, by its name."""
        found: dict[str, str] = {}
        for endpoint in self.endpoints[:MAX_ENDPOINTS]:
            found.setdefault(endpoint.name, endpoint.subject)
        return found


class _Work(BaseModel):
    name: str = ""
    num_requests: int = 0
    num_errors: int = 0
    processing_time: int = 0
    """Nanoseconds."""


class _Stats(_Identity):
    endpoints: list[_Work] = []


class _Beat(BaseModel):
    """A heartbeat of a Synadia agent, which it also answers when asked for its status."""

    instance_id: str
    interval_s: float = 30.0
    agent_id: str | None = None
    """Agents of ours say it, here as in their metadata."""


class Vitals(BaseModel):
    """What the leader tells the other replicas of an adopted agent."""

    agent_id: str
    incarnation: int
    load_factor: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    metrics: dict[str, float] = {}


class _Place(BaseModel):
    cid: int


class _Places(BaseModel):
    server_id: str
    connections: list[_Place] | None = None


class _Connections(BaseModel):
    data: _Places


def connection(payload: bytes) -> dict[str, Any] | None:
    """Return the first connection that a NATS server tells of; None if it tells of none, or does not want to."""
    try:
        places = _Connections.model_validate_json(payload).data
    except ValidationError:
        return None
    if not places.connections:
        return None
    return {"server_id": places.server_id, "client_id": places.connections[0].cid}


def _read(model: type[Any], payload: bytes) -> Any:
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UnreadableError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def seen(payload: bytes, at: float) -> ServiceSeen:
    """Return the fact that a service has answered a call.

    Raises:
        UnreadableError: If that is no answer.
    """
    told: _Identity = _read(_Identity, payload)
    # Agents of ours say which they are, registries of which deployment they are.
    is_ours = "agent_id" in told.metadata or told.metadata.keys() >= {"prefix", "replica"}
    return ServiceSeen(at, _service(told.name, told.id), is_ours)


def beaten(payload: bytes, at: float) -> ServiceSeen:
    """Return the fact that a Synadia agent's heart has beaten.

    Raises:
        UnreadableError: If that is no heartbeat.
    """
    told: _Beat = _read(_Beat, payload)
    health, load = vitals_in(payload)
    return ServiceSeen(at, _service(SYNADIA_SERVICE, told.instance_id), told.agent_id is not None, True, health, load)


def _service(name: str, service_id: str) -> Service:
    service = Service(name, service_id)
    if not service.is_named:
        raise UnreadableError(f"name {name[:80]!r} or id {service_id[:80]!r} has other characters than A-Za-z0-9_-")
    return service


def description(payload: bytes, prefix: str) -> Description:
    """Return what a service has answered on INFO, without endpoints that nobody should be led to.

    What is sent there is sent with the rights of the registry, or of whoever calls.

    Args:
        payload: The answer.
        prefix: That of the registry's own subjects.

    Raises:
        UnreadableError: If that is no answer.
    """
    told: Description = _read(Description, payload)
    told.endpoints = [each for each in told.endpoints if each.name and may_be_asked(each.subject, prefix)]
    return told


def interval(payload: bytes) -> float:
    """Return the seconds between two heartbeats, of a Synadia agent's status.

    Raises:
        UnreadableError: If that is no status.
    """
    told: _Beat = _read(_Beat, payload)
    return told.interval_s


def sample(payload: bytes, at: float) -> Sample:
    """Return how much a service has done, of its answer on STATS.

    Raises:
        UnreadableError: If that is no answer.
    """
    told: _Stats = _read(_Stats, payload)
    # To say how it is is no work of a Synadia agent.
    work = [one for one in told.endpoints if (told.name, one.name) != (SYNADIA_SERVICE, "status")]
    return Sample(
        at,
        sum(max(0, one.num_requests) for one in work),
        sum(max(0, one.num_errors) for one in work),
        sum(max(0, one.processing_time) for one in work) / 1e9,
    )


def adopted(
    told: Description,
    protocol: str,
    heartbeat_interval: float | None,
    connection: Mapping[str, Any] | None,
    at: float,
    reply: Reply,
) -> RegisterRequested:
    """Return the fact that a service is to be registered.

    Args:
        told: What it says of itself.
        protocol: As what it is adopted.
        heartbeat_interval: Seconds between its heartbeats; None if it has none.
        connection: Its NATS connection, if that is known.
        at: The instant now.
        reply: Hears how it ended.

    Raises:
        InvalidRequestError: If what it says makes no agent; the message names the field.
    """
    metadata, service = told.metadata, Service(told.name, told.id)
    subjects = told.subjects()
    fields: dict[str, Any] = {
        "agent_id": told.id,
        "agent_type": told.name,
        "instance_id": told.id,
        "version": told.version,
        "capabilities": _words(metadata.get("capabilities")) or [_as_capability(told.name)],
        "tags": _words(metadata.get("tags")),
        "metadata": {**metadata, "description": told.description} if told.description else metadata,
        "heartbeat_interval": heartbeat_interval,
        "max_concurrency": _count(metadata.get("max_concurrency")),
        "connection": connection,
    }
    health_subject = service.subject("PING")
    if protocol == SYNADIA:
        fields["agent_type"] = metadata.get("agent", told.name)
        fields["capabilities"] = _words(metadata.get("capabilities")) or [PROMPT]
        fields["tags"] += [name for name in _named(metadata, ("owner", "session")) if name not in fields["tags"]]
        health_subject = subjects.get("status", health_subject)
    fact = registration(check(_REGISTRATION, fields), at, reply, None)
    fact.health_subject = health_subject
    fact.adopted = {"protocol": protocol, "service": told.name, "endpoints": subjects}
    return fact


def _words(value: Any) -> list[str]:
    """Return a list that stands in a text, as JSON or with commas or spaces between: metadata has texts alone."""
    if not isinstance(value, str):
        return []
    if value.lstrip().startswith("["):
        try:
            listed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return [value]  # which is refused, and named
        return [str(one) for one in listed]
    return re.findall(r"[^\s,]+", value)


def _as_capability(name: str) -> str:
    return _NO_CAPABILITY.sub("-", name.lower()).strip("_-")[:64]


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else None


def _named(metadata: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return the values that can be names."""
    values = (metadata.get(key) for key in keys)
    return [value for value in values if isinstance(value, str) and re.fullmatch(NAME_PATTERN, value)]
