"""The scaler: what it decides and why, and which orders it issues."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from registry.core.agent import Agent
from registry.core.effects import PublishOrder, PutOrders
from registry.core.ordering import Moment
from registry.core.policy import Policy
from registry.core.scaler import Scaler
from registry.core.status import Status
from tests.core.make import make_agent

NOW = 1000.0


def fleet(size: int, load: float | None = 0.5, **fields: Any) -> list[Agent]:
    """Return agents with fresh reports of one load, or without any."""
    vitals = {} if load is None else {"load": load, "load_at": NOW}
    fields = {"capabilities": ("vision",), **fields}
    return [make_agent(f"a{number}", **{"registered_at": float(number), **vitals, **fields}) for number in range(size)]


class Looker:
    """A scaler, looked at whenever the test says; what it has written is acknowledged at once.

    Two looks count and not four, and agents are full later, unless a test says otherwise: most are about other things.
    """

    def __init__(self, enabled: bool = True, **policy: Any) -> None:
        ids = count(1)
        fields: dict[str, Any] = {"looks": 2, "panic_load": 0.95, **policy}
        self.scaler = Scaler(enabled, Policy(**fields), lambda: f"o{next(ids)}")
        self.at, self.wall = NOW, 7000.0
        self.revisions = count(1)

    def look(
        self,
        agents: list[Agent],
        after: float = 0.0,
        fresh: bool = True,
        capability: str = "vision",
        settled: bool = True,
    ) -> dict[str, Any] | None:
        """Look once, and return the order that is published."""
        self.at += after
        for agent in agents:
            if fresh and agent.load_at is not None:
                agent.load_at = self.at
        moment = Moment(self.at, self.wall + self.at, 3, settled)

        def agents_of(name: str) -> list[Agent]:
            return [agent for agent in agents if name in agent.record.capabilities]

        published = []
        for effect in self.scaler.look(capability, agents_of, moment):
            if isinstance(effect, PutOrders):
                published += self.scaler.committed(capability, effect.orders, next(self.revisions))
            else:
                published.append(effect)
        orders = [dict(effect.order) for effect in published if isinstance(effect, PublishOrder)]
        return orders[-1] if orders else None

    def watch(self, agents: list[Agent], **options: Any) -> dict[str, Any] | None:
        """Look twice, as load needs, and return the order of the second look."""
        assert self.look(agents, **options) is None
        return self.look(agents, **{**options, "after": 5.0})

    def watch_for(self, agents: list[Agent], seconds: float) -> list[dict[str, Any]]:
        """Look every 5 s for a while, and return the orders."""
        orders = [self.look(agents, after=5.0) for _ in range(int(seconds / 5))]
        return [order for order in orders if order is not None]

    @property
    def reason(self) -> str:
        return self.report()["reason"]

    @property
    def open(self) -> list[dict[str, Any]]:
        return self.report()["orders"]

    def report(self, capability: str = "vision") -> dict[str, Any]:
        return self.scaler.report(capability, [])


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


def test_too_few_that_are_full():
    """One order for as many as the load asks for, not first one up to the least."""
    looker = Looker(min_agents=3)
    assert looker.look(fleet(3, load=1.0)) is None
    order = looker.look(fleet(2, load=1.0), after=5.0)
    assert order is not None
    assert (order["desired"], order["reason"]) == (5, "mean load 1.00: the agents are full")


@pytest.mark.parametrize(
    ("size", "load", "desired"),
    [(2, 0.81, 3), (2, 0.9, 4), (3, 0.82, 5), (4, 0.94, 7), (6, 0.94, 10), (9, 0.85, 10)],
)
def test_high_load(size: int, load: float, desired: int):
    """Above `high_load`: as many as would bring the load to the target, `max_agents` at most."""
    order = Looker().watch(fleet(size, load=load))
    assert order is not None
    assert (order["action"], order["desired"]) == ("scale_up", desired)
    assert order["reason"] == f"mean load {load:.2f} is above 0.8"


def test_what_was_right_before_does_not_count():
    """As many as this look asks for, whatever the one before did."""
    looker = Looker()
    assert looker.watch_for(fleet(4, load=0.6), 30.0) == []
    [order] = looker.watch_for(fleet(4, load=0.94), 10.0)
    assert (order["desired"], order["delta"]) == (7, 3)


def test_one_look_is_no_reason():
    """A spike that one look saw scales nothing; it counts with what the next one sees."""
    looker = Looker()
    assert looker.look(fleet(2, load=0.9)) is None
    assert looker.reason == "nothing done: load counts when 2 looks saw it"
    assert looker.look(fleet(2, load=0.5), after=5.0) is None
    assert looker.look(fleet(2, load=0.9), after=5.0) is None
    assert looker.look(fleet(2, load=0.9), after=5.0) is not None


def test_looks():
    """The load is the mean of so many looks, so that one peak among them does not count."""
    looker = Looker(looks=4)
    assert looker.watch_for(fleet(4, load=0.6), 30.0) == []
    assert looker.watch_for(fleet(4, load=0.88), 10.0) == []
    assert len(looker.watch_for(fleet(4, load=0.88), 5.0)) == 1


def test_full_agents():
    """When the agents are full two looks are enough, whatever was before."""
    looker = Looker(looks=4, panic_load=0.9)
    assert looker.watch_for(fleet(4, load=0.5), 30.0) == []
    assert looker.watch_for(fleet(4, load=0.9), 5.0) == []
    assert len(looker.watch_for(fleet(4, load=0.9), 5.0)) == 1


def test_steps_up():
    """One order at most doubles, or adds four; a policy may say otherwise, and full agents do not wait for steps."""
    policy: dict[str, Any] = {"max_agents": 50, "target_load": 0.2, "low_load": 0.1}
    assert Looker(**policy).watch(fleet(2, load=0.9))["desired"] == 6
    order = Looker(**policy).watch(fleet(6, load=0.9))
    assert order is not None
    assert (order["desired"], order["reason"]) == (12, "mean load 0.90 is above 0.8; 27 agents in the end, in steps")
    assert Looker(**policy, step_up=1).watch(fleet(6, load=0.9))["desired"] == 7
    assert Looker(**policy, step_up=1).watch(fleet(6, load=0.95))["desired"] == 29


def test_stabilisation_up():
    """Where the policy asks for it, load must be high for a while; full agents do not wait."""
    looker = Looker(stabilisation_up=30.0)
    assert looker.watch_for(fleet(4, load=0.9), 35.0) == []
    assert looker.reason == "nothing done: mean load 0.90 is above 0.8, for 25 s of 30 s"
    assert len(looker.watch_for(fleet(4, load=0.9), 5.0)) == 1
    assert Looker(stabilisation_up=30.0).watch(fleet(4, load=1.0)) is not None


def test_stabilisation_up_orders_the_least_that_was_asked_for():
    """As many as every look within it asked for."""
    looker = Looker(stabilisation_up=30.0, max_agents=20)
    looker.watch_for(fleet(6, load=0.94), 15.0)
    [order] = looker.watch_for(fleet(6, load=0.82), 30.0)[:1]
    assert order["desired"] == 9


def test_waiting_work_is_load():
    """A queue says how much more there is to do than the agents can: as many are ordered at once as that needs."""
    agents = fleet(2, load=1.0, metrics={"queue_depth": 8.0}, max_concurrency=4)
    order = Looker(max_agents=20).watch(agents)
    assert order is not None
    assert order["desired"] == 11  # 2 x (1 + 8/4) / 0.55
    assert order["observed"]["mean_load"] == 3.0
    assert Looker(max_agents=20, queue_weight=0.0).watch(agents)["desired"] == 4


@pytest.mark.parametrize(
    ("size", "load", "why"),
    [
        (10, 0.95, "mean load 0.95 is above 0.8, but max_agents 10 is reached"),
        (3, 0.8, "mean load 0.80 of 3 agents is right"),
        (3, 0.3, "mean load 0.30 of 3 agents is right"),
        (2, 0.0, "mean load 0.00 is below 0.3, but min_agents 2 is reached"),
        (3, None, "nobody has a fresh load report"),
        (3, 0.1, "mean load 0.10 is below 0.3, for 0 s of 300 s"),
    ],
)
def test_nothing_to_do(size: int, load: float | None, why: str):
    """At the bounds nothing is ordered, nor on missing data, and the reason for not acting is told."""
    looker = Looker()
    assert looker.watch(fleet(size, load=load)) is None
    assert looker.reason == f"nothing done: {why}"
    assert looker.report()["desired"] == size


def test_tolerance():
    """Thresholds closer to the target than the tolerance are as far away as that."""
    policy: dict[str, Any] = {"low_load": 0.54, "high_load": 0.56, "target_load": 0.55, "min_agents": 30}
    policy |= {"max_agents": 80, "stabilisation_down": 0.0}
    for load, is_right in ((0.49, False), (0.5, True), (0.6, True), (0.61, False)):
        assert (Looker(**policy).watch(fleet(40, load=load)) is None) == is_right


def test_the_last_agent_stays_while_it_works():
    """Where none is the least there may be, nobody would ever report a load again; one that is idle goes."""
    looker = Looker(min_agents=0, stabilisation_down=0.0)
    assert looker.watch_for(fleet(1, load=0.1), 30.0) == []
    [order] = looker.watch_for(fleet(1, load=0.0), 10.0)[:1]
    assert order["desired"] == 0


def test_stale_queues_never_scale():
    """What an agent once said of its queue does not count for ever, however fresh its load is."""
    agents = fleet(2, load=0.2, metrics={"queue_depth": 8.0}, max_concurrency=4, heartbeat_interval=10.0)
    looker = Looker()
    assert looker.watch_for(agents, 30.0) != []
    looker = Looker()
    looker.at += 30.0
    assert looker.watch_for(agents, 60.0) == []


def test_stale_data_never_scale():
    """Loads that grew old neither scale up nor count as low."""
    looker, agents = Looker(), fleet(4, load=0.95, heartbeat_interval=10.0)
    assert looker.look(agents) is None
    assert looker.look(agents, after=31.0, fresh=False) is None
    assert "fresh" in looker.reason


def test_partial_data_never_scale():
    """Who does not report counts as idle where it would be ordered up, and as full where it would be ordered down."""
    looker = Looker(stabilisation_down=0.0)
    full = [*fleet(2, load=0.9), make_agent("silent", capabilities=("vision",))]
    assert looker.watch(full) is None
    assert looker.reason == "nothing done: mean load 0.90 is that of 2, and 1 more do not report"
    idle = [*fleet(3, load=0.1), make_agent("silent", capabilities=("vision",))]
    assert looker.watch_for(idle, 30.0) == []
    assert looker.report()["observed"]["missing"] == 1


def test_partial_data_that_leave_no_doubt():
    """When the others alone are too many, or so full that it does not matter, one that is silent changes nothing."""
    silent = make_agent("silent", capabilities=("vision",))
    order = Looker(max_agents=20).watch([*fleet(9, load=0.94), silent])
    assert order is not None
    assert order["action"] == "scale_up"
    order = Looker(stabilisation_down=0.0).watch([*fleet(9, load=0.1), silent])
    assert order is not None
    assert order["action"] == "scale_down"


def test_low_load_needs_time():
    """Low load scales down after it lasted for the stabilisation, not before: half of the agents at a time at most."""
    looker, agents = Looker(), fleet(5, load=0.1)
    assert looker.watch_for(agents, 305.0) == []
    assert looker.reason == "nothing done: mean load 0.10 is below 0.3, for 295 s of 300 s"
    [order] = looker.watch_for(agents, 5.0)
    assert (order["action"], order["desired"], order["agents"]) == ("scale_down", 3, ("a4", "a3"))
    assert order["reason"] == "mean load 0.10 is below 0.3, for 300 s; 2 agents in the end, in steps"


def test_steps_down():
    """A policy may say how many at a time."""
    looker = Looker(step_down=1, stabilisation_down=0.0)
    order = looker.watch(fleet(8, load=0.1))
    assert order is not None
    assert (order["desired"], order["agents"]) == (7, ("a7",))


@pytest.mark.parametrize("load", [0.3, 0.9, None])
def test_low_load_must_last(load: float | None):
    """A load that is not low, or not known, in between begins the stabilisation anew."""
    looker, agents = Looker(), fleet(10, load=0.1)
    assert looker.watch_for(agents, 200.0) == []
    looker.watch_for(fleet(10, load=load), 10.0)
    assert looker.watch_for(agents, 300.0) == []
    assert looker.watch_for(agents, 15.0) != []


def test_down_to_the_most_that_was_needed():
    """Within the stabilisation some looks asked for more: that many stay."""
    looker = Looker(max_agents=20, step_down=20)
    looker.watch_for(fleet(20, load=0.29), 100.0)
    [order] = looker.watch_for(fleet(20, load=0.1), 210.0)
    assert order["desired"] == 11


def test_agents_that_start_do_not_make_the_others_idle():
    """What newcomers leave undone for a moment is no reason to remove anybody."""
    looker = Looker(stabilisation_down=0.0)
    young = [vision(f"young{n}", registered_at=7990.0, load_at=NOW) for n in range(4)]
    assert looker.watch([*fleet(2, load=0.5), *young]) is None
    assert looker.reason == "nothing done: mean load 0.50 of 6 agents is right"


def test_agents_that_start_are_no_load():
    """They are capacity before they take load over; more are not ordered for that."""
    looker, agents = Looker(), fleet(4, load=0.9)
    order = looker.watch(agents)
    assert order is not None
    assert order["desired"] == 7
    come = [make_agent(f"new{n}", capabilities=("vision",), registered_at=8003.0, load_at=NOW) for n in range(3)]
    for size in (1, 2, 3):
        assert looker.look([*agents, *come[:size]], after=5.0) is None
    assert looker.open == []
    assert looker.watch([*agents, *come], after=5.0) is None
    assert looker.reason == "nothing done: mean load 0.90 is above 0.8, but 3 agents just started"


def test_a_capability_that_begins():
    """Where all have just started, their loads count: nobody else's do."""
    assert Looker().watch(fleet(2, load=0.9, registered_at=7990.0)) is not None


