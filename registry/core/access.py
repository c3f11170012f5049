"""Who may speak for an agent."""

from __future__ import annotations

from registry.core.agent import Agent
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
