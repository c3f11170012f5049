"""Where the registry asks agents how they are, and where it never does, whoever names it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.core.events import Outcome
from registry.core.health_subject import may_be_asked
from registry.core.record import Change
from registry.core.status import Status
from tests.core.make import make_record
from tests.core.shell import Shell, World

FOREIGN = [
    "$KV.registry_agents.trader-1",
    "$JS.API.STREAM.DELETE.KV_registry_agents",
    "$SRV.PING.registry",
    "_INBOX.a",
    "_INBOX_a.b",
    "registry",
    "registry.deregister.a",
    "agent.*.health_check",
    "agent.>",
    "agent..health_check",
    "agent.a b",
    "agent.a\r\nPUB registry.deregister.a 0\r\n",
    "",
]


@pytest.mark.parametrize("subject", FOREIGN)
def test_never_asked(subject: str):
    assert not may_be_asked(subject, "registry")


@pytest.mark.parametrize(
    "subject",
    ["agent.a.health_check", "trading.health", "health", "registry2.health", "my.registry.health", "a.$x", "a._x"],
)
def test_asked(subject: str):
    """A subject of the agent's own, by convention or not; only whole tokens make the registry's."""
    assert may_be_asked(subject, "registry")


def test_another_prefix():
    """The prefix is the deployment's, and may have several tokens."""
    assert not may_be_asked("corp.registry.deregister.a", "corp.registry")
    assert may_be_asked("corp.health.a", "corp.registry")
    assert may_be_asked("registry.deregister.a", "corp.registry")


@pytest.mark.parametrize("subject", FOREIGN)
def test_refused(shell: Shell, subject: str):
    """Who names such a subject is told which field is wrong, and what would be right."""
    reply = shell.register("b", health_subject=subject)
    assert reply.code == "invalid_request"
    assert reply.body.details[0][0] == "health_subject"
    assert "agent.b.health_check would do" in reply.body.message


def test_an_update_is_checked_too(shell: Shell):
    """Nobody registers well and then moves."""
    shell.register("a", instance_id="i1", health_subject="agent.a.health_check")
    assert shell.register("a", instance_id="i1", health_subject="registry.deregister.b").code == "invalid_request"


@pytest.mark.parametrize("subject", FOREIGN)
def test_a_record_that_names_one(world: World, shell: Shell, subject: str):
    """The bucket may hold one, written by hand or by an older version: nobody is asked there, now or for its id."""
    first = Change(Status.REGISTERING, "registered", 0.0, previous_revision=0)
    world.bucket.append("a", make_record("a", health_subject=subject, change=first))
    world.run()
    assert shell.state.get("a").record.health_subject == subject
    world.advance(60.0, beating=["a"])
    assert shell.register("a", instance_id="other").code == "already_registered"
    assert shell.probes == []


def test_one_that_changes_while_it_is_asked(world: World, shell: Shell):
    """The second question after no answer goes nowhere when the agent has no subject any more."""
    shell.register("a", instance_id="i1", health_subject="agent.a.health_check")
    while not shell.probes:
        world.advance(0.5, beating=["a"])
    update = Change(Status.ACTIVE, "updated", 0.0, previous_revision=1)
    record = replace(shell.state.get("a").record, health_subject="registry.deregister.b", write_id="x", change=update)
    world.bucket.append("a", record)
    world.run()
    shell.answer(Outcome.NO_RESPONDERS)
    assert shell.probes == []
