"""Who comes back too often is kept degraded, each time for longer."""

from __future__ import annotations

import pytest

from registry.core import flapping
from registry.core.events import ConnectionClosed, Outcome, Verb
from registry.core.flapping import HALF_LIFE, HOLD_DOWN, MAX_HOLD_DOWN, held_until, penalty, returned
from registry.core.status import Status
from tests.core.shell import WALL, Shell, World

SUBJECT = "agent.a.health_check"


def test_the_third_return_in_a_short_time_is_too_many():
    flaps = None
    for number, hold in enumerate((0.0, 0.0, HOLD_DOWN, 2 * HOLD_DOWN, 4 * HOLD_DOWN), start=1):
        flaps = returned(flaps, 1000.0)
        assert flaps["returns"] == number
        assert held_until(flaps, 1000.0) == (1000.0 + hold if hold else None)


def test_the_hold_down_is_bounded():
    flaps = None
    for _ in range(30):
        flaps = returned(flaps, 0.0)
    assert held_until(flaps, 0.0) == MAX_HOLD_DOWN


def test_the_penalty_halves_with_time():
    flaps = returned(returned(None, 0.0), 0.0)
    assert penalty(flaps, HALF_LIFE) == pytest.approx(1.0)
    later = returned(flaps, 2 * HALF_LIFE)
    assert later["penalty"] == pytest.approx(1.5)
    assert later["returns"] == 3, "the count of all stays"
    assert held_until(later, 2 * HALF_LIFE) is None


def test_a_clock_that_is_put_back_holds_nobody_for_longer_than_ever():
    flaps = returned(returned(returned(None, 90_000.0), 90_000.0), 90_000.0)
    assert held_until(flaps, 90_000.0) is not None
    assert held_until(flaps, 90_000.0 - 7200.0) is None


def crash(shell: Shell) -> None:
    """Let the agent be found gone."""
    shell.world.advance(0.5)
    shell.handle(ConnectionClosed(shell.world.now, "agent:a", "S", 1, "Read Error"))
    shell.answer(Outcome.NO_RESPONDERS)
    shell.answer(Outcome.NO_RESPONDERS)
    assert shell.state.get("a").status is Status.OFFLINE


def test_a_crash_loop(world: World, shell: Shell):
    """It comes back degraded when it has come back too often, and is active again when it has stayed long enough."""
    shell.register("a", health_subject=SUBJECT)
    for run in range(3):
        crash(shell)
        shell.register("a", health_subject=SUBJECT, instance_id=f"i{run}")
    agent = shell.state.get("a")
    assert (agent.status, agent.record.status_reason) == (Status.DEGRADED, "flapping")
    assert world.bucket.events()[-1]["reason"] == "flapping"
    assert agent.record.flaps is not None
    assert agent.record.flaps["returns"] == 3
    assert agent.record.flaps["until"] == WALL + world.now + HOLD_DOWN
    world.advance(HOLD_DOWN - 1.0, beating=["a"])
    assert agent.status is Status.DEGRADED
    world.advance(1.5, beating=["a"])
    assert (agent.status, agent.record.status_reason) == (Status.ACTIVE, "recovered")
    assert shell.state.statistics.returns == 3


def test_leaving_in_order_is_no_flapping(world: World, shell: Shell):
    for run in range(5):
        shell.register("a", instance_id=f"i{run}")
        shell.command(Verb.DEREGISTER)
    shell.register("a", instance_id="last")
    agent = shell.state.get("a")
    assert (agent.status, agent.record.flaps) == (Status.ACTIVE, None)


def test_to_hang_and_to_answer_again_and_again_is_flapping(world: World, shell: Shell):
    shell.register("a", health_subject=SUBJECT)
    for _ in range(4):
        world.advance(30.0, beating=["a"])
        shell.answer(Outcome.TIMEOUT, took=4.0)
        world.advance(30.0, beating=["a"])
        shell.answer(Outcome.ANSWERED)
    agent = shell.state.get("a")
    assert (agent.status, agent.record.status_reason) == (Status.DEGRADED, "flapping")
    reasons = [event["reason"] for event in world.bucket.events()]
    assert reasons[-2:] == ["probe_timeout", "flapping"]
    assert reasons.count("recovered") == 2


def test_a_hold_down_outlives_the_leader(world: World, shell: Shell):
    shell.register("a", health_subject=SUBJECT)
    for run in range(3):
        crash(shell)
        shell.register("a", health_subject=SUBJECT, instance_id=f"i{run}")
    shell.follow()
    other = world.replica("two", leading=True)
    agent = other.state.get("a")
    assert (agent.status, agent.record.status_reason) == (Status.DEGRADED, "flapping")
    world.advance(HOLD_DOWN + 1.0, beating=["a"])
    assert agent.status is Status.ACTIVE


def test_an_operator_s_suspension_is_stronger(world: World, shell: Shell):
    shell.register("a", health_subject=SUBJECT)
    shell.command(Verb.SUSPEND)
    for run in range(3):
        crash(shell)
        shell.register("a", health_subject=SUBJECT, instance_id=f"i{run}")
    agent = shell.state.get("a")
    assert (agent.status, agent.record.status_reason) == (Status.SUSPENDED, "operator")
    assert flapping.held_until(agent.record.flaps, WALL + world.now) is not None
