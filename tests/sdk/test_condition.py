"""What an agent tells of itself: vitals, the lateness of its loop, its own opinion of its health."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from agents_sdk import health
from agents_sdk.condition import BLOCKED, OWN_METRICS, Condition
from agents_sdk.health import HealthCheck
from agents_sdk.pulse import Pulse
from agents_sdk.threads import in_thread
from agents_sdk.vitals import Vitals
from tests.conftest import eventually


class Late(Pulse):
    """A pulse that says how late the loop is."""

    def __init__(self, lag: float) -> None:
        self._set = lag

    def lag(self) -> float:
        return self._set


async def test_a_beat_has_what_was_measured() -> None:
    vitals = Vitals(4)
    vitals.begin()
    condition = Condition(vitals, Late(0.002), None)
    _, fields = await condition.beat(None)
    assert fields == {
        "health_score": 1.0,
        "load_factor": 0.25,
        "metrics": {"requests_served": 0.0, "work_loop_lag": 0.002},
    }
    vitals.end(0.5, failed=False)
    _, fields = await condition.beat(99.98765)
    assert fields["response_time"] == 0.5
    assert set(fields["metrics"]) == set(OWN_METRICS)
    assert fields["metrics"]["uptime"] == 99.988


async def test_the_application_knows_better() -> None:
    vitals = Vitals(4)
    vitals.report(metrics={"success_rate": 0.1, "queue": 3.0})
    _, fields = await Condition(vitals, Late(0.0), None).beat(None)
    assert fields["metrics"] == {"requests_served": 0.0, "work_loop_lag": 0.0, "success_rate": 0.1, "queue": 3.0}


async def test_a_beat_that_was_not_taken_is_part_of_the_next_one() -> None:
    vitals = Vitals(4)
    condition = Condition(vitals, Late(0.0), None)

    def serve(seconds: float) -> None:
        vitals.begin()
        vitals.end(seconds, failed=False)

    serve(1.0)
    first, _ = await condition.beat(None)
    serve(3.0)
    _, fields = await condition.beat(None)
    assert fields["metrics"]["avg_response_time"] == 2.0
    condition.taken(first)
    _, fields = await condition.beat(None)
    assert fields["metrics"]["avg_response_time"] == 3.0


async def test_an_old_reading_taken_late_is_no_step_back() -> None:
    vitals = Vitals(4)
    condition = Condition(vitals, Late(0.0), None)
    old, _ = await condition.beat(None)
    vitals.begin()
    vitals.end(1.0, failed=False)
    new, _ = await condition.beat(None)
    condition.taken(new)
    condition.taken(old)
    _, fields = await condition.beat(None)
    assert "avg_response_time" not in fields["metrics"]


async def test_a_blocked_loop_counts_as_fully_loaded() -> None:
    condition = Condition(Vitals(4), Late(BLOCKED), None)
    assert (await condition.beat(None))[1]["load_factor"] == 1.0
    assert (await condition.answer())["status"] == "busy"
    assert (await Condition(Vitals(4), Late(0.0), None).answer())["status"] == "ok"


async def test_one_that_nothing_reaches_counts_as_fully_loaded_and_says_so_both_ways() -> None:
    reachable = True
    condition = Condition(Vitals(4), Late(0.0), None, lambda: reachable)
    assert not condition.is_news
    reachable = False
    assert condition.is_news
    assert (await condition.beat(None))[1]["load_factor"] == 1.0
    assert not condition.is_news
    reachable = True
    assert condition.is_news
    assert (await condition.beat(None))[1]["load_factor"] == 0.0


async def test_the_pulse_tells_how_late_a_loop_is() -> None:
    loop, go = asyncio.new_event_loop(), threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    pulse = Pulse(loop)
    try:
        pulse.knock()
        await eventually(lambda: pulse._knocked_at is None)
        assert pulse.lag() < 1.0
        loop.call_soon_threadsafe(go.wait)
        pulse.knock()
        pulse.knock()
        await eventually(lambda: pulse.lag() > 0.1)
        go.set()
        await eventually(lambda: pulse._knocked_at is None)
        assert pulse.lag() > 0.1
    finally:
        go.set()
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()
    pulse.knock()
    assert pulse._knocked_at is None, "a loop that is closed is not knocked at"


@pytest.mark.parametrize("bad", [7, -0.1, True, None, "well"])
async def test_a_score_that_is_none_counts_as_unfit(bad: Any, caplog) -> None:
    check = HealthCheck(lambda: bad, asyncio.get_running_loop())
    assert await check.score() == 0.0
    assert "must return 0.0 to 1.0" in caplog.text


async def test_a_check_that_fails_is_an_answer(caplog) -> None:
    async def fail() -> float:
        raise ConnectionError("exchange")

    assert await HealthCheck(fail, asyncio.get_running_loop()).score() == 0.0
    assert "the health function failed" in caplog.text
    assert "ConnectionError" in caplog.text


async def test_a_check_that_is_late_leaves_the_last_score_standing(monkeypatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    go, calls = threading.Event(), []

    def check() -> float:
        calls.append(1)
        if len(calls) > 1:
            go.wait(10)
        return 1.0 - len(calls) / 10

    watched = HealthCheck(check, asyncio.get_running_loop())
    assert await watched.score() == 0.9
    started = time.monotonic()
    assert [await watched.score() for _ in range(3)] == [0.9, 0.9, 0.9]
    assert time.monotonic() - started < 5.0
    assert len(calls) == 2, "one at a time"
    go.set()
    await eventually(lambda: watched._running is None or watched._running.done())
    assert await watched.score() == 0.8


async def test_who_asks_while_a_check_runs_gets_its_answer() -> None:
    """A heartbeat and health checks ask whenever they come."""
    go, calls = asyncio.Event(), []

    async def check() -> float:
        calls.append(1)
        await go.wait()
        return 0.7

    watched = HealthCheck(check, asyncio.get_running_loop())
    asking = [asyncio.create_task(watched.score()) for _ in range(3)]
    await eventually(lambda: bool(calls))
    go.set()
    assert await asyncio.gather(*asking) == [0.7, 0.7, 0.7]
    assert len(calls) == 1
    assert await watched.score() == 0.7
    assert len(calls) == 2


async def test_a_thread_returns_raises_and_is_not_waited_for() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(KeyError):
        await in_thread({}.__getitem__, "x")
    go = threading.Event()
    waiting = asyncio.create_task(in_thread(go.wait, 10))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "wait")
