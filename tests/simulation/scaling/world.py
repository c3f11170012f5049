"""A rule on a trace: work arrives, agents report, the rule looks, what it orders is carried out."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import ceil
from random import Random
from typing import Any

from tests.simulation.scaling.fleet import Agent, Fleet, Stage
from tests.simulation.scaling.rule import Order, Rule, Seen
from tests.simulation.scaling.setting import BEAT, FIRST_BEAT, JITTER, LEAD, MAX_AGENTS, MIN_AGENTS, SLOTS
from tests.simulation.scaling.trace import Trace, Work


@dataclass(slots=True)
class History:
    """What became of a trace under a rule.

    Attributes:
        rule: Its name.
        trace: What happened.
        start: Seconds from an agent's order until it served.
        serving: For each second, agents that served.
        starting: The same of those that had been ordered.
        load: The same of the serving agents' load.
        queued: The same of work that waited.
        waits: What each piece of work waited for a slot; of what waits at the end, until then.
        orders: Changes that were ordered: when, and by how many agents.
        asked: Every number that was asked for, with when, in the lead as well.
        done: Pieces of work that were finished, those of the lead included.
        in_flight: The same of those that were begun and not finished.
        waiting: The same of those that were not begun.
        paid: Agent-seconds, from each agent's order until it was gone.
    """

    rule: str
    trace: Trace
    start: float
    serving: array[int] = field(default_factory=lambda: array("h"))
    starting: array[int] = field(default_factory=lambda: array("h"))
    load: array[float] = field(default_factory=lambda: array("f"))
    queued: array[int] = field(default_factory=lambda: array("l"))
    waits: array[float] = field(default_factory=lambda: array("d"))
    orders: list[tuple[float, int]] = field(default_factory=list)
    asked: list[tuple[float, int]] = field(default_factory=list)
    done: int = 0
    in_flight: int = 0
    waiting: int = 0
    paid: float = 0.0


class World:
    """Everything under way. Instants are the trace's."""

    def __init__(self, rule: Rule, trace: Trace, start: float) -> None:
        chance = f"{trace.seed} {trace.name} fleet"
        self._trace = trace
        self._start = start
        self._chance = Random(chance + " reports")
        self._fleet = Fleet(Random(chance))
        self._numbers = count()
        self._events: list[tuple[float, int, Any, Any]] = []
        self._history = History(rule.name, trace, start)
        agents = max(MIN_AGENTS, min(MAX_AGENTS, ceil(trace.demand[0])))
        self._scaler = rule.begin(trace, agents)
        self._period = rule.period
        for _ in range(agents):
            self._begin(-LEAD, self._fleet.order(-LEAD))
        self._at(0.0, self._sample, None)
        # Nobody's looks are in step with the trace.
        self._at(self._chance.random() * rule.period - LEAD, self._look, None)

    def run(self) -> History:
        """Let the trace take place."""
        events, until = self._events, self._trace.duration
        for work in self._trace.work:
            while events[0][0] <= work[0]:
                at, _, act, argument = heappop(events)
                act(at, argument)
            self._arrive(work)
        while events[0][0] < until:
            at, _, act, argument = heappop(events)
            act(at, argument)
        return self._close()

    def _close(self) -> History:
        fleet, history, until = self._fleet, self._history, self._trace.duration
        history.waits.extend(until - arrived for arrived, _ in fleet.queue if arrived >= 0.0)
        history.in_flight, history.waiting = fleet.in_flight, len(fleet.queue)
        history.paid += fleet.paid(until)
        return history

    def _at(self, at: float, act: Any, argument: Any) -> None:
        heappush(self._events, (at, next(self._numbers), act, argument))

    # Work.

    def _arrive(self, work: Work) -> None:
        agent = self._fleet.place()
        if agent is None:
            self._fleet.queue.append(work)
        else:
            self._work(work[0], agent, work)

    def _work(self, at: float, agent: Agent, work: Work) -> None:
        if work[0] >= 0.0:
            self._history.waits.append(at - work[0])
        heappush(self._events, (at + work[1], next(self._numbers), self._finish, agent))

    def _finish(self, at: float, agent: Agent) -> None:
        self._history.done += 1
        self._fleet.finish(agent, at)
        if agent.stage is Stage.GONE:
            self._scaler.left(at, agent.number)
        elif self._fleet.queue:
            self._serve(at)

    def _serve(self, at: float) -> None:
        """Give what waits to whom has a slot."""
        fleet = self._fleet
        while fleet.queue:
            agent = fleet.place()
            if agent is None:
                return
            self._work(at, agent, fleet.queue.popleft())

    # Agents.

    def _begin(self, at: float, agent: Agent) -> None:
        if agent.stage is not Stage.STARTING:
            return  # it was called off
        self._fleet.begin(agent)
        self._scaler.joined(at, agent.number)
        self._serve(at)
        self._at(at + self._chance.random() * FIRST_BEAT, self._report, agent)

    def _report(self, at: float, agent: Agent) -> None:
        if agent.stage is Stage.GONE:
            return
        agent.load = agent.busy / SLOTS
        share = len(self._fleet.queue) / max(1, len(self._fleet.serving))
        self._scaler.reported(at, agent.number, agent.load, share)
        self._at(at + BEAT * (1.0 - JITTER * self._chance.random()), self._report, agent)

    # The rule.

    def _look(self, at: float, _: None) -> None:
        fleet = self._fleet
        loads = [agent.load for agent in fleet.serving if agent.load is not None]
        order = self._scaler.look(
            Seen(at, loads, len(fleet.serving) - len(loads), len(fleet.starting), len(fleet.queue))
        )
        if order is not None:
            self._carry_out(at, order)
        self._at(at + self._period, self._look, None)

    def _carry_out(self, at: float, order: Order) -> None:
        fleet, history = self._fleet, self._history
        history.asked.append((at, order.desired))
        change = order.desired - len(fleet.serving) - len(fleet.starting)
        if change > 0 and order.adds:
            for _ in range(change):
                self._at(at + self._start, self._begin, fleet.order(at))
        elif change < 0 and order.removes:
            for agent in self._leaving(order, -change):
                self._drain(at, agent)
        else:
            return
        if at >= 0.0:
            history.orders.append((at, change))

    def _drain(self, at: float, agent: Agent) -> None:
        was_heard_of = agent.stage is Stage.SERVING
        self._fleet.drain(agent, at)
        if was_heard_of:
            self._scaler.drained(at, agent.number)
            if agent.stage is Stage.GONE:
                self._scaler.left(at, agent.number)

    def _leaving(self, order: Order, many: int) -> list[Agent]:
        named = [agent for agent in self._fleet.serving if agent.number in order.victims]
        others = self._fleet.starting[::-1] + sorted(self._fleet.serving, key=lambda one: -one.number)
        return (named + [agent for agent in others if agent not in named])[:many]

    def _sample(self, at: float, _: None) -> None:
        fleet, history = self._fleet, self._history
        if not history.serving:
            history.paid = -fleet.paid(at)  # for the lead
        history.serving.append(len(fleet.serving))
        history.starting.append(len(fleet.starting))
        history.load.append(fleet.load)
        history.queued.append(len(fleet.queue))
        self._at(at + 1.0, self._sample, None)


def play(rule: Rule, trace: Trace, start: float) -> History:
    """Let a rule scale a fleet whose agents take so long to start, while a trace takes place."""
    return World(rule, trace, start).run()
