"""The operations of the wire contract: what each takes, what it answers with, what can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agents_sdk.protocol import subjects
from agents_sdk.protocol.assignments import (
    AssignmentListing,
    AssignmentRequest,
    AssignmentsQuery,
    Grant,
    ReleaseCommand,
    ReleaseReceipt,
)
from agents_sdk.protocol.conflicts import ConflictQuery, ConflictReport, RuleChange
from agents_sdk.protocol.discovery import AgentInfo, Listing, ServiceQuery, Vocabulary
from agents_sdk.protocol.registration import AgentCommand, AgentQuery, Deregistered, Receipt, Registration
from agents_sdk.protocol.scaling import PolicyChange, ScalingQuery, ScalingReport
from agents_sdk.protocol.schema.query import Document, SchemaQuery
from agents_sdk.protocol.statistics import Empty, Presence, Statistics
from agents_sdk.protocol.telemetry import Ack, HealthReport, Heartbeat, PerformanceReport, ProblemReport, ReportReceipt


class Kind(StrEnum):
    """What an operation is for."""

    COMMAND = "command"
    """Changes something; answered when the change is durable."""
    REPORT = "report"
    """Says how an agent is; every replica hears it."""
    HINT = "hint"
    """Makes the registry look, and decides nothing."""
    QUERY = "query"
    """Changes nothing."""


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: Its subject after the prefix.
        kind: What it is for.
        summary: What it does, as `subjects.md` says it.
        request: The message that it takes.
        reply: The message that it answers with.
        errors: Codes that it answers with beyond those that every operation of its kind can; see `codes`.
    """

    name: str
    kind: Kind
    summary: str
    request: Any
    reply: Any
    errors: tuple[str, ...] = ()

    @property
    def agent_bound(self) -> bool:
        """Whether it is also served with an agent's id at the end of its subject."""
        return self.name in subjects.AGENT_BOUND

    @property
    def codes(self) -> tuple[str, ...]:
        """Every error code that it answers with."""
        bound = ("forbidden",) if self.agent_bound else ()
        command = ("overloaded", "unavailable") if self.kind is Kind.COMMAND else ()
        return tuple(dict.fromkeys((*_OF_EVERY_OPERATION, *bound, *command, *self.errors)))


_OF_EVERY_OPERATION = ("invalid_request", "payload_too_large", "internal")
_OF_A_REPORT = ("not_found", "stale_incarnation", "forbidden")
_OF_A_MOVE = ("not_found", "conflict", "stale_incarnation", "forbidden")

_OPERATIONS = (
    Operation(
        subjects.REGISTER, Kind.COMMAND, "registers an agent, or changes its registration",
        Registration, Receipt, ("already_registered", "conflict", "forbidden"),
    ),
    Operation(subjects.HEARTBEAT, Kind.REPORT, "says that an agent is alive", Heartbeat, Ack, _OF_A_REPORT),
    Operation(subjects.HEALTH, Kind.REPORT, "says how healthy an agent is", HealthReport, Ack, _OF_A_REPORT),
    Operation(
        subjects.PERFORMANCE, Kind.REPORT, "says how well an agent does", PerformanceReport, Ack, _OF_A_REPORT
    ),
    Operation(
        subjects.REPORT, Kind.HINT, "says that an agent cannot be reached",
        ProblemReport, ReportReceipt, ("not_found", "forbidden"),
    ),
    Operation(
        subjects.GET, Kind.QUERY, "shows one agent, and what its status rests on",
        AgentQuery, AgentInfo, ("not_found", "forbidden", "unavailable"),
    ),
    Operation(
        subjects.DISCOVER, Kind.QUERY, "finds agents, best first", ServiceQuery, Listing, ("unavailable",)
    ),
    Operation(
        subjects.ASSIGN, Kind.COMMAND, "finds an agent and reserves slots of it",
        AssignmentRequest, Grant, ("unavailable", "not_found"),
    ),
    Operation(
        subjects.RELEASE, Kind.COMMAND, "gives back what was reserved", ReleaseCommand, ReleaseReceipt, ("forbidden",)
    ),
    Operation(
        subjects.ASSIGNMENTS, Kind.QUERY, "lists what is reserved", AssignmentsQuery, AssignmentListing
    ),
    Operation(subjects.CAPABILITIES, Kind.QUERY, "lists the capabilities that may be used", Empty, Vocabulary),
    Operation(subjects.STATS, Kind.QUERY, "statistics of one replica", Empty, Statistics),
    Operation(subjects.REPLICAS, Kind.QUERY, "which replicas there are", Empty, Presence),
    Operation(subjects.SUSPEND, Kind.COMMAND, "takes an agent out of service", AgentCommand, AgentInfo, _OF_A_MOVE),
    Operation(subjects.RESUME, Kind.COMMAND, "puts an agent back into service", AgentCommand, AgentInfo, _OF_A_MOVE),
    Operation(
        subjects.DRAIN, Kind.COMMAND, "lets an agent finish its work and leave", AgentCommand, AgentInfo, _OF_A_MOVE
    ),
    Operation(
        subjects.DEREGISTER, Kind.COMMAND, "removes an agent",
        AgentCommand, Deregistered, ("not_found", "stale_incarnation", "forbidden"),
    ),
    Operation(
        subjects.SCALING_GET, Kind.QUERY, "how many agents there should be, and why", ScalingQuery, ScalingReport
    ),
    Operation(
        subjects.SCALING_SET, Kind.COMMAND, "changes a capability's scaling policy", PolicyChange, ScalingReport
    ),
    Operation(
        subjects.CONFLICT_SET, Kind.COMMAND, "sets a rule on what agents must not be together",
        RuleChange, ConflictReport, ("conflict",),
    ),
    Operation(
        subjects.CONFLICT_GET, Kind.QUERY, "lists the rules, and who breaks them", ConflictQuery, ConflictReport
    ),
    Operation(subjects.SCHEMA, Kind.QUERY, "this contract, for programs", SchemaQuery, Document),
)  # fmt: skip

OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in _OPERATIONS}
"""Name to operation, in the order of `subjects.md`. A new one is one entry here, and an example of its messages."""
