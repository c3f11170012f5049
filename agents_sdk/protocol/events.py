"""What the registry announces on `registry.events.>`, with CloudEvents headers in binary mode."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field, ValidationError

from agents_sdk.protocol.model import Reply
from agents_sdk.protocol.vocabulary import AgentStatus, ConflictKind

EVENT_VERSION = 1
"""Version of the form of events; grows when a field changes its meaning, not when one is added."""


class StatusEvent(Reply):
    """An agent's registration or status changed, and the change is durable."""

    v: int = EVENT_VERSION
    """Version of this form; see `EVENT_VERSION`."""
    event_id: str
    """The same for every copy of the same event: bucket, when it was made (Unix ms), and revision."""
    agent_id: str
    agent_type: str
    capabilities: list[str]
    previous: AgentStatus | None = Field(alias="from")
    """In JSON `from`; `registering` for an agent that was not there before."""
    status: AgentStatus = Field(alias="to")
    """In JSON `to`."""
    reason: str
    note: str | None = None
    """What the caller gave as `reason`."""
    removed: bool
    """True when the record is gone; `to` is then the last status it had."""
    incarnation: int
    revision: int
    previous_revision: int
    """Revision of the agent's event before this one; 0 for the first. A different one seen last means a gap."""
    epoch: int | None = None
    """Of the leader, if the registry decided the change by itself; None for one that was asked for."""
    at: float
    """Unix time in seconds."""

    @property
    def log(self) -> str:
        """The log that `revision` is a position in: bucket, and when it was made."""
        return self.event_id.rpartition(":")[0]


class RegistryEvent(Reply):
    """Something happened to the registry itself."""

    v: int = EVENT_VERSION
    """Version of this form; see `EVENT_VERSION`."""
    event_id: str
    what: str
    """`leader_changed`, `protection_on` or `protection_off`."""
    replica: str
    epoch: int
    at: float
    cause: str | None = None
    """Of protection: `silence`, `unreachable`, `lateness` or `outage`; see `protection` in the statistics."""
    late_agents: int | None = None
    """Of protection: how many agents were late then."""
    unreachable_agents: int | None = None
    """Of protection: how many did not answer or were not there when asked, and were not heard of since."""
    live_agents: int | None = None
    """Of protection: how many there were that should not be."""


class AssignmentLost(Reply):
    """An assignment ended otherwise than by its release."""

    v: int = EVENT_VERSION
    """Version of this form; see `EVENT_VERSION`."""
    event_id: str
    """The same for every copy: bucket, when it was made (Unix ms), and revision."""
    what: str
    """`assignment_lost`."""
    assignment_id: str
    task_id: str
    agent_id: str
    incarnation: int
    """Of the agent, when it was assigned."""
    slots: int
    fencing_token: int
    reason: str
    """`expired`, why its agent went offline or was removed, or `takeover`: another instance has the agent's id."""
    at: float
    """Unix time in seconds."""


class ConflictEvent(Reply):
    """A registration was refused for a claim or a rule; or agents break a rule, or no longer do."""

    v: int = EVENT_VERSION
    """Version of this form; see `EVENT_VERSION`."""
    event_id: str
    """The same for every copy."""
    kind: ConflictKind
    rule: str | None
    """Name of the rule; None if it is about a claim."""
    claim: str | None
    """The claim; None if it is about a rule."""
    agents: list[str]
    """Who was refused, and who was there before; or who breaks the rule, at most 100; nobody when that is over."""
    total: int
    """How many agents are in conflict, beyond those that are named, too."""
    refused: bool
    """Whether a registration was refused, so that nothing is in conflict now."""
    resolved: bool
    """Whether the rule is broken by nobody any more."""
    message: str
    """The same for people."""
    epoch: int
    """Of the leader."""
    at: float
    """Unix time in seconds."""


def says_something_new(error: ValidationError) -> bool:
    """Return whether all that is wrong with an event is a word that is not known here, such as a new status."""
    return all(fault["type"] == "enum" for fault in error.errors(include_url=False, include_context=False))


CE_TYPES = {
    "status": "registry.agent.status",
    "scaling": "registry.scaling.order",
    "registry": "registry.state",
    "assignment": "registry.assignment.lost",
    "conflict": "registry.conflict",
}


def cloud_event_headers(event_id: str, kind: str, source: str, subject: str, at: float) -> dict[str, str]:
    """Return the headers of an event.

    Args:
        event_id: Unique id; also `Nats-Msg-Id`, by which JetStream drops a second copy.
        kind: A key of `CE_TYPES`.
        source: The registry, a URI reference such as `/registry`.
        subject: What the event is about: an agent id or a capability.
        at: Unix time in seconds.

    Source: CloudEvents NATS protocol binding 1.0.3-wip, binary mode; no value here needs its encoding.
    """
    return {
        "Nats-Msg-Id": event_id,
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": CE_TYPES[kind],
        "ce-source": source,
        "ce-subject": subject,
        "ce-time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z",
        "ce-datacontenttype": "application/json",
    }
