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
    assert shell.state.catalog.claims.holders() == {"db": "a", "disk": "a"}


def test_the_holder_may_say_so_again(shell: Shell):
    """The holder's own updates and takeovers keep the claim."""
    shell.register("a", instance_id="i1", claims=("db",))
    assert shell.register("a", instance_id="i1", claims=("db", "disk")).code is None
    assert shell.register("a", instance_id="i2", claims=("db",), takeover=True).code is None
    assert shell.state.catalog.claims.holders() == {"db": "a"}


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
    assert shell.state.catalog.claims.holders() == {"db": "b"}


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
    shell.release()
    assert (first.code, second.code) == (None, "conflict")


def test_a_claim_that_came_to_nothing(world: World, shell: Shell):
    """A claim whose registration lost is free again."""
    other = world.replica("two")
    shell.manual = True
    lost = shell.register("a", instance_id="i1", claims=("db",))
    other.register("a", instance_id="i2")
    shell.release()
    assert lost.code == "already_registered"
    assert shell.register("b", claims=("db",)).code is None


def test_two_at_two_replicas(world: World, shell: Shell):
    """Of two agents that claim the same at two replicas at once, one holds it in the end, and everybody agrees who."""
    other = world.replica("two")
    shell.manual = other.manual = True
    replies = [shell.register("a", claims=("db",)), other.register("b", claims=("db",))]
    world.settle()
    assert sorted(str(reply.code) for reply in replies) == ["None", "conflict"]
    assert set(world.bucket.live()) == {"a" if replies[0].code is None else "b"}
    assert (
        shell.state.catalog.claims.holders()
        == other.state.catalog.claims.holders()
        == {"db": next(iter(world.bucket.live()))}
    )


def test_nobody_is_told_before_the_log_is_known(world: World, shell: Shell):
    """A replica that is behind cannot know whether a claim was made before."""
    other = world.replica("two")
    other.deaf = True
    shell.register("a", claims=("db",))
    reply = other.register("b", claims=("db",))
    assert reply.body is None
    other.hear()
    assert reply.code == "conflict"
    assert set(world.bucket.live()) == {"a"}


@pytest.mark.parametrize("how", ["update", "takeover", "return"])
def test_who_is_there_already_keeps_what_it_had(world: World, shell: Shell, how: str):
    """An agent that claims more and comes second is registered without it."""
    other = world.replica("two")
    shell.register("b", instance_id="i1", claims=("disk",))
    if how == "return":
        world.advance(101.0)
    other.deaf = True
    shell.register("a", claims=("db",))
    instance = "i2" if how == "takeover" else "i1"
    reply = other.register("b", instance_id=instance, claims=("disk", "db"), takeover=True)
    world.settle()
    assert reply.code == "conflict"
    assert shell.state.get("b").record.claims == ("disk",)
    assert shell.state.get("b").status is Status.ACTIVE
    assert shell.state.catalog.claims.holders() == {"db": "a", "disk": "b"}


def test_a_holder_stays_the_holder_over_checkpoints_and_restarts(world: World, shell: Shell):
    """A claim is as old as the write that made it, not as the record's newest revision."""
    other = world.replica("two")
    other.deaf = True
    shell.register("a", claims=("db",))
    other.manual = True
    other.register("b", claims=("db",))
    other.carry_out()
    world.beat("a", load_factor=0.9)
    world.advance(40.0)
    shell.command(Verb.SUSPEND, "a")
    late = world.replica("three")
    assert late.state.catalog.claims.holder("db") == "a"
    assert late.state.get("a").record.claims_since == {"db": 1}


def test_a_claim_whose_registration_died_with_its_replica_is_taken_back(world: World, shell: Shell):
    """The leader does it."""
    other = world.replica("two")
    other.deaf = other.manual = True
    shell.register("a", claims=("db",))
    other.register("b", claims=("db", "disk"))
    other.carry_out()
    world.shells.remove(other)
    world.replies.pop()
    world.advance(1.0)
    assert "b" not in shell.state.agents
    assert [event["removed"] for event in world.bucket.events("b")] == [False, True]


def test_a_claim_made_while_the_holder_leaves(world: World, shell: Shell):
    """Who came second holds it if the first had let go before it was settled."""
    other = world.replica("two")
    other.deaf = True
    shell.register("a", claims=("db",))
    reply = other.register("b", claims=("db",))
    shell.command(Verb.DEREGISTER, "a")
    other.hear_newest()
    assert reply.code is None
    assert shell.register("c", claims=("db",)).code == "conflict"


def test_a_log_that_does_not_come_leaves_it_open(world: World, shell: Shell):
    shell.deaf = True
    reply = shell.register("a", claims=("db",))
    shell.give_up_awaiting()
    assert reply.code == "unavailable"


# What is asked again, or elsewhere, before it is settled.

NAMES = pytest.mark.parametrize("name", [None, "asked-once"])


