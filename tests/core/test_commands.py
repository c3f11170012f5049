"""Commands: deregister, suspend, resume, drain, and the rules that stick."""

from __future__ import annotations

import pytest

from registry.core.events import Verb
from registry.core.query import Query
from registry.core.status import Status
from tests.core.shell import START, WALL, Shell, World


def found(shell: Shell) -> set[str]:
    return {agent.agent_id for agent in shell.state.find(Query())[0]}


def test_deregister(world: World, shell: Shell):
    """Deregistering removes the agent for good; the removal's event carries the last status."""
    shell.register("a")
    world.beat("a", health_score=0.7)
    reply = shell.command(Verb.DEREGISTER, note="shift is over")
    assert reply.body == {"agent_id": "a", "deregistered": True, "revision": 3}
    assert "a" not in shell.state.agents
    assert found(shell) == set()
    event = world.bucket.events()[-1]
    assert (event["from"], event["to"], event["reason"]) == ("degraded", "degraded", "deregistered")
    assert (event["removed"], event["note"], event["revision"]) == (True, "shift is over", 3)


def test_deregister_is_answered_when_durable(shell: Shell):
    """Until the removal is acknowledged the agent is there."""
    shell.register("a")
    shell.manual = True
    reply = shell.command(Verb.DEREGISTER)
    assert reply.body is None
    assert found(shell) == {"a"}
    shell.release()
    assert reply["deregistered"] is True
    assert found(shell) == set()


def test_deregister_nobody(world: World, shell: Shell):
    """Deregistering an unknown agent answers `deregistered: false`, no error."""
    assert shell.command(Verb.DEREGISTER).body == {"agent_id": "a", "deregistered": False}
    assert world.bucket.log == []


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.RESUME, Verb.DRAIN])
def test_commands_for_nobody(shell: Shell, verb: Verb):
    """What is asked for an unknown agent is answered `not_found`."""
    assert shell.command(verb).code == "not_found"


def test_suspend_is_sticky(world: World, shell: Shell):
    """An operator's suspend takes an agent out of service, and no health brings it back."""
    shell.register("a")
    reply = shell.command(Verb.SUSPEND, note="looks odd")
    assert (reply["status"], reply["status_reason"]) == (Status.SUSPENDED, "operator")
    assert world.bucket.events()[-1]["note"] == "looks odd"
    assert found(shell) == set()
    for health in (1.0, 0.6, 0.1, 0.9):
        world.beat("a", health_score=health)
        assert shell.state.get("a").record.held
    assert len(world.bucket.log) == 2


def test_suspend_survives_a_checkpoint_and_a_restart(world: World, shell: Shell):
    """A hold is durable."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    world.beat("a", load_factor=0.9)
    world.advance(40.0)
    assert len(world.bucket.log) == 3
    world.replica("two")
    assert world.shells[1].state.get("a").record.held


@pytest.mark.parametrize(
    ("health", "status", "reason"),
    [
        (1.0, Status.ACTIVE, "operator"),
        (0.6, Status.DEGRADED, "operator"),
        (0.2, Status.SUSPENDED, "health"),
    ],
)
def test_resume(world: World, shell: Shell, health: float, status: Status, reason: str):
    """Resuming lifts the hold; the health that was reported meanwhile decides where to."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    world.beat("a", health_score=health)
    reply = shell.command(Verb.RESUME)
    assert (reply["status"], reply["status_reason"]) == (status, reason)
    assert not shell.state.get("a").record.held


def test_resumed_agents_follow_their_health_again(world: World, shell: Shell):
    """After a resume, health moves the status as ever."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    shell.command(Verb.RESUME)
    world.beat("a", health_score=0.1)
    assert shell.state.get("a").status is Status.SUSPENDED
    world.beat("a", health_score=0.9)
    assert (shell.state.get("a").status, shell.state.get("a").record.status_reason) == (Status.ACTIVE, "recovered")


def test_suspending_an_agent_that_is_unwell(world: World, shell: Shell):
    """An agent suspended for its health can be held besides: it then does not come back by itself."""
    shell.register("a")
    world.beat("a", health_score=0.1)
    event = world.bucket.events()[-1]
    assert (event["to"], event["reason"]) == ("suspended", "health")
    assert shell.command(Verb.SUSPEND)["status_reason"] == "operator"
    world.beat("a", health_score=1.0)
    assert shell.state.get("a").status is Status.SUSPENDED


@pytest.mark.parametrize(
    ("before", "verb"),
    [([], Verb.RESUME), ([Verb.SUSPEND], Verb.SUSPEND), ([Verb.DRAIN], Verb.DRAIN)],
    ids=["resume", "suspend", "drain"],
)
def test_what_is_so_already_is_answered_at_once(world: World, shell: Shell, before: list[Verb], verb: Verb):
    """A command that changes nothing is answered with the agent, and is no event."""
    shell.register("a")
    for command in before:
        shell.command(command)
    revisions = len(world.bucket.log)
    assert shell.command(verb)["agent_id"] == "a"
    assert len(world.bucket.log) == revisions


def test_resuming_an_agent_that_nobody_holds_changes_nothing(world: World, shell: Shell):
    """An agent that is suspended for its health alone stays so when resumed, and that is no event."""
    shell.register("a")
    world.beat("a", health_score=0.1)
    revisions = len(world.bucket.log)
    reply = shell.command(Verb.RESUME)
    assert (reply["status"], reply["status_reason"]) == (Status.SUSPENDED, "health")
    assert len(world.bucket.log) == revisions


def test_drain(world: World, shell: Shell):
    """Draining takes no new work and tells the agent until when it has time; health moves it no more."""
    shell.register("a")
    reply = shell.command(Verb.DRAIN, note="new version")
    assert (reply["status"], reply["status_reason"]) == (Status.DEREGISTERING, "draining")
    assert found(shell) == set()
    shell.tick()
    [told] = shell.told
    assert (told.agent_id, told.topic) == ("a", "drain")
    assert told.body == {"agent_id": "a", "reason": "new version", "deadline": WALL + START + 300.0}
    for health in (0.1, 1.0):
        world.beat("a", health_score=health)
        assert shell.state.get("a").status is Status.DEREGISTERING


def test_drain_waits_for_assignments(world: World, shell: Shell):
    """What was assigned is still begun and done: the agent is told when nothing is reserved of it, or half-way."""
    for agent_id in ("a", "b"):
        shell.register(agent_id)
        shell.state.get(agent_id).reserved = 1
        shell.command(Verb.DRAIN, agent_id)
    world.advance(140.0, beating=["a", "b"], step=5.0)
    assert shell.told == []
    shell.state.get("a").reserved = 0
    shell.tick()
    assert [told.agent_id for told in shell.told] == ["a"]
    world.advance(15.0, beating=["a", "b"], step=5.0)
    assert [told.agent_id for told in shell.told] == ["a", "b"]
    shell.state.get("b").reserved = 0


def test_drain_is_told_by_whoever_leads(world: World, shell: Shell):
    """The one who led may have died before it was told, and nobody knows."""
    follower = world.replica("two")
    shell.register("a")
    shell.command(Verb.DRAIN)
    shell.follow()
    follower.lead()
    follower.tick()
    assert [told.agent_id for told in follower.told] == ["a"]
    world.advance(5.0, beating=["a"])
    assert len(follower.told) == 1


def test_draining_a_held_agent(shell: Shell):
    """A hold does not keep an agent from being drained."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    assert shell.command(Verb.DRAIN)["status"] is Status.DEREGISTERING


