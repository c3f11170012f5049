"""A command that is sent twice under one name is carried out once, whoever hears it and whatever is under way."""

from __future__ import annotations

import pytest

from registry.core.events import Verb
from registry.core.status import Status
from tests.core.shell import Fate, Shell, World

NAME = "asked-once"


@pytest.fixture
def other(world: World, shell: Shell) -> Shell:
    """A second replica, which does not hear the log."""
    other = world.replica("two")
    other.deaf = True
    return other


def test_a_registration_without_an_id_makes_one_agent(world: World, shell: Shell, other: Shell):
    first = shell.register(None, write_id=NAME)
    again, elsewhere = shell.register(None, write_id=NAME), other.register(None, write_id=NAME)
    assert first["agent_id"] == "worker-asked-once"
    assert first.body == again.body == elsewhere.body
    assert len(world.bucket.log) == 1


def test_a_registration_sent_twice_while_the_first_is_under_way(world: World, shell: Shell):
    shell.manual = True
    replies = [shell.register(None, write_id=NAME) for _ in range(3)]
    shell.release()
    assert len({reply["revision"] for reply in replies}) == 1
    assert len(world.bucket.log) == 1


def test_a_registration_under_way_at_two_replicas(world: World, shell: Shell, other: Shell):
    """Whose write loses finds its own command done."""
    shell.manual = other.manual = True
    replies = [one.register("a", write_id=NAME) for one in (shell, other)]
    world.settle()
    assert {reply["revision"] for reply in replies} == {1}


@pytest.mark.parametrize("fate", [Fate.UNACKED, Fate.LOST])
def test_a_registration_whose_first_sending_has_an_unknown_end(world: World, shell: Shell, other: Shell, fate: Fate):
    shell.fates.append(fate)
    shell.register("a", write_id=NAME)
    assert other.register("a", write_id=NAME)["revision"] == 1
    assert len(world.bucket.log) == 1


def test_another_registration_is_not_taken_for_the_same(world: World, shell: Shell):
    shell.register("a", write_id=NAME)
    assert shell.register("a", write_id="another").code == "already_registered"


def test_a_deregistration(world: World, shell: Shell, other: Shell):
    """Who repeats it is told that the agent was there, as the first time."""
    shell.register("a")
    first = shell.command(Verb.DEREGISTER, write_id=NAME)
    again, elsewhere = shell.command(Verb.DEREGISTER, write_id=NAME), other.command(Verb.DEREGISTER, write_id=NAME)
    assert first["deregistered"]
    assert first.body == again.body == elsewhere.body
    assert not shell.command(Verb.DEREGISTER, write_id="another")["deregistered"]


def test_a_deregistration_repeated_late_leaves_a_new_registration_alone(world: World, shell: Shell):
    """If it names the incarnation that it means."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.DEREGISTER, incarnation=1, write_id=NAME)
    shell.register("a", instance_id="i2")
    assert shell.command(Verb.DEREGISTER, incarnation=1, write_id=NAME).code == "stale_incarnation"
    assert shell.state.get("a").record.incarnation == 2


@pytest.mark.parametrize(("verb", "status"), [(Verb.SUSPEND, Status.SUSPENDED), (Verb.DRAIN, Status.DEREGISTERING)])
def test_other_commands(world: World, shell: Shell, other: Shell, verb: Verb, status: Status):
    shell.register("a")
    answers = [one.command(verb, write_id=NAME) for one in (shell, shell, other)]
    assert {answer["status"] for answer in answers} == {status}
    assert len(world.bucket.log) == 2


def test_a_command_for_an_incarnation_that_this_replica_has_not_heard_of(world: World, shell: Shell, other: Shell):
    """The bucket is asked before anything is denied."""
    other.deaf = False
    world.run()
    shell.register("a", instance_id="i1")
    other.deaf = True
    shell.register("a", instance_id="i2", takeover=True)
    assert other.command(Verb.SUSPEND, incarnation=2)["status"] is Status.SUSPENDED
    assert other.command(Verb.SUSPEND, incarnation=3).code == "not_found"
    assert other.command(Verb.SUSPEND, incarnation=1).code == "stale_incarnation"
