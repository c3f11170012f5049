"""Other systems' rules give on a hand-made trace what was computed by hand."""

from __future__ import annotations

from math import inf, log10

import pytest

from tests.simulation.eureka import Eureka
from tests.simulation.fixed import FixedTtl, consul, sweep, synadia
from tests.simulation.kubernetes import Kubernetes, zone_rate
from tests.simulation.life import End, Life
from tests.simulation.phi import DEVIATIONS, WINDOW, History, PhiAccrual, phi
from tests.simulation.rule import Hearing, Verdict
from tests.simulation.trace import BURST, Trace


def hearing(*heard: list[float], duration: float = 600.0, **fields: tuple) -> Hearing:
    lives = fields.pop("lives", [Life() for _ in heard])
    return Hearing(Trace("by hand", 1, duration, lives, **fields), list(heard))


def every(interval: float, until: float) -> list[float]:
    """Return beats from one interval on, the last one at `until`."""
    return [interval * n for n in range(1, round(until / interval) + 1)]


def test_consul_is_critical_once_its_ttl_has_passed_and_passing_with_the_next_beat():
    dead = consul().judge(hearing([20.0, 40.0, 75.0], duration=120.0)).dead
    assert dead == [Verdict(0, 70.0, 75.0), Verdict(0, 105.0, inf)]


def test_synadia_waits_three_beats():
    assert synadia().judge(hearing([30.0, 60.0])).dead == [Verdict(0, 150.0)]
    assert synadia().judge(hearing([30.0, 119.9], duration=150.0)).dead == []


def test_timers_that_are_due_come_before_what_was_sent_while_the_watcher_stood_still():
    stalled = hearing([20.0, 35.0, 70.0 + BURST], duration=90.0, stalls=((60.0, 70.0),))
    assert consul().judge(stalled).dead == [Verdict(0, 70.0, 70.0 + BURST)]


def test_a_watcher_that_is_started_anew_begins_every_lease_anew():
    assert consul().judge(hearing([20.0, 95.0], duration=100.0, downs=((45.0, 70.0),))).dead == []
    assert consul().judge(hearing([20.0, 101.0], duration=102.0, downs=((45.0, 70.0),))).dead == [
        Verdict(0, 100.0, 101.0)
    ]


def test_nobody_is_taken_for_dead_who_deregistered():
    for rule in (consul(), synadia(), Kubernetes(evicts=False), Kubernetes(evicts=True), PhiAccrual()):
        left = hearing(every(rule.interval, 60.0), lives=[Life(end=End.LEFT, ends=61.0)])
        assert rule.judge(left).dead == [], rule.name


def test_the_sweep_is_of_the_beats_of_ours():
    rules = sweep(5.0)
    assert [rule.ttl for rule in rules] == [7.5, 10.0, 15.0, 25.0, 50.0]
    assert {(rule.interval, rule.is_eager) for rule in rules} == {(5.0, True)}


@pytest.mark.parametrize("preserves_itself", [True, False])
def test_eureka_gives_who_has_renewed_twice_its_lease_and_looks_once_a_minute(preserves_itself):
    # Of 10 that renew twice a minute 9 are left: 18 renewals, more than 85 % of 20. Last renewal 60, 60 + 180 = 240.
    fleet = hearing(every(30.0, 60.0), *([every(30.0, 590.0)] * 9), duration=400.0)
    assert Eureka(preserves_itself).judge(fleet).dead == [Verdict(0, 300.0)]


def test_eureka_preserves_itself_when_fewer_than_85_percent_renew():
    # Of 10 two are silent: 16 renewals are no more than 85 % of 20, which is 17.
    fleet = hearing(every(30.0, 60.0), every(30.0, 60.0), *([every(30.0, 590.0)] * 8))
    assert Eureka(preserves_itself=True).judge(fleet).dead == []
    dead = Eureka(preserves_itself=False).judge(fleet).dead
    assert sorted((verdict.agent, verdict.at) for verdict in dead) == [(0, 300.0), (1, 300.0)]


def test_eureka_evicts_at_most_15_percent_of_its_registry_in_a_pass():
    # 20 - int(20 * 0.85) = 3 in the first pass, 17 - int(17 * 0.85) = 3 in the second, 14 - 11 = 3, 11 - 9 = 2.
    fleet = hearing(*([every(30.0, 60.0)] * 12), *([every(30.0, 590.0)] * 8), duration=490.0)
    dead = Eureka(preserves_itself=False).judge(fleet).dead
    assert sorted(verdict.at for verdict in dead) == [300.0] * 3 + [360.0] * 3 + [420.0] * 3 + [480.0] * 2


