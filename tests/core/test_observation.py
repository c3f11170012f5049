"""What is seen of a capability: whose loads count, and what stands for those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from registry.core.observation import Sample, observe, to_wire
from registry.core.policy import Policy
from tests.core.make import make_agent

NOW, WALL = 1000.0, 8000.0


def look(*agents: Any, at: float = NOW, **policy: Any) -> Sample:
    return observe(agents, Policy(**policy), at, WALL)


def reporting(agent_id: str, load: float, **fields: Any) -> Any:
    return make_agent(agent_id, load=load, load_at=NOW, **fields)


def test_means():
    """Means are of the agents; the age is that of the oldest load that counts."""
    old = make_agent("a", load=0.2, load_at=NOW - 12.0, health=0.9)
    assert to_wire(look(old, reporting("b", 0.5)), pending=3) == {
        "agents": 2,
        "pending": 3,
        "mean_load": 0.35,
        "mean_health": 0.95,
        "sample_age": 12.0,
        "reporting": 2,
        "missing": 0,
        "starting": 0,
    }


def test_nobody():
    """Where nobody serves there are no means."""
    seen = look()
    assert (seen.agents, seen.mean, seen.least, seen.most, seen.health, seen.oldest) == (
        0,
        None,
        None,
        None,
        None,
        None,
    )


def test_stale_loads_do_not_count():
    """A load counts for three of its agent's heartbeat intervals, and not a moment longer."""
    agent = reporting("a", 0.5, heartbeat_interval=10.0)
    assert look(agent, at=NOW + 30.0).mean == 0.5
    assert look(agent, at=NOW + 30.1).mean is None


def test_missing_loads():
    """Who does not report is idle at the least, and full at the most."""
    seen = look(reporting("a", 0.6), make_agent("b"))
    assert (seen.mean, seen.least, seen.most, seen.missing) == (0.6, 0.3, 0.8, 1)


def test_who_starts():
    """Who registered a short while ago is not averaged, but carries what it says; it need not have said anything."""
    young = reporting("b", 0.1, registered_at=WALL - 10.0)
    seen = look(reporting("a", 0.9), young, make_agent("c", registered_at=WALL - 1.0))
    assert (seen.mean, seen.carried, seen.starting, seen.missing) == (0.9, 1.0, 2, 0)
    assert look(reporting("a", 0.9), young, warm_up=10.0).mean == 0.5


@pytest.mark.parametrize("registered_at", [WALL + 3600.0, WALL - 30.0])
def test_who_does_not_start(registered_at: float):
    """Whose registration is long ago, or in the future because the clock was set back."""
    assert look(reporting("a", 0.9, registered_at=registered_at)).starting == 0


def test_where_all_start():
    """Their loads are the only ones, unless somebody is missing who should report."""
    young = [reporting(name, 0.9, registered_at=WALL - 5.0) for name in "ab"]
    assert (look(*young).mean, look(*young).reporting) == (0.9, 2)
    assert look(*young, make_agent("silent")).reporting == 0


def test_the_unfit():
    """Who is to be replaced is an agent, but its load is not averaged, nor missed."""
    seen = look(reporting("a", 0.9), reporting("b", 0.1, health=0.5), make_agent("c", health=0.5))
    assert (seen.agents, seen.fit, seen.mean, seen.missing, seen.carried) == (3, 1, 0.9, 0, 0.9)


@pytest.mark.parametrize(
    ("metrics", "concurrency", "load"),
    [
        ({"queue_depth": 4.0}, 8, 1.5),
        ({"queue_depth": 4.0}, None, 5.0),
        ({"queue_depth": 0.0}, 8, 1.0),
        ({"queue_depth": -3.0}, 8, 1.0),
        ({"other": 7.0}, 8, 1.0),
    ],
)
def test_waiting_work(metrics: dict[str, float], concurrency: int | None, load: float):
    """Work that waits counts as work that is done, by the slots that an agent has."""
    assert look(reporting("a", 1.0, metrics=metrics, max_concurrency=concurrency)).mean == load
