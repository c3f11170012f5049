"""The life of an agent: statuses, what moves an agent between them, and the one table that says how."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where an agent is in its life; the wire's names."""

    REGISTERING = "registering"
    ACTIVE = "active"
    DEGRADED = "degraded"
    SUSPENDED = "suspended"
    DEREGISTERING = "deregistering"
    OFFLINE = "offline"


class Cause(StrEnum):
    """What can move an agent to another status."""

    REGISTER = "register"
    """A new instance registers, or one that was offline."""
    HEALTH_GOOD = "health_good"
    HEALTH_FAIR = "health_fair"
    HEALTH_POOR = "health_poor"
    SUSPEND = "suspend"
    """An operator takes it out of service."""
    RESUME = "resume"
    """An operator puts it back; its health decides where to."""
    DRAIN = "drain"
    LOST = "lost"
    """Gone or silent beyond its lease."""


HEALTHY = 0.8
"""From here up an agent is active."""

FAIR = 0.5
"""From here up an agent is degraded; below it is suspended. The wire's health buckets have the same bounds."""

DISCOVERABLE = frozenset((Status.ACTIVE, Status.DEGRADED))
"""Found by discover unless the query asks for others; counted as capacity by the scaler."""

_IN_SERVICE = (Status.ACTIVE, Status.DEGRADED, Status.SUSPENDED)

TRANSITIONS: dict[tuple[Status, Cause], Status] = {
    (Status.REGISTERING, Cause.REGISTER): Status.ACTIVE,
    (Status.ACTIVE, Cause.REGISTER): Status.ACTIVE,
    (Status.DEGRADED, Cause.REGISTER): Status.ACTIVE,
    (Status.SUSPENDED, Cause.REGISTER): Status.ACTIVE,
    (Status.DEREGISTERING, Cause.REGISTER): Status.ACTIVE,
    (Status.OFFLINE, Cause.REGISTER): Status.ACTIVE,
    **{(status, Cause.HEALTH_GOOD): Status.ACTIVE for status in _IN_SERVICE},
    **{(status, Cause.HEALTH_FAIR): Status.DEGRADED for status in _IN_SERVICE},
    **{(status, Cause.HEALTH_POOR): Status.SUSPENDED for status in _IN_SERVICE},
    **{(status, Cause.SUSPEND): Status.SUSPENDED for status in _IN_SERVICE},
    (Status.SUSPENDED, Cause.RESUME): Status.ACTIVE,
    **{(status, Cause.DRAIN): Status.DEREGISTERING for status in _IN_SERVICE},
    **{(status, Cause.LOST): Status.OFFLINE for status in (*_IN_SERVICE, Status.DEREGISTERING)},
}
"""(status, cause) to the next status. A pair that is not here does not move the agent.

An agent that an operator suspended is *held*: of these causes only RESUME, DRAIN and LOST move it, and should it come
back from where these two led, it is suspended again (see `move`).
"""

_MOVES_THE_HELD = (Cause.RESUME, Cause.DRAIN, Cause.LOST)


def move(status: Status, held: bool, cause: Cause) -> Status:
    """Return the status after `cause`.

    Args:
        status: The status now.
        held: Whether an operator suspended it.
        cause: What happened.
    """
    if held and cause is Cause.REGISTER:
        return Status.SUSPENDED
    if held and cause not in _MOVES_THE_HELD:
        return status
    return TRANSITIONS.get((status, cause), status)
