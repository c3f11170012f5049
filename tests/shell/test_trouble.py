"""An outage does not fill the log: the same trouble is told at growing intervals, and told once when it is over."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client

from registry.replica import Replica
from registry.settings import Settings
from registry.shell import trouble as module
from registry.shell.acks import Ack, OnAck
from registry.shell.jetstream_nats import StoreError
from registry.shell.store import Store
from registry.shell.trouble import Trouble
from tests.conftest import eventually
from tests.contract.wire import TRADER, encoded, told


class Lines:
    """Takes the place of a logger."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def line(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields))

    info = warning = error = line

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.told]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def trouble(lines: Lines) -> Trouble:
    return Trouble(lines)


def test_trouble_that_lasts_is_told_at_growing_intervals(clock: list[float], lines: Lines, trouble: Trouble) -> None:
    for _ in range(36_000):  # ten times a second for an hour
        trouble.warning("down", agent_id="a")
        clock[0] += 0.1
    assert 10 < len(lines.told) < 25
    assert lines.told[0] == ("down", {"times": 1, "agent_id": "a"})
    assert lines.told[1][1]["times"] == pytest.approx(10, abs=1)
    assert lines.told[-1][1]["times"] == pytest.approx(3000, abs=10), "the last ones say how much they stand for"


def test_the_end_is_told_once(clock: list[float], lines: Lines, trouble: Trouble) -> None:
    trouble.over("down")
    trouble.warning("down", of=503)
    trouble.warning("down", of=500)
    trouble.warning("slow")
    for _ in range(3):
        trouble.over("down")
    assert lines.events == ["down", "down", "slow", "trouble_over"]
    assert lines.told[-1] == ("trouble_over", {"trouble": "down"})


def test_trouble_that_comes_and_goes_is_told_no_more_often_than_one_that_stays(
    clock: list[float], lines: Lines, trouble: Trouble
) -> None:
    for _ in range(36_000):
        trouble.warning("down")
        trouble.over("down")
        clock[0] += 0.1
    assert 20 < len(lines.told) < 50
    assert lines.events == ["down", "trouble_over"] * (len(lines.told) // 2)


def test_what_came_back_after_quiet_and_what_is_another_trouble_is_told_at_once(
    clock: list[float], lines: Lines, trouble: Trouble
) -> None:
    for _ in range(10):
        trouble.warning("down", of=503)
        trouble.warning("down", of=500)
        trouble.warning("slow")
    assert lines.events == ["down", "down", "slow"]
    clock[0] += module.QUIET + 1.0
    trouble.warning("down", of=503)
    assert lines.told[3:] == [("down", {"times": 1})]


def test_a_defect_is_told_with_its_exception(clock: list[float], lines: Lines, trouble: Trouble) -> None:
    first, other = ZeroDivisionError("a defect"), KeyError("another one")
    for error in (first, ZeroDivisionError("again"), other):
        trouble.defect("tick_failed", error=error)
    assert [fields["exc_info"] for _, fields in lines.told] == [first, other]


def count(caplog: pytest.LogCaptureFixture, *words: str) -> int:
    """How many lines have all of these words."""
    return sum(all(word in record.getMessage() for word in words) for record in caplog.records)


@pytest.fixture
def settings() -> Settings:
    return Settings(leader_lease=5.0)


async def test_jetstream_that_is_down_for_long_does_not_fill_the_log(
    registry: Replica, nc: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NATS is there meanwhile: each bad report leads to a write, each write to readings, and all fail."""

    async def put(self: Store, key: str, value: bytes, expected: int, removed: bool, on_ack: OnAck) -> None:
        await on_ack(Ack())

    async def down(self: Store, *args: Any, **named: Any) -> None:
        raise StoreError("JetStream is down")

    await told(nc, "registry.register", TRADER)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "put", put)
        for method in ("read", "read_control", "put_control", "extent", "events_after", "last_revision"):
            broken.setattr(Store, method, down)
        broken.setattr("registry.shell.effector.READ_WAIT", 0.0001)
        broken.setattr("registry.shell.election.WATCH_INTERVAL", 0.01)
        broken.setattr("registry.shell.tail.WATCH_INTERVAL", 0.01)

        async def many_failed() -> bool:
            await nc.publish("registry.heartbeat.trader-1", encoded({"health_score": 0.1}))
            return registry.state.statistics.write_conflicts >= 50

        await eventually(many_failed)
        for event in ("log_unwatched", "lease_unknown"):
            await eventually(lambda event=event: count(caplog, event) > 0)  # type: ignore[misc]
        for event in ("read_failed", "write_uncertain", "lease_unknown", "log_unwatched"):
            assert 0 < count(caplog, event) < 10
        caplog.set_level("INFO")
    for event in ("lease_unknown", "log_unwatched"):
        await eventually(lambda event=event: count(caplog, "trouble_over", event) == 1)  # type: ignore[misc]
