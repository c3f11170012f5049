"""Commands: registering, and what can be asked for an agent that exists. Decided here, answered when durable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from registry.core.agent import Agent
from registry.core.changes import answer, changed, refuse, with_command, with_reason_of, write
from registry.core.effects import Effect, Probe, ReadRecord, SendReply
from registry.core.errors import RefusedError, invalid, not_found
from registry.core.events import CommandRequested, Outcome, ProbeFinished, Purpose, RegisterRequested, Verb
from registry.core.health_subject import may_be_asked
from registry.core.limits import GONE, HEARTBEATS_IN_TIMEOUT, HOLDER_PATIENCE, HOLDER_RETRY, MAX_ID, PROBE_REPEAT
from registry.core.record import Change, Record
from registry.core.state import NEVER, RegistryState, Removal
from registry.core.status import Cause, Status, grade, move
from registry.core.writes import Command, Write

_CAUSES = {Verb.SUSPEND: Cause.SUSPEND, Verb.DRAIN: Cause.DRAIN, Verb.RESUME: Cause.RESUME}

_REGISTRATION = (
    "agent_type", "capabilities", "metadata", "version", "tags", "instance_id", "heartbeat_interval",
    "heartbeat_timeout", "health_subject", "max_concurrency", "claims", "connection",
)  # fmt: skip
"""The fields of a record that a registration sets."""


def requested(state: RegistryState, command: Command) -> list[Effect]:
    """Decide a command, or let it wait for the agent's write that is on its way."""
    if not state.path.is_current(command.at):
        late = "this replica was cut off or stood still, and is catching up; try again"
        return refuse(state, command.reply, RefusedError("unavailable", late))
    command.write_id = command.write_id or state.new_id()
    agent_id = command.agent_id = command.agent_id or _made_up(command)
    try:
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
    kind, unique = command.agent_type.replace(".", "-").replace("+", "-"), command.name or command.write_id
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
            effects = _register(state, command, attempts, holder_is_gone=False)
        else:
            effects = _change(state, command, attempts)
    except RefusedError as refused:
        if attempts > 1 or refused.code == "invalid_request":
            raise
        return _ask(state, command)
    wrote = any(not isinstance(effect, SendReply) for effect in effects)
    return effects if wrote or attempts > 1 else _ask(state, command)


def _ask(state: RegistryState, command: Command) -> list[Effect]:
    """Read the agent of a command; what is learnt decides it anew."""
    assert command.agent_id is not None, "made up by requested"
    known = state.known_revision(command.agent_id)
    state.writes.start(Write(_placeholder(command), command=command, reading=True, known=known, sent=False))
    return [ReadRecord(command.agent_id)]


def _placeholder(command: Command) -> Record:
    """Return what stands for a command's write while there is none yet."""
    return Record(command.agent_id or "", "", (), write_id=command.write_id)


def _change(state: RegistryState, command: CommandRequested, attempts: int) -> list[Effect]:
    agent = state.agents.get(command.agent_id)
    if agent is None:
        if command.verb is Verb.DEREGISTER:
            return answer(command.reply, _deregistered(state, command))
        raise not_found(command.agent_id)
    check_identity(agent, command.identity)
    check_incarnation(agent, command.incarnation)
    if command.name in agent.record.commands:
        return _done_before(command, agent)
    if command.verb is Verb.DEREGISTER:
        gone = changed(state, agent, command.at, agent.status, "deregistered", command, removed=True)
        return write(state, gone, agent.revision, command, attempts, removed=True)
    if _is_done(agent.record, command.verb):
        return answer(command.reply, agent)
    status, reason = _after(agent, command.verb)
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


def _done_before(command: Command, agent: Agent) -> list[Effect]:
    """Answer a command that was sent again: it has been carried out, whatever has become of the agent since."""
    if isinstance(command, RegisterRequested):
        return answer(command.reply, receipt(agent.record, agent.revision))
    if command.verb is Verb.DEREGISTER:  # and somebody registered the id again
        raise _overtaken(agent.agent_id)
    return answer(command.reply, agent)


def _overtaken(agent_id: str) -> RefusedError:
    message = f"was carried out before, and {agent_id!r} has been changed since"
    return RefusedError("conflict", f"Nats-Msg-Id: this command {message}", ("Nats-Msg-Id", message))


def _is_done(record: Record, verb: Verb) -> bool:
    """Return whether an agent already is what the verb asks for."""
    if verb is Verb.SUSPEND:
        return record.held and record.status is Status.SUSPENDED
    if verb is Verb.RESUME:  # what is suspended for its health alone, its health brings back
        return record.status in (Status.ACTIVE, Status.DEGRADED, Status.SUSPENDED) and not record.held
    return record.status is Status.DEREGISTERING


