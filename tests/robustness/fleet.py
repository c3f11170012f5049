"""A thousand agents, in a few processes that can be stopped and killed; and what is told of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client

from bench.observer import connect
from registry.shell.child import Child
from tests.conftest import eventually
from tests.contract.wire import payloads, stats, stored_events, told
from tests.robustness.crowd import Options
from tests.robustness.replicas import ReplicaProcess
from tests.sdk.outage import Server

AGENTS = 1000
PROCESSES = 4
"""That many share them."""

START_TIMEOUT = 30.0
"""Seconds until all agents of a process must have registered."""

INTERVAL = 1.5
"""Seconds between two beats of an agent."""

BEATS = 5
"""Each agent must beat so often before nothing can go wrong any more: by then its lease and all grace are over."""

SETTINGS = {
    "AGENT_REGISTRY_HEALTH_CHECK_INTERVAL": "2",
    "AGENT_REGISTRY_LEADER_LEASE": "2",
    "AGENT_REGISTRY_AUTO_SCALING_ENABLED": "false",
}


class Crowd(Child):
    """A process with many agents in it, see `tests.robustness.crowd`."""

    def __init__(self, url: str, folder: Path, name: str, lease: float) -> None:
        self._ready_file = folder / f"{name}.json"
        self.options = Options(url, name, AGENTS // PROCESSES, INTERVAL, lease, str(self._ready_file))
        told = json.dumps(asdict(self.options))
        super().__init__(
            name,
            (sys.executable, "-m", "tests.robustness.crowd", told),
            folder / f"{name}.log",
            environment={"PYTHONPATH": str(Path(__file__).parents[2])},
            with_parent=signal.SIGKILL,
            start_timeout=START_TIMEOUT,
        )

    async def start(self) -> None:
        """Start it and return when all have registered."""
        with self.log.open("ab") as output:
            await self._begin(output)
        await self._written(self._ready_file)

    def pause(self) -> None:
        """Let all of them stand still."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        os.kill(self.pid, signal.SIGCONT)


class Fleet:
    """A NATS server, a replica and a thousand agents.

    Args:
        folder: Where stores and logs go.
        lease: Seconds of silence after which an agent counts as offline.

    Attributes:
        server: The NATS server.
        replica: The registry.
        crowds: The processes that the agents live in.
        nc: A plain connection.
    """

    nc: Client

    def __init__(self, folder: Path, lease: float) -> None:
        self.server = Server(folder)
        self.replica = ReplicaProcess(self.server.url, folder / "replica", SETTINGS)
        self.crowds = [Crowd(self.server.url, folder, f"crowd-{number}", lease) for number in range(PROCESSES)]

    async def start(self) -> None:
        """Start everything and return when the registry has looked at all agents once: it would give one up by now."""
        await self.server.start()
        self.nc = await connect(self.server.url)
        await self.replica.serving()
        await asyncio.gather(*(crowd.start() for crowd in self.crowds))

        async def checked() -> bool:
            return (await self._stats())["health_checks_performed"] >= AGENTS

        await eventually(checked, within=20.0)

    async def stop(self) -> None:
        """End everything."""
        for crowd in self.crowds:
            crowd.kill()
        await asyncio.gather(*(crowd.ended() for crowd in self.crowds if crowd.runs))
        await self.replica.kill()
        if hasattr(self, "nc"):
            await self.nc.close()
        await self.server.kill()

    async def is_heard(self) -> None:
        """Wait until whoever runs has beaten for longer than a lease lasts."""
        wanted = (await self._stats())["heartbeats_received"] + BEATS * self.running

        async def heard() -> bool:
            return (await self._stats())["heartbeats_received"] >= wanted

        await eventually(heard, within=40.0)

    async def is_active(self) -> None:
        """Wait until whoever runs, and nobody else, is active."""

        async def active() -> bool:
            found = await told(self.nc, "registry.discover", {"statuses": ["active"], "limit": 1})
            return bool(found["total"] == self.running)

        await eventually(active, within=20.0)

    @property
    def running(self) -> int:
        """How many agents run."""
        return sum(crowd.options.count for crowd in self.crowds if crowd.runs)

    async def _stats(self) -> dict[str, Any]:
        """Return what the registry says of itself, once it is there."""
        said: dict[str, Any] = {}

        async def answers() -> bool:
            try:
                said.update(await stats(self.nc))
            except nats.errors.Error:
                return False
            return True

        await eventually(answers, within=60.0)
        return said

    async def moves(self) -> dict[str, list[str]]:
        """Return what was told of each agent beyond its registration, as status/reason."""
        moves: dict[str, list[str]] = {agent_id: [] for crowd in self.crowds for agent_id in crowd.options.agents()}
        for event in payloads(await stored_events(self.nc, AGENTS)):
            moves[event["agent_id"]].append(f"{event['to']}/{event['reason']}")
        assert {each.pop(0) for each in moves.values()} == {"active/registered"}
        return moves
