"""Whom a task is given to: the better of two random agents, by what is known of their load and how old that is."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from registry.core.agent import Agent
from registry.core.catalog import Catalog
from registry.core.choice import choose
from registry.core.query import Query
from tests.core.make import make_agent, make_catalog

NOW = 1000.0
INTERVAL = 30.0
ANYBODY = Query(sort_by="random", slots=1)


def agent(agent_id: str, load: float = 0.0, age: float | None = 0.0, reserved: int = 0, **fields: Any) -> Agent:
    """Return an agent whose load was reported so many seconds ago, before anything was reserved."""
    load_at = None if age is None else NOW - age
    made = make_agent(agent_id, load=load, load_at=load_at, **{"max_concurrency": 10, **fields})
    made.reserved = reserved
    return made


def chosen(catalog: Catalog, query: Query = ANYBODY, times: int = 1000) -> Counter[str | None]:
    """Return how often each is chosen."""
    random = Random(5).random
    found: Counter[str | None] = Counter()
    for _ in range(times):
        one = choose(catalog, query, NOW, random)
        found[None if one is None else one.agent_id] += 1
    return found


def test_nobody() -> None:
    assert chosen(make_catalog()) == {None: 1000}
    assert chosen(make_catalog(agent("a", reserved=10))) == {None: 1000}


def test_equals_are_chosen_alike() -> None:
    found = chosen(make_catalog(*(agent(name) for name in "abcd")))
    assert set(found) == set("abcd")
    assert all(200 < count < 300 for count in found.values())


def test_near_equals_are_chosen_alike() -> None:
    found = chosen(make_catalog(agent("a", 0.30), agent("b", 0.31)))
    assert all(400 < count < 600 for count in found.values())


def test_the_better_of_two_is_taken() -> None:
    """So that of three the worst is never taken, and the best in two of three pairs."""
    found = chosen(make_catalog(agent("best", 0.1), agent("middle", 0.4), agent("worst", 0.7)))
    assert found["worst"] == 0
    assert 600 < found["best"] < 730


def test_what_is_reserved_counts_at_once() -> None:
    assert chosen(make_catalog(agent("a", 0.1, reserved=4), agent("b", 0.3))) == {"b": 1000}


@pytest.mark.parametrize(
    ("old", "fresh", "better"),
    [
        (0.0, 0.3, "old"),
        (0.7, 0.3, "fresh"),
    ],
)
def test_an_old_report_still_says_something(old: float, fresh: float, better: str) -> None:
    catalog = make_catalog(agent("old", old, age=INTERVAL), agent("fresh", fresh))
    assert chosen(catalog) == {better: 1000}


def test_a_report_that_is_old_enough_says_nothing() -> None:
    found = chosen(make_catalog(agent("old", 0.0, age=20 * INTERVAL), agent("older", 0.7, age=20 * INTERVAL)))
    assert all(400 < count < 600 for count in found.values())


def test_who_never_reported_is_taken_to_be_as_loaded_as_the_other() -> None:
    assert chosen(make_catalog(agent("silent", age=None), agent("loud", 0.6)))["loud"] < 600


def test_who_has_more_of_the_preferred_tags_comes_first() -> None:
    catalog = make_catalog(
        agent("both", 0.7, tags=("eu", "gpu")), agent("one", 0.0, tags=("eu",)), agent("none", 0.0), agent("other", 0.0)
    )
    query = Query(sort_by="random", slots=1, prefer_tags=frozenset({"eu", "gpu"}))
    assert chosen(catalog, query) == {"both": 1000}
    catalog.agents["both"].reserved = 10
    catalog.moved(catalog.agents["both"])
    assert chosen(catalog, query) == {"one": 1000}


def test_a_lower_standing_counts_as_load() -> None:
    back = agent("back")
    back.standing = 0.1
    assert chosen(make_catalog(back, agent("loaded", 0.5))) == {"loaded": 1000}


@pytest.mark.parametrize("what", ["missed", "unanswered", "lost", "held", "standing"])
def test_who_may_be_gone_is_chosen_only_if_there_is_nobody_else(what: str) -> None:
    """However many there are of them, and whatever is preferred."""
    doubtful = [agent(f"d{number}", tags=("eu",)) for number in range(20)]
    for each in doubtful:
        if what == "standing":
            each.standing = 0.0
        elif what == "missed":
            each.finding().missing(NOW)
        elif what == "unanswered":
            each.finding().unanswered(NOW)
        elif what == "lost":
            each.finding().was_lost = True
        else:
            each.finding().is_held = True
    query = Query(sort_by="random", slots=1, prefer_tags=frozenset({"eu"}))
    assert chosen(make_catalog(*doubtful, agent("well", 0.7)), query, 100) == {"well": 100}
    assert set(chosen(make_catalog(*doubtful), query)) == {each.agent_id for each in doubtful}


def test_who_is_excluded_is_not_chosen() -> None:
    catalog = make_catalog(*(agent(f"a{number}") for number in range(20)))
    query = Query(sort_by="random", slots=1, exclude=frozenset(f"a{number}" for number in range(18)))
    assert set(chosen(catalog, query)) == {"a18", "a19"}
    assert chosen(catalog, Query(slots=1, exclude=frozenset(catalog.agents))) == {None: 1000}


def test_of_many_agents_few_are_looked_at() -> None:
    """However many there are: the view is sampled, not gone through."""
    catalog = make_catalog(*(agent(f"a{number}") for number in range(10_000)))
    chosen(catalog, times=1)
    draws = 0
    random = Random(5).random

    def counted() -> float:
        nonlocal draws
        draws += 1
        return random()

    catalog._random = counted
    for _ in range(100):
        assert choose(catalog, ANYBODY, NOW, random) is not None
    assert draws <= 100 * 4


@pytest.mark.parametrize(
    ("load", "then", "now", "limit", "effective"),
    [
        (0.3, 0, 0, 4, 0.3),
        (0.0, 0, 2, 4, 0.5),
        (0.5, 2, 2, 4, 0.5),
        (0.5, 2, 0, 4, 0.0),
        (0.75, 2, 1, 4, 0.5),
        (0.0, 2, 2, 4, 0.5),
        (0.9, 0, 3, 4, 1.0),
        (0.2, 0, 5, None, 0.7),
        (0.2, 0, 50, None, 1.0),
    ],
)
def test_effective_load(load: float, then: int, now: int, limit: int | None, effective: float) -> None:
    one = agent("a", load, reserved=now, max_concurrency=limit)
    one.reserved_then = then
    assert one.effective_load == pytest.approx(effective)
    assert one.load == load
