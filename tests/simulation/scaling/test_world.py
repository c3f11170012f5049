"""The fleet and what is played to it: nothing is lost, nobody is asked for more than there is."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from random import Random
from statistics import fmean

import pytest

from tests.simulation.scaling.fleet import Fleet, Stage
from tests.simulation.scaling.rule import Order, Scaler, Seen
from tests.simulation.scaling.run import RULES
from tests.simulation.scaling.setting import LEAD, MAX_AGENTS, MIN_AGENTS, PER_AGENT, SERVICE, SLOTS
from tests.simulation.scaling.shapes import exponential, flash_crowd, step
from tests.simulation.scaling.trace import make
from tests.simulation.scaling.world import play


class _Script(Scaler):
    def __init__(self, orders: dict[int, Order]) -> None:
        self._orders = orders
        self.heard: list[tuple[str, int]] = []
        self.seen: list[Seen] = []

    def look(self, seen: Seen) -> Order | None:
        self.seen.append(seen)
        return self._orders.get(int(seen.at))

    def joined(self, at: float, agent: int) -> None:
        self.heard.append(("joined", agent))

    def drained(self, at: float, agent: int) -> None:
        self.heard.append(("drained", agent))

    def left(self, at: float, agent: int) -> None:
        self.heard.append(("left", agent))


@dataclass
class Scripted:
    """Orders what is written down, by the second."""

    orders: dict[int, Order]
    name: str = "scripted"
    period: float = 1.0

    def begin(self, trace, agents):
        self.scaler = _Script(self.orders)
        return self.scaler


def played(orders, demand, start=20.0, seed=1):
    rule = Scripted(orders)
    return play(rule, make("by hand", seed, demand, exponential), start), rule.scaler


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("shape", [step, flash_crowd])
def test_what_came_in_was_done_or_is_under_way_or_waits(rule, shape):
    history = play(rule, shape(1), 60.0)
    assert history.done + history.in_flight + history.waiting == len(history.trace.work)
    assert len(history.waits) == sum(arrived >= 0.0 for arrived, _ in history.trace.work)
    assert min(history.waits) >= 0.0
    assert len(history.serving) == len(history.trace.demand)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("demand", [0.3, 3.0 * MAX_AGENTS])
def test_nobody_goes_beyond_the_bounds(rule, demand):
    history = play(rule, make("by hand", 1, [4.0] * 60 + [demand] * 900, exponential), 5.0)
    agents = [serving + starting for serving, starting in zip(history.serving, history.starting, strict=True)]
    assert MIN_AGENTS <= min(agents) <= max(agents) <= MAX_AGENTS
    assert all(MIN_AGENTS <= desired <= MAX_AGENTS for _, desired in history.asked)


def test_the_same_trace_is_played_the_same_again():
    for rule in RULES:
        assert play(rule, step(1), 20.0) == play(rule, step(1), 20.0)


# Seven agents are 28 servers of an M/M/c queue, whose mean wait is known.
def test_work_waits_as_long_as_queueing_theory_says():
    servers, offered = 7 * SLOTS, 11.0 * PER_AGENT * SERVICE
    tail = offered**servers / factorial(servers) * servers / (servers - offered)
    waits = tail / (sum(offered**n / factorial(n) for n in range(servers)) + tail)
    expected = waits * SERVICE / (servers - offered)
    found = [fmean(played({-250: Order(7)}, [11.0] * 14_400, seed=seed)[0].waits) for seed in range(4)]
    assert fmean(found) == pytest.approx(expected, rel=0.15)


def test_an_ordered_agent_serves_after_its_start_and_is_paid_for_from_the_order():
    history, _ = played({100: Order(6)}, [2.0] * 200)
    at = history.orders[0][0]
    assert [history.serving[int(at) + second] for second in (0, 19, 21)] == [2, 2, 6]
    assert history.starting[int(at) + 5] == 4
    assert history.paid == pytest.approx(2 * 200.0 + 4 * (200.0 - at))


def test_who_has_not_started_is_called_off_first_then_the_youngest_goes():
    _, scaler = played({0: Order(4), 100: Order(5), 110: Order(3)}, [2.0] * 200)
    assert [agent for what, agent in scaler.heard if what == "drained"] == [3]
    assert ("joined", 4) not in scaler.heard


def test_who_is_named_goes_first_and_only_in_the_order_s_direction():
    orders = {0: Order(4), 100: Order(3, victims=(1,)), 120: Order(2, adds=True, removes=False)}
    _, scaler = played(orders, [2.0] * 200)
    assert [agent for what, agent in scaler.heard if what == "drained"] == [1]


def test_a_drained_agent_finishes_what_it_has_and_gets_no_more():
    fleet = Fleet(Random(1))
    agent = fleet.order(0.0)
    fleet.begin(agent)
    assert fleet.place() is agent
    fleet.drain(agent, 10.0)
    assert (agent.stage, fleet.place(), fleet.free) == (Stage.DRAINING, None, 0)
    fleet.finish(agent, 12.0)
    assert (agent.stage, fleet.draining, fleet.in_flight, fleet.paid(20.0)) == (Stage.GONE, [], 0, 12.0)


def test_what_is_seen_is_what_agents_said_last():
    _, scaler = played({10: Order(6)}, [2.0] * 60)
    assert {seen.starting for seen in scaler.seen} == {0, 4}
    assert {seen.agents for seen in scaler.seen} == {2, 6}
    silent = [seen.at for seen in scaler.seen if seen.silent and seen.at > 1.0 - LEAD]
    assert 30.0 <= min(silent) <= max(silent) <= 32.0
    assert {load * SLOTS for seen in scaler.seen for load in seen.loads} <= {0.0, 1.0, 2.0, 3.0, 4.0}
