"""The subjects of the wire contract: the only place where one is built or parsed.

Every subject starts with a prefix, `registry` unless configured otherwise, so that two registries can share an account.
A subject that names one agent is also served in its *agent-bound form* `<subject>.<agent_id>`, to which NATS
permissions can bind an identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agents_sdk.protocol.errors import Detail, ForbiddenError, InvalidRequestError
from agents_sdk.protocol.fields import AGENT_ID_PATTERN, PATTERN_IN_WORDS

DEFAULT_PREFIX = "registry"

REGISTER = "register"
DEREGISTER = "deregister"
SUSPEND = "suspend"
RESUME = "resume"
DRAIN = "drain"
HEARTBEAT = "heartbeat"
HEALTH = "health"
PERFORMANCE = "performance"
DISCOVER = "discover"
GET = "get"
STATS = "stats"
CAPABILITIES = "capabilities"
REPORT = "report"
SCALING_GET = "scaling.get"
SCALING_SET = "scaling.set"
CONFLICT_GET = "conflict.get"
CONFLICT_SET = "conflict.set"
REPLICAS = "replicas"
ASSIGN = "assign"
RELEASE = "release"
ASSIGNMENTS = "assignments"
SCHEMA = "schema"

AGENT_BOUND = (REGISTER, DEREGISTER, SUSPEND, RESUME, DRAIN, HEARTBEAT, HEALTH, PERFORMANCE, REPORT, GET, RELEASE)
"""Operations that are also served as `<subject>.<agent_id>`."""

TELEMETRY = (HEARTBEAT, HEALTH, PERFORMANCE)
"""Operations that every replica hears, and takes; the leader answers."""

COMMANDS = (REGISTER, DEREGISTER, SUSPEND, RESUME, DRAIN)
"""Operations that change an agent."""

MESSAGE_ID = "Nats-Msg-Id"
"""Header that names a command, so that it is carried out once however often it is sent. JetStream gives it that
meaning for what is published."""

LED = (SCALING_GET, SCALING_SET, CONFLICT_GET, CONFLICT_SET, REPORT, ASSIGN, RELEASE, ASSIGNMENTS)
"""Operations that every replica hears, and the leader alone takes."""

SHARED = (*COMMANDS, GET, DISCOVER, STATS, CAPABILITIES, SCHEMA)
"""Operations that go to one replica, by a queue group. Each replica serves them under its own name, too."""

OPERATIONS = (
    *AGENT_BOUND, DISCOVER, STATS, CAPABILITIES, SCALING_GET, SCALING_SET, CONFLICT_GET, CONFLICT_SET, REPLICAS, ASSIGN,
    ASSIGNMENTS, SCHEMA,
)  # fmt: skip

EVENT_KINDS = ("status", "scaling", "conflict", "registry", "assignment")

_AGENT_ID = re.compile(AGENT_ID_PATTERN)
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class Subjects:
    """Builds and parses the subjects of one registry.

    Args:
        prefix: First token or tokens of every subject.

    Raises:
        ValueError: If the prefix is not made of letters, digits, `_`, `-` and inner dots.
    """

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        """Check the prefix once, so that no subject built from it can be malformed."""
        if _PREFIX.fullmatch(self.prefix) is None:
            raise ValueError(f"prefix: {self.prefix!r} must be letters, digits, _ and -, in tokens joined by dots")

    def operation(self, name: str, agent_id: str | None = None, replica_id: str | None = None) -> str:
        """Return the subject of an operation: agent-bound when an agent is given, one replica's when one is named."""
        start = self.prefix if replica_id is None else self.replica(replica_id)
        return f"{start}.{name}" if agent_id is None else f"{start}.{name}.{agent_id}"

    @staticmethod
    def bound(operation: str) -> str:
        """Return the pattern that receives every agent-bound form of an operation's subject, ill-formed ids too."""
        return f"{operation}.>"

    @staticmethod
    def agent_id_of(subject: str, operation: str) -> str | None:
        """Return the agent id that follows an operation's subject, or None for the plain form.

        Raises:
            InvalidRequestError: If what follows is not an agent id.
        """
        start = len(operation) + 1
        if len(subject) < start:
            return None
        agent_id = subject[start:]
        if _AGENT_ID.fullmatch(agent_id) is None:
            message = f"in the subject must be {PATTERN_IN_WORDS[AGENT_ID_PATTERN]}; got {agent_id[:150]!r}"
            raise InvalidRequestError(f"agent_id: {message}", [Detail("agent_id", message)])
        return agent_id

    def status_event(self, status: str, agent_id: str) -> str:
        """Return the subject on which an agent's change to `status` is announced."""
        return f"{self.prefix}.events.status.{status}.{agent_id}"

    def scaling_event(self, action: str, capability: str) -> str:
        """Return the subject of scaling orders."""
        return f"{self.prefix}.events.scaling.{action}.{capability}"

    def registry_event(self, what: str) -> str:
        """Return the subject on which the registry speaks of itself."""
        return f"{self.prefix}.events.registry.{what}"

    def conflict_event(self, kind: str) -> str:
        """Return the subject on which conflicts of a kind are announced."""
        return f"{self.prefix}.events.conflict.{kind}"

    def loss_event(self, agent_id: str) -> str:
        """Return the subject on which the loss of an agent's assignment is announced."""
        return f"{self.prefix}.events.assignment.lost.{agent_id}"

    @property
    def all_events(self) -> str:
        """The pattern that receives every event."""
        return f"{self.prefix}.events.>"

    def events_of(self, kind: str) -> str:
        """Return the pattern that receives the events of one kind, see `EVENT_KINDS`."""
        return f"{self.prefix}.events.{kind}.>"

    @property
    def events_stream(self) -> str:
        """Name of the JetStream stream that keeps the events."""
        return f"{self._name.upper()}_EVENTS"

    @property
    def agents_bucket(self) -> str:
        """Name of the KV bucket that holds one record an agent."""
        return f"{self._name}_agents"

    @property
    def control_bucket(self) -> str:
        """Name of the KV bucket that holds scaling policies, rules and the leader's lease."""
        return f"{self._name}_control"

    @property
    def assignments_bucket(self) -> str:
        """Name of the KV bucket that holds one assignment a key."""
        return f"{self._name}_assignments"

    @property
    def service(self) -> str:
        """Name of the NATS micro service, and of the queue group."""
        return self._name

    @property
    def refusals(self) -> str:
        """The subject on which replicas tell the leader whom they refused for a conflict."""
        return f"{self.prefix}.replicas.refused"

    def replica(self, replica_id: str) -> str:
        """Return the subject on which one replica answers for itself."""
        return f"{self.prefix}.replica.{replica_id}"

    def pulse(self, replica_id: str) -> str:
        """Return the subject on which one replica hears itself, to know that it would hear agents."""
        return f"{self.replica(replica_id)}.pulse"

    @property
    def vitals(self) -> str:
        """The subject on which the leader tells all replicas how an adopted agent does."""
        return f"{self.prefix}.vitals"

    @property
    def _name(self) -> str:
        return self.prefix.replace(".", "-")


def agent_topic(agent_id: str, topic: str) -> str:
    """Return the subject of an agent's topic, for example `agent.trader-1.health_check`."""
    return f"agent.{agent_id}.{topic}"


def check_same_agent(in_subject: str, in_payload: str | None) -> None:
    """Refuse a payload that speaks of another agent than the subject it came on.

    Raises:
        ForbiddenError: If both are there and differ.
    """
    if in_payload is not None and in_payload != in_subject:
        differs = f"{in_payload[:150]!r} differs from {in_subject!r} in the subject"
        message = f"{differs}; send it on its own subject or leave it out"
        raise ForbiddenError(f"agent_id: {message}", [Detail("agent_id", message)])
