"""A watcher's view of the agents that match: events and answers in, changes and questions out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents_sdk.directory import Changed, Directory, Joined, Left, Refresh, Snapshot
from agents_sdk.protocol.discovery import AgentInfo, Listing, ServiceQuery
from agents_sdk.protocol.events import StatusEvent
from agents_sdk.protocol.vocabulary import AgentCapability, AgentStatus

TRADING = ServiceQuery(capabilities={AgentCapability.TRADING})


def agent(agent_id: str = "a", revision: int = 1, **fields) -> AgentInfo:
    known = {"incarnation": 1, "registered_at": 0.0, "last_heartbeat": 0.0, "status": AgentStatus.ACTIVE}
    capabilities: set[AgentCapability | str] = {AgentCapability.TRADING}
    return AgentInfo(agent_id, "trader", capabilities, revision=revision, **{**known, **fields})


def event(revision: int, previous_revision: int = 0, agent_id: str = "a", to: str = "active", **fields) -> StatusEvent:
    return StatusEvent.model_validate(
        {
            "event_id": f"registry_agents:{revision}",
            "agent_id": agent_id,
            "agent_type": "trader",
            "capabilities": ["trading"],
            "from": "active",
            "to": to,
            "reason": "health",
            "removed": False,
            "incarnation": 1,
            "revision": revision,
            "previous_revision": previous_revision,
            "at": 100.0,
            **fields,
        }
    )


def listing(*agents: AgentInfo, revision: int = 10, total: int | None = None) -> Listing:
    return Listing(list(agents), len(agents) if total is None else total, revision)


def directory(*agents: AgentInfo, query: ServiceQuery = TRADING, revision: int = 10) -> Directory:
    made = Directory(query)
    made.reset(listing(*agents, revision=revision))
    return made


def test_a_snapshot_is_what_the_registry_listed() -> None:
    made = Directory(TRADING)
    assert made.reset(listing(agent())) == Snapshot((agent(),), 10)


@pytest.mark.parametrize("revision", [1, 9, 10])
def test_what_the_snapshot_has_in_it_is_dropped(revision: int) -> None:
    made = directory(agent())
    assert made.apply(event(revision, to="offline")) is None
    assert made.apply(event(revision, agent_id="b")) is None


def test_a_change_of_status_needs_no_question() -> None:
    made = directory(agent())
    changed = event(11, 1, to="degraded")
    assert made.apply(changed) == Changed(
        agent(revision=11, status=AgentStatus.DEGRADED, status_reason="health", status_since=100.0), changed
    )


def test_a_status_that_stays_keeps_its_time() -> None:
    made = directory(agent(status_since=7.0))
    change = made.apply(event(11, 1))
    assert isinstance(change, Changed)
    assert change.agent.status_since == 7.0


@pytest.mark.parametrize("to", ["offline", "suspended", "deregistering"])
def test_an_agent_whose_status_is_not_asked_for_has_left(to: str) -> None:
    made = directory(agent())
    gone = event(11, 1, to=to)
    assert made.apply(gone) == Left("a", gone)
    assert made.agents == {}
    assert made.apply(event(12, 11, to="offline")) is None


def test_a_removed_agent_has_left_whatever_its_last_status() -> None:
    made = directory(agent())
    gone = event(11, 1, removed=True)
    assert made.apply(gone) == Left("a", gone)


def test_statuses_asked_for_are_kept() -> None:
    made = directory(agent(), query=ServiceQuery(statuses={AgentStatus.OFFLINE, AgentStatus.ACTIVE}))
    assert isinstance(made.apply(event(11, 1, to="offline")), Changed)


def test_a_stranger_that_may_match_is_asked_for() -> None:
    made = directory()
    new = event(11, agent_id="b", reason="registered")
    assert made.apply(new) == Refresh(new)
    assert made.put(agent("b", 11), new) == Joined(agent("b", 11))


@pytest.mark.parametrize(
    "fields", [{"capabilities": ["research"]}, {"agent_type": "other"}, {"to": "suspended"}, {"agent_id": "x"}]
)
def test_a_stranger_that_cannot_match_is_not_asked_for(fields: dict) -> None:
    query = ServiceQuery(capabilities={AgentCapability.TRADING}, agent_type="trader", exclude={"x"})
    made = directory(query=query)
    assert made.apply(event(11, **{"agent_id": "b", **fields})) is None


@pytest.mark.parametrize("reason", ["registered", "updated", "takeover", "restored"])
def test_after_a_registration_more_may_differ_than_the_event_says(reason: str) -> None:
    made = directory(agent())
    again = event(11, 1, reason=reason)
    assert made.apply(again) == Refresh(again)
    assert made.put(agent(revision=11, tags={"fast"}), again) == Changed(agent(revision=11, tags={"fast"}), again)


def test_a_gap_is_closed_by_asking() -> None:
    made = directory(agent())
    later = event(15, previous_revision=13)
    assert made.apply(later) == Refresh(later)


def test_a_checkpoint_in_between_is_no_gap() -> None:
    """A record is also written without an event, so its revision may be above the last event's."""
    made = directory(agent(revision=10), revision=10)
    assert isinstance(made.apply(event(20, previous_revision=4, to="degraded")), Changed)


def test_a_second_event_about_what_was_asked_already_is_dropped() -> None:
    made = directory()
    first, second = event(11, agent_id="b", reason="registered"), event(12, 11, agent_id="b", to="degraded")
    made.apply(first)
    made.put(agent("b", 12, status=AgentStatus.DEGRADED), first)
    assert made.apply(second) is None


def test_an_agent_that_is_gone_when_asked_for_never_joins() -> None:
    made = directory()
    new = event(11, agent_id="b", reason="registered")
    made.apply(new)
    assert made.put(None, new) is None
    assert made.apply(event(12, 11, agent_id="b", removed=True)) is None


