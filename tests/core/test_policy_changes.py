"""Changes of policies: answered when durable, none lost, whoever else changes them and whatever is late."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from registry.core.effects import PutPolicy
from registry.core.events import PolicyChanged
from registry.core.limits import MAX_ATTEMPTS, MAX_WAITING
from registry.core.policy import Policy
from tests.core.search import searching
from tests.core.shell import Fate, Reply, Shell, World


@pytest.fixture
def world() -> Iterator[World]:
    """A world in which orders are issued."""
    world = World(scaling=True)
    yield world
    world.check()


@pytest.fixture
def held(shell: Shell) -> Shell:
    """A leader whose orders wait for the test, and which does not hear the log."""
    shell.manual = shell.deaf = True
    return shell


def policy_in(reply: Reply) -> dict[str, Any]:
    """What an answer says of the one capability that was asked for."""
    [capability] = reply.body["capabilities"]
    policy: dict[str, Any] = capability["policy"]
    return policy


def known(shell: Shell) -> dict[str, Any]:
    return dict(shell.state.scaler.policies.own.get("analysis", {}))


def test_a_policy_is_answered_when_durable(world: World, shell: Shell):
    """A change of policy is applied by every replica once it is durable, and answered with the capability's scaling."""
    other = world.replica("two")
    policy = policy_in(shell.set_policy("vision", min_agents=3, max_agents=5))
    assert (policy["min_agents"], policy["source"]) == (3, "policy")
    assert other.state.scaler.policies.of("vision").max_agents == 5
    assert policy_in(shell.set_policy("vision", reset=True))["source"] == "default"
    assert other.state.scaler.policies.own == {}


def test_not_before_it_is_durable(held: Shell):
    """Neither answered nor applied while it is on its way."""
    reply = held.set_policy(min_agents=3)
    held.carry_out()
    assert (reply.body, known(held)) == (None, {})
    held.deliver()
    assert policy_in(reply)["min_agents"] == known(held)["min_agents"] == 3


def test_a_change_that_changes_nothing(world: World, shell: Shell):
    """It is answered at once, and what was ordered by that policy stays."""
    shell.set_policy(min_agents=3)
    length = len(world.policies.log)
    assert policy_in(shell.set_policy(min_agents=3))["min_agents"] == 3
    assert len(world.policies.log) == length


def test_two_changes_at_once(world: World, held: Shell):
    """The second one waits for the first, and is merged into what that made."""
    one, two = held.set_policy(min_agents=3), held.set_policy(max_agents=20)
    assert held.todo == [PutPolicy("analysis", {"min_agents": 3}, 0)]
    held.release()
    assert (policy_in(one)["max_agents"], policy_in(two)["min_agents"]) == (10, 3)
    assert world.policies.live() == {"analysis": {"min_agents": 3, "max_agents": 20}}


def test_other_capabilities_do_not_wait(held: Shell):
    """One change at a time for each capability, not for all."""
    held.set_policy("analysis", min_agents=3)
    held.set_policy("vision", min_agents=4)
    assert [order.capability for order in held.todo] == ["analysis", "vision"]


def test_who_waited_is_checked_against_what_holds_then(held: Shell):
    """A change that the one before made contradictory is refused; those after it are not."""
    one, two, three = held.set_policy(min_agents=8), held.set_policy(max_agents=7), held.set_policy(max_agents=9)
    held.release()
    assert (one.code, two.code, three.code) == (None, "invalid_request", None)
    assert known(held) == {"min_agents": 8, "max_agents": 9}


def test_so_many_wait_and_no_more(held: Shell):
    """Who comes when too many wait is told so."""
    replies = [held.set_policy(min_agents=3) for _ in range(MAX_WAITING + 2)]
    assert [reply.code for reply in replies if reply.body is not None] == ["overloaded"]
    held.release()
    assert replies[-1].code == "overloaded"
    assert {reply.code for reply in replies[:-1]} == {None}


def test_a_change_by_somebody_else_is_kept(world: World, held: Shell):
    """A change decided on a policy that is not the newest any more is merged into the newest."""
    reply = held.set_policy(min_agents=3)
    world.policies.append("analysis", {"max_agents": 20, "low_load": 0.2})
    held.release()
    assert policy_in(reply)["max_agents"] == 20
    assert world.policies.live()["analysis"] == {"min_agents": 3, "max_agents": 20, "low_load": 0.2}
    assert held.state.statistics.write_conflicts == 1


