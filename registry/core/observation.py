"""What is seen of a capability: how many agents serve it, and what they carry.

A load counts while its report is fresh. What is missing is not guessed: it counts as nothing where it would speak for
more agents, and as full where it would speak for fewer, so that missing reports alone never scale anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from registry.core.agent import Agent
from registry.core.policy import Policy

FRESH = 3
"""A load report older than this many heartbeat intervals does not count."""

QUEUE_DEPTH = "queue_depth"
"""The metric in which an agent says how much work waits for it."""

UNKNOWN_CONCURRENCY = 1
"""Slots of an agent that does not say how many it has; a queue is counted against them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look saw of a capability.

    Attributes:
        at: Instant of the look.
        agents: Agents that can take work.
        fit: Of these, those that are not to be replaced.
        starting: Of the fit, those that registered a short while ago.
        reporting: Of the fit, those whose load counts in the mean.
        missing: Of the fit, those that should have reported a load, and have not.
        carried: The loads of all that reported, summed up; waiting work counts.
        loads: The same of those in the mean.
        health: Mean health of the agents; None when there is none.
        oldest: Age in seconds of the oldest load that counts; None when there is none.
    """

    at: float
    agents: int
    fit: int
    starting: int
    reporting: int
    missing: int
    carried: float
    loads: float
    health: float | None
    oldest: float | None

    @property
    def mean(self) -> float | None:
        """The mean load of those that report; None if nobody does."""
        return self.loads / self.reporting if self.reporting else None

    @property
    def least(self) -> float | None:
        """The mean load if those that do not report carry nothing."""
        known = self.reporting + self.missing
        return self.loads / known if self.reporting else None

    @property
    def most(self) -> float | None:
        """The mean load if those that do not report are full."""
        known = self.reporting + self.missing
        return (self.loads + self.missing) / known if self.reporting else None


def observe(serving: Iterable[Agent], policy: Policy, at: float, wall: float) -> Sample:
    """Look at the agents that can take work of a capability.

    Args:
        serving: These agents.
        policy: By which they are scaled.
        at: The instant now.
        wall: Unix time now, s.
    """
    agents = fit = starting = missing = 0
    health = 0.0
    settled: list[float] = []
    fresh: list[float] = []
    oldest: float | None = None
    for agent in serving:
        agents += 1
        health += agent.health
        if agent.health < policy.health_degraded:
            continue
        fit += 1
        is_starting = 0.0 <= wall - agent.record.registered_at < policy.warm_up
        starting += is_starting
        age = load_age(agent, at)
        if age is not None:
            (fresh if is_starting else settled).append(pressure(agent, policy, at))
            oldest = age if oldest is None else max(age, oldest)
        elif not is_starting:
            missing += 1
    averaged = settled or ([] if missing else fresh)  # a capability that begins has nobody but those who start
    mean_health = health / agents if agents else None
    carried = sum(settled) + sum(fresh)
    return Sample(at, agents, fit, starting, len(averaged), missing, carried, sum(averaged), mean_health, oldest)


def load_age(agent: Agent, at: float) -> float | None:
    """Return how old an agent's load report is, s; None if there is none that counts."""
    if agent.load_at is None:
        return None
    age = at - agent.load_at
    return age if age <= FRESH * agent.record.heartbeat_interval else None


def pressure(agent: Agent, policy: Policy, at: float) -> float:
    """Return what an agent carries, as a share of what it can: more than 1 when work waits for it.

    What is reserved of it is load, begun or not.
    """
    load = agent.effective_load
    if agent.queue_at is None or at - agent.queue_at > FRESH * agent.record.heartbeat_interval:
        return load
    waiting = max(0.0, agent.metrics.get(QUEUE_DEPTH, 0.0))
    return load + policy.queue_weight * waiting / (agent.record.max_concurrency or UNKNOWN_CONCURRENCY)


def to_wire(sample: Sample, pending: int) -> dict[str, Any]:
    """Return what the wire says of a look, and of agents that were ordered and are not there yet."""
    return {
        "agents": sample.agents,
        "pending": pending,
        "mean_load": None if sample.mean is None else round(sample.mean, 4),
        "mean_health": None if sample.health is None else round(sample.health, 4),
        "sample_age": None if sample.oldest is None else round(sample.oldest, 3),
        "reporting": sample.reporting,
        "missing": sample.missing,
        "starting": sample.starting,
    }
