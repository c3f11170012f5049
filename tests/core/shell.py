"""The shell, played by hand: a bucket with compare-and-set and a log, a clock that is a number, faults on demand."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Collection, Iterable
from copy import copy
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from random import Random
from typing import Any

from registry.core.adoption import Adoption
from registry.core.agent import Agent
from registry.core.capabilities import Vocabulary
from registry.core.conflict_events import (
    RefusalTold,
    RuleChanged,
    RuleFound,
    RulePut,
    RuleRequested,
    RuleUnknown,
    ViolationChanged,
    ViolationLost,
    ViolationPut,
)
from registry.core.effects import (
    Announce,
    AwaitRevision,
    CallServices,
    DescribeService,
    Effect,
    MeasureService,
    Probe,
    PublishConflict,
    PublishOrder,
    PutOrders,
    PutPolicy,
    PutRecord,
    PutRule,
    PutViolation,
    ReadPolicy,
    ReadRecord,
    RunCanary,
    SendReply,
    ShareVitals,
    SweepRemoval,
    TellAgent,
    TellLeader,
)
from registry.core.errors import RefusedError
from registry.core.events import (
    CanaryFinished,
    CommandRequested,
    Connected,
    Disconnected,
    Event,
    LeadershipChanged,
    OrdersChanged,
    OrdersCommitted,
    OrdersUncertain,
    Outcome,
    PolicyChanged,
    PolicyCommitted,
    PolicyRead,
    PolicyReadFailed,
    PolicyRequested,
    PolicyUncertain,
    ProbeFinished,
    PulseHeard,
    ReadFailed,
    RecordChanged,
    RecordRead,
    RegisterRequested,
    RevisionAwaited,
    TelemetryReceived,
    Tick,
    Verb,
    WriteCommitted,
    WriteUncertain,
)
from registry.core.handler import handle
from registry.core.health_subject import may_be_asked
from registry.core.limits import Limits
from registry.core.order import Orders
from registry.core.policy import Policy
from registry.core.query import Query
from registry.core.record import Record, event_of
from registry.core.rule import Rule
from registry.core.scaler import Scaler
from registry.core.state import RegistryState
from registry.core.violation import Violation

START = 1000.0
"""Instant at which every test begins."""

WALL = 1_700_000_000.0
"""Unix time at the instant 0."""

CAPABILITIES = ("analysis", "trading", "vision")


MANY = 3000
"""Steps after which a world that does not come to rest never will."""


class Fate(Enum):
    """What becomes of a write that is sent to the bucket."""

    ACKED = "acknowledged, or refused because the revision moved"
    UNACKED = "it takes place, but nobody hears so"
    LOST = "it never arrives"
    LATE = "it arrives after its time-out, when `World.land_late` says so"


class Reply:
    """Where an answer goes; it must come exactly once."""

    def __init__(self) -> None:
        self.body: Any = None

    def answer(self, body: Any) -> None:
        assert self.body is None, f"answered twice: {self.body}, then {body}"
        self.body = body

    @property
    def code(self) -> str | None:
        """The error's code, if the answer is a refusal."""
        return self.body.code if isinstance(self.body, RefusedError) else None

    def __getitem__(self, name: str) -> Any:
        assert not isinstance(self.body, RefusedError), self.body
        return getattr(self.body.record, name) if isinstance(self.body, Agent) else self.body[name]


def _may_be_probed(subject: str, prefix: str) -> bool:
    """Return whether a probe harms nobody: a service answers a PING, and does nothing else."""
    return (
        may_be_asked(subject, prefix)
        or re.fullmatch(r"\$SRV\.PING\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", subject) is not None
    )


def settled(effect: Effect) -> Any:
    """Return an effect in a form that later events do not change."""
    if not isinstance(effect, SendReply):
        return effect
    body = effect.body
    if isinstance(body, RefusedError):
        return (effect.to, body.code, body.message, body.details)
    if isinstance(body, Agent):
        return (effect.to, body.record, body.revision, body.health, body.load, body.load_at, body.last_heartbeat)
    return (effect.to, body)