def test_loads_that_are_not_believed_yet():
    """After a start, or an outage, loads scale nothing, and it is told."""
    looker = Looker()
    looker.look(fleet(2, load=1.0))
    assert looker.look(fleet(2, load=1.0), after=5.0, settled=False) is None
    assert looker.reason == "nothing done: loads count a few seconds after a start, or an outage of NATS"


# Who is replaced.


def test_replace():
    """The worst of the agents below `health_degraded` is to be replaced."""
    agents = fleet(5)
    agents[1].health, agents[2].health = 0.55, 0.52
    order = Looker().look(agents)
    assert order is not None
    assert (order["action"], order["desired"], order["delta"], order["agents"]) == ("replace", 5, 0, ("a2",))
    assert order["reason"] == "a2 has health 0.52, below 0.6"


def test_replaced_a_share_at_a_time():
    """A tenth of the agents at a time, or what the policy says."""
    agents = fleet(30)
    for agent in agents[:8]:
        agent.health = 0.5
    order = Looker(max_agents=50).look(agents)
    assert order is not None
    assert order["agents"] == ("a0", "a1", "a2")
    assert order["reason"] == "a0 has health 0.5, below 0.6, and so have 2 more"
    assert len(Looker(max_agents=50, replace_share=0.2).look(agents)["agents"]) == 6


