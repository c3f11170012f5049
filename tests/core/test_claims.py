"""Claims: exclusive resources, one holder each."""

from __future__ import annotations

import pytest

from registry.core.events import Verb
from registry.core.status import Status
from tests.core.shell import Shell, World


def test_one_holder(shell: Shell):
    """A claim of a live agent is refused to another, and the holder is named."""
    shell.register("a", claims=("db", "disk"))
    reply = shell.register("b", claims=("net", "disk"))
    assert reply.code == "conflict"
    assert reply.body.message == "claims: 'disk' is held by agent 'a'"
    assert "b" not in shell.state.agents
    assert shell.state.catalog.by_claim == {"db": "a", "disk": "a"}


def test_the_holder_may_say_so_again(shell: Shell):
    """The holder's own updates and takeovers keep the claim."""
    shell.register("a", instance_id="i1", claims=("db",))
    assert shell.register("a", instance_id="i1", claims=("db", "disk")).code is None
    assert shell.register("a", instance_id="i2", claims=("db",), takeover=True).code is None
    assert shell.state.catalog.by_claim == {"db": "a"}


@pytest.mark.parametrize("how", ["update", "deregister", "offline", "takeover"])
def test_released(world: World, shell: Shell, how: str):
    """A claim is free when its holder gives it up, leaves, or is offline."""
    shell.register("a", instance_id="i1", claims=("db",))
    if how == "update":
        shell.register("a", instance_id="i1")
    elif how == "takeover":
        shell.register("a", instance_id="i2", takeover=True)
    elif how == "deregister":
        shell.command(Verb.DEREGISTER)
    else:
        world.advance(101.0)
    assert shell.register("b", claims=("db",)).code is None
    assert shell.state.catalog.by_claim == {"db": "b"}


@pytest.mark.parametrize("verb", [Verb.SUSPEND, Verb.DRAIN])
def test_kept_while_alive(shell: Shell, verb: Verb):
    """A holder that is suspended or draining still holds what it claimed."""
    shell.register("a", claims=("db",))
    shell.command(verb)
    assert shell.register("b", claims=("db",)).code == "conflict"


def test_who_comes_back_must_ask_again(world: World, shell: Shell):
    """An agent that was offline gets its claim back only if nobody took it meanwhile."""
    shell.register("a", instance_id="i1", claims=("db",))
    world.advance(101.0)
    shell.register("b", claims=("db",))
    assert shell.register("a", instance_id="i1", claims=("db",)).code == "conflict"
    assert shell.state.get("a").status is Status.OFFLINE
    shell.command(Verb.DEREGISTER, "b")
    assert shell.register("a", instance_id="i1", claims=("db",)).code is None


def test_two_at_one_replica(shell: Shell):
    """Of two agents that claim the same before either is durable, the first gets it."""
    shell.manual = True
    first, second = shell.register("a", claims=("db",)), shell.register("b", claims=("db",))
    assert second.code == "conflict"
    shell.release()
    assert first.code is None


def test_a_claim_that_came_to_nothing(world: World, shell: Shell):
    """A claim whose registration lost is free again."""
    other = world.replica("two")
    shell.manual = True
    lost = shell.register("a", instance_id="i1", claims=("db",))
    other.register("a", instance_id="i2")
    shell.release()
    assert lost.code == "already_registered"
    assert shell.register("b", claims=("db",)).code is None


RACE = pytest.mark.xfail(
    reason="claims are checked against what a replica knows, and each agent's key is guarded by itself", strict=True
)


@RACE
def test_two_at_two_replicas(world: World, shell: Shell):
    """Of two agents that claim the same at two replicas at once, one holds it in the end, and everybody agrees who."""
    other = world.replica("two")
    shell.manual = other.manual = True
    shell.register("a", claims=("db",))
    other.register("b", claims=("db",))
    shell.release()
    other.release()
    world.advance(1.0)
    holders = [agent_id for agent_id, (_, record) in world.bucket.live().items() if "db" in record.claims]
    assert len(holders) == 1
    assert shell.state.catalog.by_claim == other.state.catalog.by_claim == {"db": holders[0]}


@RACE
def test_a_claim_held_twice_is_never_free_before_both_let_go(world: World, shell: Shell):
    """Should two agents come to hold one claim, it stays taken until both have let go of it."""
    other = world.replica("two")
    shell.manual = other.manual = True
    shell.register("a", claims=("db",))
    other.register("b", claims=("db",))
    shell.release()
    other.release()
    shell.command(Verb.DEREGISTER, "a")
    holders = [agent_id for agent_id, (_, record) in world.bucket.live().items() if "db" in record.claims]
    assert holders == ["b"]
    assert shell.register("c", claims=("db",)).code == "conflict"
