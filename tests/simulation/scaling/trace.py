"""A trace: work that arrives. Instants and durations are virtual seconds; it begins at 0, after a lead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.simulation.scaling.setting import LEAD, PER_AGENT

Work = tuple[float, float]
"""When it arrives, and how long an agent has to work at it."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What arrives.

    Attributes:
        name: Of the shape.
        seed: Of all chance.
        demand: For each second, how many agents the work that arrives in the mean keeps at the target load.
        work: What arrives, earliest first, that of the lead, which is below 0, included.
        steps: When the demand rises at once.
    """

    name: str
    seed: int
    demand: tuple[float, ...]
    work: tuple[Work, ...]
    steps: tuple[float, ...] = ()

    @property
    def duration(self) -> float:
        """Its length."""
        return float(len(self.demand))


def arrivals(
    demand: Sequence[float], chance: Random, variation: Callable[[float], float], begin: int = 0
) -> list[float]:
    """Return instants at which work arrives.

    Args:
        demand: In agents at the target load, for each second.
        begin: The instant at which the demand begins.
        chance: Of the gaps.
        variation: Returns, for an instant, the coefficient of variation of the gaps between arrivals: 1.0 is a Poisson
            process; more comes in bursts, with gamma-distributed gaps.
    """
    instants = []
    passed = due = 0.0
    for second, agents in enumerate(demand, start=begin):
        rate = agents * PER_AGENT
        before, passed = passed, passed + rate
        while due < passed:
            instants.append(second + (due - before) / rate)
            square = variation(instants[-1]) ** 2
            due += chance.gammavariate(1.0 / square, square)
    return instants


def make(
    name: str,
    seed: int,
    demand: Sequence[float],
    service: Callable[[Random], float],
    variation: Callable[[float], float] = lambda _: 1.0,
    steps: tuple[float, ...] = (),
) -> Trace:
    """Return a trace with a demand; `service` draws how long a piece of work takes."""
    chance = Random(f"{seed} {name} work")
    lead = int(LEAD)
    instants = arrivals([demand[0]] * lead + list(demand), chance, variation, -lead)
    work = tuple((at, service(chance)) for at in instants)
    return Trace(name, seed, tuple(demand), work, steps)
