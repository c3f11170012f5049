"""One run: replicas, a NATS server, clients, agents that beat, faults; and the history of it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import nats
import orjson
from nats.aio.client import Client as NatsClient
from nats.js.api import ConsumerConfig, DeliverPolicy, KeyValueConfig, StorageType

from agents_sdk import RegistryClient, ServiceQuery
from agents_sdk.cancelling import cancel
from agents_sdk.connection import Connection
from agents_sdk.dial import Address
from agents_sdk.directory import Joined, Left, Snapshot
from agents_sdk.protocol.errors import RegistryError
from tests.robustness.checks import each_change_is_one_event
from tests.robustness.clients import CAPABILITY, Beating, Client
from tests.robustness.faults import Faults
from tests.robustness.history import Entry, History, Outcome
from tests.robustness.replicas import ReplicaProcess
from tests.sdk.outage import Server

BUCKET = "registry_agents"
HISTORY = 64
"""Revisions of each agent that the bucket keeps in a run, so that its log is whole at the end."""

CLIENTS_PER_CONNECTION = 16
SETTLING = 30.0
"""Seconds after the last fault within which every event is out."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        seed: Of everything that is drawn. The same seed gives the same faults, not the same timing.
        operations: Acknowledged changes after which the run may end.
        faults: Faults after which the run may end.
        pause: Seconds between two operations of a client, on average.
        clients: Clients at once.
        replicas: Replicas at once.
        beating: Agents that beat.
        interval: Seconds between two of their beats.
        lease: Seconds of the leader's lease.
        longest_stop: Seconds for which a replica is stopped at most.
        seconds: When to end at the latest.
    """

    seed: int
    operations: int = 20_000
    faults: int = 40
    pause: float = 0.2
    clients: int = 64
    replicas: int = 2
    beating: int = 300
    interval: float = 2.0
    lease: float = 2.0
    longest_stop: float = 8.0
    seconds: float = 480.0


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    history: History
    faults: dict[str, int]
    beats: int
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """How many operations ended how."""
        outcomes = [operation.outcome for operation in self.history.operations]
        return {str(outcome): outcomes.count(outcome) for outcome in Outcome}


async def run(plan: Plan, folder: Path, tell: Callable[[str], None]) -> Result:
    """Carry out a plan.

    Args:
        plan: What to do.
        folder: Where stores and logs go.
        tell: Takes a line now and then, for a person.
    """
    began, random = time.monotonic(), Random(plan.seed)
    settings = {"AGENT_REGISTRY_LEADER_LEASE": str(plan.lease), "AGENT_REGISTRY_LOG_LEVEL": "info"}
    server = Server(folder)
    replicas = [ReplicaProcess(server.url, folder / f"replica-{n}", settings) for n in range(plan.replicas)]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.kill)
        for replica in replicas:
            stack.push_async_callback(replica.kill)
        await server.start()
        await _prepare(server.url)
        for replica in replicas:
            await replica.serving()
        history = History()
        faults = Faults(Random(random.random()), server, replicas, f"KV_{BUCKET}", plan.longest_stop)
        beats = await _load(plan, random, server.url, history, faults, tell)
        done = dict(faults.done)
        return Result(history, done, beats, time.monotonic() - began)


async def _load(
    plan: Plan, random: Random, url: str, history: History, faults: Faults, tell: Callable[[str], None]
) -> int:
    """Let the clients and the faults run, then collect what is left; return how many beats were sent."""
    deadline = time.monotonic() + plan.seconds
    connections = [Connection(Address((url,))) for _ in range(1 + plan.clients // CLIENTS_PER_CONNECTION)]
    for connection in connections:
        await connection.open()
    beating = Beating(connections[0], plan.beating, plan.interval)
    await beating.register()
    history.beating = frozenset(beating.agents)
    clients = [
        Client(number, connections[number % len(connections)], Random(random.random()), history, plan.pause)
        for number in range(plan.clients)
    ]

    def acknowledged() -> int:
        return sum(one.outcome is Outcome.DONE for one in history.operations)

    over = False
    async with RegistryClient(url, timeout=10.0) as registry:
        watching = asyncio.create_task(_watch(registry, history))
        beats, breaking = asyncio.create_task(beating.run()), asyncio.create_task(faults.run(lambda: over))
        working = [asyncio.create_task(client.run(lambda: over)) for client in clients]
        while not over:
            await asyncio.sleep(1.0)
            done = acknowledged()
            tell(f"{done} acknowledged, {len(history.operations)} asked, faults: {dict(faults.done)}")
            enough = done >= plan.operations and faults.done.total() >= plan.faults
            over = enough or time.monotonic() > deadline or breaking.done()
        await asyncio.gather(*working, breaking)
        await faults.heal()
        await cancel(beats)
        await _collect(url, history)
        await _agree(registry, history)
        if watching.done():
            await watching
        await cancel(watching)
    for connection in connections:
        await connection.close()
    return beating.beats


async def _prepare(url: str) -> None:
    """Make the bucket before a replica does, with a longer history than it would."""
    nc = await nats.connect(url)
    await nc.jetstream().create_key_value(
        KeyValueConfig(bucket=BUCKET, history=HISTORY, storage=StorageType.FILE, direct=True, limit_marker_ttl=3600)
    )
    await nc.close()


async def _watch(registry: RegistryClient, history: History) -> None:
    """Follow the clients' agents through everything."""
    found: set[str] = set()
    while True:
        try:
            async for change in registry.watch(ServiceQuery(capabilities={CAPABILITY})):
                if isinstance(change, Snapshot):
                    found = {agent.agent_id for agent in change.agents}
                elif isinstance(change, Joined):
                    found.add(change.agent.agent_id)
                elif isinstance(change, Left):
                    found.discard(change.agent_id)
                history.watched = frozenset(found)
        except RegistryError:
            await asyncio.sleep(0.5)  # the first snapshot could not be had; only the beginning of a watch may say so


