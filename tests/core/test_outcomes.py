"""How writes end: acknowledged, lost to somebody else, unknown, or not at all because NATS is away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.core.effects import PutRecord, ReadRecord
from registry.core.events import ReadFailed, RecordRead, Verb, WriteCommitted, WriteUncertain
from registry.core.handler import handle
from registry.core.limits import LAPSE_RETRY, MAX_ATTEMPTS, MAX_WAITING
from registry.core.status import Status
from tests.core.shell import Fate, Shell, World

UNKNOWN = [Fate.UNACKED, Fate.LOST, Fate.LATE]


# Commands queue behind a write.


def test_commands_wait_for_a_write(world: World, shell: Shell):
    """One write an agent: further commands wait, are decided on its outcome, and are answered in order."""
    shell.manual = True
    register = shell.register("a", instance_id="i1")
    suspend, resume, deregister, again = (
        shell.command(Verb.SUSPEND),
        shell.command(Verb.RESUME),
        shell.command(Verb.DEREGISTER),
        shell.register("a", instance_id="i2"),
    )
    assert len(shell.todo) == 1
    assert len(shell.state.writes) == 1
    for answered in range(1, 6):
        shell.carry_out()
        shell.deliver()
        assert [reply.body is not None for reply in (register, suspend, resume, deregister, again)] == (
            [True] * answered + [False] * (5 - answered)
        )
    assert deregister["deregistered"] is True
    assert (again["incarnation"], again["revision"]) == (2, 5)
    assert [event["reason"] for event in world.bucket.events()] == [
        "registered",
        "operator",
        "operator",
        "deregistered",
        "registered",
    ]


def test_other_agents_do_not_wait(shell: Shell):
    """A write that takes long holds up only its own agent."""
    shell.manual = True
    slow = shell.register("a")
    fast = shell.register("b")
    shell.carry_out(1)
    shell.deliver()
    assert fast["agent_id"] == "b"
    assert slow.body is None


def test_refusals_among_those_that_waited(shell: Shell):
    """A command that is refused when its turn comes does not hold up the next."""
    shell.manual = True
    shell.register("a", instance_id="i1")
    refused = shell.register("a", instance_id="i2")
    done = shell.command(Verb.RESUME)
    last = shell.command(Verb.SUSPEND)
    shell.release()
    assert refused.code == "already_registered"
    assert done["agent_id"] == "a"
    assert last["status"] is Status.SUSPENDED


def test_waiting_is_bounded(shell: Shell):
    """Who would wait behind too many is told so at once, and nothing else is affected."""
    shell.register("a")
    shell.manual = True
    replies = [shell.command(Verb.SUSPEND) for _ in range(1 + MAX_WAITING)]
    assert shell.command(Verb.SUSPEND).code == "overloaded"
    shell.release()
    assert {reply["status"] for reply in replies} == {Status.SUSPENDED}
    assert shell.state.statistics.refused["overloaded"] == 1


def test_writes_are_bounded(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    """With too many writes on their way, commands for further agents are refused as overloaded."""
    monkeypatch.setattr("registry.core.writes.MAX_WRITES", 2)
    shell.manual = True
    replies = [shell.register(agent_id) for agent_id in "abc"]
    assert replies[2].code == "overloaded"
    shell.release()
    assert set(shell.state.agents) == {"a", "b"}


def test_health_that_moved_during_a_write_counts_when_it_ends(world: World, shell: Shell):
    """The status follows what was heard while a write was on its way, once it has ended."""
    shell.register("a", instance_id="i1")
    shell.manual = True
    shell.register("a", instance_id="i1", tags=("x",))
    world.beat("a", health_score=0.1)
    assert len(shell.todo) == 1
    shell.release()
    assert shell.state.get("a").status is Status.SUSPENDED


def test_health_that_moved_before_a_command_that_changed_nothing(world: World, shell: Shell):
    """The status follows also when a command waited for the write and needed none itself."""
    shell.register("a", instance_id="i1")
    shell.manual = True
    shell.register("a", instance_id="i1", tags=("x",))
    world.beat("a", health_score=0.1)
    shell.command(Verb.RESUME)
    shell.release()
    assert shell.state.get("a").status is Status.SUSPENDED


# Lost to somebody else.


def test_conflict(world: World, shell: Shell):
    """Who lost against another write reads the bucket and decides anew, as the same write."""
    other = world.replica("two")
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.DRAIN)
    write_id = shell.todo[0].record.write_id
    other.command(Verb.SUSPEND)
    shell.carry_out()
    shell.deliver()
    assert isinstance(shell.todo[0], ReadRecord)
    shell.carry_out()
    shell.deliver()
    [again] = shell.todo
    assert isinstance(again, PutRecord)
    assert (again.expected, again.record.write_id, again.record.change.previous) == (2, write_id, Status.SUSPENDED)
    shell.release()
    assert reply["status"] is Status.DEREGISTERING
    assert shell.state.statistics.write_conflicts == 1


def test_conflict_with_a_removal(world: World, shell: Shell):
    """A command whose agent was removed meanwhile is answered as for an unknown agent."""
    other = world.replica("two")
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.SUSPEND)
    other.command(Verb.DEREGISTER)
    shell.release()
    assert reply.code == "not_found"
    assert "a" not in shell.state.agents


def test_conflict_that_makes_a_command_needless(world: World, shell: Shell):
    """A command that somebody else carried out meanwhile is answered, and writes nothing more."""
    other = world.replica("two")
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.SUSPEND)
    other.command(Verb.SUSPEND)
    shell.release()
    assert reply["status"] is Status.SUSPENDED
    assert len(world.bucket.log) == 2


def test_conflict_without_end(world: World, shell: Shell):
    """A command that loses again and again is given up as unavailable."""
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.SUSPEND)
    for attempt in range(MAX_ATTEMPTS):
        assert reply.body is None, f"after {attempt} attempts"
        last = world.bucket.last["a"].record
        world.bucket.append("a", replace(last, change=None, change_revision=1, write_id=f"other{attempt}"))
        shell.carry_out()
        shell.deliver()
        shell.carry_out()
        shell.deliver()
    assert reply.code == "unavailable"
    assert shell.state.statistics.refused["unavailable"] == 1


def test_those_who_waited_outlive_a_lost_write(world: World, shell: Shell):
    """Commands that waited for a write that lost go on waiting for its next attempt, in order."""
    other = world.replica("two")
    shell.register("a")
    shell.manual = True
    suspend, resume = shell.command(Verb.SUSPEND), shell.command(Verb.RESUME)
    other.register("a", takeover=True)
    shell.release()
    assert suspend.body is not None
    assert resume["status"] is Status.ACTIVE
    assert [event["reason"] for event in world.bucket.events()] == ["registered", "takeover", "operator", "operator"]


# Of unknown outcome.


@pytest.mark.parametrize("fate", UNKNOWN, ids=lambda fate: fate.name)
@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.DRAIN, Verb.DEREGISTER], ids=str)
def test_unknown_outcome(world: World, shell: Shell, verb: Verb, fate: Fate):
    """A write of unknown outcome is looked up: it takes place once, whether it had already or not."""
    shell.register("a")
    shell.fates.append(fate)
    reply = shell.command(verb)
    assert reply.body is not None
    assert reply.code is None
    world.land_late()
    assert len(world.bucket.log) == 2


@pytest.mark.parametrize("fate", UNKNOWN, ids=lambda fate: fate.name)
def test_unknown_outcome_of_a_registration(world: World, shell: Shell, fate: Fate):
    """A registration of unknown outcome is never refused as its own duplicate."""
    shell.fates.append(fate)
    reply = shell.register("a", instance_id="i1")
    assert (reply["incarnation"], reply["revision"]) == (1, 1)
    world.land_late()
    assert len(world.bucket.log) == 1


@pytest.mark.parametrize("fate", UNKNOWN, ids=lambda fate: fate.name)
def test_unknown_outcome_over_a_removal(world: World, shell: Shell, fate: Fate):
    """The same over a removal."""
    shell.register("a")
    shell.command(Verb.DEREGISTER)
    shell.fates.append(fate)
    assert shell.register("a")["revision"] == 3
    world.land_late()
    assert len(world.bucket.log) == 3


def test_unknown_again_and_again(world: World, shell: Shell):
    """A write that never arrives is given up."""
    shell.register("a")
    shell.fates.extend([Fate.LOST] * MAX_ATTEMPTS)
    assert shell.command(Verb.SUSPEND).code == "unavailable"
    assert shell.state.get("a").status is Status.ACTIVE


def test_a_write_that_lands_between_two_attempts(world: World, shell: Shell):
    """When the first attempt arrives after all, what is known is what it wrote, not what the second would have."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    shell.manual = True
    reply = shell.command(Verb.RESUME)
    shell.carry_out(0, Fate.LATE)
    shell.deliver()
    shell.carry_out()
    world.beat("a", health_score=0.6)
    shell.deliver()
    assert shell.todo[0].record.status is Status.DEGRADED
    world.land_late()
    assert world.bucket.last["a"].record.status is Status.ACTIVE
    shell.carry_out()
    shell.deliver()
    shell.carry_out()
    shell.deliver()
    assert reply.body is not None
    agent = shell.state.get("a")
    assert (agent.revision, agent.record) == world.bucket.live()["a"]
    shell.release()
    assert shell.state.get("a").status is Status.DEGRADED, "the leader then assesses it"


