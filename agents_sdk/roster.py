"""The agents of one capability, as the registry tells of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agents_sdk.cancelling import cancel
from agents_sdk.directory import Changed, Joined, Left, Snapshot
from agents_sdk.protocol.discovery import MAX_LIMIT, AgentInfo, ServiceQuery
from agents_sdk.protocol.vocabulary import AgentStatus

if TYPE_CHECKING:
    from agents_sdk.client import RegistryClient

SERVING = (AgentStatus.ACTIVE, AgentStatus.DEGRADED)


class Roster:
    """Every agent that has a capability, whatever its status, for as long as the block lasts.

    Args:
        registry: Who tells.
        capability: Whose agents.
    """

    def __init__(self, registry: RegistryClient, capability: str) -> None:
        self.agents: dict[str, AgentInfo] = {}
        self.is_complete = True
        """Whether there are no more than it can see."""
        self._changes = registry.watch(ServiceQuery({capability}, statuses=set(AgentStatus)))
        self._following: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        """Set with the next change; then another takes its place, so that no waiter misses one for another's sake."""

    async def __aenter__(self) -> Self:
        """Wait for the first listing.

        Raises:
            RegistryError: If there is none.
        """
        self._following = asyncio.create_task(self._follow())
        try:
            await self.change()
        except BaseException:
            await cancel(self._following)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._following is not None:
            await cancel(self._following)

    @property
    def serving(self) -> frozenset[str]:
        """Those that can take work."""
        return frozenset(agent_id for agent_id, agent in self.agents.items() if agent.status in SERVING)

    def status(self, agent_id: str) -> AgentStatus | None:
        """Return an agent's status, None if it is not there."""
        agent = self.agents.get(agent_id)
        return None if agent is None else agent.status

    async def change(self, within: float | None = None) -> None:
        """Wait until something has changed, or `within` seconds have passed.

        Raises:
            RegistryError: If the registry tells nothing any more.
        """
        assert self._following is not None
        told = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((told, self._following), timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
        if self._following.done():
            self._following.result()

    async def _follow(self) -> None:
        async with aclosing(self._changes) as changes:
            async for change in changes:
                match change:
                    case Snapshot(agents=agents):
                        self.agents = {agent.agent_id: agent for agent in agents}
                        self.is_complete = len(agents) < MAX_LIMIT
                    case Joined(agent=agent) | Changed(agent=agent):
                        self.agents[agent.agent_id] = agent
                    case Left(agent_id=agent_id):
                        self.agents.pop(agent_id, None)
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
