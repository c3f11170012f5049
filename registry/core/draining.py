"""Draining: when an agent that is to leave is told so.

It gets no new work from the moment at which its status says so. It is told on `agent.<id>.drain` when nothing is
reserved of it any more: what was assigned to it is still begun and done. The leader tells; who leads next tells again,
for nobody knows whether that arrived.
"""

from __future__ import annotations

from registry.core.effects import Effect, TellAgent
from registry.core.state import RegistryState
from registry.core.status import Status

PATIENCE = 0.5
"""Share of the time that a draining agent has, for which assignments are waited for; the rest is for it to finish."""


def drain_due(state: RegistryState, at: float) -> list[Effect]:
    """Tell those that drain and have no assignment to wait for."""
    effects: list[Effect] = []
    for agent_id in list(state.draining):
        agent = state.agents.get(agent_id)
        if agent is None or agent.status is not Status.DEREGISTERING:
            del state.draining[agent_id]
        elif not agent.reserved or at >= agent.since + PATIENCE * state.limits.drain_timeout:
            del state.draining[agent_id]
            deadline = state.wall(agent.since + state.limits.drain_timeout)
            order = {"agent_id": agent_id, "reason": agent.record.status_note or "drain", "deadline": deadline}
            effects.append(TellAgent(agent_id, "drain", order))
    return effects
