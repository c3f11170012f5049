"""The processes of the demo: a registry with a NATS of its own, and agents; none is left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents_sdk import ProcessLauncher

STOP_TIMEOUT = 8.0
"""Seconds that a process gets to finish its work before it is killed."""

MAX_AGENTS = 20

_CHILD = (sys.executable, "-m", "agent_registry.demo.child")
"""What every process of the demo is; it ends when its standard input does, and so with the demo."""


class Fleet:
    """Starts the registry, and has a launcher for the agents.

    Args:
        folder: Where each process's log goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._registry: Process | None = None
        self._launcher: ProcessLauncher | None = None

    async def start_registry(self, store: Path, ready_file: Path, settings: Mapping[str, str]) -> Process:
        """Start the registry, with a NATS of its own."""
        with (self._folder / "registry.log").open("wb") as log:
            self._registry = await asyncio.create_subprocess_exec(
                *(*_CHILD, "registry", str(store), str(ready_file)),
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=log,
                env={**_neutral_environment(), **settings},
                start_new_session=True,  # Ctrl-C is for the demo, which ends the others in order
            )
        return self._registry

    def launcher(self, nats: str, say: Callable[[str], None]) -> ProcessLauncher:
        """Return what starts agents. One that crashes is not started again: the demo shows that the registry notices.

        Args:
            nats: Where the registry is.
            say: Told in words what happens to processes.
        """
        from agents_sdk import ProcessLauncher

        self._launcher = ProcessLauncher(
            (*_CHILD, "{capability}", "{agent_id}"),
            folder=self._folder,
            max_processes=MAX_AGENTS,
            environment={**_neutral_environment(), "NATS_URL": nats},
            grace=STOP_TIMEOUT,
            max_restarts=0,
            say=say,
            standard_input=PIPE,
        )
        return self._launcher

    def kill_all(self) -> None:
        """End everything at once."""
        if self._launcher is not None:
            self._launcher.kill()
        if self._registry is not None and self._registry.returncode is None:
            self._registry.kill()

    async def close(self) -> None:
        """End the registry, to which the agents have said goodbye."""
        registry = self._registry
        if registry is None or registry.returncode is not None:
            return
        registry.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await registry.wait()
        except TimeoutError:
            registry.kill()
            await registry.wait()

    def last_words(self, name: str) -> str:
        """Return the last line that a process logged."""
        from agents_sdk.child import last_line

        return last_line(self._folder / f"{name}.log") or "it said nothing"


def _neutral_environment() -> dict[str, str]:
    """Return this environment without the settings that a person has for a registry of their own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "AGENT_REGISTRY_NATS_SERVER" or not name.startswith(("AGENT_REGISTRY_", "NATS_"))
    }