def _after(agent: Agent, verb: Verb) -> tuple[Status, str]:
    """Return the status and the reason that a verb leads to.

    Raises:
        RefusedError: `conflict`, if the agent's status does not allow it.
    """
    record = agent.record
    if record.status in (Status.OFFLINE, Status.DEREGISTERING):
        message = (
            f"{record.agent_id!r} is {record.status} ({record.status_reason}); only registering it again brings it back"
        )
        raise RefusedError("conflict", f"agent_id: {message}", ("agent_id", message))
    status = move(record.status, record.held, _CAUSES[verb])
    if verb is Verb.RESUME:
        status = move(status, False, grade(agent.health, agent.hung))
        return status, "health" if status is Status.SUSPENDED else "operator"
    return status, "draining" if verb is Verb.DRAIN else "operator"


def _register(state: RegistryState, wanted: RegisterRequested, attempts: int, holder_is_gone: bool) -> list[Effect]:
    _complete(state, wanted)
    agent_id = wanted.agent_id
    assert agent_id is not None, "made up by requested"
    agent = state.agents.get(agent_id)
    if agent is not None:
        check_identity(agent, wanted.identity)
        if wanted.name in agent.record.commands:
            return _done_before(wanted, agent)
    _check_claims(state, wanted)
    if agent is None:
        removal = state.removed.get(agent_id, NEVER)
        if wanted.name in removal.commands:
            raise _overtaken(agent_id)
        record = _newcomer(wanted, agent_id, removal, state.wall(wanted.at))
        return write(state, record, removal.revision, wanted, attempts)
    fields = {name: getattr(wanted, name) for name in _REGISTRATION}
    known = agent.record
    same = known.instance_id is not None and known.instance_id == wanted.instance_id
    if known.status is Status.OFFLINE:
        record = _reborn(state, agent, wanted, fields, "registered", known.incarnation + (not same))
    elif same:
        if replace(known, **fields) == known:
            agent.heard, agent.seq = max(agent.heard, wanted.at), -1
            return answer(wanted.reply, receipt(known, agent.revision))
        updated = changed(state, agent, wanted.at, known.status, "updated", wanted)
        record = _claiming(replace(with_reason_of(known, updated), **fields), known)
    elif wanted.takeover or holder_is_gone:
        record = _reborn(state, agent, wanted, fields, "takeover", known.incarnation + 1)
    elif (subject := state.health_subject(known)) is not None:
        state.writes.start(
            Write(_placeholder(wanted), command=wanted, attempts=attempts, signs=agent.signs, sent=False)
        )
        return [Probe(agent_id, known.incarnation, subject, Purpose.HOLDER)]
    else:
        raise _already_registered(known)
    return write(state, record, agent.revision, wanted, attempts)


def _complete(state: RegistryState, wanted: RegisterRequested) -> None:
    """Check what the wire cannot know, and fill in what was left out.

    Raises:
        RefusedError: For unknown capabilities, a lease shorter than the interval, or a health subject that is not the
            agent's to name.
    """
    state.vocabulary.check(wanted.capabilities)
    subject = wanted.health_subject
    if subject is not None and not may_be_asked(subject, state.prefix):
        example = f"agent.{wanted.agent_id}.health_check"
        wrong = f"must not begin with $, _ or {state.prefix!r}, where the registry itself listens"
        raise invalid("health_subject", f"{wrong}; {example} would do; got {subject!r}")
    interval = wanted.heartbeat_interval = wanted.heartbeat_interval or state.limits.heartbeat_interval
    timeout = wanted.heartbeat_timeout
    if timeout is None:
        wanted.heartbeat_timeout = interval * HEARTBEATS_IN_TIMEOUT
    elif timeout < interval:
        raise invalid("heartbeat_timeout", f"must be at least heartbeat_interval, {interval:g}; got {timeout:g}")


def _newcomer(wanted: RegisterRequested, agent_id: str, removal: Removal, now: float) -> Record:
    assert wanted.heartbeat_interval is not None, "filled in by _complete"
    assert wanted.heartbeat_timeout is not None, "filled in by _complete"
    return Record(
        agent_id=agent_id,
        agent_type=wanted.agent_type,
        capabilities=wanted.capabilities,
        status=Status.ACTIVE,
        status_reason="registered",
        status_since=now,
        registered_at=now,
        incarnation=removal.incarnation + 1,
        instance_id=wanted.instance_id,
        version=wanted.version,
        tags=wanted.tags,
        metadata=wanted.metadata,
        heartbeat_interval=wanted.heartbeat_interval,
        heartbeat_timeout=wanted.heartbeat_timeout,
        health_subject=wanted.health_subject,
        max_concurrency=wanted.max_concurrency,
        claims=wanted.claims,
        connection=wanted.connection,
        identity=wanted.identity,
        last_heartbeat=now,
        write_id=wanted.write_id,
        commands=with_command(removal.commands, wanted),
        change=Change(Status.REGISTERING, "registered", now, 0, trace=wanted.trace),
    )


