"""Protection: many in trouble together are held back, for a bounded time, and said so; who is really gone goes."""

from __future__ import annotations

from collections import Counter

import pytest

from registry.core.choice import choose
from registry.core.events import ConnectionClosed, ConnectionsWatched, Outcome, PulseHeard, Purpose, Verb
from registry.core.judgement import verdict
from registry.core.limits import (
    BURST,
    LEASES_HELD,
    MAX_SILENCE_HELD,
    MIN_PROTECTED,
    MIN_SILENCE_HELD,
    SAMPLE_WINDOW,
    Limits,
)
from registry.core.path import MAX_ALLOWANCE
from registry.core.protection import LATENESS, OUTAGE, SILENCE, UNREACHABLE, Protection
from registry.core.query import Query
from registry.core.status import Status
from tests.core.shell import Shell, World

GRACE = 5.0
FLEET = [f"a{number}" for number in range(40)]
INTERVAL = 4.0
LEASE = 3 * INTERVAL


@pytest.fixture
def world() -> World:
    return World(limits=Limits(reconnect_grace=GRACE))


@pytest.fixture
def shell(world: World) -> Shell:
    shell = world.replica("one", leading=True)
    world.advance(20.0)
    return shell


def fleet(shell: Shell, probed: bool = False, agents: list[str] = FLEET) -> None:
    for agent_id in agents:
        subject = f"agent.{agent_id}.health_check" if probed else None
        shell.register(agent_id, heartbeat_interval=INTERVAL, health_subject=subject)


def statuses(shell: Shell) -> Counter[str]:
    return Counter(str(agent.status) for agent in shell.state.agents.values())


def verdicts(shell: Shell) -> Counter[str]:
    return Counter(str(verdict(shell.state, agent, shell.world.now)[0]) for agent in shell.state.agents.values())


class Life:
    """Answers probes as agents would of whom some are dead."""

    def __init__(self, shell: Shell, dead: set[str], outcome: Outcome = Outcome.NO_RESPONDERS) -> None:
        self.shell, self.dead, self.outcome = shell, dead, outcome
        self.asked: dict[str, float] = {}
        """When a probe was sent that is not answered."""

    def go_on(self, seconds: float, beating: bool = True) -> None:
        world, takes = self.shell.world, 4.0 if self.outcome is Outcome.TIMEOUT else 0.0
        for _ in range(round(seconds / 0.1)):
            world.advance(0.1, step=0.1)
            if beating and round(world.now * 10) % 20 == 0:
                for agent_id in self.shell.state.agents:
                    if agent_id not in self.dead:
                        world.beat(agent_id)
            for probe in list(self.shell.probes):
                took = world.now - self.asked.setdefault(probe.agent_id, world.now)
                if probe.agent_id not in self.dead:
                    self.shell.answer(Outcome.ANSWERED, probe.agent_id, took=took)
                elif took >= takes:
                    self.shell.answer(self.outcome, probe.agent_id, took=took)
                else:
                    continue
                del self.asked[probe.agent_id]


# Silence.


def test_all_silent_at_once_is_the_way_s_fault(world: World, shell: Shell):
    """Nobody is given up when all fall silent together; the evidence is shown as it is, and the reason why not."""
    fleet(shell)
    world.advance(10.0, beating=FLEET)
    world.advance(LEASE + 2.0)
    assert statuses(shell) == {"active": len(FLEET)}
    assert verdicts(shell) == {"partitioned": len(FLEET)}
    assert shell.announced == [("protection_on", SILENCE)]
    assert set(shell.state.protection.causes) == {SILENCE}
    world.advance(1.0, beating=FLEET)
    assert statuses(shell) == {"active": len(FLEET)}
    assert verdicts(shell) == {"alive": len(FLEET)}
    assert shell.announced[1:] == [("protection_off", SILENCE)], "it ends by itself"


