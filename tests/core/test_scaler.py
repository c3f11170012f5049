"""The scaler: what it observes, what it decides and why, and which orders it issues."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from registry.core.agent import Agent
from registry.core.policy import Policy
from registry.core.scaler import MAX_NAMED, Observation, Order, Scaler, observe, victims
from registry.core.status import Status
from tests.core.make import make_agent

NOW = 1000.0


def fleet(size: int, load: float | None = 0.5, **fields: Any) -> list[Agent]:
    """Return agents with fresh reports of one load, or without any."""
    vitals = {} if load is None else {"load": load, "load_at": NOW}
    return [make_agent(f"a{number}", **{"registered_at": float(number), **vitals, **fields}) for number in range(size)]


class Looker:
    """A scaler for one capability, looked at whenever the test says."""

    def __init__(self, enabled: bool = True, **policy: Any) -> None:
        ids = count(1)
        self.scaler = Scaler(enabled, Policy(**policy), lambda: f"o{next(ids)}")
        self.at = NOW

    def look(self, agents: list[Agent], after: float = 0.0, fresh: bool = True) -> dict[str, Any] | None:
        self.at += after
        for agent in agents:
            if fresh and agent.load_at is not None:
                agent.load_at = self.at
        return self.scaler.look("vision", agents, self.at, 7000.0 + self.at, epoch=3)

    @property
    def reason(self) -> str:
        return self.scaler.report("vision")["reason"]

    @property
    def open(self) -> list[dict[str, Any]]:
        return self.scaler.report("vision")["orders"]


# What is observed.


def test_observe():
    """Means are of the serving agents; the age is that of the oldest load that counts."""
    agents = fleet(2)
    agents[0].load, agents[0].health, agents[0].load_at = 0.2, 0.9, NOW - 12.0
    assert observe(agents, None, NOW) == Observation(2, 0, 0.35, 0.95, 12.0)


def test_observe_nobody():
    """Where nobody serves there are no means."""
    assert observe([], None, NOW) == Observation(0, 0, None, None, None)


def test_stale_loads_do_not_count():
    """A load counts for three of its agent's heartbeat intervals, and not a moment longer."""
    agents = fleet(1, heartbeat_interval=10.0)
    assert observe(agents, None, NOW + 30.0).mean_load == 0.5
    assert observe(agents, None, NOW + 30.1).mean_load is None


def test_missing_loads():
    """Half of the agents must have a load that counts, else none is known."""
    assert observe(fleet(2) + fleet(2, load=None), None, NOW).mean_load == 0.5
    unknown = observe(fleet(2) + fleet(3, load=None), None, NOW)
    assert (unknown.mean_load, unknown.sample_age) == (None, None)
    assert unknown.mean_health == 1.0


def test_pending():
    """What an order asked for and is not seen yet is pending; an order to scale down has nothing pending."""
    up, down = (Order("o", action, 5, (), 1, 1, NOW) for action in ("scale_up", "scale_down"))
    assert observe(fleet(2), up, NOW).pending == 3
    assert observe(fleet(7), up, NOW).pending == 0
    assert observe(fleet(2), down, NOW).pending == 0


def test_victims():
    """The least healthy go first, then the least loaded, then the youngest."""
    agents = [
        make_agent("sick", health=0.6, load=0.9, registered_at=1.0),
        make_agent("idle", load=0.1, registered_at=1.0),
        make_agent("young", load=0.5, registered_at=9.0),
        make_agent("old", load=0.5, registered_at=1.0),
        make_agent("twin", load=0.5, registered_at=1.0),
    ]
    assert victims(agents, 5) == ("sick", "idle", "young", "old", "twin")
    assert victims(agents, 2) == ("sick", "idle")


def test_victims_are_bounded():
    """One order names at most so many agents."""
    assert len(victims(fleet(MAX_NAMED + 50), MAX_NAMED + 50)) == MAX_NAMED


# What is decided.


def test_min():
    """Fewer than `min_agents` is answered with an order up to it, whatever the load."""
    order = Looker().look(fleet(1, load=0.0))
    assert order is not None
    assert (order["action"], order["desired"], order["delta"]) == ("scale_up", 2, 1)
    assert order["reason"] == "1 agent, fewer than min_agents 2"


