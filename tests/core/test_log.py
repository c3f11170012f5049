"""The bucket's log: echoes of one's own writes, writes of others, and facts that overtake each other.

Acknowledgements, answers to reads and entries of the log come by different subscriptions: each is in order, but not
one against the other.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.core.effects import PutRecord, ReadRecord
from registry.core.events import BucketListed, BucketReplaced, RecordChanged, Verb
from registry.core.status import Status
from tests.core.shell import Bucket, Fate, Shell, World


def hear_again(shell: Shell, revision: int) -> None:
    """Hear an entry of the log again, as after a new subscription."""
    entry = shell.world.bucket.log[revision - 1]
    shell.handle(RecordChanged(shell.world.now, entry.key, entry.record, entry.revision))


def test_an_echo_is_nothing_new(world: World, shell: Shell):
    """The log's entry of an own write changes nothing: not what was heard since, nor when it was written."""
    shell.deaf = True
    shell.register("a")
    world.advance(5.0)
    world.beat("a", health_score=0.9, load_factor=0.7)
    agent = shell.state.get("a")
    known = (agent.record, agent.heard, agent.health, agent.load)
    world.advance(1.0)
    shell.release()
    assert (agent.record, agent.heard, agent.health, agent.load) == known


def test_older_entries_are_ignored(world: World, shell: Shell):
    """Entries older than what is known change nothing, in whatever order they come again."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    shell.command(Verb.RESUME)
    record = shell.state.get("a").record
    for revision in (2, 1, 3, 1, 2):
        hear_again(shell, revision)
        assert shell.state.get("a").record is record


def test_older_entries_bring_nobody_back(world: World, shell: Shell):
    """After a removal no older entry resurrects the agent, nor does the removal's own echo."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    shell.command(Verb.DEREGISTER)
    for revision in (1, 2, 3, 2, 1):
        hear_again(shell, revision)
        assert "a" not in shell.state.agents


def test_a_removal_s_echo_does_not_remove_who_came_back(world: World, shell: Shell):
    """The echo of a removal that was written over is older than what is known."""
    shell.deaf = True
    shell.register("a")
    shell.command(Verb.DEREGISTER)
    shell.register("a")
    shell.release()
    hear_again(shell, 2)
    assert shell.state.get("a").revision == 3


def test_only_the_newest_entry_may_come(world: World, shell: Shell):
    """After a gap the log begins with the newest entry of each key: states are folded, not steps."""
    shell.register("a", tags=("eu",))
    for verb in (Verb.SUSPEND, Verb.RESUME, Verb.DRAIN):
        shell.command(verb)
    shell.register("gone")
    shell.command(Verb.DEREGISTER, "gone")
    late = world.replica("two")
    agent = late.state.get("a")
    assert (agent.status, agent.record.tags, agent.revision) == (Status.DEREGISTERING, ("eu",), 4)
    assert set(late.state.agents) == {"a"}


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.DRAIN])
def test_who_came_back_in_a_gap_has_a_lease(world: World, shell: Shell, verb: Verb):
    """A new life that began in a gap of the log has its full lease, though only a later change of it was heard."""
    other = world.replica("two")
    shell.register("a", instance_id="i1", heartbeat_interval=2.0)
    world.advance(20.0)
    assert shell.state.get("a").status is Status.OFFLINE
    shell.deaf = True
    other.register("a", instance_id="i1", heartbeat_interval=2.0)
    other.command(verb)
    shell.hear_newest()
    world.advance(5.5)
    assert shell.state.get("a").status is not Status.OFFLINE
    world.advance(0.5)
    assert "a" not in shell.state.agents or shell.state.get("a").status is Status.OFFLINE


def test_what_another_replica_wrote(world: World, shell: Shell):
    """Changes by another replica are heard from the log: newcomers, changes, removals."""
    other = world.replica("two")
    other.register("a", tags=("eu",))
    assert shell.state.get("a").record.tags == ("eu",)
    other.command(Verb.SUSPEND)
    assert shell.state.get("a").status is Status.SUSPENDED
    other.command(Verb.DEREGISTER)
    assert "a" not in shell.state.agents
    assert shell.state.statistics.registrations == 0


def test_a_checkpoint_keeps_the_chain(world: World, shell: Shell):
    """The event after a checkpoint names the change before it, on every replica and after a restart."""
    shell.register("a")
    world.beat("a", load_factor=0.9)
    world.advance(31.0)
    assert world.bucket.log[-1].record.change is None
    late = world.replica("two")
    late.command(Verb.SUSPEND)
    assert world.bucket.events()[-1]["previous_revision"] == 1


def test_an_echo_before_its_acknowledgement(world: World, shell: Shell):
    """The log may show an own write before it is acknowledged; it takes place once, and is answered once."""
    shell.manual = True
    reply = shell.register("a")
    shell.carry_out()
    shell.hear()
    assert shell.state.get("a").revision == 1
    shell.deliver()
    assert reply["revision"] == 1


@pytest.mark.parametrize("after", [Verb.SUSPEND, Verb.DEREGISTER])
def test_an_acknowledgement_that_comes_after_somebody_else_s_write(world: World, shell: Shell, after: Verb):
    """An acknowledgement that was overtaken by a newer entry of the log does not bring the older state back."""
    other = world.replica("two")
    shell.manual = True
    reply = shell.register("a")
    shell.carry_out()
    other.release()
    other.command(after)
    shell.hear()
    shell.deliver()
    assert reply.body is not None
    if after is Verb.DEREGISTER:
        assert "a" not in shell.state.agents
    else:
        assert shell.state.get("a").status is Status.SUSPENDED