@pytest.mark.parametrize(
    ("interval", "held"), [(4.0, MIN_SILENCE_HELD), (30.0, LEASES_HELD * 90.0), (100.0, MAX_SILENCE_HELD)]
)
def test_it_is_held_back_for_so_many_leases_and_no_longer(world: World, shell: Shell, interval: float, held: float):
    """And for two minutes at least, ten at most."""
    for agent_id in FLEET:
        shell.register(agent_id, heartbeat_interval=interval)
    world.advance(interval, beating=FLEET)
    world.advance(3 * interval + held - 1.0)
    assert statuses(shell) == {"active": len(FLEET)}
    world.advance(3.0)
    assert statuses(shell) == {"offline": len(FLEET)}
    assert {event["reason"] for event in world.bucket.events() if event["to"] == "offline"} == {"heartbeat_timeout"}
    assert shell.announced == [("protection_on", SILENCE), ("protection_off", SILENCE)]


@pytest.mark.parametrize(("silent", "held"), [(12, False), (13, True)])
def test_more_than_the_share(world: World, shell: Shell, silent: int, held: bool):
    """Three of ten are that many by themselves; one more is the way."""
    fleet(shell)
    world.advance(10.0, beating=FLEET)
    world.advance(LEASE + 2.0, beating=FLEET[silent:])
    assert statuses(shell)["offline"] == (0 if held else silent)


def test_few_agents_are_never_many(world: World, shell: Shell):
    agents = FLEET[: MIN_PROTECTED - 1]
    fleet(shell, agents=agents)
    world.advance(LEASE + 12.0)
    assert statuses(shell) == {"offline": len(agents)}
    assert shell.announced == []


def test_ordered_departures_are_no_partition(world: World, shell: Shell):
    """Who was drained or deregistered is missed by nobody, so the last ones that stay are judged as ever."""
    fleet(shell)
    world.advance(10.0, beating=FLEET)
    for agent_id in FLEET[:20]:
        shell.command(Verb.DRAIN, agent_id)
    for agent_id in FLEET[20:30]:
        shell.command(Verb.DEREGISTER, agent_id)
    world.advance(LEASE + 2.0, beating=FLEET[31:])
    assert shell.announced == []
    assert shell.state.get("a30").status is Status.OFFLINE


def test_one_that_crashes_meanwhile_goes_at_once(world: World, shell: Shell):
    """Positive evidence is not held back by silence."""
    fleet(shell, probed=True)
    world.advance(LEASE + 2.0)
    assert SILENCE in shell.state.protection.causes
    shell.handle(ConnectionClosed(world.now, "agent:a3", "S", 1, "Read Error"))
    probed = {probe.agent_id for probe in shell.probes}
    assert "a3" in probed
    shell.answer(Outcome.NO_RESPONDERS, "a3")
    shell.answer(Outcome.NO_RESPONDERS, "a3")
    assert shell.state.get("a3").status is Status.OFFLINE


def test_who_deregisters_meanwhile_goes_at_once(world: World, shell: Shell):
    fleet(shell)
    world.advance(LEASE + 2.0)
    shell.command(Verb.DEREGISTER, "a3")
    assert "a3" not in shell.state.agents


# What is given work meanwhile.


def whom(shell: Shell, tries: int = 60) -> set[str]:
    """Return whom work is given to."""
    state, wanted = shell.state, Query(sort_by="random", slots=1)
    found = {choose(state.catalog, wanted, shell.world.now, state.random) for _ in range(tries)}
    state.catalog.validate()
    return {agent.agent_id for agent in found if agent is not None}


@pytest.mark.parametrize(
    ("outcome", "after"), [(None, LEASE + 2.0), (Outcome.NO_RESPONDERS, GRACE - 0.1), (Outcome.TIMEOUT, LEASE)]
)
def test_nobody_is_given_work_whose_verdict_is_held_back(
    world: World, shell: Shell, outcome: Outcome | None, after: float
):
    """Nor who was not there when asked; until he is heard of again, and unless there is nobody else."""
    fleet(shell, probed=outcome is not None)
    dead = set(FLEET[:20])
    assert whom(shell) & dead
    life = Life(shell, set(), outcome or Outcome.TIMEOUT)
    life.go_on(40.0)
    shell.handle(ConnectionsWatched(world.now, True))
    life.dead = dead
    life.go_on(after)
    in_doubt = {agent_id for agent_id in dead if shell.state.agents[agent_id].is_doubtful}
    assert in_doubt
    assert outcome is not None or in_doubt == dead
    assert statuses(shell)["offline"] == 0
    assert not whom(shell) & in_doubt
    life.dead = set(FLEET)
    life.go_on(LEASE + 2.0)
    assert whom(shell), "there is nobody else"
    life.dead = set()
    life.go_on(20.0)
    assert whom(shell, 300) & in_doubt, "it was heard of again"