def test_not_replaced_when_most_are_unfit():
    """What ails most of them would ail their successors, too."""
    agents = fleet(4)
    for agent in agents[:3]:
        agent.health = 0.55
    looker = Looker()
    assert looker.look(agents) is None
    assert looker.reason.startswith("nothing done: 3 of 4 agents have a health below 0.6")
    agents[2].health = 1.0
    assert looker.look(agents, after=5.0) is not None


def test_one_that_is_alone_is_replaced():
    """One of one is no epidemic."""
    assert Looker(min_agents=1).look(fleet(1, health=0.55)) is not None


def test_the_unfit_are_no_load():
    """Their load is not averaged, for who is ill may be idle or stuck; the others are too few all the same."""
    agents = fleet(5, load=0.9)
    agents[0].health, agents[0].load = 0.55, 0.0
    looker = Looker()
    assert looker.look(agents)["action"] == "replace"
    order = looker.look(agents, after=5.0)
    assert order is not None
    assert (order["action"], order["desired"], order["observed"]["mean_load"]) == ("scale_up", 8, 0.9)


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
    held = reason == "operator"
    sick = make_agent("sick", health=0.3, capabilities=("vision",), status=status, status_reason=reason, held=held)
    order = Looker().look([*fleet(3), sick])
    assert (order is not None) == replaced


