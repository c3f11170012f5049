"""What the registry and an agent say to each other on the agent's own topics."""

from __future__ import annotations

from agents_sdk.protocol.fields import Score, Timestamp
from agents_sdk.protocol.model import Reply, Telemetry

HEALTH_CHECK = "health_check"
"""Topic on which an agent is asked how it is, by convention: it registers the subject."""

ASSIGNMENT_HEADER = "Agent-Registry-Assignment"
TOKEN_HEADER = "Agent-Registry-Fencing-Token"
"""Headers of requests for which the agent was assigned; whoever calls writes them."""


class HealthAnswer(Telemetry):
    """How an agent is. Any answer to a health check says that it lives; scores that make sense are taken."""

    status: str | None = None
    """For people."""
    health_score: Score | None = None
    load_factor: Score | None = None


class DrainNotice(Reply):
    """The agent is to take no new work, finish what it has, and leave."""

    agent_id: str
    reason: str
    """Why, as whoever asked for it said; `drain` otherwise."""
    deadline: Timestamp
    """Unix time in seconds at which it is removed anyway."""
