"""What a loss costs: how long, again and again; and what callers noticed."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field

from bench.callers import Calls


@dataclass
class Spans:
    """Times from a loss until something works again."""

    loss: str
    until: str
    limit: float | None = None
    """Seconds that none may take, where that is promised."""
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def longest(self) -> float:
        return max(self.seconds)

    @property
    def ok(self) -> bool:
        return self.limit is None or self.longest <= self.limit


@dataclass
class Noticed:
    """What callers noticed of losses."""

    loss: str
    calls: Calls
    wrong: dict[str, list[str]] | None = None
    """Agents whose events are not those of the commands that were acknowledged; None where that is not looked at."""


@dataclass
class Losses:
    """All that was measured of one kind of loss."""

    spans: list[Spans]
    noticed: list[Noticed]

    def as_json(self) -> dict:
        return asdict(self)


@dataclass
class Detection:
    """Times from the loss of an agent until an observer hears of it."""

    loss: str
    until: str
    aim: float
    """Seconds within which 99 of 100 losses are to be heard of."""
    seconds: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """The reason that each event told."""
    otherwise: list[str] = field(default_factory=list)
    """Whatever else was told, and of whom; nothing should be."""

    def percentile(self, percent: float) -> float:
        """Return the time that so many of 100 did not exceed."""
        return sorted(self.seconds)[max(0, math.ceil(len(self.seconds) * percent / 100) - 1)]

    @property
    def ok(self) -> bool:
        return self.percentile(99) <= self.aim and not self.otherwise

    def as_json(self) -> dict:
        percentiles = {f"p{percent}": self.percentile(percent) for percent in (50, 99, 100)}
        return {**asdict(self), **percentiles, "ok": self.ok}