# Who leaves.


def vision(agent_id: str, **fields: Any) -> Agent:
    return make_agent(agent_id, capabilities=("vision",), **fields)


def test_victims():
    """The unhealthy go first, then who has the least reserved, the least load, the youngest."""
    agents = [
        vision("sick", health=0.6, load=0.9, registered_at=1.0),
        vision("busy", load=0.9, registered_at=1.0),
        vision("reserved", load=0.0, registered_at=1.0),
        vision("idle", load=0.1, registered_at=1.0),
        vision("young", load=0.5, registered_at=9.0),
        vision("old", load=0.5, registered_at=1.0),
    ]
    agents[2].reserved = 1
    order = Looker(max_agents=3).look(agents)
    assert order is not None
    assert order["agents"] == ("sick", "idle", "young")


def both(size: int, **fields: Any) -> list[Agent]:
    """Return agents that can do two things."""
    return fleet(size, capabilities=("trading", "vision"), **fields)


def test_no_removal_takes_another_capability_below_its_minimum():
    """Who is needed elsewhere stays, and others go; if nobody may go, that is told."""
    looker = Looker(stabilisation_down=0.0)
    looker.scaler.policies.own["trading"] = {"min_agents": 3}
    agents = [*both(3, load=0.1), make_agent("free", capabilities=("vision",), load=0.2, load_at=NOW)]
    looker.watch(agents, capability="trading")
    order = looker.watch(agents)
    assert order is not None
    assert (order["agents"], order["desired"]) == (("free",), 3)
    looker = Looker(stabilisation_down=0.0)
    looker.scaler.policies.own["trading"] = {"min_agents": 3}
    looker.watch(agents[:3], capability="trading")
    assert looker.watch(agents[:3]) is None
    assert looker.reason.endswith("but other capabilities need each of them")


