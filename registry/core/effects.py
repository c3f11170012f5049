"""Orders: everything the core can ask the shell to do. How each one ended comes back as an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.core.agent import Agent
from registry.core.assignment import Assignment
from registry.core.clash import Clash
from registry.core.conflict_events import RuleRequested
from registry.core.errors import RefusedError
from registry.core.events import Purpose
from registry.core.order import Orders
from registry.core.record import Record
from registry.core.service import Service
from registry.core.violation import Violation


@dataclass(slots=True)
class PutRecord:
    """Write a record if the key's revision is still `expected`; 0 means that there must be none.

    Ends in `WriteCommitted`, `WriteUncertain` or `WriteRefused`.
    """

    record: Record
    expected: int
    removed: bool = False
    """Write it as a removal: the key reads as deleted, the log keeps what it was."""


@dataclass(slots=True)
class ReadRecord:
    """Read a key from the bucket's leader. Ends in `RecordRead` or `ReadFailed`."""

    agent_id: str


@dataclass(slots=True)
class AwaitRevision:
    """Wait until the log has been applied up to a revision. Ends in `RevisionAwaited`."""

    agent_id: str
    revision: int


@dataclass(slots=True)
class SweepRemoval:
    """Replace what the log still has of a removed agent by a marker that ends by itself, if nothing newer came.

    Not before the events of all that it replaces are in the stream. The log shows when it has taken place.
    """

    agent_id: str
    revision: int


@dataclass(slots=True)
class SendReply:
    """Answer a request with fields, with an agent, or with a refusal."""

    to: Any
    body: Mapping[str, Any] | Agent | RefusedError


@dataclass(slots=True)
class Probe:
    """Ask an agent's health subject. Ends in `ProbeFinished`."""

    agent_id: str
    incarnation: int
    subject: str
    purpose: Purpose
    timeout: float
    """Seconds to wait for the answer."""
    repeat_after: float | None = None
    """Seconds after which it is sent once more if no answer came: one may be lost."""
    delay: float = 0.0
    """Seconds to wait first."""


@dataclass(slots=True)
class RunCanary:
    """Send an agent a canary, and compare the answer with what is expected. Ends in `CanaryFinished`."""

    agent_id: str
    incarnation: int
    capability: str
    run: int
    """Tells this run from others of the same canary."""
    subject: str
    payload: Mapping[str, Any]
    expect: Mapping[str, Any]
    timeout: float
    """Seconds that the answer may take."""


@dataclass(slots=True)
class CallServices:
    """Call micro services on these subjects; each that answers is a `ServiceSeen`."""

    subjects: Sequence[str]


@dataclass(slots=True)
class DescribeService:
    """Ask a service what it is, and the NATS servers for its connection. Ends in `ServiceDescribed`."""

    service: Service


@dataclass(slots=True)
class MeasureService:
    """Ask a service how much it has done. Ends in `ServiceMeasured`."""

    service: Service
    incarnation: int


@dataclass(slots=True)
class ShareVitals:
    """Tell every replica, this one too, how an adopted agent does, who cannot say so by itself."""

    agent_id: str
    incarnation: int
    load_factor: float | None
    metrics: Mapping[str, float]


@dataclass(slots=True)
class TellAgent:
    """Publish to a topic of an agent."""

    agent_id: str
    topic: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class PublishOrder:
    """Publish a scaling order."""

    order: Mapping[str, Any]
    perhaps_again: bool = False
    """Whether an earlier leader may have published it: then only if the stream does not have it."""


@dataclass(slots=True)
class Announce:
    """Publish that something happened to the registry itself."""

    what: str
    epoch: int
    number: int
    """Tells it apart from others of its kind in the same epoch."""
    details: Mapping[str, Any]


@dataclass(slots=True)
class PutOrders:
    """Write a capability's orders if their revision is still `expected`; 0 means that it never had any.

    Ends in `OrdersCommitted` or `OrdersUncertain`.
    """

    capability: str
    orders: Orders
    expected: int


@dataclass(slots=True)
class PutPolicy:
    """Write a capability's policy, or remove it, if its revision is still `expected`; 0 means that it never had one.

    Ends in `PolicyCommitted` or `PolicyUncertain`.
    """

    capability: str
    policy: Mapping[str, Any] | None
    expected: int


@dataclass(slots=True)
class ReadPolicy:
    """Read a capability's policy from the bucket's leader. Ends in `PolicyRead` or `PolicyReadFailed`."""

    capability: str


@dataclass(slots=True)
class PutRule:
    """Write the rule that was asked for, or remove it, if its revision is still `expected`; 0 if there never was one.

    Ends in `RulePut`, in `RuleFound` if it lost or that is not known, or in `RuleUnknown`.
    """

    request: RuleRequested
    expected: int
    attempts: int
    """How often it was decided."""


@dataclass(slots=True)
class PutViolation:
    """Write what is told of a rule, or remove it, if its revision is still `expected`.

    Ends in `ViolationPut` or `ViolationLost`.
    """

    rule: str
    violation: Violation | None
    expected: int


@dataclass(slots=True)
class PublishConflict:
    """Publish that a registration was refused, that agents break a rule, or that they no longer do."""

    event: Mapping[str, Any]


@dataclass(slots=True)
class TellLeader:
    """Pass on to the leader, who publishes, that a registration was refused."""

    clash: Clash


@dataclass(slots=True)
class CommitAssignments:
    """Write assignments, in this order and all of them or none, if the log of the bucket ends at `expected`.

    Ends in `AssignmentsCommitted` or `AssignmentsUncertain`.
    """

    number: int
    """Tells it from other commits."""
    expected: int
    entries: Sequence[Assignment]
    """Those that have ended are written as removals."""


@dataclass(slots=True)
class LearnAssignments:
    """Wait until the bucket's log has been heard up to where it ends now. Ends in `AssignmentsLearnt`."""

    number: int
    """Tells it from others."""


Effect = (
    PutRecord
    | ReadRecord
    | AwaitRevision
    | SweepRemoval
    | SendReply
    | Probe
    | RunCanary
    | CallServices
    | DescribeService
    | MeasureService
    | ShareVitals
    | TellAgent
    | PublishOrder
    | Announce
    | PutOrders
    | PutPolicy
    | ReadPolicy
    | PutRule
    | PutViolation
    | PublishConflict
    | TellLeader
    | CommitAssignments
    | LearnAssignments
)
