"""Nobody is blamed for what a registry, a server or the way between them did: all of them stand still, or go away."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from agents_sdk.cancelling import cancel
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.cli.running import command, environment
from tests.conftest import eventually
from tests.contract.wire import TRADER, answering, ask, moves, settle, stored_events, told

STANDSTILL = 4.0
"""Seconds; more than ten of the leases here."""


@asynccontextmanager
async def beating(nc: Client, count: int = 5) -> AsyncIterator[None]:
    """Agents with leases of 0.3 s that beat every 0.1 s while NATS is there."""
    for number in range(count):
        await told(nc, "registry.register", {**TRADER, "agent_id": f"t-{number}", "heartbeat_interval": 0.1})

    async def beat() -> None:
        while True:
            for number in range(count):
                if nc.is_connected:
                    await nc.publish(f"registry.heartbeat.t-{number}", b"")
            await asyncio.sleep(0.1)

    task = asyncio.ensure_future(beat())
    yield
    await cancel(task)


async def heard_again(nc: Client) -> None:
    """Wait until the registry judges silence again: so long that whoever it wrongs has been wronged."""

    async def registered() -> bool:
        """A replica that finds itself late refuses at first what may have been sent long ago."""
        answer = await ask(nc, "registry.register", {**TRADER, "agent_id": "silent", "heartbeat_interval": 0.1})
        return answer.code is None

    async def judged() -> bool:
        return (await told(nc, "registry.get.silent"))["status"] == "offline"

    await eventually(registered)
    await eventually(judged, within=20.0)


async def assert_nobody_was_given_up(nc: Client, count: int = 5) -> None:
    told_of = [event for event in moves(await stored_events(nc, count + 2)) if event[1] == "offline"]
    assert told_of == [("active", "offline", "heartbeat_timeout")], "but for the one that was silent"


async def test_a_server_that_stands_still(registry: Replica, nats_server: NatsServer, nc: Client) -> None:
    """Its connections stay open, so nobody is told; what agents sent meanwhile comes in no order when it goes on."""
    async with beating(nc):
        os.kill(nats_server.pid, signal.SIGSTOP)
        await asyncio.sleep(STANDSTILL)
        os.kill(nats_server.pid, signal.SIGCONT)
        await heard_again(nc)
    await assert_nobody_was_given_up(nc)
    assert registry.bus.reconnects == 0


async def test_a_registry_that_stands_still(nats_server: NatsServer, nc: Client, tmp_path: Path) -> None:
    """Beats wait unread while its clock runs."""
    ready = tmp_path / "ready.json"
    process = await asyncio.create_subprocess_exec(
        *command("serve", "--nats", nats_server.url, "--ready-file", ready), env=environment()
    )
    await eventually(ready.exists, within=30.0)
    async with beating(nc):
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STANDSTILL)
        process.send_signal(signal.SIGCONT)
        await heard_again(nc)
    await assert_nobody_was_given_up(nc)
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize("settings", [Settings(health_check_interval=0.5, reconnect_grace=2.0)])
async def test_agents_that_come_back_later_than_the_registry(
    registry: Replica, nats_server: NatsServer, settings: Settings
) -> None:
    """A client of NATS tries every two seconds; until then nobody answers its health checks."""
    subject = "agent.trader-1.health_check"
    async with (
        await nats.connect(nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=1.5) as slow,
        await nats.connect(nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05) as nc,
        answering(slow, subject, {"health_score": 1.0}) as asked,
    ):
        await told(nc, "registry.register", {**TRADER, "health_subject": subject})
        await asked.next()
        pid = nats_server.pid
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: nats_server.pid != pid and registry.bus.connected and nc.is_connected)
        assert not slow.is_connected
        while not asked.empty():
            await asked.next()
        await asked.next()
        await settle(nc)
        assert moves(await stored_events(nc, 1)) == [("registering", "active", "registered")]
