"""Refusals: bad input changes nothing, is answered with what was wrong, and is counted. Identities are checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from registry.core.errors import RefusedError
from registry.core.events import Verb
from registry.core.query import Query
from registry.core.status import Status
from tests.core.shell import Reply, Shell, World

Ask = Callable[[Shell], Reply]


REFUSALS: list[tuple[str, Ask, str, str]] = [
    ("unknown capability", lambda shell: shell.register("b", capabilities=("x",)), "invalid_request", "capabilities"),
    (
        "lease shorter than the interval",
        lambda shell: shell.register("b", heartbeat_interval=5.0, heartbeat_timeout=4.9),
        "invalid_request",
        "heartbeat_timeout",
    ),
    (
        "live holder",
        lambda shell: shell.register("a", instance_id="other", identity="alice"),
        "already_registered",
        "agent_id",
    ),
    ("claimed", lambda shell: shell.register("b", claims=("db",)), "conflict", "claims"),
    ("another identity", lambda shell: shell.register("a", takeover=True, identity="bob"), "forbidden", "agent_id"),
    ("command of another", lambda shell: shell.command(Verb.DEREGISTER, identity="bob"), "forbidden", "agent_id"),
    ("command for nobody", lambda shell: shell.command(Verb.SUSPEND, "nobody"), "not_found", "agent_id"),
    ("beat of nobody", lambda shell: shell.beat("nobody"), "not_found", "agent_id"),
    ("beat of another", lambda shell: shell.beat("a", identity="bob", load_factor=1.0), "forbidden", "agent_id"),
    (
        "beat of an older incarnation",
        lambda shell: shell.beat("a", identity="alice", incarnation=0, load_factor=1.0),
        "stale_incarnation",
        "incarnation",
    ),
    (
        "beat of an incarnation not heard of",
        lambda shell: shell.beat("a", identity="alice", incarnation=9, load_factor=1.0),
        "not_found",
        "incarnation",
    ),
    ("policy", lambda shell: shell.set_policy(min_agents=99), "invalid_request", "min_agents"),
    ("policy of nothing", lambda shell: shell.set_policy("x"), "invalid_request", "capability"),
]


def snapshot(shell: Shell) -> dict[str, Any]:
    state = shell.state
    slots = {name for agent in state.agents.values() for name in agent.__slots__}
    return {
        "agents": {agent.agent_id: {name: getattr(agent, name) for name in slots} for agent in state.agents.values()},
        "writes": len(state.writes),
        "claims": state.catalog.claims.claimants(),
        "policies": dict(state.scaler.policies.own),
        "removed": dict(state.removed),
        "unsaved": dict(state.unsaved),
    }


@pytest.fixture
def held(shell: Shell) -> Shell:
    """A replica with an agent of alice that holds a claim."""
    shell.register("a", instance_id="i1", identity="alice", claims=("db",))
    return shell


@pytest.mark.parametrize(("ask", "code", "field"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_a_refusal_changes_nothing_and_is_counted(world: World, held: Shell, ask: Ask, code: str, field: str):
    """A refused request changes nothing, names the field in words and in the details, and is counted by its code."""
    before, revisions = snapshot(held), len(world.bucket.log)
    reply = ask(held)
    assert isinstance(reply.body, RefusedError)
    assert reply.code == code
    assert reply.body.message.startswith(f"{field}: ")
    assert reply.body.details[0][0] == field
    assert snapshot(held) == before
    assert len(world.bucket.log) == revisions
    assert held.state.statistics.refused == {code: 1}


def test_find_refuses_unknown_capabilities(shell: Shell):
    """A query that names an unknown capability is refused with the known ones, and makes no view."""
    with pytest.raises(RefusedError, match="known are analysis, trading, vision"):
        shell.state.find(Query(capabilities=frozenset({"x"})))
    assert shell.state.catalog._views == {}


def test_get(shell: Shell):
    """One agent is returned by its id, in whatever status; an unknown one is refused."""
    shell.register("a")
    shell.command(Verb.SUSPEND)
    assert shell.state.get("a").status is Status.SUSPENDED
    with pytest.raises(RefusedError) as refused:
        shell.state.get("b")
    assert refused.value.code == "not_found"


def test_a_refused_beat_that_nobody_waits_for(world: World, shell: Shell):
    """What is refused is counted also when nobody waits for an answer."""
    world.beat("nobody")
    assert shell.state.statistics.refused == {"not_found": 1}
    assert shell.state.statistics.heartbeats == 1


def test_an_acknowledged_beat(held: Shell):
    """A beat is acknowledged with what the agent needs to know of itself, if it asks."""
    assert held.beat("a", identity="alice").body == {
        "agent_id": "a",
        "status": "active",
        "incarnation": 1,
        "revision": 1,
        "reserved": 0,
    }


# Identities.


@pytest.mark.parametrize("verb", list(Verb), ids=str)
def test_only_the_owner_commands(held: Shell, verb: Verb):
    """What is asked for an agent is refused to any identity but the one that registered it, also to none."""
    for identity in ("bob", None):
        assert held.command(verb, identity=identity).code == "forbidden"
    assert held.command(verb, identity="alice").code is None


def test_only_the_owner_registers_again(world: World, held: Shell):
    """An id belongs to the identity that registered it: no update, no takeover by another, even when offline."""
    for identity in ("bob", None):
        assert held.register("a", instance_id="i1", identity=identity).code == "forbidden"
    world.advance(101.0)
    assert held.state.get("a").status is Status.OFFLINE
    assert held.register("a", identity="bob").code == "forbidden"
    assert held.register("a", identity="alice", takeover=True)["incarnation"] == 2


def test_after_deregistration_an_id_is_free(held: Shell):
    """When its owner has deregistered it, an id belongs to whoever registers it next."""
    held.command(Verb.DEREGISTER, identity="alice")
    assert held.register("a", identity="bob").code is None
    assert held.command(Verb.SUSPEND, identity="alice").code == "forbidden"


def test_where_identities_are_not_verified(shell: Shell):
    """An agent that was registered without a verified identity may be spoken for by anyone."""
    shell.register("a", instance_id="i1")
    assert shell.beat("a", identity="bob").code is None
    assert shell.command(Verb.SUSPEND, identity="bob").code is None


def test_identity_is_checked_on_what_the_bucket_holds(world: World, shell: Shell):
    """A command decided anew after a conflict is checked against the owner that the bucket names."""
    other = world.replica("two")
    shell.deaf = True
    other.register("a", identity="alice")
    assert shell.register("a", takeover=True, identity="bob").code == "forbidden"
