"""Checkpoints: vitals are saved now and then, and only when they moved."""

from __future__ import annotations

import pytest

from registry.core.effects import PutRecord
from registry.core.events import Verb
from registry.core.limits import MAX_EXPIRIES, MAX_METRICS
from registry.core.status import Status
from registry.core.telemetry import MOVED
from tests.core.shell import WALL, Shell, World


def saved(world: World) -> int:
    return sum(entry.record.change is None for entry in world.bucket.log)


def test_heartbeats_are_never_writes(world: World, shell: Shell):
    """Beats that say nothing new are not written, however many."""
    shell.register("a")
    for _ in range(100):
        world.advance(1.0)
        world.beat("a", health_score=0.95, load_factor=0.05)
    assert len(world.bucket.log) == 1


@pytest.mark.parametrize(
    "report",
    [
        {"health_score": 0.85},
        {"load_factor": 0.3},
        {"metrics": {"requests_served": 5.0}},
    ],
    ids=str,
)
def test_what_moved_is_saved(world: World, shell: Shell, report: dict[str, object]):
    """Vitals that moved are saved after the interval, once, and that is no event."""
    shell.register("a")
    world.beat("a", **report)
    world.advance(29.5)
    assert saved(world) == 0
    world.advance(0.5)
    assert saved(world) == 1
    record, agent = world.bucket.last["a"].record, shell.state.get("a")
    assert (record.health_score, record.load_factor) == (agent.health, agent.load)
    assert record.performance_metrics == agent.metrics
    assert record.status is Status.ACTIVE
    assert len(world.bucket.events()) == 1
    world.advance(100.0, beating=["a"])
    assert saved(world) == 1


@pytest.mark.parametrize(("distance", "count"), [(MOVED, 1), (MOVED - 0.001, 0)])
def test_moved_by_how_much(world: World, shell: Shell, distance: float, count: int):
    """Only what differs enough from what is saved is worth saving."""
    shell.register("a")
    world.beat("a", load_factor=distance)
    world.advance(31.0)
    assert saved(world) == count


def test_a_success_rate_that_moved(world: World, shell: Shell):
    """Of the metrics, the success rate is worth saving when it moved; others go along."""
    shell.register("a")
    world.beat("a", metrics={"success_rate": 0.9, "uptime": 1.0})
    world.advance(31.0)
    world.beat("a", metrics={"success_rate": 0.85, "uptime": 2.0})
    world.advance(31.0)
    assert saved(world) == 1
    world.beat("a", metrics={"success_rate": 0.7})
    world.advance(31.0)
    assert saved(world) == 2
    assert world.bucket.last["a"].record.performance_metrics == {"success_rate": 0.7, "uptime": 2.0}


def test_at_most_once_an_interval(world: World, shell: Shell):
    """However often vitals move, they are saved once an interval."""
    shell.register("a")
    for number in range(120):
        world.advance(0.5)
        world.beat("a", load_factor=(number % 10) / 10)
    assert saved(world) <= 2


def test_times_are_saved(world: World, shell: Shell):
    """A checkpoint says when the agent was last heard, and when its load was reported."""
    shell.register("a")
    world.advance(5.0)
    world.beat("a", load_factor=0.5)
    load_at = WALL + world.now
    world.advance(5.0)
    world.beat("a")
    heard = WALL + world.now
    world.advance(31.0)
    record = world.bucket.last["a"].record
    assert (record.load_reported_at, record.last_heartbeat) == (load_at, heard)


def test_a_change_saves_too(world: World, shell: Shell):
    """What a change of status has saved already is not saved again."""
    shell.register("a")
    world.beat("a", health_score=0.6)
    assert world.bucket.last["a"].record.health_score == 0.6
    world.advance(31.0)
    assert saved(world) == 0


def test_a_new_leader_saves_only_what_the_old_one_did_not(world: World, shell: Shell):
    """A follower that becomes the leader does not save again what has been saved."""
    follower = world.replica("two")
    shell.register("a")
    world.beat("a", load_factor=0.5)
    world.advance(31.0)
    assert saved(world) == 1
    shell.follow()
    follower.lead()
    world.advance(31.0)
    assert saved(world) == 1
    world.beat("a", load_factor=0.9)
    world.advance(31.0)
    assert saved(world) == 2


def test_a_checkpoint_waits_for_no_write(world: World, shell: Shell):
    """An agent whose write is on its way is not saved besides."""
    shell.register("a")
    world.beat("a", load_factor=0.5)
    world.advance(29.0)
    shell.manual = True
    shell.command(Verb.SUSPEND)
    world.advance(5.0)
    assert len(shell.todo) == 1


def test_the_gone_are_not_saved(world: World, shell: Shell):
    """Who left before its checkpoint is not saved, nor is who went offline."""
    shell.register("a")
    shell.register("b", heartbeat_interval=1.0)
    for agent_id in "ab":
        world.beat(agent_id, load_factor=0.5)
    shell.command(Verb.DEREGISTER, "a")
    world.advance(31.0)
    assert saved(world) == 0
    assert shell.state.unsaved == {}


def test_so_many_at_once(world: World, shell: Shell):
    """At most so many are saved in one tick, the earliest first; the rest follows."""
    agents = [f"a{number}" for number in range(MAX_EXPIRIES + 10)]
    for agent_id in agents:
        shell.register(agent_id)
        shell.beat(agent_id, load_factor=0.5)
    world.advance(30.0)
    assert saved(world) == MAX_EXPIRIES
    world.advance(0.5)
    assert saved(world) == MAX_EXPIRIES + 10


def test_a_restart_loses_at_most_an_interval(world: World, shell: Shell):
    """A new replica begins with the vitals of the last checkpoint."""
    shell.register("a")
    world.beat("a", health_score=0.9, load_factor=0.4, metrics={"success_rate": 0.7})
    world.advance(31.0)
    agent = world.replica("two").state.get("a")
    assert (agent.health, agent.load, agent.metrics) == (0.9, 0.4, {"success_rate": 0.7})


def test_a_checkpoint_guards_the_revision(world: World, shell: Shell):
    """A checkpoint that lost against a change is dropped: it never writes over it."""
    other = world.replica("two")
    shell.register("a")
    world.beat("a", load_factor=0.5)
    shell.manual = True
    world.advance(30.0)
    [order] = shell.todo
    assert isinstance(order, PutRecord)
    other.command(Verb.SUSPEND)
    shell.release()
    assert world.bucket.last["a"].record.held
    assert saved(world) == 0


def test_metrics_are_bounded(world: World, shell: Shell):
    """So many metrics are kept for an agent; a report that would make it more is refused as a whole."""
    shell.register("a")
    shell.beat("a", metrics={f"m{number}": 1.0 for number in range(MAX_METRICS)})
    reply = shell.beat("a", load_factor=0.9, metrics={"one_more": 1.0})
    assert reply.code == "invalid_request"
    agent = shell.state.get("a")
    assert (len(agent.metrics), agent.load) == (MAX_METRICS, 0.0)
    assert shell.beat("a", metrics={"m0": 2.0})["status"] is Status.ACTIVE
