"""Who may speak for an agent."""

from __future__ import annotations

from registry.core.agent import Agent
from registry.core.assignment import Assignment
from registry.core.errors import RefusedError


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


def check_assigner(known: str | None, identity: str | None) -> None:
    """Refuse who asks for a task that somebody else has an assignment for.

    Args:
        known: The identity that asked first; None where identities are not verified.
        identity: The one that asks now.

    Raises:
        RefusedError: `forbidden`.
    """
    if known is not None and known != identity:
        message = "another identity has an assignment for this task"
        raise RefusedError("forbidden", f"task_id: {message}", ("task_id", message))


def check_releaser(
    assignment: Assignment, agent: Agent | None, agent_id: str | None, identity: str | None, named: str
) -> None:
    """Refuse who neither made an assignment nor is its agent.

    Args:
        assignment: Which.
        agent: Its agent, if that is known.
        agent_id: The agent that asks; None if it is somebody else.
        identity: The identity that asks; None where identities are not verified.
        named: The field by which the assignment was named.

    Raises:
        RefusedError: `forbidden`.
    """
    if agent_id not in (None, assignment.agent_id):
        message = f"is an assignment of another agent than {agent_id!r}"
        raise RefusedError("forbidden", f"{named}: {message}", (named, message))
    if assignment.identity is None:
        return
    own = None if agent is None else agent.record.identity
    if identity is None or identity not in (assignment.identity, own):
        message = "was made by another identity"
        raise RefusedError("forbidden", f"{named}: {message}", (named, message))
