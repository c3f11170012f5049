"""Registering: newcomers, updates, duplicates, takeovers, and holders that are probed for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from registry.core.effects import PutRecord
from registry.core.events import Outcome, Purpose, Verb
from registry.core.limits import PROBE_REPEAT
from registry.core.status import Status
from tests.core.shell import START, WALL, Shell, World

SUBJECT = "agent.a.health_check"


def test_newcomer(world: World, shell: Shell):
    """A registration is answered when it is durable, with a receipt; the agent is active at once."""
    shell.manual = True
    reply = shell.register("a", tags=("eu",), metadata={"zone": 1}, instance_id="i1")
    assert reply.body is None
    assert "a" not in shell.state.agents, "not durable, not known"
    shell.release()
    assert reply.body == {
        "agent_id": "a",
        "status": "active",
        "incarnation": 1,
        "revision": 1,
        "heartbeat_interval": 30.0,
        "heartbeat_timeout": 90.0,
        "registered_at": WALL + START,
    }
    assert shell.state.statistics.registrations == 1
    [event] = world.bucket.events()
    assert (event["from"], event["to"], event["reason"]) == ("registering", "active", "registered")
    assert (event["previous_revision"], event["removed"], event["at"]) == (0, False, WALL + START)
    record = shell.state.get("a").record
    assert (record.tags, record.metadata, record.instance_id) == (("eu",), {"zone": 1}, "i1")


def test_made_up_ids(shell: Shell):
    """An agent that brings no id gets one, of the agent's type, and allowed as an id."""
    ids = {shell.register(None, agent_type="market.data+" + "x" * 120)["agent_id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"market-data-x+-[A-Za-z0-9_-]+", agent_id) for agent_id in ids)
    assert all(len(agent_id) <= 128 for agent_id in ids)
    assert set(shell.state.agents) == ids


@pytest.mark.parametrize(
    ("given", "interval", "timeout"),
    [
        ({}, 30.0, 90.0),
        ({"heartbeat_interval": 2.0}, 2.0, 6.0),
        ({"heartbeat_timeout": 40.0}, 30.0, 40.0),
        ({"heartbeat_interval": 5.0, "heartbeat_timeout": 5.0}, 5.0, 5.0),
    ],
    ids=str,
)
def test_lease(shell: Shell, given: dict[str, float], interval: float, timeout: float):
    """The interval is the registry's when left out, the lease three intervals."""
    reply = shell.register("a", **given)
    assert (reply["heartbeat_interval"], reply["heartbeat_timeout"]) == (interval, timeout)


def test_the_registry_s_own_interval_holds(world: World):
    """Agents that do not say how often they beat get the deployment's interval."""
    world.limits.heartbeat_interval = 4.0
    reply = world.replica("one", leading=True).register("a")
    assert (reply["heartbeat_interval"], reply["heartbeat_timeout"]) == (4.0, 12.0)


def test_a_repeat_that_changes_nothing_is_no_event(world: World, shell: Shell):
    """The same instance registering the same again gets its receipt and renews its lease; nothing is written."""
    fields = {"instance_id": "i1", "tags": ("eu",), "health_subject": SUBJECT}
    first = shell.register("a", **fields)
    world.advance(80.0)
    assert shell.register("a", **fields).body == first.body
    assert len(world.bucket.log) == 1
    world.advance(80.0)
    assert shell.state.get("a").status is Status.ACTIVE


def test_a_repeat_never_shortens_a_lease(world: World, shell: Shell):
    """A repeat that had to wait counts from its arrival, but not against a beat that came after it."""
    shell.register("a", instance_id="i1", heartbeat_interval=2.0)
    shell.manual = True
    shell.command(Verb.SUSPEND)
    repeat = shell.register("a", instance_id="i1", heartbeat_interval=2.0)
    world.advance(5.0)
    world.beat("a")
    shell.release()
    assert repeat["status"] == "suspended"
    world.advance(5.5)
    assert shell.state.get("a").status is Status.SUSPENDED, "6 s of silence are allowed, 5.5 s have passed"


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_type": "clerk"},
        {"capabilities": ("vision",)},
        {"metadata": {"zone": 2}},
        {"version": "2.0.0"},
        {"tags": ("us",)},
        {"heartbeat_interval": 5.0},
        {"heartbeat_timeout": 31.0},
        {"health_subject": SUBJECT},
        {"max_concurrency": 3},
        {"claims": ("db",)},
        {"claims": ("db",), "connection": {"server_id": "S", "client_id": 1}},
    ],
    ids=str,
)
def test_update(world: World, shell: Shell, changes: dict[str, Any]):
    """The same instance registering with something else is an update: one event from the status to itself."""
    first = shell.register("a", instance_id="i1")
    world.beat("a", health_score=0.6, load_factor=0.5)
    world.advance(1.0)
    reply = shell.register("a", instance_id="i1", **changes)
    agent = shell.state.get("a")
    for name, value in changes.items():
        assert getattr(agent.record, name) == value
    assert (reply["incarnation"], reply["registered_at"]) == (1, first["registered_at"])
    assert (reply["status"], agent.record.status_reason) == ("degraded", "health")
    assert (agent.health, agent.load) == (0.6, 0.5)
    event = world.bucket.events()[-1]
    assert (event["from"], event["to"], event["reason"]) == ("degraded", "degraded", "updated")


