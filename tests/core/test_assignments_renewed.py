"""Assignments that are renewed, or given up by their task; and what counts of several requests for one."""

from __future__ import annotations

import pytest

from registry.core.assignment import Assignment, Ending
from registry.core.limits import MAX_WAITING
from tests.core.assigning import Log, Player, made, refusal
from tests.core.shell import Fate
from tests.core.test_assignments import given, leader


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def player(log: Log) -> Player:
    return leader(log, "one")


def fill(player: Player) -> list[str]:
    """Give all slots away; return the assignments."""
    return [given(player, player.assign(f"full{number}"))["assignment_id"] for number in range(7)]


def pass_time(player: Player, seconds: float) -> None:
    player.now += seconds
    player.tick()
    player.settle()


def test_a_renewal_moves_the_expiry_and_nothing_else(player: Player, log: Log) -> None:
    won = given(player, player.assign("t", ttl=5.0))
    pass_time(player, 4.0)
    reply = player.assign("t", ttl=5.0, slots=2, renew=True)
    assert reply.body is None, "it is not durable yet"
    again = given(player, reply)
    assert {name for name in won if again[name] != won[name]} <= {"expires_at", "load_age"}
    assert again["expires_at"] == pytest.approx(won["expires_at"] + 4.0)
    assert player.state.statistics.assignments == 1
    pass_time(player, 4.0)
    assert log.live()[won["assignment_id"]].token == won["fencing_token"]
    pass_time(player, 1.5)
    assert not log.live()
    player.state.validate()


def test_a_later_leader_knows_the_token_and_the_expiry(player: Player, log: Log) -> None:
    given(player, player.assign("other"))
    given(player, player.assign("t", ttl=5.0))
    renewed = given(player, player.assign("t", ttl=50.0, renew=True))
    next_one = leader(log, "next")
    next_one.now += 20.0
    next_one.tick()
    same = given(next_one, next_one.assign("t"))
    assert (same["fencing_token"], same["expires_at"]) == (renewed["fencing_token"], renewed["expires_at"])


def test_without_an_assignment_nothing_is_renewed(player: Player) -> None:
    assert refusal(player.assign("t", renew=True)) == "not_found"
    given(player, player.assign("t", identity="one"))
    assert refusal(player.assign("t", renew=True, identity="two")) == "forbidden"
    fill_rest = [player.assign(f"w{number}", wait=9.0) for number in range(7)]
    player.settle()
    assert fill_rest[-1].body is None
    assert refusal(player.assign("w6", renew=True)) == "not_found", "it has none yet"


def test_a_renewal_before_it_is_durable(player: Player, log: Log) -> None:
    won, renewed, same = player.assign("t", ttl=5.0), player.assign("t", ttl=50.0, renew=True), player.assign("t")
    player.settle()
    assert won["expires_at"] + 45.0 == pytest.approx(renewed["expires_at"]) == same["expires_at"]
    assert len(log.entries) == 2


@pytest.mark.parametrize("fate", [Fate.ACKED, Fate.UNACKED, Fate.LOST])
def test_it_does_not_expire_while_its_renewal_is_under_way(player: Player, log: Log, fate: Fate) -> None:
    given(player, player.assign("t", ttl=5.0))
    pass_time(player, 4.9)
    reply = player.assign("t", ttl=5.0, renew=True)
    player.now += 0.2
    player.tick()
    player.carry_out(fate)
    player.settle()
    player.tick()
    player.settle()
    assert refusal(reply) is None
    assert log.live()
    pass_time(player, 6.0)
    assert not log.live()
    player.state.validate()


def test_a_renewal_of_what_somebody_else_has_ended(player: Player, log: Log) -> None:
    won, other = given(player, player.assign("t")), leader(log, "other")
    reply = player.assign("t", renew=True)
    other.release(won["assignment_id"])
    other.settle()
    player.settle()
    assert refusal(reply) == "not_found"
    assert not log.live()
    player.state.validate()


def test_a_release_follows_a_renewal_under_way(player: Player, log: Log) -> None:
    won = given(player, player.assign("t"))
    player.assign("t", renew=True)
    reply = player.release(won["assignment_id"])
    player.settle()
    assert reply["released"] is True
    assert not log.live()


def test_a_renewal_heard_of_while_the_end_is_under_way(player: Player, log: Log) -> None:
    won, other = given(player, player.assign("t")), leader(log, "other")
    reply = player.release(won["assignment_id"])
    other.assign("t", renew=True)
    other.carry_out()
    player.hear()
    player.state.validate()
    player.settle()
    assert reply["released"] is True
    assert not log.live()


def test_an_end_that_an_older_version_wrote() -> None:
    form = Assignment("i", "t", "a", 1, 1, 5.0, 10.0, token=3).end("expired", 11.0, "e").to_json()
    assert form["ended"].pop("end_id") == "e"
    assert Assignment.from_json(form, 9).ended == Ending("expired", 11.0)


def test_the_form_of_a_renewed_one() -> None:
    one = Assignment("i", "t", "a", 1, 1, 5.0, 10.0).renew(20.0)
    assert Assignment.from_json(one.to_json(), 7).token == 7, "before it has one"
    form = Assignment.from_json(one.to_json(), 7).to_json()
    assert Assignment.from_json(form, 9).token == 7
    with pytest.raises(ValueError, match="fencing_token"):
        Assignment.from_json({**form, "fencing_token": "7"}, 9)


