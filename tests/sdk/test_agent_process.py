"""Agents as programs, where Python has its own ways; `tests/agents` has what those in every language do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agents_sdk import RegistryClient
from registry.shell.embedded import NatsServer
from tests.agents.conftest import catches
from tests.conftest import eventually

ROOT = Path(__file__).parents[2]

Program = asyncio.subprocess.Process


@pytest.fixture
async def run(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Callable[[str], Awaitable[Program]]]:
    """Runs a program that finds its NATS in the environment; whatever still runs at the end is killed."""
    programs: list[Program] = []

    async def run(source: str) -> Program:
        path = tmp_path / f"program{len(programs)}.py"
        path.write_text(textwrap.dedent(source))
        environment = {**os.environ, "NATS_URL": nats_server.url, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        program = await asyncio.create_subprocess_exec(
            sys.executable, str(path), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        programs.append(program)
        return program

    yield run
    for program in programs:
        if program.returncode is None:
            program.kill()
        await program.communicate()


async def ended(program: Program) -> tuple[int, str]:
    async with asyncio.timeout(30):
        _, stderr = await program.communicate()
    assert program.returncode is not None
    return program.returncode, stderr.decode()


async def serving(client: RegistryClient, agent_id: str = "a") -> None:
    async def is_there() -> bool:
        return await client.get_agent_info(agent_id) is not None

    await eventually(is_there, within=20)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_second_signal_ends_it_at_once_when_a_handler_blocks_the_loop(client: RegistryClient, run) -> None:
    """Which is when a second signal is sent."""
    program = await run(
        """
        import time
        from agents_sdk import Agent

        agent = Agent("t", capabilities=["trading"], agent_id="a")

        @agent.handle("work")
        async def work(request):
            print("working", flush=True)
            time.sleep(60)

        agent.run()
        """
    )
    await serving(client)
    calling = asyncio.create_task(client.call("trading", "work", timeout=30))
    assert program.stdout is not None
    assert await program.stdout.readline() == b"working\n"
    program.send_signal(signal.SIGTERM)
    await eventually(lambda: not catches(program.pid, signal.SIGTERM))
    program.send_signal(signal.SIGTERM)
    assert (await ended(program))[0] == -signal.SIGTERM
    calling.cancel()


async def test_a_blocking_handler_that_never_ends_does_not_keep_the_process(client: RegistryClient, run) -> None:
    program = await run(
        """
        import time
        from agents_sdk import Agent

        agent = Agent("t", capabilities=["trading"], agent_id="a", drain_timeout=0.2)

        @agent.handle("work")
        def work(request):
            print("working", flush=True)
            time.sleep(600)

        agent.run()
        """
    )
    await serving(client)
    calling = asyncio.create_task(client.call("trading", "work", timeout=30, at_most_once=True))
    assert program.stdout is not None
    assert await program.stdout.readline() == b"working\n"
    program.send_signal(signal.SIGTERM)
    code, log = await ended(program)
    assert code == 0, log
    with pytest.raises(Exception, match="stopped before it was done"):
        await calling
