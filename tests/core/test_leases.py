"""Leases: when they lapse, what renews them, and when nobody's runs."""

from __future__ import annotations

import pytest

from registry.core.effects import PutRecord
from registry.core.events import PulseHeard, Verb
from registry.core.limits import MAX_BUSY, MAX_EXPIRIES, Limits
from registry.core.status import Status
from tests.core.shell import WALL, Shell, World

LONG = 200.0
"""Enough for every amnesty of these tests to be over."""


@pytest.fixture
def quiet(world: World, shell: Shell) -> Shell:
    """A leader that has led for long."""
    world.advance(LONG)
    return shell


def is_offline(shell: Shell, agent_id: str = "a") -> bool:
    return shell.state.get(agent_id).status is Status.OFFLINE


def test_silence(world: World, quiet: Shell):
    """An agent that is silent for its whole lease is offline, at the first tick from then on."""
    quiet.register("a", heartbeat_interval=2.0)
    world.advance(5.5)
    assert not is_offline(quiet)
    world.advance(0.5)
    assert is_offline(quiet)
    event = world.bucket.events()[-1]
    assert (event["from"], event["to"], event["reason"]) == ("active", "offline", "heartbeat_timeout")
    assert event["at"] == WALL + world.now


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.DEGRADED, Status.SUSPENDED, "held"])
def test_whoever_is_in_service_lapses(world: World, quiet: Shell, status: str):
    """Every status in service has a lease, a held agent's too."""
    quiet.register("a", heartbeat_interval=2.0)
    if status == "held":
        quiet.command(Verb.SUSPEND)
    world.beat("a", health_score={Status.DEGRADED: 0.6, Status.SUSPENDED: 0.1}.get(status, 1.0))
    world.advance(6.0)
    assert is_offline(quiet)


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"health_score": 0.9},
        {"load_factor": 0.1},
        {"metrics": {"uptime": 1.0}},
        {"seq": 5},
        {"incarnation": 1},
        {"is_health_check": True, "health_score": 0.1},
    ],
    ids=str,
)
def test_any_accepted_telemetry_renews(world: World, quiet: Shell, report: dict[str, object]):
    """Any report that is accepted renews the lease for its full time."""
    quiet.register("a", heartbeat_interval=2.0)
    world.advance(5.5)
    world.beat("a", **report)
    world.advance(5.5)
    assert not is_offline(quiet)
    assert quiet.state.get("a").last_heartbeat == WALL + world.now - 5.5
    world.advance(0.5)
    assert is_offline(quiet)


@pytest.mark.parametrize(
    ("first", "report"),
    [({}, {"incarnation": 2}), ({}, {"identity": "mallory"}), ({"seq": 5}, {"seq": 5}), ({"seq": 5}, {"seq": 4})],
    ids=str,
)
def test_what_is_not_accepted_does_not_renew(
    world: World, quiet: Shell, first: dict[str, object], report: dict[str, object]
):
    """Reports of another incarnation, of somebody else, or older than the last one renew nothing and set nothing."""
    quiet.register("a", identity="alice", heartbeat_interval=2.0)
    quiet.beat("a", **{"identity": "alice", **first})
    world.advance(5.5)
    quiet.beat("a", **{"identity": "alice", "load_factor": 0.9, **report})
    assert quiet.state.get("a").load == 0.0
    world.advance(0.5)
    assert is_offline(quiet)


def beats(world: World, numbers: range, **fields: object) -> None:
    """A beat a second, counted."""
    for number in numbers:
        world.advance(1.0)
        world.beat("a", seq=number, load_factor=number / 1000, **fields)


@pytest.mark.parametrize("changed", [{}, {"version": "2.0.0"}], ids=["the same", "changed"])
def test_who_registers_again_counts_anew(world: World, quiet: Shell, changed: dict[str, object]):
    """An agent that was started anew under the same instance_id counts its beats from the start, and is heard."""
    quiet.register("a", instance_id="pod-7", heartbeat_interval=1.0)
    beats(world, range(1, 101))
    quiet.register("a", instance_id="pod-7", heartbeat_interval=1.0, **changed)
    beats(world, range(1, 11))
    assert not is_offline(quiet)
    assert quiet.state.get("a").load == 0.01
    assert quiet.state.statistics.heartbeats_dropped == 0


def test_who_registers_again_elsewhere_counts_anew(world: World, quiet: Shell):
    """A registration that changes nothing is known to one replica; the leader, another one, takes the beats as well."""
    follower = world.replica("two")
    quiet.register("a", instance_id="pod-7", heartbeat_interval=1.0)
    beats(world, range(1, 101))
    assert follower.register("a", instance_id="pod-7", heartbeat_interval=1.0).code is None
    beats(world, range(1, 11))
    for replica in (quiet, follower):
        assert not is_offline(replica)
        assert replica.state.get("a").load == 0.01


