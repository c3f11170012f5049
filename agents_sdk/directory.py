"""What a watcher knows of the agents that match its query, and how events change it.

Pure: events and answers come in, changes and questions come out. Revisions are those of the
registry's bucket, one counter for all agents, so an answer of revision R has every event up to R
in it already, and an event that names a predecessor nobody has seen tells of a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agents_sdk.protocol.discovery import AgentInfo, Listing, ServiceQuery
from agents_sdk.protocol.events import StatusEvent
from agents_sdk.protocol.vocabulary import AgentStatus, Reason

DISCOVERABLE = frozenset((AgentStatus.ACTIVE, AgentStatus.DEGRADED))
"""What a query finds that names no statuses."""

_NEW_REGISTRATION = frozenset((Reason.REGISTERED, Reason.UPDATED, Reason.TAKEOVER, Reason.RESTORED))
"""Reasons of events after which more of an agent may differ than the event says."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All agents that match, now; what came before counts no more."""

    agents: tuple[AgentInfo, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Joined:
    """An agent matches that did not before."""

    agent: AgentInfo


@dataclass(frozen=True, slots=True)
class Changed:
    """An agent that matches is not what it was."""

    agent: AgentInfo
    event: StatusEvent | None
    """None when the change was found by looking."""


@dataclass(frozen=True, slots=True)
class Left:
    """An agent does not match any more, or is gone."""

    agent_id: str
    event: StatusEvent | None
    """None when it was found by looking."""


Change = Snapshot | Joined | Changed | Left


@dataclass(frozen=True, slots=True)
class Refresh:
    """Ask the registry for this agent, as of `event` or later, and `put` the answer."""

    event: StatusEvent


class Directory:
    """The agents that match a query, by what was heard of them.

    Membership is watched, not vitals: health and load change with each beat and are no events, so
    the query's bounds on them do not count here. The statuses do.

    Args:
        query: Whom to know. Its `version` is the registry's to judge, see `can_judge`.
    """

    def __init__(self, query: ServiceQuery) -> None:
        self.query = query
        self.can_judge = query.version is None
        """Whether an agent alone tells that it matches; else only a listing does."""
        self.agents: dict[str, AgentInfo] = {}
        self.newest = 0
        """Highest revision heard of."""
        self._floor = 0
        self._seen: dict[str, int] = {}
        self._statuses = DISCOVERABLE if query.statuses is None else frozenset(query.statuses)

    def reset(self, listing: Listing) -> Snapshot:
        """Start over from a complete answer."""
        self.agents = {agent.agent_id: agent for agent in listing.agents}
        self._take_as_seen(listing)
        return Snapshot(tuple(listing.agents), listing.revision)

    def reconcile(self, listing: Listing) -> list[Change]:
        """Compare with an answer at least as new as every event, and return what was missed.

        Raises:
            ValueError: If the answer is older.
        """
        if listing.revision < self.newest:
            raise ValueError(f"revision {listing.revision} is behind event {self.newest}")
        found = {agent.agent_id: agent for agent in listing.agents}
        if listing.total > len(found):  # who is not among the first ones may be there all the same
            found = self.agents | found
        changes = differences(self.agents, found)
        self.agents = found
        self._take_as_seen(listing)
        return changes

    def apply(self, event: StatusEvent) -> Change | Refresh | None:
        """Take an event; one that is known already, or of an agent that cannot match, is None."""
        agent_id = event.agent_id
        last = max(self._floor, self._seen.get(agent_id, 0))
        if event.revision <= last:
            return None
        self.newest = max(self.newest, event.revision)
        known = self.agents.get(agent_id)
        if event.removed or not self._may_match(event):
            self._seen[agent_id] = event.revision
            return None if known is None else self._drop(agent_id, event)
        if known is None or event.previous_revision > last or event.reason in _NEW_REGISTRATION:
            return Refresh(event)
        self._seen[agent_id] = event.revision
        agent = replace(
            known,
            status=event.status,
            status_reason=event.reason,
            status_note=event.note,
            status_since=event.at if event.previous is not event.status else known.status_since,
            incarnation=event.incarnation,
            revision=event.revision,
        )
        self.agents[agent_id] = agent
        return Changed(agent, event)

    def put(self, agent: AgentInfo | None, event: StatusEvent) -> Change | None:
        """Take the answer to a `Refresh`.

        Args:
            agent: The agent, None if the registry does not know it (any more).
            event: The one that made us ask.
        """
        agent_id = event.agent_id
        seen = event.revision if agent is None else max(event.revision, agent.revision)
        self._seen[agent_id] = max(seen, self._seen.get(agent_id, 0))
        known = self.agents.get(agent_id)
        if agent is None or not self.matches(agent):
            return None if known is None else self._drop(agent_id, event)
        self.agents[agent_id] = agent
        return Joined(agent) if known is None else Changed(agent, event)

    def matches(self, agent: AgentInfo) -> bool:
        """Return whether an agent is what the query asks for, health, load and version aside."""
        query = self.query
        return (
            agent.status in self._statuses
            and (query.agent_type is None or agent.agent_type == query.agent_type)
            and _names(query.capabilities) <= _names(agent.capabilities)
            and (query.tags is None or agent.tags >= set(query.tags))
            and (query.skills is None or agent.skills >= set(query.skills))
            and all(
                name in agent.metadata and agent.metadata[name] == value
                for name, value in (query.metadata or {}).items()
            )
            and agent.agent_id not in (query.exclude or ())
        )

    def _may_match(self, event: StatusEvent) -> bool:
        """Return whether an event's agent matches as far as the event tells."""
        query = self.query
        return (
            event.status in self._statuses
            and (query.agent_type is None or event.agent_type == query.agent_type)
            and _names(query.capabilities) <= set(event.capabilities)
            and event.agent_id not in (query.exclude or ())
        )

    def _take_as_seen(self, listing: Listing) -> None:
        self._floor = self.newest = listing.revision
        # A listing that came in several pages has agents of later states in it.
        self._seen = {agent.agent_id: agent.revision for agent in listing.agents if agent.revision > listing.revision}

    def _drop(self, agent_id: str, event: StatusEvent) -> Left:
        del self.agents[agent_id]
        return Left(agent_id, event)


def differences(known: Mapping[str, AgentInfo], found: Mapping[str, AgentInfo]) -> list[Change]:
    """Return what has become of agents, as far as it would be an event: who came, who changed, who left."""
    changes: list[Change] = []
    for agent_id, agent in found.items():
        before = known.get(agent_id)
        if before is None:
            changes.append(Joined(agent))
        elif _registration(before) != _registration(agent):
            changes.append(Changed(agent, None))
    return changes + [Left(agent_id, None) for agent_id in known if agent_id not in found]


def _names(capabilities: Iterable[str] | None) -> set[str]:
    return {name.lower() for name in capabilities or ()}


def _registration(agent: AgentInfo) -> AgentInfo:
    """Return an agent without what changes from beat to beat or from answer to answer."""
    return replace(
        agent,
        last_heartbeat=0.0,
        performance_metrics={},
        health_score=0.0,
        load_factor=0.0,
        load_age=None,
        revision=0,
        suspicion=0.0,
        evidence=None,
    )
