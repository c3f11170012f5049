"""Promises that hold whatever happens, in whatever order: two replicas, faults, and no plan.

Every order and every answer of the bucket waits until a rule lets it go on, so that each possible order is tried: late
acknowledgements, echoes before them, reads that were overtaken, writes of unknown outcome, leaders that were paused,
replicas that are killed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from registry.core.effects import PutRecord
from registry.core.events import Outcome, Verb
from registry.core.limits import Limits
from registry.core.query import Query
from registry.core.status import DISCOVERABLE, Status
from tests.core.search import searching
from tests.core.shell import Fate, Reply, Shell, World

AGENTS = st.sampled_from("abc")
SCORES = st.sampled_from([1.0, 0.9, 0.7, 0.5, 0.3, 0.0])
REPLICAS = st.sampled_from([0, 1])
ANY = st.integers(0, 7)
"""Which of those that there are."""

LIMITS = Limits(
    heartbeat_interval=2.0,
    health_check_interval=3.0,
    offline_retention=15.0,
    drain_timeout=8.0,
    checkpoint_interval=2.0,
    reconnect_grace=0.0,
)
LEASE = 6.0
ENOUGH = 40.0
"""Seconds after which nobody is left that does not beat: a lease with grace and being busy, a drain, a retention."""


class Chaos(RuleBasedStateMachine):
    """The rules are what can happen; what must hold is asserted here and in the driver."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(limits=LIMITS)
        self.signs: dict[tuple[str, str], float] = defaultdict(float)
        """Instants of the last beat that a replica heard of an agent."""
        self.mercy: dict[str, float] = defaultdict(float)
        """Instants from which a replica has to let every lease run anew."""
        self.asked: list[tuple[Reply, str]] = []
        """Registrations that were asked for, to be looked up in the log."""
        self.killed = 0

    @initialize()
    def start(self) -> None:
        for name in ("one", "two"):
            self.begin(self.world.replica(name))
        self.lead(0)

    def begin(self, shell: Shell) -> None:
        shell.manual = shell.deaf = True
        self.mercy[shell.name] = self.world.now

    def shell(self, which: int) -> Shell:
        return self.world.shells[which]

    # What is asked.

    @rule(which=REPLICAS, agent_id=AGENTS, instance=st.sampled_from(["i1", "i2", None]), takeover=st.booleans(),
          tags=st.sampled_from([(), ("eu",)]), probed=st.booleans(),
          canary=st.sampled_from([None, 1.0, 5.0]))  # fmt: skip
    def register(
        self, which: int, agent_id: str, instance: str | None, takeover: bool, tags: tuple[str, ...], probed: bool,
        canary: float | None,
    ) -> None:  # fmt: skip
        subject = f"agent.{agent_id}.health_check" if probed else None
        canaries = {} if canary is None else {"analysis": {"topic": "echo", "period": canary}}
        reply = self.shell(which).register(
            agent_id, instance_id=instance, takeover=takeover, tags=tags, health_subject=subject, canaries=canaries
        )
        self.asked.append((reply, agent_id))

    @rule(which=REPLICAS, agent_id=AGENTS, verb=st.sampled_from(list(Verb)))
    def command(self, which: int, agent_id: str, verb: Verb) -> None:
        self.shell(which).command(verb, agent_id)

    @rule(agent_id=AGENTS, health=st.none() | SCORES, load=st.none() | SCORES, busy=st.none() | st.integers(-5, 10))
    def beat(self, agent_id: str, health: float | None, load: float | None, busy: int | None) -> None:
        now = self.world.now
        for shell in self.world.shells:
            if shell.state.path.connected:
                self.signs[shell.name, agent_id] = now
        until = None if busy is None else shell.state.wall(now) + busy
        self.world.beat(agent_id, health_score=health, load_factor=load, busy_until=until)

    @rule(which=REPLICAS, sort_by=st.sampled_from(["performance", "health", "load", "random"]), floor=SCORES,
          tags=st.sampled_from([frozenset[str](), frozenset({"eu"})]), limit=st.integers(1, 3),
          exclude=st.frozensets(AGENTS), held=st.booleans())  # fmt: skip
    def find(
        self, which: int, sort_by: str, floor: float, tags: frozenset[str], limit: int, exclude: frozenset[str],
        held: bool,
    ) -> None:  # fmt: skip
        state = self.shell(which).state
        statuses = DISCOVERABLE | {Status.SUSPENDED} if held else DISCOVERABLE
        query = Query(
            sort_by=sort_by, min_health=floor, tags=tags, limit=limit, exclude=exclude, statuses=statuses, max_load=0.8
        )
        matching = {
            agent.agent_id
            for agent in state.agents.values()
            if agent.status in statuses
            and agent.health >= floor
            and agent.load <= 0.8
            and tags <= set(agent.record.tags)
            and agent.agent_id not in exclude
        }
        found, total = self.shell(which).find(query)
        assert total == len(matching)
        assert len(found) == len({agent.agent_id for agent in found}) == min(limit, total)
        assert {agent.agent_id for agent in found} <= matching
        best = sorted((query.rung(state.agents[agent_id]) for agent_id in matching), reverse=True)
        assert [query.rung(agent) for agent in found] == best[:limit]

    # What happens.

    @rule(halves=st.integers(1, 8))
    def time_passes(self, halves: int) -> None:
        self.world.advance(halves / 2)

    @rule(seconds=st.sampled_from([0.5, 2.0, 20.0]), beating=st.frozensets(AGENTS))
    def stall(self, seconds: float, beating: frozenset[str]) -> None:
        """Nothing runs for a while; then the beats that came meanwhile are read, after the clock was looked at."""
        self.world.stall(seconds)
        for agent_id in beating:
            self.beat(agent_id, None, None, None)

    @rule(which=REPLICAS)
    def lead(self, which: int) -> None:
        self.mercy[self.shell(which).name] = self.world.now
        self.shell(which).lead()

    @rule(which=REPLICAS)
    def follow(self, which: int) -> None:
        self.shell(which).follow()

    @rule(which=REPLICAS)
    def nats_goes_or_comes(self, which: int) -> None:
        shell = self.shell(which)
        if shell.state.path.connected:
            shell.disconnect()
        else:
            self.mercy[shell.name] = self.world.now
            shell.connect()

    @rule(which=REPLICAS)
    def kill(self, which: int) -> None:
        """What it had sent may still arrive; what it had not is gone, and so is whoever waited for an answer."""
        self.killed += 1
        dead = self.world.shells.pop(which)
        dead.replay()
        self.world.late += [order for order in dead.todo[::2] if isinstance(order, PutRecord)]
        self.begin(self.world.replica(f"{dead.name.rstrip('0123456789')}{self.killed}"))
        self.world.shells.insert(which, self.world.shells.pop())

    def having(self, what: str) -> list[Shell]:
        return [shell for shell in self.world.shells if getattr(shell, what)]

    @precondition(lambda self: self.having("todo"))
    @rule(which=ANY, index=ANY, fate=st.sampled_from([Fate.ACKED, Fate.ACKED, Fate.UNACKED, Fate.LOST, Fate.LATE]))
    def carry_out(self, which: int, index: int, fate: Fate) -> None:
        shells = self.having("todo")
        shell = shells[which % len(shells)]
        shell.carry_out(index % len(shell.todo), fate)

    @precondition(lambda self: self.having("facts"))
    @rule(which=ANY, index=ANY)
    def deliver(self, which: int, index: int) -> None:
        shells = self.having("facts")
        shell = shells[which % len(shells)]
        shell.deliver(index % len(shell.facts))

    def behind(self) -> list[Shell]:
        log = self.world.bucket.log
        return [shell for shell in self.world.shells if shell.state.path.connected and shell.heard < len(log)]

    @precondition(lambda self: self.behind())
    @rule(which=ANY, entries=st.integers(1, 3), gap=st.sampled_from([False, False, False, True]))
    def hear(self, which: int, entries: int, gap: bool) -> None:
        shells = self.behind()
        shell = shells[which % len(shells)]
        if gap:
            shell.hear_newest()
        else:
            shell.hear(entries)

    @precondition(lambda self: self.having("probes"))
    @rule(which=ANY, index=ANY, outcome=st.sampled_from(list(Outcome)), health=st.none() | SCORES)
    def probe_ends(self, which: int, index: int, outcome: Outcome, health: float | None) -> None:
        shells = self.having("probes")
        shell = shells[which % len(shells)]
        agent_id = shell.probes[index % len(shell.probes)].agent_id
        vitals: dict[str, Any] = {"health_score": health} if outcome is Outcome.ANSWERED else {}
        shell.answer(outcome, agent_id, **vitals)

    @precondition(lambda self: self.having("canaries"))
    @rule(which=ANY, index=ANY, passed=st.sampled_from([True, False, False, None]))
    def canary_ends(self, which: int, index: int, passed: bool | None) -> None:
        """Whatever comes of it, nobody goes because of it: that is what the checks of the other rules say."""
        shells = self.having("canaries")
        shell = shells[which % len(shells)]
        shell.end_canary(passed, agent_id=shell.canaries[index % len(shell.canaries)].agent_id)

    @precondition(lambda self: self.world.late)
    @rule()
    def late_writes_arrive(self) -> None:
        self.world.land_late()

    @rule()
    def rest(self) -> None:
        """Everything that is under way comes to its end: all agree, and everybody has an answer."""
        for shell in self.world.shells:
            if not shell.state.path.connected:
                self.nats_goes_or_comes(self.world.shells.index(shell))
        self.world.settle()
        while probing := self.having("probes"):
            probing[0].answer(Outcome.TIMEOUT, probing[0].probes[0].agent_id)
            self.world.settle()
        self.world.bucket.check()
        for shell in self.world.shells:
            shell.validate()
            assert len(shell.state.writes) == 0
            shell.manual = shell.deaf = True

    # What must hold.

    @invariant()
    def cross_references_hold(self) -> None:
        for shell in self.world.shells:
            shell.state.validate()

    @invariant()
    def nobody_is_lost_while_it_beats(self) -> None:
        """No lease lapses before its time since the agent's last beat, and since the judge's last excuse."""
        for shell in self.world.shells:
            for order in shell.todo:
                if isinstance(order, PutRecord) and order.record.status_reason == "heartbeat_timeout":
                    agent_id, change = order.record.agent_id, order.record.change
                    assert change is not None
                    decided = change.at - shell.state.wall_offset
                    for since in (self.signs[shell.name, agent_id], self.mercy[shell.name]):
                        assert since > decided or decided - since >= LEASE - 0.001, (agent_id, decided, since)

    @invariant()
    def a_canary_only_degrades(self) -> None:
        for shell in self.world.shells:
            for order in shell.todo:
                change = order.record.change if isinstance(order, PutRecord) else None
                assert change is None or change.reason != "canary" or order.record.status is Status.DEGRADED

    @invariant()
    def receipts_are_true(self) -> None:
        """A registration that was acknowledged stands in the log, at the revision and with what the receipt says."""
        for reply, agent_id in self.asked:
            if isinstance(reply.body, dict):
                entry = self.world.bucket.log[reply["revision"] - 1]
                assert entry.record is not None
                assert (entry.key, entry.record.incarnation) == (agent_id, reply["incarnation"])
        self.asked = [asked for asked in self.asked if asked[0].body is None]

    def teardown(self) -> None:
        """In the end, with one leader and nobody who beats, nobody is left; and a replay does the same."""
        if not self.world.shells:
            return
        self.rest()
        self.shell(1).follow()
        self.lead(0)
        self.rest()
        for shell in self.world.shells:
            shell.release()
        self.world.advance(ENOUGH)
        assert self.world.bucket.live() == {}
        self.rest()
        for shell in self.world.shells:
            shell.replay()


Chaos.TestCase.settings = searching(examples=60, steps=40)
TestChaos = Chaos.TestCase


def test_the_driver_notices(world: World) -> None:
    """The driver's own checks fail when they should: a state that goes back, or is not what the bucket holds."""
    shell = world.replica("one")
    shell.register("a")
    agent = shell.state.get("a")
    agent.record = replace(agent.record, tags=("made up",))
    with pytest.raises(AssertionError, match="not what revision 1 says"):
        shell._check_known("a", 1)
    agent.record = world.bucket.last["a"].record
