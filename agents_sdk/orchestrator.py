"""Carrying out the registry's scaling orders."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from agents_sdk.client import RegistryClient
from agents_sdk.protocol.discovery import MAX_LIMIT, ServiceQuery
from agents_sdk.protocol.errors import ConflictError, NotFoundError, RegistryError
from agents_sdk.protocol.scaling import ScalingOrder
from agents_sdk.protocol.vocabulary import AgentStatus, ScalingAction

REPLACEMENT_TIMEOUT = 15.0
"""Seconds to wait for a replacement to register; after them the order comes again when it expires."""

LOOK_INTERVAL = 0.2
"""Seconds between two looks at who has registered."""

logger = logging.getLogger(__name__)


class Fleet(Protocol):
    """Whatever starts agents: as processes, containers, machines."""

    async def start(self, capability: str) -> str:
        """Start an agent that has a capability, and return its id; it registers when it is up."""
        ...

    def running(self, capability: str) -> Collection[str]:
        """Return the ids of those that were started for a capability and have not ended, registered or not."""
        ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """The agents of a capability."""

    known: frozenset[str]
    serving: frozenset[str]
    coming: frozenset[str]
    """Started, but not registered yet. They count, or two orders in a row would start twice as many."""
    total: int
    """How many there are; one look shows so many of them and no more."""


class Orchestrator:
    """Carries out scaling orders.

    The registry decides how many agents there should be and says so; it starts nothing itself. Its orders are never
    taken as "two more": what is wanted is compared with what is there, so that an order that is lost, late or repeated
    does no harm. Agents leave by being drained, wherever they run.

    Args:
        registry: Where the orders come from.
        fleet: Starts agents.
        capabilities: Whose orders to carry out.
        durable: Name under which NATS remembers which orders were read, so that none is lost while nobody reads.
        say: Told in words what is done; logged when left out.
    """

    def __init__(
        self,
        registry: RegistryClient,
        fleet: Fleet,
        capabilities: Iterable[str],
        *,
        durable: str,
        say: Callable[[str], None] = logger.info,
    ) -> None:
        self._registry = registry
        self._fleet = fleet
        self._capabilities = frozenset(capabilities)
        self._durable = durable
        self._say = say

    async def run(self) -> None:
        """Carry out orders until cancelled.

        What fails is said, and then comes the next order; one that still matters comes again when it expires.
        """
        async with aclosing(self._registry.events("scaling", durable=self._durable)) as orders:
            async for order in orders:
                if isinstance(order, ScalingOrder) and order.capability in self._capabilities:
                    try:
                        await self.carry_out(order)
                    except RegistryError as error:
                        self._say(f"cannot carry out {order.action} of {order.capability} now: {error.message}")
                    except Exception as error:  # the fleet's: one start that fails is no reason to hear no more orders
                        logger.exception("carrying out %s of %s failed", order.action, order.capability)
                        self._say(f"cannot carry out {order.action} of {order.capability}: {error!r}")

    async def carry_out(self, order: ScalingOrder) -> None:
        """Do what an order asks for, as far as it still has to be done.

        Raises:
            RegistryError: If the registry cannot be asked. An order that still matters comes again when it expires.
            Exception: Whatever the fleet raises.
        """
        if time.time() > order.expires_at:
            return  # if it still matters, it has been issued again
        seen = await self._look(order.capability)
        match order.action:
            case ScalingAction.SCALE_UP:
                await self._start(order.capability, order.desired - len(seen.serving | seen.coming), seen)
            case ScalingAction.SCALE_DOWN:
                too_many = max(0, len(seen.serving) - order.desired)
                await self._drain([agent_id for agent_id in order.agents if agent_id in seen.serving][:too_many])
            case ScalingAction.REPLACE:
                await self._replace(order, seen)
            case ScalingAction.REBALANCE:
                pass  # moves what is tied to one agent, which only its application knows

    async def _replace(self, order: ScalingOrder, seen: _Seen) -> None:
        """Drain the named ones once there are enough others, so that capacity never drops."""
        deadline = time.monotonic() + REPLACEMENT_TIMEOUT
        others = seen.serving.difference(order.agents)
        if not await self._start(order.capability, order.desired - len(others | seen.coming), seen):
            return
        while len(others) < order.desired:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(LOOK_INTERVAL)
            seen = await self._look(order.capability)
            others = seen.serving.difference(order.agents)
        await self._drain([agent_id for agent_id in order.agents if agent_id in seen.known])

    async def _start(self, capability: str, amount: int, seen: _Seen) -> bool:
        """Start as many as are missing; return whether there is nothing against it."""
        if amount <= 0:
            return True
        if seen.total > len(seen.known):
            # Those that were not shown would be started once more, with each order.
            self._say(
                f"starts none for {capability}: {seen.total} agents are more than the {len(seen.known)} that it can see"
            )
            return False
        started: list[str] = []
        try:
            for _ in range(amount):
                started.append(await self._fleet.start(capability))  # noqa: PERF401 - those before one that fails run
        finally:
            if started:
                self._say(f"starts {', '.join(started)}")
        return True

    async def _drain(self, agent_ids: list[str]) -> None:
        for agent_id in agent_ids:
            try:
                await self._registry.drain_agent(agent_id, "scaling")
            except (NotFoundError, ConflictError) as error:
                self._say(f"need not drain {agent_id}: {error.message}")  # it has left, or is offline
            else:
                self._say(f"drains {agent_id}")

    async def _look(self, capability: str) -> _Seen:
        everyone = ServiceQuery(
            {capability}, statuses=set(AgentStatus), min_health_score=0.0, max_load_factor=1.0, limit=MAX_LIMIT
        )
        listing = await self._registry.discover(everyone)
        agents = listing.agents
        known = frozenset(agent.agent_id for agent in agents)
        in_service = (AgentStatus.ACTIVE, AgentStatus.DEGRADED)
        serving = frozenset(agent.agent_id for agent in agents if agent.status in in_service)
        return _Seen(known, serving, frozenset(self._fleet.running(capability)) - known, listing.total)
