"""Fixed time to live: who is silent longer than a number of seconds is dead. Consul and Synadia are of this kind."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from tests.simulation.rule import Hearing, Judgement, Verdict


@dataclass(frozen=True, slots=True)
class FixedTtl:
    """Dead is who was silent longer than `ttl` seconds; a timer an agent, and the next beat takes the verdict back."""

    name: str
    interval: float
    ttl: float
    is_eager: bool = False

    def judge(self, hearing: Hearing) -> Judgement:
        """Judge."""
        dead = []
        for agent, heard in enumerate(hearing.heard):
            over = min(hearing.left(agent), hearing.trace.duration)
            last = 0.0
            for at in (*heard, inf):
                if at - last > self.ttl:
                    expiry = hearing.trace.awake(hearing.due(last, self.ttl))
                    if expiry < min(at, over):
                        dead.append(Verdict(agent, expiry, at))
                last = at
        return Judgement(dead)


def consul() -> FixedTtl:
    """Return Consul's TTL check: critical once it was not updated for its TTL, passing with the next update.

    Consul leaves both numbers to the user. These are Spring Cloud Consul's defaults (`HeartbeatProperties.java`: `ttl`
    30 s, `intervalRatio` 2/3, so a beat each 20 s); that a beat so late races with the TTL is its issue 13. That the
    service is removed (`deregister_critical_service_after`, 60 s and more) comes later and is not counted.
    """
    return FixedTtl("Consul TTL", interval=20.0, ttl=30.0)


def synadia() -> FixedTtl:
    """Return the rule of the Synadia Agent Protocol for NATS v0.3: online while the last beat is at most 90 s old.

    Beats each 30 s, `DEFAULT_LIVENESS_SLACK = 3` intervals (`heartbeat.py:39`, `tracker.ts:18` of
    synadia-ai/synadia-agents@afae9a2).
    """
    return FixedTtl("Synadia", interval=30.0, ttl=90.0)


MULTIPLES = (1.5, 2.0, 3.0, 5.0, 10.0)
"""Intervals that the fixed rules of the second table wait."""


def sweep(interval: float) -> list[FixedTtl]:
    """Return fixed rules on the very beats that ours has."""
    return [FixedTtl(f"TTL {times:g} x {interval:g} s", interval, times * interval, True) for times in MULTIPLES]
