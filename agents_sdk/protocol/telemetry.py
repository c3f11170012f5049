"""What agents report of themselves: heartbeats, health, performance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from agents_sdk.protocol.fields import AgentId, Count, Numbers, Score, Seconds, Text, Timestamp
from agents_sdk.protocol.model import Command, Reply, Telemetry


class _Ranked(BaseModel):
    """The metrics that the registry ranks by; out of bounds they are a mistake, for example a percentage."""

    success_rate: Score | None = None


def _check_ranked(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    if not 0.0 <= metrics.get("success_rate", 0.0) <= 1.0:
        _Ranked.model_validate(metrics)  # refuses it; pydantic adds where the metrics stand to what it finds
    return metrics


Metrics = Annotated[Numbers, AfterValidator(_check_ranked)]
"""Metric name to number, 64 at most."""


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

    @model_validator(mode="after")
    def _check_further(self) -> Self:
        further = self.model_extra or {}
        _check_ranked({name: value for name, value in further.items() if type(value) in (int, float)})
        return self


class PerformanceReport(Telemetry):
    """Performance metrics to merge into what is known.

    `requests_served` is the total so far. An `avg_*` metric is the average over the requests since the last report;
    it is merged into a running average weighted by them. Every other metric replaces the one known.
    """

    agent_id: AgentId
    incarnation: Count | None = None
    metrics: Metrics


class ProblemReport(Command):
    """Somebody could not reach an agent, or had trouble with it. A hint: the registry asks the agent itself."""

    agent_id: AgentId
    problem: Text
    """What happened, in a few words, for example `no responders` or `timeout`."""


class ReportReceipt(Reply):
    """The report was heard."""

    agent_id: str
    status: str
    verdict: str
    """What the evidence says of the agent now; see `evidence` of an agent."""
    probed: bool
    """Whether the agent is being asked because of it. It is not when it was asked within the last second, is offline,
    or has no health subject."""


class Ack(Reply):
    """The report was heard. It was taken, and renewed the lease, unless its `seq` was old."""

    agent_id: str
    status: str
    incarnation: int
    revision: int
    reserved: int = 0
    """Slots of the agent that assignments reserve."""
