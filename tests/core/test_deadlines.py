"""Deadlines: at most one a key, renewals that cost nothing."""

from __future__ import annotations

from random import Random

import pytest

from registry.core.deadlines import MIN_HEAP, Deadlines


class Times:
    """Deadlines of a dictionary."""

    def __init__(self, **due: float) -> None:
        self.due: dict[str, float] = due
        self.deadlines = Deadlines(self.due.get)
        for key in due:
            self.deadlines.watch(key)

    def passed(self, now: float, limit: int = 100) -> list[str]:
        keys = list(self.deadlines.due(now, limit))
        self.deadlines.validate()
        return keys


def test_earliest_first():
    """Keys whose deadline has passed come in the order of their deadlines, and once."""
    times = Times(c=3.0, a=1.0, b=2.0, d=9.0)
    assert times.passed(3.0) == ["a", "b", "c"]
    assert times.passed(3.0) == []
    assert "d" in times.deadlines
    assert "a" not in times.deadlines
    assert len(times.deadlines) == 1


def test_not_before():
    """A deadline has passed at its instant, not before."""
    times = Times(a=1.0)
    assert times.passed(0.999) == []
    assert times.passed(1.0) == ["a"]


def test_equal_deadlines_in_the_order_of_keys():
    """The same state gives the same order, whatever the order of arrival."""
    assert Times(b=1.0, a=1.0, c=1.0).passed(1.0) == ["a", "b", "c"]


def test_renewal_costs_nothing():
    """A deadline that moved later is looked at when it was due, and then waits for its new time."""
    times = Times(a=1.0)
    times.due["a"] = 5.0
    assert len(times.deadlines._heap) == 1
    assert times.passed(4.0) == []
    assert times.passed(5.0) == ["a"]


def test_earlier_deadline():
    """A deadline that moved earlier holds from `watch` on, and its older entry does no harm."""
    times = Times(a=9.0, b=5.0)
    times.due["a"] = 1.0
    times.deadlines.watch("a")
    assert times.passed(1.0) == ["a"]
    assert times.passed(9.0) == ["b"]
    assert times.deadlines._heap == []


def test_earlier_and_then_later():
    """Of several entries of a key only the earliest counts."""
    times = Times(a=9.0)
    times.due["a"] = 1.0
    times.deadlines.watch("a")
    times.due["a"] = 20.0
    assert times.passed(9.0) == []
    assert times.passed(19.0) == []
    assert times.passed(20.0) == ["a"]


def test_watching_again_changes_nothing():
    """A key that is watched for an earlier instant already is left alone."""
    times = Times(a=1.0)
    times.due["a"] = 3.0
    times.deadlines.watch("a")
    assert len(times.deadlines._heap) == 1
    assert times.passed(3.0) == ["a"]


def test_forgotten_key():
    """A key that has no deadline any more is passed over, now or when it comes up."""
    times = Times(a=1.0, b=2.0, c=3.0)
    del times.due["a"], times.due["b"]
    times.deadlines.watch("a")
    assert "a" not in times.deadlines
    assert times.passed(9.0) == ["c"]
    assert len(times.deadlines) == 0


def test_forgotten_and_back():
    """A key that was forgotten and comes back has its new deadline."""
    times = Times(a=1.0)
    del times.due["a"]
    times.deadlines.watch("a")
    times.due["a"] = 4.0
    times.deadlines.watch("a")
    assert times.passed(3.0) == []
    assert times.passed(4.0) == ["a"]


def test_limit():
    """At most so many keys at once; the rest comes with the next look, renewals do not count."""
    times = Times(a=1.0, b=2.0, c=3.0, d=4.0)
    times.due["a"] = 99.0
    assert times.passed(9.0, limit=2) == ["b", "c"]
    assert times.passed(9.0, limit=2) == ["d"]


@pytest.mark.parametrize("limit", [0, -3])
def test_no_room(limit: int):
    """Without room nothing is yielded, and nothing is lost."""
    times = Times(a=1.0)
    assert times.passed(1.0, limit=limit) == []
    assert times.passed(1.0) == ["a"]


def test_validate_sees_a_key_without_entry():
    """`validate` fails when a watched key has no entry in the heap."""
    times = Times(a=1.0)
    times.deadlines._heap.clear()
    with pytest.raises(AssertionError, match="a is watched"):
        times.deadlines.validate()


def test_against_a_dictionary():
    """Whatever is watched, moved and forgotten: what comes up is what a look at all deadlines would find."""
    random = Random(7)
    times, now = Times(), 0.0
    for _ in range(2000):
        key = random.choice("abcdefgh")
        action = random.random()
        if action < 0.5:
            times.due[key] = now + random.randint(1, 20)
            times.deadlines.watch(key)
        elif action < 0.6:
            times.due.pop(key, None)
        elif action < 0.8 and key in times.due:
            times.due[key] += 3.0
        else:
            now += random.randint(0, 5)
            passed = times.passed(now)
            assert sorted(passed) == sorted(key for key, due in times.due.items() if due <= now)
            for key in passed:
                del times.due[key]


def test_what_is_watched_no_more_takes_no_room():
    times = Times(kept=1.0)
    for key in map(str, range(10_000)):
        times.due[key] = 1000.0
        times.deadlines.watch(key)
        del times.due[key]
        times.deadlines.watch(key)
    assert len(times.deadlines) == 1
    assert len(times.deadlines._heap) <= MIN_HEAP + 1
    assert times.passed(2000.0) == ["kept"]