def test_a_checkpoint_is_no_registration(world: World, shell: Shell):
    """Saved vitals are the registry's own doing: old beats stay old."""
    shell.register("a")
    shell.beat("a", seq=5, load_factor=0.9)
    world.advance(shell.state.limits.checkpoint_interval + 1.0)
    assert len(world.bucket.log) == 2
    shell.beat("a", seq=5, load_factor=0.1)
    assert shell.state.get("a").load == 0.9


def test_beating_agents_stay(world: World, quiet: Shell):
    """Who beats within its lease is never offline, however long."""
    quiet.register("a", heartbeat_interval=1.0)
    quiet.register("b", heartbeat_interval=1.0, heartbeat_timeout=1.0)
    for _ in range(100):
        world.advance(1.0, beating=["b"], step=0.5)
        world.beat("a")
    assert len(world.bucket.log) == 2


def test_an_update_may_shorten_the_lease(world: World, quiet: Shell):
    """A lease that an update made shorter lapses by its new time."""
    quiet.register("a", instance_id="i1")
    quiet.register("a", instance_id="i1", heartbeat_interval=1.0)
    world.advance(3.0)
    assert is_offline(quiet)


def test_an_offline_agent_does_not_beat(world: World, quiet: Shell):
    """A beat of an offline agent is answered `not_found`, so that it registers again, and changes nothing."""
    quiet.register("a", heartbeat_interval=1.0)
    world.advance(3.0)
    assert quiet.beat("a", health_score=1.0).code == "not_found"
    assert is_offline(quiet)


def test_busy(world: World, quiet: Shell):
    """An agent that said until when it is busy may be silent until then."""
    quiet.register("a", heartbeat_interval=2.0)
    world.beat("a", busy_until=WALL + world.now + 60.0)
    world.advance(62.5)
    assert not is_offline(quiet), "a beat has an interval and a half to come after that"
    world.advance(0.5)
    assert is_offline(quiet)


def test_busy_is_believed_for_so_long(world: World, quiet: Shell):
    """However long an agent says it will be busy, it is believed for a bounded time after its last sign of life."""
    quiet.register("a", heartbeat_interval=2.0)
    world.beat("a", busy_until=WALL + world.now + 10 * MAX_BUSY)
    world.advance(MAX_BUSY + 2.0)
    assert not is_offline(quiet)
    world.advance(1.0)
    assert is_offline(quiet)


def test_busy_no_more(world: World, quiet: Shell):
    """An agent that says it is done sooner is expected to beat again at once."""
    quiet.register("a", heartbeat_interval=2.0)
    world.beat("a", busy_until=WALL + world.now + 300.0)
    world.advance(10.0)
    world.beat("a", busy_until=WALL + world.now)
    world.advance(6.0)
    assert is_offline(quiet)


def test_retention(world: World, quiet: Shell):
    """The record of an offline agent is kept for its time, then removed with reason `retention`."""
    quiet.register("a", heartbeat_interval=1.0)
    world.advance(3.0)
    world.advance(3599.0)
    assert is_offline(quiet)
    world.advance(1.0)
    assert "a" not in quiet.state.agents
    event = world.bucket.events()[-1]
    assert (event["reason"], event["from"], event["to"], event["removed"]) == ("retention", "offline", "offline", True)


def test_retention_goes_on_after_a_restart(world: World, quiet: Shell):
    """A new leader counts the retention from when the agent became offline."""
    quiet.register("a", heartbeat_interval=1.0)
    world.advance(3.0)
    quiet.follow()
    world.advance(2000.0)
    late = world.replica("two", leading=True)
    world.advance(1599.0)
    assert is_offline(late)
    world.advance(2.0)
    assert "a" not in late.state.agents


def test_back_before_the_retention_ends(world: World, quiet: Shell):
    """Who comes back has a lease, and its retention is forgotten."""
    quiet.register("a", heartbeat_interval=1.0)
    world.advance(3.0)
    world.advance(3000.0)
    quiet.register("a", heartbeat_interval=1.0)
    world.advance(700.0, beating=["a"])
    assert quiet.state.get("a").status is Status.ACTIVE
    world.advance(3.0)
    assert is_offline(quiet)


