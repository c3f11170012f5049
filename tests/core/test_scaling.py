"""Scaling as the leader does it: when it looks, what it looks at, and what it keeps between its terms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.core import upkeep
from registry.core.effects import PutOrders
from registry.core.events import OrdersChanged, PoliciesReplaced, Verb
from registry.core.order import Orders
from registry.core.policy import Policy
from registry.core.scaling import scaling_report
from tests.core.shell import Fate, Shell, World


@pytest.fixture
def world() -> Iterator[World]:
    """A world in which orders are issued."""
    world = World(scaling=True, policy=Policy(stabilisation_down=60.0, warm_up=0.0))
    yield world
    world.check()


def fleet(shell: Shell, size: int, load: float | None = None, **fields: object) -> list[str]:
    agents = [f"a{number}" for number in range(size)]
    for agent_id in agents:
        shell.register(agent_id, **fields)
        if load is not None:
            shell.world.beat(agent_id, load_factor=load)
    return agents


def work(world: World, agents: list[str], seconds: int, load: float) -> None:
    """Let agents report their load each second."""
    for _ in range(seconds):
        world.advance(1.0)
        for agent_id in agents:
            world.beat(agent_id, load_factor=load)


def test_too_few(world: World, shell: Shell):
    """A capability with too few agents gets one order, counted, which is closed when they are there."""
    world.advance(5.0)
    shell.register("a")
    world.advance(5.0)
    [order] = shell.orders
    assert (order["capability"], order["action"], order["desired"], order["epoch"]) == ("analysis", "scale_up", 2, 1)
    assert shell.state.statistics.scaling_orders == 1
    world.advance(20.0)
    assert len(shell.orders) == 1
    shell.register("b")
    world.advance(5.0)
    assert scaling_report(shell.state, "analysis")["capabilities"][0]["orders"] == []


def test_looked_at_once_an_interval(world: World, shell: Shell):
    """Every capability is looked at once an interval."""
    fleet(shell, 2, capabilities=("analysis", "vision"))
    looked: list[tuple[float, str]] = []
    look = shell.state.scaler.look
    shell.state.scaler.look = lambda name, *rest: (looked.append((world.now, name)), look(name, *rest))[1]
    world.advance(10.0)
    instants = (world.now - 9.5, world.now - 4.5)
    assert looked == [(at, capability) for at in instants for capability in ("analysis", "vision")]


def test_much_work_is_spread(world: World, shell: Shell, monkeypatch: pytest.MonkeyPatch):
    """When there is much to look at, each tick does a part; nothing is left out."""
    monkeypatch.setattr(upkeep, "SCALING_WORK", 1)
    shell.register("a", capabilities=("analysis", "trading", "vision"))
    world.advance(0.5)
    world.advance(5.0)
    assert [order["capability"] for order in shell.orders] == ["analysis", "trading", "vision"]


def test_who_counts(world: World, shell: Shell):
    """Agents that are suspended, draining or offline are no capacity."""
    fleet(shell, 5, heartbeat_interval=1.0)
    shell.command(Verb.SUSPEND, "a0")
    shell.command(Verb.DRAIN, "a1")
    world.advance(8.0, beating=["a0", "a1", "a2"])
    report = scaling_report(shell.state, "analysis")["capabilities"][0]
    assert report["observed"]["agents"] == 1
    assert shell.orders[-1]["desired"] == 2


def test_only_the_leader_orders(world: World, shell: Shell):
    """Followers order nothing; the next leader finds the open order, and does not repeat it before it expires."""
    follower = world.replica("two")
    shell.register("a")
    world.advance(10.0, beating=["a"])
    assert (len(shell.orders), len(follower.orders)) == (1, 0)
    shell.follow()
    follower.lead()
    world.advance(100.0, beating=["a"])
    assert follower.orders == []
    assert scaling_report(follower.state, "analysis")["capabilities"][0]["orders"][0]["epoch"] == 1
    world.advance(20.0, beating=["a"])
    assert [(o["epoch"], o["generation"], o["attempt"]) for o in follower.orders] == [(2, 1, 2)]


def test_an_order_that_is_fulfilled_without_a_leader_is_not_repeated(world: World, shell: Shell):
    """What was started while nobody led closes the order, also when it expired meanwhile."""
    follower = world.replica("two")
    shell.register("a")
    world.advance(10.0, beating=["a"])
    shell.follow()
    follower.register("b")
    world.advance(200.0, beating=["a", "b"])
    follower.lead()
    world.advance(10.0, beating=["a", "b"])
    assert follower.orders == []
    report = scaling_report(follower.state, "analysis")["capabilities"][0]
    assert (report["orders"], report["last_order"]["outcome"]) == ([], "fulfilled")


def test_an_order_is_published_when_it_is_durable(world: World, shell: Shell):
    """Not before; and if its leader dies between the two, by the next one."""
    follower = world.replica("two")
    shell.register("a")
    shell.manual = True
    world.advance(5.5)
    assert shell.orders == []
    [put] = [put for put in shell.todo if isinstance(put, PutOrders)]
    shell.todo.remove(put)
    world.ordered.put(put)  # acknowledged, but it does not live to hear so
    shell.follow()
    shell.facts.clear()
    shell.deaf, shell.manual = True, True
    follower.lead()
    world.advance(5.5, beating=["a"])
    [order] = follower.orders
    assert (order["order_id"], order["epoch"]) == (put.orders.open.order_id, 1)


def test_an_acknowledgement_of_an_earlier_term(world: World, shell: Shell):
    """Leadership lost and won again while orders are on their way: what is published is what the bucket has."""
    shell.register("a")
    shell.manual = shell.deaf = True
    world.advance(5.5)
    shell.follow()
    shell.lead()
    world.advance(5.5, beating=["a"])
    assert len([put for put in shell.todo if isinstance(put, PutOrders)]) == 2
    shell.release()
    world.advance(10.0, beating=["a"])
    assert [order["order_id"] for order in shell.orders] == [world.ordered.log[0].orders.open.order_id]


def test_an_acknowledgement_of_another_bucket(world: World, shell: Shell):
    """The control bucket is made anew while orders are on their way: they are written to the new one."""
    world.ordered.log += [OrdersChanged(0.0, "vision", Orders(), n + 1) for n in range(40)]
    shell.register("a")
    shell.manual = shell.deaf = True
    world.advance(5.5)
    shell.carry_out(next(n for n, put in enumerate(shell.todo) if isinstance(put, PutOrders)))
    world.ordered.log.clear()
    world.ordered.last.clear()
    shell.orders_heard = 0
    shell.handle(PoliciesReplaced(world.now))
    shell.release()
    world.advance(10.0, beating=["a"])
    assert len(shell.orders) == 1
    assert [entry.orders.open.order_id for entry in world.ordered.log] == [shell.orders[0]["order_id"]]


def test_a_leader_of_the_past_orders_nothing(world: World, shell: Shell):
    """What it decided before it stood still is refused, for another has ordered meanwhile."""
    follower = world.replica("two")
    shell.register("a")
    shell.manual = shell.deaf = True
    world.advance(5.5)
    follower.lead()
    world.advance(5.5, beating=["a"])
    assert len(follower.orders) == 1
    shell.release()
    assert shell.orders == []
    shell.follow()


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNACKED, Fate.LATE])
def test_orders_of_unknown_outcome(world: World, shell: Shell, fate: Fate):
    """If the write took place its order is published, else another one is made: one order is open, and was told."""
    shell.register("a")
    world.run()
    shell.fates.append(fate)
    world.advance(5.5, beating=["a"])
    world.land_late()
    world.advance(10.0, beating=["a"])
    assert len(shell.orders) == 1
    [order] = scaling_report(shell.state, "analysis")["capabilities"][0]["orders"]
    assert order["order_id"] == shell.orders[0]["order_id"]


def test_low_load_counts_from_the_leader_s_own_term(world: World, shell: Shell):
    """A leader that comes back does not count the time in which it did not look as time of low load."""
    follower = world.replica("two")
    agents = fleet(shell, 4)
    work(world, agents, 20, load=0.1)
    shell.follow()
    follower.lead()
    work(world, agents, 100, load=0.5)
    work(world, agents, 2, load=0.1)
    follower.follow()
    shell.lead()
    work(world, agents, 50, load=0.1)
    assert shell.orders == []
    work(world, agents, 30, load=0.1)
    assert [order["action"] for order in shell.orders] == ["scale_down"]


def test_a_policy_change_withdraws_the_order(world: World, shell: Shell):
    """What another policy decided is taken back, and decided anew."""
    shell.register("a")
    world.advance(5.5)
    shell.set_policy("analysis", min_agents=4)
    world.advance(5.0)
    assert [order["desired"] for order in shell.orders] == [2, 4]
    shell.set_policy("analysis", min_agents=1)
    world.advance(5.0)
    assert len(shell.orders) == 2
    assert scaling_report(shell.state, "analysis")["capabilities"][0]["orders"] == []


def test_a_policy_is_looked_at_without_agents(world: World, shell: Shell):
    """A capability that has a policy of its own is scaled up from nobody; one without is left alone."""
    shell.set_policy("vision", min_agents=1)
    world.advance(5.5)
    assert [(order["capability"], order["desired"]) for order in shell.orders] == [("vision", 1)]


def test_nobody_is_scaled_while_nats_is_away(world: World, shell: Shell):
    """Cut off, the leader orders nothing."""
    shell.register("a")
    shell.disconnect()
    world.advance(60.0)
    assert shell.orders == []


def test_report(world: World, shell: Shell):
    """The report lists the capabilities that agents have or policies name."""
    shell.register("a", capabilities=("analysis", "vision"))
    shell.set_policy("trading", min_agents=1)
    report = scaling_report(shell.state, None)
    assert report["enabled"] is True
    assert [entry["capability"] for entry in report["capabilities"]] == ["analysis", "trading", "vision"]


def test_replacing_a_suspended_agent(world: World, shell: Shell):
    """An agent of poor health is suspended and ordered to be replaced: one order, not one an interval."""
    agents = fleet(shell, 4)
    world.beat("a0", health_score=0.3)
    world.advance(60.0, beating=agents)
    assert [(order["action"], order["agents"]) for order in shell.orders] == [("replace", ("a0",))]
    shell.command(Verb.DEREGISTER, "a0")
    world.advance(5.5, beating=agents[1:])
    assert scaling_report(shell.state, "analysis")["capabilities"][0]["orders"] == []


def test_agents_that_die_while_another_is_replaced(world: World, shell: Shell):
    """The next look orders those that are missing; nobody waits for the replacement to expire."""
    agents = fleet(shell, 3)
    world.beat("a0", health_score=0.55)
    world.advance(6.0, beating=agents)
    assert [order["action"] for order in shell.orders] == ["replace"]
    for agent_id in ("a1", "a2"):
        shell.command(Verb.DEREGISTER, agent_id)
    world.advance(5.0, beating=["a0"])
    assert [(order["action"], order["desired"]) for order in shell.orders] == [("replace", 3), ("scale_up", 2)]
    assert shell.orders[1]["generation"] > shell.orders[0]["generation"]


def test_loads_do_not_count_at_once_after_an_interruption(world: World, shell: Shell):
    """Agents whose connections come back one after the other say for a moment that they are full."""
    shell.state.limits.reconnect_grace = 5.0
    agents = fleet(shell, 2, load=0.5)
    work(world, agents, 20, load=0.5)
    shell.disconnect()
    world.advance(1.0)
    shell.connect()
    for agent_id in agents:
        world.beat(agent_id, load_factor=1.0)
    world.advance(4.0)
    assert shell.orders == []
    work(world, agents, 10, load=0.5)
    assert shell.orders == []
    work(world, agents, 10, load=0.9)
    assert [order["action"] for order in shell.orders] == ["scale_up"]
