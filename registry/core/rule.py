"""A rule: which capabilities one agent must not combine, or which versions must not run side by side."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from registry.core.errors import invalid
from registry.core.query import VersionRange
from registry.core.status import Status

COUNTED = frozenset((Status.ACTIVE, Status.DEGRADED, Status.SUSPENDED))
"""Agents that rules are about. Who drains is on its way out and is not in the way of its successor; who is offline is
not there."""

MAX_RULES = 100
"""Rules of one registry."""


class RuleKind(StrEnum):
    """What a rule forbids; the wire's names."""

    COMBINATION = "combination"
    """One agent with all of some capabilities."""
    VERSIONS = "versions"
    """Agents whose versions are of different ranges, at the same time."""


class RuleAction(StrEnum):
    """What becomes of a registration that would break a rule; the wire's names."""

    REFUSE = "refuse"
    REPORT = "report"
    """It is admitted, and told of."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is forbidden.

    Attributes:
        name: Its name.
        kind: What it forbids.
        action: What becomes of a registration that would break it.
        capabilities: Of a combination: what one agent must not have together.
        agent_type: Of versions: whose.
        capability: Of versions: or of agents with which capability.
        versions: Of versions: the ranges, of which only one may be run at a time.
    """

    name: str
    kind: RuleKind
    action: RuleAction = RuleAction.REFUSE
    capabilities: tuple[str, ...] = ()
    agent_type: str | None = None
    capability: str | None = None
    versions: tuple[VersionRange, ...] = ()

    def check(self) -> None:
        """Refuse a rule that forbids nothing, or that has what belongs to another kind.

        Raises:
            RefusedError: `invalid_request`, naming the field.
        """
        given = {name: bool(getattr(self, name)) for name in ("capabilities", "agent_type", "capability", "versions")}
        least = "capabilities" if self.kind is RuleKind.COMBINATION else "versions"
        for name in given:
            if given[name] and (name == "capabilities") is not (self.kind is RuleKind.COMBINATION):
                raise invalid(name, f"must be left out of a rule of kind {self.kind}")
        if len(getattr(self, least)) < 2:
            raise invalid(least, f"must have 2 or more entries; has {len(getattr(self, least))}")
        if self.kind is RuleKind.VERSIONS and given["agent_type"] == given["capability"]:
            found = "both" if given["agent_type"] else "neither"
            raise invalid("agent_type", f"exactly one of agent_type and capability must be given; got {found}")

    def sides(self, agent_type: str, capabilities: Collection[str], version: str) -> tuple[int, ...]:
        """Return on which sides of the rule an agent is; on none that it does not concern.

        A combination has one side, of those who have all of it; of versions each range is one.
        """
        if self.kind is RuleKind.COMBINATION:
            return (0,) if all(name in capabilities for name in self.capabilities) else ()
        if agent_type != self.agent_type and self.capability not in capabilities:
            return ()
        return tuple(side for side, known in enumerate(self.versions) if known.accepts(version))

    @property
    def side_count(self) -> int:
        """How many sides it has."""
        return len(self.versions) or 1

    @property
    def concerns(self) -> str:
        """What every agent that it concerns has: a capability; "" if it is about a type."""
        return self.capability or next(iter(self.capabilities), "")

    def what_of(self, side: int) -> str:
        """Return what those on a side have, in words."""
        if self.kind is RuleKind.COMBINATION:
            return " and ".join(self.capabilities)
        return self.versions[side].text

    def to_json(self) -> dict[str, Any]:
        """Return the form in the bucket, where the key has the name."""
        form = {
            "kind": self.kind,
            "action": self.action,
            "capabilities": self.capabilities,
            "agent_type": self.agent_type,
            "capability": self.capability,
            "versions": tuple(known.text for known in self.versions),
        }
        return {name: value for name, value in form.items() if value}

    def to_wire(self) -> dict[str, Any]:
        """Return the rule as the wire shows it."""
        nothing = dict.fromkeys(("capabilities", "agent_type", "capability", "versions"))
        return {"name": self.name, **nothing, **self.to_json()}
