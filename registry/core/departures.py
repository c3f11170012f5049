"""Who is about to leave a capability, and how many of its agents a capability can spare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

from registry.core.agent import Agent
from registry.core.observation import Sample
from registry.core.order import Orders
from registry.core.policies import Policies
from registry.core.victims import Spare, is_serving

AgentsOf = Callable[[str], list[Agent]]
"""Returns every agent that has a capability."""


class Departures:
    """The agents that open orders take away, by the capability that ordered it."""

    def __init__(self) -> None:
        self._named: dict[str, frozenset[str]] = {}

    def note(self, capability: str, orders: Orders) -> None:
        """Take the orders of a capability, be they on their way to the bucket or there."""
        named = frozenset(agent_id for order in orders.all_open() for agent_id in order.agents)
        if named:
            self._named[capability] = named
        else:
            self._named.pop(capability, None)

    def clear(self) -> None:
        """Nobody is about to leave."""
        self._named.clear()

    def named(self, but: str | None = None) -> set[str]:
        """Return those who are about to leave, but for what one capability ordered."""
        return {agent_id for capability, named in self._named.items() if capability != but for agent_id in named}


def spares(
    leaving: set[str], agents_of: AgentsOf, sample_of: Callable[[str], Sample | None], policies: Policies
) -> Callable[[str], Spare]:
    """Return what tells how many agents a capability can spare, so that the others carry its load all the same.

    Args:
        leaving: Who is about to leave, and counts as gone.
        agents_of: Returns every agent that has a capability.
        sample_of: Returns what the last look at a capability saw.
        policies: By which they are scaled.
    """

    @cache
    def spare(capability: str) -> Spare:
        serving, sample = _staying(agents_of(capability), leaving), sample_of(capability)
        if sample is None or not sample.reporting or policies.fault(capability) is not None:
            return Spare(serving, serving)  # nobody knows what it carries, or what it needs
        policy = policies.of(capability)
        carrying = math.ceil(round((sample.carried + sample.missing) / policy.up_above, 6))
        return Spare(serving, max(policy.min_agents, carrying + sample.agents - sample.fit))

    return spare


def _staying(agents: Iterable[Agent], leaving: set[str]) -> int:
    return sum(is_serving(agent) and agent.agent_id not in leaving for agent in agents)
