"""Judgement: the verdict on an agent, from the evidence and from what is known of everybody else."""

from __future__ import annotations

from dataclasses import dataclass

from registry.core import flapping
from registry.core.agent import Agent
from registry.core.evidence import NOTHING, REASONS, Bounds, Evidence, Verdict, judge
from registry.core.limits import LATE_BEAT, MIN_SILENCE_HELD
from registry.core.protection import SILENCE
from registry.core.state import RegistryState
from registry.core.status import FAIR, HEALTHY, Cause, Status


def bounds(state: RegistryState, agent: Agent) -> Bounds:
    """Return up to when an agent is believed."""
    evidence, leases = agent.evidence, state.leases
    end, silence_held, absence_held = leases.end(agent), 0.0, 0.0
    if not evidence.own_was_cut:
        silence_held = _silence_held(state, agent)
    if evidence.missing_since is not None:
        hold = _absence_hold(state, evidence)
        absence_held = evidence.missing_since + hold if hold else 0.0  # what is judged lags behind what is found
    elif state.protection.suspects_the_way:
        absence_held = leases.held_until(agent)
    return Bounds(end, leases.busy_until(agent), silence_held, absence_held)


def _absence_hold(state: RegistryState, evidence: Evidence) -> float:
    """Return for how many seconds it is not held against an agent that nobody listens where it is asked.

    A crash closes the connection at once. Where the servers tell of that, and told nothing of it, it is more likely
    that a server is lost with its clients, which are on their way to another one. When many are not there, probes that
    got no answer before say that the way is cut. And several that are lost at the same moment may come back together.
    """
    grace = state.limits.reconnect_grace
    if not state.protection.suspects_the_way:
        if evidence.closed_at is None:
            return grace if state.connections_watched else 0.0
        return grace if state.protection.is_burst(evidence.closed_at) else 0.0
    is_crash = evidence.was_cut or not (state.connections_watched or evidence.was_lost)
    return grace if is_crash else MIN_SILENCE_HELD


def _silence_held(state: RegistryState, agent: Agent) -> float:
    """Return the instant until which an agent's silence is not held against it."""
    protection, most = state.protection, state.leases.held_until(agent)
    if SILENCE in protection.causes:
        return most
    if protection.silence_ended is None:
        return 0.0
    return min(most, protection.silence_ended + LATE_BEAT * agent.record.heartbeat_interval)


def is_well(agent: Agent, at: float) -> bool:
    """Return whether nothing at all speaks against an agent whose lease cannot have ended."""
    record = agent.record
    if (
        at >= agent.heard + record.heartbeat_timeout
        or agent.health < HEALTHY
        or record.flaps is not None
        or record.canaries
    ):
        return False
    return agent.evidence is NOTHING or agent.evidence.is_harmless


def verdict(state: RegistryState, agent: Agent, at: float) -> tuple[Verdict, float]:
    """Return what the evidence says of an agent at an instant, and since when."""
    judged = min(at, max(state.path.judged_to, agent.heard))
    return judge(agent.evidence, agent.heard, bounds(state, agent), judged)


@dataclass(frozen=True, slots=True)
class Condition:
    """What the status of an agent is to follow, and the reason that goes with it."""

    cause: Cause
    reason: str


_GOOD = Condition(Cause.HEALTH_GOOD, "recovered")
_FAIR = Condition(Cause.HEALTH_FAIR, "health")
_POOR = Condition(Cause.HEALTH_POOR, "health")


def condition(state: RegistryState, agent: Agent, at: float) -> Condition | None:
    """Return the condition of an agent; None while it is not to be told, and its status stays."""
    found, _ = verdict(state, agent, at)
    if found is Verdict.PARTITIONED:
        return None
    if found is Verdict.GONE:
        return Condition(Cause.LOST, "no_responders")
    if found is Verdict.SILENT:
        # The silence of who drains ends its draining; and that of nobody is ordered again right after it was.
        is_for_later = agent.status is Status.DEREGISTERING or at < agent.lapse_at
        return None if is_for_later else Condition(Cause.LOST, _silence(agent.evidence))
    if agent.health < FAIR:
        return _POOR
    weakness = REASONS.get(found) or _standing_flaw(state, agent, at)
    if weakness is not None:
        return Condition(Cause.HEALTH_FAIR, weakness)
    return _GOOD if agent.health >= HEALTHY else _FAIR


def _silence(evidence: Evidence) -> str:
    """Return the reason for which a silent agent is given up."""
    if evidence.own_was_cut:
        return "disconnected"
    return "heartbeat_timeout" if evidence.does_not_answer_since is None else REASONS[Verdict.HUNG]


def _standing_flaw(state: RegistryState, agent: Agent, at: float) -> str | None:
    if state.canaries.failing(agent.agent_id):
        return "canary"
    flaps = agent.record.flaps
    if flaps is not None and flapping.held_until(flaps, state.wall(at)) is not None:
        return "flapping"
    return None