async def _agree(registry: RegistryClient, history: History) -> None:
    """Give the watch the time to see the last change."""
    query = ServiceQuery(capabilities={CAPABILITY}, min_health_score=0.0, max_load_factor=1.0, limit=1000)
    deadline = time.monotonic() + SETTLING
    while time.monotonic() < deadline:
        history.listed = frozenset(agent.agent_id for agent in await registry.discover_agents(query))
        if history.listed == history.watched:
            return
        await asyncio.sleep(0.2)


async def _collect(url: str, history: History) -> None:
    """Read the bucket's log and the stream of events once nothing is missing there, or time is up."""
    nc = await nats.connect(url)
    deadline = time.monotonic() + SETTLING

    async def entry(msg: Any) -> None:
        removed = (msg.headers or {}).get("KV-Operation") in ("DEL", "PURGE")
        record = orjson.loads(msg.data) if msg.data else {}
        history.log.append(Entry(msg.metadata.sequence.stream, msg.subject.rpartition(".")[2], record, removed))

    async def event(msg: Any) -> None:
        history.events.append(orjson.loads(msg.data))

    while True:
        history.log.clear()
        history.events.clear()
        await _read(nc, f"KV_{BUCKET}", f"$KV.{BUCKET}.>", entry)
        await _read(nc, "REGISTRY_EVENTS", "registry.events.status.>", event)
        if time.monotonic() > deadline or not each_change_is_one_event(history):
            break
        await asyncio.sleep(0.5)
    await nc.close()


async def _read(nc: NatsClient, stream: str, subject: str, take: Callable[[Any], Awaitable[None]]) -> None:
    """Hand over every message of a stream."""
    subscription = await nc.jetstream().subscribe(
        subject, stream=stream, ordered_consumer=True, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    )
    pending = 1
    while pending:
        msg = await subscription.next_msg(timeout=5.0)
        await take(msg)
        pending = msg.metadata.num_pending
    await subscription.unsubscribe()
