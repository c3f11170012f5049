"""Removals do not stay in the log for good: once their events are out, the leader has them swept."""

from __future__ import annotations

import pytest

from registry.core import upkeep
from registry.core.effects import SweepRemoval
from registry.core.events import Tick, Verb
from registry.core.handler import handle
from registry.core.limits import REMOVAL_KEPT, SWEEP_RETRY
from tests.core.shell import WALL, Shell, World


def remove(shell: Shell, *agent_ids: str) -> None:
    for agent_id in agent_ids:
        shell.register(agent_id)
        shell.command(Verb.DEREGISTER, agent_id)


def sweeps(shell: Shell) -> list[str]:
    """Tick once more; return whose removals are ordered swept, whatever becomes of it."""
    now = shell.world.now
    effects = handle(shell.state, Tick(now, WALL + now))
    return [effect.agent_id for effect in effects if isinstance(effect, SweepRemoval)]


def test_a_removal_is_swept_after_its_time(world: World, shell: Shell):
    remove(shell, "a")
    world.advance(REMOVAL_KEPT - 1.0)
    assert not world.bucket.last["a"].swept
    world.advance(2.0)
    assert world.bucket.last["a"].swept
    assert shell.state.unswept == {}


def test_a_swept_removal_is_swept_once(world: World, shell: Shell):
    remove(shell, "a")
    world.advance(REMOVAL_KEPT + 1.0)
    newest = len(world.bucket.log)
    other = world.replica("two")
    shell.follow()
    other.lead()
    world.advance(3 * REMOVAL_KEPT)
    assert len(world.bucket.log) == newest


def test_a_follower_sweeps_nothing(world: World, shell: Shell):
    remove(shell, "a")
    shell.follow()
    world.advance(2 * REMOVAL_KEPT)
    assert not world.bucket.last["a"].swept
    shell.lead()
    world.advance(1.0)
    assert world.bucket.last["a"].swept


def test_whoever_came_back_is_not_swept(world: World, shell: Shell):
    remove(shell, "a")
    shell.register("a")
    world.advance(REMOVAL_KEPT + 1.0)
    assert not world.bucket.last["a"].removed


def test_an_agent_continues_over_a_swept_removal(world: World, shell: Shell):
    """The incarnation goes on where it ended as long as this replica remembers, and nobody is refused."""
    remove(shell, "a")
    world.advance(REMOVAL_KEPT + 1.0)
    assert shell.register("a")["incarnation"] == 2


def test_what_the_log_does_not_show_is_ordered_again(world: World, shell: Shell):
    remove(shell, "a")
    shell.deaf = True
    world.now += REMOVAL_KEPT
    assert sweeps(shell) == ["a"]
    assert sweeps(shell) == []
    world.now += SWEEP_RETRY
    assert sweeps(shell) == ["a"]
    shell.release()


def test_a_fleet_that_left_is_swept_bit_by_bit(world: World, shell: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkeep, "MAX_SWEEPS", 2)
    remove(shell, "a", "b", "c")
    world.now += REMOVAL_KEPT
    assert sweeps(shell) == ["a", "b"]
    assert sweeps(shell) == ["c"]


def test_a_restart_finds_what_is_to_be_swept(world: World, shell: Shell):
    remove(shell, "a", "b")
    shell.register("b")
    late = world.replica("two")
    assert list(late.state.unswept) == ["a"]
