"""`orchestrate`: real agents of a real registry, started and stopped as it orders, through crashes of everybody."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_registry import orchestrating
from agents_sdk import AgentInfo, RegistryClient, ServiceQuery
from tests.cli.conftest import Do
from tests.cli.running import Running, Up, command, environment, is_alive, until
from tests.conftest import eventually

PROGRAM = """
    import asyncio, os, sys, time
    print("begins", os.getpid(), flush=True)
    time.sleep(float(os.environ.get("SLOW", "0")))
    from agents_sdk import Agent

    agent = Agent("worker", capabilities=["trading"], heartbeat_interval=0.5)

    @agent.handle("work")
    async def work(request):
        await asyncio.sleep(request.get("seconds", 0))
        return agent.agent_id

    agent.run()
"""

ANYONE = ServiceQuery(capabilities={"trading"}, max_load_factor=1.0, min_health_score=0.0, limit=100)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A registry that looks often."""
    with Up(tmp_path / "up", env=environment(AGENT_REGISTRY_SCALING_INTERVAL="0.5")) as up:
        yield up


@pytest.fixture
async def client(up: Up) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(up.url, timeout=10.0) as client:
        yield client


class Fleet:
    """Orchestrators that run one after the other, and the agents that they have started."""

    def __init__(self, up: Up, folder: Path) -> None:
        self._up = up
        self._folder = folder
        self._runs: list[Running] = []
        self.logs = folder / "agents"
        self.program = folder / "worker.py"
        self.program.write_text(textwrap.dedent(PROGRAM))

    def run(self, *options: str, launch: str = "", **variables: str) -> Running:
        words = command(
            "orchestrate", "--launch", launch or f"{sys.executable} {self.program}", "--log-dir", self.logs,
            "--nats", self._up.url, *(options or ("-c", "trading")),
        )  # fmt: skip
        self._runs.append(Running(words, self._folder / f"run{len(self._runs)}", environment(**variables)))
        return self._runs[-1]

    def pids(self) -> dict[str, list[int]]:
        """Return the processes that were started, by agent."""
        return {
            log.stem: [int(pid) for pid in re.findall(r"^begins (\d+)$", log.read_text(), re.MULTILINE)]
            for log in self.logs.glob("*.log")
        }

    def alive(self) -> list[int]:
        return [pid for pids in self.pids().values() for pid in pids if is_alive(pid)]

    def close(self) -> None:
        for run in self._runs:
            with run:
                pass
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def fleet(up: Up, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(up, tmp_path)
    yield fleet
    fleet.close()


async def serving(client: RegistryClient) -> list[str]:
    return sorted(agent.agent_id for agent in await client.discover_agents(ANYONE))


async def there_are(client: RegistryClient, amount: int) -> list[str]:
    found: list[str] = []

    async def so_many() -> bool:
        found[:] = await serving(client)
        return len(found) == amount

    await eventually(so_many, within=30)
    return found


async def told(run: Running, words: str) -> None:
    await asyncio.to_thread(until, lambda: words in run.stdout or run.process.poll() is not None)
    assert words in run.stdout, run.stdout + run.stderr


async def fulfilled(client: RegistryClient) -> None:
    async def is_fulfilled() -> bool:
        (trading,) = (await client.scaling("trading")).capabilities
        return trading.orders == [] and trading.observed.agents == trading.desired

    await eventually(is_fulfilled, within=30)


async def ends(run: Running, number: signal.Signals = signal.SIGTERM) -> None:
    assert await asyncio.to_thread(run.end, number) == 0, run.stderr
    assert "Traceback" not in run.stderr


async def test_from_zero_up_then_down_with_work_in_flight_and_an_end_in_order(
    client: RegistryClient, fleet: Fleet
) -> None:
    await client.set_scaling("trading", min_agents=2, max_agents=4)
    run = fleet.run()
    names = await there_are(client, 2)
    await fulfilled(client)
    assert re.search(rf"starts {', '.join(names)} for trading", run.stdout)
    calls = [
        asyncio.create_task(
            client.call("trading", "work", {"seconds": 3}, timeout=20, query=ServiceQuery(exclude={other}))
        )
        for other in names
    ]

    async def both_work() -> bool:
        return all(agent.load_factor > 0 for agent in await client.discover_agents(ANYONE))

    await eventually(both_work)
    await client.set_scaling("trading", min_agents=1, max_agents=1)
    await told(run, "drains ")
    (stays,) = await there_are(client, 1)
    (goes,) = set(names) - {stays}
    assert await client.call("trading", "work", timeout=10) == stays
    assert sorted([await call for call in calls]) == names, "work in flight is finished"
    await told(run, f"trading: {goes} left")
    (pid,) = fleet.pids()[goes]
    await eventually(lambda: not is_alive(pid))
    await fulfilled(client)
    await ends(run)
    assert f"ending: {stays} finish their work" in run.stdout
    assert (await serving(client), fleet.alive()) == ([], [])


async def test_an_agent_that_crashes_is_started_again_under_its_id(client: RegistryClient, fleet: Fleet) -> None:
    await client.set_scaling("trading", min_agents=1)
    run = fleet.run()
    (name,) = await there_are(client, 1)
    before = await client.get_agent_info(name)
    (pid,) = fleet.pids()[name]
    os.kill(pid, signal.SIGKILL)
    await told(run, f"{name} was ended by SIGKILL")

    async def is_back() -> bool:
        after = await client.get_agent_info(name)
        return is_new(after, before) and await serving(client) == [name]

    await eventually(is_back, within=30)
    assert "restart 1 of 5" in run.stdout
    assert list(fleet.pids()) == [name], "nobody else was started in its place"
    await ends(run, signal.SIGINT)
    assert fleet.alive() == []


def is_new(after: AgentInfo | None, before: AgentInfo | None) -> bool:
    assert before is not None
    return after is not None and after.instance_id != before.instance_id and after.status == "active"


async def test_killed_while_agents_start_the_next_one_finishes_and_nobody_is_started_twice(
    client: RegistryClient, fleet: Fleet
) -> None:
    await client.set_scaling("trading", min_agents=2)
    first = fleet.run(SLOW="3")
    await told(first, "starts trading-1-0, trading-1-1")
    first.process.kill()
    first.process.wait()
    assert await serving(client) == []
    second = fleet.run("-c", "trading", "--json", SLOW="3")
    assert await there_are(client, 2) == ["trading-1-0", "trading-1-1"]

    def acts() -> list[Any]:
        return [line for line in second.lines() if line["event"] == "act"]

    await eventually(lambda: any(act["outcome"] == "2 serve" for act in acts()), within=40)
    assert {act["order_id"] for act in acts()} == {acts()[0]["order_id"]}
    assert acts()[0]["started"] == []
    assert {name: len(pids) for name, pids in fleet.pids().items()} == {"trading-1-0": 1, "trading-1-1": 1}
    await ends(second)
    assert fleet.alive() == [], "those that the first one had started are ended as well"


async def test_killed_while_one_drains_the_next_one_sees_it_off(client: RegistryClient, fleet: Fleet) -> None:
    await client.set_scaling("trading", min_agents=2)
    first = fleet.run()
    names = await there_are(client, 2)
    calls = [
        asyncio.create_task(
            client.call("trading", "work", {"seconds": 14}, timeout=30, query=ServiceQuery(exclude={other}))
        )
        for other in names
    ]

    async def both_work() -> bool:
        return all(agent.load_factor > 0 for agent in await client.discover_agents(ANYONE))

    await eventually(both_work)
    await client.set_scaling("trading", min_agents=1, max_agents=1)
    await told(first, "drains ")
    first.process.kill()
    first.process.wait()
    second = fleet.run()
    (stays,) = await there_are(client, 1)
    assert sorted([await call for call in calls]) == names
    (goes,) = set(names) - {stays}
    await told(second, f"trading: {goes} left")
    (pid,) = fleet.pids()[goes]
    await eventually(lambda: not is_alive(pid))
    await ends(second)
    assert fleet.alive() == []


async def test_a_restart_of_registry_and_nats_in_between_is_no_matter(up: Up, fleet: Fleet, tmp_path: Path) -> None:
    async with RegistryClient(up.url, timeout=10.0) as client:
        await client.set_scaling("trading", min_agents=2)
        run = fleet.run(SLOW="2")
        await told(run, "starts trading-1-0, trading-1-1")
        up.process.kill()
        up.process.wait()
        again = ("--port", up.url.rpartition(":")[2])
        with Up(tmp_path / "up", *again, env=environment(AGENT_REGISTRY_SCALING_INTERVAL="0.5")):
            assert await there_are(client, 2) == ["trading-1-0", "trading-1-1"]
            await client.set_scaling("trading", min_agents=3)
            await there_are(client, 3)
            assert [len(pids) for pids in fleet.pids().values()] == [1, 1, 1]
            await ends(run)
            assert fleet.alive() == []


async def test_a_second_signal_ends_everything_at_once(client: RegistryClient, fleet: Fleet) -> None:
    await client.set_scaling("trading", min_agents=1)
    run = fleet.run()
    await there_are(client, 1)
    call = asyncio.create_task(client.call("trading", "work", {"seconds": 25}, timeout=30, at_most_once=True))

    async def it_works() -> bool:
        return any(agent.load_factor > 0 for agent in await client.discover_agents(ANYONE))

    await eventually(it_works)
    run.process.send_signal(signal.SIGINT)
    await told(run, "ending: trading-1-0 finish their work; a second signal ends them at once")
    run.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(run.process.wait, 10) == -signal.SIGINT
    await eventually(lambda: fleet.alive() == [])
    call.cancel()


async def test_no_more_run_than_may(client: RegistryClient, fleet: Fleet) -> None:
    await client.set_scaling("trading", min_agents=4)
    run = fleet.run("-c", "trading", "--max", "2")
    await told(
        run, "starts no more for trading: as many processes run as may: 2; more do with a higher max_processes (--max)"
    )
    await told(run, "trading: 2 of 4 serve")
    await there_are(client, 2)
    assert len(fleet.pids()) == 2
    await ends(run)


async def test_a_program_that_gives_itself_an_id_runs_once_and_is_told_of(client: RegistryClient, fleet: Fleet) -> None:
    fleet.program.write_text(
        fleet.program.read_text().replace("heartbeat_interval", 'agent_id="fixed", heartbeat_interval')
    )
    await client.set_scaling("trading", min_agents=2, order_timeout=8.0)
    run = fleet.run()
    await told(run, "is refused by the registry and not started again")
    assert "already_registered: agent_id: 'fixed' is held by instance" in run.stdout
    assert await serving(client) == ["fixed"]
    await told(run, "its program must take AGENT_REGISTRY_AGENT_ID, or {agent_id}, and give itself no other")
    await ends(run)


async def test_a_command_that_ends_at_once_is_told_with_its_last_words(client: RegistryClient, fleet: Fleet) -> None:
    await client.set_scaling("trading", min_agents=1)
    run = fleet.run(launch="""sh -c 'echo no module named trader; exit 9'""")
    await told(run, "trading-1-0 ended with code 9: no module named trader; starts again in ")
    await ends(run)


def test_other_capabilities_are_another_durable() -> None:
    choices = [[], ["a-b"], ["a", "b"], ["a", "b-c"], ["a-b", "c"], ["a_b"]]
    assert len({orchestrating._durable(names) for names in choices}) == len(choices)


async def test_orders_of_several_capabilities_are_carried_out(client: RegistryClient, fleet: Fleet) -> None:
    await client.set_scaling("trading", min_agents=1)
    run = fleet.run("-c", "trading", "-c", "research")
    await there_are(client, 1)
    streams = client._connection.client.jetstream()
    assert "orchestrator-research+trading" in [each.name for each in await streams.consumers_info("REGISTRY_EVENTS")]
    await ends(run)


async def test_why_nothing_is_ordered_is_told(client: RegistryClient, fleet: Fleet) -> None:
    run = fleet.run("-c", "research")
    await told(run, "research: no agent and no policy, so nothing is ordered; try: agent-registry scaling set research")
    await client.set_scaling("research", min_agents=0)
    await ends(run)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--launch", "no-such-program"), "--launch: 'no-such-program' is not found, or cannot be run"),
        (("--launch", "sh {id}"), "--launch: {id} is no placeholder; known are {agent_id} and {capability}"),
        (("--launch", "sh", "-c", "tradng"), "--capability: the registry knows no tradng"),
        (("--launch", "sh", "--log-dir", "/proc/none"), "--log-dir: cannot use /proc/none: "),
        ((), "--launch"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(do: Do, up: Up, options: tuple[str, ...], said: str) -> None:
    outcome = do("orchestrate", "--nats", up.url, *options)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {said}") or (not options and "--launch" in outcome.err)


def test_without_nats_it_says_so(do: Do) -> None:
    outcome = do("orchestrate", "--nats", "nats://127.0.0.1:1", "--launch", "sh")
    assert outcome.code == 4
    assert outcome.err.count("\n") == 2