# Absence.


@pytest.mark.parametrize("watched", [False, True])
def test_half_the_fleet_that_crashes_is_cleared_away(world: World, shell: Shell, watched: bool):
    """All of it, soon, and nobody else; the first ones at once, the others when they had time to come back."""
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead = set(FLEET[:20])
    shell.handle(ConnectionsWatched(world.now, watched))
    if watched:
        for agent_id in FLEET[:20]:
            shell.handle(ConnectionClosed(world.now, f"agent:{agent_id}", "S", 1, "Read Error"))
    life.go_on(GRACE + (1.0 if watched else 4.0))
    assert statuses(shell) == {"offline": 20, "active": 20}
    assert {event["reason"] for event in world.bucket.events() if event["to"] == "offline"} == {"no_responders"}


@pytest.mark.parametrize("part", [16, 40])
def test_a_way_that_is_cut_for_less_than_the_grace_costs_at_most_one(world: World, shell: Shell, part: int):
    """Nobody listens there for three seconds: the first to be asked shows that he is not alone with that."""
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead = set(FLEET[:part])
    life.go_on(3.0)
    life.dead = set()
    life.go_on(30.0)
    assert statuses(shell)["offline"] <= 1
    assert ("protection_on", UNREACHABLE) in shell.announced
    assert shell.announced[-1] == ("protection_off", UNREACHABLE)


def test_many_that_do_not_answer_and_do_not_beat_keep_their_status(world: World, shell: Shell):
    """Packets are lost on the way: but for the first few that were asked, nobody hangs; nobody at all is given up."""
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead, life.outcome = set(FLEET), Outcome.TIMEOUT
    life.go_on(LEASE)
    assert statuses(shell)["active"] >= len(FLEET) / 2
    assert statuses(shell)["offline"] == 0
    life.dead = set()
    life.go_on(70.0)
    assert statuses(shell) == {"active": len(FLEET)}


@pytest.mark.parametrize("reason", ["Stale Connection", None])
def test_where_ends_of_connections_are_told_who_did_not_end_his_has_not_crashed(
    world: World, shell: Shell, reason: str | None
):
    """A node of the cluster, or the way to it, is lost: nobody listens for longer than the grace, and all live."""
    fleet(shell, probed=True)
    shell.handle(ConnectionsWatched(world.now, watched=True))
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead = set(FLEET[:20])
    if reason is not None:
        for agent_id in FLEET[:20]:
            shell.handle(ConnectionClosed(world.now, f"agent:{agent_id}", "S", 1, reason))
    life.go_on(GRACE + 4.0)
    assert statuses(shell)["offline"] <= 1
    life.dead = set()
    life.go_on(30.0)
    assert statuses(shell)["offline"] <= 1


def test_many_connections_that_are_closed_at_once_and_made_again(world: World, shell: Shell):
    """A load balancer is started anew: within the grace, nobody is given up."""
    fleet(shell, probed=True)
    shell.handle(ConnectionsWatched(world.now, watched=True))
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead = set(FLEET)
    for agent_id in FLEET:
        shell.handle(ConnectionClosed(world.now, f"agent:{agent_id}", "S", 1, "Read Error"))
    life.go_on(GRACE - 1.0)
    life.dead = set()
    life.go_on(20.0)
    assert statuses(shell) == {"active": len(FLEET)}
    assert shell.announced == [("protection_on", UNREACHABLE), ("protection_off", UNREACHABLE)]


def test_one_that_is_gone_alone_goes_at_once(world: World, shell: Shell):
    """Others are asked early, and answer; that changes nothing for the one."""
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    shell.handle(ConnectionClosed(world.now, "agent:a3", "S", 1, "Read Error"))
    shell.answer(Outcome.NO_RESPONDERS, "a3")
    assert len(shell.probes) > 10, "scouts, and the one again"
    assert sum(probe.purpose is Purpose.HINT for probe in shell.probes) == 1
    for probe in list(shell.probes):
        if probe.agent_id != "a3":
            shell.answer(Outcome.ANSWERED, probe.agent_id)
    shell.answer(Outcome.NO_RESPONDERS, "a3")
    assert shell.state.get("a3").status is Status.OFFLINE
    assert shell.announced == []


