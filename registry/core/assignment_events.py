"""Facts of assignments: what is asked for, how commits end, what their log tells. As in `events`, `at` is an instant.

Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from registry.core.assignment import Assignment
from registry.core.query import Query


@dataclass(slots=True)
class AssignmentRequested:
    """Somebody asks for slots of an agent. `ttl` and `wait` are seconds."""

    at: float
    reply: Any
    identity: str | None
    query: Query
    task_id: str
    slots: int
    ttl: float
    wait: float
    renew: bool = False
    """Whether the assignment that the task has is to live for `ttl` from now; then none is made."""
    attempts: int = 0
    """How often it was decided."""

    @property
    def deadline(self) -> float:
        """Instant at which it is told that nobody was free."""
        return self.at + self.wait


@dataclass(slots=True)
class ReleaseRequested:
    """Somebody says that the work of an assignment is done, or that a task needs none any more."""

    at: float
    reply: Any
    identity: str | None
    assignment_id: str | None
    agent_id: str | None = None
    """The agent that says so itself; None if it is somebody else."""
    task_id: str | None = None
    """Given instead of `assignment_id`."""
    attempts: int = 0


@dataclass(slots=True)
class AssignmentsQueried:
    """Somebody asks for the assignments that live; of one agent, or of one task, or of all."""

    at: float
    reply: Any
    agent_id: str | None
    task_id: str | None
    limit: int


@dataclass(slots=True)
class AssignmentsCommitted:
    """The bucket took a commit; its entries have the revisions up to this one, without a gap."""

    at: float
    number: int
    revision: int


@dataclass(slots=True)
class AssignmentsUncertain:
    """A commit lost against another one, or its outcome is unknown: the log has to be known up to its end."""

    at: float
    number: int


@dataclass(slots=True)
class AssignmentsLearnt:
    """All entries of the log up to a revision have been heard; None if they could not be, in time."""

    at: float
    number: int
    revision: int | None


@dataclass(slots=True)
class AssignmentChanged:
    """The log of assignments has a new entry, written by whomever.

    Attributes:
        assignment: In its final form if it has ended; None when the key was removed by hand, or holds no assignment.
    """

    at: float
    assignment_id: str
    assignment: Assignment | None
    revision: int


@dataclass(slots=True)
class AssignmentsReplaced:
    """The bucket of assignments is another one of the same name."""

    at: float


@dataclass(slots=True)
class AssignmentsListed:
    """The bucket was gone through, because its log may not tell of all that ended."""

    at: float
    assignment_ids: Collection[str]
    """Of which it has any entry."""
    revision: int
    """What is newer was perhaps not there yet."""