@pytest.mark.parametrize("leading", [True, False])
@pytest.mark.parametrize("before", [None, {"server_id": "S", "client_id": 1}])
def test_another_connection_alone_is_kept_and_no_event(
    world: World, shell: Shell, leading: bool, before: dict[str, Any] | None
):
    """An agent that registers again because NATS was away tells nobody anything new, and its lease is renewed."""
    asked = shell if leading else world.replica("two")
    first = shell.register("a", instance_id="i1", heartbeat_interval=10.0, connection=before)
    world.advance(29.0)
    after = {"server_id": "T", "client_id": 7}
    again = asked.register("a", instance_id="i1", heartbeat_interval=10.0, connection=after)
    assert (again["incarnation"], again["registered_at"]) == (1, first["registered_at"])
    for replica in (shell, asked):
        assert replica.state.get("a").record.connection == after
    assert [event["reason"] for event in world.bucket.events()] == ["registered"]
    world.advance(29.0)
    assert shell.state.get("a").status is Status.ACTIVE
    written = len(world.bucket.log)
    asked.register("a", instance_id="i1", heartbeat_interval=10.0, connection=after)
    assert len(world.bucket.log) == written + (not leading), "nothing is left to be written"


def test_update_of_a_held_agent(shell: Shell):
    """An update does not lift an operator's hold."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.SUSPEND, note="lunch")
    assert shell.register("a", instance_id="i1", tags=("x",))["status"] == "suspended"
    record = shell.state.get("a").record
    assert (record.held, record.status_note) == (True, "lunch")


@pytest.mark.parametrize(("holder", "newcomer"), [("i1", "i2"), ("i1", None), (None, "i2"), (None, None)])
def test_another_instance_is_refused(world: World, shell: Shell, holder: str | None, newcomer: str | None):
    """A live id is refused to another instance, and to one that does not say which it is; the holder is named."""
    shell.register("a", instance_id=holder)
    reply = shell.register("a", instance_id=newcomer, tags=("mine",))
    assert reply.code == "already_registered"
    told = [message for field, message in reply.body.details if field == "instance_id"]
    assert told == ([] if holder is None else [holder])
    assert ("the same instance_id" in reply.body.message) is (holder is not None)
    assert "incarnation 1, which is active" in reply.body.message
    assert len(world.bucket.log) == 1
    assert shell.state.get("a").record.tags == ()


def test_takeover(world: World, shell: Shell):
    """Takeover gives the id to the other instance at once, as the next incarnation, with vitals of its own."""
    shell.register("a", instance_id="i1")
    world.beat("a", health_score=0.6, load_factor=0.9, seq=7, metrics={"success_rate": 0.1})
    world.advance(5.0)
    reply = shell.register("a", instance_id="i2", takeover=True)
    assert (reply["incarnation"], reply["status"], reply["registered_at"]) == (2, "active", WALL + START + 5.0)
    agent = shell.state.get("a")
    assert (agent.health, agent.load, agent.metrics, agent.load_at, agent.seq) == (1.0, 0.0, {}, None, -1)
    assert agent.record.instance_id == "i2"
    event = world.bucket.events()[-1]
    assert (event["from"], event["to"], event["reason"], event["incarnation"]) == ("degraded", "active", "takeover", 2)


def test_takeover_fences_the_old_instance(world: World, shell: Shell):
    """Beats of the old incarnation are refused as stale, and renew nothing."""
    shell.register("a", instance_id="i1", heartbeat_interval=1.0)
    shell.register("a", instance_id="i2", heartbeat_interval=1.0, takeover=True)
    for _ in range(4):
        world.advance(1.0)
        reply = shell.beat("a", incarnation=1)
        assert reply.code == ("stale_incarnation" if shell.state.get("a").status is Status.ACTIVE else "not_found")
        if reply.code == "stale_incarnation":
            assert reply.body.message.endswith("as incarnation 2; stop: a newer instance has taken its place")
    assert shell.state.get("a").status is Status.OFFLINE
    assert reply.body.message == "agent_id: 'a' is offline (heartbeat_timeout); register again"
    assert shell.state.statistics.heartbeats_dropped == 3


def test_takeover_does_not_lift_a_hold(shell: Shell):
    """An operator's suspend is sticky: who takes the id over is suspended too, and may be resumed."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.SUSPEND)
    reply = shell.register("a", instance_id="i2", takeover=True)
    assert (reply["status"], reply["incarnation"]) == ("suspended", 2)
    assert shell.state.get("a").record.held
    assert shell.command(Verb.RESUME)["status"] is Status.ACTIVE


