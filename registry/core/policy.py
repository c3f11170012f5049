"""A scaling policy: how a capability is scaled, and which policies make no sense."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.errors import invalid


@dataclass(frozen=True, slots=True)
class Policy:
    """How a capability is scaled. The defaults are the API reference's; durations are seconds."""

    min_agents: int = 2
    max_agents: int = 10
    high_load: float = 0.8
    low_load: float = 0.3
    health_degraded: float = 0.6
    target_load: float = 0.55
    stabilisation: float = 300.0
    order_timeout: float = 120.0

    def check(self) -> None:
        """Refuse a policy that contradicts itself or must oscillate.

        Raises:
            RefusedError: `invalid_request`, naming the field.
        """
        if self.min_agents > self.max_agents:
            raise invalid("min_agents", f"must be at most max_agents, {self.max_agents}; got {self.min_agents}")
        if self.max_agents < 1:
            raise invalid("max_agents", f"must be at least 1; got {self.max_agents}")
        if self.low_load >= self.high_load:
            raise invalid("low_load", f"must be below high_load, {self.high_load:g}; got {self.low_load:g}")
        if not self.low_load < self.target_load <= self.high_load:
            between = f"low_load, {self.low_load:g}, and at most high_load, {self.high_load:g}"
            raise invalid("target_load", f"must be above {between}; got {self.target_load:g}")
        fewest = max(self.min_agents + 1, 2)
        carried = self.low_load * fewest / (fewest - 1)
        if fewest <= self.max_agents and carried >= self.high_load:
            then = f"one of {fewest} agents removed at low_load {self.low_load:g} leaves the others at {carried:g}"
            raise invalid("low_load", f"would oscillate: {then}, not below high_load {self.high_load:g}")
