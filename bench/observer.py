"""Who sees what the leader writes: its lease in the control bucket and its events in their stream, once stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from agents_sdk.protocol.subjects import Subjects
from bench.processes import BenchError

SUBJECTS = Subjects()

IDLE_HEARTBEAT = 0.5
"""Seconds; after two without one the consumer is made anew."""


async def connect(url: str) -> Client:
    """Connect for as long as it takes; what nats-py finds wrong meanwhile was done on purpose.

    Args:
        url: Where NATS listens; several URLs, comma-separated, for a cluster.
    """

    async def expected(_: Exception) -> None: ...

    return await nats.connect(
        url.split(","), max_reconnect_attempts=-1, reconnect_time_wait=0.1, ping_interval=5, error_cb=expected
    )


class Observer:
    """Notes the instant at which each leader's first lease and first event arrived, by its epoch.

    Args:
        nc: A connection to NATS.
    """

    def __init__(self, nc: Client) -> None:
        self.leases: dict[int, float] = {}
        self.events: dict[int, float] = {}
        self._nc = nc
        self._heard = asyncio.Event()

    async def start(self) -> None:
        """Look from now on."""
        bucket = SUBJECTS.control_bucket
        for seen, subject, stream in (
            (self.leases, f"$KV.{bucket}.leader", f"KV_{bucket}"),
            (self.events, SUBJECTS.registry_event("leader_changed"), SUBJECTS.events_stream),
        ):
            await self._nc.jetstream().subscribe(
                subject, stream=stream, cb=self._noting(seen), ordered_consumer=True,
                deliver_policy=DeliverPolicy.NEW, idle_heartbeat=IDLE_HEARTBEAT,
            )  # fmt: skip

    async def next_leader(self, epoch: int, within: float) -> int:
        """Wait until a leader after that of `epoch` has written its lease and its first event; return its epoch.

        Raises:
            BenchError: If none does in time.
        """
        try:
            async with asyncio.timeout(within):
                while not (found := {new for new in self.leases if new > epoch and new in self.events}):
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            raise BenchError(f"after the leader of epoch {epoch} was lost, none followed within {within:g} s") from None
        return min(found)

    def _noting(self, seen: dict[int, float]):
        async def note(msg: Msg) -> None:
            at, told = time.monotonic(), json.loads(msg.data)
            if told["replica"]:  # a lease that was handed over has no holder
                seen.setdefault(told["epoch"], at)
                self._heard.set()

        return note


async def told_of(nc: Client) -> dict[str, list[str]]:
    """Return what the stream tells of each agent, in order: where it moved to, and `removed` for its end."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    read = asyncio.Event()

    async def note(msg: Msg) -> None:
        event = json.loads(msg.data)
        told[event["agent_id"]].append("removed" if event["removed"] else event["to"])
        if msg.metadata.num_pending == 0:
            read.set()

    subscription = await nc.jetstream().subscribe(
        SUBJECTS.events_of("status"), stream=SUBJECTS.events_stream, cb=note, ordered_consumer=True,
        deliver_policy=DeliverPolicy.ALL, idle_heartbeat=IDLE_HEARTBEAT,
    )  # fmt: skip
    async with asyncio.timeout(60.0):
        await read.wait()
    await subscription.unsubscribe()
    return told
