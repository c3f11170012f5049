"""How an agent is doing, measured while it works."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

SMOOTHING = 0.2
"""Weight of the newest response time in the running average."""

MOVED = 0.1
"""Load that differs this much from what was last reported is worth a report of its own."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The vitals at one instant; counts are totals since the agent started."""

    in_flight: int
    load_factor: float
    health_score: float
    response_time: float | None
    """Running average in seconds; None before the first request."""
    served: int
    failed: int
    seconds: float
    """Time spent on all served requests, summed up."""
    metrics: Mapping[str, float]
    """What the application reports of itself."""


class Vitals:
    """Counts what the work loop does, for the heart to report; safe to use from any thread.

    Args:
        max_concurrency: Requests that the agent does at once.
    """

    def __init__(self, max_concurrency: int) -> None:
        self._max_concurrency = max_concurrency
        self._lock = threading.Lock()
        self._in_flight = 0
        self._canaries = 0
        self._served = 0
        self._failed = 0
        self._seconds = 0.0
        self._response_time: float | None = None
        self._load_factor: float | None = None
        self._health_score = 1.0
        self._metrics: dict[str, float] = {}
        self._reported_load = 0.0

    def begin(self, canary: bool = False) -> bool:
        """Count a request as in flight; returns False if that would be one too many.

        Args:
            canary: Whether it is one, which is done like any other request but is nobody's work, and no load.
        """
        with self._lock:
            if self._in_flight + self._canaries >= self._max_concurrency:
                return False
            if canary:
                self._canaries += 1
            else:
                self._in_flight += 1
            return True

    def end_canary(self) -> None:
        """Take note that a canary is done."""
        with self._lock:
            self._canaries -= 1

    def end(self, seconds: float, *, failed: bool) -> None:
        """Count a request as done.

        Args:
            seconds: How long it took.
            failed: Whether it failed, by no fault of the caller.
        """
        with self._lock:
            self._in_flight -= 1
            self._served += 1
            self._failed += failed
            self._seconds += seconds
            if self._response_time is None:
                self._response_time = seconds
            else:
                self._response_time += SMOOTHING * (seconds - self._response_time)

    def report(
        self,
        load_factor: float | None = None,
        health_score: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Take what the application knows better; what is None stays as it is."""
        with self._lock:
            if load_factor is not None:
                self._load_factor = load_factor
            if health_score is not None:
                self._health_score = health_score
            self._metrics.update(metrics or {})

    def read(self) -> Reading:
        """Return the vitals now."""
        with self._lock:
            return Reading(
                in_flight=self._in_flight,
                load_factor=self._load(),
                health_score=self._health_score,
                response_time=self._response_time,
                served=self._served,
                failed=self._failed,
                seconds=self._seconds,
                metrics=dict(self._metrics),
            )

    def told(self, load_factor: float) -> None:
        """Take note that this load was reported."""
        with self._lock:
            self._reported_load = load_factor

    def moved(self) -> bool:
        """Return whether the load is another one than was reported; says so once for each move."""
        with self._lock:
            load = self._load()
            # Binary fractions: 0.1 above 0.2 is a little less than 0.3.
            if abs(load - self._reported_load) < MOVED - 1e-9:
                return False
            self._reported_load = load
            return True

    def _load(self) -> float:
        if self._load_factor is not None:
            return self._load_factor
        return self._in_flight / self._max_concurrency


def window(reading: Reading, before: Reading | None) -> dict[str, float]:
    """Return the performance metrics of the time between two readings.

    Args:
        reading: The later one.
        before: The last one that the registry took; None if it took none.
    """
    served, failed, seconds = reading.served, reading.failed, reading.seconds
    if before is not None:
        served, failed, seconds = served - before.served, failed - before.failed, seconds - before.seconds
    # A total, see PerformanceReport: the registry weighs averages by how much it grew.
    metrics = {"requests_served": float(reading.served)}
    if served:
        metrics["avg_response_time"] = seconds / served
        metrics["success_rate"] = 1.0 - failed / served
    return metrics
