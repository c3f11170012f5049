"""Numbers and states in the words of people."""

from __future__ import annotations

import pytest

from agent_registry.wording import bar, because, count, duration, either, health_style, number, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3.0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.9, "9.9 s"),
        (10.0, "10 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (7199.0, "120 min"),
        (7200.0, "2 h"),
        (172_800.0, "2 d"),
    ],
)
def test_a_duration_is_said_in_the_largest_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2, "1 MiB"),
        (1024**3, "1 GiB"),
        (5 * 1024**4, "5120 GiB"),
    ],
)
def test_a_size_is_said_in_the_largest_unit_that_fits(amount: int, words: str) -> None:
    assert size(amount) == words


@pytest.mark.parametrize(
    ("share", "drawn"), [(0.0, "    "), (0.5, "██  "), (0.53, "██▏ "), (1.0, "████"), (1.7, "████"), (-1.0, "    ")]
)
def test_a_bar_is_as_long_as_its_share(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


def test_bounds_of_health_are_those_of_the_statuses() -> None:
    assert [health_style(health) for health in (0.8, 0.79, 0.5, 0.49)] == ["green", "yellow", "yellow", "red"]


def test_no_number_is_a_dash() -> None:
    assert [number(None), number(0.5)] == ["-", "0.50"]


def test_a_choice_is_said_as_one() -> None:
    assert [either(["a"]), either(["a", "b"]), either(["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


def test_a_reason_comes_with_what_was_said() -> None:
    assert [because("operator", "lunch"), because("health", None), because(None, None)] == [
        "operator: lunch",
        "health",
        "",
    ]


def test_one_is_not_many() -> None:
    assert [count(1, "agent"), count(0, "agent"), count(2, "agent")] == ["1 agent", "0 agents", "2 agents"]
