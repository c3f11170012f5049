"""Waits double up to the ceiling, stay between floor and bound, and begin anew after a reset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents_sdk.retry import Backoff


@pytest.mark.parametrize(
    ("chance", "waits"),
    [
        (0.0, [0.02, 0.02, 0.02, 0.02, 0.02, 0.02]),
        (0.5, [0.03, 0.05, 0.09, 0.17, 0.26, 0.26]),
        (1.0, [0.04, 0.08, 0.16, 0.32, 0.50, 0.50]),
    ],
)
def test_the_bound_doubles_and_chance_decides_below_it(chance: float, waits: list[float]) -> None:
    backoff = Backoff(0.02, 0.5, lambda: chance)
    assert [backoff.next() for _ in waits] == pytest.approx(waits)


def test_a_success_makes_waits_short_again() -> None:
    backoff = Backoff(0.1, 10.0, lambda: 1.0)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == pytest.approx(0.2)


@given(st.floats(0.001, 1.0), st.floats(1.0, 60.0), st.lists(st.floats(0.0, 0.999), max_size=40))
def test_no_wait_leaves_its_bounds(floor: float, ceiling: float, chances: list[float]) -> None:
    draws = iter(chances)
    backoff = Backoff(floor, ceiling, lambda: next(draws))
    assert all(floor <= backoff.next() <= ceiling for _ in chances)


@pytest.mark.parametrize(("floor", "ceiling"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_bounds_that_make_no_sense_are_refused(floor: float, ceiling: float) -> None:
    with pytest.raises(ValueError, match="floor"):
        Backoff(floor, ceiling)
