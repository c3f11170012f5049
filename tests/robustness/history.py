"""What happened in a run: what clients did and were told, what the bucket and the stream of events hold at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DISCOVERABLE = ("active", "degraded")


class Outcome(StrEnum):
    """How an operation ended for who asked."""

    DONE = "done"
    REFUSED = "refused"
    """It did not take place, says the registry."""
    UNKNOWN = "unknown"
    """No answer, or one that says that it is not known."""


@dataclass(slots=True)
class Operation:
    """One operation of one client. Instants are monotonic seconds of the process that runs the clients."""

    client: int
    name: str
    agent_id: str
    command: str
    """Its `Nats-Msg-Id`, the same each time that it was sent."""
    began: float
    claims: tuple[str, ...] = ()
    """What it asked to hold alone."""
    ended: float = 0.0
    outcome: Outcome = Outcome.UNKNOWN
    answer: dict[str, Any] = field(default_factory=dict)
    """The fields of the answer, of an error too."""

    @property
    def remembered(self) -> str:
        """The command's name in the records that it changed."""
        return self.command if self.name == "register" else f"{self.name}-{self.command}"

    @property
    def revision(self) -> int:
        """The revision that the answer names; 0 for none."""
        return int(self.answer.get("revision") or 0)

    @property
    def code(self) -> str:
        """Code of the error that was answered, if it was one."""
        return str(self.answer.get("code", ""))


@dataclass(frozen=True, slots=True)
class Listing:
    """An answer of `discover` that should hold every agent that has the capability and can take work."""

    capability: str

    asked: int
    """The `min_revision` that was asked for."""
    revision: int
    agents: frozenset[str]
    began: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the bucket's log; `record` is empty for a marker."""

    revision: int
    agent_id: str
    record: dict[str, Any]
    removed: bool

    @property
    def change(self) -> dict[str, Any] | None:
        """The change that it made, if it made one."""
        return self.record.get("change")

    def claims(self, claim: str) -> bool:
        """Whether the agent claims a resource from here on."""
        return not self.removed and self.record.get("status") != "offline" and claim in self.record.get("claims", ())

    def can_do(self, capability: str) -> bool:
        """Whether the agent can take such work from here on."""
        return (
            not self.removed
            and self.record.get("status") in DISCOVERABLE
            and capability in self.record.get("capabilities", ())
        )


@dataclass(slots=True)
class History:
    """One run, ready to be judged."""

    bucket: str
    operations: list[Operation] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    """Every entry that the bucket has, oldest first."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Every status event in the stream, in its order."""
    beating: frozenset[str] = frozenset()
    """Agents that were heard of all the time."""
    watched: frozenset[str] | None = None
    """Agents that a watch showed at the end."""
    listed: frozenset[str] | None = None
    """Agents that the registry listed at the end, to the same query."""
