"""A bucket of assignments and the replicas that write it, played by hand."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any

from registry.core.assignment import Assignment
from registry.core.assignment_events import (
    AssignmentChanged,
    AssignmentRequested,
    AssignmentsCommitted,
    AssignmentsLearnt,
    AssignmentsReplaced,
    AssignmentsUncertain,
    ReleaseRequested,
)
from registry.core.capabilities import Vocabulary
from registry.core.effects import CommitAssignments, Effect, LearnAssignments, SendReply
from registry.core.errors import RefusedError
from registry.core.events import (
    Connected,
    Event,
    LeadershipChanged,
    PulseHeard,
    RecordChanged,
    TelemetryReceived,
    Tick,
)
from registry.core.handler import handle
from registry.core.limits import Limits
from registry.core.policy import Policy
from registry.core.query import Query
from registry.core.record import Change, Record
from registry.core.scaler import Scaler
from registry.core.state import RegistryState
from registry.core.status import Status
from tests.core.shell import CAPABILITIES, START, WALL, Fate, Reply


@dataclass(frozen=True)
class Written:
    """One entry of the log."""

    assignment_id: str
    assignment: Assignment | None
    revision: int

    @property
    def lives(self) -> bool:
        return self.assignment is not None and self.assignment.ended is None


class Log:
    """Assignments in the order in which they were written, with compare-and-set on its end."""

    def __init__(self) -> None:
        self.entries: list[Written] = []
        self.gone = 0
        """Entries up to here are not in the log any more, unless they live: markers end by their own time."""

    def commit(self, order: CommitAssignments) -> bool:
        """Write all of them, or nothing."""
        if order.expected != len(self.entries):
            return False
        for assignment in order.entries:
            form = json.loads(json.dumps(assignment.to_json()))
            revision = len(self.entries) + 1
            written = Assignment.from_json(form, revision)
            self.entries.append(Written(assignment.assignment_id, written, revision))
        self.check()
        return True

    def live(self) -> dict[str, Assignment]:
        """Return what lives at the end of the log."""
        found: dict[str, Assignment] = {}
        for entry in self.entries:
            found.pop(entry.assignment_id, None)
            if entry.lives:
                assert entry.assignment is not None
                found[entry.assignment_id] = entry.assignment
        return found

    def check(self) -> None:
        """Of no agent are more slots reserved than it has; no task has two assignments; each ends once."""
        live = self.live().values()
        reserved: Counter[tuple[str, int]] = Counter()
        for each in live:
            reserved[each.agent_id, each.incarnation] += each.slots
        for (agent_id, incarnation), slots in reserved.items():
            assert slots <= LIMITS_OF[agent_id], f"{slots} slots of {agent_id} ({incarnation}) are reserved"
        tasks = [each.task_id for each in live]
        assert len(set(tasks)) == len(tasks), "a task has two"
        ends = Counter(e.assignment_id for e in self.entries if e.assignment is not None and e.assignment.ended)
        assert all(number == 1 for number in ends.values()), "one has ended twice"


LIMITS_OF = {"a": 1, "b": 2, "c": 4}
"""Slots of the agents that there are."""


class Player:
    """One replica. Orders wait in `orders`, facts that come back in `facts`, until the test lets them go on."""

    def __init__(self, log: Log, name: str) -> None:
        self.log = log
        self.name = name
        self.now = START
        ids = count(1)

        def new_id() -> str:
            return f"{name}{next(ids)}"

        scaler = Scaler(False, Policy(), new_id)
        limits = Limits(reconnect_grace=0.0, offline_retention=1e6)
        self.state = RegistryState(limits, Vocabulary(CAPABILITIES), scaler, Random(name).random, new_id)
        self.orders: list[CommitAssignments | LearnAssignments] = []
        self.late: list[CommitAssignments] = []
        self.facts: list[Event] = []
        self.heard = 0
        self.tick()
        self.handle(Connected(self.now))

    def handle(self, event: Event) -> None:
        for effect in handle(self.state, event):
            self._take(effect)

    def _take(self, effect: Effect) -> None:
        if isinstance(effect, SendReply):
            effect.to.answer(effect.body)
        elif isinstance(effect, CommitAssignments | LearnAssignments):
            self.orders.append(effect)

    # What happens.

    def tick(self) -> None:
        self.handle(PulseHeard(self.now, self.now))
        self.handle(Tick(self.now, WALL + self.now))

    def lead(self, epoch: int) -> None:
        self.handle(LeadershipChanged(self.now, True, epoch))

    def follow(self, epoch: int) -> None:
        self.handle(LeadershipChanged(self.now, False, epoch))

    def know(self, record: Record, revision: int) -> None:
        """Hear of an agent from the other log."""
        self.handle(RecordChanged(self.now, record.agent_id, record, revision))

    def beat(self, agent_id: str, load: float | None = None) -> None:
        self.handle(TelemetryReceived(self.now, None, None, agent_id, load_factor=load))

    def assign(
        self, task_id: str = "", slots: int = 1, ttl: float = 60.0, wait: float = 0.0, identity: str | None = None,
        renew: bool = False, **query: Any,
    ) -> Reply:  # fmt: skip
        reply = Reply()
        wanted = Query(**{"capabilities": frozenset({"analysis"}), "sort_by": "random", "slots": slots, **query})
        self.handle(AssignmentRequested(self.now, reply, identity, wanted, task_id, slots, ttl, wait, renew))
        return reply

    def release(
        self, assignment_id: str | None = None, agent_id: str | None = None, identity: str | None = None,
        task_id: str | None = None,
    ) -> Reply:  # fmt: skip
        reply = Reply()
        self.handle(ReleaseRequested(self.now, reply, identity, assignment_id, agent_id, task_id))
        return reply

    # What is under way.

    def carry_out(self, fate: Fate = Fate.ACKED, index: int = 0) -> None:
        order = self.orders.pop(index)
        if isinstance(order, LearnAssignments):
            if fate is Fate.LOST:
                self.facts.append(AssignmentsLearnt(self.now, order.number, None))
                return
            end = len(self.log.entries)
            self.hear()
            self.facts.append(AssignmentsLearnt(self.now, order.number, end))
            return
        if fate is Fate.LATE:
            self.late.append(order)
        taken = fate in (Fate.ACKED, Fate.UNACKED) and self.log.commit(order)
        if taken and fate is Fate.ACKED:
            self.facts.append(AssignmentsCommitted(self.now, order.number, len(self.log.entries)))
        else:
            self.facts.append(AssignmentsUncertain(self.now, order.number))

    def deliver(self, index: int = 0) -> None:
        self.handle(replace(self.facts.pop(index), at=self.now))

    def hear(self, entries: int | None = None, newest: bool = False) -> None:
        """Hear so many further entries of the log, or all; or only those that are the newest of their key."""
        end = len(self.log.entries) if entries is None else min(self.heard + entries, len(self.log.entries))
        while self.heard < end:
            entry = self.log.entries[self.heard]
            self.heard += 1
            if self.heard <= self.log.gone and entry.assignment_id not in self.log.live():
                continue
            if newest and any(later.assignment_id == entry.assignment_id for later in self.log.entries[self.heard :]):
                continue
            self.handle(AssignmentChanged(self.now, entry.assignment_id, entry.assignment, entry.revision))

    def replaced(self) -> None:
        """The bucket is another one."""
        self.heard = 0
        self.handle(AssignmentsReplaced(self.now))

    def settle(self) -> None:
        """Let everything that is under way come to its end."""
        for order in self.late:
            self.log.commit(order)
        self.late.clear()
        for _ in range(1000):
            if self.orders:
                self.carry_out()
            elif self.facts:
                self.deliver()
            elif self.heard < len(self.log.entries):
                self.hear()
            else:
                return
        raise AssertionError(f"{self.name} does not come to rest: {self.orders} {self.facts}")


def made(agent_id: str, incarnation: int = 1, status: Status = Status.ACTIVE, reason: str = "registered") -> Record:
    """Return a record of an agent that has as many slots as `LIMITS_OF` says."""
    change = Change(Status.REGISTERING, reason, WALL + START, 0)
    return Record(
        agent_id, "worker", ("analysis",), status, reason, incarnation=incarnation, registered_at=WALL,
        heartbeat_interval=10.0, heartbeat_timeout=1e6, max_concurrency=LIMITS_OF[agent_id], change=change,
    )  # fmt: skip


def removed(record: Record) -> Record:
    """Return the removal of an agent."""
    return replace(record, change=Change(record.status, "deregistered", WALL + START, 0, removed=True))


def refusal(reply: Reply) -> str | None:
    """Return the code of a refusal; None for another answer."""
    return reply.body.code if isinstance(reply.body, RefusedError) else None