def test_no_removal_overloads_another_capability():
    """What another capability carries must fit on those of its agents that stay."""
    looker = Looker(stabilisation_down=0.0, min_agents=1)
    busy = [make_agent(f"t{n}", capabilities=("trading",), load=0.79, load_at=NOW) for n in range(2)]
    agents = [*both(3, load=0.2), *busy]
    looker.watch(agents, capability="trading")
    order = looker.watch(agents)
    assert order is not None
    assert len(order["agents"]) == 1  # 2.18 on 5 agents: 3 of them must stay for trading


def test_enough_leave_already():
    """Whom another capability's order takes away is not too many here any more."""
    looker = Looker(max_agents=4)
    looker.scaler.policies.own["vision"] = {"max_agents": 10}
    shared = both(6, load=0.5)
    looker.watch(shared)
    order = looker.look(shared, after=5.0, capability="trading")
    assert order is not None
    assert len(order["agents"]) == 2
    looker.scaler.policies.own["vision"] = {"max_agents": 5}
    assert looker.look(shared, after=5.0) is None
    assert looker.reason == "nothing done: 6 agents, more than max_agents 5; but enough of them are leaving already"


def test_two_capabilities_do_not_remove_twice():
    """Whom one order takes away is gone for the others."""
    looker = Looker(stabilisation_down=0.0)
    agents = both(4, load=0.1)
    for _ in range(2):
        looker.look(agents, capability="trading")
        looker.look(agents)
        looker.at += 5.0
    assert looker.report("trading")["orders"][0]["agents"] == ("a3", "a2")
    assert looker.open == []
    assert looker.reason == (
        "nothing done: mean load 0.10 is below 0.3, but min_agents 2 is reached "
        "without the 2 that orders for other capabilities take"
    )


def test_nobody_leaves_while_nobody_knows_what_another_capability_carries():
    """Without loads of the other capability nobody is spared."""
    looker = Looker(stabilisation_down=0.0)
    assert looker.watch(both(4, load=0.1)) is None
    assert looker.reason.endswith("but other capabilities need each of them")


def test_a_replacement_takes_nobody_whom_another_capability_needs():
    """Its substitute need not be able to do the other thing; where it is unfit for that, too, it is no loss there."""
    looker = Looker()
    looker.scaler.policies.own["trading"] = {"health_degraded": 0.5}
    agents = both(2, load=0.5)
    agents[0].health = 0.55
    looker.watch(agents, capability="trading")
    assert looker.watch(agents) is None
    assert looker.reason == "nothing done: a0 is unfit, but another capability needs it"
    agents[0].health = 0.45
    assert looker.look(agents, after=5.0)["agents"] == ("a0",)


def test_one_unfit_agent_is_replaced_once():
    """Not once for each of its capabilities."""
    looker, agents = Looker(), both(4, load=0.5)
    agents[0].health = 0.55
    assert looker.look(agents)["action"] == "replace"
    assert looker.watch(agents, capability="trading") is None


def test_the_unfit_are_no_spare_capacity():
    """Two that are to be replaced carry nothing for a capability: of two others one must stay."""
    looker = Looker(stabilisation_down=0.0, min_agents=1)
    looker.scaler.policies.own["trading"] = {"health_degraded": 0.9, "dry_run": True}
    ill = [make_agent(f"ill{n}", capabilities=("trading",), health=0.85, load_at=NOW) for n in range(2)]
    agents = [*both(2, load=0.1), *(vision(f"v{n}", load=0.3, load_at=NOW) for n in range(3)), *ill]
    looker.watch(agents, capability="trading")
    order = looker.watch(agents)
    assert order is not None
    assert order["agents"] == ("a1", "v0")


def test_nobody_leaves_a_capability_whose_policy_is_unknown():
    """What it needs is not known."""
    looker = Looker(stabilisation_down=0.0)
    looker.watch(both(4, load=0.1), capability="trading")
    looker.scaler.policies.put("trading", None, 3, readable=False)
    assert looker.watch(both(4, load=0.1)) is None
    assert looker.reason.endswith("but other capabilities need each of them")


# Who could move.


def idle(agent_type: str = "worker") -> list[Agent]:
    """Return agents that trade, and have little to do."""
    trading: dict[str, Any] = {"capabilities": ("trading",), "agent_type": agent_type}
    return [make_agent(f"i{n}", load=0.1, load_at=NOW, **trading) for n in range(4)]


