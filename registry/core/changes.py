"""Changes of a record: made from what is known, ordered as a write, remembered until the write ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from registry.core import flapping
from registry.core.agent import Agent
from registry.core.clash import ClashError
from registry.core.conflicts import refused as clashed
from registry.core.effects import Effect, PutRecord, SendReply
from registry.core.errors import RefusedError
from registry.core.events import CommandRequested
from registry.core.evidence import FLAWS, REASONS, Verdict
from registry.core.judgement import condition, is_well
from registry.core.limits import MAX_COMMANDS
from registry.core.record import Change, Record
from registry.core.state import RegistryState
from registry.core.status import Cause, Status, move
from registry.core.writes import Command, Write


def refuse(state: RegistryState, reply: Any, refused: RefusedError) -> list[Effect]:
    """Answer with a refusal, count it, and have it told if it is one that others are to know of."""
    state.statistics.refused[refused.code] += 1
    told = clashed(state, refused.clash) if isinstance(refused, ClashError) else []
    return told if reply is None else [*told, SendReply(reply, refused)]


def answer(reply: Any, body: Mapping[str, Any] | Agent) -> list[Effect]:
    """Answer a request, if anybody waits."""
    return [] if reply is None else [SendReply(reply, body)]


def changed(
    state: RegistryState,
    agent: Agent,
    at: float,
    status: Status,
    reason: str,
    command: Command | None = None,
    removed: bool = False,
) -> Record:
    """Return the agent's record with another status, its vitals as they are now."""
    known, now = agent.record, state.wall(at)
    note = command.note if isinstance(command, CommandRequested) else None
    trace = None if command is None else command.trace
    epoch = state.epoch if command is None and state.leading else None
    return replace(
        known,
        **_vitals(state, agent),
        status=status,
        status_reason=reason,
        status_note=note,
        status_since=known.status_since if status is known.status else now,
        change=Change(known.status, reason, now, agent.change_revision, note, removed, trace, epoch),
        change_revision=0,
        claims_since=known.since(agent.revision),
        write_id=state.new_id() if command is None else command.write_id,
        commands=with_command(known.commands, command),
    )


def with_reason_of(known: Record, record: Record) -> Record:
    """Return a changed record whose status is there for the same reason as before."""
    return replace(record, status_reason=known.status_reason, status_note=known.status_note)


def with_command(known: tuple[str, ...], command: Command | None) -> tuple[str, ...]:
    """Return the named commands that a record remembers once this one, if it has a name, has changed it."""
    if command is None or command.name is None:
        return known
    return (*known, command.name)[-MAX_COMMANDS:]


def checkpointed(state: RegistryState, agent: Agent) -> Record:
    """Return the agent's record with its vitals as they are now, and no change."""
    return replace(
        agent.record,
        **_vitals(state, agent),
        change=None,
        change_revision=agent.change_revision,
        claims_since=agent.record.since(agent.revision),
        write_id=state.new_id(),
    )


def touched(state: RegistryState, agent: Agent, command: Command) -> Record:
    """Return the agent's record for a command that changes nothing but when the agent was last heard of."""
    return replace(checkpointed(state, agent), last_heartbeat=state.wall(command.at), write_id=command.write_id)


def _vitals(state: RegistryState, agent: Agent) -> dict[str, Any]:
    return {
        "health_score": agent.health,
        "load_factor": agent.load,
        "performance_metrics": agent.metrics,
        "last_heartbeat": agent.last_heartbeat,
        "load_reported_at": None if agent.load_at is None else state.wall(agent.load_at),
        "busy_until": state.wall(agent.busy_until) if agent.busy_until else 0.0,
    }


def change(state: RegistryState, agent: Agent, at: float, cause: Cause, reason: str) -> list[Effect]:
    """Order what the registry decided by itself: the status that follows from `cause`."""
    if not state.leading or agent.agent_id in state.writes:
        return []
    known = agent.record
    record = changed(state, agent, at, move(known.status, known.held, cause), reason)
    if reason == "recovered" and known.status_reason == REASONS[Verdict.HUNG]:
        record = replace(record, flaps=flapping.returned(known.flaps, state.wall(at)))
        if flapping.held_until(record.flaps, state.wall(at)) is not None:
            record = replace(changed(state, agent, at, Status.DEGRADED, "flapping"), flaps=record.flaps)
    return write(state, record, agent.revision, None, 1)


def remove(state: RegistryState, agent: Agent, at: float, reason: str) -> list[Effect]:
    """Order the removal of an agent that the registry decided by itself."""
    if not state.leading or agent.agent_id in state.writes:
        return []
    gone = changed(state, agent, at, agent.status, reason, removed=True)
    return write(state, gone, agent.revision, None, 1, removed=True)


def write(
    state: RegistryState, record: Record, expected: int, command: Command | None, attempts: int, removed: bool = False
) -> list[Effect]:
    """Order a write and remember it until it ends."""
    state.writes.start(Write(record, removed, command, attempts))
    return [PutRecord(record, expected, removed)]


def removal(state: RegistryState, agent: Agent, at: float) -> Record:
    """Return what removes an agent that should not have been registered."""
    return changed(state, agent, at, agent.status, "deregistered", removed=True)


def taken_back(state: RegistryState, agent: Agent, at: float, lost: Collection[str]) -> Record:
    """Return what undoes the registration that made claims which another agent had made first.

    Nobody has been told that he holds them. An agent that the registration made is removed; one that was there before
    keeps what else it has.
    """
    made = agent.record.change
    if made is not None and made.previous is Status.REGISTERING:
        return removal(state, agent, at)
    record = changed(state, agent, at, agent.status, "updated")
    kept = tuple(claim for claim in record.claims if claim not in lost)
    return replace(with_reason_of(agent.record, record), claims=kept)


def assess(state: RegistryState, agent: Agent, at: float) -> list[Effect]:
    """Move an agent to the status that its condition asks for. The leader's to do; it does so after each write too."""
    if not state.leading:
        return []
    if not state.sure:
        state.unassessed[agent.agent_id] = None
        return []
    record = agent.record
    if is_well(agent, at) and record.status is Status.ACTIVE and not record.claims:
        return []  # as after nearly every beat
    lost = [claim for claim, _ in state.catalog.claims.lost(record)] if record.claims else []
    if lost and agent.agent_id not in state.writes:  # a replica died before it took them back
        undone = taken_back(state, agent, at, lost)
        return write(state, undone, agent.revision, None, 1, removed=undone.is_removal)
    found = condition(state, agent, at)
    if found is None or record.status is Status.OFFLINE:
        return []
    status = move(record.status, record.held, found.cause)
    # That it is degraded for another reason is worth an event if the registry itself found one of the two.
    is_news = status is Status.DEGRADED and record.status is status and found.reason != record.status_reason
    if status is record.status and not (is_news and {found.reason, record.status_reason}.intersection(FLAWS)):
        return []
    return change(state, agent, at, found.cause, found.reason)
