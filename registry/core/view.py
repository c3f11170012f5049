"""A view: the agents that match one query, kept ranked as they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from registry.core.agent import Agent
from registry.core.query import Query

_POSITION_BITS = 32

DRAWS = 4
"""Draws for each agent wanted, before all that match are looked at: some come twice, or are excluded."""


class View:
    """The matching agents on a ladder of nearly-equal rungs, best rung last.

    Placing an agent is constant work and reading the best k takes work in k, however many agents there are; so a
    query that is asked again costs what it returns. Who changes an agent only says so in the catalog's log; the view
    catches up when it is read.

    Args:
        query: What it is a view of; `limit` and `exclude` are ignored.
        agents: All agents by id; looked at, never changed.
        cursor: Position in the catalog's log up to which `members` is right.
        members: Ids among which the matches are.
    """

    def __init__(self, query: Query, agents: Mapping[str, Agent], cursor: int, members: Iterable[str]) -> None:
        self.query = query
        self.cursor = cursor
        self._agents = agents
        self._ladder: list[list[Agent]] = [[] for _ in range(query.rungs())]
        self._places: dict[str, int] = {}
        for agent_id in members:
            self.place(agent_id)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, agent_id: str) -> bool:
        return agent_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def place(self, agent_id: str) -> None:
        """Put an agent on the rung where it belongs now, or take it off."""
        agent = self._agents.get(agent_id)
        rung = -1 if agent is None or not self.query.matches(agent) else self.query.rung(agent)
        place = self._places.get(agent_id)
        if place is not None:
            old = place >> _POSITION_BITS
            if old == rung and self._ladder[old][place & 0xFFFFFFFF] is agent:
                return
            self._remove(agent_id, old, place & 0xFFFFFFFF)
        if rung >= 0 and agent is not None:
            entries = self._ladder[rung]
            self._places[agent_id] = rung << _POSITION_BITS | len(entries)
            entries.append(agent)

    def _remove(self, agent_id: str, rung: int, position: int) -> None:
        entries = self._ladder[rung]
        last = entries.pop()
        if last.agent_id != agent_id:
            entries[position] = last
            self._places[last.agent_id] = rung << _POSITION_BITS | position
        del self._places[agent_id]

    def best(self, limit: int, exclude: frozenset[str], random: Callable[[], float]) -> list[Agent]:
        """Return the best agents, those on one rung in random order.

        Args:
            limit: How many at most.
            exclude: Ids to leave out.
            random: Returns a number from 0.0 up to but without 1.0.
        """
        found: list[Agent] = []
        for entries in reversed(self._ladder):
            if not entries:
                continue
            allowed = [agent for agent in entries if agent.agent_id not in exclude] if exclude else entries
            found += sample(allowed, limit - len(found), random)
            if len(found) == limit:
                break
        return found

    def draw(self, count: int, exclude: frozenset[str], random: Callable[[], float]) -> list[Agent]:
        """Return agents at random out of those of the best tier, whatever their rung; each once.

        Constant work, unless many are excluded.

        Args:
            count: How many at most.
            exclude: Ids to leave out.
            random: Returns a number from 0.0 up to but without 1.0.
        """
        tiers: dict[tuple[bool, int], list[list[Agent]]] = {}
        for rung, entries in enumerate(self._ladder):
            if entries:
                tiers.setdefault(self.query.tier(rung), []).append(entries)
        for tier in sorted(tiers, reverse=True):
            found = _drawn(tiers[tier], count, exclude, random)
            if found:
                return found
        return []

    def total(self, exclude: frozenset[str]) -> int:
        """Return how many agents match, those to exclude not counted."""
        return len(self._places) - sum(agent_id in self._places for agent_id in exclude)

    def validate(self) -> None:
        """Check that the ladder and the places say the same, and that both are right.

        Raises:
            AssertionError: If not.
        """
        for agent_id, place in self._places.items():
            assert self._ladder[place >> _POSITION_BITS][place & 0xFFFFFFFF].agent_id == agent_id, agent_id
        assert sum(map(len, self._ladder)) == len(self._places)
        for agent_id, agent in self._agents.items():
            assert (agent_id in self._places) == self.query.matches(agent), f"{agent_id} in {self.query}"
            if agent_id in self._places:
                assert self._places[agent_id] >> _POSITION_BITS == self.query.rung(agent), f"{agent_id} on its rung"


def _drawn(rungs: list[list[Agent]], count: int, exclude: frozenset[str], random: Callable[[], float]) -> list[Agent]:
    """Return agents of these rungs at random; only when several draws hit those to exclude, all are looked at."""
    size = sum(map(len, rungs))
    found: dict[str, Agent] = {}
    for _ in range(DRAWS * count):
        agent = _at(rungs, int(random() * size))
        if agent.agent_id not in exclude:
            found[agent.agent_id] = agent
        if len(found) in (count, size):
            return list(found.values())
    allowed = [agent for rung in rungs for agent in rung if agent.agent_id not in exclude]
    return sample(allowed, count, random)


def _at(rungs: list[list[Agent]], index: int) -> Agent:
    for entries in rungs:
        if index < len(entries):
            return entries[index]
        index -= len(entries)
    raise IndexError(index)


def sample(entries: list[Agent], count: int, random: Callable[[], float]) -> list[Agent]:
    """Return `count` entries in random order, each as likely as any other; all of them when there are no more."""
    size = len(entries)
    if count * 3 < size:
        picked: dict[int, None] = {}
        while len(picked) < count:
            picked[int(random() * size)] = None
        return [entries[index] for index in picked]
    shuffled = entries[:]
    for index in range(min(count, size)):
        other = index + int(random() * (size - index))
        shuffled[index], shuffled[other] = shuffled[other], shuffled[index]
    return shuffled[:count]