def test_many_that_are_gone_of_few_that_were_told_of_are_no_sample(world: World, shell: Shell):
    """A machine with twelve of forty agents dies: they are asked because of a hint, which says nothing of the rest."""
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead = set(FLEET[:12])
    for agent_id in FLEET[:12]:
        shell.handle(ConnectionClosed(world.now, f"agent:{agent_id}", "S", 1, "Read Error"))
    life.go_on(1.0)
    assert statuses(shell)["offline"] == 0, "several at once may have been closed on the way, and come back"
    life.go_on(GRACE + 2.0)
    assert statuses(shell)["offline"] == 12
    assert shell.announced == []


@pytest.mark.parametrize("count", [1, 2, BURST])
def test_a_burst_of_closed_connections_is_given_time(world: World, shell: Shell, count: int):
    """One or two at a time have crashed, as far as anybody can tell; three that come back have not."""
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead = set(FLEET[:count])
    for agent_id in FLEET[:count]:
        shell.handle(ConnectionClosed(world.now, f"agent:{agent_id}", "S", 1, "Read Error"))
    life.go_on(GRACE - 1.0)
    life.dead = set()
    life.go_on(5.0)
    assert statuses(shell)["offline"] == (0 if count == BURST else count)


def test_where_ends_are_told_one_of_whom_nothing_is_told_is_given_the_grace(world: World, shell: Shell):
    """A server of the cluster is lost with few of the agents: it tells nothing of them, and they find another one."""
    fleet(shell, probed=True)
    shell.handle(ConnectionsWatched(world.now, watched=True))
    life = Life(shell, set())
    life.go_on(40.0)
    life.dead = set(FLEET[:5])
    life.go_on(GRACE - 1.0)
    life.dead = set()
    life.go_on(40.0)
    assert statuses(shell)["offline"] == 0
    life.dead = {"a7"}
    life.go_on(28.0 + GRACE + 2.0)
    assert shell.state.get("a7").status is Status.OFFLINE


def test_closings_that_are_forged_protect_nobody(world: World, shell: Shell):
    """A name is anybody's to choose: who answers was never cut."""
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    for _ in range(10):
        for agent_id in FLEET:
            shell.handle(ConnectionClosed(world.now, f"agent:{agent_id}", "S", 1, "Read Error"))
        life.go_on(1.0)
    assert shell.announced == []


def test_who_drains_is_in_no_sample(world: World, shell: Shell):
    fleet(shell, probed=True)
    life = Life(shell, set())
    life.go_on(40.0)
    for agent_id in FLEET[:30]:
        shell.command(Verb.DRAIN, agent_id)
    life.dead = set(FLEET[:30])
    life.go_on(40.0)
    assert shell.announced == []


def test_who_drains_is_held_like_others(world: World, shell: Shell):
    """It may be finishing its work behind the cut, until its deadline."""
    fleet(shell)
    world.advance(10.0, beating=FLEET)
    shell.command(Verb.DRAIN, "a0")
    world.advance(LEASE + 2.0)
    assert "a0" in shell.state.agents
    world.advance(10.0, beating=FLEET)
    assert shell.state.get("a0").status is Status.DEREGISTERING


def test_a_judge_that_stood_still_for_an_hour_waits_no_hour_for_an_answer(world: World, shell: Shell):
    shell.register("a", health_subject="agent.a.health_check", heartbeat_interval=INTERVAL)
    world.stall(3600.0)
    world.advance(5.0, beating=["a"])
    shell.handle(ConnectionClosed(world.now, "a", "S", 1, "Read Error"))
    assert max(probe.timeout for probe in shell.probes) <= 4.0 + MAX_ALLOWANCE


# The registry itself.


def test_own_lateness_is_told(world: World, shell: Shell):
    fleet(shell)
    world.advance(5.0, beating=FLEET)
    world.now += 3.0
    shell.handle(PulseHeard(world.now, world.now - 3.0))
    world.advance(2.0, beating=FLEET)
    assert shell.announced == [("protection_on", LATENESS), ("protection_off", LATENESS)]


