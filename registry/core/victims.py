"""Who leaves when there are too many agents, and who must not: whom another capability needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from registry.core.agent import Agent
from registry.core.policies import Policies
from registry.core.policy import Policy
from registry.core.status import DISCOVERABLE, HEALTHY, Status

MAX_NAMED = 100
"""At most this many agents are named in one order."""


@dataclass(slots=True)
class Spare:
    """How many agents of another capability may go: `serving` are there, `needed` must stay."""

    serving: int
    needed: int


def is_serving(agent: Agent) -> bool:
    """Return whether an agent can take work."""
    return agent.status in DISCOVERABLE


def is_replaceable(agent: Agent) -> bool:
    """Return whether an agent can be replaced: not if an operator holds it, it drains, or is gone already."""
    return is_serving(agent) or (agent.status is Status.SUSPENDED and not agent.record.held)


def victims(
    serving: Iterable[Agent], count: int, policy: Policy, capability: str, spare: Callable[[str], Spare]
) -> tuple[str, ...]:
    """Name agents to drain: unhealthy ones, then those with the least reserved, the least load, the youngest.

    Those that drain already are no candidates: they do not serve any more, and count as gone.

    Args:
        serving: The agents that can take work of the capability.
        count: How many should leave; fewer are named when other capabilities need the rest.
        policy: Of the capability.
        capability: Which.
        spare: Returns how many agents of another capability may go.
    """
    named: list[str] = []
    taken: dict[str, int] = {}
    for agent in sorted(serving, key=lambda agent: _rank(agent, policy)):
        if len(named) >= min(count, MAX_NAMED):
            break
        others = [name for name in agent.record.capabilities if name != capability]
        if all(_may_go(spare(name), taken.get(name, 0)) for name in others):
            named.append(agent.agent_id)
            for name in others:
                taken[name] = taken.get(name, 0) + 1
    return tuple(named)


def replace_needed(capability: str, spare: Callable[[str], Spare], policies: Policies) -> Callable[[Agent], bool]:
    """Return what tells whether an agent that is to be replaced is needed by another capability, for which it is fit.

    Its substitute need have this capability alone.
    """

    def needed(agent: Agent) -> bool:
        others = (name for name in agent.record.capabilities if name != capability)
        return any(agent.health >= policies.of(name).health_degraded and not _may_go(spare(name), 0) for name in others)

    return needed


def _may_go(spare: Spare, taken: int) -> bool:
    return spare.serving - taken > spare.needed


def _rank(agent: Agent, policy: Policy) -> tuple[int, int, float, float, str]:
    if agent.health < policy.health_degraded:
        health = 0
    else:
        health = 1 if agent.status is Status.DEGRADED or agent.health < HEALTHY else 2
    return (health, agent.reserved, agent.load, -agent.record.registered_at, agent.agent_id)