def test_so_many_at_once():
    """Many leases that lapse at once are taken in portions, so that no tick takes long; none is forgotten."""
    world = World(limits=Limits(reconnect_grace=0.0, protection_share=1.0))
    quiet = world.replica("one", leading=True)
    world.advance(LONG)
    for number in range(MAX_EXPIRIES + 20):
        quiet.register(f"a{number}", heartbeat_interval=1.0)
    world.advance(1.5)
    assert len(quiet.state.leases.late) == MAX_EXPIRIES
    world.advance(1.5)
    gone = [is_offline(quiet, agent_id) for agent_id in quiet.state.agents]
    assert sum(gone) == MAX_EXPIRIES
    world.advance(0.5)
    assert all(is_offline(quiet, agent_id) for agent_id in quiet.state.agents)


def test_a_lapse_waits_for_a_write(world: World, quiet: Shell):
    """An agent whose write is on its way is not judged; once that has ended it is."""
    quiet.register("a", heartbeat_interval=1.0)
    quiet.manual = True
    quiet.command(Verb.SUSPEND)
    world.advance(5.0)
    assert len(quiet.todo) == 1
    quiet.release()
    assert [event["to"] for event in world.bucket.events()[-2:]] == ["suspended", "offline"]


def test_a_beat_during_the_write_of_a_lapse(world: World, quiet: Shell):
    """A beat that comes too late by a moment cannot stop the lapse, but the agent may register at once."""
    quiet.register("a", instance_id="i1", heartbeat_interval=1.0)
    quiet.manual = True
    world.advance(3.0)
    world.beat("a")
    quiet.release()
    assert is_offline(quiet)
    assert quiet.register("a", instance_id="i1")["status"] == "active"


# Judge yourself first.


def test_amnesty_after_a_start(world: World):
    """After a start every lease gets its full time again plus grace: one interval."""
    world.replica("one", leading=True).register("a", heartbeat_interval=2.0)
    world.shells.clear()
    world.now += 1000.0
    late = world.replica("two", leading=True)
    world.advance(7.5)
    assert not is_offline(late)
    world.advance(0.5)
    assert is_offline(late)


def test_grace_is_bounded(world: World, quiet: Shell):
    """Grace is one interval, 10 s at most."""
    quiet.register("a", heartbeat_interval=40.0, heartbeat_timeout=50.0)
    quiet.lead()
    world.advance(59.5)
    assert not is_offline(quiet)
    world.advance(0.5)
    assert is_offline(quiet)


def test_amnesty_after_a_change_of_leader(world: World, quiet: Shell):
    """A new leader gives every lease its full time again plus grace, also those that lapsed under none."""
    late = world.replica("two")
    quiet.register("a", heartbeat_interval=2.0)
    quiet.follow()
    world.advance(100.0)
    late.lead()
    world.advance(7.5)
    assert not is_offline(late)
    world.advance(0.5)
    assert is_offline(late)


def test_nobody_s_lease_runs_while_nats_is_away(world: World, quiet: Shell):
    """Cut off from NATS, the registry judges nobody, and after it is back everybody has the full time plus grace."""
    quiet.register("a", heartbeat_interval=2.0)
    quiet.disconnect()
    world.advance(100.0)
    assert not is_offline(quiet)
    quiet.connect()
    world.advance(8.0)
    assert not is_offline(quiet)
    world.advance(1.0)
    assert is_offline(quiet), "an outage is allowed for with a second at most"


def test_a_lease_shorter_than_the_way_back_waits_for_it():
    """An agent that beats often is back no sooner than others once NATS is: its client tries when it tries."""
    world = World(limits=Limits(reconnect_grace=5.0))
    quick = world.replica("one", leading=True)
    quick.register("a", heartbeat_interval=0.2, heartbeat_timeout=0.4)
    quick.disconnect()
    world.advance(10.0)
    quick.connect()
    world.advance(5.3, step=0.1)
    assert not is_offline(quick)
    world.advance(1.0, step=0.1)
    assert is_offline(quick)


def test_nobody_s_lease_runs_while_this_process_does_not(world: World, quiet: Shell):
    """Beats may wait unread: silence counts only once a pulse has come that was sent after them."""
    quiet.register("a", heartbeat_interval=2.0)
    quiet.register("b", heartbeat_interval=2.0)
    world.advance(5.5)
    world.stall(30.0)
    assert not is_offline(quiet)
    quiet.beat("a")
    world.advance(0.5)
    assert not is_offline(quiet)
    assert quiet.state.get("b").status is Status.OFFLINE, "who was silent all the time is not spared"


