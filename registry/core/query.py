"""A query: which agents it matches, how it ranks them, and why it leaves one out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.core.agent import Agent
from registry.core.status import DISCOVERABLE, Status

STEP = 0.02
"""Agents whose rank falls in the same step are nearly equal, and are shuffled: reports are up to a heartbeat old, and
sending every caller to the one that looked best then is worse than random (Mitzenmacher, TPDS 2000)."""

_STEPS = round(1.0 / STEP) + 1


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A version specifier as text, and whether a version satisfies it."""

    text: str
    accepts: Callable[[str], bool] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Query:
    """Which agents to find, and in which order. `limit` and `exclude` are the caller's, not the view's."""

    capabilities: frozenset[str] = frozenset()
    agent_type: str | None = None
    min_health: float = 0.5
    max_load: float = 0.8
    tags: frozenset[str] = frozenset()
    sort_by: str = "performance"
    version: VersionRange | None = None
    metadata: Mapping[str, Any] | None = None
    skills: frozenset[str] = frozenset()
    prefer_tags: frozenset[str] = frozenset()
    statuses: frozenset[Status] = DISCOVERABLE
    limit: int = 10
    exclude: frozenset[str] = frozenset()
    slots: int = 0
    """How many slots must be free; 0 if none are wanted. What is reserved is bounded by the slots there are then, and
    `max_load` bounds the rest of the load."""

    def key(self) -> tuple[object, ...]:
        """Return what tells apart the queries that match or rank differently."""
        return (
            self.capabilities,
            self.agent_type,
            self.min_health,
            self.max_load,
            self.tags,
            self.sort_by,
            self.version and self.version.text,
            None if self.metadata is None else repr(self.metadata),
            self.skills,
            self.prefer_tags,
            self.statuses,
            self.slots,
        )

    def tier(self, rung: int) -> tuple[bool, int]:
        """Return what decides before the rung: if slots are wanted, whether it is not doubtful; then preferred tags."""
        return not self.slots or rung % _STEPS > 0, rung // _STEPS

    def rungs(self) -> int:
        """Return how many rungs the ladder of this query has."""
        return _STEPS * (len(self.prefer_tags) + 1)

    def rung(self, agent: Agent) -> int:
        """Return the rung on which an agent that matches stands; a higher one is better."""
        if self.sort_by == "performance":
            rank = agent.performance
        elif self.sort_by == "load":
            rank = 1.0 - agent.effective_load
        elif self.sort_by == "health":
            rank = agent.health
        else:
            rank = 1.0
        rung = int(rank * agent.standing / STEP + 1e-6)
        if self.slots:
            rung = 0 if agent.is_doubtful else max(1, rung)
        if self.prefer_tags:
            rung += _STEPS * len(self.prefer_tags.intersection(agent.record.tags))
        return rung

    def matches(self, agent: Agent) -> bool:
        """Return whether an agent is what the query asks for."""
        record = agent.record
        return (
            record.status in self.statuses
            and agent.health >= self.min_health
            and (self._load_of(agent) if agent.reserved or agent.reserved_then else agent.load) <= self.max_load
            and self.capabilities.issubset(record.capabilities)
            and (self.agent_type is None or record.agent_type == self.agent_type)
            and (not self.tags or self.tags.issubset(record.tags))
            and (not self.skills or self.skills.issubset(agent.skills))
            and (self.version is None or self.version.accepts(record.version))
            and (self.metadata is None or _has(record.metadata, self.metadata))
            and (not self.slots or agent.has_room(self.slots))
        )

    def _load_of(self, agent: Agent) -> float:
        """Return the load that is bounded; what is reserved of an agent is bounded otherwise if slots are wanted."""
        return agent.load_elsewhere if self.slots else agent.effective_load

    def shortfalls(self, agent: Agent) -> list[str]:
        """Return every reason why an agent does not match; empty when it does."""
        record, metadata = agent.record, self.metadata or {}
        lacking = sorted(self.capabilities.difference(record.capabilities))
        untagged = sorted(self.tags.difference(record.tags))
        unskilled = sorted(self.skills.difference(agent.skills))
        wanted_statuses = ", ".join(sorted(self.statuses))
        checks = [
            (
                record.status in self.statuses,
                f"status is {record.status} ({record.status_reason}); wanted {wanted_statuses}",
            ),
            (
                agent.health >= self.min_health,
                f"health_score is {agent.health:g}; wanted at least {self.min_health:g}",
            ),
            (
                agent.effective_load <= self.max_load,
                f"load_factor is {agent.effective_load:g}{_reserved(agent)}; wanted at most {self.max_load:g}",
            ),
            (
                self.agent_type in (None, record.agent_type),
                f"agent_type is {record.agent_type}; wanted {self.agent_type}",
            ),
            (not lacking, f"capabilities lack {', '.join(lacking)}"),
            (not untagged, f"tags lack {', '.join(untagged)}"),
            (not unskilled, f"skills lack {', '.join(unskilled)}"),
            (
                self.version is None or self.version.accepts(record.version),
                f"version is {record.version}; wanted {self.version and self.version.text}",
            ),
            *(
                (
                    name in record.metadata and record.metadata[name] == value,
                    f"metadata.{name} is {record.metadata.get(name)!r}; wanted {value!r}",
                )
                for name, value in metadata.items()
            ),
            (record.agent_id not in self.exclude, "excluded by the query"),
        ]
        return [reason for holds, reason in checks if not holds]


def _reserved(agent: Agent) -> str:
    return f" with {agent.reserved} slots reserved" if agent.reserved else ""


def _has(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in metadata and metadata[name] == value for name, value in wanted.items())
