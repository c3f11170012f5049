"""A run of the loop: everything is started, watched while a shape of load passes, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import nats

from agents_sdk import AgentInfo, RegistryClient, RegistryError, ServiceQuery
from agents_sdk.protocol.scaling import CapabilityScaling, ScalingOrder
from tests.cli.running import Running, Up, command, environment
from tests.conftest import eventually

CAPABILITY = "trading"

LOOK_INTERVAL = 0.1
"""Seconds between two looks at what the registry says."""

PATIENCE = 60.0
"""Seconds that anything waited for may take."""


@dataclass(frozen=True)
class Plan:
    """What is played.

    Attributes:
        shape: Of the load, see `examples/load.py`.
        seconds: How long it takes.
        low: Calls a second where it is lowest.
        high: Calls a second where it is highest; 16 keep one agent busy.
        min_agents: The least there should be.
        max_agents: The most.
        interval: Seconds between two looks of the scaler.
        stabilisation: Seconds for which load must stay low.
    """

    shape: str = "step"
    seconds: float = 40.0
    low: float = 4.0
    high: float = 44.0
    min_agents: int = 2
    max_agents: int = 6
    interval: float = 1.0
    stabilisation: float = 5.0


@dataclass(frozen=True)
class Seen:
    """What the registry said at an instant, in seconds since the load began; before that it is negative."""

    at: float
    agents: int
    desired: int
    load: float | None
    reason: str


@dataclass
class Course:
    """What was seen of a run."""

    plan: Plan
    seen: list[Seen] = field(default_factory=list)
    orders: list[tuple[float, ScalingOrder]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """Instants at which the registry did not answer."""

    def between(self, begin: float, end: float) -> list[Seen]:
        """Return what was seen within a time."""
        return [seen for seen in self.seen if begin <= seen.at <= end]

    def ordered(self, begin: float, end: float) -> list[ScalingOrder]:
        """Return what was ordered within a time."""
        return [order for at, order in self.orders if begin <= at <= end]


class Loop:
    """Everything that takes part, each in a process of its own.

    Args:
        plan: What is played.
        folder: Where stores and logs go.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.course = Course(plan)
        self._folder = folder
        self._parts = AsyncExitStack()
        self._began = time.monotonic()
        self._up: Up | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._parts.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._parts.aclose()

    async def _start(self) -> None:
        plan = self.plan
        await self.start_registry()
        self.registry = await self._parts.enter_async_context(RegistryClient(self.url, timeout=2.0))
        await self.registry.set_scaling(
            CAPABILITY,
            min_agents=plan.min_agents,
            max_agents=plan.max_agents,
            stabilisation_down=plan.stabilisation,
            order_timeout=20.0,
        )
        launch = f"{sys.executable} examples/worker.py"
        arguments = ("orchestrate", "--launch", launch, "-c", CAPABILITY, "--max", plan.max_agents + 2)
        self.orchestrator = self._run("orchestrate", command(*map(str, arguments), "--log-dir", self._folder / "logs"))
        self._follow(self._look())
        self._follow(self._listen())

    def _run(self, name: str, arguments: list[str]) -> Running:
        running = Running(arguments, self._folder / name, environment(NATS_URL=self.url))
        self._parts.callback(running.__exit__, None, None, None)
        return running

    def _follow(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._parts.push_async_callback(end)

    async def start_registry(self) -> None:
        """Start the registry with its NATS; the second time on the store and the port of the first."""
        changes = {"AGENT_REGISTRY_SCALING_INTERVAL": f"{self.plan.interval:g}"}
        where = () if self._up is None else ("--port", self.url.rpartition(":")[2])
        self._up = await asyncio.to_thread(Up, self._folder / "up", *where, env=environment(**changes))
        self._parts.callback(self._up.__exit__, None, None, None)
        self.url = self._up.url

    async def restart_registry(self) -> None:
        """Kill the registry, as a crash would, and start it again."""
        assert self._up is not None
        self._up.process.kill()
        await asyncio.to_thread(self._up.process.wait)
        await self.start_registry()

    async def load(self) -> Running:
        """Begin the load."""
        plan = self.plan
        words = f"--shape {plan.shape} --low {plan.low:g} --high {plan.high:g} --seconds {plan.seconds:g}"
        self._began = time.monotonic()
        shift = self._began - self._since
        self.course.seen = [Seen(seen.at - shift, *_rest(seen)) for seen in self.course.seen]
        self.course.orders = [(at - shift, order) for at, order in self.course.orders]
        self._since = self._began
        return self._run("load", [sys.executable, "examples/load.py", CAPABILITY, *words.split()])

    _since = 0.0

    async def reached(self, condition: Callable[[Seen], bool], what: str) -> Seen:
        """Wait until something is seen.

        Raises:
            AssertionError: If it is not, in time.
        """
        deadline = time.monotonic() + PATIENCE
        begin = len(self.course.seen)
        while time.monotonic() < deadline:
            for seen in self.course.seen[begin:]:
                if condition(seen):
                    return seen
            begin = len(self.course.seen)
            await asyncio.sleep(LOOK_INTERVAL / 2)
        raise AssertionError(f"{what} was not seen in {PATIENCE:g} s; last: {self.course.seen[-3:]}")

    async def agents(self) -> list[str]:
        """Return the agents that can take work, the oldest first."""
        return [agent.agent_id for agent in await self._serving()]

    async def kill(self, agent_id: str) -> None:
        """End an agent as a crash would."""
        (agent,) = [agent for agent in await self._serving() if agent.agent_id == agent_id]
        os.kill(int(agent.metadata["pid"]), signal.SIGKILL)

    async def fall_ill(self, agent_id: str) -> None:
        """Have an agent say that it is not well."""
        nc = await nats.connect(self.url)

        async def is_told() -> bool:
            answer = await nc.request(f"agent.{agent_id}.ail", b"{}", timeout=5.0)
            return not answer.headers  # an error: it is full

        await eventually(is_told, within=PATIENCE)
        await nc.close()

    async def _serving(self) -> list[AgentInfo]:
        found = await self.registry.discover_agents(
            ServiceQuery({CAPABILITY}, min_health_score=0.0, max_load_factor=1.0, limit=100)
        )
        return sorted(found, key=lambda agent: agent.registered_at)

    async def _look(self) -> None:
        """Write down what the registry says, as an operator sees it with `scaling --watch`."""
        self._since = time.monotonic()
        while True:
            try:
                (item,) = (await self.registry.scaling(CAPABILITY)).capabilities
            except RegistryError:
                self.course.gaps.append(time.monotonic() - self._since)
            else:
                self.course.seen.append(_seen(time.monotonic() - self._since, item))
            await asyncio.sleep(LOOK_INTERVAL)

    async def _listen(self) -> None:
        async for event in self.registry.events("scaling"):
            if isinstance(event, ScalingOrder):
                self.course.orders.append((time.monotonic() - self._since, event))


def _seen(at: float, item: CapabilityScaling) -> Seen:
    return Seen(at, item.observed.agents, item.desired, item.observed.mean_load, item.reason)


def _rest(seen: Seen) -> tuple[int, int, float | None, str]:
    return seen.agents, seen.desired, seen.load, seen.reason