def _reborn(
    state: RegistryState,
    agent: Agent,
    wanted: RegisterRequested,
    fields: dict[str, Any],
    reason: str,
    incarnation: int,
) -> Record:
    """Return the record of an id that another instance takes, or that comes back from being offline."""
    known, now = agent.record, state.wall(wanted.at)
    status = move(known.status, known.held, Cause.REGISTER)
    fresh: dict[str, Any] = {
        "registered_at": now,
        "last_heartbeat": now,
        "health_score": 1.0,
        "load_factor": 0.0,
        "performance_metrics": {},
        "load_reported_at": None,
        "identity": wanted.identity,
        "incarnation": incarnation,
    }
    record = changed(state, agent, wanted.at, status, reason, wanted)
    if known.held:
        record = replace(record, status_reason="operator", status_note=known.status_note)
    return _claiming(replace(record, **fields, **fresh), known)


def _claiming(record: Record, known: Record) -> Record:
    """Return a record with the revision of its claims: they are new unless the agent has held them all along."""
    if known.status is not Status.OFFLINE and set(record.claims) <= set(known.claims):
        return record
    return replace(record, claims_revision=0)


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
        judged = state.path.can_judge(event.at)
        pending.missed, pending.signs = pending.missed + judged, agent.signs
        patient = judged or event.at - command.at < HOLDER_PATIENCE
        subject = state.health_subject(holder)
        if pending.missed < GONE and patient and subject is not None:
            wait = PROBE_REPEAT if judged else HOLDER_RETRY
            return [Probe(holder.agent_id, holder.incarnation, subject, Purpose.HOLDER, wait)]
    waiting = state.writes.end(event.agent_id)
    try:
        gone = pending.missed >= GONE
        if agent is not None and not gone:
            raise _already_registered(agent.record)
        effects = _register(state, command, pending.attempts, holder_is_gone=gone)
    except RefusedError as refused:
        effects = refuse(state, command.reply, refused)
    return effects + resume(state, waiting)


def _already_registered(record: Record) -> RefusedError:
    instance = record.instance_id
    holder = "an instance without an instance_id" if instance is None else f"instance {instance}"
    message = f"{record.agent_id!r} is held by {holder}, incarnation {record.incarnation}, which is {record.status}"
    rest = "or takeover: true" if instance is None else "the same instance_id, or takeover: true"
    return RefusedError(
        "already_registered",
        f"agent_id: {message}; use another id, {rest}",
        ("agent_id", message),
        *(() if instance is None else (("instance_id", instance),)),
    )


def check_identity(agent: Agent, identity: str | None) -> None:
    """Refuse who is not the one that registered the agent.

    Raises:
        RefusedError: `forbidden`.
    """
    if agent.record.identity is not None and agent.record.identity != identity:
        message = f"{agent.agent_id!r} was registered by another identity"
        raise RefusedError("forbidden", f"agent_id: {message}", ("agent_id", message))


def check_incarnation(agent: Agent, given: int | None) -> None:
    """Refuse what is meant for, or comes from, another incarnation.

    Raises:
        RefusedError: `stale_incarnation` for an older one; `not_found` for a newer one, which is not heard of yet, or
            was lost with a bucket restored from a backup: registering again settles both.
    """
    record = agent.record
    if given is None or given == record.incarnation:
        return
    message = f"is {given}, but {record.agent_id!r} is registered as incarnation {record.incarnation}"
    if given < record.incarnation:
        message += "; stop: a newer instance has taken its place"
        raise RefusedError("stale_incarnation", f"incarnation: {message}", ("incarnation", message))
    message += "; register again"
    raise RefusedError("not_found", f"incarnation: {message}", ("incarnation", message))


def _check_claims(state: RegistryState, wanted: RegisterRequested) -> None:
    if not wanted.claims:
        return
    coming = dict(state.writes.claims(wanted.agent_id or ""))
    for claim in wanted.claims:
        holder = state.catalog.claims.holder(claim) or coming.get(claim)
        if holder is not None and holder != wanted.agent_id:
            raise claim_held(claim, holder)


def claim_held(claim: str, holder: str) -> RefusedError:
    """Return the refusal of a claim that another agent holds."""
    message = f"{claim!r} is held by agent {holder!r}"
    return RefusedError("conflict", f"claims: {message}", ("claims", message))


def receipt(record: Record, revision: int) -> dict[str, Any]:
    """Return the answer to a registration."""
    return {
        "agent_id": record.agent_id,
        "status": record.status,
        "incarnation": record.incarnation,
        "revision": revision,
        "heartbeat_interval": record.heartbeat_interval,
        "heartbeat_timeout": record.heartbeat_timeout,
        "registered_at": record.registered_at,
    }


def resume(state: RegistryState, waiting: list[Command]) -> list[Effect]:
    """Decide the commands that waited for a write, now that it has ended."""
    effects: list[Effect] = []
    for command in waiting:
        effects += requested(state, command)
    return effects
