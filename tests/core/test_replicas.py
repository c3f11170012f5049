"""Several replicas on one bucket: a leader and followers, races, and leaders that were paused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.core.effects import PutRecord
from registry.core.events import Outcome, Verb
from registry.core.status import Status
from tests.core.shell import Shell, World


@pytest.fixture
def follower(world: World, shell: Shell) -> Shell:
    """A second replica, which follows."""
    return world.replica("two")


def test_followers_start_nothing(world: World, follower: Shell):
    """Only the leader expires, assesses, probes and saves; a follower hears the same and writes nothing."""
    leader = world.shells[0]
    leader.register("a", heartbeat_interval=2.0, health_subject="agent.a.health_check")
    leader.follow()
    world.beat("a", health_score=0.1, load_factor=0.9)
    world.advance(60.0)
    assert follower.probes == leader.probes == []
    assert len(world.bucket.log) == 1
    assert follower.state.get("a").status is Status.ACTIVE


def test_followers_take_commands(world: World, shell: Shell, follower: Shell):
    """Commands are served by any replica."""
    assert follower.register("a")["status"] == "active"
    assert shell.command(Verb.SUSPEND)["status"] is Status.SUSPENDED
    assert follower.command(Verb.RESUME)["status"] is Status.ACTIVE
    assert shell.command(Verb.DEREGISTER)["deregistered"] is True
    assert follower.command(Verb.DEREGISTER)["deregistered"] is False


def test_followers_hear_telemetry(world: World, shell: Shell, follower: Shell):
    """Every replica hears every beat, so that each answers queries from what is known now."""
    shell.register("a")
    world.beat("a", health_score=0.9, load_factor=0.4, metrics={"success_rate": 1.0})
    for replica in (shell, follower):
        agent = replica.state.get("a")
        assert (agent.health, agent.load, agent.metrics) == (0.9, 0.4, {"success_rate": 1.0})


def test_a_follower_takes_over_with_hot_state(world: World, shell: Shell, follower: Shell):
    """Who becomes the leader goes on at once with what it heard as a follower, health and all."""
    shell.register("a")
    shell.follow()
    world.beat("a", health_score=0.1)
    follower.lead()
    assert world.bucket.events()[-1]["reason"] == "health"
    assert shell.state.get("a").status is Status.SUSPENDED


def raced(world: World, one: Shell, two: Shell, ask: Callable[[Shell], object]) -> list[object]:
    """Ask both replicas before either hears of the other's write."""
    one.manual = two.manual = True
    replies = [ask(one), ask(two)]
    one.carry_out()
    two.carry_out()
    one.release()
    two.release()
    return replies


def test_two_register_one_id(world: World, shell: Shell, follower: Shell):
    """Of two instances that register one id at two replicas, one gets it; the other is refused."""
    shell.manual = follower.manual = True
    first = shell.register("a", instance_id="i1")
    second = follower.register("a", instance_id="i2")
    shell.release()
    follower.release()
    assert first["incarnation"] == 1
    assert second.code == "already_registered"
    assert len(world.bucket.log) == 1


def test_one_instance_registers_at_two_replicas(world: World, shell: Shell, follower: Shell):
    """One instance that asks two replicas, as after a time-out, is registered once."""
    first, second = raced(world, shell, follower, lambda replica: replica.register("a", instance_id="i1"))
    assert first["incarnation"] == second["incarnation"] == 1
    assert len(world.bucket.events("a")) == 1


def test_two_take_over(world: World, shell: Shell, follower: Shell):
    """Of two takeovers the later fences the earlier: two incarnations, one after the other."""
    shell.register("a", instance_id="i0")
    shell.manual = follower.manual = True
    first = shell.register("a", instance_id="i1", takeover=True)
    second = follower.register("a", instance_id="i2", takeover=True)
    shell.release()
    follower.release()
    assert (first["incarnation"], second["incarnation"]) == (2, 3)


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.DRAIN], ids=str)
def test_two_ask_the_same(world: World, shell: Shell, follower: Shell, verb: Verb):
    """The same command at two replicas takes place once and is answered to both."""
    shell.register("a")
    first, second = raced(world, shell, follower, lambda replica: replica.command(verb))
    assert first["status"] is second["status"]
    assert len(world.bucket.log) == 2


def test_two_deregister(world: World, shell: Shell, follower: Shell):
    """Two deregistrations: one removed it, the other found nobody."""
    shell.register("a")
    first, second = raced(world, shell, follower, lambda replica: replica.command(Verb.DEREGISTER))
    assert [first["deregistered"], second["deregistered"]] == [True, False]
    assert len(world.bucket.log) == 2


