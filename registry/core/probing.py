"""Probing: agents are asked how they are, in turn, and at once when there is a hint that one is gone."""

from __future__ import annotations

from registry.core.agent import Agent
from registry.core.changes import answer, assess, refuse
from registry.core.effects import Announce, Effect, Probe
from registry.core.errors import RefusedError
from registry.core.events import (
    ConnectionClosed,
    ConnectionsWatched,
    Outcome,
    ProbeFinished,
    ProblemReported,
    Purpose,
)
from registry.core.evidence import Verdict
from registry.core.holder import holder_probed
from registry.core.judgement import bounds, verdict
from registry.core.limits import (
    HELD_LOOK,
    HINT_PAUSE,
    LATE,
    MAX_PROBES,
    MAX_PROBES_IN_TURN,
    MIN_PROTECTED,
    PROBE_REPEAT,
    PROBE_REPEAT_CLOSED,
    REPORT_PAUSE,
    SCOUT_PAUSE,
    SCOUTS,
    SWEEP_RATE,
    SWEEP_TIME,
)
from registry.core.protection import UNREACHABLE
from registry.core.state import RegistryState
from registry.core.status import Status
from registry.core.telemetry import count_check, renew, take

AGENT = "agent:"
"""A connection of this name, with an agent's id after it, says that it is the agent's."""


def probe_due(state: RegistryState, at: float) -> list[Effect]:
    """Probe who is due."""
    return _in_turn(state, at, at, MAX_PROBES_IN_TURN) if state.path.can_judge(at) else []


def _in_turn(state: RegistryState, at: float, until: float, most: int) -> list[Effect]:
    """Probe those whose turn comes until an instant, at most so many of them."""
    effects: list[Effect] = []
    for agent_id in list(state.probes.due(until, min(most, MAX_PROBES_IN_TURN - len(state.probing)))):
        agent = state.agents[agent_id]
        period = state.limits.probe_period
        if agent.probe_at > at or at - agent.probe_at > LATE:  # many at once, and their next turns must not come so
            agent.probe_at = at + (0.5 + 0.5 * state.random()) * period
        else:  # from when it was due, not from now: so they stay spread as they are
            agent.probe_at += period
        state.probes.watch(agent_id)
        is_known = agent.evidence.missed or agent.evidence.was_lost  # to be in trouble, which is no sample
        effects += _probe(state, agent, Purpose.HINT if is_known else Purpose.HEALTH)
    return effects


def _probe(state: RegistryState, agent: Agent, purpose: Purpose, delay: float = 0.0) -> list[Effect]:
    subject = state.health_subject(agent.record)
    if subject is None or agent.agent_id in state.probing:
        return []
    state.probing.add(agent.agent_id)
    first = state.limits.probe_timeout + state.path.allowance
    timeout = first + state.limits.patience
    return [Probe(agent.agent_id, agent.record.incarnation, subject, purpose, timeout, first, delay)]


def _ask_at(state: RegistryState, agent: Agent, at: float) -> None:
    """Let it be an agent's turn at an instant."""
    agent.probe_at = at
    if state.leading:
        state.probes.watch(agent.agent_id)


def hinted(state: RegistryState, agent: Agent, at: float) -> list[Effect]:
    """Ask an agent at once that may be gone; a moment later if it was asked just now."""
    if not state.leading or agent.status is Status.OFFLINE or state.health_subject(agent.record) is None:
        return []
    asked = agent.evidence.asked_at
    earliest = state.path.judges_from(at if asked is None else max(at, asked + HINT_PAUSE))
    if earliest <= at + HINT_PAUSE and state.path.can_judge(at) and len(state.probing) < MAX_PROBES:
        return _probe(state, agent, Purpose.HINT, earliest - at)
    if earliest < agent.probe_at:
        _ask_at(state, agent, earliest)
    return []


def connection_closed(state: RegistryState, event: ConnectionClosed) -> list[Effect]:
    """Ask at once whose connection has ended."""
    effects: list[Effect] = []
    adopted = state.adoption.at_connection(event.server_id, event.client_id)
    named = (state.agents.get(agent_id) for agent_id in dict.fromkeys((event.name.removeprefix(AGENT), *adopted)))
    agents = [agent for agent in named if agent is not None and agent.status is not Status.OFFLINE]
    if any(agent.status is not Status.DEREGISTERING for agent in agents):
        state.protection.lost(event.at)  # one loss, however many services share the connection
    for agent in agents:
        effects += _closed(state, agent, event)
    for agent_id in adopted:
        state.adoption.strayed[agent_id] = None  # if it is there, it has another one
    return effects


def _closed(state: RegistryState, agent: Agent, event: ConnectionClosed) -> list[Effect]:
    named = agent.record.connection or {}
    is_own = (named.get("server_id"), named.get("client_id")) == (event.server_id, event.client_id)
    if is_own or not agent.evidence.own_was_cut:  # what somebody else calls so says less
        found = agent.finding()
        found.closed_at, found.closed_reason, found.is_own = event.at, event.reason, is_own
    return hinted(state, agent, event.at)


def connections_watched(state: RegistryState, event: ConnectionsWatched) -> list[Effect]:
    """Take note of whether closed connections are heard of."""
    state.connections_watched = event.watched
    return []


