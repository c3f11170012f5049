"""The reference orchestrator: carries out the registry's scaling orders by starting and stopping processes.

The registry decides how many agents there should be and says so; it starts nothing itself. Whoever carries out its
orders acts on the desired number, compared with what is there now, so that an order that is lost, late or repeated
does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from agent_registry.demo.fleet import Fleet
from agent_registry.demo.roles import ROLES

if TYPE_CHECKING:
    from agents_sdk import AgentInfo, RegistryClient, ScalingOrder

_ROLE_OF = {capability: role for role, capability in ROLES.items()}

DURABLE = "demo-orchestrator"
"""NATS remembers under this name which orders were read, so none is lost while the orchestrator is away."""

REPLACEMENT_TIMEOUT = 15.0


class Orchestrator:
    """Carries out scaling orders.

    Args:
        registry: Where the orders come from.
        fleet: What it starts and stops.
        say: Told in words what was done.
    """

    def __init__(self, registry: RegistryClient, fleet: Fleet, say: Callable[[str], None]) -> None:
        self._registry = registry
        self._fleet = fleet
        self._say = say

    async def run(self) -> None:
        """Carry out orders until cancelled."""
        from agents_sdk import ScalingOrder

        async with aclosing(self._registry.events("scaling", durable=DURABLE)) as orders:
            async for order in orders:
                if isinstance(order, ScalingOrder) and order.capability in _ROLE_OF:
                    await self.carry_out(order)

    async def carry_out(self, order: ScalingOrder) -> None:
        """Do what an order asks, as far as it still has to be done."""
        if time.time() > order.expires_at:
            return  # if it still matters the registry has issued it again
        role = _ROLE_OF[order.capability]
        agents = await self._agents(order.capability)
        serving = {agent.agent_id for agent in agents if agent.status in ("active", "degraded")}
        # Started, but not registered yet: they count, or two orders in a row would start twice as many.
        coming = self._fleet.running(role) - {agent.agent_id for agent in agents}
        match order.action:
            case "scale_up":
                await self._start(role, order.desired - len(serving | coming))
            case "scale_down":
                self._stop([agent_id for agent_id in order.agents if agent_id in serving], len(serving) - order.desired)
            case "replace":
                await self._replace(role, [agent_id for agent_id in order.agents if agent_id in serving])
            case _:
                pass  # rebalancing moves what is tied to one agent; nothing here is

    async def _start(self, role: str, amount: int) -> list[str]:
        started = [await self._fleet.start_agent(role) for _ in range(amount)]
        if started:
            self._say(f"starts {', '.join(started)}")
        return started

    def _stop(self, agent_ids: list[str], amount: int) -> None:
        stopped = agent_ids[: max(0, amount)]
        for agent_id in stopped:
            self._fleet.stop(agent_id)  # SIGTERM: an SDK agent finishes its work and deregisters
        if stopped:
            self._say(f"stops {', '.join(stopped)}")

    async def _replace(self, role: str, agent_ids: list[str]) -> None:
        """Start the new ones first and stop the old ones when those serve, so that capacity never drops."""
        started = set(await self._start(role, len(agent_ids)))
        deadline = time.monotonic() + REPLACEMENT_TIMEOUT
        while started - {agent.agent_id for agent in await self._agents(ROLES[role])}:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.2)
        self._stop(agent_ids, len(agent_ids))

    async def _agents(self, capability: str) -> list[AgentInfo]:
        from agents_sdk import AgentStatus, ServiceQuery

        everyone = ServiceQuery(
            capabilities={capability},
            statuses=set(AgentStatus),
            min_health_score=0.0,
            max_load_factor=1.0,
            limit=1000,
        )
        return await self._registry.discover_agents(everyone)
