"""Canaries: when they are run, what counts as a fail, and that nobody goes because of one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import registry.core.canaries
from agents_sdk.protocol.canary import DeclaredCanary
from registry.core.canaries import DEFAULT_PERIOD, DEFAULT_TIMEOUT, FAILING_PERIOD, REPEAT, UNJUDGED, difference
from registry.core.events import CanaryFinished, Outcome, PulseHeard, Purpose, Verb
from registry.core.judgement import condition
from registry.core.limits import Limits
from registry.core.status import Status
from tests.core.shell import Shell, World

ECHO = {"topic": "echo", "payload": {"text": "ping"}, "expect": {"ok": True}, "timeout": 2.0, "period": 10.0}
SLOW = {**ECHO, "period": 40_000.0}


@pytest.fixture
def running(world: World, shell: Shell) -> Shell:
    """A leader with an agent whose first canary is on its way."""
    shell.register("a", instance_id="i1", canaries={"analysis": ECHO}, heartbeat_timeout=600.0)
    world.advance(10.0)
    assert len(shell.canaries) == 1
    return shell


def status(shell: Shell) -> tuple[Status, str]:
    record = shell.state.get("a").record
    return record.status, record.status_reason


ACTIVE = (Status.ACTIVE, "registered")
FAILING = (Status.DEGRADED, "canary")
RECOVERED = (Status.ACTIVE, "recovered")


def until_run(world: World, shell: Shell, within: float) -> float:
    """Let time pass until a canary is under way; return how long that took."""
    begun = world.now
    while not shell.canaries:
        assert world.now - begun < within, "no canary"
        world.advance(0.1, step=0.1)
    return world.now - begun


def fail_twice(world: World, shell: Shell, why: str = "no answer") -> None:
    until_run(world, shell, 100.0)
    shell.end_canary(False, why)
    until_run(world, shell, REPEAT + 0.2)
    shell.end_canary(False, why)


# When they are run.


def test_run_once_a_period_the_first_time_at_random_within_it(world: World, shell: Shell):
    moments: dict[str, list[float]] = {}
    for agent_id in "abcdefgh":
        shell.register(agent_id, canaries={"analysis": ECHO}, heartbeat_timeout=600.0)
    for _ in range(402):  # a tick comes up to 0.1 s after the time of a canary
        world.advance(0.1, step=0.1)
        for order in list(shell.canaries):
            moments.setdefault(order.agent_id, []).append(world.now)
            assert (order.subject, order.payload, order.expect, order.timeout) == (
                f"agent.{order.agent_id}.echo",
                {"text": "ping"},
                {"ok": True},
                2.0,
            )
            shell.end_canary(True, agent_id=order.agent_id)
    assert {len(each) for each in moments.values()} == {4}
    assert len({each[0] for each in moments.values()}) > 4, "spread over the period"
    for each in moments.values():
        assert all(later - earlier == pytest.approx(10.0, abs=0.25) for earlier, later in pairwise(each))
    counts = shell.state.statistics
    assert (counts.canaries_run, counts.canaries_failed, counts.health_checks) == (32, 0, 0)


def test_one_run_of_a_canary_at_a_time(world: World, running: Shell):
    world.advance(60.0)
    assert len(running.canaries) == 1
    running.end_canary(True)
    assert until_run(world, running, 1.0) == pytest.approx(0.1)


def test_canaries_of_one_agent_are_run_each_by_itself(world: World, shell: Shell):
    """With periods and fails of their own."""
    canaries = {"analysis": ECHO, "trading": {**ECHO, "topic": "trade", "period": 5.0}}
    shell.register("a", capabilities=("analysis", "trading"), canaries=canaries, heartbeat_timeout=600.0)
    runs = {"analysis": 0, "trading": 0}
    for _ in range(600):
        world.advance(0.1, step=0.1)
        for order in list(shell.canaries):
            runs[order.capability] += 1
            shell.end_canary(order.capability == "analysis", "broken", capability=order.capability)
    assert runs["analysis"] == 6
    assert 12 <= runs["trading"] <= 14
    assert status(shell) == FAILING
    assert set(shell.state.canaries.failing("a")) == {"trading"}


def test_how_many_are_under_way_is_bounded(world: World, shell: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry.core.canaries, "MAX_UNDER_WAY", 3)
    agents = [f"a{number}" for number in range(8)]
    for agent_id in agents:
        shell.register(agent_id, canaries={"analysis": SLOW | {"period": 10.0}}, heartbeat_timeout=600.0)
    world.advance(10.0)
    assert len(shell.canaries) == 3
    run = set()
    while shell.canaries:
        run.add(shell.canaries[0].agent_id)
        shell.end_canary(True, agent_id=shell.canaries[0].agent_id)
        world.advance(0.1, step=0.1)
    assert run == set(agents)


def test_a_record_that_says_less_has_the_contract_s_defaults(world: World, shell: Shell):
    shell.register("a", canaries={"analysis": {"topic": "echo"}}, heartbeat_timeout=600.0)
    world.advance(DEFAULT_PERIOD)
    [order] = shell.canaries
    assert (order.payload, order.expect, order.timeout) == ({}, {}, DEFAULT_TIMEOUT)
    declared = DeclaredCanary(topic="echo")
    assert (declared.timeout, declared.period) == (DEFAULT_TIMEOUT, DEFAULT_PERIOD)


def test_who_has_none_costs_nothing(world: World, shell: Shell):
    shell.register("a", heartbeat_timeout=600.0)
    world.advance(100.0)
    assert shell.canaries == []
    assert shell.state.canaries._checks == {}
    assert shell.state.canaries.failing("a") == {}


def test_a_subject_of_the_registry_is_refused(shell: Shell):
    """Which an agent's can only be where the registry's prefix begins alike."""
    shell.state.prefix = "agent.a"
    reply = shell.register("a", canaries={"analysis": ECHO})
    assert reply.code == "invalid_request"
    assert reply.body.details[0][0] == "canaries.analysis.topic"


def test_and_not_asked_however_it_came_into_the_bucket(world: World, shell: Shell):
    shell.register("a", canaries={"analysis": ECHO}, heartbeat_timeout=600.0)
    shell.state.prefix = "agent.a"
    world.advance(30.0)
    assert shell.canaries == []


def test_only_for_capabilities_that_it_registers(shell: Shell):
    reply = shell.register("a", canaries={"vision": ECHO})
    assert reply.code == "invalid_request"
    [(field, message)] = reply.body.details
    assert field == "canaries"
    assert "analysis; got 'vision'" in message


# Fails.


def test_two_fails_in_a_row_degrade(world: World, running: Shell):
    running.end_canary(False, "no answer")
    assert status(running) == ACTIVE
    assert running.state.canaries.failing("a") == {}
    since = running.state.wall(world.now)
    assert until_run(world, running, 2.0) == pytest.approx(REPEAT, abs=0.11), "the second comes soon"
    running.end_canary(False, "not JSON")
    assert status(running) == FAILING
    [failure] = running.state.canaries.failing("a").values()
    assert (failure.since, failure.why) == (since, "not JSON")
    assert world.bucket.events("a")[-1]["reason"] == "canary"
    counts = running.state.statistics
    assert (counts.canaries_run, counts.canaries_failed) == (2, 2)


def test_a_single_fail_is_nothing(world: World, running: Shell):
    running.end_canary(False)
    until_run(world, running, 2.0)
    running.end_canary(True)
    until_run(world, running, 11.0)
    running.end_canary(False)
    assert status(running) == ACTIVE
    assert len(world.bucket.events("a")) == 1


def test_one_pass_is_enough(world: World, running: Shell):
    fail_twice(world, running)
    assert until_run(world, running, 11.0) > 9.0
    running.end_canary(True)
    assert status(running) == RECOVERED
    assert running.state.canaries.failing("a") == {}


def test_all_have_to_pass(world: World, shell: Shell):
    names = ("analysis", "trading")
    shell.register("a", capabilities=names, canaries=dict.fromkeys(names, ECHO), heartbeat_timeout=600.0)
    failing = {"analysis", "trading"}
    for _ in range(200):
        world.advance(0.1, step=0.1)
        for order in list(shell.canaries):
            shell.end_canary(False, capability=order.capability)
    assert set(shell.state.canaries.failing("a")) == failing
    for name in names:
        assert status(shell) == FAILING
        while name in shell.state.canaries.failing("a"):
            world.advance(0.1, step=0.1)
            for order in list(shell.canaries):
                shell.end_canary(
                    order.capability == name or order.capability not in failing, capability=order.capability
                )
        failing.discard(name)
    assert status(shell) == RECOVERED


def test_who_works_again_is_not_degraded_for_a_day(world: World, shell: Shell):
    """A rare canary is run more often while it fails, and rarely again when it passes."""
    shell.register("a", canaries={"analysis": SLOW}, heartbeat_timeout=86_400.0)
    world.advance(SLOW["period"], step=30.0)
    fail_twice(world, shell)
    assert until_run(world, shell, FAILING_PERIOD + 1.0) > FAILING_PERIOD - 2.0
    shell.end_canary(True)
    world.advance(10 * FAILING_PERIOD, step=5.0)
    assert shell.canaries == []


def test_why_is_short(world: World, running: Shell):
    fail_twice(world, running, "x" * 10_000)
    [failure] = running.state.canaries.failing("a").values()
    assert len(failure.why) == registry.core.canaries.MAX_WHY


# What is stronger, and what is nobody's fault.


def test_poor_health_is_stronger(world: World, running: Shell):
    fail_twice(world, running)
    world.beat("a", health_score=0.3)
    assert status(running) == (Status.SUSPENDED, "health")
    world.beat("a", health_score=1.0)
    assert status(running) == FAILING


def test_a_hang_is_stronger(world: World, shell: Shell):
    shell.register("a", canaries={"analysis": ECHO}, health_subject="agent.a.health_check", heartbeat_timeout=600.0)
    world.advance(30.0)
    shell.answer(Outcome.TIMEOUT)
    assert status(shell) == (Status.DEGRADED, "probe_timeout")
    fail_twice(world, shell)
    assert status(shell) == (Status.DEGRADED, "probe_timeout")


def test_who_is_gone_is_gone(world: World, shell: Shell):
    """And no canary is run, or brings anybody back."""
    shell.register("a", canaries={"analysis": ECHO}, health_subject="agent.a.health_check", heartbeat_timeout=600.0)
    world.advance(30.0)
    assert shell.canaries
    shell.answer(Outcome.NO_RESPONDERS)
    shell.end_canary(False, "nobody listens")
    assert shell.state.canaries.failing("a") == {}, "it is being found out whether it is there"
    shell.answer(Outcome.NO_RESPONDERS)
    assert status(shell) == (Status.OFFLINE, "no_responders")
    world.advance(100.0)
    assert shell.canaries == []


def test_a_first_fail_is_a_hint(world: World, shell: Shell):
    """Whoever is gone, or hangs, is found to be so at once, and that is the reason then."""
    shell.register("a", canaries={"analysis": SLOW}, health_subject="agent.a.health_check", heartbeat_timeout=80_000.0)
    while not shell.canaries:
        world.advance(5.0)
        while shell.probes:
            shell.answer(Outcome.ANSWERED)
    world.advance(5.0)
    assert shell.probes == []
    shell.end_canary(False, "nobody listens")
    assert [probe.purpose for probe in shell.probes] == [Purpose.HINT]
    shell.answer(Outcome.NO_RESPONDERS)
    shell.answer(Outcome.NO_RESPONDERS)
    assert status(shell) == (Status.OFFLINE, "no_responders")


def test_what_many_have_trouble_with_is_nobody_s_fault(world: World, running: Shell):
    running.state.protection.causes["unreachable"] = world.now
    running.end_canary(False)
    assert running.state.statistics.canaries_run == 0
    running.state.protection.causes.clear()


def test_flapping_is_told_after_it(world: World, running: Shell):
    """A canary that fails is what can be put right now."""
    fail_twice(world, running)
    agent, now = running.state.get("a"), running.state.wall(world.now)
    agent.record = replace(agent.record, flaps={"returns": 3, "penalty": 3.0, "at": now, "until": now + 60.0})
    found = condition(running.state, agent, world.now)
    assert found is not None
    assert found.reason == "canary"
    agent.record = world.bucket.last["a"].record


def test_nobody_goes_because_of_a_canary(world: World, running: Shell):
    for _ in range(50):
        until_run(world, running, 100.0)
        world.beat("a")
        running.end_canary(False, "nobody listens")
    assert status(running) == FAILING
    assert [event["reason"] for event in world.bucket.events("a")] == ["registered", "canary"]


def test_an_answer_is_no_sign_of_life(world: World, shell: Shell):
    shell.register("a", canaries={"analysis": {**ECHO, "period": 1.0}}, heartbeat_interval=10.0)
    for _ in range(45):
        world.advance(1.0)
        while shell.canaries:
            shell.end_canary(True)
    assert status(shell) == (Status.OFFLINE, "heartbeat_timeout")


def test_who_is_busy_is_not_run_and_not_blamed(world: World, running: Shell):
    world.beat("a", busy_until=running.state.wall(world.now) + 60.0)
    for _ in range(2):
        if running.canaries:
            running.end_canary(False)
        world.advance(20.0)
    assert running.canaries == []
    assert running.state.statistics.canaries_run == 0
    world.advance(20.0 + UNJUDGED)
    running.end_canary(True)
    assert running.state.statistics.canaries_run == 1


def test_a_pass_of_who_is_busy_counts(world: World, running: Shell):
    fail_twice(world, running)
    until_run(world, running, 11.0)
    world.beat("a", busy_until=running.state.wall(world.now) + 60.0)
    running.end_canary(True)
    assert status(running) == RECOVERED


def test_what_could_not_be_judged_is_nothing_and_tried_again(world: World, running: Shell):
    for _ in range(5):
        running.end_canary(None, "the registry failed")
        assert until_run(world, running, UNJUDGED + 2.0) > UNJUDGED - 0.2
    running.end_canary(False)
    assert status(running) == ACTIVE
    assert running.state.statistics.canaries_run == 1


@pytest.mark.parametrize("trouble", ["stall", "outage", "return", "earlier", "blocked"])
def test_what_is_not_the_agent_s_fault_is_nothing(trouble: str):
    world = World(limits=Limits(reconnect_grace=5.0))
    shell = world.replica("one", leading=True)
    world.advance(6.0)
    shell.register("a", canaries={"analysis": ECHO}, heartbeat_timeout=600.0)
    until_run(world, shell, 11.0)
    if trouble == "stall":
        world.stall(5.0)
    elif trouble == "blocked":
        shell.handle(PulseHeard(world.now, world.now - 0.9))
    else:
        shell.disconnect()
        if trouble != "outage":
            shell.connect()
            shell.sure = True
            shell.tick()
        if trouble == "earlier":  # what was sent before it was lost on the way, however long ago that is
            world.advance(8.0)
    shell.end_canary(False)
    assert shell.state.statistics.canaries_run == 0
    if trouble == "outage":
        shell.connect()
    fails = 0
    while fails < 2:
        until_run(world, shell, 20.0)
        shell.end_canary(False)
        fails += 1
        assert status(shell) == (ACTIVE if fails < 2 else FAILING)
    world.check()


def test_none_is_run_while_nobody_can_be_judged():
    world = World(limits=Limits(reconnect_grace=5.0))
    shell = world.replica("one", leading=True)
    shell.register("a", canaries={"analysis": {**ECHO, "period": 1.0}})
    world.advance(4.5)
    assert shell.canaries == []
    world.advance(2.0)
    assert len(shell.canaries) == 1
    world.check()


# Changes of the agent.


def fields(**changed: Any) -> dict[str, Any]:
    return {"instance_id": "i1", "heartbeat_timeout": 600.0, "canaries": {"analysis": ECHO}, **changed}


def test_who_declares_none_any_more_recovers(world: World, running: Shell):
    fail_twice(world, running)
    running.register("a", **fields(canaries={}))
    assert status(running) == RECOVERED
    assert running.state.canaries.failing("a") == {}
    world.advance(60.0)
    assert running.canaries == []


def test_another_change_of_the_registration_changes_nothing(world: World, running: Shell):
    fail_twice(world, running)
    failing = running.state.canaries.failing("a")
    running.register("a", **fields(tags=("eu",)))
    assert status(running) == FAILING
    assert running.state.canaries.failing("a") == failing


def test_another_canary_in_the_place_of_one_that_fails_has_to_pass_first(world: World, running: Shell):
    fail_twice(world, running)
    running.register("a", **fields(canaries={"analysis": {**ECHO, "topic": "other"}}))
    assert status(running) == FAILING
    until_run(world, running, 11.0)
    assert running.canaries[0].subject == "agent.a.other"
    running.end_canary(True)
    assert status(running) == RECOVERED


def test_how_one_ended_that_is_declared_no_more_says_nothing(world: World, running: Shell):
    running.register("a", **fields(canaries={"analysis": {**ECHO, "topic": "other"}}))
    running.end_canary(False)
    assert running.state.statistics.canaries_run == 0
    world.advance(11.0)
    assert [order.subject for order in running.canaries] == ["agent.a.other"]


def test_nor_one_of_the_instance_before(world: World, running: Shell):
    running.register("a", **fields(instance_id="i2", takeover=True))
    running.end_canary(False)
    assert running.state.statistics.canaries_run == 0
    world.advance(11.0)
    assert [order.incarnation for order in running.canaries] == [2]


def test_a_new_instance_begins_anew(world: World, running: Shell):
    fail_twice(world, running)
    running.register("a", **fields(instance_id="i2", takeover=True))
    assert status(running) == (Status.ACTIVE, "takeover")
    assert running.state.canaries.failing("a") == {}


def test_the_end_of_a_canary_of_nobody(world: World, running: Shell):
    running.command(Verb.DEREGISTER)
    running.end_canary(False)
    world.advance(60.0)
    assert running.canaries == []
    assert running.handle(CanaryFinished(world.now, "a", 1, "analysis", 99, False)) == []


def test_who_leaves_takes_no_new_work(world: World, running: Shell):
    running.command(Verb.DRAIN)
    running.end_canary(False)
    world.advance(60.0)
    assert running.canaries == []
    assert status(running) == (Status.DEREGISTERING, "draining")


def test_who_is_held_stays_so_and_is_degraded_after(world: World, running: Shell):
    running.command(Verb.SUSPEND)
    fail_twice(world, running)
    assert status(running) == (Status.SUSPENDED, "operator")
    running.command(Verb.RESUME)
    assert status(running)[0] is Status.DEGRADED
    until_run(world, running, 11.0)
    running.end_canary(True)
    assert status(running) == RECOVERED


def test_who_comes_back_from_offline_begins_anew(world: World, shell: Shell):
    shell.register("a", **fields(heartbeat_interval=5.0, heartbeat_timeout=20.0))
    fail_twice(world, shell)
    world.advance(40.0)
    assert status(shell)[0] is Status.OFFLINE
    shell.canaries.clear()
    shell.register("a", **fields())
    assert status(shell) == ACTIVE
    assert shell.state.canaries.failing("a") == {}


# Changes of the leader.


@pytest.mark.parametrize("how", ["another leads", "the registry is started anew"])
def test_who_fails_goes_on_to_until_it_passes(world: World, running: Shell, how: str):
    fail_twice(world, running)
    since = running.state.get("a").record.status_since
    if how == "another leads":
        other = world.replica("two")
        running.follow()
        assert running.state.canaries.failing("a") == {}
    else:
        world.shells.remove(running)
        other = world.replica("two")
    other.lead()
    assert status(other) == FAILING
    assert other.state.canaries.failing("a")["analysis"].since == since
    until_run(world, other, 11.0)
    other.end_canary(False, "no answer")
    assert status(other) == FAILING, "one fail is enough: it failed before"
    assert other.state.canaries.failing("a")["analysis"].why == "no answer"
    until_run(world, other, 11.0)
    other.end_canary(True)
    assert status(other) == RECOVERED
    assert [event["reason"] for event in world.bucket.events("a")] == ["registered", "canary", "recovered"]


def test_a_follower_runs_none_and_draws_no_conclusion(world: World, running: Shell):
    running.follow()
    running.end_canary(False)
    world.advance(60.0)
    assert running.canaries == []
    assert status(running) == ACTIVE


def test_how_one_of_an_earlier_term_ended_says_nothing(world: World, running: Shell):
    running.follow()
    running.lead()
    running.end_canary(False)
    assert running.state.statistics.canaries_run == 0


# What an answer has to be.


@pytest.mark.parametrize(
    ("answer", "expect"),
    [
        ({"ok": True, "more": 1}, {"ok": True}),
        ({"n": 1}, {"n": 1.0}),
        ({"text": "pong", "n": None}, {"n": None, "text": "pong"}),
        ({"a": {"b": [1, {"c": False}]}}, {"a": {"b": [1.0, {"c": False}]}}),
        ({}, {}),
        ([1], {}),
        (None, {}),
    ],
)
def test_as_expected(answer: Any, expect: dict[str, Any]):
    assert difference(answer, expect) is None


@pytest.mark.parametrize(
    ("answer", "expect", "why"),
    [
        ({}, {"ok": True}, '"ok" is not in the answer'),
        ({"ok": False}, {"ok": True}, '"ok" is false, not true'),
        ({"ok": 1}, {"ok": True}, '"ok" is 1, not true'),
        ({"n": True}, {"n": 1}, '"n" is true, not 1'),
        ({"n": "1"}, {"n": 1}, '"n" is "1", not 1'),
        ({"n": 2}, {"n": 1}, '"n" is 2, not 1'),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, '"a" is {"b": 1, "c": 2}, not {"b": 1}'),
        ({"a": [1, True]}, {"a": [1, 1]}, '"a" is [1, true], not [1, 1]'),
        ({"a": [1]}, {"a": [1, 1]}, '"a" is [1], not [1, 1]'),
        ({"a": "x" * 1000}, {"a": "y"}, '"a" is "' + "x" * 56 + '..., not "y"'),
        ([], {"ok": True}, "the answer is no object: []"),
        (None, {"ok": True}, "the answer is no object: null"),
    ],
)
def test_different(answer: Any, expect: dict[str, Any], why: str):
    assert difference(answer, expect) == why
