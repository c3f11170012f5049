"""What every rule is given and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tests.simulation.scaling.setting import SLOTS
from tests.simulation.scaling.trace import Trace


@dataclass(slots=True)
class Seen:
    """What is seen of a fleet. Nobody sees more.

    Attributes:
        at: When, in the trace's seconds.
        loads: What each serving agent said last of its load: in-flight work by slots, 0.0 to 1.0.
        silent: Agents that serve and have said nothing yet.
        starting: Agents that were ordered and do not serve yet.
        queued: Work that waits because nobody has a slot.
    """

    at: float
    loads: list[float]
    silent: int
    starting: int
    queued: int

    @property
    def serving(self) -> int:
        """Agents that serve."""
        return len(self.loads) + self.silent

    @property
    def agents(self) -> int:
        """Agents that serve or will; what other systems call replicas."""
        return self.serving + self.starting

    @property
    def concurrency(self) -> float:
        """Work in flight, as reported, and work that waits."""
        return sum(self.loads) * SLOTS + self.queued


@dataclass(frozen=True, slots=True)
class Order:
    """How many agents there should be.

    Attributes:
        desired: So many, those that are starting among them.
        victims: Who goes first, if fewer; then who has not started yet, then the youngest, as a ReplicaSet does it.
        adds: Whether it may add agents.
        removes: Whether it may take some away.
    """

    desired: int
    victims: tuple[int, ...] = ()
    adds: bool = True
    removes: bool = True


class Scaler:
    """A rule at work on one trace. Those that count agents need to say only what they want; ours hears more."""

    def look(self, seen: Seen) -> Order | None:
        """Return what there should be; None if nothing is to change."""
        raise NotImplementedError

    def joined(self, at: float, agent: int) -> None:
        """Take note that an agent serves."""

    def reported(self, at: float, agent: int, load: float, queued: float) -> None:
        """Hear an agent's load, and its share of what waits."""

    def drained(self, at: float, agent: int) -> None:
        """Take note that an agent was told to finish."""

    def left(self, at: float, agent: int) -> None:
        """Take note that an agent has finished."""


class Rule(Protocol):
    """A rule."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    @property
    def period(self) -> float:
        """Seconds between two looks."""

    def begin(self, trace: Trace, agents: int) -> Scaler:
        """Set to work on a trace that begins with so many agents."""
