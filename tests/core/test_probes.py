"""Health checks by the registry: who is gone, who hangs, who recovered."""

from __future__ import annotations

import pytest

import registry.core.probing
from registry.core.events import ConnectionClosed, Outcome, ProbeFinished, PulseHeard, Purpose, Verb
from registry.core.limits import PROBE_REPEAT, Limits
from registry.core.status import Status
from tests.core.shell import WALL, Fate, Shell, World

SUBJECT = "agent.a.health_check"


@pytest.fixture
def probing(world: World, shell: Shell) -> Shell:
    """A leader with an agent whose first probe is on its way."""
    shell.register("a", instance_id="i1", health_subject=SUBJECT)
    world.advance(30.0, beating=["a"])
    assert len(shell.probes) == 1
    return shell


def status(shell: Shell) -> Status:
    return shell.state.get("a").status


def test_probed_once_an_interval(world: World, shell: Shell):
    """An agent with a health subject is probed once an interval, the first time at a random moment within it."""
    for agent_id in "abcdefgh":
        shell.register(agent_id, health_subject=f"agent.{agent_id}.health_check")
    moments = []
    for _ in range(240):
        world.advance(0.5, beating="abcdefgh")
        moments += [(world.now, probe.agent_id) for probe in shell.probes]
        for probe in list(shell.probes):
            assert (probe.purpose, probe.delay, probe.subject) == (
                Purpose.HEALTH,
                0.0,
                f"agent.{probe.agent_id}.health_check",
            )
            shell.answer(Outcome.ANSWERED, probe.agent_id)
    assert len(moments) == 8 * 4
    assert len({at for at, _ in moments}) > 8, "spread over the interval"
    assert shell.state.statistics.health_checks == 32
    assert shell.state.statistics.failed_health_checks == 0


def test_no_subject_no_probe(world: World, shell: Shell):
    """An agent without a health subject lives by its heartbeats alone."""
    shell.register("a")
    world.advance(70.0)
    assert shell.probes == []


def test_one_probe_at_a_time(world: World, probing: Shell):
    """No second probe is sent while one is on its way."""
    world.advance(90.0, beating=["a"])
    assert len(probing.probes) == 1


def test_probes_in_flight_are_bounded(world: World, shell: Shell, monkeypatch: pytest.MonkeyPatch):
    """At most so many probes are in flight; the rest follows as they end."""
    monkeypatch.setattr(registry.core.probing, "MAX_PROBES_IN_TURN", 3)
    agents = [f"a{number}" for number in range(8)]
    for agent_id in agents:
        shell.register(agent_id, health_subject=f"agent.{agent_id}.health_check")
    world.advance(30.0, beating=agents)
    assert len(shell.probes) == 3
    probed = set()
    while shell.probes:
        probe = shell.probes[0]
        probed.add(probe.agent_id)
        shell.answer(Outcome.ANSWERED, probe.agent_id)
        world.advance(0.5, beating=agents)
    assert probed == set(agents)


def test_no_responders_twice_is_gone(world: World, probing: Shell):
    """No responders, twice a moment apart, is gone: offline at once, with that reason."""
    probing.answer(Outcome.NO_RESPONDERS)
    assert status(probing) is Status.ACTIVE
    [again] = probing.probes
    assert (again.purpose, again.delay) == (Purpose.HINT, PROBE_REPEAT)
    probing.answer(Outcome.NO_RESPONDERS)
    assert status(probing) is Status.OFFLINE
    assert world.bucket.events()[-1]["reason"] == "no_responders"
    assert probing.state.statistics.failed_health_checks == 2