def test_a_removal_by_somebody_else_is_kept(world: World, held: Shell):
    """What somebody dropped meanwhile does not come back."""
    world.policies.append("analysis", {"max_agents": 20})
    held.hear_policies()
    reply = held.set_policy(min_agents=3)
    world.policies.append("analysis", None)
    held.release()
    assert policy_in(reply)["max_agents"] == 10
    assert world.policies.live()["analysis"] == {"min_agents": 3}


def test_a_change_that_somebody_else_made_contradictory(world: World, held: Shell):
    """Merged anew, a change is checked anew."""
    reply = held.set_policy(max_agents=5)
    world.policies.append("analysis", {"min_agents": 8})
    held.release()
    assert reply.code == "invalid_request"
    assert world.policies.live()["analysis"] == {"min_agents": 8}


def test_tried_so_often_and_no_more(world: World, held: Shell):
    """Who loses again and again is told to try later."""
    reply = held.set_policy(min_agents=3)
    for number in range(MAX_ATTEMPTS):
        world.policies.append("analysis", {"max_agents": 11 + number})
        for _ in ("lost", "read"):
            assert reply.body is None
            held.carry_out()
            held.deliver()
    assert reply.code == "unavailable"
    assert held.todo == []
    assert known(held) == {"max_agents": 10 + MAX_ATTEMPTS}


@pytest.mark.parametrize("fate", [Fate.UNACKED, Fate.LOST, Fate.LATE])
def test_unknown_outcome(world: World, held: Shell, fate: Fate):
    """Whether it took place, did not, or does later: it is answered once it stands there, and stands there once."""
    held.fates.append(fate)
    reply, after = held.set_policy(min_agents=3), held.set_policy(max_agents=20)
    held.manual = False
    world.run()
    assert policy_in(reply)["min_agents"] == 3
    assert after.code is None
    world.settle()
    assert world.policies.live()["analysis"] == {"min_agents": 3, "max_agents": 20}
    assert len(world.policies.log) == 2


def test_the_bucket_cannot_be_read(world: World, held: Shell):
    """Who asked, and who waited, is told that it is unknown; the log tells later."""
    replies = [held.set_policy(min_agents=3), held.set_policy(max_agents=20)]
    held.carry_out(fate=Fate.UNACKED)
    held.deliver()
    held.disconnect()
    held.carry_out()
    held.deliver()
    assert [reply.code for reply in replies] == ["unavailable", "unavailable"]
    assert "try again" in replies[0].body.message
    held.connect()
    held.release()
    assert known(held) == {"min_agents": 3}


def test_a_late_acknowledgement_does_not_undo_what_is_newer(world: World, held: Shell):
    """Around a change of leader: the old one's acknowledgement comes after the echo of the new one's change."""
    other = world.replica("two")
    reply = held.set_policy(min_agents=3)
    held.carry_out()
    held.follow()
    other.lead()
    other.set_policy(min_agents=5)
    held.hear_policies()
    held.deliver()
    assert policy_in(reply)["min_agents"] == 5
    assert known(held) == known(other) == {"min_agents": 5}


def test_an_echo_is_no_news(world: World, held: Shell):
    """The order that follows from a policy is not taken back when the log shows that policy again."""
    held.register("a")
    held.release()
    held.deaf = True
    held.set_policy(min_agents=4)
    world.advance(6.0)
    assert [order["desired"] for order in held.orders] == [4]
    held.hear_policies()
    world.advance(6.0)
    assert [order["desired"] for order in held.orders] == [4]
    assert held.state.scaler.report("analysis", [])["orders"]


def test_old_entries_are_no_news(shell: Shell):
    """An entry of the log that is older than what is known changes nothing."""
    shell.set_policy(min_agents=3)
    shell.set_policy(min_agents=4)
    shell.handle(PolicyChanged(shell.world.now, "analysis", {"min_agents": 3}, 1))
    shell.handle(PolicyChanged(shell.world.now, "analysis", None, 2))
    assert known(shell) == {"min_agents": 4}


def test_a_bucket_that_went_back(world: World, shell: Shell):
    """When the bucket was made anew, its revisions begin anew; the first change finds out."""
    for number in range(3, 8):
        shell.set_policy(min_agents=number)
    shell.deaf = True
    world.policies.log.clear()
    world.policies.last.clear()
    shell.policies_heard = 0
    assert policy_in(shell.set_policy(max_agents=20))["max_agents"] == 20
    assert world.policies.live() == {"analysis": {"max_agents": 20}}


def test_what_cannot_be_read_scales_nothing(world: World, shell: Shell):
    """A policy that is none is no reason to fall back on the default and drain agents; it is set anew."""
    world.policies.append("analysis", None, readable=False)
    shell.register("a")
    world.advance(6.0)
    report = shell.state.scaler.report("analysis", [])
    assert (shell.orders, report["desired"]) == ([], 1)
    assert report["reason"] == "nothing done: its policy in the bucket cannot be read; set it anew"
    assert policy_in(shell.set_policy(max_agents=20))["max_agents"] == 20
    world.advance(6.0)
    assert [order["desired"] for order in shell.orders] == [2]


