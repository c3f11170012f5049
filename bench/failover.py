"""How long the registry is without a leader when it loses one, and what its callers notice.

Two replicas with the default settings on one NATS server, each a process of its own. The instant of a loss is that at
which this process sends the signal, the instant of a write that at which it has come back here from JetStream.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from agents_sdk import RegistryClient
from agents_sdk.protocol.statistics import Presence
from bench.callers import Callers
from bench.observer import Observer, connect, told_of
from bench.processes import BenchError
from bench.spans import Losses, Noticed, Spans
from bench.waiting import until
from deploy.cluster.replica import ReplicaProcess
from registry.settings import Settings
from registry.shell.election import RENEWALS
from registry.shell.embedded import NatsServer

LEASE: float = Settings.model_fields["leader_lease"].default
"""Seconds."""

WITHIN = 30.0
"""Seconds after which a measurement has failed."""

LIFE = ["active", "suspended", "active", "removed"]
"""What the events tell of an agent of `Callers`."""


class Pair:
    """Two replicas, of which one leads.

    Args:
        url: Where NATS listens.
        folder: For their logs.
        client: A client of theirs.
    """

    def __init__(self, url: str, folder: Path, client: RegistryClient) -> None:
        self._processes = [ReplicaProcess(f"replica-{number}", folder, url, copies=1) for number in (1, 2)]
        self._ids: dict[str, ReplicaProcess] = {}
        self._client = client

    async def start(self) -> None:
        """Start both."""
        for process in self._processes:
            await self.start_one(process)

    async def start_one(self, process: ReplicaProcess) -> None:
        """Start one, and learn its id."""
        self._ids = {replica: known for replica, known in self._ids.items() if known is not process}
        await process.start()
        for presence in await self._client.replicas():
            self._ids.setdefault(presence.replica, process)

    async def leader(self) -> tuple[ReplicaProcess, int]:
        """Return the process that leads, and its epoch, once both replicas are there and one of them leads.

        Raises:
            BenchError: If that does not come about.
        """

        async def look() -> Presence | None:
            present = await self._client.replicas()
            leading = [each for each in present if each.leader]
            return leading[0] if len(present) == 2 and len(leading) == 1 else None

        presence = await until(look, "two replicas are there, and one of them leads", WITHIN)
        return self._ids[presence.replica], presence.leader_epoch

    async def stop(self) -> None:
        """End both."""
        await asyncio.gather(*(process.stop() for process in self._processes))


async def kills(runs: int) -> Losses:
    """Kill the leader, and start another replica in its place."""

    async def replace(pair: Pair, leader: ReplicaProcess) -> None:
        await leader.ended()
        await pair.start_one(leader)

    return await _lose_leaders(runs, "kill -9 of the leading replica", ReplicaProcess.kill, replace, None)


async def stops(runs: int) -> Losses:
    """Let the leader stand still, and go on when it has been replaced."""

    async def go_on(_: Pair, leader: ReplicaProcess) -> None:
        await asyncio.sleep(random.uniform(0.0, 5.0))  # NATS gives it up after 10 to 15 s: before that, and after
        os.kill(leader.pid, signal.SIGCONT)

    def stop(leader: ReplicaProcess) -> None:
        os.kill(leader.pid, signal.SIGSTOP)

    return await _lose_leaders(runs, "SIGSTOP of the leading replica", stop, go_on, LEASE + 2.0)


async def _lose_leaders(
    runs: int,
    loss: str,
    lose: Callable[[ReplicaProcess], None],
    repair: Callable[[Pair, ReplicaProcess], Awaitable[None]],
    limit: float | None,
) -> Losses:
    leases = Spans(loss, "the next leader's lease is in the control bucket", limit)
    events = Spans(loss, "its event leader_changed is in the stream", limit)
    callers = Callers()
    async with _pair() as (pair, nc, url):
        observer = Observer(nc)
        await observer.start()
        for run in range(runs):
            async with callers.calling(url, f"run-{run}"):
                leader, epoch = await pair.leader()
                await asyncio.sleep(random.uniform(0.0, LEASE / RENEWALS))  # at any point between two renewals
                lost_at = time.monotonic()
                lose(leader)
                successor = await observer.next_leader(epoch, WITHIN)
                leases.seconds.append(observer.leases[successor] - lost_at)
                events.seconds.append(observer.events[successor] - lost_at)
                await repair(pair, leader)
                _, now = await pair.leader()
                if now != successor:
                    raise BenchError(f"when the lost leader was back, the leader changed: from {successor} to {now}")
        told = await told_of(nc)
    wrong = {agent_id: told[agent_id] for agent_id in callers.lives if told[agent_id] != LIFE}
    return Losses([leases, events], [Noticed(loss, callers.queries), Noticed(loss, callers.commands, wrong)])


@asynccontextmanager
async def _pair() -> AsyncIterator[tuple[Pair, Client, str]]:
    server = await NatsServer.start(port=0, store=None)
    try:
        nc = await connect(server.url)
        async with RegistryClient(nc) as client:
            with tempfile.TemporaryDirectory(prefix="agent-registry-bench-") as folder:
                pair = Pair(server.url, Path(folder), client)
                try:
                    await pair.start()
                    yield pair, nc, server.url
                finally:
                    await pair.stop()
        await nc.close()
    finally:
        await server.stop()