@pytest.mark.parametrize("outcome", [Outcome.NO_RESPONDERS, Outcome.TIMEOUT])
@pytest.mark.parametrize("trouble", ["stall", "outage", "return", "blocked"])
def test_what_is_not_the_agents_fault_is_nothing(outcome: Outcome, trouble: str):
    """Whoever is not there while NATS or this process was not, or has just come back, is asked again later."""
    world = World(limits=Limits(reconnect_grace=5.0))
    shell = world.replica("one", leading=True)
    world.advance(5.0)
    shell.register("a", health_subject=SUBJECT)
    world.advance(30.0, beating=["a"])
    if trouble == "stall":
        world.stall(2.0)
    elif trouble == "blocked":
        world.now += 2.0
        shell.handle(PulseHeard(world.now, world.now - 2.0))
        shell.handle(PulseHeard(world.now, world.now - 0.1))
    else:
        shell.disconnect()
        if trouble == "return":
            shell.connect()
    for _ in range(3):
        if shell.probes:
            shell.answer(outcome)
    assert status(shell) is Status.ACTIVE
    assert shell.state.get("a").evidence.is_harmless
    shell.connect()
    world.advance(4.5, beating=["a"])
    assert not shell.probes, "it is on its way back"
    world.advance(2.0, beating=["a"])
    shell.answer(Outcome.NO_RESPONDERS)
    shell.answer(Outcome.NO_RESPONDERS)
    assert status(shell) is Status.OFFLINE


@pytest.mark.parametrize("sign", ["beat", "answer", "time-out"])
def test_no_responders_once_is_nothing(world: World, probing: Shell, sign: str):
    """A client that reconnects is missed once; any sign of it in between begins the count anew."""
    probing.answer(Outcome.NO_RESPONDERS)
    if sign == "beat":
        world.beat("a")
        probing.answer(Outcome.NO_RESPONDERS)
    elif sign == "answer":
        probing.answer(Outcome.ANSWERED)
    else:
        probing.answer(Outcome.TIMEOUT)
    assert status(probing) is not Status.OFFLINE


def test_two_probes_at_one_moment_are_one_miss(world: World, probing: Shell):
    """Twice means a moment apart: a health check and a probe for the holder, both missed at once, are not twice."""
    reply = probing.register("a", instance_id="i2", health_subject=SUBJECT)
    assert [probe.purpose for probe in probing.probes] == [Purpose.HEALTH, Purpose.HOLDER]
    probing.answer(Outcome.NO_RESPONDERS)
    probing.answer(Outcome.NO_RESPONDERS)
    assert reply.body is None
    while probing.probes:
        probing.answer(Outcome.ANSWERED)
    assert reply.code == "already_registered"


def test_a_probe_that_times_out(world: World, probing: Shell):
    """An agent that is there but does not answer hangs: it is degraded, whatever it says of its health."""
    probing.answer(Outcome.TIMEOUT)
    assert status(probing) is Status.DEGRADED
    assert world.bucket.events()[-1]["reason"] == "probe_timeout"
    world.beat("a", health_score=1.0)
    assert status(probing) is Status.DEGRADED


def test_a_hung_agent_of_poor_health(world: World, probing: Shell):
    """Poor health weighs more than hanging, and is then the reason."""
    probing.answer(Outcome.TIMEOUT)
    world.beat("a", health_score=0.1)
    event = world.bucket.events()[-1]
    assert (event["to"], event["reason"]) == ("suspended", "health")
    world.beat("a", health_score=1.0)
    event = world.bucket.events()[-1]
    assert (event["to"], event["reason"]) == ("degraded", "probe_timeout")


def test_recovery(world: World, probing: Shell):
    """An agent that answers again is active again, with what it answered, and its lease renewed."""
    probing.answer(Outcome.TIMEOUT)
    world.advance(30.0, beating=["a"])
    probing.answer(Outcome.ANSWERED, health_score=0.95, load_factor=0.3)
    agent = probing.state.get("a")
    assert (agent.status, agent.health, agent.load, agent.heard) == (Status.ACTIVE, 0.95, 0.3, world.now)
    assert world.bucket.events()[-1]["reason"] == "recovered"


def test_an_answer_of_poor_health(world: World, probing: Shell):
    """What a health check says counts like a report."""
    probing.answer(Outcome.ANSWERED, health_score=0.2)
    assert status(probing) is Status.SUSPENDED