@pytest.mark.parametrize("seconds", [0.5, 0.95])
def test_a_short_stall_buries_nobody_with_a_short_lease(world: World, quiet: Shell, seconds: float):
    quiet.register("a", heartbeat_interval=0.1)
    world.stall(seconds)
    assert not is_offline(quiet)
    quiet.beat("a")
    world.advance(0.2, step=0.1)
    assert not is_offline(quiet)


def test_stalls_again_and_again_spare_nobody_for_ever(world: World, quiet: Shell):
    quiet.register("a", heartbeat_interval=2.0)
    for _ in range(5):
        world.stall(1.1)
        world.advance(0.5)
    assert is_offline(quiet)


def test_after_a_blocked_way_what_was_held_up_is_waited_for(world: World, quiet: Shell):
    """NATS stood still: when it goes on, the pulses of that time come at once, and beats on other ways later."""
    quiet.register("a", heartbeat_interval=1.0)
    world.now += 6.0
    sent = world.now - 0.2
    for pulse in (sent - 5.5, sent):
        quiet.handle(PulseHeard(world.now, pulse))
    quiet.stall()
    assert not is_offline(quiet)
    quiet.beat("a")
    world.advance(2.0, beating=["a"])
    assert not is_offline(quiet)
    world.advance(8.0)
    assert is_offline(quiet), "with what is allowed for the six seconds, which is less by then"


def test_amnesty_is_not_for_newcomers_alone(world: World, quiet: Shell):
    """An amnesty never shortens a lease: who beat after it has its own full time."""
    quiet.register("a", heartbeat_interval=2.0)
    quiet.lead()
    world.advance(6.0)
    world.beat("a")
    world.advance(5.5)
    assert not is_offline(quiet)


def test_a_lapse_is_written_with_what_was_known(world: World, quiet: Shell):
    """The record of a lost agent keeps its last vitals."""
    quiet.register("a", heartbeat_interval=2.0)
    world.beat("a", health_score=0.9, load_factor=0.7, metrics={"success_rate": 0.5})
    heard = WALL + world.now
    world.advance(6.0)
    record = world.bucket.last["a"].record
    assert (record.health_score, record.load_factor, record.last_heartbeat) == (0.9, 0.7, heard)
    assert record.performance_metrics == {"success_rate": 0.5}


def test_the_order_guards_the_revision(world: World, quiet: Shell):
    """A lapse is a compare-and-set on the record that it was decided on."""
    quiet.register("a", heartbeat_interval=1.0)
    quiet.manual = True
    world.advance(3.0)
    [order] = quiet.todo
    assert isinstance(order, PutRecord)
    assert order.expected == 1


def test_what_the_registry_decides_names_the_leader_s_epoch(world: World, shell: Shell):
    """A change that was asked for has none."""
    shell.register("a")
    world.advance(120.0)
    asked_for, decided = world.bucket.events("a")
    assert (asked_for["epoch"], decided["reason"], decided["epoch"]) == (None, "heartbeat_timeout", shell.state.epoch)
    assert shell.state.epoch > 0


def test_a_registration_that_changes_nothing_renews_the_lease_whoever_is_asked(world: World, shell: Shell):
    other = world.replica("two")
    fields = {"instance_id": "i1", "heartbeat_interval": 30.0, "heartbeat_timeout": 30.0}
    shell.register("a", **fields)
    world.advance(45.0, beating=["a"])
    world.advance(29.0)
    other.register("a", **fields)
    world.advance(29.0)
    assert other.state.get("a").status is Status.ACTIVE
    assert len(world.bucket.events("a")) == 1
    world.advance(2.0)
    assert other.state.get("a").status is Status.OFFLINE


def test_who_said_that_he_is_busy_is_believed_after_a_restart(world: World, shell: Shell):
    shell.register("a")
    world.beat("a", busy_until=WALL + world.now + 590.0)
    world.advance(45.0)
    world.shells.remove(shell)
    other = world.replica("two", leading=True)
    world.advance(150.0)
    assert other.state.get("a").status is Status.ACTIVE


def test_a_follower_watches_nobody(world: World, shell: Shell):
    """Only the leader empties these, so only the leader fills them."""
    other = world.replica("two")
    for number in range(50):
        shell.register(f"x{number}", health_subject=f"agent.x{number}.health_check")
        shell.command(Verb.DEREGISTER, f"x{number}")
    shell.register("a", health_subject="agent.a.health_check")
    assert [len(one.state.deadlines) for one in (shell, other)] == [1, 0]
    assert [len(one.state.probes) for one in (shell, other)] == [1, 0]
    other.lead()
    shell.follow()
    assert [len(one.state.deadlines) for one in (shell, other)] == [0, 1]
