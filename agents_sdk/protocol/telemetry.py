"""What agents report of themselves: heartbeats, health, performance."""

from __future__ import annotations

from pydantic import ConfigDict

from agents_sdk.protocol.fields import AgentId, Count, Metrics, Score, Seconds, Timestamp
from agents_sdk.protocol.model import Reply, Telemetry


class Heartbeat(Telemetry):
    """The agent is alive; whatever else it carries replaces what was known."""

    agent_id: AgentId
    incarnation: Count | None = None
    """From the receipt; a beat with an older one is refused."""
    seq: Count | None = None
    """Counts the beats since the registration; one that comes again, or after the next one, is dropped."""
    health_score: Score | None = None
    load_factor: Score | None = None
    response_time: Seconds | None = None
    """Recent response time in seconds."""
    metrics: Metrics | None = None
    """Performance metrics to merge into what is known."""
    busy_until: Timestamp | None = None
    """Unix time until which silence means busy rather than dead; bounded by the registry."""


class HealthReport(Telemetry):
    """Health as the agent sees it. Further numeric fields are kept as metrics."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    agent_id: AgentId
    incarnation: Count | None = None
    health_score: Score | None = None
    load_factor: Score | None = None
    response_time: Seconds | None = None
    """Recent response time in seconds."""


class PerformanceReport(Telemetry):
    """Performance metrics to merge into what is known.

    `requests_served` is the total so far. An `avg_*` metric is the average over the requests since the last report;
    it is merged into a running average weighted by them. Every other metric replaces the one known.
    """

    agent_id: AgentId
    incarnation: Count | None = None
    metrics: Metrics


class Ack(Reply):
    """The report was heard. It was taken, and renewed the lease, unless its `seq` was old."""

    agent_id: str
    status: str
    incarnation: int
    revision: int