def test_answers_renew_the_lease(world: World, shell: Shell):
    """An agent that answers its health checks needs no heartbeats."""
    shell.register("a", health_subject=SUBJECT)
    for _ in range(400):
        world.advance(0.5)
        if shell.probes:
            shell.answer(Outcome.ANSWERED)
    assert status(shell) is Status.ACTIVE


def test_timeouts_do_not_renew(world: World, shell: Shell):
    """A probe that timed out is no sign of life: a hung agent that is silent goes offline."""
    shell.register("a", health_subject=SUBJECT)
    for _ in range(220):
        world.advance(0.5)
        if shell.probes:
            shell.answer(Outcome.TIMEOUT)
    assert status(shell) is Status.OFFLINE


def test_an_operator_s_hold_is_kept(world: World, probing: Shell):
    """Health checks do not move an agent that an operator holds, unless it is gone."""
    probing.command(Verb.SUSPEND)
    probing.answer(Outcome.TIMEOUT)
    assert probing.state.get("a").record.held
    probing.handle(ConnectionClosed(world.now, "agent:a", "S", 1, "Read Error"))
    probing.answer(Outcome.NO_RESPONDERS)
    probing.answer(Outcome.NO_RESPONDERS)
    assert status(probing) is Status.OFFLINE


@pytest.mark.parametrize("told", [True, False])
def test_who_hangs_so_long_that_nats_closes_its_connection_hangs(world: World, probing: Shell, told: bool):
    """NATS' pings are not answered either; then nobody listens, and that is no death. Its lease decides."""
    if told:
        probing.handle(ConnectionClosed(world.now, "agent:a", "S", 1, "Stale Connection"))
    else:
        probing.answer(Outcome.TIMEOUT, took=4.0)
        world.advance(30.0)
    while probing.probes:
        probing.answer(Outcome.NO_RESPONDERS)
    assert (status(probing), world.bucket.events()[-1]["reason"]) == (Status.DEGRADED, "probe_timeout")
    for _ in range(240):
        world.advance(0.5)
        while probing.probes:
            probing.answer(Outcome.NO_RESPONDERS)
    assert (status(probing), world.bucket.events()[-1]["reason"]) == (Status.OFFLINE, "probe_timeout")


def test_who_beats_again_is_asked_soon(world: World, probing: Shell):
    """It may be well again; until it is asked it gets no work."""
    probing.answer(Outcome.TIMEOUT, took=4.0)
    world.beat("a")
    world.advance(1.0, step=0.1)
    probing.answer(Outcome.ANSWERED)
    assert world.bucket.events()[-1]["reason"] == "recovered"


def test_a_draining_agent_that_is_gone(world: World, probing: Shell):
    """A draining agent whose process has ended is gone too."""
    probing.command(Verb.DRAIN)
    probing.answer(Outcome.NO_RESPONDERS)
    probing.answer(Outcome.NO_RESPONDERS)
    assert "a" not in probing.state.agents or status(probing) is Status.OFFLINE


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_probe_of_an_older_incarnation(world: World, probing: Shell, outcome: Outcome):
    """How a probe of the instance before ended says nothing of this one."""
    probing.register("a", instance_id="i2", takeover=True)
    probing.answer(outcome, **({"health_score": 0.1} if outcome is Outcome.ANSWERED else {}))
    agent = probing.state.get("a")
    assert (agent.status, agent.health, agent.evidence.is_harmless) == (Status.ACTIVE, 1.0, True)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_probe_of_nobody(world: World, probing: Shell, outcome: Outcome):
    """The end of a probe of an agent that has left meanwhile changes nothing."""
    probing.command(Verb.DEREGISTER)
    probing.answer(outcome)
    assert probing.state.agents == {}
    assert probing.probes == []


