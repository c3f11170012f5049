"""A record that the bucket will never take: whoever asked is told, and nobody waits behind it."""

from __future__ import annotations

from registry.core.effects import PutRecord
from registry.core.events import Verb, WriteRefused
from registry.core.status import Status
from tests.core.shell import Shell, World


def refuse(world: World, shell: Shell) -> None:
    """The bucket refuses the write that was ordered last."""
    order = shell.todo.pop()
    assert isinstance(order, PutRecord)
    shell.handle(WriteRefused(world.now, order.record.agent_id, order.record.write_id, "too large"))


def test_a_registration_that_is_too_large(world: World, shell: Shell):
    """It is refused, and the id is as free as before."""
    shell.manual = True
    reply = shell.register("a")
    refuse(world, shell)
    assert reply.code == "payload_too_large"
    assert reply.body.details == (("metadata", "too large"),)
    assert not shell.state.writes
    shell.manual = False
    assert shell.register("a")["incarnation"] == 1


def test_who_waits_behind_it_is_decided(world: World, shell: Shell):
    """On what is known, which has not changed."""
    shell.register("a")
    shell.manual = True
    first, second = shell.command(Verb.SUSPEND), shell.command(Verb.DEREGISTER)
    refuse(world, shell)
    assert (first.code, second.body) == ("payload_too_large", None)
    shell.release()
    assert second["deregistered"] is True


def test_what_the_registry_decided_by_itself_is_given_up(world: World, shell: Shell):
    """Nobody waits for an answer; another sign of life decides anew."""
    shell.register("a")
    shell.manual = True
    shell.beat("a", health_score=0.1)
    refuse(world, shell)
    assert not shell.state.writes
    assert shell.state.get("a").status is Status.ACTIVE
    shell.manual = False
    shell.beat("a", health_score=0.1)
    assert shell.state.get("a").status is Status.SUSPENDED


def test_the_refusal_of_another_write_means_nothing(world: World, shell: Shell):
    """The outcome was learnt from the log already."""
    shell.register("a")
    shell.handle(WriteRefused(world.now, "a", "long ago", "too large"))
    assert shell.state.get("a").status is Status.ACTIVE