@pytest.mark.parametrize("was", ["active", "offline"])
def test_a_refused_claim_asked_for_again(world: World, shell: Shell, was: str):
    """The refusal was lost on its way."""
    other = world.replica("two")
    shell.register("b", instance_id="i1")
    if was == "offline":
        world.advance(101.0)
    other.deaf = True
    shell.register("a", claims=("db",))
    asks = {"instance_id": "i1", "claims": ("db",), "name": "asked-once"}
    first = other.register("b", **asks)
    other.deaf = False
    world.run()
    assert first.code == shell.register("b", **asks).code == "conflict"


def test_a_claim_that_was_taken_back_asked_for_again(world: World, shell: Shell):
    """The replica that was asked first has died."""
    other = world.replica("two")
    other.deaf = other.manual = True
    shell.register("a", claims=("db",))
    asks = {"instance_id": "i1", "claims": ("db",), "name": "asked-once"}
    other.register("b", **asks)
    other.carry_out()
    world.shells.remove(other)
    world.replies.pop()
    world.advance(1.0)
    again = shell.register("b", **asks)
    assert again.body.message == "claims: 'db' is held by agent 'a'"


@NAMES
def test_the_leader_is_quicker_to_take_a_claim_back(world: World, shell: Shell, name: str | None):
    """The replica that was asked hears the log late, and its own undoing loses against the leader's."""
    other = world.replica("two")
    other.deaf = True
    shell.register("a", claims=("db",))
    reply = other.register("b", instance_id="i1", claims=("db",), name=name)
    world.advance(0.5)
    other.deaf = False
    world.run()
    assert reply.code == "conflict"
    assert "b" not in world.bucket.live()


def test_what_others_changed_meanwhile_is_not_undone(world: World, shell: Shell):
    """An operator suspends the agent while its claim is being taken back: it stays, without the claim."""
    other = world.replica("two")
    other.deaf = True
    shell.register("a", claims=("db",))
    reply = other.register("b", instance_id="i1", claims=("db", "disk"))
    other.manual = True
    other.hear()
    shell.command(Verb.SUSPEND, "b")
    other.manual = other.deaf = False
    world.run()
    world.advance(1.0)
    assert reply.code == "conflict"
    assert shell.state.get("b").status is Status.SUSPENDED
    assert shell.state.catalog.claims.holders() == {"db": "a", "disk": "b"}


@NAMES
def test_a_claim_asked_for_again_elsewhere_is_settled_there_too(world: World, shell: Shell, name: str | None):
    """A second replica, whose log is behind, finds in the bucket that it is registered."""
    two, three = world.replica("two"), world.replica("three")
    two.deaf = three.deaf = True
    shell.register("a", claims=("db",))
    asks = {"instance_id": "i1", "claims": ("db",), "name": name}
    replies = [one.register("b", **asks) for one in (two, three)]
    assert [reply.body for reply in replies] == [None, None]
    two.deaf = three.deaf = False
    world.run()
    assert [reply.code for reply in replies] == ["conflict", "conflict"]


def test_claiming_more_does_not_make_a_claim_younger(world: World, shell: Shell):
    other = world.replica("two")
    other.deaf = other.manual = True
    shell.register("a", instance_id="i1", claims=("db",))
    late = other.register("b", claims=("db",))
    other.carry_out()
    assert shell.register("a", instance_id="i1", claims=("db", "disk")).code is None
    other.manual = other.deaf = False
    world.run()
    world.advance(1.0)
    assert late.code == "conflict"
    assert shell.state.catalog.claims.holders() == {"db": "a", "disk": "a"}


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_claim_that_the_leader_took_back_before_it_was_settled(world: World, shell: Shell, stays: bool, is_new: bool):
    """The replica that was asked hears all of it in one go, perhaps even that the holder has left since."""
    other = world.replica("two")
    if not is_new:
        shell.register("b", instance_id="i1")
    other.deaf = True
    shell.register("a", claims=("db",))
    reply = other.register("b", instance_id="i1", claims=("db",))
    world.advance(0.5)
    assert ("b" in world.bucket.live()) is not is_new
    if not stays:
        shell.command(Verb.DEREGISTER, "a")
    other.manual = True
    other.hear()
    other.release()
    assert reply.code == "conflict"


def test_an_id_that_somebody_else_took_since_is_left_alone(world: World, shell: Shell):
    other = world.replica("two")
    other.deaf = True
    shell.register("a", claims=("db",))
    reply = other.register("b", instance_id="i1", claims=("db",))
    world.advance(0.5)
    shell.register("b", instance_id="i2", claims=("net",))
    other.manual = True
    other.hear()
    other.release()
    assert reply.code == "conflict"
    assert shell.state.get("b").record.instance_id == "i2"
    assert shell.state.catalog.claims.holders() == {"db": "a", "net": "b"}