def test_max():
    """More than `max_agents` is answered with an order down to it, which names whom to drain."""
    order = Looker().look(fleet(12, load=0.9))
    assert order is not None
    assert (order["action"], order["desired"], order["delta"]) == ("scale_down", 10, -2)
    assert order["agents"] == ("a11", "a10")
    assert order["reason"] == "12 agents, more than max_agents 10"


@pytest.mark.parametrize(
    ("size", "load", "desired"),
    [(2, 0.81, 3), (2, 0.9, 4), (3, 0.82, 5), (4, 1.0, 8), (6, 1.0, 10), (9, 0.85, 10)],
)
def test_high_load(size: int, load: float, desired: int):
    """Above `high_load`: as many as would bring the load to the target, one more at least, `max_agents` at most."""
    order = Looker().look(fleet(size, load=load))
    assert order is not None
    assert (order["action"], order["desired"]) == ("scale_up", desired)
    assert order["reason"] == f"mean load {load:.2f} is above 0.8"


@pytest.mark.parametrize(
    ("size", "load", "why"),
    [
        (10, 0.95, "nothing done: mean load 0.95 is above 0.8, but max_agents 10 is reached"),
        (3, 0.8, "nothing done: mean load 0.80 of 3 agents is right"),
        (3, 0.3, "nothing done: mean load 0.30 of 3 agents is right"),
        (2, 0.0, "nothing done: mean load 0.00 of 2 agents is right"),
        (3, None, "nothing done: fewer than half of the agents have a fresh load report"),
        (3, 0.1, "nothing done: mean load 0.10 is below 0.3 for 0 s of 300 s"),
    ],
)
def test_nothing_to_do(size: int, load: float | None, why: str):
    """At the bounds nothing is ordered, nor on missing data, and the reason for not acting is told."""
    looker = Looker()
    assert looker.look(fleet(size, load=load)) is None
    assert looker.reason == why
    assert looker.scaler.report("vision")["desired"] == size


def test_stale_data_never_scale():
    """Loads that grew old neither scale up nor count as low."""
    looker, agents = Looker(), fleet(4, load=0.95, heartbeat_interval=10.0)
    assert looker.look(agents, after=31.0, fresh=False) is None
    assert "fresh" in looker.reason


def test_low_load_needs_time():
    """Low load scales down by one after it lasted for the stabilisation window, not before."""
    looker, agents = Looker(), fleet(4, load=0.1)
    assert looker.look(agents) is None
    assert looker.look(agents, after=299.0) is None
    assert looker.reason == "nothing done: mean load 0.10 is below 0.3 for 299 s of 300 s"
    order = looker.look(agents, after=1.0)
    assert order is not None
    assert (order["action"], order["desired"], order["agents"]) == ("scale_down", 3, ("a3",))
    assert order["reason"] == "mean load 0.10 is below 0.3 for 300 s"


@pytest.mark.parametrize("load", [0.3, 0.9, None])
def test_low_load_must_last(load: float | None):
    """A load that is not low, or not known, in between begins the window anew."""
    looker, agents = Looker(), fleet(10, load=0.1)
    looker.look(agents)
    looker.look(fleet(10, load=load), after=200.0)
    looker.look(agents, after=50.0)
    assert looker.look(agents, after=299.0) is None
    assert looker.look(agents, after=1.0) is not None


def test_the_next_step_down_waits_its_own_time():
    """After a step down was carried out, the next needs a whole window again."""
    looker, agents = Looker(), fleet(5, load=0.1)
    looker.look(agents)
    assert looker.look(agents, after=300.0) is not None
    assert looker.look(agents[:4], after=5.0) is None
    assert looker.look(agents[:4], after=290.0) is None
    assert looker.look(agents[:4], after=5.0) is not None


def test_low_load_keeps_min():
    """Low load never goes below `min_agents`."""
    looker, agents = Looker(), fleet(2, load=0.0)
    looker.look(agents)
    assert looker.look(agents, after=1000.0) is None


