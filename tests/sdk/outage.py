"""A nats-server that tests take down for as long as they want, and start again on the same port."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from registry.replica import Replica
from registry.settings import Settings
from registry.shell.nats_process import find_binary


class Server:
    """A nats-server under the control of a test.

    Args:
        directory: Where it keeps what must survive its restarts.
        config: Further lines of its configuration.
        jetstream: Further settings of JetStream.
    """

    def __init__(self, directory: Path, config: str = "", jetstream: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = directory / "nats.conf"
        self._log = directory / "nats.log"
        self._extra = config
        self._jetstream = jetstream
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, config: str | None = None) -> None:
        """Start it, with another configuration if one is given, and wait until it listens."""
        self._extra = self._extra if config is None else config
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self._directory}/jetstream"\n{self._jetstream} }}\n'
            f"{self._extra}\n"
        )
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                find_binary(), "-c", str(self._config), stdout=log, stderr=log
            )
        async with asyncio.timeout(15):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self._process.returncode is None, self._log.read_text()
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    def reload(self, config: str) -> None:
        """Give it another configuration while it runs; clients that it does not allow any more are cut off."""
        self._config.write_text(self._config.read_text().replace(self._extra, config))
        self._extra = config
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def pause(self) -> None:
        """Let it stand still: connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[Replica]:
    """Run a replica for as long as the block lasts, on a server that may be taken down in it."""
    replica = Replica(Settings(), url)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.stop()


async def settle(nc: Client) -> None:
    """Wait until the server has taken what was subscribed; nats-py's first ping may overtake it."""
    await nc.flush()
    await nc.flush()
