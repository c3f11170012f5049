"""The course of a trace under a rule, thinned out for a picture."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from tests.simulation.scaling.score import needed
from tests.simulation.scaling.setting import TARGET
from tests.simulation.scaling.world import History

POINTS = 180
"""So many for a trace."""


@dataclass(frozen=True, slots=True)
class Course:
    """What there was at evenly spaced instants.

    Attributes:
        rule: The rule's name.
        trace: The trace's.
        minutes: The instants.
        needed: Agents that would have been right.
        desired: Agents that the rule asked for last.
        serving: Agents that served.
        load: Their load, the mean since the instant before.
    """

    rule: str
    trace: str
    minutes: tuple[float, ...]
    needed: tuple[int, ...]
    desired: tuple[int, ...]
    serving: tuple[int, ...]
    load: tuple[float, ...]


def course(history: History) -> Course:
    """Return the course that a history took."""
    trace = history.trace
    width = len(trace.demand) // POINTS
    at = range(width, len(trace.demand), width)
    right, asked = needed(trace, TARGET), [instant for instant, _ in history.asked]
    wanted = [history.serving[0], *(agents for _, agents in history.asked)]
    return Course(
        history.rule,
        trace.name,
        tuple(second / 60.0 for second in at),
        tuple(right[second] for second in at),
        tuple(wanted[bisect_right(asked, second)] for second in at),
        tuple(history.serving[second] for second in at),
        tuple(sum(history.load[second - width : second]) / width for second in at),
    )