def test_an_outage_is_told_but_not_the_start(world: World, shell: Shell):
    assert shell.announced == []
    shell.disconnect()
    world.advance(3.0)
    shell.connect()
    world.advance(GRACE + 1.0)
    assert shell.announced == [("protection_on", OUTAGE), ("protection_off", OUTAGE)]


def test_what_was_late_of_late_is_added_to_every_time_out(world: World, shell: Shell):
    """A judge that was slow gives more time, less and less of it as it goes well."""
    shell.register("a", health_subject="agent.a.health_check", heartbeat_interval=INTERVAL)
    agent, leases = shell.state.get("a"), shell.state.leases
    world.beat("a")
    lease = leases.end(agent) - agent.heard
    assert lease == LEASE
    world.now += 2.0
    shell.handle(PulseHeard(world.now, world.now - 2.0))
    shell.stall()
    allowance = shell.state.path.allowance
    assert allowance == pytest.approx(2.0, abs=0.5)
    world.beat("a")
    assert leases.end(agent) - agent.heard == pytest.approx(LEASE + allowance)
    world.advance(10.0, beating=["a"])
    assert leases.end(agent) - agent.heard == pytest.approx(LEASE + allowance / 2, abs=0.1)
    shell.handle(ConnectionClosed(world.now, "a", "S", 1, "Read Error"))
    assert shell.probes[0].timeout == pytest.approx(4.0 + allowance / 2, abs=0.1)
    assert shell.state.path.late_pulses == 1


def test_a_leader_that_begins_remembers_no_protection(world: World, shell: Shell):
    fleet(shell)
    world.advance(10.0, beating=FLEET)
    world.advance(LEASE + 2.0)
    shell.follow()
    shell.lead()
    assert shell.state.protection.causes == {}


# By itself.


def review(
    protection: Protection, at: float, late: int = 0, unreachable: int = 0, live: int = 100
) -> list[tuple[str, bool]]:
    return list(protection.review(at, late, unreachable, live, None))


def test_half_of_what_began_it_ends_it():
    protection = Protection(0.3, GRACE)
    assert review(protection, 1.0, late=30) == []
    assert review(protection, 2.0, late=31) == [(SILENCE, True)]
    assert review(protection, 3.0, late=16) == []
    assert review(protection, 4.0, late=15) == [(SILENCE, False)]


def test_a_sample_is_of_the_last_seconds():
    protection = Protection(0.3, GRACE)
    for _ in range(20):
        protection.sample(1.0, reached=True)
    for _ in range(8):
        protection.sample(1.0 + SAMPLE_WINDOW, reached=False)
    assert review(protection, 1.0 + SAMPLE_WINDOW) == [], "eight of twenty-eight"
    assert review(protection, 1.1 + SAMPLE_WINDOW) == [], "of eight there are too few to tell"
    for _ in range(2):
        protection.sample(2.0 + SAMPLE_WINDOW, reached=False)
    assert review(protection, 2.0 + SAMPLE_WINDOW) == [(UNREACHABLE, True)]
    assert review(protection, 2.0 + 2 * SAMPLE_WINDOW + GRACE) == [(UNREACHABLE, False)]


def test_a_share_of_one_protects_nobody():
    protection = Protection(1.0, GRACE)
    for _ in range(20):
        protection.sample(1.0, reached=False)
    assert review(protection, 1.0, late=100) == []


def test_connections_of_many_that_are_closed_are_a_sign_by_themselves():
    protection = Protection(0.3, GRACE)
    assert review(protection, 1.0, unreachable=30) == []
    assert review(protection, 1.1, unreachable=31) == [(UNREACHABLE, True)]
    assert review(protection, 1.1 + GRACE, unreachable=0) == [(UNREACHABLE, False)]


def test_a_new_sample_forgets_what_was_before():
    protection = Protection(0.3, GRACE)
    for _ in range(100):
        protection.sample(1.0, reached=True)
    protection.begin_sample()
    for _ in range(10):
        protection.sample(1.1, reached=False)
    assert review(protection, 1.1) == [(UNREACHABLE, True)]
