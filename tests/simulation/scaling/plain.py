"""What needs no documentation: thresholds, and a fleet that is as large as it ever has to be."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tests.simulation.scaling.rule import Order, Scaler, Seen
from tests.simulation.scaling.setting import HIGH_LOAD, LOW_LOAD, MAX_AGENTS, MIN_AGENTS
from tests.simulation.scaling.trace import Trace


class _Steps(Scaler):
    def look(self, seen: Seen) -> Order | None:
        if not seen.loads:
            return None
        load = sum(seen.loads) / len(seen.loads)
        if load > HIGH_LOAD:
            return Order(min(seen.agents + 1, MAX_AGENTS))
        if load < LOW_LOAD:
            return Order(max(seen.agents - 1, MIN_AGENTS))
        return None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """One more above 0.8, one less below 0.3, each 15 s: the API reference's thresholds and nothing besides."""

    name: str = "thresholds"
    period: float = 15.0

    def begin(self, trace: Trace, agents: int) -> Scaler:
        """Set to work."""
        return _Steps()


class _Fixed(Scaler):
    def __init__(self, agents: int) -> None:
        self._order = Order(agents)

    def look(self, seen: Seen) -> Order | None:
        return self._order


@dataclass(frozen=True, slots=True)
class Static:
    """As many as the highest demand takes, all the time; whoever runs such a fleet knows the future."""

    name: str = "static, for the peak"
    period: float = 60.0

    def begin(self, trace: Trace, agents: int) -> Scaler:
        """Set to work."""
        return _Fixed(min(MAX_AGENTS, ceil(max(trace.demand))))