def test_takeover_of_a_draining_agent(shell: Shell):
    """A new instance is no longer draining."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.DRAIN)
    assert shell.register("a", instance_id="i2", takeover=True)["status"] == "active"


def test_the_same_instance_goes_on_draining(shell: Shell):
    """Draining is the operator's word: registering again does not end it."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.DRAIN)
    assert shell.register("a", instance_id="i1")["status"] == "deregistering"
    assert shell.register("a", instance_id="i1", tags=("x",))["status"] == "deregistering"


# A holder that can be asked.


@pytest.fixture
def holder(shell: Shell) -> Shell:
    """A replica with an agent that can be asked for its health."""
    shell.register("a", instance_id="i1", health_subject=SUBJECT)
    return shell


def test_the_holder_is_probed(holder: Shell):
    """Another instance's registration waits until the holder was probed."""
    reply = holder.register("a", instance_id="i2")
    assert reply.body is None
    [probe] = holder.probes
    assert (probe.agent_id, probe.subject, probe.purpose, probe.delay) == ("a", SUBJECT, Purpose.HOLDER, 0.0)


@pytest.mark.parametrize("outcome", [Outcome.ANSWERED, Outcome.TIMEOUT])
def test_a_holder_that_is_not_provably_gone_keeps_the_id(world: World, holder: Shell, outcome: Outcome):
    """A holder that answers, or is only silent, keeps its id."""
    reply = holder.register("a", instance_id="i2")
    holder.answer(outcome)
    assert reply.code == "already_registered"
    assert len(world.bucket.log) == 1


