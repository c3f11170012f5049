"""Assignments: no slot twice, the same task the same answer, whoever leads and whatever is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registry.core.limits import MAX_COMMIT, MAX_WAITERS, MISSING_GRACE
from registry.core.record import Record
from registry.core.status import Status
from registry.core.waiters import MAX_KINDS_SERVED
from tests.core.assigning import LIMITS_OF, Log, Player, made, refusal, removed
from tests.core.search import searching
from tests.core.shell import Fate, Reply

AGENTS = st.sampled_from(sorted(LIMITS_OF))
TASKS = st.sampled_from(["t1", "t2", "t3"])
WHICH = st.sampled_from([0, 1])
ANY = st.integers(0, 7)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def player(log: Log) -> Player:
    """A leader that knows its log and the agents."""
    return leader(log, "one")


def leader(log: Log, name: str, agents: str = "abc") -> Player:
    player = Player(log, name)
    for revision, agent_id in enumerate(agents, start=1):
        player.know(made(agent_id), revision)
    player.lead(1)
    player.settle()
    return player


def given(player: Player, reply: Reply) -> dict[str, Any]:
    player.settle()
    assert refusal(reply) is None, reply.body
    answer: dict[str, Any] = reply.body
    return answer


def test_answers_when_it_is_durable(player: Player, log: Log) -> None:
    reply = player.assign("t")
    assert reply.body is None
    player.carry_out()
    assert reply.body is None
    player.deliver()
    assert reply["fencing_token"] == len(log.entries) == 1
    player.state.validate()


def test_what_is_decided_meanwhile_goes_into_one_commit(player: Player, log: Log) -> None:
    replies = [player.assign(f"t{number}") for number in range(7)]
    assert len(player.orders) == 1
    player.carry_out()
    player.deliver()
    [second] = player.orders
    assert len(second.entries) == 6
    player.settle()
    assert [reply["fencing_token"] for reply in replies] == [1, 2, 3, 4, 5, 6, 7]
    assert refusal(player.assign("t8")) == "unavailable"


def test_commits_are_bounded(player: Player) -> None:
    won = given(player, player.assign("t0"))
    for number in range(MAX_COMMIT + 50):
        player.assign(f"w{number}", wait=50.0)
        player.release(won["assignment_id"])
    assert len(player.state.waiters) > MAX_COMMIT
    player.settle()
    player.state.validate()


def test_who_has_too_many_waiters_takes_no_more(player: Player) -> None:
    for number in range(7):
        given(player, player.assign(f"t{number}"))
    waiting = [player.assign(f"w{number}", wait=5.0) for number in range(MAX_WAITERS)]
    assert refusal(player.assign("more", wait=5.0)) == "overloaded"
    player.now += 6.0
    player.tick()
    assert {refusal(reply) for reply in waiting} == {"unavailable"}
    assert not len(player.state.waiters)


def test_who_wants_fewer_slots_does_not_pass(player: Player) -> None:
    won = [given(player, player.assign(f"t{number}", slots=4 if not number else 1)) for number in range(4)]
    many, one = player.assign("many", slots=4, wait=50.0), player.assign("one", wait=50.0)
    player.release(next(each for each in won if each["agent"].agent_id == "a")["assignment_id"])
    player.settle()
    assert many.body is None
    assert one.body is None
    other = player.assign("other", wait=50.0, capabilities=frozenset({"analysis"}), exclude=frozenset({"b"}))
    player.settle()
    assert other["agent"].agent_id == "a", "who asks for others does not wait for them"
    player.release(won[0]["assignment_id"])
    player.settle()
    assert many["agent"].agent_id == "c"


def test_many_that_want_different_agents_are_all_served(player: Player) -> None:
    """Only so many kinds are looked at in one turn, and then the others."""
    for number in range(7):
        given(player, player.assign(f"t{number}"))
    kinds = [frozenset({"b", "c", f"x{number}"}) for number in range(3 * MAX_KINDS_SERVED)]
    waiting = [player.assign(f"w{number}", wait=50.0, exclude=kind) for number, kind in enumerate(kinds)]
    for _ in waiting:
        [holder] = [each for each in player.state.ledger.live.values() if each.agent_id == "a"]
        player.release(holder.assignment_id)
        player.settle()
        for _ in range(3):
            player.tick()
            player.settle()
    assert all(reply["agent"].agent_id == "a" for reply in waiting)


def test_a_paused_leader_cannot_write(log: Log) -> None:
    """It decided on what it knew; the log has moved since, so that nothing of it is taken."""
    old, new = leader(log, "old", "a"), leader(log, "new", "a")
    late = old.assign("old")
    won = given(new, new.assign("new"))
    old.carry_out()
    assert [entry.assignment_id for entry in log.entries] == [won["assignment_id"]]
    old.deliver()
    old.settle()
    assert refusal(late) == "unavailable", "and then it knows that nobody is free"


def test_the_outcome_is_unknown(player: Player, log: Log) -> None:
    """Nobody said that it was taken; it was, and is found."""
    reply = player.assign("t")
    player.carry_out(Fate.UNACKED)
    player.settle()
    assert len(log.entries) == 1
    assert reply["assignment_id"] == log.entries[0].assignment_id
    player.state.validate()


def test_the_log_is_quicker_than_the_acknowledgement(player: Player, log: Log) -> None:
    """And tells that somebody else has ended it, before it is known to have been made."""
    other = leader(log, "other")
    reply = player.assign("t")
    player.carry_out()
    other.hear()
    other.release(log.entries[0].assignment_id)
    other.carry_out()
    player.hear()
    player.deliver()
    assert reply["fencing_token"] == 1
    assert not player.state.ledger.live
    player.state.validate()


def test_a_release_whose_outcome_is_unknown(player: Player, log: Log) -> None:
    won = given(player, player.assign("t"))
    reply = player.release(won["assignment_id"])
    player.carry_out(Fate.UNACKED)
    player.settle()
    assert reply["released"] is True
    assert len(log.entries) == 2


def test_a_log_that_cannot_be_read(player: Player) -> None:
    reply = player.assign("t")
    player.carry_out(Fate.LOST)
    player.deliver()
    player.carry_out(Fate.LOST)
    held = player.assign("u")
    player.deliver()
    assert (refusal(reply), refusal(held)) == ("unavailable", "unavailable")
    assert "same task_id" in reply.body.message
    player.state.validate()
    assert given(player, player.assign("t"))["fencing_token"] == 1


def test_it_gives_up_after_some_attempts(player: Player, log: Log) -> None:
    reply = player.assign("t")
    for _ in range(20):
        if reply.body is not None:
            break
        player.carry_out(Fate.LOST)
        player.deliver()
        player.carry_out()
        player.deliver()
    assert refusal(reply) == "unavailable"
    assert not log.entries
    player.state.validate()


def test_who_leads_no_more_refuses(player: Player) -> None:
    underway, waiting = player.assign("t"), player.assign("w", capabilities=frozenset({"vision"}), wait=9.0)
    player.follow(2)
    assert (refusal(underway), refusal(waiting)) == ("unavailable", "unavailable")
    assert refusal(player.assign("u")) == "unavailable"
    player.settle()
    assert player.state.ledger.live, "it was taken all the same, and the log tells"
    player.state.validate()


@pytest.mark.parametrize(
    ("becomes", "reason"),
    [
        (made("a", status=Status.OFFLINE, reason="no_responders"), "no_responders"),
        (made("a", 2, reason="takeover"), "takeover"),
        (removed(made("a")), "deregistered"),
        (made("a", status=Status.SUSPENDED, reason="operator"), None),
        (made("a", status=Status.DEREGISTERING, reason="draining"), None),
    ],
)
@pytest.mark.parametrize("leads", [True, False])
def test_it_ends_with_its_agent(player: Player, log: Log, becomes: Record, reason: str | None, leads: bool) -> None:
    """Also when nobody led at that time."""
    won = given(player, player.assign("t", exclude=frozenset("bc")))
    if not leads:
        player.follow(2)
    player.know(becomes, 9)
    if not leads:
        player.lead(3)
        player.settle()
    player.tick()
    player.settle()
    ended = log.entries[-1].assignment
    assert ended is not None
    assert (ended.ended and ended.ended.reason) == reason
    assert (won["assignment_id"] in log.live()) is (reason is None)
    assert refusal(player.assign("u", exclude=frozenset("bc"))) == (None if becomes.incarnation == 2 else "unavailable")
    player.settle()
    player.state.validate()


def test_an_unknown_agent_is_waited_for(log: Log, player: Player) -> None:
    """The log of agents may lag behind that of assignments."""
    won = given(player, player.assign("t", exclude=frozenset("bc")))
    late = leader(log, "late", "bc")
    for _ in range(3):
        late.now += MISSING_GRACE / 4
        late.tick()
    late.settle()
    assert won["assignment_id"] in log.live()
    late.know(made("a"), 9)
    assert late.state.agents["a"].reserved == 1
    late.now += MISSING_GRACE
    late.tick()
    late.tick()
    late.settle()
    assert won["assignment_id"] in log.live()


def test_an_agent_that_nobody_knows(log: Log, player: Player) -> None:
    given(player, player.assign("t", exclude=frozenset("bc")))
    late = leader(log, "late", "bc")
    late.now += MISSING_GRACE + 1.0
    late.tick()
    late.settle()
    assert not log.live()
    assert log.entries[-1].assignment.ended.reason == "deregistered"


def test_the_end_of_the_log_has_vanished(player: Player, log: Log) -> None:
    """Markers end by their own time; who never heard of them has to know how far the log reaches all the same."""
    won = given(player, player.assign("t"))
    player.release(won["assignment_id"])
    player.settle()
    log.gone = 2
    new = leader(log, "new")
    assert new.assign("u").body is None
    new.carry_out()
    new.deliver()
    assert len(log.entries) == 3, "at the first attempt"


def test_a_newcomer_does_not_pass_who_waits(player: Player) -> None:
    many = player.assign("many", slots=2, exclude=frozenset("bc"), wait=50.0)
    assert refusal(many) == "invalid_request", "nobody has so many"
    for number in range(6):
        given(player, player.assign(f"t{number}", exclude=frozenset("a")))
    waits = player.assign("waits", slots=4, wait=50.0)
    late = player.assign("late")
    assert waits.body is None
    assert refusal(late) == "unavailable"
    assert "others wait for the rest" in late.body.message
    assert given(player, player.assign("other", exclude=frozenset("bc")))["agent"].agent_id == "a"


def test_a_bucket_that_is_another_one(player: Player, log: Log) -> None:
    given(player, player.assign("t"))
    underway = player.assign("u")
    log.entries.clear()
    player.replaced()
    assert refusal(underway) == "unavailable"
    player.settle()
    assert all(agent.reserved == 0 for agent in player.state.agents.values())
    assert given(player, player.assign("t"))["fencing_token"] == 1
    player.state.validate()


def test_identities(player: Player) -> None:
    won = given(player, player.assign("t", identity="one"))
    asked = won["assignment_id"]
    assert refusal(player.assign("t", identity="two")) == "forbidden"
    assert refusal(player.release(asked, identity="two")) == "forbidden"
    assert refusal(player.release(asked)) == "forbidden"
    assert given(player, player.release(asked, identity="one"))["released"] is True


def test_load_counts_what_is_reserved(player: Player) -> None:
    """At once, beside what was reported; and what was reported counts what was reserved then."""
    player.beat("c", 0.25)
    agent = player.state.agents["c"]
    assert agent.effective_load == 0.25
    first = given(player, player.assign("t", exclude=frozenset("ab")))
    assert (agent.reserved, agent.effective_load) == (1, 0.5)
    player.beat("c", 0.5)
    assert agent.effective_load == 0.5
    given(player, player.assign("u", exclude=frozenset("ab")))
    assert agent.effective_load == 0.75
    player.release(first["assignment_id"])
    player.settle()
    assert agent.effective_load == 0.5
    assert agent.load == 0.5, "as it was reported"


class Replicas(RuleBasedStateMachine):
    """Two replicas, both of which may believe to lead; whatever they do, the log stays right."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.players = [Player(self.log, name) for name in ("one", "two")]
        self.records: list[Record] = []
        """The other log; each of the two hears it at its own pace."""
        self.known = [0, 0]
        self.epoch = 0
        self.answers: list[tuple[Reply, str | None]] = []

    @initialize()
    def start(self) -> None:
        self.records += [made(agent_id) for agent_id in sorted(LIMITS_OF)]
        for which in (0, 1):
            self.learn(which, 3)
        self.lead(0)

    @rule(which=WHICH, task=TASKS, slots=st.sampled_from([1, 1, 2, 4]), wait=st.sampled_from([0.0, 3.0]),
          ttl=st.sampled_from([1.0, 5.0, 3600.0]))  # fmt: skip
    def assign(self, which: int, task: str, slots: int, wait: float, ttl: float) -> None:
        self.answers.append((self.players[which].assign(task, slots, ttl, wait), task))

    @rule(which=WHICH, index=ANY)
    def release(self, which: int, index: int) -> None:
        ids = sorted({entry.assignment_id for entry in self.log.entries})
        if ids:
            self.answers.append((self.players[which].release(ids[index % len(ids)]), None))

    @rule(which=WHICH, task=TASKS)
    def give_up(self, which: int, task: str) -> None:
        self.answers.append((self.players[which].release(task_id=task), None))

    @rule(which=WHICH, task=TASKS, ttl=st.sampled_from([1.0, 5.0]))
    def renew(self, which: int, task: str, ttl: float) -> None:
        self.answers.append((self.players[which].assign(task, ttl=ttl, renew=True), task))

    @rule(which=WHICH, fate=st.sampled_from(list(Fate)), index=ANY)
    def carry_out(self, which: int, fate: Fate, index: int) -> None:
        player = self.players[which]
        if player.orders:
            player.carry_out(fate, index % len(player.orders))

    @rule(which=WHICH, index=ANY)
    def deliver(self, which: int, index: int) -> None:
        player = self.players[which]
        if player.facts:
            player.deliver(index % len(player.facts))

    @rule(which=WHICH, index=ANY)
    def arrive_late(self, which: int, index: int) -> None:
        player = self.players[which]
        if player.late:
            self.log.commit(player.late.pop(index % len(player.late)))

    @rule(which=WHICH, entries=st.integers(1, 3), newest=st.booleans())
    def hear(self, which: int, entries: int, newest: bool) -> None:
        """The bucket has one entry a key: who is late hears no others."""
        self.players[which].hear(entries, newest)

    @rule(which=WHICH, entries=st.integers(1, 3))
    def learn(self, which: int, entries: int) -> None:
        for record in self.records[self.known[which] : self.known[which] + entries]:
            self.known[which] += 1
            self.players[which].know(record, self.known[which])

    @rule(agent_id=AGENTS, what=st.sampled_from(["offline", "another", "removed"]))
    def change(self, agent_id: str, what: str) -> None:
        last = [record for record in self.records if record.agent_id == agent_id][-1]
        if (last.change is not None and last.change.removed) or last.status is Status.OFFLINE:
            self.records.append(made(agent_id, last.incarnation + 1))
        elif what == "offline":
            self.records.append(made(agent_id, last.incarnation, Status.OFFLINE, "no_responders"))
        elif what == "another":
            self.records.append(made(agent_id, last.incarnation + 1, reason="takeover"))
        else:
            self.records.append(removed(last))

    @rule(agent_id=AGENTS, load=st.sampled_from([0.0, 0.3, 1.0]))
    def beat(self, agent_id: str, load: float) -> None:
        for player in self.players:
            player.beat(agent_id, load)

    @rule(which=WHICH)
    def lead(self, which: int) -> None:
        self.epoch += 1
        self.players[which].lead(self.epoch)

    @rule(which=WHICH)
    def follow(self, which: int) -> None:
        if self.players[which].state.leading:
            self.players[which].follow(self.epoch)

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 12.0]), which=WHICH)
    def advance(self, seconds: float, which: int) -> None:
        """Time passes for both; but one of them may be paused."""
        for player in self.players:
            player.now += seconds
        self.players[which].tick()

    @invariant()
    def answers_are_true(self) -> None:
        for reply, task in self.answers:
            if reply.body is None or refusal(reply) is not None or task is None:
                continue
            entry = self.log.entries[reply["fencing_token"] - 1]
            assert entry.assignment_id == reply["assignment_id"]
            assert entry.assignment is not None
            assert (entry.assignment.task_id, reply["task_id"]) == (task, task)
            known = [each.assignment for each in self.log.entries if each.assignment_id == entry.assignment_id]
            assert reply["expires_at"] in {each.expires_at for each in known if each is not None}
            assert {each.token for each in known if each is not None} == {entry.revision}

    @invariant()
    def ledgers_are_whole(self) -> None:
        for player in self.players:
            player.state.ledger.validate()

    def teardown(self) -> None:
        self.follow(1)
        self.lead(0)
        for which in (0, 1):
            self.learn(which, len(self.records))
        for _ in range(3):
            for player in self.players:
                player.now += 6.0
                player.settle()
                player.tick()
                player.settle()
        for player in self.players:
            player.settle()
            player.state.validate()
            assert player.state.ledger.live == self.log.live()
        assert all(reply.body is not None for reply, _ in self.answers), "somebody was never answered"
        for each in self.log.live().values():
            agent = self.players[0].state.agents[each.agent_id]
            assert agent.record.incarnation == each.incarnation
            assert agent.status is not Status.OFFLINE


TestReplicas = Replicas.TestCase
TestReplicas.settings = searching(examples=60, steps=60)
