"""Agents as programs: signals, exit codes, and an end that leaves nothing hanging."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agents_sdk import AgentStatus, RegistryClient
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually

ROOT = Path(__file__).parents[2]

TEN_LINES = """\
from agents_sdk import Agent

agent = Agent("trading_agent", capabilities=["trading"], agent_id="a")


@agent.handle("quote")
async def quote(request):
    return {"symbol": request["symbol"], "price": 42.0}


agent.run()
"""

Program = asyncio.subprocess.Process


@pytest.fixture
def settings() -> Settings:
    """Nobody is probed in turn: who is found gone was asked for a reason of his own."""
    return Settings(health_check_interval=3600.0, reconnect_grace=0.0)


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


async def test_ten_lines_are_an_agent(client: RegistryClient, run) -> None:
    program = await run(TEN_LINES)
    assert await client.call("trading", "quote", {"symbol": "BTC"}, timeout=20) == {"symbol": "BTC", "price": 42.0}
    program.send_signal(signal.SIGTERM)
    code, log = await ended(program)
    assert code == 0, log
    assert await client.get_agent_info("a") is None
    assert "a serves quote, registered as incarnation 1" in log
    assert "a got SIGTERM and finishes its work; a second one ends it at once" in log
    assert "a has left" in log
    assert "Traceback" not in log


async def test_ctrl_c_ends_it_as_well(client: RegistryClient, run) -> None:
    program = await run(TEN_LINES)
    await serving(client)
    program.send_signal(signal.SIGINT)
    code, log = await ended(program)
    assert (code, "Traceback" in log) == (0, False), log


async def test_work_in_flight_is_finished_first(client: RegistryClient, run) -> None:
    program = await run(
        """
        import asyncio
        from agents_sdk import Agent

        agent = Agent("t", capabilities=["trading"], agent_id="a")

        @agent.handle("work")
        async def work(request):
            await agent.client.update_agent_health("a", {"working": 1})
            while not agent._life._ending:
                await asyncio.sleep(0.01)
            return "done"

        agent.run()
        """
    )
    await serving(client)
    working = asyncio.create_task(client.call("trading", "work", timeout=20, at_most_once=True))

    async def is_working() -> bool:
        found = await client.get_agent_info("a")
        return found is not None and "working" in found.performance_metrics

    await eventually(is_working)
    program.send_signal(signal.SIGTERM)
    assert await working == "done"
    assert (await ended(program))[0] == 0


def catches(program: Program, number: signal.Signals) -> bool:
    """Return whether a program has a handler for a signal; it gives it up with the first one."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("block", ["while True: await asyncio.sleep(1)", "time.sleep(60)"])
async def test_a_second_signal_ends_it_at_once(client: RegistryClient, run, block: str) -> None:
    """Also when a handler blocks the loop, which is when a second signal is sent."""
    program = await run(
        f"""
        import asyncio, time
        from agents_sdk import Agent

        agent = Agent("t", capabilities=["trading"], agent_id="a")

        @agent.handle("work")
        async def work(request):
            print("working", flush=True)
            {block}

        agent.run()
        """
    )
    await serving(client)
    calling = asyncio.create_task(client.call("trading", "work", timeout=30))
    assert program.stdout is not None
    assert await program.stdout.readline() == b"working\n"
    program.send_signal(signal.SIGTERM)
    await eventually(lambda: not catches(program, signal.SIGTERM))
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


async def test_a_signal_while_it_waits_ends_it(run, nats_server: NatsServer) -> None:
    program = await run(TEN_LINES)
    assert program.stderr is not None
    while b"not registered yet: no registry serves 'register' now" not in await program.stderr.readline():
        pass
    program.send_signal(signal.SIGTERM)
    code, log = await ended(program)
    assert (code, "Traceback" in log) == (0, False), log


async def test_a_name_that_is_taken_ends_it_with_a_clear_error(client: RegistryClient, run) -> None:
    first = await run(TEN_LINES)
    await serving(client)
    code, log = await ended(await run(TEN_LINES))
    assert code == 3
    assert log.count("\n") == 1, log
    assert "ERROR agents_sdk.agent: a is refused: already_registered: agent_id: 'a' is held by instance" in log
    assert "takeover" in log
    first.send_signal(signal.SIGTERM)
    assert (await ended(first))[0] == 0


async def test_an_unknown_capability_ends_it_with_a_clear_error(client: RegistryClient, run) -> None:
    code, log = await ended(await run(TEN_LINES.replace('"trading"]', '"tradng"]')))
    assert code == 3
    assert log.count("\n") == 1, log
    assert "a is refused: invalid_request: capabilities: 'tradng' is not known here; did you mean 'trading'?" in log


async def test_a_replaced_agent_ends_with_a_clear_error(client: RegistryClient, run) -> None:
    first = await run(TEN_LINES)
    await serving(client)
    second = await run(TEN_LINES.replace('agent_id="a"', 'agent_id="a", takeover=True'))
    code, log = await ended(first)
    assert code == 3
    assert "Traceback" not in log
    assert log.count("a stops serving: incarnation: is 1, but 'a' is registered as incarnation 2; stop") == 1
    assert log.count("ERROR") == 1
    second.send_signal(signal.SIGTERM)
    assert (await ended(second))[0] == 0


async def test_a_killed_agent_comes_back_as_a_new_instance_at_once(client: RegistryClient, run) -> None:
    first = await run(TEN_LINES)
    await serving(client)
    before = await client.get_agent_info("a")
    first.kill()
    await run(TEN_LINES)

    async def is_replaced() -> bool:
        after = await client.get_agent_info("a")
        assert before is not None
        return after is not None and after.instance_id != before.instance_id and after.status is AgentStatus.ACTIVE

    await eventually(is_replaced, within=20)


async def test_a_stopped_process_that_goes_on_registers_again(client: RegistryClient, run) -> None:
    program = await run(TEN_LINES.replace('agent_id="a"', 'agent_id="a", heartbeat_interval=0.2'))
    await serving(client)
    program.send_signal(signal.SIGSTOP)
    await eventually(lambda: _status_is(client, AgentStatus.OFFLINE), within=30)
    program.send_signal(signal.SIGCONT)
    await eventually(lambda: _status_is(client, AgentStatus.ACTIVE), within=30)
    assert await client.call("trading", "quote", {"symbol": "x"}, timeout=20) == {"symbol": "x", "price": 42.0}
    program.send_signal(signal.SIGTERM)
    assert (await ended(program))[0] == 0


async def _status_is(client: RegistryClient, status: AgentStatus) -> bool:
    found = await client.get_agent_info("a")
    return found is not None and found.status is status


async def test_killed_it_is_found_gone_at_once(client: RegistryClient, registry: Replica, run) -> None:
    """Its connection has a name by which the registry knows whose it was, and it beats only every half minute."""
    await eventually(lambda: registry.state.connections_watched)
    program = await run(TEN_LINES)
    await serving(client)
    await client.call("trading", "quote", {"symbol": "BTC"})  # it listens
    program.kill()

    async def is_offline() -> bool:
        agent = await client.get_agent_info("a")
        return agent is not None and (agent.status, agent.status_reason) == (AgentStatus.OFFLINE, "no_responders")

    await eventually(is_offline)
