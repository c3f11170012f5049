"""How writes end: committed, lost to somebody else, or unknown until the bucket is read; and what others wrote."""

from __future__ import annotations

from registry.core.agent import Agent
from registry.core.changes import answer, assess, checkpointed, refuse, removal, taken_back
from registry.core.clashes import claim_held
from registry.core.commands import decide, resume
from registry.core.effects import AwaitRevision, Effect, PutRecord, ReadRecord
from registry.core.errors import RefusedError
from registry.core.events import (
    BucketListed,
    BucketReplaced,
    ReadFailed,
    RecordChanged,
    RecordRead,
    RegisterRequested,
    RevisionAwaited,
    Verb,
    WriteCommitted,
    WriteRefused,
    WriteUncertain,
)
from registry.core.limits import MAX_ATTEMPTS
from registry.core.record import Record
from registry.core.registering import receipt
from registry.core.state import RegistryState
from registry.core.writes import Write


def committed(state: RegistryState, event: WriteCommitted) -> list[Effect]:
    """Take note of a write that is durable."""
    pending = state.writes.get(event.agent_id)
    if pending is None or pending.record.write_id != event.write_id:
        return []  # its outcome was already learnt from the log, or by reading
    return _finish(state, pending, pending.record, event.revision, event.at)


def _finish(state: RegistryState, pending: Write, record: Record, revision: int, at: float) -> list[Effect]:
    """Apply what was written, answer who asked for it, and decide who waited."""
    state.learn(record.agent_id, record, revision, at)
    if record.claims and isinstance(pending.command, RegisterRequested) and pending.refusal is None:
        pending.settling = revision
        return [AwaitRevision(record.agent_id, revision)]
    waiting = state.writes.end(record.agent_id)
    if pending.refusal is not None and pending.command is not None:
        effects = refuse(state, pending.command.reply, pending.refusal)
    else:
        effects = _answers(state, pending, record, revision, at)
    effects += resume(state, waiting)
    agent = state.agents.get(record.agent_id)
    return effects if agent is None else effects + assess(state, agent, at)


def _answers(state: RegistryState, pending: Write, record: Record, revision: int, at: float) -> list[Effect]:
    """Return what a write's command leads to once its record is durable."""
    command = pending.command
    if command is None:
        return []
    if isinstance(command, RegisterRequested):
        state.statistics.registrations += pending.sent and record.change is not None
        return answer(command.reply, receipt(record, revision))
    if command.verb is Verb.DEREGISTER:
        gone = {"agent_id": record.agent_id, "deregistered": True, "revision": revision}
        return answer(command.reply, gone)
    known = state.agents.get(record.agent_id)
    if known is None or known.revision != revision:  # somebody else was quicker than the acknowledgement
        known = Agent(record, revision, heard=at, since=at, load_at=None)
    return answer(command.reply, known)


def revision_awaited(state: RegistryState, event: RevisionAwaited) -> list[Effect]:
    """Answer a registration with claims, now that the log shows who made them first."""
    pending = state.writes.get(event.agent_id)
    if pending is None or pending.settling != event.revision:
        return []
    command, record = pending.command, pending.record
    assert command is not None, "only registrations claim"
    agent = state.agents.get(event.agent_id)
    refusal = _refusal(state, record) if event.reached else None
    left = {} if agent is None else dict(state.catalog.claims.lost(agent.record))
    if refusal is not None and agent is not None and left:
        return _undo(state, pending, agent, left, refusal, event.at)
    waiting = state.writes.end(event.agent_id)
    if not event.reached:
        unknown = "the log of the registry is late; whether the claims are held is unknown, try again"
        effects = refuse(state, command.reply, RefusedError("unavailable", f"claims: {unknown}"))
    elif refusal is not None:
        effects = refuse(state, command.reply, refusal)
    else:
        effects = _answers(state, pending, record, event.revision, event.at)
    return effects + resume(state, waiting) + ([] if agent is None else assess(state, agent, event.at))


def _refusal(state: RegistryState, record: Record) -> RefusedError | None:
    """Return why a registration does not hold what it claims; None if it does, or did until somebody changed that."""
    for claim, holder in state.catalog.claims.lost(record):
        return claim_held(claim, holder, record.agent_id)
    agent, gone = state.agents.get(record.agent_id), state.removed.get(record.agent_id)
    if agent is None:
        undone = gone is not None and gone.commands == record.commands
    else:
        undone = agent.record.commands == record.commands and not set(record.claims) <= set(agent.record.claims)
    if undone:  # by the leader; and the one that had been first has let go since
        message = "another agent had made one of them first; try again"
        return RefusedError("conflict", f"claims: {message}", ("claims", message))
    return None


def _undo(
    state: RegistryState, pending: Write, agent: Agent, lost: dict[str, str], refusal: RefusedError, at: float
) -> list[Effect]:
    """Take back a registration whose claims another one made first, as far as it made anything."""
    record = taken_back(state, agent, at, lost)
    undo = Write(record, record.is_removal, pending.command, waiting=pending.waiting, refusal=refusal)
    state.writes.start(undo)
    return [PutRecord(record, agent.revision, undo.removed)]


