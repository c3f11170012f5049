"""What is measured of an agent's work, and what a heartbeat says of it."""

from __future__ import annotations

import threading

import pytest

from agents_sdk.vitals import SMOOTHING, Vitals, window


def test_load_is_requests_in_flight_by_what_the_agent_does_at_once() -> None:
    vitals = Vitals(4)
    assert vitals.read().load_factor == 0.0
    assert vitals.begin()
    assert vitals.begin()
    assert vitals.begin()
    assert vitals.read().load_factor == 0.75
    vitals.end(0.1, failed=False)
    assert (vitals.read().load_factor, vitals.read().in_flight) == (0.5, 2)


def test_one_too_many_is_not_begun() -> None:
    vitals = Vitals(2)
    assert [vitals.begin() for _ in range(3)] == [True, True, False]
    assert vitals.read().in_flight == 2


def test_a_canary_is_done_like_work_and_is_none() -> None:
    """It takes the place of a request, and counts as nothing."""
    vitals = Vitals(2)
    assert [vitals.begin(canary=True), vitals.begin(), vitals.begin(), vitals.begin(True)] == [True, True, False, False]
    assert (vitals.read().load_factor, vitals.read().in_flight) == (0.5, 1)
    vitals.end_canary()
    assert vitals.begin()
    assert (vitals.read().served, vitals.read().response_time) == (0, None)


def test_what_the_application_reports_holds_until_it_reports_anew() -> None:
    vitals = Vitals(2)
    vitals.report(load_factor=0.9, metrics={"queue": 3.0})
    vitals.begin()
    vitals.report(health_score=0.7, metrics={"depth": 1.0})
    reading = vitals.read()
    assert (reading.load_factor, reading.health_score) == (0.9, 0.7)
    assert reading.metrics == {"queue": 3.0, "depth": 1.0}


def test_response_time_is_a_running_average() -> None:
    vitals = Vitals(2)
    assert vitals.read().response_time is None
    for seconds in (1.0, 2.0):
        vitals.begin()
        vitals.end(seconds, failed=False)
    assert vitals.read().response_time == pytest.approx(1.0 + SMOOTHING * 1.0)


def test_a_move_of_a_tenth_is_said_once() -> None:
    vitals = Vitals(10)
    assert not vitals.moved()
    vitals.begin()
    assert vitals.moved()
    assert not vitals.moved()
    vitals.end(0.1, failed=False)
    assert vitals.moved()


def test_a_tenth_is_a_tenth_at_every_height() -> None:
    vitals = Vitals(10)
    for height in range(10):
        vitals.begin()
        assert vitals.moved(), f"{height} to {height + 1} of 10"


def test_what_was_told_is_where_moves_are_measured_from() -> None:
    vitals = Vitals(100)
    for _ in range(9):
        vitals.begin()
    assert not vitals.moved()
    vitals.told(0.09)
    vitals.begin()
    assert not vitals.moved()


def test_a_window_counts_from_the_last_reading_that_was_taken() -> None:
    vitals = Vitals(2)
    vitals.begin()
    vitals.end(0.2, failed=False)
    first = vitals.read()
    assert window(first, None) == {
        "requests_served": 1.0,
        "avg_response_time": pytest.approx(0.2),
        "success_rate": 1.0,
    }
    for seconds, failed in ((0.4, True), (0.6, False)):
        vitals.begin()
        vitals.end(seconds, failed=failed)
    # `requests_served` is the total, as PerformanceReport wants it: averages are weighed by how much it grew.
    assert window(vitals.read(), first) == {
        "requests_served": 3.0,
        "avg_response_time": pytest.approx(0.5),
        "success_rate": 0.5,
    }


def test_an_idle_window_says_nothing_of_success() -> None:
    vitals = Vitals(2)
    reading = vitals.read()
    assert window(reading, reading) == {"requests_served": 0.0}


def test_counting_from_many_threads_loses_nothing() -> None:
    vitals = Vitals(1000)

    def work() -> None:
        for _ in range(500):
            assert vitals.begin()
            vitals.end(0.001, failed=True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading = vitals.read()
    assert (reading.in_flight, reading.served, reading.failed) == (0, 4000, 4000)