def test_an_offline_agent_is_not_probed(world: World, probing: Shell):
    """Who is offline is not probed, until it registers again."""
    probing.answer(Outcome.NO_RESPONDERS)
    probing.answer(Outcome.NO_RESPONDERS)
    world.advance(100.0)
    assert probing.probes == []
    probing.register("a", instance_id="i1", health_subject=SUBJECT)
    world.advance(31.0, beating=["a"])
    assert len(probing.probes) == 1


def test_a_probe_that_ends_after_the_agent_went_offline(world: World, probing: Shell):
    """An agent that went offline while it was probed does not come back by answering: it must register."""
    probing.answer(Outcome.NO_RESPONDERS)
    agent = probing.state.get("a")
    world.advance(130.0)
    assert agent.status is Status.OFFLINE
    probing.answer(Outcome.ANSWERED)
    assert agent.status is Status.OFFLINE


def test_a_hung_agent_that_is_no_longer_probed(world: World, probing: Shell):
    """An agent that hung, and then registers without a health subject, is judged by its heartbeats alone."""
    probing.answer(Outcome.TIMEOUT)
    probing.register("a", instance_id="i1")
    world.beat("a", health_score=1.0)
    assert status(probing) is Status.ACTIVE


def test_a_subject_that_came_later(world: World, shell: Shell):
    """An agent whose update brings a health subject is probed from then on."""
    shell.register("a", instance_id="i1")
    world.advance(40.0, beating=["a"])
    shell.register("a", instance_id="i1", health_subject=SUBJECT)
    world.advance(30.0, beating=["a"])
    assert len(shell.probes) == 1


def test_gone_while_a_write_is_on_its_way(world: World, probing: Shell):
    """Positive evidence acts at once: an agent found gone during its write is offline when that has ended."""
    probing.manual = True
    probing.command(Verb.SUSPEND)
    probing.answer(Outcome.NO_RESPONDERS)
    probing.answer(Outcome.NO_RESPONDERS)
    probing.release()
    world.advance(0.5)
    assert status(probing) is Status.OFFLINE


def test_a_follower_draws_no_conclusion(world: World, probing: Shell):
    """Who no longer leads does not act on the probe that it sent when it did."""
    probing.follow()
    probing.answer(Outcome.NO_RESPONDERS)
    assert probing.probes == []
    assert probing.state.get("a").evidence.is_harmless


def test_a_holder_probe_that_nobody_waits_for(shell: Shell):
    """The end of a probe for a holder that nobody waits for any more changes nothing."""
    shell.register("a")
    finished = ProbeFinished(shell.world.now, "a", 1, Purpose.HOLDER, Outcome.NO_RESPONDERS, SUBJECT)
    assert shell.handle(finished) == []
    assert status(shell) is Status.ACTIVE


# What one leader found out is nothing that another one knows.


@pytest.mark.parametrize("how", ["another leads", "the registry is started anew"])
def test_who_hangs_goes_on_to_until_it_answers(world: World, shell: Shell, how: str):
    shell.register("a", health_subject=SUBJECT)
    world.advance(31.0, beating=["a"])
    shell.answer(Outcome.TIMEOUT)
    if how == "another leads":
        other = world.replica("two")
        shell.follow()
    else:
        world.shells.remove(shell)
        other = world.replica("two")
    other.lead()
    assert (other.state.get("a").status, other.state.get("a").record.status_reason) == (
        Status.DEGRADED,
        "probe_timeout",
    )
    world.advance(31.0, beating=["a"])
    other.answer(Outcome.ANSWERED)
    assert other.state.get("a").status is Status.ACTIVE


