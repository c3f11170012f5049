"""The log of assignments: what is done before it counts as known."""

from __future__ import annotations

from typing import Any

import pytest

from registry.core.assignment import RELEASED, Assignment
from registry.core.assignment_events import AssignmentsLearnt, AssignmentsListed
from registry.core.effects import LearnAssignments
from registry.core.events import Event
from registry.shell.assignment_log import AssignmentLog, write_of
from registry.shell.store import Store


class NoLosses:
    """Nobody leads."""

    def take(self, *_: Any) -> None: ...

    def begin_anew(self) -> None: ...


@pytest.mark.parametrize("away", [0.0, 60.0])
async def test_who_was_away_goes_through_the_bucket_before_it_counts_as_known(
    store: Store, monkeypatch: pytest.MonkeyPatch, away: float
) -> None:
    """Of what was released meanwhile nothing may be left in the log."""
    told: list[Event] = []

    async def dispatch(event: Event) -> None:
        told.append(event)

    log = AssignmentLog(store, dispatch, NoLosses())  # type: ignore[arg-type]
    monkeypatch.setattr(log._tail, "_away", away or 1e-9)
    await log.start()
    await log.learn(LearnAssignments(1))
    kinds = [type(event) for event in told]
    assert kinds == ([AssignmentsLearnt] if away else [AssignmentsListed, AssignmentsLearnt])
    await log.stop()


def test_what_is_written_of_one_that_ended_is_kept_for_long_enough() -> None:
    one = Assignment("i", "t", "a", 1, 1, 5.0, 10.0, token=3)
    assert write_of(one).kept is None
    assert write_of(one.end(RELEASED, 6.0, "e")).kept == 60
    assert write_of(one.end("expired", 11.0, "e")).kept == 3600
