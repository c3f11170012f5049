"""When requests count as lost: one connection is away for long, although the other one is there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents_sdk import reach
from agents_sdk.reach import MISSED, Reach


class Case:
    """An agent's two connections, and a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.away_since: float | None = None
        self.reach = Reach(lambda: self.away_since)
        monkeypatch.setattr(reach, "time", SimpleNamespace(monotonic=lambda: self.now))

    def holds_after(self, seconds: float) -> bool:
        self.now += seconds
        return self.reach.holds()


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    case = Case(monkeypatch)
    case.reach.note(True)
    return case


def test_a_work_connection_that_stays_away_by_itself_counts_after_a_while(case: Case) -> None:
    assert case.holds_after(1000.0)
    case.away_since = case.now
    assert case.holds_after(MISSED / 2)
    assert not case.holds_after(MISSED / 2)
    case.away_since = None
    assert case.reach.holds()


def test_an_outage_does_not_count_and_the_time_begins_when_nats_is_back(case: Case) -> None:
    case.reach.note(False)
    case.away_since = case.now
    assert case.holds_after(1000.0)
    case.reach.note(True)
    assert case.reach.holds()
    assert case.holds_after(MISSED / 2)
    assert not case.holds_after(MISSED / 2)


def test_a_heart_that_was_away_itself_counts_anew(case: Case) -> None:
    case.away_since = case.now
    assert not case.holds_after(MISSED)
    case.reach.note(False)
    assert case.holds_after(1.0)
    case.reach.note(True)
    assert case.holds_after(MISSED / 2)