def _answers(world: World, leader: Shell, seconds: float) -> None:
    for _ in range(int(seconds / 31.0)):
        world.advance(31.0)
        while leader.probes:
            leader.answer(Outcome.ANSWERED)


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.NO_RESPONDERS])
def test_what_was_found_out_in_an_earlier_term_is_forgotten(world: World, shell: Shell, outcome: Outcome):
    other = world.replica("two")
    shell.register("a", health_subject=SUBJECT, heartbeat_timeout=80_000.0)
    world.advance(31.0)
    if outcome is Outcome.TIMEOUT:
        shell.answer(outcome)
    else:
        shell.answer(outcome)
        shell.manual = True
        shell.answer(outcome)
    shell.follow()
    other.lead()
    if outcome is Outcome.NO_RESPONDERS:
        shell.carry_out(0, Fate.LOST)
        shell.manual = False
        world.run()
    _answers(world, other, 310.0)
    assert other.state.get("a").status is Status.ACTIVE
    other.follow()
    shell.lead()
    world.run()
    assert shell.state.get("a").status is Status.ACTIVE


def test_who_registers_after_his_probes_found_nobody_is_there(world: World, shell: Shell):
    other = world.replica("two")
    shell.register("a", instance_id="i1", health_subject=SUBJECT)
    world.advance(31.0, beating=["a"])
    shell.answer(Outcome.NO_RESPONDERS)
    shell.manual = True
    shell.answer(Outcome.NO_RESPONDERS)
    assert other.register("a", instance_id="i1", health_subject=SUBJECT, tags=("back",)).code is None
    shell.manual = False
    world.run()
    world.advance(0.2)
    assert other.state.get("a").status is Status.ACTIVE


def test_a_probe_of_another_subject(world: World, probing: Shell):
    """What became of a probe of the subject before says nothing of the one that it has now."""
    probing.register("a", instance_id="i1", health_subject="agent.a.new")
    probing.answer(Outcome.TIMEOUT, took=4.0)
    assert status(probing) is Status.ACTIVE
    assert probing.state.get("a").evidence.is_harmless


def test_a_new_leader_asks_at_once_whose_connection_it_heard_to_end(world: World, shell: Shell):
    """The leader and an agent die with the same machine."""
    other = world.replica("two")
    shell.register("a", health_subject=SUBJECT)
    world.advance(5.0, beating=["a"])
    other.handle(ConnectionClosed(world.now, "agent:a", "S", 1, "Read Error"))
    shell.follow()
    other.lead()
    assert [probe.agent_id for probe in other.probes] == ["a"]


@pytest.mark.parametrize("trouble", ["outage", "stall"])
def test_a_probe_that_trouble_fell_into_says_nothing(trouble: str):
    """It was sent before, and its time was up after: whatever became of it, nobody can tell whose fault it was."""
    world = World(limits=Limits(reconnect_grace=1.0))
    shell = world.replica("one", leading=True)
    world.advance(5.0)
    shell.register("a", health_subject=SUBJECT)
    world.advance(30.0, beating=["a"])
    assert len(shell.probes) == 1
    world.advance(0.5, beating=["a"])
    if trouble == "outage":
        shell.disconnect()
        shell.connect()
    else:
        world.now += 1.0
        shell.handle(PulseHeard(world.now, world.now - 1.0))
    world.advance(2.5, beating=["a"])
    assert shell.state.path.can_judge(world.now)
    shell.answer(Outcome.TIMEOUT, took=4.0)
    assert status(shell) is Status.ACTIVE
    world.advance(2.0, beating=["a"])
    assert len(shell.probes) == 1, "it is asked again"


# Late answers.


def test_a_late_answer_is_slow(world: World, probing: Shell):
    """Who answers late is there, and gets less work, until it has been in time twice in a row."""
    probing.answer(Outcome.ANSWERED, took=2.5)
    assert (status(probing), world.bucket.events()[-1]["reason"]) == (Status.DEGRADED, "slow")
    for left in (1, 0):
        world.advance(30.0, beating=["a"])
        probing.answer(Outcome.ANSWERED, took=0.001)
        assert (status(probing) is Status.DEGRADED) is bool(left)
    assert world.bucket.events()[-1]["reason"] == "recovered"


def test_an_answer_of_two_seconds_is_in_time(world: World, probing: Shell):
    probing.answer(Outcome.ANSWERED, took=2.0)
    assert status(probing) is Status.ACTIVE


