"""Replicas of the registry in processes of their own, which can be killed, stopped and started."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from tests.cli.running import command, environment

START_TIMEOUT = 60.0
"""Seconds; a start takes one, but faults may meet it."""


class ReplicaProcess:
    """One `agent-registry serve`.

    Args:
        url: Where NATS listens.
        folder: Where its ready file and its log go.
        settings: `AGENT_REGISTRY_*` variables.
    """

    def __init__(self, url: str, folder: Path, settings: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.starts = 0
        self.paused = False
        self._url = url
        self._folder = folder
        self._env = environment(**settings)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process is there, stopped or not."""
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> Path:
        """What it wrote, all starts after each other."""
        return self._folder / "log"

    async def start(self) -> None:
        """Start it; return when it is there, not when it serves."""
        self.starts += 1
        self._ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command("serve", "--nats", self._url, "--ready-file", self._ready),
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def serving(self) -> None:
        """Wait until it serves; start it again if it ended because NATS was away."""
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                if not self.is_running:
                    await self.start()
                if self._ready.exists() and json.loads(self._ready.read_text())["pid"] == self.pid:
                    return
                await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Let it stand still."""
        if self.is_running:
            self.paused = True
            self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        if self.is_running and self.paused:
            self.paused = False
            self._send(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as a crash would."""
        if self.is_running:
            self.paused = False
            self._send(signal.SIGKILL)
            await self._wait()

    async def terminate(self) -> None:
        """Ask it to end."""
        if self.is_running:
            self.resume()
            self._send(signal.SIGTERM)
            await self._wait()

    def _send(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    async def _wait(self) -> None:
        assert self._process is not None
        async with asyncio.timeout(START_TIMEOUT):
            await self._process.wait()

    @property
    def _ready(self) -> Path:
        return self._folder / "ready.json"
