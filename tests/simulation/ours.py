"""Our rule: the real core of one leader, with facts in, orders out, and virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Any

from registry.core.effects import Effect, Probe, PutRecord, ReadRecord, SendReply
from registry.core.events import (
    CommandRequested,
    Connected,
    ConnectionClosed,
    ConnectionsWatched,
    Disconnected,
    Event,
    LeadershipChanged,
    Outcome,
    ProbeFinished,
    PulseHeard,
    ReadFailed,
    RecordChanged,
    RecordRead,
    RegisterRequested,
    TelemetryReceived,
    Tick,
    Verb,
    WriteCommitted,
    WriteUncertain,
)
from registry.core.handler import handle
from registry.core.limits import HEARTBEATS_IN_TIMEOUT, Limits
from tests.simulation import network
from tests.simulation.bucket import Bucket, agent_id, new_state, newcomer
from tests.simulation.ledger import Ledger
from tests.simulation.life import End
from tests.simulation.rule import Hearing, Judgement

START = 1000.0
"""The core's instant of the trace's 0; its Unix time is `WALL` later."""

WALL = 1_700_000_000.0

TICK = 0.1
"""As `registry/replica.py` has it."""

WRITE = 0.001
"""Seconds until a write is acknowledged, or a key read."""

WRITE_TIMEOUT = 5.0
"""Seconds until an acknowledgement is given up, as `registry/shell` has it."""

RETURN = 1.0
"""Within so many seconds an agent registers again that was told that it is not known, as `agents_sdk/lease.py`."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The registry's own rules.

    Attributes:
        interval: Between beats; the lease is three of it.
        checks: Seconds between two probes of an agent in turn.
        sees_connections: Whether the NATS server tells of connections that end.
    """

    interval: float = 30.0
    checks: float = 30.0
    sees_connections: bool = False
    is_eager: bool = True

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"ours {self.interval:g} s" + (" + connections" if self.sees_connections else "")

    def judge(self, hearing: Hearing) -> Judgement:
        """Judge."""
        return _Leader(self, hearing).run()


class _Leader:
    """One replica that leads, and all that is under way for it. Instants are the trace's."""

    def __init__(self, rule: Ours, hearing: Hearing) -> None:
        self._rule = rule
        self._hearing = hearing
        self._trace = hearing.trace
        self._chance = Random(f"{self._trace.seed} {self._trace.name} {rule.name}")
        self._limits = Limits(health_check_interval=rule.checks, scaling_interval=inf)
        self._bucket = Bucket()
        self._ledger = Ledger()
        self._registering: set[int] = set()
        """Agents that were told that they are not known, and are about to register again."""
        self._term = 0
        """Counts the processes; what an earlier one began does not concern the next."""
        self._connected = False
        self._doubts = False
        self._numbers = count()
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        for agent in range(len(hearing.heard)):
            self._bucket.put(newcomer(agent, rule.interval, HEARTBEATS_IN_TIMEOUT * rule.interval, WALL + START), 0)
        self._schedule()

    def _schedule(self) -> None:
        trace = self._trace
        events: list[tuple[float, Callable[[Any], None], Any]] = []
        for begin, end in trace.outages:
            events += [(begin, self._disconnect, None), (end, self._connect, None)]
        for begin, end in trace.downs:
            events += [(begin, self._end, None), (end, self._begin, None)]
        for agent, life in enumerate(trace.lives):
            if life.end is End.LEFT:
                events.append((life.ends, self._leave, agent))
            if self._rule.sees_connections:
                events += [(at, self._close, (agent, why)) for at, why in life.closings()]
        for agent, heard in enumerate(self._hearing.heard):
            if heard:
                events.append((heard[0], self._beat, (agent, 0)))
        self._events = [(at, next(self._numbers), act, argument) for at, act, argument in events]
        heapify(self._events)
        self._begin(None)

    def run(self) -> Judgement:
        """Let the trace take place."""
        events, until = self._events, self._trace.duration
        while events and events[0][0] < until:
            self._now, _, act, argument = heappop(events)
            act(argument)
        return self._ledger.close()

    def _at(self, at: float, act: Callable[[Any], None], argument: Any) -> None:
        heappush(self._events, (at, next(self._numbers), act, argument))

    # The replica.

    def _begin(self, _: None) -> None:
        """Start a process, restore what the bucket holds, lead."""
        self._term += 1
        self._state = new_state(self._limits, Random(f"{self._chance.random()}").random, f"{self._term}")
        at = START + self._now
        self._give(Tick(at, WALL + at))
        for record, revision in list(self._bucket.entries.values()):
            self._give(RecordChanged(at, record.agent_id, record, revision))
        self._give(ConnectionsWatched(at, self._rule.sees_connections))
        self._connected = True
        self._give(Connected(at))
        self._give(LeadershipChanged(at, True, self._term))
        self._at(self._now + TICK, self._tick, self._term)

    def _end(self, _: None) -> None:
        self._term, self._connected = self._term + 1, False

    def _connect(self, _: None) -> None:
        self._connected = self._doubts = True
        self._give(Connected(START + self._now))

    def _disconnect(self, _: None) -> None:
        self._connected = False
        self._give(Disconnected(START + self._now))

    def _tick(self, term: int) -> None:
        if term != self._term:
            return
        awake = self._trace.awake(self._now)
        if awake > self._now:
            self._at(awake, self._tick, term)
            return
        at = START + self._now
        if self._connected:
            back = self._trace.hears(self._now + 2 * network.LEAST)
            if back is not None:
                self._at(back, self._pulse, (term, at))
        self._give(Tick(at, WALL + at, self._connected and not self._doubts))
        self._doubts = self._doubts and not self._connected
        self._at(self._now + TICK, self._tick, term)

    def _pulse(self, pulse: tuple[int, float]) -> None:
        if pulse[0] == self._term and self._connected:
            self._give(PulseHeard(START + self._now, pulse[1]))

    def _give(self, event: Event) -> None:
        for effect in handle(self._state, event):
            order = _ORDERS.get(type(effect))
            if order is not None:
                order(self, effect)

    # Its orders.

    def _probe(self, effect: Probe) -> None:
        agent, first = int(effect.agent_id[1:]), effect.timeout if effect.repeat_after is None else effect.repeat_after
        sent = self._now + effect.delay
        fate = network.probe(self._trace, agent, sent, first, self._chance)
        if fate.outcome is Outcome.TIMEOUT and first < effect.timeout:
            fate = network.probe(self._trace, agent, sent + first, effect.timeout - first, self._chance)
        self._at(fate.at, self._probed, (self._term, effect, fate, sent))

    def _probed(self, ended: tuple[int, Probe, network.Fate, float]) -> None:
        term, effect, fate, sent = ended
        if term != self._term:
            return
        at, took = START + self._now, self._now - sent
        self._give(
            ProbeFinished(at, effect.agent_id, effect.incarnation, effect.purpose, fate.outcome, effect.subject, took)
        )

    def _put(self, effect: PutRecord) -> None:
        wait = WRITE if self._connected else WRITE_TIMEOUT
        self._at(self._now + wait, self._land, (self._term, effect, self._connected))

    def _land(self, write: tuple[int, PutRecord, bool]) -> None:
        term, effect, sent = write
        record = effect.record
        revision = self._bucket.put(record, effect.expected) if sent else 0
        if revision:
            self._ledger.enter(int(record.agent_id[1:]), self._now, record.status, record.status_reason)
        at = self._trace.hears(self._now)
        if at is None:  # the acknowledgement is lost
            at, revision = self._now + WRITE_TIMEOUT, 0
        self._at(at, self._landed, (term, effect, revision))

    def _landed(self, landed: tuple[int, PutRecord, int]) -> None:
        term, effect, revision = landed
        if term != self._term:
            return
        at, record = START + self._now, effect.record
        if revision:
            self._give(WriteCommitted(at, record.agent_id, record.write_id, revision))
        else:
            self._give(WriteUncertain(at, record.agent_id, record.write_id))

    def _read(self, effect: ReadRecord) -> None:
        self._at(self._now + (WRITE if self._connected else WRITE_TIMEOUT), self._found, (self._term, effect))

    def _found(self, read: tuple[int, ReadRecord]) -> None:
        term, effect = read
        at, name = START + self._now, effect.agent_id
        if term == self._term:
            self._give(RecordRead(at, name, *self._bucket.entries[name]) if self._connected else ReadFailed(at, name))

    def _reply(self, effect: SendReply) -> None:
        """Only refusals of beats are answered: the agent registers again."""
        agent = effect.to
        if agent is None or agent in self._registering:
            return
        self._registering.add(agent)
        wait = self._chance.random() * min(RETURN, self._rule.interval)
        self._at(self._trace.lives[agent].runs_from(self._now + wait), self._register, agent)

    # Its agents.

    def _beat(self, beat: tuple[int, int]) -> None:
        agent, place = beat
        if place + 1 < len(self._hearing.heard[agent]):
            self._at(self._hearing.heard[agent][place + 1], self._beat, (agent, place + 1))
        if self._connected:
            at = START + self._now
            self._give(TelemetryReceived(at, agent, None, agent_id(agent), seq=place, ack=False, is_beat=True))

    def _register(self, agent: int) -> None:
        life = self._trace.lives[agent]
        self._registering.discard(agent)
        if not self._connected or life.cut_at(self._now) or not life.is_alive(self._now):
            return  # its next beat is refused again
        record, at = self._bucket.entries[agent_id(agent)][0], START + self._now
        wanted = RegisterRequested(at, None, None, record.agent_type, record.capabilities, record.agent_id)
        wanted.instance_id, wanted.health_subject = record.instance_id, record.health_subject
        wanted.heartbeat_interval, wanted.heartbeat_timeout = record.heartbeat_interval, record.heartbeat_timeout
        self._give(wanted)

    def _leave(self, agent: int) -> None:
        if self._connected:
            self._give(CommandRequested(START + self._now, None, None, Verb.DEREGISTER, agent_id(agent)))

    def _close(self, closing: tuple[int, str]) -> None:
        agent, why = closing
        at = self._trace.hears(self._now)
        if at is not None and self._now < at:
            self._at(at, self._close, closing)
        elif at is not None and self._connected:
            self._give(ConnectionClosed(START + self._now, f"agent:{agent_id(agent)}", "S", agent, why))


_ORDERS: dict[type[Effect], Callable[[_Leader, Any], None]] = {
    Probe: _Leader._probe,
    PutRecord: _Leader._put,
    ReadRecord: _Leader._read,
    SendReply: _Leader._reply,
}
"""What is carried out; orders to scale, to tell agents, to sweep the log do not bear on who is alive."""
