"""The system's clock may be set while the registry runs: it shows the time, and decides nothing."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.aio.client import Client

from tests.conftest import Start, eventually
from tests.contract.wire import TRADER, answering, listening, moves, payloads, stored_events, told

HOUR = 3600.0
INTERVAL = 0.2
"""Seconds between two beats."""

BEATS = 20
"""More than three leases full of them."""

HEALTH = "agent.trader-1.health_check"


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_nobody_is_given_up_because_the_clock_was_set(
    start: Start, nc: Client, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    replica = await start(reconnect_grace=INTERVAL, health_check_interval=INTERVAL)
    lease = {"heartbeat_interval": INTERVAL, "heartbeat_timeout": 5 * INTERVAL}
    async with listening(nc, "registry.events.status.offline.>") as lost:
        async with answering(nc, HEALTH, {"status": "ok", "health_score": 1.0, "load_factor": 0.1}):
            await told(nc, "registry.register", {**TRADER, **lease, "health_subject": HEALTH})
            # Another one is silent, but not for long enough; and one is offline, and remembered for a while yet.
            await told(nc, "registry.register.silent", {**TRADER, "agent_id": "silent", "heartbeat_interval": 600.0})
            await told(nc, "registry.register.gone", {**TRADER, "agent_id": "gone", "health_subject": "nobody.there"})
            assert moves([await lost.next()]) == [("active", "offline", "no_responders")]
            for module in ("replica", "shell.projector", "shell.messages"):
                monkeypatch.setattr(f"registry.{module}.wall", lambda: time.time() + step)
            await eventually(lambda: is_near(replica.state.wall(time.monotonic()), time.time() + step))
            for _ in range(BEATS):
                await told(nc, "registry.heartbeat.trader-1")
                await asyncio.sleep(INTERVAL / 2)
            assert lost.empty()
            events = payloads(await stored_events(nc, 4))
            assert [event["reason"] for event in events] == [*["registered"] * 3, "no_responders"]
            assert not any(event["removed"] for event in events)
        # Who goes now is missed as soon as ever, and it is told when.
        (event,) = payloads([await lost.next()])
        assert (event["agent_id"], event["reason"]) == ("trader-1", "no_responders")
        assert is_near(event["at"], time.time() + step)


def is_near(one: float, other: float) -> bool:
    return abs(one - other) < HOUR / 2