def test_an_agent_that_is_gone_when_asked_for_has_left_if_it_was_there() -> None:
    made = directory(agent())
    update = event(11, 1, reason="updated")
    made.apply(update)
    assert made.put(None, update) == Left("a", update)


def test_an_old_event_cannot_bring_back_who_left() -> None:
    made = directory(agent())
    made.apply(event(12, 1, to="offline"))
    assert made.apply(event(11, 1)) is None


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        (ServiceQuery(), True),
        (ServiceQuery(capabilities={"trading"}), True),
        (ServiceQuery(capabilities={"TRADING"}), True),
        (ServiceQuery(capabilities={"trading", "research"}), False),
        (ServiceQuery(agent_type="trader"), True),
        (ServiceQuery(agent_type="other"), False),
        (ServiceQuery(tags={"fast"}), True),
        (ServiceQuery(tags={"fast", "slow"}), False),
        (ServiceQuery(skills={"quote"}), True),
        (ServiceQuery(skills={"quote", "book"}), False),
        (ServiceQuery(metadata={"exchange": "x"}), True),
        (ServiceQuery(metadata={"exchange": "y"}), False),
        (ServiceQuery(metadata={"nothing": None}), False),
        (ServiceQuery(exclude={"a"}), False),
        (ServiceQuery(statuses={AgentStatus.OFFLINE}), False),
        (ServiceQuery(min_health_score=1.0, max_load_factor=0.0), True),
    ],
)
def test_what_counts_of_a_query(query: ServiceQuery, matches: bool) -> None:
    metadata = {"exchange": "x", "a2a_card": {"skills": [{"id": "quote"}]}}
    found = agent(tags={"fast"}, metadata=metadata, health_score=0.9, load_factor=0.5)
    assert Directory(query).matches(found) is matches


def test_a_version_is_the_registrys_to_judge() -> None:
    assert not Directory(ServiceQuery(version=">=2")).can_judge
    assert Directory(ServiceQuery()).can_judge


def test_looking_finds_what_was_missed() -> None:
    made = directory(agent("a"), agent("b"))
    found = listing(agent("b", 20, tags={"new"}), agent("c", 30), revision=40)
    assert made.reconcile(found) == [
        Changed(agent("b", 20, tags={"new"}), None),
        Joined(agent("c", 30)),
        Left("a", None),
    ]
    assert made.reconcile(found) == []
    assert made.apply(event(39, agent_id="a")) is None


def test_vitals_and_checkpoints_are_no_changes() -> None:
    made = directory(agent())
    beaten = agent(revision=30, health_score=0.9, load_factor=0.7, load_age=1.0, performance_metrics={"x": 1.0})
    assert made.reconcile(listing(replace(beaten, last_heartbeat=99.0), revision=40)) == []
    assert made.agents["a"].load_factor == 0.7


def test_an_incomplete_listing_removes_nobody() -> None:
    made = directory(agent("a"))
    assert made.reconcile(listing(agent("b"), revision=40, total=2)) == [Joined(agent("b"))]
    assert set(made.agents) == {"a", "b"}


def test_an_answer_older_than_what_is_known_is_refused() -> None:
    made = directory(agent())
    made.apply(event(50, 1, to="degraded"))
    with pytest.raises(ValueError, match="behind"):
        made.reconcile(listing(revision=49))


STATUSES = ["active", "degraded", "suspended", "offline"]


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    history=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([*STATUSES, "removed"])), max_size=25),
    cut=st.integers(0, 25),
    lost=st.sets(st.integers(1, 25)),
    doubled=st.sets(st.integers(1, 25)),
)
def test_it_ends_where_the_registry_is(history: list, cut: int, lost: set[int], doubled: set[int]) -> None:
    """Events may be lost, unless they are an agent's last, and doubled: the fold ends in the registry's state."""
    log: list[StatusEvent] = []
    latest: dict[str, StatusEvent] = {}
    for revision, (agent_id, status) in enumerate(history, start=1):
        before = latest.get(agent_id)
        fresh = before is None or before.removed
        log.append(
            event(
                revision,
                before.revision if before else 0,
                agent_id,
                "active" if status == "removed" else status,
                removed=status == "removed",
                reason="registered" if fresh else "health",
            )
        )
        latest[agent_id] = log[-1]

    def state(at: int) -> dict[str, AgentInfo]:
        now: dict[str, AgentInfo] = {}
        for each in log[:at]:
            now.pop(each.agent_id, None)
            if not each.removed and each.status in ("active", "degraded"):
                now[each.agent_id] = agent(each.agent_id, each.revision, status=each.status)
        return now

    made = Directory(ServiceQuery())
    cut = min(cut, len(log))
    shown = {one.agent_id: one.status for one in made.reset(listing(*state(cut).values(), revision=cut)).agents}
    last = {each.revision for each in latest.values()}
    for each in log:
        if each.revision in lost - last:
            continue
        for _ in range(1 + (each.revision in doubled)):
            change = made.apply(each)
            if isinstance(change, Refresh):
                change = made.put(state(len(log)).get(each.agent_id), each)
            show(change, shown)
    assert shown == {one.agent_id: one.status for one in state(len(log)).values()}
    assert set(made.agents) == set(shown)


def show(change: object, shown: dict[str, AgentStatus]) -> None:
    """Do what a reader does with a change."""
    match change:
        case Joined(found):
            assert found.agent_id not in shown
            shown[found.agent_id] = found.status
        case Changed(found, _):
            assert found.agent_id in shown
            shown[found.agent_id] = found.status
        case Left(agent_id, _):
            del shown[agent_id]
