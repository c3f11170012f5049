"""Standing and suspicion: what moves an agent's rank beside what it reports."""

from __future__ import annotations

import pytest

from registry.core.events import ConnectionClosed, Outcome
from registry.core.limits import Limits
from registry.core.query import Query
from registry.core.standing import COLD
from registry.core.status import Status
from tests.core.shell import Shell, World

SUBJECT = "agent.a.health_check"


def beats(world: World, seconds: float, agents: str, interval: float = 1.0) -> None:
    """Let agents beat regularly, each replica hearing it."""
    for _ in range(round(seconds / 0.1)):
        world.advance(0.1, step=0.1)
        if round(world.now * 10) % round(interval * 10) == 0:
            for agent_id in agents:
                world.beat(agent_id, is_beat=True)


def ranked(shell: Shell, sort_by: str = "performance") -> list[str]:
    return [agent.agent_id for agent in shell.find(Query(sort_by=sort_by))[0]]


@pytest.mark.parametrize("sort_by", ["performance", "health", "load", "random"])
def test_the_suspected_come_last_long_before_their_lease_ends(world: World, shell: Shell, sort_by: str):
    """Every replica suspects, for each hears every beat; the leader's verdict comes later or never."""
    other = world.replica("two")
    for agent_id in "abc":
        shell.register(agent_id, heartbeat_interval=1.0, heartbeat_timeout=10.0)
    beats(world, 30.0, "abc")
    assert shell.state.get("a").suspicion == 0.0
    beats(world, 4.0, "bc")
    for replica in (shell, other):
        assert replica.state.get("a").suspicion == 1.0
        assert replica.state.get("a").status is Status.ACTIVE
        assert ranked(replica, sort_by)[-1] == "a"
    beats(world, 1.0, "abc")
    for replica in (shell, other):
        assert replica.state.get("a").suspicion == 0.0
        assert replica.state.get("a").standing == 1.0


def test_suspicion_is_for_those_that_beat_often():
    world = World(limits=Limits(reconnect_grace=0.0, suspicion_below=2.0))
    shell = world.replica("one", leading=True)
    shell.register("a", heartbeat_interval=2.0)
    shell.register("b", heartbeat_interval=2.1)
    world.beat("a", is_beat=True)
    world.beat("b", is_beat=True)
    assert shell.state.get("a").rhythm is not None
    assert shell.state.get("b").rhythm is None


def test_while_the_registry_cannot_hear_nobody_is_suspected(world: World, shell: Shell):
    shell.register("a", heartbeat_interval=1.0)
    beats(world, 20.0, "a")
    world.stall(20.0)
    assert shell.state.get("a").suspicion == 0.0
    shell.disconnect()
    world.advance(20.0)
    assert shell.state.get("a").suspicion == 0.0


def test_an_answered_probe_ends_suspicion(world: World, shell: Shell):
    shell.register("a", heartbeat_interval=1.0, heartbeat_timeout=30.0, health_subject=SUBJECT)
    beats(world, 20.0, "a")
    beats(world, 5.0, "")
    assert shell.state.get("a").suspicion == 1.0
    while shell.probes:
        shell.answer(Outcome.ANSWERED)
    assert shell.state.get("a").suspicion == 0.0


def test_who_comes_back_warms_up(world: World, shell: Shell):
    """Its rank rises to what it would be; at every replica."""
    other = world.replica("two")
    shell.register("a", health_subject=SUBJECT)
    shell.register("b")
    assert shell.state.get("a").standing == 1.0, "a newcomer has all of it"
    world.advance(1.0)
    shell.handle(ConnectionClosed(world.now, "a", "S", 1, "Read Error"))
    shell.answer(Outcome.NO_RESPONDERS)
    shell.answer(Outcome.NO_RESPONDERS)
    shell.register("a", health_subject=SUBJECT, instance_id="i2")
    warm_up, risen = world.limits.warm_up, []
    for _ in range(12):
        world.advance(warm_up / 10, beating="ab")
        assert shell.state.get("a").standing == other.state.get("a").standing
        risen.append(shell.state.get("a").standing)
    assert risen == sorted(risen)
    assert COLD <= risen[0] < 0.5
    assert risen[-1] == 1.0
    assert ranked(shell)[0] in "ab"


def test_no_warm_up():
    world = World(limits=Limits(reconnect_grace=0.0, warm_up=0.0))
    shell = world.replica("one", leading=True)
    shell.register("a", heartbeat_interval=1.0)
    world.advance(10.0)
    assert shell.state.get("a").status is Status.OFFLINE
    shell.register("a", heartbeat_interval=1.0, instance_id="i2")
    assert shell.state.get("a").standing == 1.0


def test_who_hangs_comes_last(world: World, shell: Shell):
    for agent_id in "abc":
        shell.register(agent_id, health_subject=f"agent.{agent_id}.health_check")
    world.advance(30.0, beating="abc")
    shell.answer(Outcome.TIMEOUT, "b", took=4.0)
    assert ranked(shell)[-1] == "b"
    assert shell.state.get("b").standing == 0.0