@dataclass(frozen=True)
class Entry:
    """One entry of the bucket's log; `record` is None for a removal made by hand."""

    key: str
    revision: int
    record: Record | None
    swept: bool = False

    @property
    def removed(self) -> bool:
        return self.record is None or (self.record.change is not None and self.record.change.removed)


class Bucket:
    """A dictionary with revisions, compare-and-set and a log."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.last: dict[str, Entry] = {}

    def put(self, put: PutRecord) -> int:
        """Write if the revision is as expected; return the new revision, 0 if it was not."""
        last = self.last.get(put.record.agent_id)
        if put.expected != (0 if last is None else last.revision):
            return 0
        entry = self.append(put.record.agent_id, put.record)
        assert entry.removed == put.removed
        return entry.revision

    def sweep(self, agent_id: str, revision: int) -> None:
        """Replace a removal by a bare marker, if it still is the newest of its key."""
        last = self.last[agent_id]
        if last.revision == revision:
            assert last.removed
            self.append(agent_id, None, swept=True)

    def append(self, key: str, record: Record | None, swept: bool = False) -> Entry:
        """Write without asking, as somebody with the `nats` CLI would."""
        if record is not None:
            record = Record.from_json(json.loads(json.dumps(record.to_json())))
        entry = Entry(key, len(self.log) + 1, record, swept)
        self.log.append(entry)
        self.last[key] = entry
        return entry

    def live(self) -> dict[str, tuple[int, Record]]:
        """Return revision and record of every agent that is there."""
        return {key: (last.revision, last.record) for key, last in self.last.items() if not last.removed}

    def events(self, agent_id: str | None = None) -> list[dict[str, Any]]:
        """Return the status events that the log stands for."""
        entries = (entry for entry in self.log if entry.record is not None and agent_id in (None, entry.key))
        events = (event_of(entry.record, entry.revision, "agents") for entry in entries)
        return [event for event in events if event is not None]

    def check(self) -> None:
        """Each agent's events form a chain, which begins anew after a removal; what has no event changed nothing."""
        newest: dict[str, int] = {}
        before: dict[str, Record] = {}
        for entry in self.log:
            if entry.record is None:
                newest.pop(entry.key, None)
                before.pop(entry.key, None)
                continue
            event = event_of(entry.record, entry.revision, "agents")
            known = before.get(entry.key)
            if event is None:
                assert known is not None, f"{entry} saves a checkpoint of nothing"
                assert known.status is entry.record.status
                assert entry.record.change_revision == newest[entry.key]
            else:
                assert event["previous_revision"] == newest.get(entry.key, 0), event
                assert event["from"] == ("registering" if known is None else known.status), event
                newest[entry.key] = entry.revision
            before[entry.key] = entry.record
            if entry.removed:
                del newest[entry.key], before[entry.key]


class PolicyBucket:
    """Policies with revisions, compare-and-set and a log. A policy of None is a removal."""

    def __init__(self) -> None:
        self.log: list[PolicyChanged] = []
        self.last: dict[str, PolicyChanged] = {}

    def put(self, put: PutPolicy) -> int:
        """Write if the revision is as expected; return the new revision, 0 if it was not."""
        if put.expected != self.newest(put.capability).revision:
            return 0
        return self.append(put.capability, put.policy)

    def append(self, capability: str, policy: Any, readable: bool = True) -> int:
        """Write without asking, as somebody with the `nats` CLI would."""
        entry = PolicyChanged(0.0, capability, policy, len(self.log) + 1, readable)
        self.log.append(entry)
        self.last[capability] = entry
        return entry.revision

    def newest(self, capability: str) -> PolicyChanged:
        """Return the newest entry of a key; one of revision 0 if there is none."""
        return self.last.get(capability) or PolicyChanged(0.0, capability, None, 0)

    def live(self) -> dict[str, Any]:
        """Return the policies that there are."""
        return {key: last.policy for key, last in self.last.items() if last.policy is not None}


