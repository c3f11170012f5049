"""What a loss costs: how long, again and again; and what callers noticed."""

from __future__ import annotations

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