def test_slow_then_hung_then_slow(world: World, probing: Shell):
    """That it is degraded for another reason is told, too."""
    probing.answer(Outcome.ANSWERED, took=2.5)
    world.advance(30.0, beating=["a"])
    probing.answer(Outcome.TIMEOUT, took=4.0)
    world.advance(30.0, beating=["a"])
    probing.answer(Outcome.ANSWERED, took=2.5)
    assert [event["reason"] for event in world.bucket.events()[-3:]] == ["slow", "probe_timeout", "slow"]


def test_busy_is_not_hung(world: World, probing: Shell):
    """Who said that it would be busy and does not answer is that, and hangs only when its time is over."""
    world.beat("a", busy_until=WALL + world.now + 40.0)
    probing.answer(Outcome.TIMEOUT, took=4.0)
    assert (status(probing), world.bucket.events()[-1]["reason"]) == (Status.DEGRADED, "busy")
    world.advance(45.0)
    probing.answer(Outcome.TIMEOUT, took=4.0)
    assert world.bucket.events()[-1]["reason"] == "probe_timeout"


def test_who_is_asked_early_waits_no_longer_for_its_next_turn(world: World, shell: Shell):
    """Whoever hangs right after that is to be known to in the same time."""
    agents = [f"a{number}" for number in range(20)]
    for agent_id in agents:
        shell.register(agent_id, health_subject=f"agent.{agent_id}.health_check")
    world.advance(40.0)
    for probe in list(shell.probes):
        shell.answer(Outcome.ANSWERED, probe.agent_id)
    shell.handle(ConnectionClosed(world.now, "a0", "S", 1, "Read Error"))
    shell.answer(Outcome.NO_RESPONDERS, "a0")
    early = {probe.agent_id for probe in shell.probes} - {"a0"}
    assert early, "scouts"
    latest = world.now + world.limits.probe_period
    assert all(shell.state.get(agent_id).probe_at <= latest for agent_id in early)


def test_how_long_an_answer_is_waited_for(world: World, shell: Shell):
    """The time-out and a while, so that who is slow can be told from who hangs; known to hang in time for all that."""
    for interval, timeout, wait in ((30.0, 2.0, 4.0), (6.0, 2.0, 4.0), (3.0, 2.0, 3.0)):
        limits = Limits(health_check_interval=interval, probe_timeout=timeout)
        assert limits.probe_timeout + limits.patience == wait
        assert limits.probe_period + wait < interval + timeout
    shell.register("a", health_subject=SUBJECT)
    world.advance(30.0, beating=["a"])
    assert shell.probes[0].timeout == 4.0


def test_a_hung_agent_that_falls_silent_was_hung(world: World, probing: Shell):
    """The reason for which it is given up says what was found, not only that its lease ended."""
    probing.answer(Outcome.TIMEOUT, took=4.0)
    for _ in range(220):
        world.advance(0.5)
        if probing.probes:
            probing.answer(Outcome.TIMEOUT, took=4.0)
    event = world.bucket.events()[-1]
    assert (event["to"], event["reason"]) == ("offline", "probe_timeout")


def test_an_agent_whose_loop_blocks_is_never_more_than_slow(world: World, shell: Shell):
    """Two seconds in every five, whenever it is asked: the answer comes when the block ends."""
    shell.register("a", health_subject=SUBJECT, heartbeat_interval=1.0, heartbeat_timeout=3.0)
    asked: float | None = None
    for step in range(6000):
        blocked = world.now % 5.0 < 2.0
        world.advance(0.1, beating=[] if blocked else ["a"], step=0.1)
        asked = (asked or world.now) if shell.probes else None
        if shell.probes and not world.now % 5.0 < 2.0:
            shell.answer(Outcome.ANSWERED, took=world.now - (asked or world.now) + 0.1)
        assert step >= 0
    assert {event["reason"] for event in world.bucket.events()} <= {"registered", "slow", "recovered", "busy"}
