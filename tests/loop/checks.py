"""What must be so in a run of the loop, whatever the shape."""

from __future__ import annotations

from tests.loop.play import Course

STEP_UP = 0.25
STEP_DOWN = 0.75
"""Shares of the time at which the step rises and falls, in `examples/load.py`."""

CAPACITY = 16.0
"""Calls a second that keep one agent busy: four at once, a quarter of a second each."""


def within_bounds(course: Course, from_: float = 0.0) -> list[str]:
    """Return when there were fewer agents than the least, or more than the most."""
    plan = course.plan
    return [
        f"{seen.at:.1f} s: {seen.agents} agents"
        for seen in course.between(from_, plan.seconds)
        if not plan.min_agents <= seen.agents <= plan.max_agents
    ]


def start_time(course: Course) -> float:
    """Return how long the first agents took from their order until they served, s."""
    first = next(at for at, order in course.orders if order.action == "scale_up")
    return next(seen.at for seen in course.seen if seen.agents >= course.plan.min_agents) - first


def caught_up(course: Course) -> float:
    """Return how long after the step there were agents enough to keep the load below `high_load`, s."""
    plan = course.plan
    begins = STEP_UP * plan.seconds
    needed = plan.high / CAPACITY / 0.8
    return next(seen.at for seen in course.between(begins, plan.seconds) if seen.agents >= needed) - begins


def fell_back(course: Course) -> float | None:
    """Return how long after the fall only the least were left, s; None if they were not in the end."""
    begins = STEP_DOWN * course.plan.seconds
    back = [seen.at for seen in course.seen if seen.at > begins and seen.agents <= course.plan.min_agents]
    return back[0] - begins if back else None


def flips(course: Course, begin: float, end: float) -> list[str]:
    """Return orders up and down within a time in which the load is steady."""
    orders = course.ordered(begin, end)
    return [f"{order.action} to {order.desired}: {order.reason}" for order in orders if order.action != "replace"]