def test_the_leader_s_own_write_of_unknown_outcome(world: World, shell: Shell):
    """What nobody asked for is not decided anew: the log tells if it took place, time decides again if not."""
    shell.register("a", heartbeat_interval=1.0)
    shell.fates.append(Fate.LOST)
    world.advance(4.0)
    assert shell.state.get("a").status is Status.ACTIVE
    world.advance(LAPSE_RETRY)
    assert shell.state.get("a").status is Status.OFFLINE
    assert len(world.bucket.log) == 2


def test_the_leader_s_decision_that_lost_is_made_again(world: World, shell: Shell):
    """A decision on an agent's health that lost against another change is made again on what was found."""
    other = world.replica("two")
    shell.register("a", instance_id="i1")
    shell.manual = True
    world.beat("a", health_score=0.1)
    other.register("a", instance_id="i1", tags=("x",))
    shell.release()
    agent = shell.state.get("a")
    assert (agent.status, agent.record.tags) == (Status.SUSPENDED, ("x",))


def test_a_late_write_of_the_leader(world: World, shell: Shell):
    """A write that arrives after its time-out takes place once at most, and is heard from the log."""
    shell.register("a")
    shell.fates.append(Fate.LATE)
    world.beat("a", health_score=0.1)
    world.land_late()
    assert shell.state.get("a").status is Status.SUSPENDED
    assert len(world.bucket.log) == 2


