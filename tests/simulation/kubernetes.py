"""Kubernetes' node lifecycle controller: leases of nodes, and the rate at which nodes are evicted, by zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from tests.simulation.rule import Hearing, Judgement, Verdict

GRACE = 40.0
"""Seconds without a renewed lease until a node is `Unknown` (`node-monitor-grace-period`)."""

PERIOD = 5.0
"""Seconds between two looks (`node-monitor-period`). A renewal counts from the look that notices it."""

RATE = 0.1
"""Nodes a second that are evicted in a zone (`node-eviction-rate`)."""

SLOW_RATE = 0.01
"""The same in a zone in trouble (`secondary-node-eviction-rate`)."""

UNHEALTHY = 0.55
"""Part of a zone from which on it is in trouble (`unhealthy-zone-threshold`), given more than two bad nodes."""

LARGE = 50
"""Nodes up to which a zone in trouble is not evicted at all (`large-cluster-size-threshold`)."""

ZONES = 3


@dataclass(slots=True)
class _Controller:
    hearing: Hearing
    read: list[int]
    noticed: list[float]
    unknown: dict[int, float] = field(default_factory=dict)
    tainted: dict[int, float] = field(default_factory=dict)
    next_at: list[float] = field(default_factory=lambda: [0.0] * ZONES)
    """When a zone's next eviction is allowed."""
    marks: list[Verdict] = field(default_factory=list)
    taints: list[Verdict] = field(default_factory=list)

    def look(self, at: float) -> None:
        """Notice renewals and mark who has not renewed in time."""
        for agent, heard in enumerate(self.hearing.heard):
            place = self.read[agent]
            while place < len(heard) and heard[place] < at:
                place += 1
            if place > self.read[agent]:
                self.read[agent], self.noticed[agent] = place, at
                self._ready(agent, at)
            elif at > self.hearing.last(self.noticed[agent], at) + GRACE and at < self.hearing.left(agent):
                self.unknown.setdefault(agent, at)

    def _ready(self, agent: int, at: float) -> None:
        for known, verdicts in ((self.unknown, self.marks), (self.tainted, self.taints)):
            since = known.pop(agent, None)
            if since is not None:
                verdicts.append(Verdict(agent, since, at))

    def evict(self, at: float) -> None:
        """Taint whom the rate of each zone allows."""
        here = [[a for a in range(z, len(self.noticed), ZONES) if at < self.hearing.left(a)] for z in range(ZONES)]
        bad = [sum(agent in self.unknown for agent in zone) for zone in here]
        if all(count == len(zone) for count, zone in zip(bad, here, strict=True)):
            return  # nobody is ready anywhere: the controller is the suspect
        for zone, agents in enumerate(here):
            rate = zone_rate(bad[zone], len(agents))
            for agent in sorted(agents, key=lambda agent: self.unknown.get(agent, inf)):
                due = self.next_at[zone]
                if agent not in self.unknown or not rate or due >= at + PERIOD:
                    break
                if agent not in self.tainted:
                    self.tainted[agent] = max(at, due)
                    self.next_at[zone] = max(at, due) + 1.0 / rate


def zone_rate(bad: int, of: int) -> float:
    """Return how many nodes a second are evicted in a zone, some other zone being well."""
    if bad == of:
        return RATE  # the whole zone is gone, and others are there to take its work
    if bad > 2 and bad / of >= UNHEALTHY:
        return SLOW_RATE if of > LARGE else 0.0
    return RATE


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """Nodes that renew a lease each 10 s, in three zones of equal size.

    Numbers: kubernetes.io "Nodes" and `pkg/controller/nodelifecycle` (`handleDisruption`, `ComputeZoneState`), as they
    were up to 1.31; 1.32 waits 50 s instead of 40.

    Attributes:
        evicts: Whether a verdict is the eviction, at the rate of the zone rule; else it is the condition `Unknown`,
            which takes a node's pods out of services. That evicted pods then wait 300 s is not counted.
    """

    evicts: bool
    interval: float = 10.0
    is_eager: bool = False

    @property
    def name(self) -> str:
        """What the tables call it."""
        return "Kubernetes, evicted" if self.evicts else "Kubernetes, unknown"

    def judge(self, hearing: Hearing) -> Judgement:
        """Judge, a look each 5 s."""
        count = len(hearing.heard)
        controller = _Controller(hearing, [0] * count, [0.0] * count)
        due = PERIOD
        while due < hearing.trace.duration:
            at = hearing.trace.awake(due)
            controller.look(at)
            if self.evicts:
                controller.evict(at)
            due = max(due + PERIOD, at + 1e-9)
        given, rest = controller.marks, controller.unknown
        if self.evicts:
            given, rest = controller.taints, controller.tainted
        return Judgement(given + [Verdict(agent, since) for agent, since in rest.items()])