def test_replace():
    """The worst of the agents below `health_degraded` is to be replaced, before load is looked at."""
    agents = fleet(4, load=0.95)
    agents[1].health, agents[2].health = 0.55, 0.52
    order = Looker().look(agents)
    assert order is not None
    assert (order["action"], order["desired"], order["delta"], order["agents"]) == ("replace", 4, 0, ("a2",))
    assert order["reason"] == "a2 has health 0.52, below 0.6"


def test_bounds_come_before_the_unfit():
    """While there are too few or too many, nobody is replaced."""
    for size, action in ((1, "scale_up"), (11, "scale_down")):
        order = Looker().look(fleet(size, health=0.55))
        assert order is not None
        assert order["action"] == action


@pytest.mark.parametrize(
    ("status", "reason", "replaced"),
    [
        (Status.ACTIVE, "registered", True),
        (Status.DEGRADED, "health", True),
        (Status.SUSPENDED, "health", True),
        (Status.SUSPENDED, "operator", False),
        (Status.DEREGISTERING, "draining", False),
        (Status.OFFLINE, "heartbeat_timeout", False),
    ],
)
def test_who_is_replaced(status: Status, reason: str, replaced: bool):
    """Unfit agents are replaced unless an operator holds them, they drain, or are gone already."""
    sick = make_agent("sick", health=0.3, status=status, status_reason=reason, held=reason == "operator")
    order = Looker().look([*fleet(3), sick])
    assert (order is not None) == replaced


# Which orders are issued.


def test_order_on_the_wire():
    """An order says all that the contract promises."""
    assert Looker().look(fleet(1)) == {
        "v": 1,
        "order_id": "o1",
        "capability": "vision",
        "action": "scale_up",
        "observed": {"agents": 1, "pending": 0, "mean_load": 0.5, "mean_health": 1.0, "sample_age": 0.0},
        "desired": 2,
        "delta": 1,
        "agents": (),
        "reason": "1 agent, fewer than min_agents 2",
        "generation": 1,
        "attempt": 1,
        "issued_at": 8000.0,
        "expires_at": 8120.0,
        "epoch": 3,
    }


def test_open_order_is_not_repeated():
    """While an order is open nothing else is ordered; what was ordered is pending."""
    looker = Looker()
    order = looker.look(fleet(1))
    assert looker.look(fleet(1), after=119.0) is None
    assert looker.reason == "order o1 is open; 1 agent, fewer than min_agents 2"
    assert looker.open == [order]
    assert looker.scaler.report("vision")["observed"]["pending"] == 1


def test_expired_order_is_attempted_again():
    """An order that expired is issued again under a new id: the same generation, the next attempt."""
    looker = Looker()
    looker.look(fleet(1))
    for attempt in (2, 3):
        order = looker.look(fleet(1), after=120.0)
        assert order is not None
        assert (order["order_id"], order["generation"], order["attempt"]) == (f"o{attempt}", 1, attempt)


def test_expired_order_gives_way_to_another_decision():
    """When something else is decided after an expiry, that is a new generation."""
    looker = Looker()
    looker.look(fleet(3, load=0.9))
    order = looker.look(fleet(11), after=120.0)
    assert order is not None
    assert (order["action"], order["generation"], order["attempt"]) == ("scale_down", 2, 1)


def test_an_order_about_another_agent_is_another_decision():
    """Replacing another agent is a decision of its own: not the next attempt of the one before."""
    looker, agents = Looker(), fleet(4)
    agents[0].health = 0.5
    assert looker.look(agents) is not None
    agents[0].health, agents[1].health = 1.0, 0.5
    order = looker.look(agents, after=120.0)
    assert order is not None
    assert (order["agents"], order["generation"], order["attempt"]) == (("a1",), 2, 1)


def test_too_few_do_not_wait_for_a_replacement():
    """Agents that are missing are ordered at once, although another one is to be replaced; that order is withdrawn."""
    looker, agents = Looker(), fleet(3)
    agents[0].health = 0.55
    first = looker.look(agents)
    assert first is not None
    assert first["action"] == "replace"
    order = looker.look(agents[:1], after=5.0)
    assert order is not None
    assert (order["action"], order["desired"], order["generation"], order["attempt"]) == ("scale_up", 2, 2, 1)
    assert looker.open == [order]
    again = looker.look(agents[:2], after=5.0)
    assert again is not None
    assert (again["action"], again["agents"], again["generation"]) == ("replace", ("a0",), 3)


