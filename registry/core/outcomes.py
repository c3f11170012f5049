"""How writes end: committed, lost to somebody else, or unknown until the bucket is read; and what others wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.core.changes import assess, refuse
from registry.core.commands import decide, receipt, resume
from registry.core.effects import Effect, ReadRecord, SendReply, TellAgent
from registry.core.errors import RefusedError
from registry.core.events import (
    CommandRequested,
    ReadFailed,
    RecordChanged,
    RecordRead,
    RegisterRequested,
    Verb,
    WriteCommitted,
    WriteUncertain,
)
from registry.core.limits import MAX_ATTEMPTS
from registry.core.record import Record
from registry.core.writes import Write

if TYPE_CHECKING:
    from registry.core.state import RegistryState


def committed(state: RegistryState, event: WriteCommitted) -> list[Effect]:
    """Apply a write that is durable, answer who asked for it, and decide who waited."""
    pending = state.writes.get(event.agent_id)
    if pending is None or pending.record.write_id != event.write_id:
        return []  # its outcome was already learnt by reading
    return _finish(state, pending, event.revision, event.at)


def _finish(state: RegistryState, pending: Write, revision: int, at: float) -> list[Effect]:
    agent_id, command = pending.record.agent_id, pending.command
    waiting = state.writes.end(agent_id)
    effects: list[Effect] = []
    if pending.removed:
        state.forget(agent_id, revision, pending.record)
        if isinstance(command, CommandRequested):
            effects.append(SendReply(command.reply, {"agent_id": agent_id, "deregistered": True, "revision": revision}))
    else:
        agent = state.apply(pending.record, revision, at)
        if isinstance(command, RegisterRequested):
            state.statistics.registrations += 1
            effects.append(SendReply(command.reply, receipt(agent)))
        elif command is not None:
            effects.append(SendReply(command.reply, agent))
            if command.verb is Verb.DRAIN:
                deadline = state.wall(at + state.limits.drain_timeout)
                order = {"agent_id": agent_id, "reason": command.note or "drain", "deadline": deadline}
                effects.append(TellAgent(agent_id, "drain", order))
        if not waiting:
            effects += assess(state, agent, at)
    return effects + resume(state, waiting)


def uncertain(state: RegistryState, event: WriteUncertain) -> list[Effect]:
    """Read the bucket after a write that lost or whose outcome is unknown."""
    pending = state.writes.get(event.agent_id)
    if pending is None or pending.record.write_id != event.write_id:
        return []
    state.statistics.write_conflicts += 1
    return [ReadRecord(event.agent_id)]


def record_read(state: RegistryState, event: RecordRead) -> list[Effect]:
    """Learn the outcome of an uncertain write; decide the command anew if it did not take place."""
    pending = state.writes.get(event.agent_id)
    if pending is None:
        return []
    found = event.record
    if found is not None and found.write_id == pending.record.write_id:
        return _finish(state, pending, event.revision, event.at)
    waiting = state.writes.end(event.agent_id)
    effects: list[Effect] = []
    if found is None or (found.change is not None and found.change.removed):
        state.forget(event.agent_id, event.revision, found)
    else:
        _learn(state, found, event.revision, event.at)
    command = pending.command
    if command is not None:
        try:
            if pending.attempts >= MAX_ATTEMPTS:
                raise RefusedError("unavailable", f"agent_id: {event.agent_id!r} is being changed by others; try again")
            effects += decide(state, command, pending.attempts + 1)
        except RefusedError as refused:
            effects += refuse(state, command.reply, refused)
    return effects + resume(state, waiting)


def read_failed(state: RegistryState, event: ReadFailed) -> list[Effect]:
    """Give up on a write whose outcome cannot be learnt now; the bucket's log will tell."""
    pending = state.writes.get(event.agent_id)
    if pending is None:
        return []
    waiting = state.writes.end(event.agent_id)
    effects: list[Effect] = []
    for command in [pending.command, *waiting] if pending.command is not None else waiting:
        refused = RefusedError(
            "unavailable", "JetStream does not answer; whether the change took place is unknown, try again"
        )
        effects += refuse(state, command.reply, refused)
    return effects


def record_changed(state: RegistryState, event: RecordChanged) -> list[Effect]:
    """Apply an entry of the bucket's log unless it is known already."""
    agent_id = event.agent_id
    agent = state.agents.get(agent_id)
    removal = state.removed.get(agent_id)
    known = agent.revision if agent is not None else removal.revision if removal is not None else 0
    if event.revision <= known:
        return []
    record = event.record
    if record is None or (record.change is not None and record.change.removed):
        state.forget(agent_id, event.revision, record)
        return []
    return assess(state, state.apply(record, event.revision, event.at), event.at)


def _learn(state: RegistryState, record: Record, revision: int, at: float) -> None:
    agent = state.agents.get(record.agent_id)
    if agent is None or agent.revision < revision:
        state.apply(record, revision, at)
