"""What a rule made of a trace, in numbers.

Under- and over-provisioning are those of the SPEC Research Group's elasticity metrics (Herbst et al., "Ready for
rain?", SPEC-RG-2016-01; Bauer et al., "Chamulteon", ICDCS'19), against the agents that keep the demand at the target
load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import ceil

from tests.simulation.scaling.setting import HIGH_LOAD, MAX_AGENTS, MIN_AGENTS, TARGET
from tests.simulation.scaling.trace import Trace
from tests.simulation.scaling.world import History

FLIP = 600.0
"""An order against the last one's direction within so many seconds is a flip."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one rule on one trace, or the mean of several.

    Attributes:
        rule: Its name.
        trace: The same.
        start: Seconds from an agent's order until it served.
        needed: Agent-seconds that would have been right.
        under: Agent-seconds that were missing, as part of those.
        over: Agent-seconds that were too many, the same.
        paid: Agent-seconds from each order until the agent was gone, the same: agents that start or finish cost, too.
        high: Share of time in which the load was above the upper bound.
        mean_wait: Of all work, s.
        p95_wait: The same.
        p99_wait: The same.
        orders: Changes that were ordered, an hour.
        flips: Orders against the direction of one not long before, an hour.
        recovery: Seconds from a step until nothing waited and the load could be below the upper bound; the mean over a
            trace's steps, 0.0 if it has none.
        violations: Seconds with fewer agents than the minimum, or more than the maximum.
    """

    rule: str
    trace: str
    start: float
    needed: float
    under: float
    over: float
    paid: float
    high: float
    mean_wait: float
    p95_wait: float
    p99_wait: float
    orders: float
    flips: float
    recovery: float
    violations: float


NUMBERS = tuple(one.name for one in fields(Score))[3:]


def needed(trace: Trace, load: float) -> list[int]:
    """Return how many agents keep the demand at a load, for each second."""
    return [max(MIN_AGENTS, min(MAX_AGENTS, ceil(round(agents * TARGET / load, 6)))) for agents in trace.demand]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return what a share of the values is not above."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def flips(orders: Sequence[tuple[float, int]]) -> int:
    """Count the orders that turn round what was ordered not long before."""
    return sum((one[1] > 0) != (two[1] > 0) and two[0] - one[0] <= FLIP for one, two in pairwise(orders))


def recovery(history: History) -> float:
    """Return the mean time until a step is caught up with; what is not caught up with counts until the end."""
    trace = history.trace
    enough = needed(trace, HIGH_LOAD)
    times = []
    for step in trace.steps:
        after = range(int(step) + 1, len(enough))
        caught = (at for at in after if history.serving[at] >= enough[at] and not history.queued[at])
        times.append(next(caught, len(enough)) - step)
    return sum(times) / len(times) if times else 0.0


def score(history: History) -> Score:
    """Score."""
    trace = history.trace
    right, have = needed(trace, TARGET), history.serving
    waits = sorted(history.waits)
    whole, hours = sum(right), trace.duration / 3600.0
    agents = [serving + starting for serving, starting in zip(have, history.starting, strict=True)]
    return Score(
        history.rule,
        trace.name,
        history.start,
        needed=whole,
        under=sum(max(0, want - got) for want, got in zip(right, have, strict=True)) / whole,
        over=sum(max(0, got - want) for want, got in zip(right, have, strict=True)) / whole,
        paid=history.paid / whole,
        high=sum(load > HIGH_LOAD for load in history.load) / len(history.load),
        mean_wait=sum(waits) / len(waits),
        p95_wait=percentile(waits, 0.95),
        p99_wait=percentile(waits, 0.99),
        orders=len(history.orders) / hours,
        flips=flips(history.orders) / hours,
        recovery=recovery(history),
        violations=sum(not MIN_AGENTS <= count <= MAX_AGENTS for count in agents),
    )


def mean(scores: Sequence[Score]) -> Score:
    """Return the mean of scores, under the first one's names."""
    return replace(scores[0], **{name: sum(getattr(one, name) for one in scores) / len(scores) for name in NUMBERS})


def means(scores: Sequence[Score], key: Callable[[Score], object]) -> list[Score]:
    """Return the mean of those that have a key in common, in the order in which it comes first."""
    groups: dict[object, list[Score]] = {}
    for one in scores:
        groups.setdefault(key(one), []).append(one)
    return [mean(group) for group in groups.values()]