def test_a_removal_s_acknowledgement_that_comes_after_a_new_registration(world: World, shell: Shell):
    """Who deregistered and whose id was registered again elsewhere does not vanish with the late acknowledgement."""
    other = world.replica("two")
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.DEREGISTER)
    shell.carry_out()
    other.register("a")
    shell.hear()
    shell.deliver()
    assert reply["deregistered"] is True
    assert shell.state.get("a").revision == 3


@pytest.mark.parametrize("read", ["nothing", "removal", "record"])
def test_a_read_that_was_overtaken(world: World, shell: Shell, read: str):
    """What was read before a newer entry of the log was heard does not undo it."""
    other = world.replica("two")
    shell.deaf = True
    if read != "nothing":
        other.register("a", instance_id="i0")
    if read == "removal":
        other.command(Verb.DEREGISTER)
    shell.manual = True
    reply = shell.register("a", instance_id="i1")
    shell.carry_out(0, Fate.LOST)
    shell.deliver()
    shell.carry_out()
    other.register("a", instance_id="i2", takeover=True)
    shell.hear()
    known = shell.state.get("a").revision
    shell.deliver()
    assert shell.state.get("a").revision == known
    shell.release()
    assert ("instance_id", "i2") in reply.body.details


def test_a_read_record_that_was_removed_since(world: World, shell: Shell):
    """An agent that was read, and then heard to be removed, is not brought back by the read."""
    other = world.replica("two")
    shell.register("a")
    shell.manual = True
    shell.command(Verb.SUSPEND)
    shell.carry_out(0, Fate.LOST)
    shell.deliver()
    shell.carry_out()
    other.command(Verb.DEREGISTER)
    shell.hear()
    shell.deliver()
    assert "a" not in shell.state.agents


def test_a_command_that_took_place_is_not_repeated_over_a_newer_change(world: World, shell: Shell):
    """An unacknowledged write that the log has shown did take place: it is not done again over what came after."""
    other = world.replica("two")
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.DEREGISTER)
    shell.carry_out(0, Fate.UNACKED)
    other.register("a")
    shell.hear()
    shell.release()
    assert reply["deregistered"] is True
    assert shell.state.get("a").revision == 3, "who registered after the deregistration stays"


@pytest.mark.parametrize("connected", [True, False])
def test_an_answer_to_a_read_that_is_no_longer_needed(world: World, shell: Shell, connected: bool):
    """The log may settle a write before the bucket was read; what was read then says nothing of the next write."""
    shell.register("a")
    shell.manual = True
    suspend = shell.command(Verb.SUSPEND)
    resume = shell.command(Verb.RESUME)
    shell.carry_out(0, Fate.UNACKED)
    shell.deliver()
    shell.hear()
    read, write = shell.todo
    assert (type(read), type(write)) == (ReadRecord, PutRecord)
    if not connected:
        shell.disconnect()
    shell.carry_out()
    if not connected:
        shell.connect()
        shell.tick()
    world.beat("a", health_score=0.6)
    shell.carry_out()
    shell.deliver()
    assert resume.body is None, "its own write has not ended"
    shell.deliver()
    assert (suspend.code, resume["status"], shell.todo[0].record.status) == (None, Status.ACTIVE, Status.DEGRADED)
    shell.release()
    assert len(world.bucket.log) == 4


def test_a_bucket_that_was_made_anew(world: World, shell: Shell):
    """Nobody is known any more, not even as removed; a write that was on its way is decided on the new bucket."""
    shell.register("a", instance_id="i1")
    shell.register("b")
    shell.command(Verb.DEREGISTER, "b")
    shell.manual = True
    reply = shell.register("a", instance_id="i2", takeover=True)
    world.bucket = Bucket()
    shell.heard, shell._known = 0, {}
    shell.handle(BucketReplaced(world.now))
    shell.state.validate()
    assert (shell.state.agents, shell.state.removed, shell.state.unswept) == ({}, {}, {})
    shell.release()
    assert (reply["incarnation"], reply["revision"]) == (1, 1)
    assert shell.register("b")["revision"] == 2


def test_a_record_by_hand(world: World, shell: Shell):
    """A record that somebody put into the bucket with the `nats` CLI is taken as it is."""
    shell.register("a", tags=("eu",))
    record = replace(world.bucket.last["a"].record, tags=("us",), change=None, change_revision=1, write_id="hand")
    world.bucket.append("a", record)
    world.run()
    assert shell.state.get("a").record.tags == ("us",)


def test_who_is_not_in_the_bucket_any_more_is_forgotten(world: World, shell: Shell):
    """A replica that was away for longer than the marks of removals live has not heard of them."""
    for agent_id in ("a", "b", "c"):
        shell.register(agent_id)
    revision = shell.state.get("b").revision
    shell.handle(BucketListed(world.now, {"a"}, revision))
    assert set(shell.state.agents) == {"a", "c"}, "c is newer than what was looked at"
    assert "b" not in shell.state.removed, "the bucket has no entry on which it could be registered again"
    shell.state.validate()
    shell.command(Verb.SUSPEND, "b")
    assert set(shell.state.agents) == {"a", "b", "c"}, "who is there all the same is found when the bucket is asked"
