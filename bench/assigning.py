"""What `registry.assign` gives callers: how long tasks take beside other ways to choose an agent, and how fast it is.

Agents with one worker each live in this process and do nothing but sleep; the registry is a process of its own. Tasks
come at random, as fast as keeps the agents busy for `BUSY` of their time, whoever is ready to take them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import nats

from bench.policies import POLICIES, Task, arrivals, responses
from bench.processes import BenchError
from bench.registries import RegistryProcess

AGENTS = 20
CALLERS = 50
BUSY = 0.8
SERVICE = 0.05
"""Seconds that a task takes in the mean."""

PERIOD = 10 * SERVICE
"""Seconds between two reports of an agent's load."""

WITHIN = 60.0
"""Seconds to wait for an agent, and for an answer."""

PIPELINED = 64
"""Requests on their way at once when it is measured how many there can be."""

SEED = 11


@dataclass(frozen=True)
class Waited:
    """How long tasks took from their arrival to their end, in times of the mean service."""

    way: str
    mean: float
    p99: float
    tasks: int


@dataclass(frozen=True)
class Speed:
    """How many assignments one replica makes a second, and seconds that each takes."""

    per_second: float
    p50: float
    p99: float
    callers: int


@dataclass(frozen=True)
class Assigning:
    """What was measured, and what was found wrong."""

    waited: list[Waited]
    speeds: list[Speed]
    twice: int
    """Slots that had two tasks at once, and tokens that did not grow."""

    def as_json(self):
        return asdict(self)


class Worker:
    """An agent with one worker; what comes meanwhile waits its turn."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.present = 0
        self.most = 0
        self._turn = asyncio.Lock()

    async def do(self, seconds: float) -> None:
        self.present += 1
        self.most = max(self.most, self.present)
        async with self._turn:
            await asyncio.sleep(seconds)
        self.present -= 1


class Field:
    """The agents, and the way to the registry."""

    def __init__(self, nc, slots: int | None) -> None:
        self.nc = nc
        self.slots = slots
        self.kind = "one" if slots else "many"
        self.workers = {f"{self.kind}-{n}": Worker(f"{self.kind}-{n}") for n in range(AGENTS)}
        self.tokens: list[int] = []

    async def ask(self, operation: str, **fields):
        answer = await self.nc.request(f"registry.{operation}", json.dumps(fields).encode(), timeout=WITHIN)
        body = json.loads(answer.data)
        if "error" in body:
            raise BenchError(f"{operation}: {body['error']['message']}")
        return body

    async def register(self) -> None:
        for agent_id in self.workers:
            registration = {"agent_type": self.kind, "capabilities": ["trading"], "heartbeat_interval": PERIOD}
            limit = {"max_concurrency": self.slots} if self.slots else {}
            await self.ask("register", agent_id=agent_id, heartbeat_timeout=600.0, **registration, **limit)

    async def report(self, worker: Worker) -> None:
        """Tell the load again and again, each agent at another time."""
        await asyncio.sleep(PERIOD * (crc32(worker.agent_id.encode()) % 100) / 100)
        while True:
            load = min(1.0, worker.present / (self.slots or 10))
            subject = f"registry.heartbeat.{worker.agent_id}"
            await self.nc.publish(subject, json.dumps({"load_factor": load}).encode())
            await asyncio.sleep(PERIOD)

    async def work(self, tasks: list[Task]) -> list[float]:
        """Do all tasks, by so many callers; return how long each took."""
        started, coming, found = time.perf_counter(), iter(tasks), []

        async def call() -> None:
            for task in coming:
                await asyncio.sleep(max(0.0, started + task.at - time.perf_counter()))
                won = await self.ask("assign", agent_type=self.kind, ttl=600.0, wait=WITHIN - 1.0)
                self.tokens.append(won["fencing_token"])
                await self.workers[won["agent"]["agent_id"]].do(task.service)
                found.append(time.perf_counter() - started - task.at)
                await self.ask("release", assignment_id=won["assignment_id"])

        reporting = [asyncio.ensure_future(self.report(worker)) for worker in self.workers.values()]
        await asyncio.gather(*(call() for _ in range(CALLERS)))
        for task in reporting:
            task.cancel()
        return found

    def twice(self) -> int:
        repeated = sum(count - 1 for count in Counter(self.tokens).values())
        beyond = sum(max(0, worker.most - self.slots) for worker in self.workers.values()) if self.slots else 0
        return repeated + beyond


async def measure(tasks: int) -> Assigning:
    """Give so many tasks to agents with one slot, a fifth as many to agents with a queue; then as many as it takes."""
    with tempfile.TemporaryDirectory(prefix="agent-registry-bench-") as folder:
        where = ("--port", "0", "--store", f"{folder}/store")
        registry = RegistryProcess(Path(folder), "up", *where, auto_scaling_enabled=0)
        try:
            await registry.start()
            nc = await nats.connect(registry.url)
            try:
                return await _measure(nc, arrivals(tasks, AGENTS, SERVICE, BUSY, SEED))
            finally:
                await nc.close()
        finally:
            await registry.stop()


async def _measure(nc, tasks: list[Task]) -> Assigning:
    waited, twice = [], 0
    queued = tasks[: max(1, len(tasks) // 5)]
    for slots, given, way in (
        (1, tasks, "registry.assign, one slot each"),
        (None, queued, "registry.assign, no limit"),
    ):
        field = Field(nc, slots)
        await field.register()
        waited.append(_waited(way, await field.work(given)))
        twice += field.twice()
    waited += [_waited(f"{way}, stale loads", responses(way, tasks, AGENTS, PERIOD, SEED)) for way in POLICIES]
    speeds = [await _speed(nc, callers) for callers in (1, PIPELINED)]
    return Assigning(waited, speeds, twice)


async def _speed(nc, callers: int, seconds: float = 3.0) -> Speed:
    """Ask for assignments and release them, as fast as they come."""
    field, took, until = Field(nc, None), [], time.perf_counter() + seconds

    async def call() -> None:
        while (now := time.perf_counter()) < until:
            won = await field.ask("assign", agent_type="many", ttl=600.0)
            took.append(time.perf_counter() - now)
            await field.ask("release", assignment_id=won["assignment_id"])

    await asyncio.gather(*(call() for _ in range(callers)))
    took.sort()
    return Speed(len(took) / seconds, statistics.median(took), took[int(0.99 * (len(took) - 1))], callers)


def _waited(way: str, seconds: list[float]) -> Waited:
    ordered = sorted(seconds)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    return Waited(way, statistics.fmean(ordered) / SERVICE, p99 / SERVICE, len(ordered))
