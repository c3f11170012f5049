"""A registry as a person starts it: `agent-registry`, a process of its own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from registry.shell.child import Child

START_TIMEOUT = 30.0
"""Seconds."""


class RegistryProcess(Child):
    """One `agent-registry up` or `agent-registry serve`.

    Args:
        folder: For its log.
        arguments: The command and its arguments.
        settings: Settings other than their defaults; their names are those of the settings.

    Attributes:
        url: Where its NATS listens, once started.
    """

    def __init__(self, folder: Path, *arguments: str, **settings: float) -> None:
        self._ready_file = folder / "ready.json"
        super().__init__(
            "the registry",
            (sys.executable, "-m", "agent_registry", *arguments, "--ready-file", str(self._ready_file)),
            folder / "registry.log",
            environment={f"AGENT_REGISTRY_{name.upper()}": f"{value:g}" for name, value in settings.items()},
            with_parent=signal.SIGKILL,
            start_timeout=START_TIMEOUT,
        )
        self.url = ""

    async def start(self) -> None:
        """Start it and return when it answers.

        Raises:
            ServerError: If it does not.
        """
        with self.log.open("ab") as output:
            await self._begin(output)
        self.url = (await self._written(self._ready_file))["nats"]