def test_a_holder_that_is_gone_is_replaced(world: World, holder: Shell):
    """No responders twice, a moment apart, is gone: the other instance takes over as the next incarnation."""
    reply = holder.register("a", instance_id="i2")
    holder.answer(Outcome.NO_RESPONDERS)
    assert reply.body is None
    assert [probe.delay for probe in holder.probes] == [PROBE_REPEAT]
    holder.answer(Outcome.NO_RESPONDERS)
    assert (reply["incarnation"], reply["status"]) == (2, "active")
    assert world.bucket.events()[-1]["reason"] == "takeover"


def test_a_holder_that_comes_back_keeps_the_id(holder: Shell):
    """A holder that reconnects between two probes keeps its id."""
    reply = holder.register("a", instance_id="i2")
    holder.answer(Outcome.NO_RESPONDERS)
    holder.answer(Outcome.ANSWERED)
    assert reply.code == "already_registered"


def test_a_holder_that_beats_in_between_keeps_the_id(world: World, holder: Shell):
    """A beat is a sign of life: one miss before and one after it are not two in a row."""
    reply = holder.register("a", instance_id="i2")
    holder.answer(Outcome.NO_RESPONDERS)
    world.beat("a")
    holder.answer(Outcome.NO_RESPONDERS)
    assert reply.body is None
    holder.answer(Outcome.ANSWERED)
    assert reply.code == "already_registered"


def test_an_answering_holder_is_not_half_gone(world: World, holder: Shell):
    """Misses count in a row: a holder that answered is not gone at the next single miss."""
    holder.register("a", instance_id="i2")
    holder.answer(Outcome.NO_RESPONDERS)
    holder.answer(Outcome.ANSWERED)
    reply = holder.register("a", instance_id="i3")
    holder.answer(Outcome.NO_RESPONDERS)
    assert reply.body is None, "missed once"
    holder.answer(Outcome.ANSWERED)
    assert reply.code == "already_registered"


def test_commands_wait_for_the_probe(holder: Shell):
    """Whatever is asked for the agent meanwhile waits its turn, and is decided on what came out."""
    takeover = holder.register("a", instance_id="i2")
    suspend = holder.command(Verb.SUSPEND)
    again = holder.register("a", instance_id="i1", health_subject=SUBJECT)
    assert suspend.body is again.body is None
    holder.answer(Outcome.ANSWERED)
    assert takeover.code == "already_registered"
    assert suspend["status"] is Status.SUSPENDED
    assert (again["incarnation"], again["status"]) == (1, "suspended")


def test_a_holder_that_deregistered_meanwhile(world: World, holder: Shell):
    """When the holder has left before the probe ends, the other instance simply registers."""
    other = world.replica("two")
    reply = holder.register("a", instance_id="i2")
    other.command(Verb.DEREGISTER)
    assert reply.body is None
    holder.answer(Outcome.TIMEOUT)
    assert (reply["incarnation"], reply["status"]) == (2, "active")
    assert holder.state.get("a").record.instance_id == "i2"


def test_a_holder_that_was_replaced_meanwhile(world: World, holder: Shell):
    """When somebody else took the id before the probe ends, the new holder is the one that is judged."""
    other = world.replica("two")
    reply = holder.register("a", instance_id="i2")
    holder.answer(Outcome.NO_RESPONDERS)
    other.register("a", instance_id="i3", health_subject=SUBJECT, takeover=True)
    holder.answer(Outcome.NO_RESPONDERS)
    assert reply.body is None, "the new holder was missed once"
    holder.answer(Outcome.ANSWERED)
    assert ("instance_id", "i3") in reply.body.details


# Coming back.


@pytest.mark.parametrize(("instance", "incarnation"), [("i1", 1), ("i2", 2), (None, 2)])
def test_back_from_offline(world: World, shell: Shell, instance: str | None, incarnation: int):
    """An offline agent comes back by registering: the same instance as it was, another one as the next incarnation."""
    shell.register("a", instance_id="i1")
    world.advance(101.0)
    assert shell.state.get("a").status is Status.OFFLINE
    reply = shell.register("a", instance_id=instance)
    assert (reply["status"], reply["incarnation"]) == ("active", incarnation)
    event = world.bucket.events()[-1]
    assert (event["from"], event["to"], event["reason"]) == ("offline", "active", "registered")


