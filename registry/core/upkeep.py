"""What time brings: leases that lapse, probes, checkpoints, scaling; and the registry's own ups and downs."""

from __future__ import annotations

from itertools import islice

from registry.core import assigned, conflicts
from registry.core.adopting import adoption_due
from registry.core.canary_runs import canaries_due
from registry.core.changes import assess, checkpointed, remove, write
from registry.core.draining import drain_due
from registry.core.effects import Effect, SweepRemoval
from registry.core.events import (
    Connected,
    Disconnected,
    LeadershipChanged,
    PulseHeard,
    Tick,
)
from registry.core.evidence import Verdict
from registry.core.judgement import verdict
from registry.core.limits import HELD_LOOK, LAPSE_RETRY, MAX_EXPIRIES, MAX_SWEEPS, SWEEP_RETRY
from registry.core.ordering import Moment
from registry.core.probing import hinted, probe_due, protect
from registry.core.state import RegistryState
from registry.core.status import Status
from registry.core.telemetry import differs

SCALING_WORK = 5_000
"""Agents looked at for scaling in one tick; further capabilities wait for the next, so that no tick takes long."""


def tick(state: RegistryState, event: Tick) -> list[Effect]:
    """Do what is due. Only the leader acts, and only while it is sure to lead, and hears and is heard."""
    at = event.at
    state.wall_offset = event.wall - at
    state.sure = event.sure
    state.path.tick(at)
    state.suspicions.look(at)
    state.standings.warm(at)
    if state.leading and not state.sure:
        return []
    unassessed, state.unassessed = state.unassessed, {}
    if not (state.leading and state.path.connected):
        return []
    effects = protect(state, at)
    for agent_id in unassessed:
        if agent_id in state.agents:
            effects += assess(state, state.agents[agent_id], at)
    effects += drain_due(state, at) + _lapse(state, at) + probe_due(state, at) + canaries_due(state, at)
    effects += _save(state, at) + _sweep(state, at) + _scale(state, at)
    return effects + conflicts.look(state, at) + assigned.due(state, at) + adoption_due(state, at)


def _lapse(state: RegistryState, at: float) -> list[Effect]:
    """Look at who is late, whose lease ends, who was kept or held back long enough."""
    effects: list[Effect] = []
    judged = min(at, state.path.judged_to)
    for agent_id in list(state.deadlines.due(judged, MAX_EXPIRIES)):
        agent = state.agents[agent_id]
        held = agent.status is not Status.OFFLINE and verdict(state, agent, at)[0] is Verdict.PARTITIONED
        if held:
            agent.finding().is_held = True
            state.catalog.moved(agent)
        if agent.status is Status.OFFLINE:
            effects += remove(state, agent, at, "retention")
        elif agent.status is Status.DEREGISTERING:
            if not held or at >= agent.since + state.limits.drain_timeout:
                effects += remove(state, agent, at, "draining")
        else:
            if not state.leases.is_late(agent_id) and judged >= state.leases.late_at(agent):
                state.leases.late[agent_id] = at
                effects += hinted(state, agent, at)
            effects += assess(state, agent, at)
        due = state.due_at(agent_id)
        if due is not None and due <= judged:
            # Should nothing come of it; a change of status brings its own deadline.
            agent.lapse_at = at + (HELD_LOOK if held else LAPSE_RETRY)
        state.deadlines.watch(agent_id)
    return effects


def _save(state: RegistryState, at: float) -> list[Effect]:
    effects: list[Effect] = []
    for agent_id, due in list(islice(state.unsaved.items(), MAX_EXPIRIES)):
        if due > at:
            break
        del state.unsaved[agent_id]
        agent = state.agents[agent_id]
        agent.checkpoint_due = False
        if differs(state, agent) and agent_id not in state.writes and agent.status is not Status.OFFLINE:
            effects += write(state, checkpointed(state, agent), agent.revision, None, 1)
    return effects


def _sweep(state: RegistryState, at: float) -> list[Effect]:
    effects: list[Effect] = []
    for agent_id, due in list(islice(state.unswept.items(), MAX_SWEEPS)):
        if due > at:
            break
        del state.unswept[agent_id]
        state.unswept[agent_id] = at + SWEEP_RETRY
        if agent_id not in state.writes:
            effects.append(SweepRemoval(agent_id, state.removed[agent_id].revision))
    return effects


def _scale(state: RegistryState, at: float) -> list[Effect]:
    effects: list[Effect] = []
    if not state.scaling_queue and at >= state.scaling_at:
        state.scaling_at = at + state.limits.scaling_interval
        known = {name for name, count in state.catalog.capabilities.items() if count} | set(state.catalog.by_capability)
        state.scaler.forget(known)
        state.scaling_queue = sorted(known | set(state.scaler.policies.own) | state.scaler.ordered(), reverse=True)
    work = 0
    settled = at >= state.leases.amnesty + state.limits.reconnect_grace
    now = Moment(at, state.wall(at), state.epoch, settled)
    while state.scaling_queue and work < SCALING_WORK:
        capability = state.scaling_queue.pop()
        work += len(state.catalog.by_capability.get(capability, ())) + 1
        effects += state.scaler.look(capability, state.catalog.of_capability, now)
    return effects


def connected(state: RegistryState, event: Connected) -> list[Effect]:
    """Judge again, from now on; but another replica may lead by now."""
    state.sure = False
    state.path.connect(event.at)
    state.leases.pardon(event.at)
    state.adoption.stray()
    return []


def disconnected(state: RegistryState, _: Disconnected) -> list[Effect]:
    """Judge nobody while nobody can be heard."""
    state.sure = False
    state.path.disconnect()
    return []


def pulse_heard(state: RegistryState, event: PulseHeard) -> list[Effect]:
    """Know how far everybody has been heard."""
    state.path.pulse(event.at, event.sent)
    return []


def leadership_changed(state: RegistryState, event: LeadershipChanged) -> list[Effect]:
    """Start to lead, with every lease running anew; or stop."""
    state.sure = event.leading
    state.scaler.begin()
    if not event.leading:
        state.follow(event.epoch)
        return assigned.follow(state)
    state.lead(event.at, event.epoch)
    conflicts.begin(state, event.at)
    effects: list[Effect] = []
    for agent in state.agents.values():
        effects += assess(state, agent, event.at)
        if agent.evidence.closed_at is not None:
            effects += hinted(state, agent, event.at)
    return effects + assigned.lead(state, event.at)
