"""What was told last of a rule that agents break: durable, so that whoever leads next does not tell it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.core.record import EVENT_VERSION

MAX_NAMED = 100
"""Agents that are named; of a rule that more of them break, not each further one is told."""


@dataclass(frozen=True, slots=True)
class Violation:
    """That agents break a rule, or break it no more. Times are Unix seconds.

    Attributes:
        kind: Of the rule.
        rule_revision: Of the rule, in the bucket; changed, it is another one.
        agents: Who breaks it, at most `MAX_NAMED`; nobody when it is over.
        total: How many do.
        since: When that was found first.
        at: When this was found.
        epoch: Of the leader that found it.
        message: The same for people.
    """

    kind: str
    rule_revision: int
    agents: tuple[str, ...]
    total: int
    since: float
    at: float
    epoch: int
    message: str

    def to_event(self, rule: str, revision: int) -> dict[str, Any]:
        """Return the event that tells it, the same each time.

        Args:
            rule: Name of the rule.
            revision: At which the bucket has this.
        """
        return {
            "v": EVENT_VERSION,
            "event_id": f"conflict:{rule}:{round(self.at * 1000)}:{revision}",
            "kind": self.kind,
            "rule": rule,
            "claim": None,
            "agents": self.agents,
            "total": self.total,
            "refused": False,
            "resolved": not self.agents,
            "message": self.message,
            "epoch": self.epoch,
            "at": self.at,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the form in the bucket."""
        return {
            "kind": self.kind,
            "rule_revision": self.rule_revision,
            "agents": self.agents,
            "total": self.total,
            "since": self.since,
            "at": self.at,
            "epoch": self.epoch,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Violation:
        """Build from the form in the bucket.

        Raises:
            ValueError: If it is not one.
        """
        try:
            return cls(
                str(form["kind"]),
                int(form["rule_revision"]),
                tuple(str(agent_id) for agent_id in form["agents"]),
                int(form["total"]),
                float(form["since"]),
                float(form["at"]),
                int(form["epoch"]),
                str(form["message"]),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not what was told of a rule: {error!r}") from error


class Violations:
    """What was told last of each rule, as the bucket has it."""

    def __init__(self) -> None:
        self.told: dict[str, Violation] = {}
        self.writing: set[str] = set()
        """Rules of which something is on its way to the bucket."""
        self.untold = False
        """Whether what the predecessor wrote last is still to be published again."""
        self.look_at = 0.0
        """Instant of the next look."""
        self._revisions: dict[str, int] = {}

    def revision(self, rule: str) -> int:
        """Return the revision at which the bucket has what was told of a rule; 0 if it never had."""
        return self._revisions.get(rule, 0)

    def learn(self, rule: str, violation: Violation | None, revision: int) -> bool:
        """Take what the bucket has at a revision, unless something newer is known; return whether it was news."""
        if revision <= self.revision(rule):
            return False
        self._revisions[rule] = revision
        self.told.pop(rule, None)
        if violation is not None:
            self.told[rule] = violation
        return True

    def begin_anew(self) -> None:
        """Know nothing: the bucket is another one."""
        self.told.clear()
        self._revisions.clear()
        self.writing.clear()