def test_eureka_adds_to_every_lease_by_how_much_its_pass_is_late():
    # Due at 300, done at 320: expired is whose lease ended before 300. Who renewed at 120 has until 300.
    fleet = hearing(every(30.0, 120.0), *([every(30.0, 590.0)] * 9), duration=350.0, stalls=((295.0, 320.0),))
    assert Eureka(preserves_itself=True).judge(fleet).dead == []


def test_kubernetes_counts_from_the_look_that_noticed_the_last_renewal():
    # Renewed at 60, noticed at 65; at 105 it is 40 s, at 110 more.
    dead = Kubernetes(evicts=False).judge(hearing(every(10.0, 60.0), every(10.0, 590.0))).dead
    assert dead == [Verdict(0, 110.0)]


@pytest.mark.parametrize(
    ("bad", "of", "rate"),
    [(1, 100, 0.1), (54, 100, 0.1), (55, 100, 0.01), (2, 3, 0.1), (30, 50, 0.0), (100, 100, 0.1)],
)
def test_kubernetes_slows_down_in_a_zone_in_trouble(bad, of, rate):
    assert zone_rate(bad, of) == rate


def test_kubernetes_evicts_ten_seconds_apart_in_a_zone():
    fleet = hearing(*([every(10.0, 60.0)] * 9), *([every(10.0, 590.0)] * 91), duration=300.0)
    dead = Kubernetes(evicts=True).judge(fleet).dead
    assert sorted(verdict.at for verdict in dead) == [110.0] * 3 + [120.0] * 3 + [130.0] * 3


def test_kubernetes_evicts_nobody_when_no_zone_has_a_node_that_is_ready():
    fleet = hearing(*([every(10.0, 60.0)] * 9))
    assert Kubernetes(evicts=True).judge(fleet).dead == []
    assert len(Kubernetes(evicts=False).judge(fleet).dead) == 9


def test_phi_is_a_logarithm_of_the_chance_of_a_later_beat():
    assert phi(4.0, 4.0, 0.1) == pytest.approx(log10(2.0))
    assert phi(DEVIATIONS, 0.0, 1.0) == pytest.approx(8.0)
    assert phi(5.0, 4.0, 0.1) > 8.0 > phi(4.5, 4.0, 0.1)


def test_phi_of_regular_beats_reaches_its_threshold_half_a_second_after_the_acceptable_pause():
    # Mean 1 s, pause 3 s, deviation at its least of 0.1 s: 4 + 0.1 * 5.22 = 4.52 s, seen at the next whole second.
    history = History(1.0)
    for _ in range(200):
        history.add(1.0)
    assert history.limit == pytest.approx(4.52, abs=0.01)
    assert PhiAccrual().judge(hearing(every(1.0, 60.0))).dead == [Verdict(0, 65.0)]
    assert PhiAccrual().judge(hearing([*every(1.0, 60.0), 64.4, 65.4], duration=66.0)).dead == []


def test_phi_forgets_what_is_older_than_its_window():
    history = History(1.0)
    for interval in (9.0, *([1.0] * WINDOW)):
        history.add(interval)
    assert history.limit == pytest.approx(1.0 + 3.0 + 0.1 * DEVIATIONS)


def test_a_gap_that_was_taken_for_a_failure_is_no_part_of_the_rhythm():
    beats = [*every(1.0, 60.0), *(90.0 + n for n in range(30))]
    assert PhiAccrual().judge(hearing(beats, duration=120.0)).dead == [Verdict(0, 65.0, 90.0)]
    assert PhiAccrual().judge(hearing(beats, duration=130.0)).dead[1:] == [Verdict(0, 124.0)]


def test_a_longer_ttl_is_never_sooner_nor_more_often_wrong():
    beats = [4.0, 9.0, 22.0, 26.0, 31.0, 70.0]
    verdicts = [FixedTtl("", 5.0, ttl).judge(hearing(beats, duration=100.0)).dead for ttl in (7.5, 15.0, 50.0)]
    assert [len(dead) for dead in verdicts] == [3, 2, 0]