@pytest.mark.parametrize("instance", ["i1", "i2"])
@pytest.mark.parametrize("how", ["silence", "drain"])
def test_a_hold_outlives_the_agent_s_absence(world: World, shell: Shell, instance: str, how: str):
    """Only an operator lifts it: a crash and a restart do not."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.SUSPEND)
    if how == "silence":
        world.advance(101.0)
    else:
        shell.command(Verb.DRAIN)
    assert shell.command(Verb.SUSPEND).code == "conflict"
    shell.register("a", instance_id=instance, takeover=True)
    if how == "silence" or instance == "i2":
        assert (shell.state.get("a").status, shell.state.get("a").record.status_reason) == (
            Status.SUSPENDED,
            "operator",
        )
        assert shell.command(Verb.RESUME)["status"] is Status.ACTIVE


def test_drain_ends_when_the_agent_says_so(world: World, shell: Shell):
    """A draining agent deregisters itself when it is done."""
    shell.register("a")
    shell.command(Verb.DRAIN)
    assert shell.command(Verb.DEREGISTER)["deregistered"] is True
    assert world.bucket.events()[-1]["reason"] == "deregistered"


def test_drain_deadline(world: World, shell: Shell):
    """A draining agent that is not done by its deadline is removed, though it still beats."""
    shell.register("a")
    world.advance(10.0, beating=["a"])
    shell.command(Verb.DRAIN)
    world.advance(299.5, beating=["a"])
    assert shell.state.get("a").status is Status.DEREGISTERING
    world.advance(0.5, beating=["a"])
    assert "a" not in shell.state.agents
    event = world.bucket.events()[-1]
    assert (event["reason"], event["to"], event["removed"]) == ("draining", "deregistering", True)


def test_a_draining_agent_that_falls_silent(world: World, shell: Shell):
    """A draining agent whose lease lapses is removed before its deadline."""
    shell.register("a", heartbeat_interval=2.0)
    shell.command(Verb.DRAIN)
    world.advance(8.0)
    assert "a" not in shell.state.agents


@pytest.mark.parametrize(
    ("verb", "message"),
    [(Verb.SUSPEND, "is deregistering (draining)"), (Verb.RESUME, "is deregistering (draining)")],
)
def test_a_draining_agent_cannot_be_called_back(world: World, shell: Shell, verb: Verb, message: str):
    """A draining agent is neither suspended nor resumed: that is a conflict, and changes nothing."""
    shell.register("a")
    shell.command(Verb.DRAIN)
    reply = shell.command(verb)
    assert reply.code == "conflict"
    assert message in reply.body.message
    assert len(world.bucket.log) == 2


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.RESUME, Verb.DRAIN])
def test_an_offline_agent_must_register(world: World, shell: Shell, verb: Verb):
    """An offline agent comes back only by registering; it can be deregistered."""
    shell.register("a", heartbeat_interval=1.0)
    world.advance(10.0)
    reply = shell.command(verb)
    assert reply.code == "conflict"
    assert "is offline (heartbeat_timeout); only registering it again brings it back" in reply.body.message
    assert shell.command(Verb.DEREGISTER)["deregistered"] is True


def test_what_nobody_waits_for_is_not_answered(shell: Shell):
    """A command without a place to answer takes place all the same, and sends no answer anywhere."""
    shell.world.reply = lambda: None
    shell.register("a")
    assert shell.state.get("a").status is Status.ACTIVE
    shell.command(Verb.SUSPEND)
    shell.command(Verb.SUSPEND)
    shell.command(Verb.DRAIN)
    shell.command(Verb.DEREGISTER)
    shell.command(Verb.DEREGISTER)
    assert "a" not in shell.state.agents
