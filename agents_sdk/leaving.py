"""How agents leave: told to drain, waited for, stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from agents_sdk.cancelling import cancel
from agents_sdk.launcher import Launcher
from agents_sdk.protocol.errors import ConflictError, NotFoundError, UnavailableError
from agents_sdk.protocol.vocabulary import AgentStatus
from agents_sdk.retry import Backoff
from agents_sdk.roster import Roster

if TYPE_CHECKING:
    from agents_sdk.client import RegistryClient
    from agents_sdk.protocol.discovery import AgentInfo


class Leaving:
    """Sees agents off, each once, however many orders name it.

    Args:
        registry: Tells an agent to drain, and when it is gone.
        launcher: Ends its process, or whatever it runs in.
        drain_timeout: Seconds that an agent gets to finish and leave.
        say: Told in words what happens.
    """

    def __init__(
        self, registry: RegistryClient, launcher: Launcher, drain_timeout: float, say: Callable[[str], None]
    ) -> None:
        self._registry = registry
        self._launcher = launcher
        self._drain_timeout = drain_timeout
        self._say = say
        self._going: dict[str, asyncio.Task[None]] = {}

    async def see_off(self, agent_ids: Iterable[str], capability: str, reason: str) -> None:
        """Have agents leave, and return when they have.

        Raises:
            RegistryError: If the registry refuses to tell one.
            LaunchError: If one cannot be stopped.
        """
        named = list(agent_ids)
        fresh = [agent_id for agent_id in named if agent_id not in self._going]
        if fresh:
            task = asyncio.create_task(self._see_off(fresh, capability, reason))
            self._going |= dict.fromkeys(fresh, task)
            task.add_done_callback(lambda _: [self._going.pop(agent_id) for agent_id in fresh])
        await _all(asyncio.shield(task) for task in {self._going[agent_id] for agent_id in named})

    async def close(self) -> None:
        """Wait for nobody any more."""
        for task in set(self._going.values()):
            await cancel(task)

    async def _see_off(self, agent_ids: list[str], capability: str, reason: str) -> None:
        deadline, backoff = time.monotonic() + self._drain_timeout, Backoff(0.2, 5.0)
        while True:
            try:
                async with Roster(self._registry, capability) as roster:
                    await _all(self._see_one_off(agent_id, roster, reason, deadline) for agent_id in agent_ids)
                return
            except UnavailableError:  # who has left by then is not there any more, and stopped
                pause = backoff.next()
                if time.monotonic() + pause > deadline:
                    raise
                await asyncio.sleep(pause)

    async def _see_one_off(self, agent_id: str, roster: Roster, reason: str, deadline: float) -> None:
        await self._drain(agent_id, roster, reason, deadline)
        await self._launcher.stop(agent_id)

    async def _drain(self, agent_id: str, roster: Roster, reason: str, deadline: float) -> None:
        """Tell an agent to drain, and wait until it is gone or its time has passed.

        Raises:
            RegistryError: If the registry cannot be asked, or refuses.
        """
        before = roster.agents.get(agent_id)
        if before is None:
            known = await self._registry.get_agent_info(agent_id)
            if known is None:
                return
            async with Roster(self._registry, min(known.capabilities)) as others:  # it can do something else by now
                await self._drain_among(others, known, reason, deadline)
            return
        await self._drain_among(roster, before, reason, deadline)

    async def _drain_among(self, roster: Roster, before: AgentInfo, reason: str, deadline: float) -> None:
        """Do that for one of a roster's agents."""
        agent_id = before.agent_id
        try:
            await self._registry.drain_agent(agent_id, reason)
        except (NotFoundError, ConflictError) as error:
            self._say(f"need not drain {agent_id}: {error.message}")  # it has left, or is offline
            return
        self._say(f"drains {agent_id}")
        while (now := roster.agents.get(agent_id)) is not None:
            # Another incarnation is one that was started again in its place: it goes when it is stopped.
            if now.status is AgentStatus.OFFLINE or now.incarnation != before.incarnation:
                self._say(f"{agent_id} has not left in order: it is {now.status}")
                return
            left = deadline - time.monotonic()
            if left <= 0:
                self._say(f"{agent_id} has not left within {self._drain_timeout:g} s")
                return
            await roster.change(left)


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Have all of them done, then raise what one of them raised."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
