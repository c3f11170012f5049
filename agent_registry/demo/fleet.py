"""The processes of the demo: started, stopped, killed, each by its own pid, and none left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent_registry.demo.roles import ROLE_OF

STOP_TIMEOUT = 8.0
"""Seconds that a process gets to finish its work before it is killed."""


class Fleet:
    """Processes by name.

    Args:
        folder: Where each process's log goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, Process] = {}
        self._roles: dict[str, str] = {}
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
        self._stopping = False
        self.environment: dict[str, str] = {}
        """What every process finds in its environment."""

    async def start_registry(self, store: Path, ready_file: Path, settings: Mapping[str, str]) -> Process:
        """Start the registry, with a NATS of its own."""
        return await self._start("registry", ["registry", str(store), str(ready_file)], settings)

    async def start(self, capability: str) -> str:
        """Start an agent that has a capability and return its id; it registers when it is up."""
        role = ROLE_OF[capability]
        agent_id = f"{role}-{next(self._numbers[role])}"
        self._roles[agent_id] = role
        await self._start(agent_id, [role, agent_id], {})
        return agent_id

    def running(self, capability: str) -> list[str]:
        """Return the ids of those that were started for a capability and whose process runs."""
        return [name for name, role in self._roles.items() if role == ROLE_OF[capability] and self._runs(name)]

    def ended(self) -> list[str]:
        """Return the agents whose process has ended."""
        return [name for name in self._roles if name in self._processes and not self._runs(name)]

    def stop(self, name: str) -> None:
        """Ask a process to finish its work and end; one that has ended already, or is not ours, is no matter."""
        if self._runs(name):
            self._processes[name].terminate()

    def kill(self, name: str) -> None:
        """End a process as a crash would, without a chance to say goodbye."""
        if self._runs(name):
            self._processes[name].kill()

    def kill_all(self) -> None:
        """End everything at once."""
        for name in self._processes:
            self.kill(name)

    async def close(self) -> None:
        """End everything: the agents first, while there is still a registry to say goodbye to."""
        self._stopping = True
        agents = [name for name in self._processes if name in self._roles]
        await self._end(agents)
        await self._end([name for name in self._processes if name not in self._roles])

    def last_words(self, name: str) -> str:
        """Return the last line that a process logged."""
        lines = self._log(name).read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    async def _start(self, name: str, arguments: list[str], settings: Mapping[str, str]) -> Process:
        if self._stopping:
            raise RuntimeError("the demo is ending; nothing is started any more")
        with self._log(name).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "agent_registry.demo.child", *arguments),
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=log,
                env={**_neutral_environment(), **self.environment, **settings},
                start_new_session=True,  # Ctrl-C is for the demo, which ends the others in order
            )
        self._processes[name] = process
        return process

    async def _end(self, names: list[str]) -> None:
        for name in names:
            self.stop(name)
        waiting = [asyncio.ensure_future(self._processes[name].wait()) for name in names]
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_TIMEOUT)
        for name in names:
            self.kill(name)
        await asyncio.gather(*waiting)

    def _runs(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.returncode is None

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def _neutral_environment() -> dict[str, str]:
    """Return this environment without the settings that a person has for a registry of their own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "AGENT_REGISTRY_NATS_SERVER" or not name.startswith(("AGENT_REGISTRY_", "NATS_"))
    }
