"""An agent as one replica knows it: its durable record, and what was heard since."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from registry.core.evidence import NOTHING, Evidence
from registry.core.record import Record
from registry.core.rhythm import Rhythm
from registry.core.skills import skills_in
from registry.core.status import FAIR, HEALTHY, Status

UNKNOWN_SUCCESS_RATE = 0.5
"""What an agent that never reported a success rate is ranked with: proven success comes first."""

ASSUMED_CAPACITY = 10
"""Slots by which reservations of an agent become load, if it gave no `max_concurrency`; they are not limited by it."""


class Agent:
    """A record and the vitals heard since it was written. Instants are monotonic seconds, timestamps Unix seconds."""

    __slots__ = (
        "busy_until",
        "change_revision",
        "checkpoint_due",
        "counted",
        "doubted_at",
        "encoded",
        "evidence",
        "health",
        "heard",
        "lapse_at",
        "last_heartbeat",
        "load",
        "load_at",
        "metrics",
        "probe_at",
        "queue_at",
        "record",
        "reserved",
        "reserved_then",
        "revision",
        "rhythm",
        "seq",
        "signs",
        "since",
        "skills",
        "standing",
        "suspicion",
    )

    def __init__(self, record: Record, revision: int, heard: float, since: float, load_at: float | None) -> None:
        self.record = record
        self.skills = skills_in(record.metadata)
        """Ids of the skills in its agent card."""
        self.revision = revision
        self.change_revision = record.change_revision or revision
        self.heard = heard
        """Instant of the last sign of life."""
        self.since = since
        """Instant at which it took its status."""
        self.last_heartbeat = record.last_heartbeat
        self.health = record.health_score
        self.load = record.load_factor
        self.load_at = load_at
        """Instant of the last load report; None when there was none."""
        self.queue_at: float | None = None
        """Instant of the last report of its queue; None when there was none."""
        self.reserved = 0
        """Slots that assignments reserve of it now."""
        self.reserved_then = 0
        """Slots that they reserved when it last reported its load."""
        self.metrics: Mapping[str, float] = record.performance_metrics
        self.seq = -1
        self.signs = 0
        """Signs of life, counted."""
        self.busy_until = 0.0
        """Instant until which its silence means that it is busy."""
        self.lapse_at = 0.0
        """Instant before which the end of its lease is not ordered again."""
        self.probe_at = 0.0
        """Instant at which its next health check is due."""
        self.evidence = NOTHING
        """What was found out about it; `finding` before anything is added."""
        self.rhythm: Rhythm | None = None
        """How it beats, if it beats often."""
        self.suspicion = 0.0
        """How suspicious its silence is, 0.0 to 1.0."""
        self.doubted_at = 0.0
        """Instant at which its silence was last looked at."""
        self.standing = 1.0
        """What its rank is multiplied with, 0.0 to 1.0."""
        self.checkpoint_due = False
        self.counted: str | None = None
        """The bucket of the health distribution it is counted in; None while it is offline."""
        self.encoded: Any = None
        """A place for the shell's encoded form; dropped whenever the agent changes."""

    @property
    def agent_id(self) -> str:
        """Its id."""
        return self.record.agent_id

    @property
    def status(self) -> Status:
        """Its status."""
        return self.record.status

    @property
    def capacity(self) -> int:
        """How many slots reserved are all of its load."""
        return self.record.max_concurrency or ASSUMED_CAPACITY

    @property
    def load_elsewhere(self) -> float:
        """What it reported of its load beyond what was reserved of it then, 0.0 to 1.0."""
        if not self.reserved_then:
            return self.load
        return max(0.0, self.load - self.reserved_then / self.capacity)

    @property
    def effective_load(self) -> float:
        """Its load as of now, 0.0 to 1.0: what is reserved of it, whether begun or not, and its load from elsewhere."""
        if not (self.reserved or self.reserved_then):
            return self.load
        return min(1.0, self.load_elsewhere + self.reserved / self.capacity)

    @property
    def is_doubtful(self) -> bool:
        """Whether work is likely to be lost that it is given: for all that is known it may be gone, or hang."""
        return not self.standing or (self.evidence is not NOTHING and self.evidence.is_absence)

    def has_room(self, slots: int) -> bool:
        """Return whether so many slots of it can be reserved."""
        limit = self.record.max_concurrency
        if limit is None:
            return True
        return self.reserved + slots <= limit and (self.load < 1.0 or self.effective_load < 1.0)

    @property
    def performance(self) -> float:
        """The performance score, 0.0 to 1.0: 0.4 health + 0.3 (1 - effective load) + 0.3 success rate."""
        success = self.metrics.get("success_rate", UNKNOWN_SUCCESS_RATE)
        load = self.effective_load if self.reserved or self.reserved_then else self.load  # nearly always at once
        return 0.4 * self.health + 0.3 * (1.0 - load) + 0.3 * min(1.0, max(0.0, success))

    def finding(self) -> Evidence:
        """Return its evidence, to be added to."""
        if self.evidence is NOTHING:
            self.evidence = Evidence()
        return self.evidence

    def forget_absence(self) -> None:
        """What was found of its not being there, or not answering, counts no more."""
        if self.evidence is not NOTHING:
            self.evidence.forget_absence()

    def bucket(self) -> str:
        """Return which bucket of the health distribution it is in."""
        if self.health >= HEALTHY:
            return "healthy"
        return "degraded" if self.health >= FAIR else "unhealthy"


def merge_metrics(known: Mapping[str, float], reported: Mapping[str, float]) -> Mapping[str, float]:
    """Return the metrics after a report.

    `requests_served` is a total. An `avg_*` value is the average over the requests since the last report, and becomes
    part of a running average weighted by them; a report that does not say how many there were counts as one. A total
    that went back means that the agent started to count anew, and so do its averages. Every other metric is replaced.
    """
    merged = {**known, **reported}
    before = known.get("requests_served", 0.0)
    total = merged.get("requests_served", 0.0)
    if before > 0 and total >= before:
        weight = total - before or 1.0
        for name, value in reported.items():
            if name.startswith("avg_") and name in known:
                average = known[name] + (value - known[name]) * (weight / (before + weight))
                # What is finite can have a difference that is not, and what is not finite has no JSON.
                merged[name] = average if isfinite(average) else value
    return merged
