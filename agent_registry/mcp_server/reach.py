"""The way to the registry: connected when it is first needed, and again after NATS was away."""

from __future__ import annotations

import asyncio

from agent_registry.target import Target
from agents_sdk.cancelling import cancel
from agents_sdk.client import RegistryClient
from agents_sdk.connection import Connection
from agents_sdk.protocol.errors import UnavailableError
from agents_sdk.protocol.subjects import Subjects

NAME = "agent-registry mcp"
"""Of the connection, for who looks at NATS."""

CONNECT_TIMEOUT = 3.0
"""Seconds to wait for each NATS server."""

REPLY_TIMEOUT = 3.0
"""Seconds to wait for the registry; long enough for a restart, short enough for who waits for a tool."""


class Reach:
    """The registry that a target names.

    Args:
        target: Which registry.

    Raises:
        CommandError: If the login of the target cannot be used.
    """

    def __init__(self, target: Target) -> None:
        self.connection = Connection(target.address(NAME, CONNECT_TIMEOUT))
        self.subjects = Subjects(target.prefix)
        self.registry = RegistryClient(self.connection, prefix=target.prefix, timeout=REPLY_TIMEOUT)
        self._opening: asyncio.Task[None] | None = None
        """For all who wait: a server that does not answer keeps those who come at the same time no longer than one."""

    async def open(self) -> None:
        """Return when there is, or was, a connection; one that is lost comes back by itself.

        Raises:
            UnavailableError: If NATS cannot be reached; the next time it is tried again.
            ForbiddenError: If NATS refuses the user.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Close the connection; an attempt to make it is given up, and so is whoever waits for it."""
        if self._opening is not None:
            await cancel(self._opening)
        await self.registry.close()
        await self.connection.close()

    async def _open(self) -> None:
        try:
            await self.connection.open()
        except (OSError, ValueError) as error:  # a login that is none, or cannot be read
            raise UnavailableError(f"cannot log in to NATS at {self.connection.where}: {error}") from error

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or opening.exception() is not None:  # nobody may be waiting for it any more
            self._opening = None
