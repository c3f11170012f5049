"""Assignments: slots of an agent reserved for a task, in one step with finding it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field

from agents_sdk.protocol.discovery import AgentInfo
from agents_sdk.protocol.fields import AgentId, Capability, JsonObject, Name, Score, Text
from agents_sdk.protocol.model import Command, Reply

MAX_SLOTS = 1000
MAX_TTL = 86_400.0
MAX_WAIT = 60.0
"""Seconds."""

MAX_TASK_ID = 128
"""Characters."""

DEFAULT_TTL = 60.0

Slots = Annotated[int, Field(strict=True, ge=1, le=MAX_SLOTS)]
Names = Annotated[frozenset[Name], Field(max_length=64)]
TaskId = Annotated[str, Field(strict=True, min_length=1, max_length=MAX_TASK_ID)]
AssignmentId = Annotated[str, Field(strict=True, min_length=1, max_length=MAX_TASK_ID)]


class AssignmentRequest(Command):
    """Which agents would do, and what is wanted of one of them. The first fields mean what they mean in a query."""

    capabilities: Annotated[frozenset[Capability], Field(max_length=64)] | None = None
    agent_type: Name | None = None
    min_health_score: Score = 0.5
    max_load_factor: Score = 0.8
    """Of its load beyond what is reserved of it."""
    tags: Names | None = None
    version: Text | None = None
    metadata: JsonObject | None = None
    skills: Annotated[frozenset[Text], Field(max_length=64)] | None = None
    prefer_tags: Names | None = None
    exclude: Annotated[frozenset[AgentId], Field(max_length=1000)] | None = None
    task_id: TaskId | None = None
    """Asked again with it, the answer is the same assignment as long as that lives."""
    slots: Slots = 1
    ttl: Annotated[float, Field(strict=True, ge=1.0, le=MAX_TTL, allow_inf_nan=False)] = DEFAULT_TTL
    """Seconds after which it ends by itself."""
    wait: Annotated[float, Field(strict=True, ge=0.0, le=MAX_WAIT, allow_inf_nan=False)] = 0.0
    """Seconds to wait for an agent to be free."""
    renew: Annotated[bool, Field(strict=True)] = False
    """Have the assignment that the task has live for `ttl` from now, and make none."""


class ReleaseCommand(Command):
    """The work of an assignment is done, or a task needs none any more; one of the two is named."""

    assignment_id: AssignmentId | None = None
    task_id: TaskId | None = None
    """Ends the assignment that the task has, or is about to have, or its waiting for one."""
    agent_id: AgentId | None = None
    """The agent that says so itself."""


class AssignmentsQuery(Command):
    """Which of the assignments that live to list."""

    agent_id: AgentId | None = None
    task_id: TaskId | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 100
    """How many to return at most; `total` counts all."""


class ListedAssignment(Reply):
    """An assignment that lives."""

    assignment_id: str
    task_id: str
    agent_id: str
    incarnation: int
    slots: int
    fencing_token: int
    assigned_at: float
    """Unix time in seconds."""
    expires_at: float


class AssignmentListing(Reply):
    """The assignments that live."""

    assignments: list[ListedAssignment]
    total: int


class ReleaseReceipt(Reply):
    """Whether this request ended the assignment, or the waiting for one."""

    assignment_id: str | None
    """None if the task had none."""
    released: bool


@dataclass(frozen=True)
class Grant:
    """The answer to a request for an assignment."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    assignment_id: str
    task_id: str
    agent: AgentInfo
    slots: int
    fencing_token: int
    """Grows with each assignment: whoever guards a resource refuses a lower one than it has seen."""
    assigned_at: float
    """Unix time in seconds."""
    expires_at: float
    load_factor: float
    """Of the agent, as it reported it last."""
    load_age: float | None
    """Seconds since it did."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """Build from the JSON form; fields that this version does not know are left out."""
        known = {name: wire[name] for name in cls.__dataclass_fields__ if name in wire}
        known["agent"] = AgentInfo.from_wire(wire["agent"])
        return cls(**known)
