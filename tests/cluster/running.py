"""A cluster as a person starts it, and what NATS says about it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.cluster.nodes import NAMES
from tests.cli.running import Running, until

STREAMS = ("KV_registry_agents", "KV_registry_control", "KV_registry_assignments", "REGISTRY_EVENTS")

_CHOSEN = re.compile(r"^\[\d+\] (\S+ \S+) \[INF\] JetStream cluster new metadata leader: (\S+)/", re.MULTILINE)


class RunningCluster(Running):
    """A running `python -m deploy.cluster`; made, it answers requests.

    Args:
        folder: Its store, ready file and output; another one on it has everything again.
    """

    def __init__(self, folder: Path) -> None:
        self.store, self._ready_file = folder / "store", folder / "ready.json"
        options = ("--port", "0", "--store", str(self.store), "--ready-file", str(self._ready_file))
        super().__init__([sys.executable, "-m", "deploy.cluster", *options], folder)
        until(lambda: self._is_ready() or self.process.poll() is not None)
        assert self.process.poll() is None, self.stderr

    def _is_ready(self) -> bool:
        return self._ready_file.exists() and self.told["pid"] == self.process.pid

    @property
    def told(self) -> dict[str, Any]:
        """What the ready file says now."""
        told: dict[str, Any] = json.loads(self._ready_file.read_text())
        return told

    @property
    def url(self) -> str:
        """Where clients find it."""
        return str(self.told["nats"])

    def pids(self) -> Iterator[int]:
        """The processes of the cluster that run."""
        told = self.told
        for each in (*told["nodes"].values(), *told["replicas"].values()):
            if each["pid"] is not None:
                yield each["pid"]

    def kill(self, node: str) -> None:
        """End a node as a crash would."""
        os.kill(self.told["nodes"][node]["pid"], signal.SIGKILL)

    def start_again(self, node: str) -> None:
        """Ask for what has ended to be started again, and wait until the node listens."""
        until(lambda: self.told["nodes"][node]["pid"] is None)
        self.process.send_signal(signal.SIGUSR1)
        until(lambda: self.told["nodes"][node]["pid"] is not None)

    def leader(self) -> str:
        """Return the node that leads the cluster, which decides where streams are, as the nodes' logs tell."""
        logs = [(self.store / node / "nats-server.log").read_text() for node in NAMES]
        return max(found for log in logs for found in _CHOSEN.findall(log))[1]
