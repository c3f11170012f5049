"""A query: what each of its fields matches, what it says of near misses, how it ranks."""

from __future__ import annotations

from typing import Any

import pytest

from agents_sdk.protocol.discovery import ServiceQuery
from registry.core.agent import Agent
from registry.core.query import STEP, Query, VersionRange
from registry.core.status import DISCOVERABLE, Status
from registry.shell.wire import to_query
from tests.core.make import make_agent

AGENT = {
    "agent_type": "worker",
    "capabilities": ("analysis", "trading"),
    "tags": ("eu", "gpu"),
    "version": "2.3.1",
    "metadata": {
        "region": "eu",
        "slots": 4,
        "nothing": None,
        "a2a_card": {"skills": [{"id": "quote"}, {"id": "book", "name": "hedge"}]},
    },
    "health": 0.7,
    "load": 0.4,
    "status_reason": "health",
}
TWO = VersionRange(">=2,<3", lambda version: version.startswith("2."))
THREE = VersionRange(">=3", lambda version: version.startswith("3."))

MATCHES: list[dict[str, Any]] = [
    {},
    {"capabilities": frozenset({"analysis"})},
    {"capabilities": frozenset({"analysis", "trading"})},
    {"agent_type": "worker"},
    {"min_health": 0.7},
    {"max_load": 0.4},
    {"tags": frozenset({"gpu"})},
    {"tags": frozenset({"gpu", "eu"})},
    {"version": TWO},
    {"metadata": {}},
    {"metadata": {"region": "eu"}},
    {"metadata": {"region": "eu", "slots": 4}},
    {"metadata": {"nothing": None}},
    {"skills": frozenset({"quote"})},
    {"skills": frozenset({"quote", "book"})},
    {"statuses": frozenset({Status.ACTIVE})},
    {"prefer_tags": frozenset({"us"})},
]

MISSES: list[tuple[dict[str, Any], str]] = [
    ({"capabilities": frozenset({"vision"})}, "capabilities lack vision"),
    ({"capabilities": frozenset({"vision", "ocr", "trading"})}, "capabilities lack ocr, vision"),
    ({"agent_type": "trader"}, "agent_type is worker; wanted trader"),
    ({"min_health": 0.71}, "health_score is 0.7; wanted at least 0.71"),
    ({"max_load": 0.39}, "load_factor is 0.4; wanted at most 0.39"),
    ({"tags": frozenset({"gpu", "us", "asia"})}, "tags lack asia, us"),
    ({"version": THREE}, "version is 2.3.1; wanted >=3"),
    ({"metadata": {"region": "us"}}, "metadata.region is 'eu'; wanted 'us'"),
    ({"metadata": {"zone": None}}, "metadata.zone is None; wanted None"),
    ({"skills": frozenset({"quote", "hedge", "Book"})}, "skills lack Book, hedge"),
    ({"statuses": frozenset({Status.OFFLINE})}, "status is active (health); wanted offline"),
]


@pytest.mark.parametrize("fields", MATCHES)
def test_matches(fields: dict[str, Any]):
    """An agent that has all that is asked for matches, and no reason is given why not."""
    query, agent = Query(**fields), make_agent(**AGENT)
    assert query.matches(agent)
    assert query.shortfalls(agent) == []


@pytest.mark.parametrize(("fields", "reason"), MISSES, ids=[reason for _, reason in MISSES])
def test_does_not_match(fields: dict[str, Any], reason: str):
    """One field that does not fit leaves an agent out, and the reason names the field, what it has, what was wanted."""
    query, agent = Query(**fields), make_agent(**AGENT)
    assert not query.matches(agent)
    assert query.shortfalls(agent) == [reason]


def test_every_reason_is_given():
    """An agent that lacks several things is told all of them."""
    fields: dict[str, Any] = {}
    for wanted, _ in MISSES:
        fields.update(wanted)
    query = Query(**fields, exclude=frozenset({"a"}))
    assert len(query.shortfalls(make_agent(**AGENT))) == len(fields) + 1