class OrderBucket:
    """Orders with revisions, compare-and-set and a log."""

    def __init__(self) -> None:
        self.log: list[OrdersChanged] = []
        self.last: dict[str, OrdersChanged] = {}

    def put(self, put: PutOrders) -> int:
        """Write if the revision is as expected; return the new revision, 0 if it was not."""
        last = self.last.get(put.capability)
        if put.expected != (0 if last is None else last.revision):
            return 0
        orders = Orders.from_json(json.loads(json.dumps(put.orders.to_json())))
        entry = OrdersChanged(0.0, put.capability, orders, len(self.log) + 1)
        self.log.append(entry)
        self.last[put.capability] = entry
        return entry.revision


class RuleBucket:
    """Rules, and what was told of them, with revisions, compare-and-set and a log; None is a removal."""

    def __init__(self) -> None:
        self.log: list[RuleChanged | ViolationChanged] = []
        self.rules: dict[str, RuleChanged] = {}
        self.violations: dict[str, ViolationChanged] = {}

    def put(self, put: PutRule | PutViolation) -> int:
        """Write if the revision is as expected; return the new revision, 0 if it was not."""
        is_rule = isinstance(put, PutRule)
        last = self.rules.get(put.request.name) if is_rule else self.violations.get(put.rule)
        if put.expected != (0 if last is None else last.revision):
            return 0
        return self.append(put.request.name, put.request.rule) if is_rule else self._tell(put.rule, put.violation)

    def append(self, name: str, rule: Rule | None, readable: bool = True) -> int:
        """Write a rule without asking, as somebody with the `nats` CLI would."""
        entry = RuleChanged(0.0, name, rule, len(self.log) + 1, readable)
        self.log.append(entry)
        self.rules[name] = entry
        return entry.revision

    def _tell(self, name: str, violation: Violation | None) -> int:
        if violation is not None:
            violation = Violation.from_json(json.loads(json.dumps(violation.to_json())))
        entry = ViolationChanged(0.0, name, violation, len(self.log) + 1)
        self.log.append(entry)
        self.violations[name] = entry
        return entry.revision