# By its task.


def test_a_task_is_released(player: Player, log: Log) -> None:
    won = given(player, player.assign("t"))
    assert given(player, player.release(task_id="t")) == {"assignment_id": won["assignment_id"], "released": True}
    assert given(player, player.release(task_id="t")) == {"assignment_id": None, "released": False}
    assert not log.live()


def test_a_task_is_released_before_its_assignment_is_durable(player: Player, log: Log) -> None:
    """And what is asked for after that is another one."""
    first, released, second = player.assign("t"), player.release(task_id="t"), player.assign("t")
    player.settle()
    assert released["released"] is True
    assert first["assignment_id"] == released["assignment_id"] != second["assignment_id"]
    assert set(log.live()) == {second["assignment_id"]}
    player.state.validate()


def test_a_task_waits_no_longer(player: Player, log: Log) -> None:
    full = fill(player)
    waits, also = player.assign("w", wait=50.0), player.assign("w", wait=50.0)
    assert player.release(task_id="w")["released"] is True
    assert (refusal(waits), refusal(also)) == ("unavailable", "unavailable")
    assert not waits.body.details, "whoever still wants one may ask again"
    player.release(full[0])
    player.settle()
    assert len(log.live()) == 6


def test_who_may_release_a_task(player: Player, log: Log) -> None:
    won = given(player, player.assign("t", identity="one"))
    assert refusal(player.release(task_id="t", identity="two")) == "forbidden"
    assert "task_id" in player.release(task_id="t", identity="two").body.message
    other = "b" if won["agent"].agent_id == "a" else "a"
    assert refusal(player.release(task_id="t", agent_id=other, identity="one")) == "forbidden"
    for number in range(6):
        given(player, player.assign(f"t{number}"))
    waits = player.assign("w", wait=50.0, identity="one")
    assert refusal(player.release(task_id="w", identity="two")) == "forbidden"
    assert player.release(task_id="w", agent_id="a", identity="one")["released"] is False, "no agent waits"
    assert waits.body is None


# Several requests of one task.


def test_the_newest_request_says_what_is_wanted(player: Player) -> None:
    full = fill(player)
    first = player.assign("w", wait=50.0, exclude=frozenset("c"))
    newest = player.assign("w", wait=50.0, exclude=frozenset("ab"), ttl=7.0)
    for assignment_id in full:
        player.release(assignment_id)
    player.settle()
    assert first["agent"].agent_id == newest["agent"].agent_id == "c"
    assert newest["expires_at"] - newest["assigned_at"] == pytest.approx(7.0)


def test_the_newest_request_is_served_if_somebody_is_free_for_it(player: Player) -> None:
    for number in range(3):
        given(player, player.assign(f"t{number}", exclude=frozenset("c")))
    first = player.assign("w", wait=50.0, exclude=frozenset("c"))
    assert given(player, player.assign("w", exclude=frozenset("ab")))["agent"].agent_id == "c"
    assert first["agent"].agent_id == "c"
    assert not len(player.state.waiters)


def test_each_request_waits_for_its_own_time(player: Player) -> None:
    fill(player)
    long, short, not_at_all = player.assign("w", wait=50.0), player.assign("w", wait=5.0), player.assign("w")
    assert refusal(not_at_all) == "unavailable"
    player.now += 6.0
    player.tick()
    assert refusal(short) == "unavailable"
    assert short.body.details == (("wait", "nobody was free in 5 s"),)
    assert long.body is None
    player.now += 45.0
    player.tick()
    assert refusal(long) == "unavailable"
    assert not len(player.state.waiters)


def test_who_asks_again_for_the_same_keeps_the_place(player: Player) -> None:
    full = fill(player)
    first, second = player.assign("first", slots=2, wait=50.0), player.assign("second", wait=50.0)
    again = player.assign("first", wait=50.0)
    player.release(full[0])
    player.settle()
    assert first["assignment_id"] == again["assignment_id"]
    assert second.body is None


def test_requests_of_one_task_are_bounded(player: Player) -> None:
    fill(player)
    waiting = [player.assign("w", wait=50.0) for _ in range(MAX_WAITING + 1)]
    assert [refusal(reply) for reply in waiting] == [None] * MAX_WAITING + ["overloaded"]
    player.release(task_id="w")
    player.release(task_id="full0")
    player.settle()
    repeats = [player.assign("t") for _ in range(MAX_WAITING + 1)]
    assert refusal(repeats[-1]) == "overloaded"
    given(player, repeats[0])


def test_who_is_doubtful_is_left_out_until_it_speaks(player: Player) -> None:
    """A probe found nobody; that is no verdict yet."""
    for agent_id in "bc":
        agent = player.state.agents[agent_id]
        agent.finding().missing(player.now)
        player.state.catalog.moved(agent)
    assert given(player, player.assign("t0"))["agent"].agent_id == "a"
    player.beat("c")
    assert given(player, player.assign("t1"))["agent"].agent_id == "c"
    player.know(made("c", 2), 9)
    player.tick()
    assert given(player, player.assign("t2", exclude=frozenset("c")))["agent"].agent_id == "b", "there is nobody else"
