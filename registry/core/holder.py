"""Judging whether the holder of an id is gone, for another instance that wants to register it."""

from __future__ import annotations

from registry.core.changes import refuse
from registry.core.commands import resume
from registry.core.effects import Effect, Probe
from registry.core.errors import RefusedError
from registry.core.events import Outcome, ProbeFinished, Purpose, RegisterRequested
from registry.core.limits import GONE, HOLDER_PATIENCE, HOLDER_RETRY, PROBE_REPEAT
from registry.core.registering import already_registered, register
from registry.core.state import RegistryState


def holder_probed(state: RegistryState, event: ProbeFinished) -> list[Effect]:
    """Judge a registration for an id that another instance holds, now that the holder was probed."""
    pending = state.writes.get(event.agent_id)
    if pending is None or not isinstance(pending.command, RegisterRequested):
        return []
    agent, command = state.agents.get(event.agent_id), pending.command
    if event.outcome is Outcome.NO_RESPONDERS and agent is not None:
        holder = agent.record
        if event.incarnation != holder.incarnation or agent.signs != pending.signs:
            pending.missed = 0  # it is another one now, or has given a sign of life since
        judged = state.path.can_judge(event.at) and not state.protection.suspects_the_way
        pending.missed, pending.signs = pending.missed + judged, agent.signs
        patient = judged or event.at - command.at < HOLDER_PATIENCE
        subject = state.health_subject(holder)
        if pending.missed < GONE and patient and subject is not None:
            wait = PROBE_REPEAT if judged else HOLDER_RETRY
            return [
                Probe(
                    holder.agent_id, holder.incarnation, subject, Purpose.HOLDER, state.limits.probe_timeout, delay=wait
                )
            ]
    waiting = state.writes.end(event.agent_id)
    try:
        gone = pending.missed >= GONE
        if agent is not None and not gone:
            raise already_registered(agent.record)
        effects = register(state, command, pending.attempts, holder_is_gone=gone)
    except RefusedError as refused:
        effects = refuse(state, command.reply, refused)
    return effects + resume(state, waiting)
