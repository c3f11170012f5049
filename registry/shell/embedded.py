"""The embedded nats-server: started on loopback, watched, started again should it end by itself, ended."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from registry.shell.child import ServerError, ending
from registry.shell.clock import monotonic
from registry.shell.logs import get_logger
from registry.shell.nats_process import PID_FILE, NatsProcess, find_binary
from registry.shell.tasks import end

log = get_logger(__name__)

MAX_RESTARTS = 5
RESTART_WINDOW = 300.0
"""A server that ends by itself more often than this within so many seconds is given up."""

RESTART_WAIT = 0.5
"""Seconds, with as much again as jitter, before the second restart within the window; they double. The first waits
for nothing."""

_CONFIG = """\
# Written by agent-registry at each start; changes are lost.
server_name: agent-registry
host: 127.0.0.1
port: {port}
logfile_size_limit: 10MB
# A half-open connection is noticed within 15 s instead of minutes.
ping_interval: "5s"
ping_max: 2
jetstream {{ store_dir: "{directory}/jetstream" }}
# Of the system account the open one has two things alone: the server's own figures, where `doctor` reads when writes
# are on disk, and the end of its own connections, by which the registry notices at once that an agent has crashed.
accounts {{
  AGENTS {{
    jetstream: enabled, users: [ {{ user: agent, password: agent }} ]
    imports: [
      {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ" }} }}
      {{ stream: {{ account: SYS, subject: "$SYS.ACCOUNT.AGENTS.DISCONNECT" }} }}
    ]
  }}
  SYS {{
    users: [ {{ user: sys, password: "{password}" }} ]
    exports: [
      {{ service: "$SYS.REQ.SERVER.PING.VARZ", accounts: [ AGENTS ] }}
      {{ stream: "$SYS.ACCOUNT.*.DISCONNECT", account_token_position: 3, accounts: [ AGENTS ] }}
    ]
  }}
}}
system_account: SYS
# Whoever connects from this machine without credentials is in the one open account.
no_auth_user: agent
"""


class NatsServer:
    """A running embedded server. Make one with `start`.

    Attributes:
        on_failed: Called when it ended and could not be started again.
        on_restarted: Called when it ended and was started again; it is another process then.
    """

    def __init__(self, binary: str, directory: Path, temporary: bool) -> None:
        self.on_failed: Callable[[str], None] | None = None
        self.on_restarted: Callable[[], None] | None = None
        self._config = directory / "nats-server.conf"
        self._process = NatsProcess("nats-server", binary, self._config, directory)
        self._directory = directory
        self._temporary = temporary
        self._watcher: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._process.url

    @property
    def pid(self) -> int:
        """Process id of the server."""
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
        if port and is_taken(port):
            hint = "use --port 0 for a free one, or serve --nats URL to use what runs there"
            raise ServerError(f"port {port} is in use on 127.0.0.1{_who(store)}; {hint}")
        directory = Path(tempfile.mkdtemp(prefix="agent-registry-")) if store is None else store.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        server = cls(binary, directory, temporary=store is None)
        try:
            await server._launch(port or -1)
        except BaseException as error:
            words = server._last_words()
            await server.stop()
            if isinstance(error, ServerError) and server._temporary:
                raise ServerError(f"{error}, which said {words!r}") from None
            raise
        server._watcher = asyncio.ensure_future(server._watch())
        return server

    def kill(self) -> None:
        """End the server as a crash would, if it runs."""
        self._process.kill()

    async def stop(self) -> None:
        """End the server."""
        await end(self._watcher)
        await self._process.stop()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _launch(self, port: int) -> None:
        text = _CONFIG.format(port=port, directory=self._directory, password=secrets.token_urlsafe(24))
        self._config.touch(mode=0o600)
        self._config.write_text(text)
        await self._process.start()

    async def _watch(self) -> None:
        """Start the server again, on the same port and store, should it end by itself."""
        ends: list[float] = []
        while True:
            code = await self._process.ended()
            now = monotonic()
            ends = [*(before for before in ends if now - before <= RESTART_WINDOW), now]
            if len(ends) > MAX_RESTARTS:
                break
            wait = RESTART_WAIT * 2 ** (len(ends) - 2) * random.uniform(1.0, 2.0) if len(ends) > 1 else 0.0
            restart = f"{len(ends)} of {MAX_RESTARTS}"
            log.error("nats_server_ended", by=ending(code), restart=restart, wait=round(wait, 2))
            await asyncio.sleep(wait)
            try:
                await self._launch(int(self.url.rpartition(":")[2]))
                if self.on_restarted is not None:
                    self.on_restarted()
            except (ServerError, OSError) as error:  # it has not begun, or has ended again, which counts
                log.error("nats_server_restart_failed", error=str(error))  # noqa: TRY400
            except Exception:
                log.exception("nats_server_restart_failed")
        log.error("nats_server_given_up", by=ending(code))
        if self.on_failed is not None:
            often = f"{len(ends)} times within {RESTART_WINDOW:g} s"
            self.on_failed(
                f"the embedded nats-server ended and does not start again ({often}); see {self._process.log}"
            )

    def _last_words(self) -> str:
        """Return how its log ends."""
        try:
            return self._process.log.read_text(errors="replace").splitlines()[-1]
        except (OSError, IndexError):
            return "nothing"


def is_taken(port: int) -> bool:
    """Return whether somebody listens on a port of loopback."""
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
        pid = int(((store or Path()) / PID_FILE).read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return ""
    return f", by the nats-server that an earlier run left behind if it is pid {pid} (kill {pid} ends it)"
