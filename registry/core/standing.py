"""Standing: what an agent's rank is multiplied with, for what the registry itself thinks of it."""

from __future__ import annotations

from collections.abc import Callable

from registry.core.agent import Agent
from registry.core.status import Status

DOUBT = {"probe_timeout": 1.0, "canary": 0.5, "flapping": 0.5, "slow": 0.5, "busy": 0.5}
"""What a reason for which the registry keeps an agent degraded takes from its standing."""

COLD = 0.1
"""Standing of an agent that has just come back."""

WARM_STEPS = 10
"""Steps in which it rises."""


class Standings:
    """Keeps the standing of all agents. Instants are monotonic seconds.

    Args:
        warm_up: Seconds in which the standing of an agent that came back rises; 0 if it has all of it at once.
        moved: Told of an agent whose standing has changed.
    """

    def __init__(self, warm_up: float, moved: Callable[[Agent], None]) -> None:
        self._warm_up = warm_up
        self._moved = moved
        self._warming: dict[str, tuple[Agent, float]] = {}
        """Agents that came back, with when, until they have warmed up."""
        self._warmed_at = 0.0

    def returned(self, agent: Agent, at: float) -> None:
        """Let an agent begin that has come back."""
        if self._warm_up:
            self._warming[agent.agent_id] = (agent, at)

    def forget(self, agent_id: str) -> None:
        """Take note that there is no such agent any more."""
        self._warming.pop(agent_id, None)

    def stand(self, agent: Agent, at: float) -> None:
        """Find out an agent's standing."""
        record = agent.record
        doubt = DOUBT.get(record.status_reason or "", 0.0) if record.status is Status.DEGRADED else 0.0
        standing = 1.0 - max(doubt, agent.suspicion)
        if record.agent_id in self._warming:
            began = self._warming[record.agent_id][1]
            standing *= max(COLD, min(1.0, (at - began) / self._warm_up))
        if standing != agent.standing:
            agent.standing = standing
            self._moved(agent)

    def warm(self, at: float) -> None:
        """Let those rise who are warming up."""
        if not self._warming or at < self._warmed_at + self._warm_up / WARM_STEPS:
            return
        self._warmed_at = at
        for agent_id, (agent, began) in list(self._warming.items()):
            if at >= began + self._warm_up:
                del self._warming[agent_id]
            self.stand(agent, at)
