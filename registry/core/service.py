"""A NATS micro service (ADR-32) as the registry sees it, and what it says of its work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from registry.core.record import Record

MICRO = "micro"
SYNADIA = "synadia"
PROTOCOLS = (MICRO, SYNADIA)
"""What a service can be adopted as; the wire's names."""

SYNADIA_SERVICE = "agents"
"""Every agent of the Synadia Agent Protocol is a micro service of this name."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""A name or id that can stand in a subject, and be an agent's id."""


@dataclass(frozen=True, slots=True)
class Service:
    """One instance of a micro service."""

    name: str
    id: str
    """Unique for each life of the process; becomes the agent's id."""

    @property
    def is_named(self) -> bool:
        """Whether name and id are what ADR-32 and the registry accept."""
        return _TOKEN.fullmatch(self.name) is not None and _TOKEN.fullmatch(self.id) is not None

    def subject(self, verb: str) -> str:
        """Return where this one instance is asked; `verb` is PING, INFO or STATS."""
        return f"$SRV.{verb}.{self.name}.{self.id}"


def service_of(record: Record) -> Service | None:
    """Return the service that an agent was adopted from; None if it registered itself.

    Anybody may have written the record: what could not be asked without harm is none.
    """
    if record.adopted is None:
        return None
    service = Service(str(record.adopted.get("service")), record.agent_id)
    return service if service.is_named else None


@dataclass(frozen=True, slots=True)
class Sample:
    """What a service has done since it was started, all endpoints together."""

    at: float
    """Instant at which it said so."""
    requests: int
    errors: int
    seconds: float
    """Spent on them, summed up; work that outlives its handler is not in it."""

    def since(self, before: Sample | None, concurrency: int) -> tuple[float | None, Mapping[str, float]]:
        """Return load and performance metrics of the time since a sample.

        The load is the mean number of requests that were worked on at once, as a part of how many it takes.

        Args:
            before: The earlier sample; None if there is none, and nothing is known of a load then.
            concurrency: How many requests the service takes at once.
        """
        metrics = {"requests_served": float(self.requests)}
        start = before if before is not None and before.requests <= self.requests else None
        requests, errors, seconds = self.requests, self.errors, self.seconds
        if start is not None:
            requests, errors, seconds = requests - start.requests, errors - start.errors, seconds - start.seconds
        if requests > 0:
            metrics["success_rate"] = min(1.0, max(0.0, 1.0 - errors / requests))
            metrics["avg_response_time"] = max(0.0, seconds) / requests
        if start is None or self.at <= start.at:
            return None, metrics
        return min(1.0, max(0.0, seconds) / ((self.at - start.at) * concurrency)), metrics
