"""The catalog: all agents, the indexes by which they are found, and the counts that are reported."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from registry.core.agent import Agent
from registry.core.claims import Claims
from registry.core.query import Query
from registry.core.record import Record
from registry.core.rule import Rule
from registry.core.rules import Rules
from registry.core.skills import skills_in
from registry.core.status import Status
from registry.core.view import View

MAX_VIEWS = 128
"""Views kept for queries that are asked again; the one not read for the longest goes first."""

MIN_LOG = 8192
"""The log of moves is cut to half when it grows beyond this, or beyond twice the number of agents."""

NEAR_MISSES = 100
"""At most this many agents are explained in one answer."""


class Catalog:
    """All agents of the registry in memory.

    Args:
        random: Returns a number from 0.0 up to but without 1.0; shuffles the nearly equal.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self.agents: dict[str, Agent] = {}
        self.by_capability: dict[str, set[str]] = {}
        self.by_type: dict[str, set[str]] = {}
        self.by_tag: dict[str, set[str]] = {}
        self.by_skill: dict[str, set[str]] = {}
        self.claims = Claims()
        """Of agents that are not offline."""
        self.rules = Rules()
        self.statuses: Counter[Status] = Counter()
        self.healths: Counter[str] = Counter({"healthy": 0, "degraded": 0, "unhealthy": 0})
        self.capabilities: Counter[str] = Counter()
        """How many agents that are not offline have a capability."""
        self._random = random
        self._views: OrderedDict[tuple[object, ...], View] = OrderedDict()
        self._moves: list[str] = []
        self._moves_start = 0

    def add(self, agent: Agent) -> None:
        """Add an agent that is not there yet."""
        self.agents[agent.agent_id] = agent
        self._index(agent)
        self._count(agent, 1)
        self.moved(agent)

    def remove(self, agent: Agent) -> None:
        """Remove an agent."""
        self._count(agent, -1)
        self._unindex(agent)
        del self.agents[agent.agent_id]
        self.moved(agent)

    def replace(self, agent: Agent, record: Record) -> None:
        """Give an agent a new record."""
        self._count(agent, -1)
        if agent.record is not record:
            self._unindex(agent)
            agent.record, agent.skills = record, skills_in(record.metadata)
            self._index(agent)
        self._count(agent, 1)
        self.moved(agent)

    def moved(self, agent: Agent) -> None:
        """Note that an agent's vitals or record changed: views look at it again, its encoded form is dropped."""
        agent.encoded = None
        self._moves.append(agent.record.agent_id)
        if agent.counted is not None and agent.counted != (bucket := agent.bucket()):
            self.healths[agent.counted] -= 1
            self.healths[bucket] += 1
            agent.counted = bucket
        if len(self._moves) > MIN_LOG and len(self._moves) > 2 * len(self.agents):
            self._cut()

    @property
    def head(self) -> int:
        """Position in the log of moves where the next one will stand."""
        return self._moves_start + len(self._moves)

    def moved_since(self, position: int) -> list[Agent] | None:
        """Return the agents that have moved since the log of moves stood at a position; None if it was cut since."""
        if position < self._moves_start:
            return None
        moved = dict.fromkeys(self._moves[position - self._moves_start :])
        return [self.agents[agent_id] for agent_id in moved if agent_id in self.agents]

    def find(self, query: Query) -> tuple[list[Agent], int]:
        """Return the best agents for a query, and how many match."""
        view = self._view(query)
        return view.best(query.limit, query.exclude, self._random), view.total(query.exclude)

    def of_capability(self, capability: str) -> list[Agent]:
        """Return every agent that has a capability, whatever its status."""
        return [self.agents[agent_id] for agent_id in self.by_capability.get(capability, ())]

    def draw(self, query: Query, count: int) -> list[Agent]:
        """Return agents that match a query at random, out of those of its best tier."""
        return self._view(query).draw(count, query.exclude, self._random)

    def count(self, query: Query) -> int:
        """Return how many agents match a query."""
        return self._view(query).total(query.exclude)

    def matching(self, query: Query) -> Iterator[Agent]:
        """Yield every agent that matches a query, which is work in their number."""
        return (self.agents[agent_id] for agent_id in self._view(query) if agent_id not in query.exclude)

    def near_misses(self, query: Query) -> list[tuple[str, list[str]]]:
        """Return agents that have the capabilities asked for but are left out, each with the reasons."""
        candidates = (self.agents[agent_id] for agent_id in sorted(self._candidates(query, capabilities_only=True)))
        reasons = ((agent.agent_id, query.shortfalls(agent)) for agent in candidates)
        return list(islice(((agent_id, why) for agent_id, why in reasons if why), NEAR_MISSES))

    def _view(self, query: Query) -> View:
        key = query.key()
        view = self._views.get(key)
        head = self.head
        if view is None:
            view = View(query, self.agents, head, self._candidates(query))
            self._views[key] = view
            self._bound_views()
        else:
            self._views.move_to_end(key)
            if view.cursor < head:
                for agent_id in self._moves[view.cursor - self._moves_start :]:
                    view.place(agent_id)
                view.cursor = head
        return view

    def _bound_views(self) -> None:
        """Forget the views not read for the longest: together they cost a bounded multiple of the agents."""
        most = max(MIN_LOG, 4 * len(self.agents))
        while len(self._views) > 1 and (len(self._views) > MAX_VIEWS or sum(map(len, self._views.values())) > most):
            self._views.popitem(last=False)

    def _cut(self) -> None:
        """Drop the older half of the log, and the views that had not caught up with it: nobody reads them."""
        half = len(self._moves) // 2
        del self._moves[:half]
        self._moves_start += half
        for key in [key for key, view in self._views.items() if view.cursor < self._moves_start]:
            del self._views[key]

    def _candidates(self, query: Query, capabilities_only: bool = False) -> Iterable[str]:
        """Return the smallest set of ids that an index offers for a query."""
        nobody: set[str] = set()
        postings: list[Iterable[str]] = [self.by_capability.get(name, nobody) for name in query.capabilities]
        if not capabilities_only:
            if query.agent_type is not None:
                postings.append(self.by_type.get(query.agent_type, nobody))
            postings += [self.by_tag.get(tag, nobody) for tag in query.tags]
            postings += [self.by_skill.get(skill, nobody) for skill in query.skills]
        return min(postings, key=len, default=self.agents)  # type: ignore[arg-type]

    def learn(self, name: str, rule: Rule | None, revision: int, readable: bool = True) -> None:
        """Take what the bucket has of a rule at a revision; None if it has none."""
        ids: Iterable[str] = ()
        if rule is not None and rule.agent_type is not None:
            ids = self.by_type.get(rule.agent_type, ())
        elif rule is not None:
            ids = self.by_capability.get(rule.concerns, ())
        records = [self.agents[agent_id].record for agent_id in sorted(ids)]
        self.rules.learn(name, rule, revision, records, readable)

    def _postings(self, agent: Agent) -> Iterator[tuple[dict[str, set[str]], str]]:
        record = agent.record
        yield self.by_type, record.agent_type
        for capability in record.capabilities:
            yield self.by_capability, capability
        for tag in record.tags:
            yield self.by_tag, tag
        for skill in agent.skills:
            yield self.by_skill, skill

    def _index(self, agent: Agent) -> None:
        record, agent_id = agent.record, agent.record.agent_id
        for index, name in self._postings(agent):
            ids = index.get(name)
            if ids is None:
                index[name] = {agent_id}
            else:
                ids.add(agent_id)
        if record.claims and record.status is not Status.OFFLINE:
            self.claims.add(record, agent.revision)
        self.rules.add(record)

    def _unindex(self, agent: Agent) -> None:
        record = agent.record
        for index, name in self._postings(agent):
            ids = index[name]
            ids.discard(record.agent_id)
            if not ids:
                del index[name]
        if record.claims:
            self.claims.discard(record)
        self.rules.discard(record)

    def _count(self, agent: Agent, step: int) -> None:
        record = agent.record
        self.statuses[record.status] += step
        if record.status is not Status.OFFLINE:
            for capability in record.capabilities:
                self.capabilities[capability] += step
                if not self.capabilities[capability]:
                    del self.capabilities[capability]
        if step < 0:
            if agent.counted is not None:
                self.healths[agent.counted] -= 1
                agent.counted = None
        elif record.status is not Status.OFFLINE:
            agent.counted = agent.bucket()
            self.healths[agent.counted] += 1

    def validate(self) -> None:
        """Check every index, count and view against the agents.

        Raises:
            AssertionError: Naming the first that disagrees.
        """
        for agent_id, agent in self.agents.items():
            assert agent.agent_id == agent_id
            for index, name in self._postings(agent):
                assert agent_id in index[name], f"{agent_id} under {name}"
        for index in (self.by_capability, self.by_type, self.by_tag, self.by_skill):
            for name, ids in index.items():
                assert ids, f"{name} is empty"
                for agent_id in ids:
                    found, record = self.agents[agent_id], self.agents[agent_id].record
                    names = (*record.capabilities, record.agent_type, *record.tags, *found.skills)
                    assert name in names, f"{agent_id} under {name}"
        alive = [agent for agent in self.agents.values() if agent.status is not Status.OFFLINE]
        assert self.claims.claimants() == {
            (claim, agent.agent_id, since)
            for agent in alive
            for claim, since in agent.record.since(agent.revision).items()
        }
        self.rules.validate([agent.record for agent in self.agents.values()])
        assert +self.statuses == Counter(agent.status for agent in self.agents.values())
        assert +self.healths == Counter(agent.bucket() for agent in alive)
        assert +self.capabilities == Counter(name for agent in alive for name in agent.record.capabilities)
        for view in list(self._views.values()):
            self._view(view.query).validate()
