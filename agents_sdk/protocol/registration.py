"""Registering and deregistering, and the commands that name one agent."""

from __future__ import annotations

from pydantic import Field

from agents_sdk.protocol.canary import Canaries
from agents_sdk.protocol.fields import (
    AgentId,
    Capabilities,
    Concurrency,
    Count,
    Flag,
    HealthSubject,
    HeartbeatInterval,
    HeartbeatTimeout,
    JsonObject,
    Name,
    Names,
    Text,
    Timestamp,
)
from agents_sdk.protocol.model import Command, Reply
from agents_sdk.protocol.vocabulary import AgentStatus


class Connection(Command):
    """The NATS connection an agent speaks through, so that its closing can be noticed."""

    server_id: Name
    """Id of the NATS server, as in its INFO."""
    client_id: Count
    """Number of the connection on that server."""


class Registration(Command):
    """What an agent says of itself when it registers."""

    agent_type: Name
    """Type of agent, for example `trading_agent`."""
    capabilities: Capabilities
    """What it can do; at least one, read case-insensitively."""
    agent_id: AgentId | None = None
    """Stable id; the registry makes one when it is left out."""
    metadata: JsonObject = Field(default_factory=dict)
    """Free-form object, at most 16 KiB as JSON and 64 levels deep; `a2a_card` in it must be an A2A agent card."""
    version: Name = "1.0.0"
    """Version of the agent's software."""
    tags: Names = ()
    """Labels to search by."""
    instance_id: Name | None = None
    """One life of the process; the same one may register again freely, another one is refused while this one lives."""
    heartbeat_interval: HeartbeatInterval | None = None
    """Seconds between two heartbeats, 0.1 to 3600; the registry's setting, by default 30, when left out."""
    heartbeat_timeout: HeartbeatTimeout | None = None
    """Seconds of silence after which the lease lapses; three intervals when left out."""
    health_subject: HealthSubject | None = None
    """Subject on which the agent answers health checks; without one it lives by its heartbeats alone."""
    max_concurrency: Concurrency | None = None
    """How many tasks it takes at once."""
    claims: Names = ()
    """Resources it holds alone; a claim held by another live agent is refused."""
    takeover: Flag = False
    """Take the id over from a live holder, whose heartbeats are then refused as stale."""
    canaries: Canaries = Field(default_factory=dict)
    """For capabilities of its own, by name: a request with a known answer, which the registry sends now and then."""
    connection: Connection | None = None
    """The NATS connection the agent speaks through."""


class Receipt(Reply):
    """The registration is durable."""

    agent_id: str
    status: AgentStatus
    incarnation: int
    """Grows with each new instance of the same id, from 1; heartbeats may carry it."""
    revision: int
    """Revision of the agent's record in the bucket."""
    heartbeat_interval: float
    """Seconds between two heartbeats that the registry expects."""
    heartbeat_timeout: float
    """Seconds of silence after which the lease lapses."""
    registered_at: Timestamp


class AgentCommand(Command):
    """A command that names one agent: deregister, suspend, resume, drain."""

    agent_id: AgentId
    incarnation: Count | None = None
    """Which incarnation is meant; another one is left alone."""
    reason: Text | None = None
    """Why, in a few words; it stands in the log and in the event's `note`."""


class AgentQuery(Command):
    """A question about one agent."""

    agent_id: AgentId
    min_revision: Count = 0
    """Answer only from a state at least this new, or with 503 `unavailable`."""


class Deregistered(Reply):
    """Whether there was an agent to deregister."""

    agent_id: str
    deregistered: bool
    """False when no such agent was registered."""
    revision: int | None = None
    """Revision of the removal in the bucket; absent when nothing was removed."""