def test_high_load_does_not_wait_for_a_step_down():
    """A step down that nobody took is withdrawn when load is high instead."""
    looker, agents = Looker(), fleet(4, load=0.1)
    looker.look(agents)
    first = looker.look(agents, after=300.0)
    assert first is not None
    assert first["action"] == "scale_down"
    order = looker.look(fleet(4, load=0.95), after=5.0)
    assert order is not None
    assert (order["action"], order["desired"]) == ("scale_up", 7)
    assert looker.open == [order]


def test_an_unfit_agent_does_not_wait_for_a_step_down():
    """Replacing is more urgent than removing."""
    looker, agents = Looker(), fleet(4, load=0.1)
    looker.look(agents)
    assert looker.look(agents, after=300.0) is not None
    agents[0].health = 0.55
    order = looker.look(agents, after=5.0)
    assert order is not None
    assert (order["action"], order["agents"]) == ("replace", ("a0",))


def test_more_are_needed_than_were_ordered():
    """An order for more takes the place of one for fewer: another decision, not another attempt."""
    looker = Looker()
    looker.look(fleet(4, load=0.85))
    order = looker.look(fleet(4, load=1.0), after=5.0)
    assert order is not None
    assert (order["desired"], order["generation"], order["attempt"]) == (8, 2, 1)
    assert looker.open == [order]
    assert looker.scaler.report("vision")["observed"]["pending"] == 3
    assert looker.look(fleet(4, load=1.0), after=5.0) is None
    assert looker.scaler.report("vision")["observed"]["pending"] == 4


def test_fewer_to_remove_than_were_ordered():
    """When there may be more agents than before, an order to remove many gives way to one to remove few."""
    looker = Looker()
    looker.look(fleet(12))
    looker.scaler.policies.default = Policy(max_agents=11)
    order = looker.look(fleet(12), after=5.0)
    assert order is not None
    assert (order["action"], order["desired"], order["agents"]) == ("scale_down", 11, ("a11",))


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (fleet(1), [*fleet(1), make_agent("sick", health=0.55)]),
        (fleet(4, load=0.9), fleet(4, load=0.85)),
        (fleet(1), fleet(1, load=0.0)),
    ],
    ids=["unfit after too few", "less load", "no load"],
)
def test_what_is_less_urgent_waits(first: list[Agent], then: list[Agent]):
    """While an order is open, what is as urgent or less so is not ordered."""
    looker = Looker(min_agents=3)
    order = looker.look(first)
    assert order is not None
    assert order["action"] == "scale_up"
    assert looker.look(then, after=5.0) is None
    assert looker.open == [order]


def test_a_replacement_that_has_started_is_no_reason_to_order_anew():
    """The new one comes before the old one goes: that there are more then changes nothing, nor that others fell ill."""
    looker, agents = Looker(), fleet(4)
    agents[0].health = 0.55
    order = looker.look(agents[:3])
    assert looker.look(agents, after=5.0) is None
    agents[1].health = 0.52
    assert looker.look(agents, after=5.0) is None
    assert looker.open == [order]


def test_agents_that_come_are_no_load():
    """Those that were ordered raise the count before they take load over; more are not ordered for that."""
    looker, agents = Looker(), fleet(4, load=0.9)
    order = looker.look(agents)
    assert order is not None
    assert order["desired"] == 7
    for size in (5, 6):
        come = [make_agent(f"new{number}") for number in range(size - 4)]
        assert looker.look([*agents, *come], after=5.0) is None
    assert looker.open == [order]


def test_an_expired_order_without_a_reason_is_dropped():
    """What nobody carried out and nobody wants any more is neither open nor pending."""
    looker = Looker(min_agents=1)
    assert looker.look(fleet(1, load=0.95)) is not None
    assert looker.look(fleet(1, load=0.5), after=119.0) is None
    assert looker.open
    assert looker.look(fleet(1, load=0.5), after=1.0) is None
    report = looker.scaler.report("vision")
    assert (report["orders"], report["observed"]["pending"], report["desired"]) == ([], 0, 1)
    order = looker.look(fleet(1, load=0.95), after=5.0)
    assert order is not None
    assert (order["generation"], order["attempt"]) == (2, 1)


