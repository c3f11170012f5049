"""Registering: who may have an id, and what becomes of its record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from registry.core import flapping
from registry.core.access import check_identity
from registry.core.agent import Agent
from registry.core.canaries import check_declared
from registry.core.changes import answer, changed, touched, with_command, with_reason_of, write
from registry.core.clashes import check_clashes
from registry.core.effects import AwaitRevision, Effect, Probe
from registry.core.errors import RefusedError, invalid
from registry.core.events import Purpose, RegisterRequested
from registry.core.health_subject import may_be_asked
from registry.core.limits import HEARTBEATS_IN_TIMEOUT
from registry.core.record import Change, Record
from registry.core.state import NEVER, RegistryState, Removal
from registry.core.status import Cause, Status, move
from registry.core.writes import Write

_REGISTRATION = (
    "agent_type", "capabilities", "metadata", "version", "tags", "instance_id", "heartbeat_interval",
    "heartbeat_timeout", "health_subject", "max_concurrency", "claims", "canaries", "connection",
    "adopted",
)  # fmt: skip
"""The fields of a record that a registration sets."""


def register(state: RegistryState, wanted: RegisterRequested, attempts: int, holder_is_gone: bool) -> list[Effect]:
    """Decide a registration.

    Args:
        state: What is known.
        wanted: The registration; its agent has an id by now.
        attempts: How often it was decided, this time included.
        holder_is_gone: Whether who holds the id was probed, and is not there any more.

    Raises:
        RefusedError: If it is refused.
    """
    _complete(state, wanted)
    agent_id = wanted.agent_id
    assert agent_id is not None, "made up by requested"
    agent = state.agents.get(agent_id)
    if agent is None:
        check_clashes(state, wanted, None)
        removal = state.removed.get(agent_id, NEVER)
        if wanted.name in removal.commands:
            raise overtaken(agent_id)
        record = _newcomer(wanted, agent_id, removal, state.wall(wanted.at))
        return write(state, record, removal.revision, wanted, attempts)
    known = agent.record
    check_identity(agent, wanted.identity)
    if _was_done(known, wanted):
        return _settled(state, agent, wanted, attempts)
    check_clashes(state, wanted, known)
    fields = {name: getattr(wanted, name) for name in _REGISTRATION}
    same = known.instance_id is not None and known.instance_id == wanted.instance_id
    if known.status is Status.OFFLINE:
        record = _reborn(state, agent, wanted, fields, "registered", known.incarnation + (not same))
    elif same and replace(known, **{**fields, "connection": known.connection}) == known:
        state.heard(agent, wanted.at)
        agent.seq = -1
        if state.leading and wanted.connection == known.connection:
            return _settled(state, agent, wanted, attempts)
        # The leader has to know of it, who gives up whoever he does not hear. Through which connection an agent speaks
        # is nobody else's business: it is kept, and is no event.
        record = replace(touched(state, agent, wanted), connection=wanted.connection)
    elif same:
        updated = changed(state, agent, wanted.at, known.status, "updated", wanted)
        record = _claiming(replace(with_reason_of(known, updated), **fields), agent)
    elif wanted.takeover or holder_is_gone:
        record = _reborn(state, agent, wanted, fields, "takeover", known.incarnation + 1, holder_is_gone)
    elif (subject := state.health_subject(known)) is not None:
        waits = Write.unsent(wanted, attempts)
        waits.signs = agent.signs
        state.writes.start(waits)
        return [Probe(agent_id, known.incarnation, subject, Purpose.HOLDER, state.limits.probe_timeout)]
    else:
        raise already_registered(known)
    return write(state, record, agent.revision, wanted, attempts)


def _was_done(known: Record, wanted: RegisterRequested) -> bool:
    """Return whether a registration has been carried out, and its agent has what it asked for.

    Raises:
        RefusedError: `conflict`, if it has been carried out and something else came of the agent since.
    """
    if wanted.name not in known.commands:
        return False
    if known.instance_id != wanted.instance_id:
        raise overtaken(known.agent_id)
    if set(wanted.claims) <= set(known.claims):
        return True
    if known.commands[-1] != wanted.name:
        raise overtaken(known.agent_id)
    return False  # the registry has taken claims back, which another one had made first


def _settled(state: RegistryState, agent: Agent, wanted: RegisterRequested, attempts: int) -> list[Effect]:
    """Answer a registration that has been carried out; if it claims, when the log shows that nobody was earlier."""
    record = agent.record
    if not record.claims or record.status is Status.OFFLINE:
        return answer(wanted.reply, receipt(record, agent.revision))
    state.writes.start(Write(record, command=wanted, attempts=attempts, settling=agent.revision, sent=False))
    return [AwaitRevision(agent.agent_id, agent.revision)]


def _complete(state: RegistryState, wanted: RegisterRequested) -> None:
    """Check what the wire cannot know, and fill in what was left out.

    Raises:
        RefusedError: For unknown capabilities, a lease shorter than the interval, or a health subject or canary that
            is not the agent's to name.
    """
    check_declared(wanted.canaries, wanted.capabilities, str(wanted.agent_id), state.prefix)
    if wanted.adopted is None:  # the registry itself asks for others, which know nothing of this deployment's names
        state.vocabulary.check(wanted.capabilities)
        _check_health_subject(state, wanted)
    interval = wanted.heartbeat_interval = wanted.heartbeat_interval or state.limits.heartbeat_interval
    timeout = wanted.heartbeat_timeout
    if timeout is None:
        wanted.heartbeat_timeout = interval * HEARTBEATS_IN_TIMEOUT
    elif timeout < interval:
        raise invalid("heartbeat_timeout", f"must be at least heartbeat_interval, {interval:g}; got {timeout:g}")


def _check_health_subject(state: RegistryState, wanted: RegisterRequested) -> None:
    subject = wanted.health_subject
    if subject is not None and not may_be_asked(subject, state.prefix):
        example = f"agent.{wanted.agent_id}.health_check"
        wrong = f"must not begin with $, _ or {state.prefix!r}, where the registry itself listens"
        raise invalid("health_subject", f"{wrong}; {example} would do; got {subject!r}")


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
        canaries=wanted.canaries,
        connection=wanted.connection,
        adopted=wanted.adopted,
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
    was_gone: bool = False,
) -> Record:
    """Return the record of an id that another instance takes, or that comes back from being offline.

    `was_gone` says that who held it is provably not there any more.
    """
    known, now = agent.record, state.wall(wanted.at)
    status = move(known.status, known.held, Cause.REGISTER)
    fresh: dict[str, Any] = {
        "registered_at": now,
        "last_heartbeat": now,
        "health_score": 1.0,
        "load_factor": 0.0,
        "performance_metrics": {},
        "load_reported_at": None,
        "busy_until": 0.0,
        "identity": wanted.identity,
        "incarnation": incarnation,
    }
    if known.status is Status.OFFLINE or was_gone:
        fresh["flaps"] = flapping.returned(known.flaps, now)
        if not known.held and flapping.held_until(fresh["flaps"], now) is not None:
            status, reason = Status.DEGRADED, "flapping"
    record = changed(state, agent, wanted.at, status, reason, wanted)
    if known.held:
        record = replace(record, status_reason="operator", status_note=known.status_note)
    return _claiming(replace(record, **fields, **fresh), agent)


def _claiming(record: Record, agent: Agent) -> Record:
    """Return a record that has the claims which its agent holds already as of when it made them."""
    return replace(record, claims_since=record.held_on(agent.record, agent.revision))


def overtaken(agent_id: str) -> RefusedError:
    """Return the refusal of a command that was carried out before, to an agent that is another one now."""
    message = f"was carried out before, and {agent_id!r} has been changed since"
    return RefusedError("conflict", f"Nats-Msg-Id: this command {message}", ("Nats-Msg-Id", message))


def already_registered(record: Record) -> RefusedError:
    """Return the refusal of an id that another instance holds."""
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
