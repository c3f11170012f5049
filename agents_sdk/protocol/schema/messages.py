"""Every message of the contract, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field

from agents_sdk.protocol.errors import ERRORS
from agents_sdk.protocol.events import AssignmentLost, ConflictEvent, RegistryEvent, StatusEvent
from agents_sdk.protocol.model import Reply
from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.scaling import ScalingOrder
from agents_sdk.protocol.subjects import Subjects
from agents_sdk.protocol.topics import DrainNotice, HealthAnswer


class Fault(Reply):
    """One thing that was wrong."""

    field: str
    """Which field, as a path such as `tags[0]`; `payload` for the whole."""
    message: str
    """What was given, and what would be accepted."""


class Error(Reply):
    """What went wrong."""

    code: str = Field(json_schema_extra={"enum": list(ERRORS)})
    """Decide by this."""
    message: str
    """One sentence for people."""
    details: list[Fault]
    """Field by field; may be empty."""
    retryable: bool
    """Whether the same request may succeed later, unchanged."""


class ErrorReply(Reply):
    """The answer to a request that was refused; other answers have no field `error`."""

    error: Error


class EventKind(NamedTuple):
    """A kind of event: what is said, and where, with parameters in braces for what differs."""

    message: type[Reply]
    subject: Callable[[Subjects], str]


EVENTS: Mapping[str, EventKind] = {
    "status": EventKind(StatusEvent, lambda of: of.status_event("{status}", "{agent_id}")),
    "scaling": EventKind(ScalingOrder, lambda of: of.scaling_event("{action}", "{capability}")),
    "registry": EventKind(RegistryEvent, lambda of: of.registry_event("{what}")),
    "conflict": EventKind(ConflictEvent, lambda of: of.conflict_event("{kind}")),
    "assignment": EventKind(AssignmentLost, lambda of: of.loss_event("{agent_id}")),
}
"""The kinds of events that are published. A new one is one entry here, and an example of its message."""

Side = Literal["validation", "serialization"]
"""Whether the registry reads a message or makes it, in the words of pydantic."""

_READ = (*(operation.request for operation in OPERATIONS.values()), HealthAnswer)
_MADE = (
    *(operation.reply for operation in OPERATIONS.values()),
    *(kind.message for kind in EVENTS.values()),
    ErrorReply,
    DrainNotice,
)

MESSAGES: Mapping[str, tuple[Any, Side]] = {
    **{message.__name__: (message, "validation") for message in _READ},
    **{message.__name__: (message, "serialization") for message in _MADE},
}
"""Name to the message and its side, in the order of the operations."""