def test_rebalance():
    """Too few here and too many there, of a type that can do both: they are named, beside the order to start others."""
    looker, agents = Looker(), [*fleet(2, load=0.9), *idle()]
    looker.watch(agents, capability="trading")
    assert looker.look(agents) is None
    order = looker.look(agents, after=5.0)
    assert order is not None
    assert (order["action"], order["agents"], order["desired"]) == ("rebalance", ("i0", "i1"), 4)
    assert order["reason"] == "trading has 2 too many that could take on vision"
    assert [known["action"] for known in looker.open] == ["scale_up", "rebalance"]


def test_a_proposal_ends():
    """When those who were named can do it, or have left; another is made while some are missing."""
    looker, agents = Looker(), [*fleet(2, load=0.9), *idle()]
    looker.watch(agents, capability="trading")
    looker.watch(agents)
    for agent in agents[2:4]:
        agent.record = make_agent(agent.agent_id, capabilities=("trading", "vision")).record
    looker.look(agents, after=5.0)
    assert looker.open == []
    assert looker.report()["last_order"]["outcome"] == "fulfilled"


def test_nobody_is_moved_who_was_proposed_elsewhere():
    """Whom a proposal names is not removed meanwhile."""
    looker, agents = Looker(stabilisation_down=15.0), [*fleet(2, load=0.9), *idle()]
    looker.watch(agents, capability="trading")
    looker.watch(agents)
    for _ in range(5):
        looker.look(agents, after=5.0, capability="trading")
    assert looker.report("trading")["reason"].endswith(
        "but min_agents 2 is reached without the 2 that orders for other capabilities take"
    )


def test_no_more_are_moved_than_can_be_spared():
    """What is leaving already, or was proposed elsewhere, is not superfluous any more."""
    looker = Looker()
    trading: dict[str, Any] = {"capabilities": ("trading",)}
    others = [make_agent(f"x{n}", capabilities=("analysis",), load=0.9, load_at=NOW) for n in range(4)]
    agents = [*fleet(4, load=0.9), *others, *(make_agent(f"i{n}", load=0.1, load_at=NOW, **trading) for n in range(6))]
    for capability in ("trading", "vision", "analysis"):
        looker.watch(agents, capability=capability)
    moved = [
        o["agents"] for c in ("vision", "analysis") for o in looker.report(c)["orders"] if o["action"] == "rebalance"
    ]
    assert sum(map(len, moved)) == 4
    assert len({name for names in moved for name in names}) == 4


def test_only_who_is_well_is_moved():
    """An unfit agent is no help elsewhere."""
    looker, agents = Looker(), [*fleet(2, load=0.9), *idle()]
    looker.scaler.policies.own["vision"] = {"health_degraded": 0.8}
    agents[2].health = 0.75
    looker.watch(agents, capability="trading")
    looker.watch(agents)
    [_, move] = looker.open
    assert "i0" not in move["agents"]


def test_only_who_is_of_a_type_that_can_is_moved():
    """Nothing says that agents of another type could take the work on."""
    looker, agents = Looker(), [*fleet(2, load=0.9), *idle("other")]
    looker.watch(agents, capability="trading")
    looker.watch(agents)
    assert [known["action"] for known in looker.open] == ["scale_up"]


# Which orders are issued.


