"""Restoring: what a backup's record becomes in the bucket, given what the bucket has of its id by now.

An id that is not there is put back as it was, as the beginning of a new life in the chain of events. One that is there
is left alone unless it is to be overwritten; and then what was declared and decided is the backup's, while whoever runs
under that id now stays who it is.

Incarnations tell an agent that runs from one that was replaced, so they never go back. A removed id keeps the highest
that it had: with a lower one, beats of an instance that was fenced would be taken again. An agent that is there keeps
its own, even if the backup has a higher one (the bucket was made anew, and the agent has registered again since): it
beats with the incarnation of its receipt, and told that this is stale it would stop for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from registry.core.effects import PutRecord
from registry.core.record import Change, Record
from registry.core.status import Status

_LIFE = ("incarnation", "instance_id", "registered_at", "connection", "identity")
"""Who runs: the fields that only the instance itself can renew."""

_VITALS = ("health_score", "load_factor", "performance_metrics", "last_heartbeat", "load_reported_at", "busy_until")
"""What was heard of who runs; a backup's is older."""

_STANDING = ("status", "status_reason", "status_note", "status_since", "held")

_GOING = (Status.DEREGISTERING, Status.OFFLINE)
"""Statuses of a life that was ending. They are not for the one that is there now: it would be told to leave."""


class Why(Enum):
    """Why the bucket is left as it is."""

    THERE = "it is there"
    SAME = "it is the same already"
    CLAIMED = "another agent holds its claim"


@dataclass(frozen=True, slots=True)
class Kept:
    """The bucket is left as it is; `note` says more for people."""

    why: Why
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What the bucket has of an id: its newest record, which may be a removal, or None; and the revision of that."""

    record: Record | None = None
    revision: int = 0

    @property
    def is_there(self) -> bool:
        """Whether there is an agent."""
        return self.record is not None and not self.record.is_removal


def restore(
    saved: Record, found: Found, claimed: Mapping[str, str], overwrite: bool, now: float, write_id: str
) -> PutRecord | Kept:
    """Decide what becomes of a record of a backup.

    Args:
        saved: The record.
        found: What the bucket has.
        claimed: Claims of agents that are there and not offline, with who holds them.
        overwrite: Whether an agent that is there is replaced.
        now: Unix time, s.
        write_id: Names the write.
    """
    known = found.record
    if known is None or known.is_removal:
        highest = saved.incarnation if known is None else max(saved.incarnation, known.incarnation)
        record = replace(saved, incarnation=highest, claims_since={})
        if known is not None:
            record = replace(record, commands=known.commands)
        change = Change(Status.REGISTERING, "restored", now, 0)
    elif not overwrite:
        return Kept(Why.THERE)
    else:
        record = _over(known, saved, found.revision)
        same = ("change", "change_revision", "claims_since", "write_id")
        if record == replace(known, **{name: getattr(record, name) for name in same}):
            return Kept(Why.SAME)
        change = Change(known.status, "restored", now, known.change_revision or found.revision)
    if record.status is not Status.OFFLINE:
        for claim in record.claims:
            if claimed.get(claim, saved.agent_id) != saved.agent_id:
                return Kept(Why.CLAIMED, f"{claim!r} is held by {claimed[claim]!r}")
    return PutRecord(replace(record, change=change, change_revision=0, write_id=write_id), found.revision)


def _over(known: Record, saved: Record, revision: int) -> Record:
    """Return the saved record as that of the agent that is there.

    Should it describe its process wrongly by now, that is put right when the process registers again.
    """
    ended = saved.status in _GOING
    kept = (*_LIFE, *_VITALS, *_STANDING) if ended else (*_LIFE, *_VITALS)
    record = replace(saved, **{name: getattr(known, name) for name in kept}, extra={**known.extra, **saved.extra})
    return replace(record, commands=known.commands, claims_since=record.held_on(known, revision))