def test_back_from_offline_begins_anew(world: World, shell: Shell):
    """Who comes back begins with the vitals that the record says, not with those it was lost with."""
    shell.register("a", instance_id="i1")
    world.beat("a", health_score=0.2, load_factor=0.9, metrics={"success_rate": 0.1})
    world.advance(101.0)
    assert shell.state.get("a").status is Status.OFFLINE
    reply = shell.register("a", instance_id="i1")
    agent = shell.state.get("a")
    assert (agent.health, agent.load, agent.metrics) == (1.0, 0.0, {})
    assert (reply["status"], agent.status) == ("active", Status.ACTIVE)


def test_back_from_hanging(world: World, holder: Shell):
    """Who comes back is not held for hung because a probe of its last life timed out, nor for missed."""
    world.advance(30.0)
    holder.answer(Outcome.TIMEOUT)
    world.advance(100.0)
    assert holder.state.get("a").status is Status.OFFLINE
    holder.probes.clear()
    holder.state.probing.clear()
    holder.register("a", instance_id="i1", health_subject=SUBJECT)
    assert holder.state.get("a").status is Status.ACTIVE
    world.advance(30.0)
    holder.answer(Outcome.NO_RESPONDERS)
    assert holder.state.get("a").status is Status.ACTIVE, "missed once"


def test_over_a_removal(world: World, shell: Shell):
    """An id that was deregistered can be registered again: the next incarnation, a new chain of events."""
    shell.register("a", instance_id="i1")
    assert shell.command(Verb.DEREGISTER)["deregistered"] is True
    reply = shell.register("a", instance_id="i1")
    assert (reply["incarnation"], reply["revision"]) == (2, 3)
    assert world.bucket.events()[-1]["previous_revision"] == 0
    assert shell.state.statistics.write_conflicts == 0


def test_over_a_removal_that_was_forgotten(world: World, shell: Shell):
    """A removal that this replica does not remember is found by reading the bucket, and written over."""
    shell.register("a")
    shell.command(Verb.DEREGISTER)
    shell.state.removed.clear()
    reply = shell.register("a")
    assert (reply["incarnation"], reply["revision"]) == (2, 3)
    assert shell.state.statistics.write_conflicts == 1


def test_over_a_removal_by_hand(world: World, shell: Shell):
    """A key that somebody deleted with the `nats` CLI is an agent that is gone, and can be registered again."""
    shell.register("a")
    world.bucket.append("a", None)
    world.run()
    assert "a" not in shell.state.agents
    reply = shell.register("a")
    assert (reply["incarnation"], reply["revision"]) == (2, 3)


def test_a_late_beat_of_a_life_that_has_ended(world: World, shell: Shell):
    """Incarnations go on over a removal, so that beats still under way from the life before are stale."""
    shell.register("a", instance_id="i1")
    shell.command(Verb.DEREGISTER)
    shell.register("a", instance_id="i2")
    assert shell.beat("a", incarnation=1, health_score=0.1).code == "stale_incarnation"
    assert shell.state.get("a").health == 1.0


def test_a_record_that_appeared_unseen(world: World, shell: Shell):
    """A newcomer that turns out to be known is judged as a duplicate."""
    other = world.replica("two")
    shell.deaf = True
    other.register("a", instance_id="i1")
    reply = shell.register("a", instance_id="i2")
    assert reply.code == "already_registered"
    assert shell.state.get("a").record.instance_id == "i1"


def test_only_the_newest_effect_is_a_write(shell: Shell):
    """A newcomer costs one write, guarded by the revision that is known: none."""
    shell.manual = True
    shell.register("a")
    [order] = shell.todo
    assert isinstance(order, PutRecord)
    assert (order.expected, order.removed) == (0, False)
