"""The demo behind the scenes: starts everything, lets the story happen, ends everything."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_registry.demo.fleet import Fleet
from agent_registry.demo.ledger import Ledger
from agent_registry.demo.load import Load
from agent_registry.demo.roles import ROLES
from agent_registry.demo.story import LIMITS, SCENES, Deed
from agent_registry.failure import CommandError, Exit

if TYPE_CHECKING:
    from agents_sdk import Orchestrator, ProcessLauncher, RegistryClient

START_TIMEOUT = 30.0
"""Seconds for everything to be up; a laptop takes three."""

LOOK_INTERVAL = 0.4

USUAL_SECONDS = 70.0
"""The length for which the times below are meant; a shorter demo has shorter ones."""

HEALTH_CHECK_INTERVAL = 1.0
SCALING_INTERVAL = 1.0
STABILISATION = 3.0
ORDER_TIMEOUT = 10.0


class Stage:
    """Everything that runs in a demo.

    Args:
        folder: For the registry's store and the logs.
        ledger: Where it is written down.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.fleet = Fleet(folder)
        self._folder = folder
        self._ledger = ledger
        self._pace = ledger.seconds / USUAL_SECONDS

    async def run(self) -> None:
        """Start everything, play the story to its end, end everything.

        Raises:
            CommandError: If something does not start or ends by itself.
        """
        from agents_sdk import RegistryError

        ledger = self._ledger
        try:
            ledger.nats = await self._start_registry()
            async with self._client() as registry:
                await self._set_policies(registry)
                async with self.fleet.launcher(ledger.nats, self._said) as launcher:
                    await self._orchestrate(registry, launcher)
        except RegistryError as error:
            said = self.fleet.last_words("registry")
            raise CommandError(f"the registry failed: {error}; its log says: {said}", code=Exit.UNREACHABLE) from error
        finally:
            ledger.ending = True
            await self.fleet.close()

    async def _orchestrate(self, registry: RegistryClient, launcher: ProcessLauncher) -> None:
        """Have orders carried out, and the story happen meanwhile."""
        from agents_sdk import Orchestrator

        ledger = self._ledger
        load = ledger.load = Load(registry, ledger.seconds)
        orchestrator = Orchestrator(registry, launcher, ROLES.values(), durable="demo-orchestrator", say=self._said)
        try:
            async with _together(self._listen(registry), self._look(registry), orchestrator.run()) as crew:
                await _unless(self._complete(orchestrator, launcher), crew)
                ledger.begun = time.monotonic()
                async with _together(load.run(ledger.begun)) as traffic:
                    await _unless(self._play(registry, launcher), crew + traffic)
        finally:
            ledger.ending = True

    def _said(self, words: str) -> None:
        self._ledger.note("orchestrator", words, "cyan")

    async def _start_registry(self) -> str:
        ready_file = self._folder / "ready.json"
        settings = {
            "HEALTH_CHECK_INTERVAL": f"{HEALTH_CHECK_INTERVAL:g}",
            "PROBE_TIMEOUT": "0.5",
            "SCALING_INTERVAL": f"{SCALING_INTERVAL:g}",
            "OFFLINE_RETENTION": f"{20 * self._pace:g}",
            "LOG_LEVEL": "warning",
        }
        environment = {f"AGENT_REGISTRY_{name}": value for name, value in settings.items()}
        process = await self.fleet.start_registry(self._folder / "store", ready_file, environment)
        deadline = time.monotonic() + START_TIMEOUT
        while not ready_file.exists():
            if process.returncode is not None or time.monotonic() > deadline:
                raise CommandError(
                    f"the registry does not start: {self.fleet.last_words('registry')}", code=Exit.UNREACHABLE
                )
            await asyncio.sleep(0.05)
        return str(json.loads(ready_file.read_text("utf-8"))["nats"])

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[RegistryClient]:
        from agents_sdk import RegistryClient

        async with RegistryClient(self._ledger.nats, name="agent-registry demo") as registry:
            yield registry

    async def _set_policies(self, registry: RegistryClient) -> None:
        for role, (fewest, most) in LIMITS.items():
            await registry.set_scaling(
                ROLES[role],
                min_agents=fewest,
                max_agents=most,
                stabilisation_down=round(STABILISATION * self._pace, 1),
                step_down=1,
                order_timeout=round(max(2.0, ORDER_TIMEOUT * self._pace), 1),
            )

    async def _complete(self, orchestrator: Orchestrator, launcher: ProcessLauncher) -> None:
        """Wait until there are as many agents as there should be."""
        deadline = time.monotonic() + START_TIMEOUT
        while any(self._ledger.serving(ROLES[role]) < fewest for role, (fewest, _) in LIMITS.items()):
            started = [agent_id for act in orchestrator.acts for agent_id in act.started]
            if ended := [agent_id for agent_id in started if agent_id not in launcher.agents]:
                raise CommandError(
                    f"{ended[0]} does not start: {self.fleet.last_words(ended[0])}", code=Exit.UNREACHABLE
                )
            if time.monotonic() > deadline:
                raise CommandError(f"the agents are not there after {START_TIMEOUT:g} s", code=Exit.UNREACHABLE)
            await asyncio.sleep(0.1)

    async def _play(self, registry: RegistryClient, launcher: ProcessLauncher) -> None:
        """Let each scene happen in its time."""
        ledger = self._ledger
        for scene, following in zip(SCENES, (*SCENES[1:], None), strict=True):
            if scene.deed is not None:
                ledger.victims[scene.deed] = self._victim(scene.deed)
            ledger.scene = scene
            if scene.deed is not None:
                await self._do(registry, launcher, scene.deed)
            ends = ledger.seconds * (1.0 if following is None else following.begins)
            await asyncio.sleep(max(0.0, ends - ledger.elapsed))

    def _victim(self, deed: Deed) -> str:
        """Choose whom it is done to: the oldest of its role; who was suspended is the one that is drained."""
        if deed == "drain":
            return self._ledger.victims["suspend"]
        capability = ROLES["risk" if deed == "crash" else "research"]
        return next(agent.agent_id for agent in self._ledger.agents if capability in agent.capabilities)

    async def _do(self, registry: RegistryClient, launcher: ProcessLauncher, deed: Deed) -> None:
        agent_id = self._ledger.victims[deed]
        match deed:
            case "crash":
                self._ledger.killed_at = time.time()
                launcher.kill(agent_id)
                self._ledger.note("demo", f"kill -9 {agent_id}", "bold red")
            case "suspend":
                await registry.suspend_agent(agent_id, "maintenance")
            case "drain":
                await registry.drain_agent(agent_id, "maintenance is over, it is replaced")

    async def _listen(self, registry: RegistryClient) -> None:
        async with aclosing(registry.events("status", "scaling")) as events:
            async for event in events:
                self._ledger.heard(event)

    async def _look(self, registry: RegistryClient) -> None:
        from agents_sdk import AgentStatus, ServiceQuery

        everyone = ServiceQuery(statuses=set(AgentStatus), min_health_score=0.0, max_load_factor=1.0, limit=1000)
        while True:
            agents = await registry.discover_agents(everyone)
            self._ledger.look(agents, (await registry.scaling()).capabilities)
            await asyncio.sleep(LOOK_INTERVAL)


@asynccontextmanager
async def _together(*works: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Have works done while the block lasts, and end them with it."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _unless(work: Coroutine[Any, Any, None], others: list[asyncio.Task[None]]) -> None:
    """Do the work, unless one of the others ends, which none of them should; then raise what ended it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, *others), return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            if other.done():
                other.result()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
