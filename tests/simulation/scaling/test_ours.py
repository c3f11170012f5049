"""Our own rule, which is the real core."""

from __future__ import annotations

import pytest

from tests.simulation.scaling.ours import Ours, Replica
from tests.simulation.scaling.rule import Seen
from tests.simulation.scaling.run import PLAIN
from tests.simulation.scaling.setting import BEAT, LEAD, MAX_AGENTS, MIN_AGENTS, START
from tests.simulation.scaling.shapes import step
from tests.simulation.scaling.world import play


def watched(load: float, agents: int, seconds: float) -> tuple[Replica, list]:
    """Return a replica that is told of a load for so long, and what it ordered."""
    replica, orders, at = Replica(Ours().policy, "by hand"), [], -LEAD
    for agent in range(agents):
        replica.joined(at, agent)
    while at < seconds - LEAD:
        for agent in range(agents):
            replica.reported(at, agent, load, 0.0)
        for _ in range(round(BEAT / Ours().period)):
            at += Ours().period
            orders += [(at, order)] if (order := replica.look(Seen(at, [load] * agents, 0, 0, 0))) else []
    return replica, orders


def test_a_load_above_the_bound_leads_to_an_order_for_more():
    _, orders = watched(0.9, agents=4, seconds=60.0)
    assert orders[0][1].desired > 4
    assert (orders[0][1].adds, orders[0][1].removes) == (True, False)


def test_a_load_below_the_bound_leads_in_time_to_an_order_that_names_who_goes():
    replica, orders = watched(0.1, agents=4, seconds=600.0)
    order = orders[0][1]
    assert (order.adds, order.removes, len(order.victims)) == (False, True, 4 - order.desired)
    for agent in order.victims:
        replica.drained(600.0 - LEAD, agent)
        replica.left(600.0 - LEAD, agent)
    assert replica.agents == order.desired


def test_a_load_between_them_leads_to_none():
    assert watched(0.55, agents=4, seconds=600.0)[1] == []


@pytest.mark.parametrize("shape", PLAIN)
def test_the_bounds_are_kept_and_every_order_changes_something(shape):
    history = play(Ours(), shape(1), START)
    agents = [serving + starting for serving, starting in zip(history.serving, history.starting, strict=True)]
    assert MIN_AGENTS <= min(agents) <= max(agents) <= MAX_AGENTS
    assert all(MIN_AGENTS <= desired <= MAX_AGENTS for _, desired in history.asked)
    assert len(history.orders) == sum(at >= 0.0 for at, _ in history.asked)


def test_a_step_is_caught_up_with():
    history = play(Ours(), step(1), START)
    assert max(history.serving[600:1200]) >= 16 > history.serving[599]
    assert history.serving[-1] < max(history.serving)