class Shell:
    """One replica: its state, and what is under way for it.

    Orders are carried out and facts delivered at once, unless `manual`; the log is heard at once, unless `deaf`.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.state = world.new_state(name)
        self.sure = True
        """Whether its lease has been renewed since it was away."""
        self.manual = False
        self.deaf = False
        self.fates: deque[Fate] = deque()
        """Of the writes to come; acknowledged when empty."""
        self.todo: list[PutRecord | ReadRecord | PutPolicy | ReadPolicy | PutOrders | PutRule | PutViolation] = []
        self.facts: list[Event] = []
        self.probes: list[Probe] = []
        self.canaries: list[RunCanary] = []
        self.awaiting: list[AwaitRevision] = []
        self.told: list[TellAgent] = []
        self.services: list[CallServices | DescribeService | MeasureService | ShareVitals] = []
        """What was to be asked of services."""
        self.orders: list[dict[str, Any]] = []
        self.announced: list[tuple[str, str]] = []
        """What the registry said of itself, with the cause."""
        self.conflicts: list[dict[str, Any]] = []
        """Events of conflicts that it published."""
        self.heard = 0
        """How far the log was heard."""
        self.rules_heard = 0
        """How far the log of rules was heard."""
        self.policies_heard = 0
        """How far the log of policies was heard."""
        self.orders_heard = 0
        """How far the log of orders was heard."""
        self.journal: list[tuple[Event | Query, list[Any]]] = []
        """Everything that was handled or asked, and what it led to, for a replay."""
        self._known: dict[str, int] = {}

    def start(self, leading: bool) -> None:
        """Restore from the newest entry of each key, then serve."""
        self.tick()
        self.hear_newest()
        self.connect()
        if leading:
            self.lead()

    # What happens to the replica.

    def handle(self, event: Event) -> list[Effect]:
        """Hand over a fact, and carry out what follows. What must hold at all times is checked here."""
        given = copy(event)
        effects = handle(self.state, event)
        self.journal.append((given, [settled(effect) for effect in effects]))
        for effect in effects:
            self._take(effect)
        if isinstance(event, WriteCommitted | RecordRead | RecordChanged):
            self._check_known(event.agent_id, 0 if isinstance(event, RecordRead) else event.revision)
        self.world.run()
        return effects

    def _check_known(self, agent_id: str, told: int) -> None:
        """What is known of an agent never goes back, and is never older than what the bucket has said."""
        agent, log = self.state.agents.get(agent_id), self.world.bucket.log
        known = self._known[agent_id] = max(told, self._known.get(agent_id, 0), agent.revision if agent else 0)
        if agent is None:
            later = [entry for entry in log[max(0, known - 1) :] if entry.key == agent_id]
            assert not known or any(entry.removed for entry in later), f"{agent_id} is unknown, but stands at {known}"
        else:
            assert agent.revision >= known, f"{agent_id} went back from {known} to {agent.revision}"
            assert agent.record == log[agent.revision - 1].record, f"{agent_id} is not what revision {known} says"

    def _take(self, effect: Effect) -> None:
        match effect:
            case SendReply():
                assert effect.to is not None, f"nobody waits for {effect.body}"
                effect.to.answer(effect.body)
            case PutRecord() | ReadRecord():
                self._check_write(effect)
                self.todo.append(effect)
            case CallServices() | DescribeService() | MeasureService() | ShareVitals():
                assert self.state.leading, "only the leader asks services"
                self.services.append(effect)
            case AwaitRevision() | Probe() | TellAgent():
                assert not isinstance(effect, Probe) or _may_be_probed(effect.subject, self.state.prefix), effect
                kept: list[Any] = {AwaitRevision: self.awaiting, Probe: self.probes, TellAgent: self.told}[type(effect)]
                kept.append(effect)
            case RunCanary():
                assert self.state.leading, "only the leader runs canaries"
                assert may_be_asked(effect.subject, self.state.prefix), effect
                self.canaries.append(effect)
            case SweepRemoval():
                assert self.state.leading, "only the leader sweeps"
                if self.state.path.connected:
                    self.world.bucket.sweep(effect.agent_id, effect.revision)
            case Announce():
                self.announced.append((effect.what, effect.details["cause"]))
            case PublishOrder() | PutOrders() | PutPolicy() | ReadPolicy():
                self._take_scaling(effect)
            case _:
                self._take_conflict(effect)

    def _take_scaling(self, effect: PublishOrder | PutOrders | PutPolicy | ReadPolicy) -> None:
        if not isinstance(effect, PublishOrder):
            assert self.state.leading or not isinstance(effect, PutOrders), "only the leader orders"
            self.todo.append(effect)
        elif not (effect.perhaps_again and effect.order["order_id"] in self.world.published):
            self.world.published.add(effect.order["order_id"])
            self.orders.append(dict(effect.order))

    def _take_conflict(self, effect: Effect) -> None:
        match effect:
            case PutRule() | PutViolation():
                assert self.state.leading or isinstance(effect, PutRule), "only the leader looks at rules"
                self.todo.append(effect)
            case PublishConflict():
                assert self.state.leading, "only the leader publishes"
                self.conflicts.append(dict(effect.event))
                self.world.stream.setdefault(effect.event["event_id"], dict(effect.event))
            case TellLeader():
                told = RefusalTold(self.world.now, effect.clash)
                for other in self.world.shells:
                    if other is not self:
                        other.facts.append(copy(told))

    def _check_write(self, order: PutRecord | ReadRecord) -> None:
        if isinstance(order, PutRecord):
            write = self.state.writes.get(order.record.agent_id)
            assert write is not None
            is_sure = self.state.leading and self.state.sure
            assert write.command is not None or is_sure, (
                "only the leader writes unasked, and only when it is sure to be"
            )

    def connect(self) -> None:
        self.handle(Connected(self.world.now))

    def disconnect(self) -> None:
        """NATS is away from here: writes and reads fail, the log is not heard."""
        self.handle(Disconnected(self.world.now))

    def lead(self) -> None:
        self.world.epoch += 1
        self.handle(LeadershipChanged(self.world.now, True, self.world.epoch))

    def follow(self) -> None:
        self.handle(LeadershipChanged(self.world.now, False, self.world.epoch))

    def tick(self) -> None:
        """Let it look at the time, having heard everything that was sent until now."""
        if self.state.path.connected:
            self.handle(PulseHeard(self.world.now, self.world.now))
        self.stall()

    def stall(self) -> None:
        """Let it look at the time, its pulse not having come back yet."""
        self.handle(Tick(self.world.now, WALL + self.world.now, self.sure))

    # What is asked of it.

    def register(self, agent_id: str | None = "a", identity: str | None = None, **fields: Any) -> Reply:
        fields = {"agent_type": "worker", "capabilities": ("analysis",), **fields}
        reply = self.world.reply()
        self.handle(RegisterRequested(self.world.now, reply, identity, agent_id=agent_id, **fields))
        return reply

    def command(self, verb: Verb, agent_id: str = "a", identity: str | None = None, **fields: Any) -> Reply:
        reply = self.world.reply()
        self.handle(CommandRequested(self.world.now, reply, identity, verb, agent_id, **fields))
        return reply

    def set_policy(self, capability: str = "analysis", reset: bool = False, **changes: Any) -> Reply:
        reply = self.world.reply()
        self.handle(PolicyRequested(self.world.now, reply, capability, changes, reset))
        return reply

    def set_rule(self, rule: Rule | None, name: str = "", revision: int | None = None) -> Reply:
        reply = self.world.reply()
        self.handle(RuleRequested(self.world.now, reply, name if rule is None else rule.name, rule, revision))
        return reply

    def beat(self, agent_id: str = "a", identity: str | None = None, **fields: Any) -> Reply:
        reply = self.world.reply()
        self.handle(TelemetryReceived(self.world.now, reply, identity, agent_id, **fields))
        return reply

    def find(self, query: Query) -> tuple[list[Agent], int]:
        found, total = self.state.find(query)
        self.journal.append((query, [agent.agent_id for agent in found]))
        return found, total

    def answer(self, outcome: Outcome, agent_id: str = "a", took: float = 0.0, **vitals: float) -> None:
        """End the oldest probe of an agent, so many seconds after it was sent."""
        probe = next(probe for probe in self.probes if probe.agent_id == agent_id)
        self.probes.remove(probe)
        self.handle(
            ProbeFinished(
                self.world.now, agent_id, probe.incarnation, probe.purpose, outcome, probe.subject, took, **vitals
            )
        )

    def end_canary(self, passed: bool | None, why: str = "", agent_id: str = "a", capability: str = "analysis") -> None:
        """End the oldest canary under way of an agent's capability."""
        wanted = (agent_id, capability)
        order = next(order for order in self.canaries if (order.agent_id, order.capability) == wanted)
        self.canaries.remove(order)
        self.handle(CanaryFinished(self.world.now, agent_id, order.incarnation, capability, order.run, passed, why))

    # What is under way for it.

    def carry_out(self, index: int = 0, fate: Fate = Fate.ACKED) -> None:
        """Carry out an order at the bucket; how it ended is then a fact to deliver."""
        order, bucket, now = self.todo.pop(index), self.world.bucket, self.world.now
        if isinstance(order, ReadRecord):
            if self.state.path.connected:
                last = bucket.last.get(order.agent_id)
                found = (None, 0) if last is None else (last.record, last.revision)
                self.facts.append(RecordRead(now, order.agent_id, *found))
            else:
                self.facts.append(ReadFailed(now, order.agent_id))
            return
        if isinstance(order, ReadPolicy):
            self.facts.append(self._read_policy(order.capability))
            return
        if isinstance(order, PutRule | PutViolation):
            self.facts.append(self._put_rule(order, fate))
        elif isinstance(order, PutOrders):
            self.facts.append(self._put_orders(order, fate))
        else:
            self.facts.append(self._put_policy(order, fate) if isinstance(order, PutPolicy) else self._put(order, fate))
        self.world.run()

    def _put(self, order: PutRecord, fate: Fate) -> Event:
        now, agent_id, write_id = self.world.now, order.record.agent_id, order.record.write_id
        revision = 0
        if fate is Fate.LATE:
            self.world.late.append(order)
        elif self.state.path.connected and fate is not Fate.LOST:
            revision = self.world.bucket.put(order)
        if revision and fate is Fate.ACKED:
            return WriteCommitted(now, agent_id, write_id, revision)
        return WriteUncertain(now, agent_id, write_id)

    def _put_policy(self, order: PutPolicy, fate: Fate) -> Event:
        revision = 0
        if fate is Fate.LATE:
            self.world.late.append(order)
        elif self.state.path.connected and fate is not Fate.LOST:
            revision = self.world.policies.put(order)
        if revision and fate is Fate.ACKED:
            return PolicyCommitted(self.world.now, order.capability, revision)
        return PolicyUncertain(self.world.now, order.capability)

    def _put_orders(self, order: PutOrders, fate: Fate) -> Event:
        revision = 0
        if fate is Fate.LATE:
            self.world.late.append(order)
        elif self.state.path.connected and fate is not Fate.LOST:
            revision = self.world.ordered.put(order)
        if revision and fate is Fate.ACKED:
            return OrdersCommitted(self.world.now, order.capability, order.orders, revision)
        return OrdersUncertain(self.world.now, order.capability, order.orders)

    def _put_rule(self, order: PutRule | PutViolation, fate: Fate) -> Event:
        now, bucket, revision = self.world.now, self.world.rules, 0
        if fate is Fate.LATE:
            self.world.late.append(order)
        elif self.state.path.connected and fate is not Fate.LOST:
            revision = bucket.put(order)
        is_known = revision and fate is Fate.ACKED
        if isinstance(order, PutViolation):
            put = ViolationPut(now, order.rule, order.violation, revision)
            return put if is_known else ViolationLost(now, order.rule)
        if is_known:
            return RulePut(now, order.request, revision)
        if not self.state.path.connected:
            return RuleUnknown(now, order.request)
        found = bucket.rules.get(order.request.name)
        what = (None, 0, True) if found is None else (found.rule, found.revision, found.readable)
        return RuleFound(now, order.request, order.attempts, *what)

    def _read_policy(self, capability: str) -> Event:
        if not self.state.path.connected:
            return PolicyReadFailed(self.world.now, capability)
        newest = self.world.policies.newest(capability)
        return PolicyRead(self.world.now, capability, newest.policy, newest.revision, newest.readable)

    def deliver(self, index: int = 0) -> None:
        """Hand over a fact that was under way."""
        fact = self.facts.pop(index)
        fact.at = self.world.now
        self.handle(fact)

    def hear(self, entries: int | None = None) -> None:
        """Hear so many further entries of the log, or all."""
        end = len(self.world.bucket.log) if entries is None else self.heard + entries
        while self.heard < min(end, len(self.world.bucket.log)):
            entry = self.world.bucket.log[self.heard]
            self.heard += 1
            self.handle(RecordChanged(self.world.now, entry.key, entry.record, entry.revision, entry.swept))

    def hear_newest(self) -> None:
        """Hear the newest entry of each key, as when the log is followed anew."""
        for entry in sorted(self.world.bucket.last.values(), key=lambda entry: entry.revision):
            if entry.revision > self.heard:
                self.handle(RecordChanged(self.world.now, entry.key, entry.record, entry.revision, entry.swept))
        self.heard = len(self.world.bucket.log)
        self.hear_policies()

    def hear_policies(self) -> None:
        """Hear the rest of the logs of policies, of orders and of rules."""
        while self.policies_heard < len(self.world.policies.log):
            entry = self.world.policies.log[self.policies_heard]
            self.policies_heard += 1
            self.handle(replace(entry, at=self.world.now))
        while self.orders_heard < len(self.world.ordered.log):
            orders = self.world.ordered.log[self.orders_heard]
            self.orders_heard += 1
            self.handle(replace(orders, at=self.world.now))
        while self.rules_heard < len(self.world.rules.log):
            entry = self.world.rules.log[self.rules_heard]
            self.rules_heard += 1
            self.handle(replace(entry, at=self.world.now))

    @property
    def _lags(self) -> bool:
        """Whether there is more of the logs of policies, orders and rules than was heard."""
        world = self.world
        heard = (self.policies_heard, self.orders_heard, self.rules_heard)
        return heard != (len(world.policies.log), len(world.ordered.log), len(world.rules.log))

    def replay(self) -> None:
        """The same events and queries give the same effects and answers."""
        again = self.world.new_state(self.name)
        for given, known in self.journal:
            if isinstance(given, Query):
                assert [agent.agent_id for agent in again.find(given)[0]] == known, given
            else:
                assert [settled(effect) for effect in handle(again, copy(given))] == known, given

    def give_up_awaiting(self) -> None:
        """Let the time be up for every revision that is waited for."""
        while self.awaiting:
            order = self.awaiting.pop(0)
            self.handle(RevisionAwaited(self.world.now, order.agent_id, order.revision, reached=False))

    def _arrived(self) -> AwaitRevision | None:
        return next((order for order in self.awaiting if order.revision <= self.heard), None)

    def step(self) -> bool:
        """Do the next thing that is under way, unless it waits for the test; return whether there was one."""
        if self.manual:
            return False
        if self.todo:
            is_write = not isinstance(self.todo[0], ReadRecord | ReadPolicy)
            self.carry_out(0, self.fates.popleft() if is_write and self.fates else Fate.ACKED)
        elif self.facts:
            self.deliver()
        elif (order := self._arrived()) is not None:
            self.awaiting.remove(order)
            self.handle(RevisionAwaited(self.world.now, order.agent_id, order.revision, reached=True))
        elif self.state.path.connected and not self.deaf and self.heard < len(self.world.bucket.log):
            self.hear(1)
        elif self.state.path.connected and not self.deaf and self._lags:
            self.hear_policies()
        else:
            return False
        return True

    def release(self) -> None:
        """Let everything that waited for the test go on."""
        self.manual = self.deaf = False
        self.world.run()

    def validate(self) -> None:
        """Nothing is under way but probes, and what is known is what the bucket holds."""
        self.state.validate()
        assert not self.todo
        assert not self.awaiting
        assert not self.facts
        assert len(self.state.writes) <= len(self.probes)
        known = {agent_id: (agent.revision, agent.record) for agent_id, agent in self.state.agents.items()}
        assert known == self.world.bucket.live()
        assert not self.state.scaler.policies.writes
        assert self.state.scaler.policies.own == self.world.policies.live()
        rules = {name: entry.rule for name, entry in self.world.rules.rules.items() if entry.rule is not None}
        assert self.state.catalog.rules.own == rules


