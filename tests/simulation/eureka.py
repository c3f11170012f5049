"""Eureka's server, with and without self-preservation."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from random import Random

from tests.simulation.rule import Hearing, Judgement, Verdict

LEASE = 90.0
"""Seconds, nominal (`lease-expiration-duration-in-seconds`). A renewal sets the last update to now plus this, and
`Lease.isExpired` adds it once more: who has ever renewed is given 180 s, as a comment there admits."""

PERIOD = 60.0
"""Seconds between two passes (`eviction-interval-timer-in-ms`), and of the bucket that counts renewals."""

SHARE = 0.85
"""`renewal-percent-threshold`: with no more renewals a minute than this part of the expected, nothing expires; and no
pass evicts more than the rest of the registry."""


@dataclass(slots=True)
class _Server:
    hearing: Hearing
    read: list[int]
    """How many beats of each agent were handled."""
    updated: list[float]
    """Last update, as Eureka has it."""
    gone: dict[int, float] = field(default_factory=dict)
    """Evicted agents, with since when."""
    dead: list[Verdict] = field(default_factory=list)

    def hear(self, at: float) -> int:
        """Handle beats up to an instant; return how many renewed a lease. Who was evicted registers anew instead."""
        renewals = 0
        for agent, heard in enumerate(self.hearing.heard):
            place = self.read[agent]
            while place < len(heard) and heard[place] < at:
                beat = heard[place]
                place += 1
                since = self.gone.pop(agent, None)
                if since is None:
                    renewals += 1
                    self.updated[agent] = beat + LEASE
                else:
                    self.dead.append(Verdict(agent, since, beat))
                    self.updated[agent] = beat
            self.read[agent] = place
        return renewals


@dataclass(frozen=True, slots=True)
class Eureka:
    """Eureka's registry of one server (Netflix/eureka, `AbstractInstanceRegistry.java`: `evict`,
    `isLeaseExpirationEnabled`, `internalCancel`); beats each 30 s.

    Not counted is what comes after the registry knows: 30 s of response cache and 30 s until clients fetch. A pass that
    is late adds so much to every lease (`getCompensationTimeMs`).
    """

    preserves_itself: bool
    interval: float = 30.0
    is_eager: bool = False

    @property
    def name(self) -> str:
        """What the tables call it."""
        return "Eureka" if self.preserves_itself else "Eureka, no self-preservation"

    def judge(self, hearing: Hearing) -> Judgement:
        """Judge, a pass a minute."""
        agents, trace = range(len(hearing.heard)), hearing.trace
        chance = Random(f"{trace.seed} eureka")
        server = _Server(hearing, [0 for _ in agents], [0.0 for _ in agents])
        due = PERIOD
        while due < trace.duration:
            at = trace.awake(due)
            renewals = server.hear(at)
            here = [agent for agent in agents if agent not in server.gone and at < hearing.left(agent)]
            expected = int(len(here) * (60.0 / self.interval) * SHARE)
            if not self.preserves_itself or renewals > expected:
                self._evict(server, here, at, at - due, chance)
            due += PERIOD
        server.hear(inf)
        return Judgement(server.dead + [Verdict(agent, since) for agent, since in server.gone.items()])

    @staticmethod
    def _evict(server: _Server, here: list[int], at: float, late: float, chance: Random) -> None:
        expired = [agent for agent in here if at > server.hearing.last(server.updated[agent], at) + LEASE + late]
        limit = len(here) - int(len(here) * SHARE)
        for agent in chance.sample(expired, min(limit, len(expired))):
            server.gone[agent] = at