# NATS is away.


@pytest.mark.parametrize("verb", list(Verb), ids=str)
def test_unavailable(world: World, shell: Shell, verb: Verb):
    """While NATS is away commands are answered 503 `unavailable`, those that wait too; nothing has changed."""
    shell.register("a")
    if verb is Verb.RESUME:
        shell.command(Verb.SUSPEND)
    status = shell.state.get("a").status
    shell.disconnect()
    shell.manual = True
    replies = [shell.command(verb), shell.command(Verb.DRAIN), shell.register("a", takeover=True)]
    revisions = len(world.bucket.log)
    shell.manual = False
    world.run()
    assert [reply.code for reply in replies] == ["unavailable"] * 3
    assert shell.state.statistics.refused["unavailable"] == 3
    assert shell.state.get("a").status is status
    assert len(world.bucket.log) == revisions
    shell.connect()
    assert shell.command(Verb.DEREGISTER)["deregistered"] is True


def test_unavailable_but_it_took_place(world: World, shell: Shell):
    """A write that took place though it was answered `unavailable` is heard from the log after reconnecting."""
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.SUSPEND)
    shell.carry_out(0, Fate.UNACKED)
    shell.disconnect()
    shell.deliver()
    shell.carry_out()
    shell.deliver()
    assert reply.code == "unavailable"
    assert shell.state.get("a").status is Status.ACTIVE
    shell.connect()
    shell.release()
    assert shell.state.get("a").status is Status.SUSPENDED


def test_answers_that_nobody_waits_for(shell: Shell):
    """Facts about writes that have ended already change nothing."""
    shell.register("a")
    record = shell.state.get("a").record
    for fact in (
        WriteCommitted(shell.world.now, "a", record.write_id, 7),
        WriteUncertain(shell.world.now, "a", record.write_id),
        RecordRead(shell.world.now, "a", None, 0),
        ReadFailed(shell.world.now, "a"),
    ):
        assert handle(shell.state, fact) == []
    shell.manual = True
    shell.command(Verb.SUSPEND)
    assert handle(shell.state, WriteCommitted(shell.world.now, "a", record.write_id, 7)) == []
    assert handle(shell.state, WriteUncertain(shell.world.now, "a", record.write_id)) == []
    assert shell.state.get("a").revision == 1