class World:
    """A bucket, replicas and a clock.

    Args:
        scaling: Whether scaling orders are issued.
        policy: The default scaling policy.
        limits: Other limits than the default ones.
        adopt: As what services are adopted.
    """

    def __init__(
        self,
        scaling: bool = False,
        policy: Policy | None = None,
        limits: Limits | None = None,
        adopt: Collection[str] = (),
    ) -> None:
        self.now = START
        self.adopt = adopt
        self.bucket = Bucket()
        self.policies = PolicyBucket()
        self.ordered = OrderBucket()
        self.rules = RuleBucket()
        self.stream: dict[str, dict[str, Any]] = {}
        """Events of conflicts by their ids, each once."""
        self.published: set[str] = set()
        """Ids of the orders in the stream."""
        self.shells: list[Shell] = []
        self.late: list[PutRecord | PutPolicy | PutOrders | PutRule | PutViolation] = []
        self.epoch = 0
        self.scaling = scaling
        self.policy = policy or Policy()
        self.limits = limits or Limits(reconnect_grace=0.0)
        self.replies: list[Reply] = []
        self._running = False

    def new_state(self, name: str) -> RegistryState:
        """Return the state of a replica that has just started; its name seeds chance."""
        ids = count(1)

        def new_id() -> str:
            return f"{name}{next(ids)}"

        scaler = Scaler(self.scaling, self.policy, new_id)
        return RegistryState(
            self.limits, Vocabulary(CAPABILITIES), scaler, Random(name).random, new_id, adoption=Adoption(self.adopt)
        )

    def replica(self, name: str, leading: bool = False) -> Shell:
        """Start a replica."""
        shell = Shell(self, name)
        self.shells.append(shell)
        shell.start(leading)
        return shell

    def reply(self) -> Reply:
        self.replies.append(Reply())
        return self.replies[-1]

    def advance(self, seconds: float, beating: Iterable[str] = (), step: float = 0.5) -> None:
        """Let time pass, with ticks, and with beats of some agents after each."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            for shell in self.shells:
                shell.tick()
            for agent_id in beating:
                self.beat(agent_id)

    def stall(self, seconds: float) -> None:
        """Let time pass without a tick, as when the processes did not run; what was sent meanwhile is unread."""
        self.now += seconds
        for shell in self.shells:
            shell.stall()

    def beat(self, agent_id: str = "a", **fields: Any) -> None:
        """Let every replica that is connected hear an agent's report; nobody waits for an answer."""
        for shell in self.shells:
            if shell.state.path.connected:
                shell.handle(TelemetryReceived(self.now, None, None, agent_id, **fields))

    def run(self) -> None:
        """Carry out and deliver all that does not wait for the test. Never nested: facts come one after the other."""
        if self._running:
            return
        self._running = True
        try:
            for _ in range(MANY):
                if not [shell for shell in self.shells if shell.step()]:
                    return
        finally:
            self._running = False
        raise AssertionError(f"no rest: {[(shell.name, shell.todo, shell.facts) for shell in self.shells]}")

    def land_late(self) -> None:
        """Let the writes arrive that are late."""
        while self.late:
            put = self.late.pop(0)
            if isinstance(put, PutPolicy):
                self.policies.put(put)
            elif isinstance(put, PutOrders):
                self.ordered.put(put)
            elif isinstance(put, PutRule | PutViolation):
                self.rules.put(put)
            else:
                self.bucket.put(put)
        self.run()

    def settle(self) -> None:
        """Let everything that is under way come to its end."""
        self.land_late()
        for shell in self.shells:
            shell.release()
            if not shell.state.path.connected:
                shell.connect()
            shell.tick()
        self.run()

    def check(self) -> None:
        """What must hold at the end of every test."""
        self.settle()
        self.bucket.check()
        for shell in self.shells:
            shell.validate()
        waiting = sum(len(shell.state.writes) for shell in self.shells)
        assert waiting or all(reply.body is not None for reply in self.replies), "somebody was never answered"
