"""How suspicious a silence is, by the rhythm of an agent."""

from __future__ import annotations

from math import erfc, log10, sqrt
from random import Random

import pytest

from registry.core.rhythm import MIN_DEVIATION, STEP, Rhythm


def beating(intervals: list[float], declared: float = 1.0) -> Rhythm:
    rhythm, at = Rhythm(declared), 0.0
    rhythm.beat(at)
    for interval in intervals:
        at += interval
        rhythm.beat(at)
    return rhythm


def test_phi_is_that_of_the_normal_distribution():
    """phi = -log10 of the probability that the next beat comes even later."""
    draws = Random(1)
    rhythm = beating([draws.gauss(1.0, 0.2) for _ in range(150)])
    mean, deviation = rhythm.quiet - 1.2816 * rhythm.deviation, rhythm.deviation
    assert mean == pytest.approx(1.0, abs=0.05)
    assert deviation == pytest.approx(0.2, rel=0.25)
    silence = mean + 3 * deviation
    assert rhythm.phi(silence) == pytest.approx(-log10(0.5 * erfc(3 / sqrt(2))))
    assert rhythm.phi(rhythm.quiet) == pytest.approx(1.0, abs=0.01), "one beat in ten is so late"


def test_suspicion_grows_with_silence():
    rhythm = beating([1.0] * 50)
    grown = [rhythm.suspicion(silence / 10) for silence in range(40)]
    assert grown == sorted(grown)
    assert grown[10] == 0.0, "a beat in time is no reason"
    assert grown[-1] == 1.0
    assert all(round(value / STEP) == pytest.approx(value / STEP) for value in grown)


def test_an_irregular_agent_is_given_more_time():
    draws = Random(2)
    steady, irregular = beating([1.0] * 100), beating([draws.uniform(0.2, 1.8) for _ in range(100)])
    assert steady.suspicion(1.7) > irregular.suspicion(1.7)


def test_perfect_beats_leave_room_for_a_hiccup():
    assert beating([10.0] * 300, declared=10.0).deviation == pytest.approx(10.0 * MIN_DEVIATION, rel=0.01)
    assert beating([0.1] * 300, declared=0.1).deviation == MIN_DEVIATION


def test_a_new_agent_is_judged_by_what_it_declared():
    rhythm = Rhythm(2.0)
    assert rhythm.suspicion(2.0) == 0.0
    assert rhythm.suspicion(6.0) == 1.0


def test_an_interval_in_which_nobody_could_be_heard_does_not_count():
    rhythm = beating([1.0] * 50)
    before = rhythm.deviation
    rhythm.pause()
    rhythm.beat(500.0)
    rhythm.beat(501.0)
    assert rhythm.deviation == pytest.approx(before, rel=0.05)


def test_an_endless_silence_has_a_finite_phi():
    assert beating([0.1] * 10).phi(1e9) == 300.0
