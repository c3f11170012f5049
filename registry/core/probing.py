"""Probing: agents are asked how they are, in turn, and at once when there is a hint that one is gone."""

from __future__ import annotations

from registry.core.agent import Agent
from registry.core.changes import assess
from registry.core.effects import Effect, Probe
from registry.core.events import ConnectionClosed, ConnectionsWatched, Outcome, ProbeFinished, Purpose
from registry.core.holder import holder_probed
from registry.core.limits import GONE, LATE, MAX_PROBES, PROBE_REPEAT
from registry.core.state import RegistryState
from registry.core.status import Status
from registry.core.telemetry import count_check, renew, take

AGENT = "agent:"
"""A connection of this name, with an agent's id after it, says that it is the agent's."""


def probe_due(state: RegistryState, at: float) -> list[Effect]:
    """Probe who is due."""
    effects: list[Effect] = []
    if not state.path.can_judge(at):
        return effects
    for agent_id in list(state.probes.due(at, MAX_PROBES - len(state.probing))):
        agent = state.agents[agent_id]
        agent.probe_at = at + state.limits.health_check_interval
        state.probes.watch(agent_id)
        effects += _probe(state, agent)
    return effects


def _probe(state: RegistryState, agent: Agent) -> list[Effect]:
    subject = state.health_subject(agent.record)
    if subject is None or agent.agent_id in state.probing:
        return []
    state.probing.add(agent.agent_id)
    return [Probe(agent.agent_id, agent.record.incarnation, subject, Purpose.HEALTH)]


def connection_closed(state: RegistryState, event: ConnectionClosed) -> list[Effect]:
    """Ask at once whose connection has ended."""
    agent = state.agents.get(event.name.removeprefix(AGENT))
    return [] if agent is None else _hinted(state, agent, event.at)


def connections_watched(state: RegistryState, event: ConnectionsWatched) -> list[Effect]:
    """Take note of whether closed connections are heard of."""
    state.connections_watched = event.watched
    return []


def _hinted(state: RegistryState, agent: Agent, at: float) -> list[Effect]:
    if not state.leading or agent.status is Status.OFFLINE or not state.path.can_judge(at):
        return []
    return _probe(state, agent)


def probe_finished(state: RegistryState, event: ProbeFinished) -> list[Effect]:
    """Draw the conclusion from a probe."""
    state.probing.discard(event.agent_id)
    agent = state.agents.get(event.agent_id)
    if event.purpose is Purpose.HOLDER:
        return holder_probed(state, event)
    count_check(state, event.outcome is Outcome.ANSWERED)
    if agent is None or agent.record.incarnation != event.incarnation or agent.status is Status.OFFLINE:
        return []
    if event.outcome is not Outcome.ANSWERED and not state.path.can_judge(event.at):
        agent.probe_at = state.path.judges_from(event.at + LATE)  # says nothing of the agent
        if state.leading:
            state.probes.watch(event.agent_id)
        return []
    subject = state.health_subject(agent.record)
    if subject is None:
        return []  # it was changed meanwhile
    if event.outcome is Outcome.NO_RESPONDERS:
        agent.missed += 1
        if agent.missed >= GONE:
            return assess(state, agent, event.at)
        state.probing.add(event.agent_id)
        return [Probe(event.agent_id, event.incarnation, subject, Purpose.HEALTH, PROBE_REPEAT)]
    agent.missed = 0
    agent.hung = event.outcome is Outcome.TIMEOUT
    if not agent.hung:
        renew(state, agent, event.at)
        take(state, agent, event.at, event.health_score, event.load_factor)
    return assess(state, agent, event.at)
