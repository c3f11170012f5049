"""A command that is sent twice under one name is carried out once, whoever hears it and whatever is under way."""

from __future__ import annotations

import pytest

from registry.core.events import Outcome, Verb
from registry.core.limits import MAX_COMMANDS
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
    first = shell.register(None, name=NAME)
    again, elsewhere = shell.register(None, name=NAME), other.register(None, name=NAME)
    assert first["agent_id"] == "worker-asked-once"
    assert first.body == again.body == elsewhere.body
    assert len(world.bucket.log) == 1


def test_a_registration_sent_twice_while_the_first_is_under_way(world: World, shell: Shell):
    shell.manual = True
    replies = [shell.register(None, name=NAME) for _ in range(3)]
    shell.release()
    assert len({reply["revision"] for reply in replies}) == 1
    assert len(world.bucket.log) == 1


def test_a_registration_under_way_at_two_replicas(world: World, shell: Shell, other: Shell):
    """Whose write loses finds its own command done."""
    shell.manual = other.manual = True
    replies = [one.register("a", name=NAME) for one in (shell, other)]
    world.settle()
    assert {reply["revision"] for reply in replies} == {1}


@pytest.mark.parametrize("fate", [Fate.UNACKED, Fate.LOST])
def test_a_registration_whose_first_sending_has_an_unknown_end(world: World, shell: Shell, other: Shell, fate: Fate):
    shell.fates.append(fate)
    shell.register("a", name=NAME)
    assert other.register("a", name=NAME)["revision"] == 1
    assert len(world.bucket.log) == 1


def test_another_registration_is_not_taken_for_the_same(world: World, shell: Shell):
    shell.register("a", name=NAME)
    assert shell.register("a", name="another").code == "already_registered"


def test_a_deregistration(world: World, shell: Shell, other: Shell):
    """Who repeats it is told that the agent was there, as the first time."""
    shell.register("a")
    first = shell.command(Verb.DEREGISTER, name=NAME)
    again, elsewhere = shell.command(Verb.DEREGISTER, name=NAME), other.command(Verb.DEREGISTER, name=NAME)
    assert first["deregistered"]
    assert first.body == again.body == elsewhere.body
    assert not shell.command(Verb.DEREGISTER, name="another")["deregistered"]


def test_a_deregistration_repeated_late_leaves_a_new_registration_alone(world: World, shell: Shell):
    """If it names the incarnation that it means."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.DEREGISTER, incarnation=1, name=NAME)
    shell.register("a", instance_id="i2")
    assert shell.command(Verb.DEREGISTER, incarnation=1, name=NAME).code == "stale_incarnation"
    assert shell.state.get("a").record.incarnation == 2


@pytest.mark.parametrize(("verb", "status"), [(Verb.SUSPEND, Status.SUSPENDED), (Verb.DRAIN, Status.DEREGISTERING)])
def test_other_commands(world: World, shell: Shell, other: Shell, verb: Verb, status: Status):
    shell.register("a")
    answers = [one.command(verb, name=NAME) for one in (shell, shell, other)]
    assert {answer["status"] for answer in answers} == {status}
    assert len(world.bucket.log) == 2


@pytest.fixture
def late(world: World, shell: Shell) -> Shell:
    """A replica that stands still with a command in its hands."""
    late = world.replica("late")
    late.manual = late.deaf = True
    return late


def test_a_late_registration_does_not_bring_back_who_was_removed(world: World, shell: Shell, late: Shell):
    reply = late.register("a", name=NAME)
    shell.register("a", name=NAME)
    shell.command(Verb.DEREGISTER)
    world.settle()
    assert reply.code == "conflict"
    assert not world.bucket.live()
    assert late.register("a", name=NAME).code == "conflict"
    assert late.register("a", name="another")["incarnation"] == 2


def test_a_late_suspension_does_not_undo_what_came_after(world: World, shell: Shell, late: Shell):
    shell.register("a")
    late.hear()
    reply = late.command(Verb.SUSPEND, name=NAME)
    shell.command(Verb.SUSPEND, name=NAME)
    shell.command(Verb.RESUME, name="another")
    world.settle()
    assert reply["status"] is Status.ACTIVE
    assert shell.state.get("a").status is Status.ACTIVE


def test_a_late_deregistration_leaves_a_new_registration_alone(world: World, shell: Shell, late: Shell):
    shell.register("a")
    late.hear()
    reply = late.command(Verb.DEREGISTER, name=NAME)
    assert shell.command(Verb.DEREGISTER, name=NAME)["deregistered"]
    shell.register("a", name="another")
    world.settle()
    assert reply.code == "conflict"
    assert shell.state.get("a").status is Status.ACTIVE


def test_so_many_later_commands_are_remembered(world: World, shell: Shell):
    shell.register("a", name=NAME, instance_id="i")
    for number in range(MAX_COMMANDS - 1):
        shell.command(Verb.RESUME if number % 2 else Verb.SUSPEND, name=f"n{number}")
    assert shell.register("a", name=NAME, instance_id="i", tags=("later",)).code is None
    assert shell.state.get("a").record.tags == (), "it has been carried out"
    shell.command(Verb.RESUME, name="one more")
    shell.register("a", name=NAME, instance_id="i", tags=("later",))
    assert shell.state.get("a").record.tags == ("later",), "nobody knows any more"


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


@pytest.mark.parametrize("subject", [None, "agent.a.health_check"])
def test_who_was_replaced_is_not_given_his_successors_place(world: World, shell: Shell, subject: str | None):
    """Who asks again under the same name is told the successor's incarnation by nobody: both would beat as the same."""
    first = {"instance_id": "i1", "health_subject": subject, "name": NAME}
    shell.register("a", **first)
    second = shell.register("a", instance_id="i2", health_subject=subject, takeover=subject is None)
    while second.body is None:  # who listens only with the receipt is not there yet
        shell.answer(Outcome.NO_RESPONDERS, "a")
    assert second["incarnation"] == 2
    assert shell.register("a", **first).code == "conflict"


@pytest.mark.parametrize("name", [None, NAME])
def test_a_deregistration_nobody_heard_the_end_of(world: World, shell: Shell, other: Shell, name: str | None):
    """It took place, and somebody has registered the id since."""
    shell.register("a", instance_id="i1")
    shell.manual = True
    reply = shell.command(Verb.DEREGISTER, name=name)
    shell.carry_out(0, Fate.UNACKED)
    shell.deaf = True
    assert other.register("a", instance_id="i2")["incarnation"] == 2
    shell.manual = shell.deaf = False
    world.run()
    assert reply.code == "conflict"
    assert other.state.get("a").record.instance_id == "i2"


@pytest.mark.parametrize("name", [None, NAME])
def test_a_suspension_nobody_heard_the_end_of(world: World, shell: Shell, other: Shell, name: str | None):
    shell.register("a")
    shell.manual = True
    shell.command(Verb.SUSPEND, name=name)
    shell.carry_out(0, Fate.UNACKED)
    shell.deaf = True
    assert other.command(Verb.RESUME)["status"] is Status.ACTIVE
    shell.manual = shell.deaf = False
    world.run()
    assert other.state.get("a").status is Status.ACTIVE