def _undo_again(state: RegistryState, pending: Write, found: Record | None, at: float) -> list[Effect]:
    """Take back what is left of a registration after somebody else has written: the leader undoes it, too."""
    assert pending.refusal is not None, "or it would not be undone"
    waiting, refusal = state.writes.end(pending.record.agent_id), pending.refusal
    agent = state.agents.get(pending.record.agent_id)
    if agent is not None and found is not None and pending.attempts < MAX_ATTEMPTS:
        lost = dict(state.catalog.claims.lost(agent.record))
        is_ours = found.commands == pending.record.commands  # commands that came since were answered, and stand
        if is_ours and (pending.removed or lost):
            record = removal(state, agent, at) if pending.removed else taken_back(state, agent, at, lost)
            again = Write(record, record.is_removal, pending.command, pending.attempts + 1, waiting, refusal=refusal)
            state.writes.start(again)
            return [PutRecord(record, agent.revision, again.removed)]
    reply = None if pending.command is None else pending.command.reply
    return refuse(state, reply, refusal) + resume(state, waiting)


def uncertain(state: RegistryState, event: WriteUncertain) -> list[Effect]:
    """Read the bucket after a write that lost or whose outcome is unknown."""
    pending = state.writes.get(event.agent_id)
    if pending is None or pending.record.write_id != event.write_id:
        return []
    state.statistics.write_conflicts += 1
    pending.reading, pending.known = True, state.known_revision(event.agent_id)
    return [ReadRecord(event.agent_id)]


def record_read(state: RegistryState, event: RecordRead) -> list[Effect]:
    """Learn the outcome of an uncertain write; decide the command anew if it did not take place."""
    pending = state.writes.get(event.agent_id)
    if pending is None or not pending.reading:
        return []  # the log settled the write that this was asked for
    found, command = event.record, pending.command
    if found is not None and found.write_id == pending.record.write_id:
        return _finish(state, pending, found, event.revision, event.at)
    if found is not None:
        state.learn(event.agent_id, found, event.revision, event.at)
    elif pending.known == state.known_revision(event.agent_id):
        _not_there(state, event)
    if pending.refusal is not None:
        return _undo_again(state, pending, found, event.at)
    waiting = state.writes.end(event.agent_id)
    effects: list[Effect] = []
    if command is not None:
        try:
            if pending.attempts >= MAX_ATTEMPTS:
                raise RefusedError("unavailable", f"agent_id: {event.agent_id!r} is being changed by others; try again")
            effects += decide(state, command, pending.attempts + 1)
        except RefusedError as refused:
            effects += refuse(state, command.reply, refused)
    effects += resume(state, waiting)
    agent = state.agents.get(event.agent_id)
    return effects if agent is None else effects + assess(state, agent, event.at)


def _not_there(state: RegistryState, event: RecordRead) -> None:
    """Take note that the bucket has no record of an agent, and that nobody has written one since it was asked."""
    agent = state.agents.get(event.agent_id)
    if agent is not None and not event.readable:
        # What somebody else put in its place says nothing of the agent, and is written over with the next change.
        state.apply(checkpointed(state, agent), event.revision, event.at)
    else:
        state.forget(event.agent_id, event.revision, None)


def read_failed(state: RegistryState, event: ReadFailed) -> list[Effect]:
    """Give up on a write whose outcome cannot be learnt now; the bucket's log will tell."""
    pending = state.writes.get(event.agent_id)
    if pending is None or not pending.reading:
        return []
    waiting = state.writes.end(event.agent_id)
    effects: list[Effect] = []
    if pending.command is not None:
        unknown = "; whether the change took place is unknown" if pending.sent else ""
        effects += refuse(state, pending.command.reply, RefusedError("unavailable", f"{event.why}{unknown}, try again"))
    for command in waiting:
        effects += refuse(state, command.reply, RefusedError("unavailable", f"{event.why}, try again"))
    return effects


def write_refused(state: RegistryState, event: WriteRefused) -> list[Effect]:
    """End a write that cannot take place; trying again would change nothing."""
    pending = state.writes.get(event.agent_id)
    if pending is None or pending.record.write_id != event.write_id:
        return []
    waiting = state.writes.end(event.agent_id)
    effects: list[Effect] = []
    if pending.command is not None:
        refusal = RefusedError("payload_too_large", f"metadata: {event.why}", ("metadata", event.why))
        effects += refuse(state, pending.command.reply, refusal)
    return effects + resume(state, waiting)


def record_changed(state: RegistryState, event: RecordChanged) -> list[Effect]:
    """Take an entry of the bucket's log, unless it is known already."""
    record, pending = event.record, state.writes.get(event.agent_id)
    if event.revision <= state.known_revision(event.agent_id):
        return []
    if pending is not None and record is not None and record.write_id == pending.record.write_id:
        return _finish(state, pending, record, event.revision, event.at)  # the log was quicker than the acknowledgement
    state.learn(event.agent_id, record, event.revision, event.at, event.swept)
    state.unassessed[event.agent_id] = None
    return []


def bucket_replaced(state: RegistryState, _: BucketReplaced) -> list[Effect]:
    """Forget what the bucket before held: none of it is durable any more, and its revisions compare with no new one.

    Writes on their way stay: they lose against the new bucket, which is then read, and are decided anew.
    """
    state.begin_anew()
    return []


def bucket_listed(state: RegistryState, event: BucketListed) -> list[Effect]:
    """Forget who is not in the bucket any more, unless something newer is known of them than was looked at."""
    known = [agent_id for agent_id, agent in state.agents.items() if agent.revision <= event.revision]
    for agent_id in known:
        if agent_id not in event.agent_ids:
            state.forget(agent_id, 0, None)
    return []
