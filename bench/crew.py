"""Real agents, each a process of its own."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.listener import Listener
from bench.processes import BenchError
from registry.shell.child import Child, ending

START_WITHIN = 60.0
"""Seconds until an agent that was started must be registered: all of them start at once, on few cores."""


class AgentProcess(Child):
    """One SDK agent.

    Args:
        agent_id: Its id.
        url: Where NATS listens.
        folder: For its log.
        heartbeat_interval: Seconds between two of its heartbeats.
    """

    def __init__(self, agent_id: str, url: str, folder: Path, heartbeat_interval: float) -> None:
        super().__init__(
            agent_id,
            (sys.executable, "-m", "bench.agent", agent_id, url, f"{heartbeat_interval:g}"),
            folder / f"{agent_id}.log",
            with_parent=signal.SIGKILL,
        )

    async def start(self) -> None:
        """Start it, or start it again after it has ended; it registers a little later."""
        with self.log.open("ab") as output:
            await self._begin(output)


class Crew:
    """Agents that are started, and started again after they were killed.

    Args:
        agents: How many.
        url: Where NATS listens.
        folder: For their logs.
        listener: Hears that they have registered.
        heartbeat_interval: Seconds between two heartbeats of one.
    """

    def __init__(self, agents: int, url: str, folder: Path, listener: Listener, heartbeat_interval: float) -> None:
        self._processes = [
            AgentProcess(f"agent-{number}", url, folder, heartbeat_interval) for number in range(1, agents + 1)
        ]
        self._listener = listener

    async def start(self) -> None:
        """Start all, and return when all have registered.

        Raises:
            BenchError: If one ends before, or does not in time.
        """
        since = len(self._listener.heard)
        for process in self._processes:
            await process.start()
        await asyncio.gather(*(self._registered(process, since) for process in self._processes))

    async def start_one(self, process: AgentProcess) -> None:
        """Start one, and return when it has registered.

        Raises:
            BenchError: If it ends before, or does not in time.
        """
        since = len(self._listener.heard)
        await process.start()
        await self._registered(process, since)

    async def _registered(self, process: AgentProcess, since: int) -> None:
        registered = asyncio.ensure_future(self._listener.until(process.name, "active", since, START_WITHIN))
        ended = asyncio.ensure_future(process.ended())
        try:
            await asyncio.wait((registered, ended), return_when=asyncio.FIRST_COMPLETED)
            if not registered.done():
                said = process.log.read_text(errors="replace")[-2000:]
                raise BenchError(f"{process.name} ended by {ending(ended.result())} before it registered: {said}")
            registered.result()
        finally:
            registered.cancel()
            ended.cancel()

    def drawn(self, chance: random.Random) -> Iterator[AgentProcess]:
        """Yield all of them in random order, twice: one that comes back a third time flaps, and is another matter."""
        for _ in range(2):
            yield from chance.sample(self._processes, len(self._processes))

    async def end(self) -> None:
        """End all; nobody is left who would care how."""
        for process in self._processes:
            process.kill()
        await asyncio.gather(*(process.ended() for process in self._processes if process.runs))
