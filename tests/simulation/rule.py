"""What every rule is given and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from tests.simulation.life import End
from tests.simulation.trace import Trace


@dataclass(frozen=True, slots=True)
class Verdict:
    """Somebody is taken for dead. Instants are virtual seconds; infinity if it is never taken back."""

    agent: int
    at: float
    until: float = inf


@dataclass(slots=True)
class Hearing:
    """What a watcher hears, and when it can act.

    Attributes:
        trace: What happens.
        heard: For each agent the instants at which its beats are handled, earliest first. All registered at 0.
    """

    trace: Trace
    heard: list[list[float]]

    def left(self, agent: int) -> float:
        """Return when an agent deregistered; infinity if it did not."""
        life = self.trace.lives[agent]
        return life.ends if life.end is End.LEFT else inf

    def due(self, last: float, lease: float) -> float:
        """Return when a timer is due that the last sign of life set; a watcher that stands still is late for it.

        A watcher that was started anew begins every lease that had not ended anew: so do Kubernetes' controller, a
        Consul agent, Eureka after it has synchronised and Pekko's detector.
        """
        for begin, end in self.trace.downs:
            if last < end and last + lease >= begin:
                last = end
        return last + lease

    def last(self, last: float, at: float) -> float:
        """Return the last sign of life as a watcher remembers it that may have been started anew since."""
        for _, end in self.trace.downs:
            if last < end <= at:
                last = end
        return last


@dataclass(slots=True)
class Judgement:
    """What a rule says of a trace.

    Attributes:
        dead: Whom it takes for dead, in no order.
        busy: Whom it marks as not answering, or slow to, where a rule does that, with the reason.
    """

    dead: list[Verdict]
    busy: list[tuple[Verdict, str]] = field(default_factory=list)


class Rule(Protocol):
    """A rule."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    @property
    def interval(self) -> float:
        """Seconds between two beats of an agent."""

    @property
    def is_eager(self) -> bool:
        """Whether its agents beat as soon as they have a connection again."""

    def judge(self, hearing: Hearing) -> Judgement:
        """Judge."""
