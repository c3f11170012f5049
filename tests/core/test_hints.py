"""Hints: a late beat, a report, a closed connection. Each leads to a probe at once, and to nothing else."""

from __future__ import annotations

import pytest

from registry.core.events import ConnectionClosed, Outcome, ProblemReported, Purpose
from registry.core.limits import HINT_PAUSE, LATE_BEAT, PROBE_REPEAT_CLOSED, REPORT_PAUSE
from registry.core.status import Status
from tests.core.shell import Reply, Shell, World

SUBJECT = "agent.a.health_check"


@pytest.fixture
def known(world: World, shell: Shell) -> Shell:
    """A leader with an agent that has been probed a while ago."""
    shell.register("a", instance_id="i1", health_subject=SUBJECT, connection={"server_id": "S", "client_id": 7})
    world.advance(30.0, beating=["a"])
    shell.answer(Outcome.ANSWERED)
    world.advance(2.0, beating=["a"])
    assert shell.probes == []
    return shell


def closed(shell: Shell, name: str = "agent:a", client_id: int = 7, reason: str = "Read Error") -> None:
    shell.handle(ConnectionClosed(shell.world.now, name, "S", client_id, reason))


def report(shell: Shell, agent_id: str = "a", problem: str = "timeout") -> Reply:
    reply = shell.world.reply()
    shell.handle(ProblemReported(shell.world.now, reply, None, agent_id, problem))
    return reply


@pytest.mark.parametrize("name", ["agent:a", "a"])
def test_a_closed_connection_leads_to_a_probe_at_once(known: Shell, name: str):
    closed(known, name)
    [probe] = known.probes
    assert (probe.purpose, probe.delay, probe.agent_id) == (Purpose.HINT, 0.0, "a")
    assert known.state.get("a").status is Status.ACTIVE, "a name is anybody's to choose"


def test_of_one_that_has_crashed_the_rest_takes_two_answers(world: World, known: Shell):
    """The second a while later, for a client that lost its connection needs as long to make another one."""
    closed(known)
    known.answer(Outcome.NO_RESPONDERS)
    assert known.probes[0].delay == PROBE_REPEAT_CLOSED
    known.answer(Outcome.NO_RESPONDERS)
    assert world.bucket.events()[-1]["reason"] == "no_responders"


def test_who_answers_has_not_crashed(known: Shell):
    """It closed one connection and has another, or somebody else named his so."""
    closed(known)
    known.answer(Outcome.ANSWERED)
    agent = known.state.get("a")
    assert (agent.status, agent.evidence.closed_at) == (Status.ACTIVE, None)


@pytest.mark.parametrize("name", ["", "agent:", "agent:b", "b", "agent:agent:a", "agent-registry:a", "AGENT:a"])
def test_a_connection_of_somebody_else_is_nothing(known: Shell, name: str):
    closed(known, name)
    assert known.probes == []


def test_hints_in_a_row_are_few_probes(world: World, known: Shell):
    """A hint right after a probe waits for a moment; however many there are, they are one probe then."""
    closed(known)
    known.answer(Outcome.ANSWERED)
    for _ in range(5):
        closed(known)
    [probe] = known.probes
    assert probe.delay == pytest.approx(HINT_PAUSE)
    known.answer(Outcome.ANSWERED)
    world.advance(5.0, beating=["a"])
    assert known.probes == []


def test_only_the_leader_asks(world: World, known: Shell):
    other = world.replica("two")
    closed(other)
    assert other.probes == []
    known.follow()
    closed(known)
    assert known.probes == []


def test_while_nobody_can_be_judged_a_hint_waits(world: World, known: Shell):
    world.stall(2.0)
    closed(known)
    assert known.probes == []
    world.advance(3.0, beating=["a"])
    assert len(known.probes) == 1


def test_a_late_beat_leads_to_a_probe(world: World, shell: Shell):
    """Long before the lease ends."""
    shell.register("a", health_subject=SUBJECT, heartbeat_interval=4.0)
    world.advance(35.0, beating=["a"])
    shell.answer(Outcome.ANSWERED)
    world.beat("a")
    world.advance(4.0 * LATE_BEAT - 0.5)
    assert shell.probes == []
    world.advance(1.0)
    [probe] = shell.probes
    assert probe.purpose is Purpose.HINT
    shell.answer(Outcome.ANSWERED)
    assert shell.state.leases.late == {}


def test_who_said_that_it_is_busy_is_not_late(world: World, shell: Shell):
    shell.register("a", health_subject=SUBJECT, heartbeat_interval=1.0)
    world.advance(30.0, beating=["a"])
    shell.answer(Outcome.ANSWERED)
    world.beat("a", busy_until=world.now + 1_700_000_000.0 + 10.0)
    world.advance(9.0)
    assert shell.state.leases.late == {}
    world.advance(2.0)
    assert list(shell.state.leases.late) == ["a"]


def test_a_report_leads_to_a_probe(known: Shell):
    reply = report(known, problem="no answer to quote")
    assert reply.body == {"agent_id": "a", "status": Status.ACTIVE, "verdict": "alive", "probed": True}
    assert len(known.probes) == 1
    found = known.state.get("a").evidence
    assert (found.reports, found.problem, found.reported_at) == (1, "no answer to quote", known.world.now)


def test_reports_are_limited(world: World, known: Shell):
    """However many report, an agent is asked once a second because of that."""
    report(known)
    known.answer(Outcome.ANSWERED)
    assert report(known)["probed"] is False
    world.advance(REPORT_PAUSE + 0.1, beating=["a"], step=0.1)
    assert known.probes == []
    assert report(known)["probed"] is True
    assert known.state.get("a").evidence.reports == 3


def test_a_report_of_nobody(known: Shell):
    assert report(known, "nobody").code == "not_found"


def test_a_report_of_who_cannot_be_asked(world: World, shell: Shell):
    """It lives by its beats; the report is kept for whoever looks."""
    shell.register("a")
    assert report(shell)["probed"] is False
    assert shell.state.get("a").status is Status.ACTIVE
    assert shell.state.get("a").evidence.reports == 1


def test_silent_and_its_own_connection_closed_is_disconnected(world: World, shell: Shell):
    """An agent without a health subject lives by its beats; what became of its connection says why they ended."""
    shell.register("a", connection={"server_id": "S", "client_id": 7}, heartbeat_interval=1.0)
    world.advance(20.0, beating=["a"])
    closed(shell)
    assert shell.state.get("a").status is Status.ACTIVE
    world.advance(3.5)
    assert world.bucket.events()[-1]["reason"] == "disconnected"


@pytest.mark.parametrize("foreign", ["another number", "stale", "a beat since"])
def test_silent_and_another_connection_closed_is_silent(world: World, shell: Shell, foreign: str):
    shell.register("a", connection={"server_id": "S", "client_id": 7}, heartbeat_interval=1.0)
    world.advance(20.0, beating=["a"])
    closed(
        shell,
        client_id=8 if foreign == "another number" else 7,
        reason="Stale Connection" if foreign == "stale" else "",
    )
    if foreign == "a beat since":
        world.beat("a")
    world.advance(3.5)
    assert world.bucket.events()[-1]["reason"] == "heartbeat_timeout"
