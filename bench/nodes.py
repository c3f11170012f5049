"""How long no registration is acknowledged when the cluster of `make cluster` loses a node.

Sixteen tasks of one client register as fast as they can: each an agent of its own, with other metadata each time, so
that every call is a write and an event, and the bucket stays as it is. The time is that between the last
acknowledgement before and the first one after, the longest of the run.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path

from nats.aio.client import Client

from agents_sdk import RegistryClient
from agents_sdk.protocol.subjects import Subjects
from bench.callers import Calls
from bench.copies import leader_of
from bench.observer import connect
from bench.spans import Losses, Noticed, Spans
from bench.waiting import until
from deploy.cluster.cluster import Cluster

SUBJECTS = Subjects()
STREAMS = (f"KV_{SUBJECTS.agents_bucket}", f"KV_{SUBJECTS.control_bucket}", SUBJECTS.events_stream)

TASKS = 16

ENOUGH = 1000
"""Acknowledgements after which registrations go on as before."""

WITHIN = 60.0
"""Seconds after which a measurement has failed."""


class Load:
    """Registrations without a pause.

    Attributes:
        acknowledged: The instants of all acknowledgements.
        calls: What became of the calls.
    """

    def __init__(self) -> None:
        self.acknowledged: list[float] = []
        self.calls = Calls("register")

    @asynccontextmanager
    async def running(self, url: str) -> AsyncIterator[None]:
        """Register for as long as the block lasts."""
        stop = asyncio.Event()
        async with RegistryClient(url) as client:
            working = [asyncio.ensure_future(self._register(client, number, stop)) for number in range(TASKS)]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*working)

    async def go_on(self) -> None:
        """Wait until registrations have gone on for a while.

        Raises:
            BenchError: If they do not.
        """
        wanted = len(self.acknowledged) + ENOUGH

        async def enough() -> bool:
            return len(self.acknowledged) >= wanted

        await until(enough, f"{ENOUGH} registrations are acknowledged", WITHIN)

    def pause_since(self, at: float) -> float:
        """Return the longest time without an acknowledgement that ended after an instant."""
        return max(after - before for before, after in pairwise(self.acknowledged) if after > at)

    async def _register(self, client: RegistryClient, number: int, stop: asyncio.Event) -> None:
        registration = {
            "agent_id": f"agent-{number}", "instance_id": "bench", "agent_type": "trading_agent",
            "capabilities": ["trading"],
        }  # fmt: skip
        for turn in count():
            if stop.is_set():
                return
            if await self.calls.take(client.register({**registration, "metadata": {"turn": turn}})):
                self.acknowledged.append(time.monotonic())


async def leaders(runs: int) -> Losses:
    """Kill the node that leads the bucket's stream."""
    return await _lose_nodes(
        runs, "kill -9 of the node that leads the bucket's stream", lambda node, leader: node == leader
    )


async def others(runs: int) -> Losses:
    """Kill a node that does not."""
    return await _lose_nodes(runs, "kill -9 of another node", lambda node, leader: node != leader)


async def _lose_nodes(runs: int, loss: str, is_meant: Callable[[str, str], bool]) -> Losses:
    pauses = Spans(loss, "registrations are acknowledged again")
    load = Load()
    async with _cluster() as (cluster, nc):
        for _ in range(runs):
            leader = await _in_sync(nc)
            async with load.running(cluster.url):
                await load.go_on()
                node = random.choice([node for node in cluster.nodes if is_meant(node.name, leader)])
                lost_at = time.monotonic()
                node.kill()
                await load.go_on()
                pauses.seconds.append(load.pause_since(lost_at))
            await node.ended()
            await node.start()
    return Losses([pauses], [Noticed(loss, load.calls)])


async def _in_sync(nc: Client) -> str:
    """Wait until all copies of every stream are in sync; return the node that leads the bucket's."""

    async def look() -> str | None:
        found = [await leader_of(nc, stream) for stream in STREAMS]
        return None if None in found else found[0]

    return await until(look, "all copies are in sync", WITHIN)


@asynccontextmanager
async def _cluster() -> AsyncIterator[tuple[Cluster, Client]]:
    with tempfile.TemporaryDirectory(prefix="agent-registry-bench-") as folder:
        cluster = Cluster(Path(folder), 0, lambda _: None)
        try:
            await cluster.start()
            nc = await connect(cluster.url)
            try:
                yield cluster, nc
            finally:
                await nc.close()
        finally:
            await cluster.stop()
