"""Assignments that another leader changes between a commit and its acknowledgement, or that return after all."""

from __future__ import annotations

import pytest

from registry.core.assignment_events import AssignmentChanged
from registry.core.limits import MISSING_GRACE
from registry.core.status import Status
from tests.core.assigning import Log, Player, made, refusal, removed
from tests.core.shell import Fate
from tests.core.test_assignments import given, leader


@pytest.fixture
def log() -> Log:
    return Log()


def overtaken(one: Player, other: Player) -> None:
    """Let the commit of one be taken, then what the other has decided on it; one hears of both before the answer."""
    one.carry_out()
    other.hear()


def settle(one: Player, other: Player) -> None:
    other.settle()
    one.hear()
    one.deliver()
    one.settle()
    one.state.validate()


def test_what_was_pending_is_decided_again(log: Log) -> None:
    """It was decided before the other one has taken the same slot."""
    one, other = leader(log, "one"), leader(log, "two")
    one.assign("t1", exclude=frozenset("ab"))
    late = one.assign("t2", exclude=frozenset("bc"))
    overtaken(one, other)
    other.assign("t3", exclude=frozenset("bc"))
    settle(one, other)  # the log sees to it that no slot is given twice
    assert refusal(late) == "unavailable"


def test_a_task_that_was_pending_has_one_assignment(log: Log) -> None:
    one, other = leader(log, "one"), leader(log, "two")
    one.assign("t1", exclude=frozenset("ab"))
    late = one.assign("t2", exclude=frozenset("ab"))
    overtaken(one, other)
    won = other.assign("t2", exclude=frozenset("bc"))
    settle(one, other)
    assert late["assignment_id"] == won["assignment_id"]


def test_an_end_that_was_pending_comes_once(log: Log) -> None:
    one, other = leader(log, "one"), leader(log, "two")
    won = given(one, one.assign("t0"))
    one.assign("t1")
    late = one.release(won["assignment_id"])
    overtaken(one, other)
    first = other.release(won["assignment_id"])
    settle(one, other)
    assert (late["released"], first["released"]) == (False, True)


def test_a_loss_that_was_pending_comes_once(log: Log) -> None:
    one, other = leader(log, "one"), leader(log, "two")
    given(one, one.assign("t0", ttl=5.0))
    other.hear()
    for player in (one, other):
        for _ in range(49):
            player.now += 0.1
            player.tick()
    other.now = one.now = one.now + 0.2
    one.assign("t1")
    one.tick()
    assert len(one.state.ledger.pending) == 1
    overtaken(one, other)
    other.tick()
    settle(one, other)
    assert sum(entry.assignment is not None and entry.assignment.is_lost for entry in log.entries) == 1


def test_of_two_releases_one_counts(log: Log) -> None:
    """Also when both say the same at the same time."""
    one, other = leader(log, "one"), leader(log, "two")
    won = given(one, one.assign("t"))
    other.hear()
    replies = [player.release(won["assignment_id"]) for player in (one, other)]
    other.settle()
    one.settle()
    assert [reply["released"] for reply in replies] == [False, True]


def test_a_release_between_the_log_and_the_acknowledgement(log: Log) -> None:
    player = leader(log, "one")
    player.assign("t")
    player.carry_out()
    player.hear()
    reply = player.release(log.entries[0].assignment_id)
    player.settle()
    assert reply["released"] is True


def test_a_commit_that_comes_late_ends_the_waiting(log: Log) -> None:
    """Its task waits again, for the agent that it was to get has no slot left."""
    player = leader(log, "one")
    full = given(player, player.assign("x", slots=2, exclude=frozenset("ac")))
    reply = player.assign("t", wait=50.0, exclude=frozenset("a"), slots=2)
    player.carry_out(Fate.LATE)
    player.know(made("c", status=Status.SUSPENDED, reason="operator"), 9)
    player.deliver()
    player.carry_out()
    player.deliver()
    assert len(player.state.waiters) == 1
    log.commit(player.late.pop())
    player.hear()
    assert reply["agent"].agent_id == "c"
    player.release(full["assignment_id"])
    player.settle()
    assert [each.task_id for each in log.live().values()] == ["t"]


@pytest.mark.parametrize("learns", [False, True])
def test_who_waits_is_answered_when_another_leader_has_served_the_task(log: Log, learns: bool) -> None:
    one, other = leader(log, "one"), leader(log, "two")
    for number in range(7):
        given(one, one.assign(f"t{number}"))
    reply = one.assign("w", wait=50.0)
    other.hear()
    other.release(next(iter(log.live())))
    other.settle()
    won = given(other, other.assign("w"))
    if learns:
        one.release(next(iter(one.state.ledger.live)))  # loses against what was written
        one.carry_out()
        one.deliver()
    one.hear()
    one.settle()
    assert reply["assignment_id"] == won["assignment_id"]
    one.state.validate()


def test_the_end_is_all_that_is_heard(log: Log) -> None:
    """The bucket has one entry a key: who was away for a moment may hear nothing of the making."""
    one, other = leader(log, "one"), leader(log, "two")
    one.assign("t")
    one.carry_out()
    other.hear()
    other.release(log.entries[0].assignment_id)
    other.settle()
    one.heard = 2
    end = log.entries[1]
    one.handle(AssignmentChanged(one.now, end.assignment_id, end.assignment, end.revision))
    one.deliver()
    one.settle()
    assert all(agent.reserved == 0 for agent in one.state.agents.values())
    given(one, one.assign("t"))
    one.state.validate()


def test_a_new_leader_gives_the_other_log_its_time(log: Log) -> None:
    """Whatever it doubted before it led."""
    one, late = leader(log, "one"), Player(log, "late")
    for revision, agent_id in enumerate("abc", start=1):
        late.know(made(agent_id), revision)
    first = given(one, one.assign("t0", exclude=frozenset("bc")))
    late.hear()
    one.release(first["assignment_id"])
    one.settle()
    late.hear()
    for player in (one, late):
        player.now += 2 * MISSING_GRACE
        player.tick()
    one.know(made("a", 2, reason="takeover"), 9)
    won = given(one, one.assign("t", exclude=frozenset("bc")))
    one.follow(2)
    late.lead(2)
    for _ in range(2):
        late.now += 0.1
        late.tick()
        late.settle()
    assert won["assignment_id"] in log.live()


def test_who_follows_doubts_nobody(log: Log) -> None:
    one, follower = leader(log, "one"), Player(log, "two")
    for revision, agent_id in enumerate("abc", start=1):
        follower.know(made(agent_id), revision)
    given(one, one.assign("t", exclude=frozenset("bc")))
    follower.hear()
    follower.know(removed(made("a")), 9)
    assert not follower.state.ledger.doubtful
    one.know(removed(made("a")), 9)
    one.follow(2)
    assert not one.state.ledger.doubtful


def test_who_was_first_is_not_passed_after_a_lost_commit(log: Log) -> None:
    player = leader(log, "one")
    for number in range(6):
        given(player, player.assign(f"t{number}"))
    first = player.assign("first")
    later = player.assign("later", wait=50.0)
    player.carry_out(Fate.LOST)
    player.deliver()
    player.settle()
    assert refusal(first) is None
    assert later.body is None
