"""Views: the ladder, the order it gives, and the fairness among the nearly equal."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from registry.core.query import Query
from registry.core.view import View, sample
from tests.core.make import make_agent

NOBODY: frozenset[str] = frozenset()


def make_view(query: Query, **healths: float) -> View:
    agents = {name: make_agent(name, health=health) for name, health in healths.items()}
    view = View(query, agents, 0, agents)
    view.validate()
    return view


def chi_square(counts: Counter[str], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in counts.values())


@pytest.mark.parametrize("sort_by", ["health", "performance"])
def test_best_rung_first(sort_by: str):
    """Agents come best first, whatever the order they were placed in."""
    view = make_view(Query(sort_by=sort_by), b=0.7, d=0.95, a=0.6, c=0.8)
    found = view.best(10, NOBODY, Random(1).random)
    assert [agent.agent_id for agent in found] == ["d", "c", "b", "a"]
    assert view.total(NOBODY) == 4


def test_least_loaded_first():
    """By load, the least loaded comes first; one over the bound does not come."""
    agents = {name: make_agent(name, load=load) for name, load in {"a": 0.5, "b": 0.1, "c": 0.7, "d": 0.9}.items()}
    found = View(Query(sort_by="load"), agents, 0, agents).best(10, NOBODY, Random(1).random)
    assert [agent.agent_id for agent in found] == ["b", "a", "c"]


def test_limit_and_exclude():
    """At most `limit` agents, none of them excluded; `total` counts the allowed ones."""
    view = make_view(Query(sort_by="health"), a=0.6, b=0.7, c=0.8, d=0.9)
    excluded = frozenset({"d", "b", "unknown"})
    assert [agent.agent_id for agent in view.best(1, excluded, Random(1).random)] == ["c"]
    assert [agent.agent_id for agent in view.best(9, excluded, Random(1).random)] == ["c", "a"]
    assert view.total(excluded) == 2
    assert len(view) == 4


def test_place_moves_and_removes():
    """An agent that changed moves to its rung, leaves when it matches no more, and comes back."""
    agents = {name: make_agent(name, health=0.9) for name in "abc"}
    view = View(Query(sort_by="health"), agents, 0, agents)
    for name, health, members in (("a", 0.6, 3), ("b", 0.1, 2), ("a", 0.61, 2), ("b", 0.99, 3)):
        agents[name].health = health
        view.place(name)
        view.validate()
        assert len(view) == members
    assert [agent.agent_id for agent in view.best(9, NOBODY, Random(1).random)] == ["b", "c", "a"]
    gone = agents.pop("b")
    view.place("b")
    view.validate()
    assert "b" not in view
    agents["b"] = make_agent("b", health=0.99)
    view.place("b")
    assert view.best(1, NOBODY, Random(1).random) == [agents["b"]] != [gone]


def test_place_replaces_another_life_of_an_agent():
    """An agent that was removed and registered again between two looks is not served as it was."""
    agents = {"a": make_agent("a", health=0.9)}
    view = View(Query(sort_by="health"), agents, 0, agents)
    agents["a"] = make_agent("a", health=0.9)
    view.place("a")
    assert view.best(1, NOBODY, Random(1).random)[0] is agents["a"]


@pytest.mark.parametrize("what", ["rung", "membership", "place"])
def test_validate_sees_what_is_wrong(what: str):
    """`validate` fails for an agent on a wrong rung, missing, or misplaced."""
    agents = {name: make_agent(name, health=0.9) for name in "ab"}
    view = View(Query(sort_by="health"), agents, 0, agents)
    if what == "rung":
        agents["a"].health = 0.6
    elif what == "membership":
        agents["c"] = make_agent("c")
    else:
        view._places["a"], view._places["b"] = view._places["b"], view._places["a"]
    with pytest.raises(AssertionError):
        view.validate()


@pytest.mark.parametrize("limit", [1, 3, 7, 20])
def test_near_equals_are_shuffled_fairly(limit: int):
    """Every agent of a rung is as likely as any other to be returned, and to be returned first."""
    agents = {f"a{number:02}": make_agent(f"a{number:02}", health=0.9 + number / 1100) for number in range(20)}
    view = View(Query(sort_by="health"), agents, 0, agents)
    random, rounds = Random(42).random, 4000
    found, first = Counter[str](), Counter[str]()
    for _ in range(rounds):
        chosen = view.best(limit, NOBODY, random)
        found.update(agent.agent_id for agent in chosen)
        first[chosen[0].agent_id] += 1
    assert len(first) == len(found) == 20
    # 99.9 % of fair draws stay below 43.8 (chi-square, 19 degrees of freedom); the seed makes this one repeatable.
    assert chi_square(first, rounds / 20) < 43.8
    assert chi_square(found, rounds * limit / 20) < 43.8


def test_near_equal_order_is_uniform():
    """Of three equal agents all six orders are equally likely."""
    view = make_view(Query(sort_by="health"), a=0.9, b=0.9, c=0.9)
    random, rounds = Random(3).random, 6000
    orders = Counter("".join(agent.agent_id for agent in view.best(3, NOBODY, random)) for _ in range(rounds))
    assert len(orders) == 6
    assert chi_square(orders, rounds / 6) < 20.5  # 99.9 %, 5 degrees of freedom


def test_a_better_rung_always_comes_before_a_worse_one():
    """Shuffling never crosses a rung."""
    random = Random(5)
    healths = {f"a{number}": random.uniform(0.5, 1.0) for number in range(200)}
    query = Query(sort_by="health")
    view = make_view(query, **healths)
    for _ in range(20):
        rungs = [query.rung(agent) for agent in view.best(200, NOBODY, random.random)]
        assert all(better >= worse for better, worse in pairwise(rungs))


@pytest.mark.parametrize(
    ("size", "count"), [(0, 0), (0, 3), (1, 1), (5, 0), (5, 5), (5, 9), (9, 3), (10, 3), (1000, 7)]
)
def test_sample(size: int, count: int):
    """As many as asked for, or all; different ones, each of the entries; the entries are left alone."""
    entries = [make_agent(f"a{number}") for number in range(size)]
    before = entries[:]
    chosen = sample(entries, count, Random(1).random)
    assert len(chosen) == min(size, count)
    assert len({agent.agent_id for agent in chosen}) == len(chosen)
    assert all(agent in entries for agent in chosen)
    assert entries == before


@pytest.mark.parametrize(("size", "count"), [(6, 1), (6, 2), (6, 4), (6, 6)])
def test_sample_is_fair(size: int, count: int):
    """Each entry is as likely as any other at every position, by both ways of drawing."""
    entries = [make_agent(f"a{number}") for number in range(size)]
    random, rounds = Random(11).random, 3000
    positions = [Counter[str]() for _ in range(count)]
    for _ in range(rounds):
        for position, agent in zip(positions, sample(entries, count, random), strict=True):
            position[agent.agent_id] += 1
    for position in positions:
        assert len(position) == size
        assert chi_square(position, rounds / size) < 20.5  # 99.9 %, 5 degrees of freedom
