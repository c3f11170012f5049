"""Our own rules: who lives is not taken for dead, and who is dead is found in time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation import scenarios
from tests.simulation.ours import Ours
from tests.simulation.run import judge
from tests.simulation.score import Score, percentile
from tests.simulation.trace import Trace

AGENTS = 200
DEFAULT = Ours()
SEEING = Ours(sees_connections=True)
QUICK = Ours(5.0, 5.0)
QUICK_SEEING = Ours(5.0, 5.0, sees_connections=True)
ALL = (DEFAULT, SEEING, QUICK, QUICK_SEEING)


def ask(rule: Ours, make: Callable[[int, int], Trace], seed: int = 1) -> Score:
    (score,) = judge(make(AGENTS, seed), [rule])
    return score


def losing(share: float) -> Callable[[int, int], Trace]:
    return lambda agents, seed: scenarios.loss(agents, seed, share)


def cut(share: float, length: float, is_closed: bool) -> Callable[[int, int], Trace]:
    return lambda agents, seed: scenarios.partition(agents, seed, share, length, is_closed)


@pytest.fixture(params=ALL, ids=lambda rule: rule.name)
def rule(request: pytest.FixtureRequest) -> Ours:
    return request.param


@pytest.mark.parametrize(
    "make",
    [
        scenarios.steady,
        scenarios.pauses,
        scenarios.starved,
        losing(0.01),
        scenarios.nats_restarts,
        scenarios.stalls,
        scenarios.restarts,
        scenarios.departures,
        cut(0.4, 8.0, False),
        cut(1.0, 8.0, False),
    ],
    ids=["steady", "pauses", "starved", "loss", "nats", "stalls", "restarts", "departures", "cut-some", "cut-all"],
)
def test_nobody_alive_is_taken_for_dead(rule, make):
    assert ask(rule, make).false == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_nobody_alive_is_taken_for_dead_on_a_bad_day(rule, seed):
    assert ask(rule, scenarios.bad_day, seed).false == 0


# To be held by protection against mass absence: many connections are closed at once, by whatever is on the way, and
# are made again within seconds. Without it, two probes that find no responders are enough.
@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("length", [0.0, 2.0])
def test_many_that_reconnect_within_seconds_are_not_taken_for_dead(rule, length, share):
    assert ask(rule, cut(share, length, True)).false == 0


# To be held by patience for slow answers: a pause of 2 s makes a probe late that has a time-out of 2 s.
@pytest.mark.parametrize("seed", [3, 4])
def test_who_pauses_for_two_seconds_is_not_taken_for_hung(rule, seed):
    assert ask(rule, scenarios.pauses, seed).hung == 0


@pytest.mark.parametrize("make", [scenarios.crashes, scenarios.departures])
@pytest.mark.parametrize("seeing", [SEEING, QUICK_SEEING])
def test_a_crash_is_found_in_a_quarter_of_a_second_where_connections_are_seen(seeing, make):
    # However often they are asked: one that was asked just before its crash counts as well.
    found = ask(seeing, make)
    assert found.missed == 0
    assert percentile(found.found, 0.99) <= 0.25


@pytest.mark.parametrize("make", [scenarios.crashes, scenarios.departures])
@pytest.mark.parametrize("blind", [DEFAULT, QUICK])
def test_a_crash_is_found_in_one_round_of_probes_elsewhere(blind, make):
    found = ask(blind, make)
    assert found.missed == 0
    assert found.found[-1] <= blind.checks + 0.25


def test_who_hangs_is_marked_after_one_round_of_probes_and_a_time_out(rule):
    hung = ask(rule, scenarios.hangs)
    assert hung.missed == 0
    assert len(hung.noticed) == AGENTS // 10
    assert hung.noticed[-1] <= rule.checks + 2.0 + 0.25


def test_a_host_that_goes_away_is_found_by_the_end_of_the_lease(rule):
    lost = ask(rule, scenarios.power_losses)
    assert lost.missed == 0
    assert lost.found[-1] <= 3 * rule.interval + 0.25


# A real mass death must be found all the same; under protection later than a single one, and before a lease has passed.
def test_half_a_fleet_that_crashes_at_once_is_found(rule):
    half = ask(rule, scenarios.half_crashes)
    assert (half.missed, half.false) == (0, 0)
    assert half.found[-1] <= max(3 * rule.interval, rule.checks + 6.0)
