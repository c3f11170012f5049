"""Clients that call the registry all the time, and count what becomes of their calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agents_sdk import RegistryClient, RegistryError

PAUSE = 0.01
"""Seconds between two calls, so that the callers do not need the cores that they share with what they call."""


@dataclass
class Calls:
    """Calls of one kind."""

    kind: str
    count: int = 0
    slowest: float = 0.0
    """Seconds, repetitions by the SDK included."""
    failures: list[str] = field(default_factory=list)
    """Errors of those that failed in the end."""

    async def take(self, call: Awaitable[object]) -> bool:
        """Make a call and note what becomes of it; return whether it succeeded."""
        started = time.monotonic()
        try:
            await call
        except RegistryError as error:
            self.failures.append(str(error))
            return False
        finally:
            self.count += 1
            self.slowest = max(self.slowest, time.monotonic() - started)
        return True


@dataclass
class Callers:
    """One client that queries, and one that commands.

    Attributes:
        lives: Agents all of whose commands were acknowledged.
    """

    queries: Calls = field(default_factory=lambda: Calls("discover"))
    commands: Calls = field(default_factory=lambda: Calls("register, suspend, resume, deregister"))
    lives: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def calling(self, url: str, name: str) -> AsyncIterator[None]:
        """Call for as long as the block lasts; the agent that lives at its end lives its life to the end.

        Args:
            url: Where NATS listens.
            name: How the ids of the agents begin.
        """
        stop = asyncio.Event()
        async with RegistryClient(url) as one, RegistryClient(url) as other:
            calling = [
                asyncio.ensure_future(self._query(one, stop)),
                asyncio.ensure_future(self._live(other, name, stop)),
            ]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*calling)

    async def _query(self, client: RegistryClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.queries.take(client.discover())
            await asyncio.sleep(PAUSE)

    async def _live(self, client: RegistryClient, name: str, stop: asyncio.Event) -> None:
        """Have one agent after the other register, be suspended, be resumed and deregister."""
        number = 0
        while not stop.is_set():
            number += 1
            agent_id = f"{name}-{number}"
            registration = {"agent_id": agent_id, "agent_type": "trading_agent", "capabilities": ["trading"]}
            acknowledged = [await self.commands.take(client.register(registration))]
            for command in (client.suspend_agent, client.resume_agent, client.deregister_agent):
                await asyncio.sleep(PAUSE)
                acknowledged.append(await self.commands.take(command(agent_id)))
            if all(acknowledged):
                self.lives.append(agent_id)
