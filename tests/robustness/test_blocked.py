"""An agent whose event loop is blocked again and again is busy or slow, and never gone or hung."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from registry.shell.child import ends_with_parent
from registry.shell.embedded import NatsServer
from tests.cli.running import ROOT, environment
from tests.conftest import Start
from tests.contract.wire import payloads, stats, stored_events

TIMES = 3
"""Blocks of the event loop, 2 s in every 5."""

WITHIN = 40.0

PROBE_TIMEOUT = 1.5
"""Seconds; some answers of who holds everything up for 2 s come later than that, but not a third of
the health check interval later."""

BLOCKED = """\
import asyncio, ctypes, time
from agents_sdk import Agent

async def main():
    async with Agent("worker", ["trading"], agent_id="blocked", heartbeat_interval=2.0):
        while True:
            await asyncio.sleep(3.0)
            {block}
            print("blocked", flush=True)

asyncio.run(main())
"""

BLOCKS = {
    "the loop": "time.sleep(2)",
    "all threads": "ctypes.PyDLL(None).sleep(2)",  # as a long call of an extension that keeps the lock of Python
}


@pytest.fixture
async def program(
    tmp_path: Path, nats_server: NatsServer, request: pytest.FixtureRequest
) -> AsyncIterator[asyncio.subprocess.Process]:
    source = tmp_path / "blocked.py"
    source.write_text(textwrap.dedent(BLOCKED.format(block=BLOCKS[request.param])))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(source), cwd=ROOT, env=environment(NATS_URL=nats_server.url),
        stdout=asyncio.subprocess.PIPE, preexec_fn=ends_with_parent(signal.SIGKILL),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("program", BLOCKS, indirect=True)
async def test_who_is_blocked_now_and_then_is_neither_gone_nor_hung(
    program: asyncio.subprocess.Process, start: Start, nc: Client
) -> None:
    await start(health_check_interval=3.0, probe_timeout=PROBE_TIMEOUT)
    assert program.stdout is not None
    for _ in range(TIMES):
        assert await asyncio.wait_for(program.stdout.readline(), WITHIN) == b"blocked\n"
    assert (await stats(nc))["health_checks_performed"] > TIMES
    first, *rest = payloads(await stored_events(nc, 1))
    assert first["reason"] == "registered"
    told = {(event["to"], event["reason"]) for event in rest}
    assert {status for status, _ in told} <= {"active", "degraded"}, told
    assert {reason for _, reason in told} <= {"busy", "slow", "recovered"}, told
