"""The verdict is a pure function of the evidence: every rule, and which of two is stronger."""

from __future__ import annotations

import pytest

from registry.core.evidence import NOTHING, STALE, Bounds, Evidence, Verdict, judge

NOW = 100.0
LATER = 200.0
EARLIER = 50.0
FREE = Bounds(lease=LATER, busy=0.0, silence_held=0.0, absence_held=0.0)
"""Nothing speaks for or against."""


def evidence(missed: int = 0, unanswered: bool = False, late: bool = False) -> Evidence:
    found = Evidence()
    if late:
        found.answered(EARLIER, is_late=True)
    if unanswered:
        found.unanswered(EARLIER)
    for _ in range(missed):
        found.missing(EARLIER)
    return found


def bounds(**changes: float) -> Bounds:
    return Bounds(**{**{name: getattr(FREE, name) for name in Bounds.__slots__}, **changes})


@pytest.mark.parametrize(
    ("found", "known", "verdict", "since"),
    [
        (NOTHING, FREE, Verdict.ALIVE, 90.0),
        (evidence(missed=1), FREE, Verdict.ALIVE, 90.0),
        (evidence(missed=2), FREE, Verdict.GONE, EARLIER),
        (evidence(missed=2), bounds(busy=LATER), Verdict.GONE, EARLIER),
        (evidence(missed=2), bounds(absence_held=LATER), Verdict.PARTITIONED, EARLIER),
        (evidence(missed=2), bounds(absence_held=NOW), Verdict.GONE, EARLIER),
        (evidence(missed=2), bounds(silence_held=LATER), Verdict.GONE, EARLIER),
        (evidence(missed=2), bounds(lease=NOW), Verdict.GONE, EARLIER),
        (NOTHING, bounds(lease=NOW), Verdict.SILENT, NOW),
        (NOTHING, bounds(lease=NOW, silence_held=LATER), Verdict.PARTITIONED, NOW),
        (NOTHING, bounds(lease=NOW, silence_held=NOW), Verdict.SILENT, NOW),
        (NOTHING, bounds(lease=NOW, absence_held=LATER), Verdict.SILENT, NOW),
        (evidence(unanswered=True), bounds(lease=NOW), Verdict.SILENT, NOW),
        (evidence(unanswered=True), FREE, Verdict.HUNG, EARLIER),
        (evidence(unanswered=True), bounds(busy=LATER), Verdict.BUSY, EARLIER),
        (evidence(unanswered=True), bounds(busy=NOW), Verdict.HUNG, EARLIER),
        (evidence(late=True), FREE, Verdict.SLOW, EARLIER),
        (evidence(late=True), bounds(busy=LATER), Verdict.BUSY, EARLIER),
        (evidence(late=True, unanswered=True), FREE, Verdict.HUNG, EARLIER),
    ],
)
def test_verdict(found: Evidence, known: Bounds, verdict: Verdict, since: float):
    assert judge(found, 90.0, known, NOW) == (verdict, since)


def test_who_beats_and_does_not_answer_hangs_whatever_becomes_of_others():
    """It can be reached, for it is heard: protection is for those of whom nothing is."""
    held = bounds(absence_held=LATER)
    assert judge(evidence(unanswered=True), EARLIER - 1.0, held, NOW)[0] is Verdict.PARTITIONED
    assert judge(evidence(unanswered=True), EARLIER + 1.0, held, NOW)[0] is Verdict.HUNG


def test_a_slow_agent_has_to_be_in_time_twice_in_a_row():
    found = evidence(late=True)
    found.answered(60.0, is_late=False)
    assert found.late_since == EARLIER
    found.answered(61.0, is_late=True)
    found.answered(62.0, is_late=False)
    assert found.late_since == EARLIER, "since when it is slow stays"
    found.answered(63.0, is_late=False)
    assert found.is_harmless


def test_a_beat_is_no_answer():
    """It says that somebody is there, and nothing of whether he answers."""
    found = evidence(unanswered=True, missed=1)
    found.closed_at = EARLIER
    found.sign_of_life()
    assert (found.missed, found.missing_since, found.closed_at) == (0, None, None)
    assert found.unanswered_since == EARLIER


def test_an_answer_ends_what_was_unanswered():
    found = evidence(unanswered=True)
    found.answered(60.0, is_late=False)
    assert found.is_harmless


def test_since_the_first():
    """Evidence is as old as its beginning."""
    found = Evidence()
    found.unanswered(10.0)
    found.unanswered(40.0)
    assert found.unanswered_since == 10.0
    found.missing(50.0)
    found.missing(51.0)
    assert found.missing_since == 50.0


@pytest.mark.parametrize(("reason", "cut"), [("Client Closed", True), ("Read Error", True), (STALE, False)])
def test_a_stale_connection_is_the_way_s_fault(reason: str, cut: bool):
    found = Evidence()
    found.closed_at, found.closed_reason, found.is_own = EARLIER, reason, True
    assert found.was_cut is cut
    assert found.own_was_cut is cut
    found.is_own = False
    assert not found.own_was_cut
