"""Scores, tables and pictures."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from tests.simulation.__main__ import scaling_text
from tests.simulation.scaling import plot, report
from tests.simulation.scaling.run import DRAWN, OURS, PLAIN, play_all
from tests.simulation.scaling.score import flips, mean, means, needed, score
from tests.simulation.scaling.setting import START
from tests.simulation.scaling.trace import Trace
from tests.simulation.scaling.world import History


def history(demand, serving, load=0.5, steps=(), **fields) -> History:
    count = len(demand)
    return History(
        "rule",
        Trace("by hand", 1, tuple(demand), (), steps),
        START,
        array("h", serving),
        array("h", [0] * count),
        array("f", [load] * count),
        array("l", [0] * count),
        waits=array("d", [0.0] * 98 + [4.0, 6.0]),
        **fields,
    )


def test_what_is_missing_and_what_is_too_much_is_set_against_what_is_needed():
    found = score(history([4.0] * 5 + [8.0] * 5, [6] * 10, paid=75.0))
    assert found.needed == 60
    assert (found.over, found.under, found.paid) == (10 / 60, 10 / 60, 75.0 / 60)
    assert (found.mean_wait, found.p95_wait, found.p99_wait) == (0.1, 0.0, 6.0)
    assert (found.high, found.violations) == (0.0, 0)


def test_load_above_the_bound_and_a_fleet_beyond_its_bounds_count_by_the_second():
    found = score(history([4.0] * 4, [1, 2, 50, 51], load=0.9))
    assert (found.high, found.violations) == (1.0, 2)


def test_what_is_needed_is_within_the_bounds():
    assert needed(Trace("by hand", 1, (0.1, 4.0, 4.1, 99.0), ()), 0.55) == [2, 4, 5, 50]


def test_a_flip_is_an_order_against_one_not_long_before():
    assert flips([(0.0, 3), (10.0, 1), (20.0, -1), (30.0, 2), (631.0, -1)]) == 2


def test_a_step_is_caught_up_with_when_the_load_can_be_below_the_bound_and_nothing_waits():
    # 8 agents at 0.55 are 5.5 at 0.8.
    made = history([4.0] * 5 + [8.0] * 15, [4] * 9 + [6] * 11, steps=(5.0,))
    assert score(made).recovery == 4.0
    made.queued[9:12] = array("l", [1, 1, 1])
    assert score(made).recovery == 7.0
    assert score(history([4.0] * 5 + [8.0] * 15, [4] * 20, steps=(5.0,))).recovery == 15.0


def test_means_are_taken_of_those_that_have_a_key_in_common():
    one = score(history([4.0] * 4, [4] * 4))
    two = replace(one, over=1.0)
    assert mean([one, two]).over == 0.5
    assert means([one, replace(one, rule="other"), two], lambda each: each.rule) == [
        replace(one, over=0.5),
        replace(one, rule="other"),
    ]


@pytest.fixture(scope="module")
def found():
    scores, courses = [], []
    for make in PLAIN[:2]:
        some, drawn = play_all(make, 1, (START, 60.0))
        scores += some
        courses += drawn
    return scores, courses


def test_tables_and_pictures_are_the_same_for_the_same_scores(tmp_path, found):
    scores, courses = found
    for folder in ("one", "two"):
        plot.save(plot.draw(courses, OURS[0].name, DRAWN), tmp_path / folder)
    for name in ("scaling.png", "scaling.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert scaling_text(scores).count("\n| step: ours ") == 1


def test_whoever_does_better_is_named_with_our_own_value():
    ours = score(history([4.0] * 4, [4] * 4))
    other = replace(ours, rule="other", p99_wait=1.0)
    line = report.better([ours, replace(other, over=0.5), replace(ours, rule="static")], "rule", ["static"])
    assert "other 1.0 (6.0)" in line
    assert "static" not in line
