"""Facts: everything that can happen to the registry. `at` is a monotonic instant in seconds, stamped on receipt.

`reply` is where the answer goes; the core passes it on without looking at it, None when nobody waits.
`identity` is who the NATS server says is asking; None where identities are not verified.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from registry.core.assignment_events import (
    AssignmentChanged,
    AssignmentRequested,
    AssignmentsCommitted,
    AssignmentsLearnt,
    AssignmentsListed,
    AssignmentsQueried,
    AssignmentsReplaced,
    AssignmentsUncertain,
    ReleaseRequested,
)
from registry.core.conflict_events import (
    RefusalTold,
    RuleChanged,
    RuleFound,
    RulePut,
    RuleRequested,
    RuleUnknown,
    ViolationChanged,
    ViolationLost,
    ViolationPut,
)
from registry.core.order import Orders
from registry.core.record import Record
from registry.core.service_events import ServiceDescribed, ServiceMeasured, ServiceSeen


@dataclass(slots=True)
class RegisterRequested:
    """An agent asks to be registered."""

    at: float
    reply: Any
    identity: str | None
    agent_type: str
    capabilities: tuple[str, ...]
    agent_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: str = "1.0.0"
    tags: tuple[str, ...] = ()
    instance_id: str | None = None
    heartbeat_interval: float | None = None
    heartbeat_timeout: float | None = None
    health_subject: str | None = None
    max_concurrency: int | None = None
    claims: tuple[str, ...] = ()
    canaries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    takeover: bool = False
    connection: Mapping[str, Any] | None = None
    adopted: Mapping[str, Any] | None = None
    """What it was adopted from, if the registry registers it by itself."""
    trace: str | None = None
    """W3C `traceparent` of the request; it goes into the event that the command leads to."""
    name: str | None = None
    """The sender's name for this one command, if it has one: it may then be sent again, and is carried out once."""
    write_id: str = ""
    """Names the write that the command leads to, the same however often it is decided; given by the core."""


class Verb(StrEnum):
    """What a command asks for an agent that exists."""

    DEREGISTER = "deregister"
    SUSPEND = "suspend"
    RESUME = "resume"
    DRAIN = "drain"


@dataclass(slots=True)
class CommandRequested:
    """Somebody asks for a change to an agent."""

    at: float
    reply: Any
    identity: str | None
    verb: Verb
    agent_id: str
    note: str | None = None
    incarnation: int | None = None
    """Which incarnation is meant; None for whichever is there."""
    trace: str | None = None
    name: str | None = None
    write_id: str = ""


@dataclass(slots=True)
class TelemetryReceived:
    """An agent reports; what is None was not reported. `busy_until` is a Unix time."""

    at: float
    reply: Any
    identity: str | None
    agent_id: str
    incarnation: int | None = None
    seq: int | None = None
    health_score: float | None = None
    load_factor: float | None = None
    metrics: Mapping[str, float] | None = None
    busy_until: float | None = None
    is_health_check: bool = False
    is_beat: bool = False
    """Whether it is one of those that come at regular intervals."""
    ack: bool = True
    """Whether a report that is taken is answered; one that is refused always is."""


class Outcome(StrEnum):
    """How a probe ended."""

    ANSWERED = "answered"
    NO_RESPONDERS = "no_responders"
    TIMEOUT = "timeout"


class Purpose(StrEnum):
    """Why an agent is probed."""

    HEALTH = "health"
    """It is its turn, or it is asked earlier than in turn as one of many."""
    HINT = "hint"
    """Something says that it may be gone."""
    HOLDER = "holder"
    """Another instance wants its id."""


@dataclass(slots=True)
class ProbeFinished:
    """A probe of an agent's health subject has ended."""

    at: float
    agent_id: str
    incarnation: int
    purpose: Purpose
    outcome: Outcome
    subject: str
    """Where it was sent."""
    took: float = 0.0
    """Seconds from when it was sent until it ended."""
    health_score: float | None = None
    load_factor: float | None = None


@dataclass(slots=True)
class CanaryFinished:
    """A canary of an agent has ended."""

    at: float
    agent_id: str
    incarnation: int
    capability: str
    run: int
    """Which run of it, as ordered."""
    passed: bool | None
    """None if it could not be judged, by no fault of the agent's."""
    why: str = ""
    """What was wrong, for people."""


@dataclass(slots=True)
class ProblemReported:
    """Somebody could not reach an agent, or had trouble with it. A hint, and no more."""

    at: float
    reply: Any
    identity: str | None
    agent_id: str
    problem: str


@dataclass(slots=True)
class ConnectionClosed:
    """A NATS server says that a client's connection has ended. A hint, and no more: names are anybody's to choose."""

    at: float
    name: str
    """What the client called itself."""
    server_id: str
    client_id: int
    reason: str
    """The server's words, for example `Client Closed` or `Stale Connection`."""


@dataclass(slots=True)
class ConnectionsWatched:
    """Whether the NATS servers tell this replica of connections that end."""

    at: float
    watched: bool


@dataclass(slots=True)
class WriteCommitted:
    """The bucket acknowledged a write."""

    at: float
    agent_id: str
    write_id: str
    revision: int


@dataclass(slots=True)
class WriteUncertain:
    """A write lost against another one, or its outcome is unknown: the bucket has to be read."""

    at: float
    agent_id: str
    write_id: str


@dataclass(slots=True)
class WriteRefused:
    """The bucket did not take a write and never will: the record is too large."""

    at: float
    agent_id: str
    write_id: str
    why: str