def test_what_cannot_be_read_is_written_over(world: World, held: Shell):
    """Also by a reset: that the bucket has no policy that could be read is not what was asked for."""
    reply = held.set_policy(reset=True)
    world.policies.append("analysis", None, readable=False)
    held.release()
    assert policy_in(reply)["source"] == "default"
    assert world.policies.last["analysis"].readable


def test_a_policy_that_contradicts_the_default_scales_nothing(world: World, shell: Shell):
    """Set over another default, a policy may contradict the one of here and now: up and down by turns helps nobody."""
    shell.set_policy(max_agents=5)
    shell.state.scaler.policies.default = Policy(min_agents=8)
    shell.register("a")
    world.advance(6.0)
    assert shell.orders == []
    reason = shell.state.scaler.report("analysis", [])["reason"]
    assert reason == "nothing done: its policy contradicts itself: min_agents: must be at most max_agents, 5; got 8"


FIELDS = st.sampled_from(["min_agents", "max_agents", "stabilisation_down", "order_timeout"])
REPLICAS = st.sampled_from([0, 1])
ANY = st.integers(0, 7)


class Changes(RuleBasedStateMachine):
    """Two replicas that both take changes, with every order and every answer late at will. Each sets one field."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.value = 20
        self.asked: list[tuple[Reply, str, float, int]] = []
        """Changes not answered yet, each with the length of the log when it was asked for."""

    @initialize()
    def start(self) -> None:
        for name in ("one", "two"):
            shell = self.world.replica(name)
            shell.manual = shell.deaf = True

    @rule(which=REPLICAS, field=FIELDS)
    def change(self, which: int, field: str) -> None:
        self.value += 1
        value = self.value if field != "min_agents" else self.value % 10
        reply = self.world.shells[which].set_policy(**{field: value})
        self.asked.append((reply, field, value, len(self.world.policies.log)))

    @rule(which=REPLICAS)
    def nats_goes_or_comes(self, which: int) -> None:
        shell = self.world.shells[which]
        (shell.disconnect if shell.state.path.connected else shell.connect)()

    def having(self, what: str) -> list[Shell]:
        return [shell for shell in self.world.shells if getattr(shell, what)]

    @precondition(lambda self: self.having("todo"))
    @rule(which=ANY, fate=st.sampled_from([Fate.ACKED, Fate.ACKED, Fate.UNACKED, Fate.LOST, Fate.LATE]))
    def carry_out(self, which: int, fate: Fate) -> None:
        shells = self.having("todo")
        shells[which % len(shells)].carry_out(fate=fate)

    @precondition(lambda self: self.having("facts"))
    @rule(which=ANY)
    def deliver(self, which: int) -> None:
        shells = self.having("facts")
        shells[which % len(shells)].deliver()
        self.look()

    @rule(which=REPLICAS)
    def hear(self, which: int) -> None:
        if self.world.shells[which].state.path.connected:
            self.world.shells[which].hear_policies()

    @precondition(lambda self: self.world.late)
    @rule()
    def late_writes_arrive(self) -> None:
        self.world.land_late()

    def look(self) -> None:
        """What was acknowledged took place since it was asked for; no write took back what another one had set."""
        log = self.world.policies.log
        for reply, field, value, since in self.asked:
            if reply.body is not None and reply.code is None:
                assert any(entry.policy.get(field) == value for entry in log[since:]), (field, value)
        self.asked = [asked for asked in self.asked if asked[0].body is None]
        for before, after in pairwise(log):
            changed = {name for name in after.policy if after.policy[name] != before.policy.get(name)}
            assert set(before.policy) <= set(after.policy)
            assert len(changed) <= 1, (before, after)

    def teardown(self) -> None:
        if not self.world.shells:
            return
        self.world.check()
        self.look()
        assert self.asked == []
        for shell in self.world.shells:
            shell.replay()


Changes.TestCase.settings = searching(examples=60, steps=40)
TestChanges = Changes.TestCase


def test_what_may_have_been_asked_before_a_standstill_is_refused(world: World, shell: Shell):
    """Somebody else may lead by now, and have been told otherwise."""
    shell.set_policy(max_agents=8)
    world.now += 30.0
    late = shell.set_policy(max_agents=5)
    assert late.code == "unavailable"
    assert shell.state.scaler.policies.own["analysis"]["max_agents"] == 8