def test_excluded_is_a_reason_but_not_the_view_s():
    """Whom the caller excludes still matches: views are shared by callers."""
    query, agent = Query(exclude=frozenset({"a"})), make_agent(**AGENT)
    assert query.matches(agent)
    assert query.shortfalls(agent) == ["excluded by the query"]


@pytest.mark.parametrize("status", list(Status))
def test_only_discoverable_statuses_unless_asked(status: Status):
    """Active and degraded agents are found; all others only when the query asks for them."""
    agent = make_agent(status=status)
    assert Query().matches(agent) == (status in DISCOVERABLE)
    assert Query(statuses=frozenset({status})).matches(agent)


@pytest.mark.parametrize(
    ("specifier", "version", "accepted"),
    [
        (">=2,<3", "2.0.0", True),
        (">=2,<3", "2.9", True),
        (">=2,<3", "3.0", False),
        (">=2,<3", "1.9.9", False),
        (">=2,<3", "2.0rc1", False),
        (">=2,<3", "2.5b1", True),
        ("==2.1.*", "2.1.7", True),
        ("!=2.1.0", "2.1.0", False),
        ("~=1.4", "1.9", True),
        ("~=1.4", "2.0", False),
        ("", "0.1", True),
        (">=1", "nightly", False),
    ],
)
def test_version_ranges(specifier: str, version: str, accepted: bool):
    """Specifiers are read the way pip reads them; a version that is none never satisfies one."""
    query = to_query(ServiceQuery(version=specifier))
    assert query.matches(make_agent(version=version)) == accepted


@pytest.mark.parametrize(
    "fields",
    [fields for fields, _ in MISSES]
    + [{"sort_by": "load"}, {"prefer_tags": frozenset({"x"})}, {"metadata": {"slots": 4.5}}],
    ids=lambda fields: "-".join(fields),
)
def test_key_tells_queries_apart(fields: dict[str, Any]):
    """Queries that match or rank differently have different keys."""
    assert hash(Query(**fields).key()) is not None
    assert Query(**fields).key() != Query().key()


@pytest.mark.parametrize("fields", [{"limit": 3}, {"exclude": frozenset({"a"})}])
def test_key_is_shared(fields: dict[str, Any]):
    """Limit and exclusions are the caller's: one view serves them all."""
    assert Query(**fields).key() == Query().key()


def test_key_of_empty_metadata():
    """Asking for no metadata in particular is a query like any other."""
    assert hash(Query(metadata={}).key()) is not None


PERFORMER = {"health": 0.9, "load": 0.3, "metrics": {"success_rate": 0.5}}


@pytest.mark.parametrize(("sort_by", "rank"), [("performance", 0.72), ("health", 0.9), ("load", 0.7), ("random", 1.0)])
def test_rung(sort_by: str, rank: float):
    """A rung is a step of 0.02 of what is sorted by; at random all are equal."""
    assert STEP == 0.02
    assert Query(sort_by=sort_by).rung(make_agent(**PERFORMER)) == round(rank / 0.02)


@pytest.mark.parametrize("step", range(51))
def test_rungs_begin_at_whole_steps(step: int):
    """A score that is a whole number of steps stands on its own rung, whatever its binary fraction is."""
    assert Query(sort_by="health").rung(make_agent(health=step / 50)) == step
    assert Query(sort_by="load").rung(make_agent(load=1 - step / 50)) == step


def test_preferred_tags_rank_first():
    """One more preferred tag outweighs any score, and every rung is on the ladder."""
    query = Query(sort_by="health", prefer_tags=frozenset({"eu", "gpu"}))
    agents = [make_agent(tags=tags, health=health) for tags in ((), ("eu",), ("gpu", "eu")) for health in (0.0, 1.0)]
    rungs = [query.rung(agent) for agent in agents]
    assert rungs == sorted(set(rungs))
    assert rungs[-1] == query.rungs() - 1


def best_score() -> Agent:
    return make_agent(health=1.0, load=0.0, metrics={"success_rate": 1.0})


@pytest.mark.parametrize("sort_by", ["performance", "health", "load", "random"])
def test_best_is_on_the_ladder(sort_by: str):
    """The best possible agent stands on the highest rung at most."""
    query = Query(sort_by=sort_by)
    assert query.rung(best_score()) <= query.rungs() - 1