def test_order_on_the_wire():
    """An order says all that the contract promises."""
    observed = {"agents": 1, "pending": 0, "mean_load": 0.5, "mean_health": 1.0, "sample_age": 0.0}
    assert Looker().look(fleet(1)) == {
        "v": 1,
        "order_id": "o1",
        "capability": "vision",
        "action": "scale_up",
        "observed": {**observed, "reporting": 1, "missing": 0, "starting": 0},
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


def test_an_order_of_a_clock_that_was_set_back():
    """It expires, as one does that is too old; else nothing would be ordered for as long as the clock went back."""
    looker = Looker()
    looker.look(fleet(1))
    looker.wall -= 3600.0
    order = looker.look(fleet(1), after=5.0)
    assert order is not None
    assert (order["generation"], order["attempt"]) == (1, 2)


def test_a_capability_that_nobody_has_any_more():
    """Without a policy of its own nobody wants it; with one it is filled up from nobody."""
    looker = Looker()
    looker.look(fleet(1))
    assert looker.look([], after=5.0) is None
    assert (looker.open, looker.report()["last_order"]["outcome"]) == ([], "withdrawn")
    assert looker.watch_for([], 300.0) == []
    looker.scaler.policies.learn("vision", {"min_agents": 1}, 5)
    assert looker.look([], after=5.0) is not None


def test_open_order_is_not_repeated():
    """While an order is open nothing else is ordered; what was ordered is pending."""
    looker = Looker()
    order = looker.look(fleet(1))
    assert looker.look(fleet(1), after=119.0) is None
    assert looker.reason == "order o1 is open; 1 agent, fewer than min_agents 2"
    assert looker.open == [order]
    assert looker.report()["observed"]["pending"] == 1


def test_expired_order_is_attempted_again():
    """An order that expired is issued again under a new id: the same generation, the next attempt."""
    looker = Looker()
    looker.look(fleet(1))
    for attempt in (2, 3):
        order = looker.look(fleet(1), after=120.0)
        assert order is not None
        assert (order["order_id"], order["generation"], order["attempt"]) == (f"o{attempt}", 1, attempt)
        assert looker.report()["last_order"]["outcome"] == "expired"
    looker.look(fleet(1), after=5.0)
    assert looker.reason.startswith("order o3 is open, attempt 3: those before were not carried out; 1 agent")


def test_expired_order_gives_way_to_another_decision():
    """When something else is decided after an expiry, that is a new generation."""
    looker = Looker()
    looker.look(fleet(1))
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
    """Agents that are missing are ordered at once, although another one is to be replaced; that order is superseded."""
    looker, agents = Looker(), fleet(3)
    agents[0].health = 0.55
    first = looker.look(agents)
    assert first is not None
    assert first["action"] == "replace"
    order = looker.look(agents[:1], after=5.0)
    assert order is not None
    assert (order["action"], order["desired"], order["generation"], order["attempt"]) == ("scale_up", 2, 2, 1)
    assert looker.open == [order]
    assert looker.report()["last_order"]["outcome"] == "superseded"
    again = looker.look(agents[:2], after=5.0)
    assert again is not None
    assert (again["action"], again["agents"], again["generation"]) == ("replace", ("a0",), 3)


def test_high_load_does_not_wait_for_a_step_down():
    """A step down that nobody took is superseded when load is high instead."""
    looker = Looker(stabilisation_down=0.0)
    first = looker.watch(fleet(4, load=0.1))
    assert first is not None
    assert first["action"] == "scale_down"
    looker.look(fleet(4, load=0.94), after=5.0)
    order = looker.look(fleet(4, load=0.94), after=5.0)
    assert order is not None
    assert (order["action"], order["desired"]) == ("scale_up", 7)
    assert looker.open == [order]


def test_an_unfit_agent_does_not_wait_for_a_step_down():
    """When the load is right again, replacing is more urgent than removing."""
    looker, agents = Looker(stabilisation_down=0.0), fleet(4, load=0.1)
    assert looker.watch(agents) is not None
    agents = fleet(4, load=0.5)
    agents[0].health = 0.55
    order = looker.look(agents, after=5.0)
    assert order is not None
    assert (order["action"], order["agents"]) == ("replace", ("a0",))


def test_too_many_are_not_replaced():
    """An unfit agent does not hold up removing those that are too many, and is the first of them."""
    looker, agents = Looker(stabilisation_down=0.0), fleet(10, load=0.05)
    looker.look(agents)
    agents[0].health = 0.55
    order = looker.look(agents, after=5.0)
    assert order is not None
    assert (order["action"], order["agents"][0]) == ("scale_down", "a0")


def test_more_are_needed_than_were_ordered():
    """An order for more takes the place of one for fewer: another decision, not another attempt."""
    looker = Looker()
    looker.watch(fleet(4, load=0.85))
    looker.look(fleet(4, load=1.0), after=5.0)
    order = looker.look(fleet(4, load=1.0), after=5.0)
    assert order is not None
    assert (order["desired"], order["attempt"]) == (8, 1)
    assert looker.open == [order]
    assert looker.look(fleet(4, load=1.0), after=5.0) is None
    assert looker.report()["observed"]["pending"] == 4


def test_fewer_to_remove_than_were_ordered():
    """When there may be more agents than before, the policy has changed, and its order is withdrawn."""
    looker = Looker()
    looker.look(fleet(12))
    looker.scaler.policies.learn("vision", {"max_agents": 11}, 7)
    order = looker.look(fleet(12), after=5.0)
    assert order is not None
    assert (order["action"], order["desired"], order["agents"]) == ("scale_down", 11, ("a11",))
    assert looker.report()["last_order"]["outcome"] == "withdrawn"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (fleet(1), [*fleet(1), make_agent("sick", capabilities=("vision",), health=0.55)]),
        (fleet(1), fleet(1, load=0.0)),
    ],
    ids=["unfit after too few", "no load"],
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
    looker, agents = Looker(), fleet(5)
    agents[0].health = 0.55
    order = looker.look(agents[:4])
    assert looker.look(agents, after=5.0) is None
    agents[1].health = 0.52
    assert looker.look(agents, after=5.0) is None
    assert looker.open == [order]


