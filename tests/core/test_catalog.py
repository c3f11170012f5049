"""The catalog: indexes, counts, views that keep up, and the bounds of what it keeps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from registry.core import catalog as catalog_module
from registry.core.agent import Agent
from registry.core.catalog import MAX_VIEWS, MIN_LOG, NEAR_MISSES, Catalog
from registry.core.query import Query
from registry.core.status import Status
from tests.core.make import make_agent, make_catalog


def ids(found: tuple[list[Agent], int]) -> set[str]:
    agents, total = found
    assert len(agents) == total, "these queries have room for all"
    return {agent.agent_id for agent in agents}


def card(*skills: str) -> dict[str, Any]:
    return {"a2a_card": {"skills": [{"id": skill} for skill in skills]}}


def query(**fields: Any) -> Query:
    return Query(**{"limit": 1000, "min_health": 0.0, "max_load": 1.0, **fields})


def test_indexes_follow_an_agent():
    """Indexes by capability, type, tag and claim follow each record, and keep no empty entry."""
    catalog = make_catalog(make_agent("a", tags=("eu",), claims=("db",)))
    agent = catalog.agents["a"]
    catalog.replace(
        agent, replace(agent.record, capabilities=("vision",), agent_type="seer", tags=(), claims=("disk",))
    )
    catalog.validate()
    assert catalog.by_capability == {"vision": {"a"}}
    assert catalog.by_type == {"seer": {"a"}}
    assert catalog.by_tag == {}
    assert catalog.claims.holders() == {"disk": "a"}
    catalog.remove(agent)
    catalog.validate()
    assert not catalog.agents
    assert catalog.by_capability == catalog.by_type == catalog.by_tag == catalog.claims.holders() == {}


def test_the_skills_of_a_card_are_an_index():
    """It follows each record, and is what a query by skill starts from."""
    catalog = make_catalog(
        make_agent("a", metadata=card("quote", "book")), make_agent("b", metadata=card("book")), make_agent("c")
    )
    assert catalog.by_skill == {"quote": {"a"}, "book": {"a", "b"}}
    assert catalog._candidates(query(skills=frozenset({"book", "quote"}))) == {"a"}
    assert catalog._candidates(query(skills=frozenset({"hedge"}))) == set()
    assert ids(catalog.find(query(skills=frozenset({"book"})))) == {"a", "b"}
    agent = catalog.agents["a"]
    catalog.replace(agent, replace(agent.record, metadata=card("hedge")))
    catalog.validate()
    assert ids(catalog.find(query(skills=frozenset({"book"})))) == {"b"}
    assert ids(catalog.find(query(skills=frozenset({"hedge"})))) == {"a"}
    catalog.replace(agent, replace(agent.record, metadata={}))
    catalog.remove(catalog.agents["b"])
    catalog.validate()
    assert catalog.by_skill == {}


def test_offline_agents_hold_no_claims():
    """A claim is held by live agents only; who comes back does not take it from its new holder."""
    catalog = make_catalog(make_agent("a", claims=("db",)))
    first = catalog.agents["a"]
    catalog.replace(first, replace(first.record, status=Status.OFFLINE))
    assert catalog.claims.holders() == {}
    catalog.add(make_agent("b", claims=("db",)))
    first.revision = catalog.agents["b"].revision + 1
    catalog.replace(first, replace(first.record, status=Status.ACTIVE))
    assert catalog.claims.holders() == {"db": "b"}
    catalog.remove(first)
    assert catalog.claims.holders() == {"db": "b"}
    catalog.validate()


def test_counts():
    """Counts by status are of all agents; by health and capability of those that are not offline."""
    catalog = make_catalog(
        make_agent("a", capabilities=("analysis", "vision")),
        make_agent("b", health=0.6, status=Status.DEGRADED),
        make_agent("c", health=0.1, status=Status.SUSPENDED),
        make_agent("d", health=0.1, status=Status.OFFLINE),
    )
    assert +catalog.statuses == {Status.ACTIVE: 1, Status.DEGRADED: 1, Status.SUSPENDED: 1, Status.OFFLINE: 1}
    assert catalog.healths == {"healthy": 1, "degraded": 1, "unhealthy": 1}
    assert +catalog.capabilities == {"analysis": 3, "vision": 1}
    agent = catalog.agents["a"]
    agent.health = 0.5
    catalog.moved(agent)
    assert catalog.healths == {"healthy": 0, "degraded": 2, "unhealthy": 1}
    catalog.remove(agent)
    assert catalog.healths == {"healthy": 0, "degraded": 1, "unhealthy": 1}
    assert set(catalog.healths) == {"healthy", "degraded", "unhealthy"}, "reported even when nobody is in it"
    catalog.validate()


def test_a_moved_agent_is_encoded_anew():
    """The kept encoding is dropped with every change of vitals or record."""
    catalog = make_catalog(make_agent("a"))
    agent = catalog.agents["a"]
    for change in (catalog.moved, lambda agent: catalog.replace(agent, agent.record)):
        agent.encoded = b"old"
        change(agent)
        assert agent.encoded is None


def test_views_keep_up():
    """A query that is asked again sees every change since: vitals, records, newcomers, removals."""
    catalog = make_catalog(make_agent("a"), make_agent("b", capabilities=("vision",)))
    analysts = query(capabilities=frozenset({"analysis"}), min_health=0.5)
    assert ids(catalog.find(analysts)) == {"a"}
    catalog.add(make_agent("c"))
    assert ids(catalog.find(analysts)) == {"a", "c"}
    catalog.agents["a"].health = 0.2
    catalog.moved(catalog.agents["a"])
    assert ids(catalog.find(analysts)) == {"c"}
    late = catalog.agents["b"]
    catalog.replace(late, replace(late.record, capabilities=("vision", "analysis")))
    assert ids(catalog.find(analysts)) == {"b", "c"}
    catalog.remove(catalog.agents["c"])
    assert ids(catalog.find(analysts)) == {"b"}
    catalog.validate()


@pytest.mark.parametrize("asked", [{}, {"agent_type": "nobody"}, {"tags": frozenset({"none"})}])
def test_a_first_look_uses_the_smallest_index(asked: dict[str, Any]):
    """What no index offers is found nowhere; without any condition all are looked at."""
    catalog = make_catalog(*(make_agent(f"a{number}") for number in range(5)))
    assert catalog.find(query(**asked))[1] == (0 if asked else 5)


def test_limit_and_total():
    """`total` counts all that match, not only those returned."""
    catalog = make_catalog(*(make_agent(f"a{number}") for number in range(50)))
    found, total = catalog.find(query(limit=7, exclude=frozenset({"a1", "a2", "unknown"})))
    assert (len(found), total) == (7, 48)
    assert not {"a1", "a2"} & {agent.agent_id for agent in found}


def test_near_misses():
    """Near misses have the capabilities; each says why it was left out; those found are not among them."""
    catalog = make_catalog(
        make_agent("found", agent_type="worker"),
        make_agent("other", agent_type="clerk"),
        make_agent("loaded", load=0.9),
        make_agent("stranger", capabilities=("vision",)),
        make_agent("excluded"),
    )
    wanted = query(
        capabilities=frozenset({"analysis"}), agent_type="worker", max_load=0.8, exclude=frozenset({"excluded"})
    )
    assert catalog.near_misses(wanted) == [
        ("excluded", ["excluded by the query"]),
        ("loaded", ["load_factor is 0.9; wanted at most 0.8"]),
        ("other", ["agent_type is clerk; wanted worker"]),
    ]


def test_near_misses_are_bounded():
    """At most so many near misses are explained."""
    catalog = make_catalog(*(make_agent(f"a{number:03}", load=0.9) for number in range(NEAR_MISSES + 20)))
    assert len(catalog.near_misses(query(max_load=0.5))) == NEAR_MISSES


def test_views_are_bounded():
    """At most so many views are kept; the one not read for the longest goes first."""
    catalog = make_catalog(make_agent("a"))
    queries = [query(min_health=number / 1000) for number in range(MAX_VIEWS)]
    for wanted in queries:
        catalog.find(wanted)
    catalog.find(queries[0])
    catalog.find(query(agent_type="one more"))
    assert len(catalog._views) == MAX_VIEWS
    assert queries[0].key() in catalog._views
    assert queries[1].key() not in catalog._views
    assert ids(catalog.find(queries[1])) == {"a"}


def test_views_together_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """All views together hold a bounded multiple of the agents, but the newest is always kept."""
    monkeypatch.setattr(catalog_module, "MIN_LOG", 20)
    catalog = make_catalog(*(make_agent(f"a{number}") for number in range(10)))
    for number in range(10):
        assert catalog.find(query(min_health=number / 100))[1] == 10
        assert sum(map(len, catalog._views.values())) <= 40
    assert len(catalog._views) == 4


def test_log_is_cut(monkeypatch: pytest.MonkeyPatch):
    """The log of moves stays bounded; a view that did not keep up is made anew, and is right."""
    monkeypatch.setattr(catalog_module, "MIN_LOG", 20)
    catalog = make_catalog(make_agent("a"), make_agent("b"))
    kept, left_behind = query(min_health=0.5), query(min_health=0.4)
    catalog.find(left_behind)
    for number in range(100):
        agent = catalog.agents["ab"[number % 2]]
        agent.health = (number % 10) / 10
        catalog.moved(agent)
        assert len(catalog._moves) <= 21
        assert ids(catalog.find(kept)) == {agent.agent_id for agent in catalog.agents.values() if agent.health >= 0.5}
    assert left_behind.key() not in catalog._views
    assert kept.key() in catalog._views
    assert ids(catalog.find(left_behind)) == {
        agent.agent_id for agent in catalog.agents.values() if agent.health >= 0.4
    }
    catalog.validate()


def test_log_grows_with_the_agents():
    """The log may be as long as twice the number of agents, so that views of many agents live on."""
    catalog = make_catalog(*(make_agent(f"a{number}") for number in range(MIN_LOG)))
    for agent in catalog.agents.values():
        catalog.moved(agent)
    assert len(catalog._moves) == 2 * MIN_LOG


@pytest.mark.parametrize("broken", ["index", "empty", "claim", "status", "health", "capability", "view"])
def test_validate_sees_what_is_wrong(broken: str):
    """`validate` fails for every index, count and view that disagrees with the agents."""
    catalog = make_catalog(make_agent("a", claims=("db",)))
    catalog.find(query())
    match broken:
        case "index":
            catalog.by_tag["eu"] = {"a"}
        case "empty":
            catalog.by_tag["eu"] = set()
        case "claim":
            catalog.claims.add(make_agent("b", claims=("disk",)).record, 1)
        case "status":
            catalog.statuses[Status.ACTIVE] += 1
        case "health":
            catalog.healths["unhealthy"] += 1
        case "capability":
            catalog.capabilities["vision"] += 1
        case "view":
            catalog.agents["a"].record.status = Status.OFFLINE
            catalog.statuses = Counter({Status.OFFLINE: 1})
            catalog.healths, catalog.capabilities = Counter(), Counter()
    with pytest.raises(AssertionError):
        catalog.validate()


def random_query(random: Random) -> Query:
    def some(names: tuple[str, ...]) -> frozenset[str]:
        return frozenset(name for name in names if random.random() < 0.3)

    return query(
        capabilities=some(("analysis", "vision")),
        agent_type=random.choice((None, None, "worker", "clerk")),
        tags=some(("eu", "gpu")),
        min_health=random.choice((0.0, 0.5, 0.8)),
        max_load=random.choice((0.4, 1.0)),
        sort_by=random.choice(("performance", "health", "load", "random")),
        exclude=some(("a1", "a2", "a3")),
    )


def change_something(random: Random, catalog: Catalog) -> None:
    agent_id = f"a{random.randrange(40)}"
    agent = catalog.agents.get(agent_id)
    fields: dict[str, Any] = {
        "capabilities": random.choice((("analysis",), ("vision",), ("analysis", "vision"))),
        "agent_type": random.choice(("worker", "clerk")),
        "tags": random.choice(((), ("eu",), ("eu", "gpu"))),
        "status": random.choice(list(Status)),
    }
    if agent is None:
        catalog.add(make_agent(agent_id, health=random.random(), load=random.random(), **fields))
    elif random.random() < 0.2:
        catalog.remove(agent)
    elif random.random() < 0.5:
        agent.health, agent.load = random.random(), random.random()
        catalog.moved(agent)
    else:
        catalog.replace(agent, replace(agent.record, **fields))


def test_found_is_what_a_look_at_all_agents_finds():
    """Whatever changed since a query was asked first, its answer is what a look at all agents finds, best first."""
    random, catalog = Random(99), make_catalog()
    queries = [random_query(random) for _ in range(30)]
    for _ in range(1500):
        change_something(random, catalog)
        wanted = random.choice(queries)
        matching = {agent.agent_id for agent in catalog.agents.values() if wanted.matches(agent)} - wanted.exclude
        found, total = catalog.find(wanted)
        assert (ids((found, total)), total) == (matching, len(matching))
        rungs = [wanted.rung(agent) for agent in found]
        assert rungs == sorted(rungs, reverse=True)
    catalog.validate()


def test_capabilities_that_nobody_has_are_not_counted():
    catalog = make_catalog(make_agent("a", capabilities=("rare",)))
    catalog.remove(catalog.agents["a"])
    assert dict(catalog.capabilities) == {}
