"""Commands: registering, and what can be asked for an agent that exists. Decided here, answered when durable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from registry.core.access import check_identity, check_incarnation
from registry.core.agent import Agent
from registry.core.changes import answer, changed, refuse, write
from registry.core.effects import Effect, Probe, PutRecord, ReadRecord
from registry.core.errors import RefusedError, not_found
from registry.core.events import CommandRequested, RegisterRequested, Verb
from registry.core.judgement import condition
from registry.core.limits import MAX_ID
from registry.core.record import Record
from registry.core.registering import overtaken, register
from registry.core.state import RegistryState
from registry.core.status import Cause, Status, move
from registry.core.writes import Command, Write

_CAUSES = {Verb.SUSPEND: Cause.SUSPEND, Verb.DRAIN: Cause.DRAIN, Verb.RESUME: Cause.RESUME}


def requested(state: RegistryState, command: Command) -> list[Effect]:
    """Decide a command, or let it wait for the agent's write that is on its way."""
    command.write_id = command.write_id or state.new_id()
    # A write of unknown outcome is decided anew; that it has taken place shows its name, also when others wrote since.
    command.name = command.name or command.write_id
    agent_id = command.agent_id = command.agent_id or _made_up(command)
    try:
        state.path.check_current(command.at)
        if agent_id in state.writes:
            state.writes.wait(agent_id, command)
            return []
        state.writes.check_room()
        return decide(state, command, attempts=1)
    except RefusedError as refused:
        return refuse(state, command.reply, refused)


def _made_up(command: Command) -> str:
    """Return an id for an agent that has none: of the command's name, so that what is sent twice makes one agent."""
    assert isinstance(command, RegisterRequested), "all others name their agent"
    kind, unique = command.agent_type.replace(".", "-").replace("+", "-"), command.name or ""
    return f"{kind[: MAX_ID - 1 - len(unique)]}-{unique}"


def decide(state: RegistryState, command: Command, attempts: int) -> list[Effect]:
    """Decide a command on what is known now.

    What leads to a write is judged by the bucket: it takes the write only if what was known is true. What leads to none
    is judged by nobody, and another replica may have changed the agent a moment ago. So at the first attempt nothing is
    denied, and nothing is said to be so already, before the bucket has been asked.

    Raises:
        RefusedError: If it is refused.
    """
    try:
        if isinstance(command, RegisterRequested):
            effects = register(state, command, attempts, holder_is_gone=False)
        else:
            effects = _change(state, command, attempts)
    except RefusedError as refused:
        if attempts > 1 or refused.code == "invalid_request":
            raise
        return _ask(state, command)
    judged = any(isinstance(effect, PutRecord | Probe) for effect in effects)
    return effects if judged or attempts > 1 else _ask(state, command)


def _ask(state: RegistryState, command: Command) -> list[Effect]:
    """Read the agent of a command; what is learnt decides it anew."""
    assert command.agent_id is not None, "made up by requested"
    reads = Write.unsent(command)
    reads.reading, reads.known = True, state.known_revision(command.agent_id)
    state.writes.start(reads)
    return [ReadRecord(command.agent_id)]


def _change(state: RegistryState, command: CommandRequested, attempts: int) -> list[Effect]:
    agent = state.agents.get(command.agent_id)
    if agent is None:
        if command.verb is Verb.DEREGISTER:
            return answer(command.reply, _deregistered(state, command))
        raise not_found(command.agent_id)
    check_identity(agent, command.identity)
    check_incarnation(agent, command.incarnation)
    if command.name in agent.record.commands:
        if command.verb is Verb.DEREGISTER:  # and somebody registered the id again
            raise overtaken(agent.agent_id)
        return answer(command.reply, agent)
    if command.verb is Verb.DEREGISTER:
        gone = changed(state, agent, command.at, agent.status, "deregistered", command, removed=True)
        return write(state, gone, agent.revision, command, attempts, removed=True)
    if _is_done(agent.record, command.verb):
        return answer(command.reply, agent)
    status, reason = _after(state, agent, command)
    record = changed(state, agent, command.at, status, reason, command)
    if command.verb is not Verb.DRAIN:
        record = replace(record, held=command.verb is Verb.SUSPEND)
    return write(state, record, agent.revision, command, attempts)


def _deregistered(state: RegistryState, command: CommandRequested) -> dict[str, Any]:
    """Return the answer to a deregistration of an agent that is not there: perhaps this very command removed it."""
    removal = state.removed.get(command.agent_id)
    if removal is None or command.name not in removal.commands:
        return {"agent_id": command.agent_id, "deregistered": False}
    return {"agent_id": command.agent_id, "deregistered": True, "revision": removal.revision}


def _is_done(record: Record, verb: Verb) -> bool:
    """Return whether an agent already is what the verb asks for."""
    if verb is Verb.SUSPEND:
        return record.held and record.status is Status.SUSPENDED
    if verb is Verb.RESUME:  # what is suspended for its health alone, its health brings back
        return record.status in (Status.ACTIVE, Status.DEGRADED, Status.SUSPENDED) and not record.held
    return record.status is Status.DEREGISTERING


def _after(state: RegistryState, agent: Agent, command: CommandRequested) -> tuple[Status, str]:
    """Return the status and the reason that a verb leads to.

    Raises:
        RefusedError: `conflict`, if the agent's status does not allow it.
    """
    record, verb = agent.record, command.verb
    if record.status in (Status.OFFLINE, Status.DEREGISTERING):
        message = (
            f"{record.agent_id!r} is {record.status} ({record.status_reason}); only registering it again brings it back"
        )
        raise RefusedError("conflict", f"agent_id: {message}", ("agent_id", message))
    status = move(record.status, record.held, _CAUSES[verb])
    if verb is Verb.RESUME:
        found = condition(state, agent, command.at)
        if found is not None and found.cause is not Cause.LOST:  # which is for the leader to find
            status = move(status, False, found.cause)
        return status, "health" if status is Status.SUSPENDED else "operator"
    return status, "draining" if verb is Verb.DRAIN else "operator"


def resume(state: RegistryState, waiting: list[Command]) -> list[Effect]:
    """Decide the commands that waited for a write, now that it has ended."""
    effects: list[Effect] = []
    for command in waiting:
        effects += requested(state, command)
    return effects
