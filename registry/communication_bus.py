"""Where NATS is, for a registry in process: a URL, or a server of its own."""

from __future__ import annotations

import os

from registry.shell.embedded import NatsServer
from registry.shell.home import Home
from registry.shell.logs import get_logger

log = get_logger(__name__)


class CommunicationBus:
    """Where NATS is.

    Args:
        url: Where it listens. Without one, `NATS_URL` is used; without that, a server is started on a free port of this
            machine, with a temporary store, and ended on `stop`.
    """

    def __init__(self, url: str | None = None) -> None:
        self.failure: str | None = None
        """Why its server has ended and does not start again; None while it runs, or is somebody else's."""
        self._given = url
        self._url: str | None = None
        self._home = Home[NatsServer]("the CommunicationBus")

    @property
    def url(self) -> str:
        """Where NATS listens.

        Raises:
            RuntimeError: Before `start`.
        """
        if self._url is None:
            raise RuntimeError("start the CommunicationBus first: await bus.start()")
        return self._url

    async def start(self) -> None:
        """Find NATS, or start a server; once is enough.

        Raises:
            ServerError: If a server is needed and cannot be had.
        """
        known = self._given or os.environ.get("NATS_URL")
        if known is not None:
            self._url = known
            return
        self._home.claim()
        await self._home.run(self._start_server)

    async def _start_server(self) -> None:
        async with self._home.changing():
            if self._home.occupant is None:
                server = await NatsServer.start(port=0, store=None)
                server.on_failed = self._failed
                self._home.occupant, self._url, self.failure = server, server.url, None

    async def stop(self) -> None:
        """End the server, if this bus started one."""
        self._url = None
        if self._home.loop is not None:
            await self._home.run(self._stop_server)

    async def _stop_server(self) -> None:
        async with self._home.changing():
            server, self._home.occupant, self._url = self._home.occupant, None, None
            if server is not None:
                await server.stop()

    def _failed(self, why: str) -> None:
        self.failure = why
        log.error("nats_failed", why=why)
