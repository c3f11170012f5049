"""How long it takes until everybody can know that an agent is gone, or stands still.

Agents of the SDK, each a process of its own; one at a time is killed or stopped, and when it is back, the next one. The
instant of a loss is that at which this process sends the signal; a time ends when a plain subscription hears of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path

from bench.crew import AgentProcess, Crew
from bench.listener import Listener
from bench.observer import connect
from bench.processes import Server
from bench.registries import RegistryProcess
from bench.spans import Detection
from registry.settings import Settings

HEARTBEAT_INTERVAL = 30.0
"""Seconds: so seldom that an agent is missed by its heartbeats long after it is found out otherwise."""

CHECK_INTERVAL = 2.0
"""Seconds between two probes of an agent where probing alone finds out; the default would take an hour."""

DEFAULT_CHECK_INTERVAL: float = Settings.model_fields["health_check_interval"].default
PROBE_TIMEOUT: float = Settings.model_fields["probe_timeout"].default
"""Seconds."""

SETTLED = Settings.model_fields["reconnect_grace"].default + 1.0
"""Seconds after the registry has started until it judges who is not there."""

AIM = 0.25
"""Seconds from a death that NATS tells of, or that a probe finds, to its event."""

PATIENCE = 15.0
"""Seconds beyond what a detection may take at most after which a measurement has failed."""

REST = 0.1
"""Seconds from one loss, repaired, to the next at least."""

SEED = 7


class Losing:
    """Agents that are lost one after the other.

    Args:
        crew: The agents.
        listener: Hears what is told of them.
        detection: What is found.
    """

    def __init__(self, crew: Crew, listener: Listener, detection: Detection) -> None:
        self._crew = crew
        self._listener = listener
        self._detection = detection
        self._chance = random.Random(SEED)

    async def run(
        self,
        runs: int,
        number: signal.Signals,
        to: str,
        *,
        within: float,
        spread: float,
        repair: Callable[[AgentProcess], Awaitable[None]],
    ) -> None:
        """Send a signal to an agent, wait until it is told to have moved to a status, repair it; again and again.

        Args:
            runs: How often; each agent twice at most.
            number: The signal.
            to: The status.
            within: Seconds after which waiting is given up.
            spread: Seconds over which the moments of the losses are spread.
            repair: Brings the agent back.

        Raises:
            BenchError: If an agent's loss, or its return, is not told of in time.
        """
        for process in islice(self._crew.drawn(self._chance), runs):
            since = len(self._listener.heard)
            await asyncio.sleep(self._chance.uniform(REST, REST + spread))
            lost_at = time.monotonic()
            os.kill(process.pid, number)
            *before, event = await self._listener.until(process.name, to, since, within)
            self._detection.seconds.append(event.at - lost_at)
            self._detection.reasons.append(event.reason)
            await repair(process)
            others = [heard for heard in self._listener.heard[since:] if heard.agent_id != process.name]
            self._detection.otherwise += [f"{heard.agent_id}: {heard}" for heard in (*before, *others)]

    async def replace(self, process: AgentProcess) -> None:
        """Start a killed agent again."""
        await process.ended()
        await self._crew.start_one(process)

    async def go_on(self, process: AgentProcess) -> None:
        """Let a stopped agent go on, and wait until it is told to have recovered."""
        since = len(self._listener.heard)
        os.kill(process.pid, signal.SIGCONT)
        *before, event = await self._listener.until(process.name, "active", since, CHECK_INTERVAL + PATIENCE)
        told = [heard for heard in before if heard.to != "degraded"]  # it may be found to be slow first
        told += [] if event.reason == "recovered" else [event]
        self._detection.otherwise += [f"{process.name}: {heard}" for heard in told]


async def killed(agents: int, runs: int) -> Detection:
    """Kill agents of a registry that hears of connections that end."""
    found = Detection("kill -9 of an agent", "offline", AIM)
    async with _up() as registry, _losing(agents, registry.url, found) as losing:
        within = DEFAULT_CHECK_INTERVAL + PATIENCE
        await losing.run(runs, signal.SIGKILL, "offline", within=within, spread=0.4, repair=losing.replace)
    return found


async def unwatched(agents: int, runs: int) -> Detection:
    """Kill agents of a registry that hears of nothing, and has to ask."""
    found = Detection("kill -9 of an agent, NATS without a system account", "offline", CHECK_INTERVAL + AIM)
    async with _serve(health_check_interval=CHECK_INTERVAL) as registry, _losing(agents, registry.url, found) as losing:
        within, spread = CHECK_INTERVAL + PATIENCE, CHECK_INTERVAL  # at any point between two probes
        await losing.run(runs, signal.SIGKILL, "offline", within=within, spread=spread, repair=losing.replace)
    return found


async def stopped(agents: int, runs: int) -> Detection:
    """Stop agents, whose connections stay open: they are to be told to hang, and not to be gone."""
    found = Detection("SIGSTOP of an agent", "degraded", CHECK_INTERVAL + PROBE_TIMEOUT)
    async with _up(health_check_interval=CHECK_INTERVAL) as registry, _losing(agents, registry.url, found) as losing:
        within, spread = CHECK_INTERVAL + PROBE_TIMEOUT + PATIENCE, CHECK_INTERVAL
        await losing.run(runs, signal.SIGSTOP, "degraded", within=within, spread=spread, repair=losing.go_on)
    return found


@asynccontextmanager
async def _up(**settings: float) -> AsyncIterator[RegistryProcess]:
    with tempfile.TemporaryDirectory(prefix="agent-registry-bench-") as folder:
        where = ("--port", "0", "--store", f"{folder}/store")
        async with _running(RegistryProcess(Path(folder), "up", *where, **settings)) as registry:
            yield registry


@asynccontextmanager
async def _serve(**settings: float) -> AsyncIterator[RegistryProcess]:
    with Server() as server:
        process = RegistryProcess(server.directory, "serve", "--nats", server.url, **settings)
        async with _running(process) as registry:
            yield registry


@asynccontextmanager
async def _running(registry: RegistryProcess) -> AsyncIterator[RegistryProcess]:
    try:
        await registry.start()
        yield registry
    finally:
        await registry.stop()


@asynccontextmanager
async def _losing(agents: int, url: str, detection: Detection) -> AsyncIterator[Losing]:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="agent-registry-bench-"))
        nc = await connect(url)
        stack.push_async_callback(nc.close)
        listener = Listener(nc)
        await listener.start()
        crew = Crew(agents, url, Path(folder), listener, HEARTBEAT_INTERVAL)
        stack.push_async_callback(crew.end)
        await crew.start()
        await asyncio.sleep(max(0.0, started + SETTLED - time.monotonic()))
        yield Losing(crew, listener, detection)
