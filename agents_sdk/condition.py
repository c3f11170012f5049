"""What an agent tells of itself, in heartbeats and in answers to health checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents_sdk.health import HealthCheck
from agents_sdk.pulse import Pulse
from agents_sdk.vitals import Reading, Vitals, window

BLOCKED = 1.0
"""Seconds of lateness from which the work loop counts as blocked."""

OWN_METRICS = ("requests_served", "avg_response_time", "success_rate", "uptime", "work_loop_lag")
"""Metrics that are measured here; the application may report its own in their place."""


class Condition:
    """Puts together what is measured of an agent.

    Args:
        vitals: What its work loop counts.
        pulse: How late its work loop is.
        health: The application's own opinion, None if it has none.
        is_reachable: Whether requests reach it; see `Reach`.
    """

    def __init__(
        self,
        vitals: Vitals,
        pulse: Pulse,
        health: HealthCheck | None,
        is_reachable: Callable[[], bool] = lambda: True,
    ) -> None:
        self._vitals = vitals
        self._pulse = pulse
        self._health = health
        self._is_reachable = is_reachable
        self._taken: Reading | None = None
        self._said_out = False

    @property
    def is_blocked(self) -> bool:
        """Whether the work loop is too late to begin anything."""
        return self._pulse.lag() >= BLOCKED

    @property
    def is_out(self) -> bool:
        """Whether it could not begin anything new; then it counts as fully loaded."""
        return self.is_blocked or not self._is_reachable()

    @property
    def is_news(self) -> bool:
        """Whether the last beat said otherwise of that."""
        return self.is_out is not self._said_out

    async def beat(self, uptime: float | None) -> tuple[Reading, dict[str, Any]]:
        """Return a reading, and the fields of the heartbeat that reports it.

        Args:
            uptime: Percentage of the time in which the agent was registered and connected.
        """
        reading = self._vitals.read()
        self._said_out = self.is_out
        load = self._load(reading)
        self._vitals.told(load)
        metrics = {**window(reading, self._taken), "work_loop_lag": round(self._pulse.lag(), 6)}
        if uptime is not None:
            metrics["uptime"] = round(uptime, 3)
        metrics |= reading.metrics
        fields = {"health_score": await self._score(reading), "load_factor": load, "metrics": metrics}
        if reading.response_time is not None:
            fields["response_time"] = reading.response_time
        return reading, fields

    def taken(self, reading: Reading) -> None:
        """Take note that the registry has a reading: the next one counts from there."""
        if self._taken is None or reading.served >= self._taken.served:
            self._taken = reading

    async def answer(self) -> dict[str, Any]:
        """Return the answer to a health check."""
        reading = self._vitals.read()
        return {
            "status": "busy" if self.is_out else "ok",
            "health_score": await self._score(reading),
            "load_factor": self._load(reading),
            "in_flight": reading.in_flight,
            "work_loop_lag": round(self._pulse.lag(), 6),
        }

    def _load(self, reading: Reading) -> float:
        return 1.0 if self.is_out else min(1.0, reading.load_factor)

    async def _score(self, reading: Reading) -> float:
        return reading.health_score if self._health is None else await self._health.score()
