"""From checked messages to the core's facts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents_sdk.protocol.assignments import AssignmentRequest, AssignmentsQuery, ReleaseCommand
from agents_sdk.protocol.conflicts import RuleChange
from agents_sdk.protocol.registration import AgentCommand, Registration
from agents_sdk.protocol.scaling import PolicyChange
from agents_sdk.protocol.telemetry import HealthReport, Heartbeat, PerformanceReport, ProblemReport
from registry.core.assignment_events import (
    AssignmentRequested,
    AssignmentsQueried,
    ReleaseRequested,
)
from registry.core.conflict_events import RuleRequested
from registry.core.errors import invalid
from registry.core.events import (
    CommandRequested,
    PolicyRequested,
    ProblemReported,
    RegisterRequested,
    TelemetryReceived,
    Verb,
)
from registry.shell.replies import Reply
from registry.shell.rules import wanted_rule
from registry.shell.wire import to_wanted


def registration(message: Registration, at: float, reply: Reply | None, identity: str | None) -> RegisterRequested:
    """Return the fact that an agent asks to be registered."""
    fields = dict(message.__dict__)
    if message.connection is not None:
        fields["connection"] = dict(message.connection.__dict__)
    fields["canaries"] = {name: canary.model_dump() for name, canary in message.canaries.items()}
    return RegisterRequested(at, reply, identity, **fields)


def command(verb: str) -> Callable[[AgentCommand, float, Reply | None, str | None], CommandRequested]:
    """Return what makes the fact that somebody asks `verb` of an agent."""
    asked = Verb(verb)

    def make(message: AgentCommand, at: float, reply: Reply | None, identity: str | None) -> CommandRequested:
        return CommandRequested(at, reply, identity, asked, message.agent_id, message.reason, message.incarnation)

    return make


def heartbeat(message: Heartbeat, at: float, reply: Reply | None, identity: str | None) -> TelemetryReceived:
    """Return the fact that an agent's heart beat."""
    metrics = message.metrics
    if message.response_time is not None:
        metrics = {**(metrics or {}), "response_time": message.response_time}
    return TelemetryReceived(
        at, reply, identity, message.agent_id, message.incarnation, message.seq,
        message.health_score, message.load_factor, metrics, message.busy_until, is_beat=True,
    )  # fmt: skip


def health(message: HealthReport, at: float, reply: Reply | None, identity: str | None) -> TelemetryReceived:
    """Return the fact that an agent reported its health; further numbers that it sent are metrics."""
    metrics: dict[str, Any] = {
        name: value
        for name, value in (message.model_extra or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if message.response_time is not None:
        metrics["response_time"] = message.response_time
    return TelemetryReceived(
        at, reply, identity, message.agent_id, message.incarnation, None,
        message.health_score, message.load_factor, metrics, None, is_health_check=True,
    )  # fmt: skip


def performance(message: PerformanceReport, at: float, reply: Reply | None, identity: str | None) -> TelemetryReceived:
    """Return the fact that an agent reported its performance."""
    return TelemetryReceived(at, reply, identity, message.agent_id, message.incarnation, metrics=message.metrics)


def problem(message: ProblemReport, at: float, reply: Reply | None, identity: str | None) -> ProblemReported:
    """Return the fact that somebody reports a problem with an agent."""
    return ProblemReported(at, reply, identity, message.agent_id, message.problem)


def policy_change(message: PolicyChange, at: float, reply: Reply | None, _: str | None) -> PolicyRequested:
    """Return the fact that somebody asks for another scaling policy."""
    return PolicyRequested(at, reply, message.capability, changes_in(message), message.reset)


def rule_change(message: RuleChange, at: float, reply: Reply | None, _: str | None) -> RuleRequested:
    """Return the fact that somebody asks for another rule.

    Raises:
        RefusedError: If it is none.
    """
    return RuleRequested(at, reply, message.name, wanted_rule(message), message.revision)


def assignment(message: AssignmentRequest, at: float, reply: Reply | None, identity: str | None) -> AssignmentRequested:
    """Return the fact that somebody asks for slots of an agent.

    Raises:
        RefusedError: If the version specifier is not one, or it is not said which task's assignment to renew.
    """
    query, task_id = to_wanted(message), message.task_id or ""
    if message.renew and not task_id:
        raise invalid("task_id", "must be given with renew, which is of the assignment that the task has")
    return AssignmentRequested(
        at, reply, identity, query, task_id, message.slots, message.ttl, message.wait, message.renew
    )


def release(message: ReleaseCommand, at: float, reply: Reply | None, identity: str | None) -> ReleaseRequested:
    """Return the fact that somebody says that the work of an assignment is done.

    Raises:
        RefusedError: If neither the assignment nor its task is named, or both are.
    """
    if (message.assignment_id is None) == (message.task_id is None):
        given = "neither" if message.task_id is None else "both"
        raise invalid("assignment_id", f"exactly one of assignment_id and task_id must be given; got {given}")
    return ReleaseRequested(at, reply, identity, message.assignment_id, message.agent_id, message.task_id)


def assignments(message: AssignmentsQuery, at: float, reply: Reply | None, _: str | None) -> AssignmentsQueried:
    """Return the fact that somebody asks which assignments live."""
    return AssignmentsQueried(at, reply, message.agent_id, message.task_id, message.limit)


def changes_in(message: PolicyChange) -> dict[str, Any]:
    """Return what a change of a policy sets."""
    return message.model_dump(exclude={"capability", "reset"}, exclude_none=True)
