"""Lives, beats and probes are what the trace says."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from random import Random

import pytest

from registry.core.events import Outcome
from tests.simulation.beats import hear
from tests.simulation.life import Cut, End, Life
from tests.simulation.network import probe
from tests.simulation.trace import BURST, Trace


def trace(life: Life, duration: float = 100.0, **fields: object) -> Trace:
    return Trace("by hand", 1, duration, [life], **fields)


def asked(life: Life, sent: float, timeout: float = 2.0, **fields: object) -> tuple[Outcome, float]:
    fate = probe(trace(life, **fields), 0, sent, timeout, Random(1))
    return fate.outcome, pytest.approx(fate.at, abs=0.03)


def test_an_agent_that_stands_still_answers_once_it_goes_on():
    life = Life(pauses=((10.0, 11.5), (20.0, 25.0)))
    assert asked(life, 9.0) == (Outcome.ANSWERED, 9.0)
    assert asked(life, 10.5) == (Outcome.ANSWERED, 11.5)
    assert asked(life, 21.0) == (Outcome.TIMEOUT, 23.0)
    assert asked(life, 21.0, timeout=5.0) == (Outcome.ANSWERED, 25.0)


def test_nobody_listens_where_a_connection_was_closed_and_who_hangs_does_not_answer():
    assert asked(Life(end=End.CRASHED, ends=10.0, closed=10.001), 11.0) == (Outcome.NO_RESPONDERS, 11.0)
    hung = Life(end=End.HUNG, ends=10.0, closed=22.0)
    assert asked(hung, 11.0) == (Outcome.TIMEOUT, 13.0)
    assert asked(hung, 23.0) == (Outcome.NO_RESPONDERS, 23.0)


def test_who_is_cut_off_is_silent_until_the_server_closes_the_connection():
    life = Life(cuts=(Cut(10.0, 40.0, 22.0),))
    assert asked(life, 11.0) == (Outcome.TIMEOUT, 13.0)
    assert asked(life, 30.0) == (Outcome.NO_RESPONDERS, 30.0)
    assert asked(life, 41.0) == (Outcome.ANSWERED, 41.0)


def test_a_time_out_that_is_due_comes_before_an_answer_that_could_not_be_read():
    assert asked(Life(), 19.9999, stalls=((20.0, 30.0),)) == (Outcome.TIMEOUT, 30.0)
    assert asked(Life(), 19.9999, timeout=20.0, stalls=((20.0, 30.0),)) == (Outcome.ANSWERED, 30.0 + BURST)


def test_beats_wait_for_the_end_of_a_pause_and_are_not_kept_while_cut_off():
    life = Life(pauses=((20.0, 29.0),), cuts=(Cut(50.0, 70.0, 50.0),), end=End.CRASHED, ends=90.0)
    eager, plain = (hear(trace(life), 5.0, is_eager).heard[0] for is_eager in (True, False))
    assert not [at for at in eager if 20.1 < at < 29.0 or 50.1 < at < 70.0 or at > 90.1]
    assert [at for at in eager if 29.0 <= at < 29.1]
    assert [at for at in eager if 70.0 <= at < 71.1]
    assert not [at for at in plain if 50.1 < at < 70.0]
    assert max(b - a for a, b in pairwise(eager[:4])) <= 5.1


def test_beats_are_late_by_a_stall_and_lost_to_a_watcher_that_is_not_there():
    late = hear(trace(Life(), stalls=((20.0, 40.0),)), 5.0, False).heard[0]
    lost = hear(trace(Life(), downs=((20.0, 40.0),)), 5.0, False).heard[0]
    assert late.count(40.0 + BURST) >= 4
    assert len(late) == len(lost) + late.count(40.0 + BURST)


def test_an_end_is_the_end():
    life = Life(pauses=((5.0, 8.0),), end=End.HUNG, ends=10.0)
    assert (life.runs_from(6.0), life.runs_from(8.0), life.runs_from(10.0)) == (8.0, 8.0, inf)
    assert life.is_alive(9.9)
    assert not life.is_alive(10.0)