def test_expiry_against_a_new_registration(world: World, shell: Shell, follower: Shell):
    """A leader's late decision that an agent is lost cannot undo a registration that came first."""
    shell.register("a", instance_id="i1", heartbeat_interval=1.0)
    shell.manual = True
    world.advance(4.0)
    [order] = shell.todo
    assert isinstance(order, PutRecord)
    assert order.record.status is Status.OFFLINE
    reply = follower.register("a", instance_id="i2", takeover=True)
    shell.release()
    assert (reply["incarnation"], shell.state.get("a").status) == (2, Status.ACTIVE)
    assert [event["reason"] for event in world.bucket.events()] == ["registered", "takeover"]


def test_a_paused_leader_cannot_undo_anything(world: World, shell: Shell, follower: Shell):
    """Two replicas that both think they lead do each thing once."""
    shell.register("a", heartbeat_interval=1.0)
    shell.register("b", heartbeat_interval=1.0)
    shell.manual = follower.manual = True
    follower.lead()
    world.advance(8.0)
    assert len(shell.todo) == len(follower.todo) == 2
    shell.release()
    follower.release()
    assert {agent.status for agent in follower.state.agents.values()} == {Status.OFFLINE}
    assert len(world.bucket.log) == 4


def test_removal_on_both(world: World, shell: Shell, follower: Shell):
    """An agent whose deregistration one replica acknowledged is gone from the other as soon as it hears so."""
    shell.register("a")
    follower.deaf = True
    shell.command(Verb.DEREGISTER)
    assert "a" in follower.state.agents
    follower.release()
    assert "a" not in follower.state.agents


def test_a_gone_holder_is_replaced_once(world: World, shell: Shell, follower: Shell):
    """Two newcomers at two replicas, for an id whose holder is gone: one gets it, the other's probe finds it alive."""
    shell.register("a", instance_id="i0", health_subject="agent.a.health_check")
    shell.deaf = follower.deaf = True
    first = shell.register("a", instance_id="i1", health_subject="agent.a.health_check")
    second = follower.register("a", instance_id="i2", health_subject="agent.a.health_check")
    for replica in (shell, follower):
        replica.answer(Outcome.NO_RESPONDERS)
        replica.answer(Outcome.NO_RESPONDERS)
    assert first["incarnation"] == 2
    assert second.body is None, "it probes the new holder"
    follower.answer(Outcome.ANSWERED)
    assert ("instance_id", "i1") in second.body.details


def test_a_restarted_replica_knows_everything(world: World, shell: Shell):
    """Whoever starts on the bucket knows every agent, and whom the bucket says is lost or draining."""
    shell.register("a", instance_id="i1", tags=("eu",), claims=("db",))
    world.beat("a", health_score=0.9, load_factor=0.4)
    shell.register("b", heartbeat_interval=1.0)
    world.advance(31.0, beating=["a"])
    shell.command(Verb.DRAIN)
    world.advance(2.0)
    late = world.replica("two")
    known = {agent_id: (agent.revision, agent.record) for agent_id, agent in late.state.agents.items()}
    assert known == world.bucket.live()
    agent = late.state.get("a")
    assert (agent.health, agent.load, agent.status) == (0.9, 0.4, Status.DEREGISTERING)
    assert agent.load_at == pytest.approx(shell.state.get("a").load_at)
    assert agent.since == pytest.approx(shell.state.get("a").since)
    assert late.state.get("b").status is Status.OFFLINE


def test_a_leader_that_was_away_decides_nothing_before_its_lease_is_renewed(world: World, shell: Shell):
    """Another one may lead by then. What was to be decided is decided when it is sure to lead; commands at once."""
    for agent_id in ("a", "b", "c"):
        shell.register(agent_id, heartbeat_interval=1.0, heartbeat_timeout=2.0)
    shell.sure = False
    shell.disconnect()
    shell.connect()
    written = len(world.bucket.log)
    world.beat("a", health_score=0.1)
    world.advance(60.0, beating=("a", "b"))
    assert len(world.bucket.log) == written
    assert shell.command(Verb.SUSPEND, "b")["status"] is Status.SUSPENDED
    shell.sure = True
    world.advance(1.0, beating=("a", "b"))
    reasons = {event["agent_id"]: event["reason"] for event in world.bucket.events()[-3:]}
    assert reasons == {"a": "health", "b": "operator", "c": "heartbeat_timeout"}


def test_who_stood_still_decides_nothing_before_its_lease_is_renewed(world: World, shell: Shell):
    """Nor does what is heard before the next tick, of which it is known that it stood still."""
    shell.register("a")
    shell.sure = False
    world.advance(0.5)
    world.beat("a", health_score=0.1)
    assert shell.state.get("a").status is Status.ACTIVE
    shell.sure = True
    world.advance(0.5)
    assert shell.state.get("a").status is Status.SUSPENDED
