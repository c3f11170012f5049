"""Scores, and the same seed gives the same ones."""

from __future__ import annotations

import pytest

from tests.simulation import plot
from tests.simulation.__main__ import text
from tests.simulation.life import Cut, End, Life
from tests.simulation.rule import Judgement, Verdict
from tests.simulation.run import OURS, PEERS, SWEEPS, judge
from tests.simulation.scenarios import SCENARIOS, bad_day
from tests.simulation.score import percentile, score
from tests.simulation.trace import Trace

FIXED = [rule for rules in SWEEPS for rule in rules]


def test_who_was_alive_was_taken_for_dead_wrongly_and_who_was_dead_is_timed_to_the_verdict_that_stood():
    lives = [Life(), Life(end=End.CRASHED, ends=50.0), Life(end=End.HUNG, ends=60.0), Life(cuts=(Cut(1.0, 9.0),))]
    dead = [
        Verdict(0, 10.0, 11.0),  # alive
        Verdict(1, 20.0, 30.0),  # alive then
        Verdict(1, 55.0),
        Verdict(3, 5.0, 9.0),  # alive, if cut off
    ]
    busy = [(Verdict(2, 63.0), "probe_timeout"), (Verdict(0, 3.0, 4.0), "slow")]
    result = score(Trace("by hand", 1, 100.0, lives), "rule", Judgement(dead, busy))
    assert (result.false, result.found, result.missed) == (3, [5.0], 1)
    assert (result.noticed, result.hung, result.slow) == ([3.0, 5.0], 0, 1)
    assert result.agent_hours == pytest.approx((100.0 + 50.0 + 60.0 + 100.0) / 3600.0)


def test_who_was_believed_dead_already_took_no_time():
    lives = [Life(end=End.CRASHED, ends=50.0)]
    assert score(Trace("by hand", 1, 100.0, lives), "rule", Judgement([Verdict(0, 40.0)])).found == [0.0]


def test_percentiles_are_of_the_nearest_rank():
    assert [percentile(range(1, 101), share) for share in (0.01, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


def test_the_same_seed_gives_the_same_and_another_one_does_not():
    first, again, other = (judge(bad_day(100, seed), (*PEERS, *OURS, *FIXED)) for seed in (1, 1, 2))
    assert first == again
    assert [one.found for one in first] != [one.found for one in other]


def test_tables_and_pictures_are_the_same_for_the_same_scores(tmp_path):
    peers, ours, *sweeps = ([rule.name for rule in rules] for rules in (PEERS, OURS, *SWEEPS))
    found = [one for make in SCENARIOS for one in judge(make(40, 1), (*PEERS, *OURS, *FIXED))]
    for folder in ("one", "two"):
        plot.save(plot.draw(found, peers, ours, sweeps), tmp_path / folder)
    for name in ("detection.png", "detection.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert text(found).count("\n| ours 5 s + connections") == 2
