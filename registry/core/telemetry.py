"""What is heard of agents, and what it makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.core.agent import Agent, merge_metrics
from registry.core.changes import assess, change, refuse
from registry.core.commands import holder_probed
from registry.core.effects import Effect, Probe, SendReply
from registry.core.errors import RefusedError, not_found
from registry.core.events import Outcome, ProbeFinished, Purpose, TelemetryReceived
from registry.core.limits import PROBE_REPEAT
from registry.core.status import FAIR, Cause, Status

if TYPE_CHECKING:
    from registry.core.state import RegistryState

MOVED = 0.1
"""Health or load that differs this much from its checkpoint is worth saving."""


def heard(state: RegistryState, event: TelemetryReceived) -> list[Effect]:
    """Take a report of an agent, renew its lease, and see whether its health moves its status."""
    agent = state.agents.get(event.agent_id)
    state.statistics.heartbeats += 1
    if agent is None or agent.status is Status.OFFLINE:
        return refuse(state, event.reply, not_found(event.agent_id))
    record = agent.record
    if event.incarnation is not None and event.incarnation != record.incarnation:
        state.statistics.heartbeats_dropped += 1
        message = (
            f"is {event.incarnation}, but {event.agent_id!r} was registered anew as incarnation {record.incarnation}"
        )
        refused = RefusedError(
            "stale_incarnation", f"incarnation: {message}; stop, or register again", ("incarnation", message)
        )
        return refuse(state, event.reply, refused)
    if record.identity != event.identity and record.identity is not None:
        return refuse(
            state,
            event.reply,
            RefusedError(
                "forbidden",
                f"agent_id: {event.agent_id!r} belongs to another identity",
                ("agent_id", "belongs to another identity"),
            ),
        )
    if event.seq is not None and event.seq <= agent.seq:
        state.statistics.heartbeats_dropped += 1
    else:
        if event.seq is not None:
            agent.seq = event.seq
        agent.missed = 0
        _renew(state, agent, event.at)
        if event.busy_until is not None:
            agent.busy_until = event.busy_until - state.wall_offset
        if event.metrics:
            agent.metrics = merge_metrics(agent.metrics, event.metrics)
        if event.is_health_check:
            _count_check(state, event.health_score is None or event.health_score >= FAIR)
        _take(state, agent, event.at, event.health_score, event.load_factor)
    effects = assess(state, agent, event.at)
    if event.reply is not None:
        ack = {
            "agent_id": record.agent_id,
            "status": record.status,
            "incarnation": record.incarnation,
            "revision": agent.revision,
        }
        effects.append(SendReply(event.reply, ack))
    return effects


def probe_finished(state: RegistryState, event: ProbeFinished) -> list[Effect]:
    """Draw the conclusion from a probe."""
    state.probing.discard(event.agent_id)
    agent = state.agents.get(event.agent_id)
    if event.purpose is Purpose.HOLDER:
        return holder_probed(state, event)
    _count_check(state, event.outcome is Outcome.ANSWERED)
    if agent is None or agent.record.incarnation != event.incarnation or agent.status is Status.OFFLINE:
        return []
    if event.outcome is Outcome.NO_RESPONDERS:
        agent.missed += 1
        if agent.missed >= 2:
            return change(state, agent, event.at, Cause.LOST, "no_responders")
        state.probing.add(event.agent_id)
        return [
            Probe(event.agent_id, event.incarnation, agent.record.health_subject or "", Purpose.HEALTH, PROBE_REPEAT)
        ]
    agent.missed = 0
    agent.hung = event.outcome is Outcome.TIMEOUT
    if not agent.hung:
        _renew(state, agent, event.at)
        _take(state, agent, event.at, event.health_score, event.load_factor)
    return assess(state, agent, event.at)


def _renew(state: RegistryState, agent: Agent, at: float) -> None:
    agent.heard = at
    agent.last_heartbeat = state.wall(at)


def _count_check(state: RegistryState, passed: bool) -> None:
    state.statistics.health_checks += 1
    if not passed:
        state.statistics.failed_health_checks += 1


def _take(state: RegistryState, agent: Agent, at: float, health: float | None, load: float | None) -> None:
    if health is not None:
        agent.health = health
    if load is not None:
        agent.load = load
        agent.load_at = at
    state.catalog.moved(agent)
    record = agent.record
    if not agent.checkpoint_due and (
        abs(agent.health - record.health_score) >= MOVED
        or abs(agent.load - record.load_factor) >= MOVED
        or agent.metrics is not record.performance_metrics
    ):
        agent.checkpoint_due = True
        state.unsaved[record.agent_id] = at + state.limits.checkpoint_interval