@dataclass(slots=True)
class RecordRead:
    """The bucket was read.

    Attributes:
        record: None when the key never existed, or what stands there is no record; a removed one says so in its change.
        readable: Whether what stands there is a record, or nothing.
    """

    at: float
    agent_id: str
    record: Record | None
    revision: int
    readable: bool = True


@dataclass(slots=True)
class ReadFailed:
    """The bucket could not be read."""

    at: float
    agent_id: str
    why: str = "JetStream does not answer"


@dataclass(slots=True)
class RecordChanged:
    """The bucket's log has a new entry, written by whomever. `record` is None when the key was removed by hand."""

    at: float
    agent_id: str
    record: Record | None
    revision: int
    swept: bool = False
    """Whether nothing older is left of the key: a removal that was swept, or ended by its own time."""


@dataclass(slots=True)
class BucketReplaced:
    """The bucket of agents is another one of the same name: its log begins again, with revision 1."""

    at: float


@dataclass(slots=True)
class BucketListed:
    """The bucket was gone through, because its log may not tell of all that went."""

    at: float
    agent_ids: Collection[str]
    """Of which it has any entry."""
    revision: int
    """What is newer was perhaps not there yet."""


@dataclass(slots=True)
class PoliciesReplaced:
    """The control bucket, of policies, orders and rules, is another one of the same name."""

    at: float


@dataclass(slots=True)
class PolicyRequested:
    """Somebody asks for a change of a capability's scaling policy. `changes` holds only what is to change."""

    at: float
    reply: Any
    capability: str
    changes: Mapping[str, Any]
    reset: bool = False


@dataclass(slots=True)
class RevisionAwaited:
    """The log is applied up to a revision, or has not come so far in time."""

    at: float
    agent_id: str
    revision: int
    reached: bool


@dataclass(slots=True)
class PolicyCommitted:
    """The bucket acknowledged the change of a capability's policy that was on its way."""

    at: float
    capability: str
    revision: int


@dataclass(slots=True)
class PolicyUncertain:
    """The change lost against another one, or its outcome is unknown: the bucket has to be read."""

    at: float
    capability: str


@dataclass(slots=True)
class PolicyRead:
    """The bucket was read. `policy` is None when the capability has none of its own; revision 0 if it never had."""

    at: float
    capability: str
    policy: Mapping[str, Any] | None
    revision: int
    readable: bool = True
    """Whether what stands there is a policy, or none."""


@dataclass(slots=True)
class PolicyReadFailed:
    """The bucket could not be read."""

    at: float
    capability: str
    why: str = "JetStream does not answer"


@dataclass(slots=True)
class PolicyChanged:
    """The bucket's log has a policy, written by whomever; None when the capability has none of its own any more."""

    at: float
    capability: str
    policy: Mapping[str, Any] | None
    revision: int
    readable: bool = True


@dataclass(slots=True)
class OrdersCommitted:
    """The bucket acknowledged the orders of a capability that were on their way."""

    at: float
    capability: str
    orders: Orders
    revision: int


@dataclass(slots=True)
class OrdersUncertain:
    """They lost against others, or the outcome is unknown: the bucket's log will tell."""

    at: float
    capability: str
    orders: Orders


@dataclass(slots=True)
class OrdersChanged:
    """The bucket's log has orders of a capability, written by whomever; what cannot be read counts as none."""

    at: float
    capability: str
    orders: Orders
    revision: int


@dataclass(slots=True)
class Connected:
    """NATS is there again, or for the first time."""

    at: float


@dataclass(slots=True)
class Disconnected:
    """NATS is away."""

    at: float


@dataclass(slots=True)
class PulseHeard:
    """A pulse has come back, and all that was delivered before it has been handled; see `path`."""

    at: float
    sent: float
    """Instant at which it was sent."""


@dataclass(slots=True)
class LeadershipChanged:
    """This replica leads now, or no longer does."""

    at: float
    leading: bool
    epoch: int


@dataclass(slots=True)
class Tick:
    """Time passes. `wall` is Unix time at the instant `at`."""

    at: float
    wall: float
    sure: bool = True
    """Whether this replica, if it leads, is sure to: its lease was renewed since it was away."""


Event = (
    RegisterRequested
    | CommandRequested
    | TelemetryReceived
    | ProbeFinished
    | CanaryFinished
    | ProblemReported
    | ServiceSeen
    | ServiceDescribed
    | ServiceMeasured
    | ConnectionClosed
    | ConnectionsWatched
    | WriteCommitted
    | WriteUncertain
    | WriteRefused
    | RecordRead
    | ReadFailed
    | RecordChanged
    | RevisionAwaited
    | BucketReplaced
    | BucketListed
    | PoliciesReplaced
    | PolicyRequested
    | PolicyCommitted
    | PolicyUncertain
    | PolicyRead
    | PolicyReadFailed
    | PolicyChanged
    | OrdersCommitted
    | OrdersUncertain
    | OrdersChanged
    | RuleRequested
    | RulePut
    | RuleFound
    | RuleUnknown
    | RuleChanged
    | ViolationPut
    | ViolationLost
    | ViolationChanged
    | RefusalTold
    | AssignmentRequested
    | ReleaseRequested
    | AssignmentsQueried
    | AssignmentsCommitted
    | AssignmentsUncertain
    | AssignmentsLearnt
    | AssignmentChanged
    | AssignmentsReplaced
    | AssignmentsListed
    | Connected
    | Disconnected
    | PulseHeard
    | LeadershipChanged
    | Tick
)