def problem_reported(state: RegistryState, event: ProblemReported) -> list[Effect]:
    """Ask an agent of which somebody has reported a problem, unless it has been asked just now."""
    try:
        agent = state.get(event.agent_id)
    except RefusedError as refused:
        return refuse(state, event.reply, refused)
    found = agent.finding()
    found.reports += 1
    found.reported_at, found.problem = event.at, event.problem
    was_asked = found.asked_at is not None and event.at < found.asked_at + REPORT_PAUSE
    effects = [] if was_asked else hinted(state, agent, event.at)
    body = {
        "agent_id": agent.agent_id,
        "status": agent.status,
        "verdict": verdict(state, agent, event.at)[0],
        "probed": bool(effects) or agent.agent_id in state.probing,
    }
    return effects + answer(event.reply, body)


def probe_finished(state: RegistryState, event: ProbeFinished) -> list[Effect]:
    """Draw the conclusion from a probe."""
    if event.purpose is Purpose.HOLDER:
        return holder_probed(state, event)
    state.probing.discard(event.agent_id)
    agent = state.agents.get(event.agent_id)
    count_check(state, event.outcome is Outcome.ANSWERED)
    if not state.leading:
        return []  # who leads now asks himself
    if agent is None or agent.record.incarnation != event.incarnation or agent.status is Status.OFFLINE:
        return []
    if event.outcome is not Outcome.ANSWERED and not state.path.was_clear(event.at - event.took, event.at):
        _ask_at(state, agent, state.path.judges_from(event.at + LATE))  # says nothing of the agent
        return []
    if event.subject != state.health_subject(agent.record):
        return []  # it was changed meanwhile
    return _conclude(state, agent, event)


def _conclude(state: RegistryState, agent: Agent, event: ProbeFinished) -> list[Effect]:
    found, sent = agent.finding(), event.at - event.took
    found.asked_at, found.took, found.outcome = sent, event.took, event.outcome
    is_answered = event.outcome is Outcome.ANSWERED
    if agent.status is not Status.DEREGISTERING:  # nobody is missed who is to leave
        if event.purpose is Purpose.HEALTH:
            state.protection.sample(event.at, is_answered)
        if not is_answered and agent.heard < sent:
            state.leases.unreachable.add(agent.agent_id)
    if is_answered:
        is_late = event.took > state.limits.probe_timeout + state.path.allowance
        found.answered(event.at, is_late and not state.protection.suspects_the_way)
        state.catalog.moved(agent)
        renew(state, agent, event.at)
        take(state, agent, event.at, event.health_score, event.load_factor)
        return assess(state, agent, event.at)
    state.catalog.moved(agent)
    effects = protect(state, event.at)  # and not at the next tick, before which there may be a verdict
    if event.outcome is Outcome.TIMEOUT:
        return effects + _unanswered(state, agent, event.at, sent)
    return effects + _missing(state, agent, event.at)


def _unanswered(state: RegistryState, agent: Agent, at: float, sent: float) -> list[Effect]:
    if state.protection.suspects_the_way and agent.heard < sent:  # nor was anything heard of it: ask again soon
        agent.finding().was_lost = True
        _ask_at(state, agent, at + HELD_LOOK)
    else:
        agent.finding().unanswered(sent)
    return assess(state, agent, at) + _scout(state, at)


def _missing(state: RegistryState, agent: Agent, at: float) -> list[Effect]:
    found = agent.finding()
    if found.was_stale:  # it hangs, or its machine does; the end of its lease decides
        found.stale(at)
        return assess(state, agent, at)
    found.missing(at)
    if not found.is_gone:
        wait = PROBE_REPEAT if found.closed_at is None else PROBE_REPEAT_CLOSED
        return _probe(state, agent, Purpose.HINT, wait + state.path.allowance) + _scout(state, at)
    if verdict(state, agent, at)[0] is Verdict.PARTITIONED:  # until then it is asked again, and once more
        held = max(at, bounds(state, agent).absence_held) + HINT_PAUSE
        _ask_at(state, agent, min(held, at + state.limits.probe_period))
    return assess(state, agent, at)


def _scout(state: RegistryState, at: float) -> list[Effect]:
    """Ask some others early whose turn comes next, now that one could not be reached: is it alone with that?"""
    if not state.leading or at < state.scouted_at + SCOUT_PAUSE or len(state.probes) < MIN_PROTECTED:
        return []
    state.scouted_at = at
    state.protection.begin_sample()
    return _in_turn(state, at, float("inf"), SCOUTS)


def protect(state: RegistryState, at: float) -> list[Effect]:
    """See whether verdicts are to be held back, and say so when that changes."""
    effects: list[Effect] = []
    statuses, leases = state.catalog.statuses, state.leases
    live = len(state.agents) - statuses[Status.OFFLINE] - statuses[Status.DEREGISTERING]
    late, unreachable = leases.count_late(at), len(leases.unreachable)
    for cause, begins in state.protection.review(at, late, unreachable, live, state.path.hindrance(at)):
        if begins and cause == UNREACHABLE:
            _sweep(state, at)
        what = "protection_on" if begins else "protection_off"
        details = {"cause": cause, "late_agents": late, "unreachable_agents": unreachable, "live_agents": live}
        effects.append(Announce(what, state.epoch, state.protection.changes, details))
    return effects


def _sweep(state: RegistryState, at: float) -> None:
    """Let all be asked soon, to see how many cannot be reached."""
    span = max(SWEEP_TIME, len(state.probes) / SWEEP_RATE)
    for agent in state.agents.values():
        soon = at + state.random() * span
        if agent.agent_id in state.probes and soon < agent.probe_at:
            _ask_at(state, agent, soon)
