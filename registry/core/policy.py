"""A scaling policy: how a capability is scaled, and which policies make no sense."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core.errors import invalid

MIN_STEP_UP = 4
"""Without a `step_up` one order adds as many agents as there are, or so many if that is more: what Kubernetes' HPA does
in 15 s."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a capability is scaled. The first five defaults are the API reference's; durations are seconds."""

    min_agents: int = 2
    max_agents: int = 10
    high_load: float = 0.8
    low_load: float = 0.3
    health_degraded: float = 0.6
    target_load: float = 0.55
    """The mean load that a change of the number aims at."""
    tolerance: float = 0.1
    """A mean load that is off the target by no more than this share of it is right, as in Kubernetes' HPA. It matters
    when the thresholds are closer to the target than that."""
    looks: int = 4
    """The load is the mean of what so many looks saw; two at least, for one may have seen a spike. Those before the
    last order was carried out do not count. More evens out the loads of agents that do few things at a time."""
    stabilisation_up: float = 0.0
    """More are ordered when all looks within it asked for more, at least as many as the least of them."""
    stabilisation_down: float = 300.0
    """Fewer are ordered when all looks within it asked for fewer: down to the most of them, as in HPA."""
    panic_load: float = 0.9
    """When the last two looks saw this mean load, and it is above `high_load`, agents are full, and what they could not
    take is unknown: no further looks then, no stabilisation, and no step limit."""
    step_up: int | None = None
    """At most so many agents are added by one order; None for as many as there are, or `MIN_STEP_UP`."""
    step_down: int | None = None
    """At most so many agents are removed by one order; None for half of them."""
    warm_up: float = 30.0
    """For so long after it registered an agent takes its share only by and by: it is capacity, but its load is not
    averaged."""
    queue_weight: float = 1.0
    """What a piece of work that waits (metric `queue_depth`) counts as, against one that is done (a slot of load)."""
    replace_share: float = 0.1
    """Share of the agents that is replaced at a time; one at least."""
    order_timeout: float = 120.0
    """After this an order expires, and is issued again if it still has a reason."""
    dry_run: bool = False
    """Whether what would be ordered is only shown."""

    @property
    def up_above(self) -> float:
        """The mean load above which there are too few agents."""
        return max(self.high_load, self.target_load * (1 + self.tolerance))

    @property
    def down_below(self) -> float:
        """The mean load below which there are too many."""
        return min(self.low_load, self.target_load * (1 - self.tolerance))

    def most_added(self, count: int) -> int:
        """Return how many agents one order adds at most, to so many."""
        return max(count, MIN_STEP_UP) if self.step_up is None else self.step_up

    def most_removed(self, count: int) -> int:
        """Return how many agents one order removes at most, of so many."""
        return max(1, count // 2) if self.step_down is None else self.step_down

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
        if self.high_load >= 1.0:
            raise invalid("high_load", f"must be below 1, for no load is above that; got {self.high_load:g}")
        if self.up_above >= 1.0:
            most = f"target_load, {self.target_load:g}, and this share of it must be below 1"
            raise invalid("tolerance", f"{most}, for no load is above that; got {self.tolerance:g}")
        if not self.low_load < self.target_load <= self.high_load:
            between = f"low_load, {self.low_load:g}, and at most high_load, {self.high_load:g}"
            raise invalid("target_load", f"must be above {between}; got {self.target_load:g}")
        fewest = max(self.min_agents + 1, 2)
        carried = self.low_load * fewest / (fewest - 1)
        if fewest <= self.max_agents and carried >= self.high_load:
            then = f"one of {fewest} agents removed at low_load {self.low_load:g} leaves the others at {carried:g}"
            raise invalid("low_load", f"would oscillate: {then}, not below high_load {self.high_load:g}")
