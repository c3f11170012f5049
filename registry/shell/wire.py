"""From the core's objects to JSON bytes, and from messages to the core's facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from agents_sdk.protocol.assignments import AssignmentRequest
from agents_sdk.protocol.discovery import ServiceQuery
from agents_sdk.protocol.errors import ERRORS, Detail, RegistryError
from registry.core.agent import Agent
from registry.core.errors import RefusedError
from registry.core.query import Query
from registry.core.status import DISCOVERABLE, Status
from registry.shell.versions import version_range


def agent_fields(agent: Agent) -> dict[str, Any]:
    """Return an agent as the wire shows it, but for `load_age`."""
    record = agent.record
    return {
        "agent_id": record.agent_id,
        "agent_type": record.agent_type,
        "capabilities": record.capabilities,
        "status": record.status,
        "registered_at": record.registered_at,
        "last_heartbeat": agent.last_heartbeat,
        "metadata": record.metadata,
        "performance_metrics": agent.metrics,
        "health_score": agent.health,
        "load_factor": agent.load,
        "version": record.version,
        "tags": record.tags,
        "status_reason": record.status_reason,
        "status_note": record.status_note,
        "status_since": record.status_since,
        "instance_id": record.instance_id,
        "incarnation": record.incarnation,
        "revision": agent.revision,
        "heartbeat_interval": record.heartbeat_interval,
        "heartbeat_timeout": record.heartbeat_timeout,
        "health_subject": record.health_subject,
        "max_concurrency": record.max_concurrency,
        "claims": record.claims,
        "canaries": record.canaries,
        "adopted": record.adopted,
        "reserved": agent.reserved,
        "suspicion": agent.suspicion,
    }


def load_age(agent: Agent, at: float) -> float | None:
    """Return the seconds since the load was reported."""
    return None if agent.load_at is None else round(max(0.0, at - agent.load_at), 3)


def encode_agent(agent: Agent, at: float) -> bytes:
    """Return an agent as JSON. All but the age of its load is kept until the agent changes."""
    kept = agent.encoded
    if kept is None:
        kept = agent.encoded = orjson.dumps(agent_fields(agent))[:-1] + b',"load_age":'
    if agent.load_at is None:
        return kept + b"null}"  # type: ignore[no-any-return]
    return kept + b"%.3f}" % max(0.0, at - agent.load_at)  # type: ignore[no-any-return]


def encode_listing(
    agents: Iterable[Agent],
    total: int,
    revision: int,
    at: float,
    near_misses: list[tuple[str, list[str]]] | None = None,
) -> bytes:
    """Return the answer to a query as JSON."""
    listed = b",".join([encode_agent(agent, at) for agent in agents])
    answer = b'{"agents":[%b],"total":%d,"revision":%d' % (listed, total, revision)
    if near_misses is not None:
        misses = [{"agent_id": agent_id, "reasons": reasons} for agent_id, reasons in near_misses]
        answer += b',"near_misses":' + orjson.dumps(misses)
    return answer + b"}"


def encode_body(body: Mapping[str, Any] | Agent, at: float) -> bytes:
    """Return a reply as JSON."""
    if isinstance(body, Agent):
        return encode_agent(body, at)

    def inner(value: Any) -> orjson.Fragment:
        if isinstance(value, Agent):
            return orjson.Fragment(encode_agent(value, at))
        raise TypeError(value)

    return orjson.dumps(body, default=inner)


def to_error(refused: RefusedError) -> RegistryError:
    """Return the contract's error for a refusal of the core."""
    return ERRORS[refused.code](refused.message, [Detail(field, message) for field, message in refused.details])


def to_query(query: ServiceQuery) -> Query:
    """Return the core's form of a query.

    Raises:
        RefusedError: If the version specifier is not one.
    """
    return Query(
        capabilities=frozenset(query.capabilities or ()),
        agent_type=query.agent_type,
        min_health=query.min_health_score,
        max_load=query.max_load_factor,
        tags=frozenset(query.tags or ()),
        sort_by=str(query.sort_by),
        version=None if query.version is None else version_range(query.version),
        metadata=query.metadata,
        skills=frozenset(query.skills or ()),
        prefer_tags=frozenset(query.prefer_tags or ()),
        statuses=DISCOVERABLE if query.statuses is None else frozenset(Status(status) for status in query.statuses),
        limit=query.limit,
        exclude=frozenset(query.exclude or ()),
    )


def to_wanted(request: AssignmentRequest) -> Query:
    """Return the core's form of what an assignment is to be made with. Whom it matches has the slots free.

    Raises:
        RefusedError: If the version specifier is not one.
    """
    return Query(
        capabilities=request.capabilities or frozenset(),
        agent_type=request.agent_type,
        min_health=request.min_health_score,
        max_load=request.max_load_factor,
        tags=request.tags or frozenset(),
        sort_by="random",
        version=None if request.version is None else version_range(request.version),
        metadata=request.metadata,
        skills=request.skills or frozenset(),
        prefer_tags=request.prefer_tags or frozenset(),
        exclude=request.exclude or frozenset(),
        slots=request.slots,
    )
