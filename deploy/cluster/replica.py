"""A replica of the registry, as a process of the cluster."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from registry.shell.child import Child

START_TIMEOUT = 60.0
"""Seconds until it answers: it waits for JetStream to be formed, on a machine on which everything starts at once."""


class ReplicaProcess(Child):
    """One `agent-registry serve`.

    Args:
        name: What it is called.
        folder: Where its log goes.
        nats: URLs of the nodes, comma-separated.
        copies: Copies that JetStream keeps of everything.
    """

    def __init__(self, name: str, folder: Path, nats: str, copies: int) -> None:
        self._ready_file = folder / f"{name}.json"
        super().__init__(
            name,
            (sys.executable, "-m", "agent_registry", "serve", "--nats", nats, "--ready-file", str(self._ready_file)),
            folder / f"{name}.log",
            environment={"AGENT_REGISTRY_KV_REPLICAS": str(copies)},
            with_parent=signal.SIGKILL,  # with its servers gone it would wait for them; it has nothing to lose
            start_timeout=START_TIMEOUT,
        )

    async def start(self) -> None:
        """Start it, or start it again after it has ended, and return when it answers.

        Raises:
            ServerError: If it does not.
        """
        self._ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as output:
            await self._begin(output)
        await self._written(self._ready_file)
