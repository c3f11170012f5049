"""What is heard of agents, and what it makes of them."""

from __future__ import annotations

from collections.abc import Mapping

from registry.core.access import check_identity, check_incarnation
from registry.core.agent import Agent, merge_metrics
from registry.core.changes import assess, refuse
from registry.core.effects import Effect, SendReply
from registry.core.errors import RefusedError, invalid, not_found
from registry.core.events import TelemetryReceived
from registry.core.evidence import NOTHING
from registry.core.limits import MAX_METRIC_NAME, MAX_METRICS
from registry.core.observation import QUEUE_DEPTH
from registry.core.state import RegistryState
from registry.core.status import FAIR, Status

OVERTAKEN = 2
"""A beat is old that comes a second time, or after the next one: over a reconnect, one can overtake another. One that
is further behind is of an agent that was started anew; if its registration changed nothing, one replica knows of it."""

UNANSWERED_PAUSE = 0.5
"""Seconds from a beat of an agent that did not answer until it is asked again."""

MOVED = 0.1
"""Health, load or success rate that differs this much from its checkpoint is worth saving."""


def heard(state: RegistryState, event: TelemetryReceived) -> list[Effect]:
    """Take a report of an agent, renew its lease, and see whether its health moves its status."""
    state.statistics.heartbeats += 1
    try:
        agent = _sender(state, event)
        metrics = _merged(agent, event)
    except RefusedError as refused:
        return refuse(state, event.reply, refused)
    if event.seq is not None and agent.seq - OVERTAKEN < event.seq <= agent.seq:
        state.statistics.heartbeats_dropped += 1
    else:
        agent.seq = agent.seq if event.seq is None else event.seq
        agent.metrics = metrics
        if event.metrics and QUEUE_DEPTH in event.metrics:
            agent.queue_at = event.at
        if event.is_beat:
            state.suspicions.beat(agent, event.at)
        renew(state, agent, event.at)
        if event.busy_until is not None:
            agent.busy_until = event.busy_until - state.wall_offset
            state.watch(agent, event.at)  # it may be earlier than what was believed before
        if event.is_health_check:
            count_check(state, event.health_score is None or event.health_score >= FAIR)
        take(state, agent, event.at, event.health_score, event.load_factor)
        if agent.evidence.unanswered_since is not None:
            _ask_soon(state, agent, event.at)
    effects = assess(state, agent, event.at)
    if event.ack and event.reply is not None:
        record = agent.record
        ack = {
            "agent_id": record.agent_id,
            "status": record.status,
            "incarnation": record.incarnation,
            "revision": agent.revision,
            "reserved": agent.reserved,
        }
        effects.append(SendReply(event.reply, ack))
    return effects


def _ask_soon(state: RegistryState, agent: Agent, at: float) -> None:
    """Ask an agent that did not answer and speaks by itself, not only when it is its turn: it may be well again."""
    soon = at + UNANSWERED_PAUSE
    if state.leading and agent.agent_id not in state.probing and soon < agent.probe_at:
        agent.probe_at = soon
        state.probes.watch(agent.agent_id)


def _sender(state: RegistryState, event: TelemetryReceived) -> Agent:
    """Return the agent that reports.

    Raises:
        RefusedError: If it is not registered, was replaced, or belongs to somebody else.
    """
    agent = state.agents.get(event.agent_id)
    if agent is None:
        raise not_found(event.agent_id)
    record = agent.record
    if record.status is Status.OFFLINE:
        message = f"{event.agent_id!r} is offline ({record.status_reason}); register again"
        raise RefusedError("not_found", f"agent_id: {message}", ("agent_id", message))
    if event.incarnation is not None and event.incarnation != record.incarnation:
        state.statistics.heartbeats_dropped += 1
    check_incarnation(agent, event.incarnation)
    check_identity(agent, event.identity)
    return agent


def _merged(agent: Agent, event: TelemetryReceived) -> Mapping[str, float]:
    """Return the agent's metrics with the reported ones.

    Raises:
        RefusedError: If there would be too many.
    """
    if not event.metrics:
        return agent.metrics
    for name in event.metrics:
        if len(name) > MAX_METRIC_NAME:
            raise invalid(
                "metrics", f"names must be at most {MAX_METRIC_NAME} characters; {name[:20]!r}... is {len(name)}"
            )
    metrics = merge_metrics(agent.metrics, event.metrics)
    if len(metrics) > MAX_METRICS:
        raise invalid("metrics", f"at most {MAX_METRICS} names are kept for an agent; there would be {len(metrics)}")
    return metrics


def renew(state: RegistryState, agent: Agent, at: float) -> None:
    """Take note of a sign of life."""
    state.heard(agent, at)
    agent.signs += 1
    agent.last_heartbeat = state.wall(at)
    if agent.evidence is not NOTHING:
        was_doubtful = agent.is_doubtful
        agent.evidence.sign_of_life()
        if was_doubtful:
            state.catalog.moved(agent)


def count_check(state: RegistryState, passed: bool) -> None:
    """Count a probe that has ended, or a report of health."""
    state.statistics.health_checks += 1
    if not passed:
        state.statistics.failed_health_checks += 1


def take(state: RegistryState, agent: Agent, at: float, health: float | None, load: float | None) -> None:
    """Take what an agent says of its health and load; what is None it did not say."""
    if health is not None:
        agent.health = health
    if load is not None:
        agent.load = load
        agent.load_at = at
        agent.reserved_then = agent.reserved
    state.catalog.moved(agent)
    if not agent.checkpoint_due and differs(state, agent):
        agent.checkpoint_due = True
        state.unsaved[agent.record.agent_id] = at + state.limits.checkpoint_interval


def differs(state: RegistryState, agent: Agent) -> bool:
    """Return whether an agent's vitals differ from its checkpoint by enough to be saved."""
    record = agent.record
    lease = record.heartbeat_timeout
    if agent.busy_until > agent.heard + lease and state.wall(agent.busy_until) > record.busy_until + lease:
        return True  # else it would be given up after a restart of the registry
    if abs(agent.health - record.health_score) >= MOVED or abs(agent.load - record.load_factor) >= MOVED:
        return True
    saved = record.performance_metrics
    if agent.metrics is saved or agent.metrics == saved:
        return False
    return not saved or abs(agent.metrics.get("success_rate", 0.0) - saved.get("success_rate", 0.0)) >= MOVED