def test_an_expired_order_without_a_reason_is_dropped():
    """What nobody carried out and nobody wants any more is neither open nor pending."""
    looker = Looker(min_agents=1)
    assert looker.watch(fleet(1, load=0.94)) is not None
    assert looker.look(fleet(1, load=0.5), after=119.0) is None
    assert looker.open
    assert looker.look(fleet(1, load=0.5), after=1.0) is None
    report = looker.report()
    assert (report["orders"], report["observed"]["pending"], report["desired"]) == ([], 0, 1)
    looker.look(fleet(1, load=0.94), after=5.0)
    order = looker.look(fleet(1, load=0.94), after=5.0)
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
    """An order whose effect is there has ended; the next is a new generation."""
    looker = Looker()
    order = looker.look(before)
    assert order is not None
    assert order["action"] == action
    assert looker.look(after, after=5.0) is None
    assert looker.open == []
    last = looker.report()["last_order"]
    assert (last["order_id"], last["outcome"], last["ended_at"]) == ("o1", "fulfilled", 8005.0)
    again = looker.look(before, after=5.0)
    assert again is not None
    assert (again["generation"], again["attempt"]) == (2, 1)


@pytest.mark.parametrize("action", ["scale_down", "replace"])
def test_not_fulfilled_before_the_named_have_finished(action: str):
    """Who drains takes no new work, and has work: the order is open until it has left."""
    looker, agents = Looker(max_agents=4), fleet(5)
    if action == "replace":
        agents = fleet(4)
        agents[3].health = 0.55
    order = looker.look(agents)
    assert order is not None
    assert order["action"] == action
    [name] = order["agents"]
    draining = make_agent(name, capabilities=("vision",), status=Status.DEREGISTERING)
    others = [agent for agent in agents if agent.agent_id != name]
    new = [make_agent("new", capabilities=("vision",))] if action == "replace" else []
    assert looker.look([*others, *new, draining], after=5.0) is None
    assert looker.open == [order]
    assert looker.look([*others, *new], after=5.0) is None
    assert looker.open == []


def test_replacement_of_a_suspended_agent_is_not_repeated():
    """One order is open until it expires, also when the unfit agent is suspended and serves no more."""
    looker = Looker()
    fields: dict[str, Any] = {"capabilities": ("vision",), "status": Status.SUSPENDED, "status_reason": "health"}
    agents = [*fleet(3), make_agent("sick", health=0.3, **fields)]
    assert looker.look(agents) is not None
    for _ in range(5):
        assert looker.look(agents, after=5.0) is None
    again = looker.look(agents, after=120.0)
    assert again is not None
    assert (again["generation"], again["attempt"]) == (1, 2)
    assert looker.look(fleet(3), after=5.0) is None
    assert looker.open == []


def test_switched_off():
    """Switched off, the scaler says what it would do and orders nothing."""
    looker = Looker(enabled=False)
    assert looker.look(fleet(1)) is None
    assert looker.reason == "auto-scaling is off; would be: 1 agent, fewer than min_agents 2"
    assert looker.report()["desired"] == 2


def test_dry_run():
    """The same for one capability alone."""
    looker = Looker()
    looker.scaler.policies.own["vision"] = {"dry_run": True}
    assert looker.look(fleet(1)) is None
    assert looker.reason == "dry run; would be: 1 agent, fewer than min_agents 2"
    assert (looker.report()["desired"], looker.open) == (2, [])


def test_report_of_a_capability_not_looked_at():
    """A capability that was not looked at yet is reported as that, with the policy that holds for it."""
    scaler = Looker().scaler
    scaler.policies.own["trading"] = {"min_agents": 1}
    report = scaler.report("trading", both(3))
    assert (report["desired"], report["orders"], report["reason"]) == (3, [], "not looked at yet")
    assert (report["observed"]["agents"], report["observed"]["mean_load"]) == (3, None)
    assert (report["policy"]["min_agents"], report["policy"]["source"]) == (1, "policy")
    assert scaler.report("vision", [])["policy"]["source"] == "default"
    assert scaler.report("vision", [])["reason"] == "not scaled: nobody has it, and it has no policy of its own"


def test_forgotten_capabilities():
    """What was seen of capabilities of which nobody speaks any more is forgotten; what is durable is not."""
    looker = Looker()
    looker.look(fleet(1))
    looker.scaler.forget([])
    assert looker.reason != "not looked at yet"
    looker.look(fleet(2), after=5.0)
    looker.scaler.forget(["vision"])
    assert looker.reason != "not looked at yet"
    looker.scaler.forget(["trading"])
    assert (looker.report()["observed"]["mean_load"], looker.report()["last_order"]["outcome"]) == (None, "fulfilled")
