"""Agents in every language that there is an SDK for, as processes with the same environment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents_sdk import RegistryClient
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.agents.package import built
from tests.cli.running import Running, environment, until
from tests.conftest import eventually

HERE = Path(__file__).parent


class Process(Running):
    """A running agent."""

    async def serving(self, incarnation: int = 1) -> None:
        """Wait until it says that it serves."""
        said = f"registered as incarnation {incarnation}\n"
        await self.says(said)

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until a text is in its log."""
        await asyncio.to_thread(until, lambda: self.stderr.count(text) >= times or self.process.poll() is not None)
        assert self.stderr.count(text) >= times, self.stderr

    async def ended(self) -> int:
        """Wait until it has ended and return its exit code."""
        return await asyncio.to_thread(self.process.wait, 30)


StartAt = Callable[..., Process]
"""Takes the URL of a NATS server, and what `Start` takes."""

Start = Callable[..., Process]
"""Takes an agent's id, and its options as the Python SDK calls them."""


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the TypeScript SDK, built; the processes of one test run share it."""
    base = tmp_path_factory.getbasetemp()
    return built(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(params=["python", "typescript"])
def program(request: pytest.FixtureRequest) -> tuple[list[str], dict[str, str]]:
    """The command of the agent, and what it needs in its environment beyond what all do."""
    if request.param == "python":
        return [sys.executable, str(HERE / "agent.py")], {}
    sdk = request.getfixturevalue("package") / "dist" / "index.js"
    return ["node", str(HERE / "agent.js")], {"SDK": str(sdk)}


@pytest.fixture
def settings() -> Settings:
    """Nobody is probed in turn: who is found gone was asked for a reason of his own."""
    return Settings(health_check_interval=3600.0, reconnect_grace=0.0)


@pytest.fixture
async def client(nats_server: NatsServer, registry: Replica) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(nats_server.url) as client:
        yield client


@pytest.fixture
def run_at(program: tuple[list[str], dict[str, str]], tmp_path: Path) -> Iterator[StartAt]:
    """Starts agents that find NATS at a URL; what still runs is ended with the test."""
    command, needed = program
    running: list[Process] = []

    def start(url: str, agent_id: str = "a", **options: Any) -> Process:
        fields = {"capabilities": ["trading"], **options}
        where = {"NATS_URL": url, "AGENT_REGISTRY_AGENT_ID": agent_id, "OPTIONS": json.dumps(fields), **needed}
        running.append(Process(command, tmp_path / f"agent-{len(running)}", environment(**where)))
        return running[-1]

    yield start
    for process in running:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


@pytest.fixture
def run(run_at: StartAt, nats_server: NatsServer) -> Start:
    """Starts agents on the test's own NATS."""
    return partial(run_at, nats_server.url)


def catches(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal; an agent gives it up with the first one."""
    told = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in told.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))


async def status(client: RegistryClient, agent_id: str = "a") -> tuple[str, str | None] | None:
    """Return an agent's status, and why it has it."""
    agent = await client.get_agent_info(agent_id)
    return None if agent is None else (str(agent.status), agent.status_reason)


async def becomes(client: RegistryClient, wanted: str, agent_id: str = "a", within: float = 20.0) -> None:
    """Wait until an agent has a status."""

    async def has_become() -> bool:
        found = await status(client, agent_id)
        return found is not None and found[0] == wanted

    await eventually(has_become, within=within)
