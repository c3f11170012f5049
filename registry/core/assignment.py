"""An assignment: slots of one agent, reserved for one task until it ends. The bucket holds one a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any

from registry.core.record import EVENT_VERSION

ASSIGNMENT_VERSION = 1
"""Version of the form in the bucket. A newer one is kept and served as far as it is understood."""

RELEASED = "released"
EXPIRED = "expired"
DEREGISTERED = "deregistered"
TAKEOVER = "takeover"
"""Why an assignment ended; or what its agent went offline for."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an assignment ended."""

    reason: str
    at: float
    """Unix time, s."""
    end_id: str = ""
    """Names the end: who finds it in the log knows whether it is his. Empty if an older version wrote it."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Slots of an agent's incarnation, reserved for a task. Times are Unix seconds."""

    assignment_id: str
    task_id: str
    agent_id: str
    incarnation: int
    slots: int
    assigned_at: float
    expires_at: float
    identity: str | None = None
    """Who asked for it; None where identities are not verified."""
    token: int = 0
    """The fencing token: the revision that made it. 0 while that is not known."""
    ended: Ending | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by its release."""
        return self.ended is not None and self.ended.reason != RELEASED

    def end(self, reason: str, at: float, end_id: str) -> Assignment:
        """Return its final form."""
        return replace(self, ended=Ending(reason, at, end_id))

    def renew(self, expires_at: float) -> Assignment:
        """Return it with another expiry, Unix seconds."""
        return replace(self, expires_at=expires_at)

    def to_json(self) -> dict[str, Any]:
        """Return the form in the bucket, which can be written as JSON."""
        form: dict[str, Any] = {"v": ASSIGNMENT_VERSION}
        form |= {name: getattr(self, name) for name in _TYPES}
        if self.token:
            form["fencing_token"] = self.token
        if self.ended is not None:
            form["ended"] = {"reason": self.ended.reason, "at": self.ended.at, "end_id": self.ended.end_id}
        return form

    @classmethod
    def from_json(cls, form: Any, revision: int) -> Assignment:
        """Build from the form in the bucket, where anybody may have written anything.

        Args:
            form: What was read as JSON.
            revision: Of the entry; of one that is new it is the token.

        Raises:
            ValueError: If it is no assignment.
        """
        fields = _checked(form, _TYPES)
        if fields["slots"] < 1 or fields["incarnation"] < 0:
            raise ValueError(f"slots or incarnation is out of range: {form!r:.200}")
        ended, token = form.get("ended"), revision
        if ended is not None or "fencing_token" in form:
            token = _checked(form, {"fencing_token": _COUNT})["fencing_token"]
        if ended is not None:
            ended = Ending(**_checked(ended, _ENDING_TYPES), end_id=str(ended.get("end_id", "")))
        return cls(**fields, token=token, ended=ended)


_TEXT = frozenset((str,))
_COUNT = frozenset((int,))
_NUMBER = frozenset((int, float))

_TYPES: Mapping[str, frozenset[Any]] = {
    "assignment_id": _TEXT,
    "task_id": _TEXT,
    "agent_id": _TEXT,
    "incarnation": _COUNT,
    "slots": _COUNT,
    "assigned_at": _NUMBER,
    "expires_at": _NUMBER,
    "identity": frozenset((str, NoneType)),
}
_ENDING_TYPES: Mapping[str, frozenset[Any]] = {"reason": _TEXT, "at": _NUMBER}
"""The exact types of each field; `true` is no number."""


def _checked(form: Any, types: Mapping[str, frozenset[Any]]) -> dict[str, Any]:
    """Return the fields of a form that are known.

    Raises:
        ValueError: If one is missing, or of another type.
    """
    if type(form) is not dict:
        raise ValueError(f"{form!r:.80} is no object")
    for name, allowed in types.items():
        if name not in form or type(form[name]) not in allowed:
            raise ValueError(f"{name} is {form.get(name)!r:.80}")
    return {name: form[name] for name in types}


def listed(assignment: Assignment) -> dict[str, Any]:
    """Return an assignment as `registry.assignments` lists it."""
    return {
        "assignment_id": assignment.assignment_id,
        "task_id": assignment.task_id,
        "agent_id": assignment.agent_id,
        "incarnation": assignment.incarnation,
        "slots": assignment.slots,
        "fencing_token": assignment.token,
        "assigned_at": assignment.assigned_at,
        "expires_at": assignment.expires_at,
    }


def loss_of(assignment: Assignment, revision: int, log: str) -> dict[str, Any] | None:
    """Return the event that a log's entry stands for; None if the assignment lives, or was released.

    Args:
        assignment: What the entry holds.
        revision: Of the entry.
        log: Name of the log.
    """
    ended = assignment.ended
    if ended is None or not assignment.is_lost:
        return None
    return {
        "v": EVENT_VERSION,
        "event_id": f"{log}:{revision}",
        "what": "assignment_lost",
        "assignment_id": assignment.assignment_id,
        "task_id": assignment.task_id,
        "agent_id": assignment.agent_id,
        "incarnation": assignment.incarnation,
        "slots": assignment.slots,
        "fencing_token": assignment.token,
        "reason": ended.reason,
        "at": ended.at,
    }