def test_an_order_expires_also_when_switched_off():
    """Switched off meanwhile, the scaler does not show an order for ever."""
    looker = Looker()
    assert looker.look(fleet(1)) is not None
    looker.scaler.enabled = False
    looker.look(fleet(1), after=120.0)
    assert looker.open == []


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [(fleet(1), fleet(2), "scale_up"), (fleet(12), fleet(10), "scale_down")],
    ids=["scale_up", "scale_down"],
)
def test_fulfilled_order_is_closed(before: list[Agent], after: list[Agent], action: str):
    """An order whose effect is there is forgotten; the next is a new generation."""
    looker = Looker()
    order = looker.look(before)
    assert order is not None
    assert order["action"] == action
    assert looker.look(after, after=5.0) is None
    assert looker.open == []
    again = looker.look(before, after=5.0)
    assert again is not None
    assert (again["generation"], again["attempt"]) == (2, 1)


def test_replacement_is_closed_when_the_agent_is_gone():
    """A replacement is fulfilled when the agent named has left."""
    looker, agents = Looker(), fleet(3)
    agents[0].health = 0.55
    assert looker.look(agents) is not None
    assert looker.look([*agents, *fleet(4)[3:]], after=5.0) is None
    assert looker.open
    assert looker.look(fleet(4)[1:], after=5.0) is None
    assert looker.open == []


def test_replacement_of_a_suspended_agent_is_not_repeated():
    """One order is open until it expires, also when the unfit agent is suspended and serves no more."""
    looker = Looker()
    sick = make_agent("sick", health=0.3, status=Status.SUSPENDED, status_reason="health")
    agents = [*fleet(3), sick]
    assert looker.look(agents) is not None
    for _ in range(5):
        assert looker.look(agents, after=5.0) is None
    again = looker.look(agents, after=120.0)
    assert again is not None
    assert (again["generation"], again["attempt"]) == (1, 2)
    assert looker.look(fleet(3), after=5.0) is None
    assert looker.open == []


def test_withdrawn_order():
    """A change of policy takes the open order back; what is then decided is a new generation."""
    looker = Looker()
    looker.look(fleet(1))
    looker.scaler.withdraw("vision")
    looker.scaler.withdraw("unheard of")
    assert looker.open == []
    looker.scaler.policies.own["vision"] = {"min_agents": 3}
    order = looker.look(fleet(1), after=5.0)
    assert order is not None
    assert (order["desired"], order["generation"], order["attempt"]) == (3, 2, 1)


def test_switched_off():
    """Switched off, the scaler says what it would do and orders nothing."""
    looker = Looker(enabled=False)
    assert looker.look(fleet(1)) is None
    assert looker.reason == "auto-scaling is off; would be: 1 agent, fewer than min_agents 2"
    assert looker.scaler.report("vision")["desired"] == 2


def test_report_of_a_capability_not_looked_at():
    """A capability that was not looked at yet is reported as that, with the policy that holds for it."""
    scaler = Looker().scaler
    scaler.policies.own["trading"] = {"min_agents": 1}
    report = scaler.report("trading")
    assert (report["desired"], report["orders"], report["reason"]) == (0, [], "not looked at yet")
    assert (report["policy"]["min_agents"], report["policy"]["source"]) == (1, "policy")
    assert scaler.report("vision")["policy"]["source"] == "default"


def test_forgotten_capabilities():
    """Capabilities of which neither an agent nor a policy speaks any more are forgotten."""
    looker = Looker()
    looker.look(fleet(1))
    looker.scaler.forget(["vision"])
    assert looker.open
    looker.scaler.policies.own["vision"] = {}
    looker.scaler.forget([])
    assert looker.open
    del looker.scaler.policies.own["vision"]
    looker.scaler.forget(["trading"])
    assert looker.open == []
