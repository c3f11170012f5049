"""Our rule: the real core of one leader, with facts in, orders out, and virtual time.

Nothing else here knows the core.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from random import Random

from registry.core.capabilities import Vocabulary
from registry.core.effects import Effect, PublishOrder, PutOrders, PutRecord
from registry.core.events import (
    CommandRequested,
    Connected,
    Event,
    LeadershipChanged,
    OrdersCommitted,
    PulseHeard,
    RegisterRequested,
    TelemetryReceived,
    Tick,
    Verb,
    WriteCommitted,
)
from registry.core.handler import handle
from registry.core.limits import Limits
from registry.core.policy import Policy
from registry.core.scaler import Scaler as CoreScaler
from registry.core.state import RegistryState
from tests.simulation.scaling.rule import Order, Scaler, Seen
from tests.simulation.scaling.setting import BEAT, HIGH_LOAD, LEAD, LOW_LOAD, MAX_AGENTS, MIN_AGENTS, SLOTS, TARGET
from tests.simulation.scaling.trace import Trace

CAPABILITY = "work"

START = 1000.0
"""The core's instant of the trace's 0; its Unix time is `WALL` later."""

WALL = 1_700_000_000.0

TICK = 0.5
"""Seconds between two of the core's ticks. The service has 0.1; it looks at a capability each 5 s either way."""

POLICY = Policy(
    min_agents=MIN_AGENTS, max_agents=MAX_AGENTS, high_load=HIGH_LOAD, low_load=LOW_LOAD, target_load=TARGET
)
"""The defaults, but for the largest fleet."""


class Replica(Scaler):
    """One replica that leads, whose writes are acknowledged at once."""

    def __init__(self, policy: Policy, seed: str) -> None:
        ids = count(1)

        def new_id() -> str:
            return f"id{next(ids)}"

        # Nobody is late here: suspicion would only cost time.
        limits = Limits(suspicion_below=0.0)
        vocabulary, scaler = Vocabulary((CAPABILITY,)), CoreScaler(True, policy, new_id)
        self._state = RegistryState(limits, vocabulary, scaler, Random(seed).random, new_id)
        self._revisions = count(1)
        self._orders: list[Order] = []
        at = START - LEAD
        self._give(Tick(at, WALL + at))
        self._give(Connected(at))
        self._give(LeadershipChanged(at, True, 1))

    def _give(self, event: Event) -> None:
        for effect in handle(self._state, event):
            answer = self._carry_out(effect, event.at)
            if answer is not None:
                self._give(answer)

    def _carry_out(self, effect: Effect, at: float) -> Event | None:
        """Carry out what bears on scaling; return how it ended, if that is waited for."""
        if isinstance(effect, PutRecord):
            return WriteCommitted(at, effect.record.agent_id, effect.record.write_id, next(self._revisions))
        if isinstance(effect, PutOrders):
            return OrdersCommitted(at, effect.capability, effect.orders, next(self._revisions))
        if isinstance(effect, PublishOrder):
            order = effect.order
            self._take(order["action"], order["desired"], order["agents"])
        return None

    @property
    def agents(self) -> int:
        """Agents that the core knows."""
        return len(self._state.agents)

    def _take(self, action: str, desired: int, agents: tuple[str, ...]) -> None:
        if action in ("scale_up", "scale_down"):
            victims = tuple(int(agent[1:]) for agent in agents)
            self._orders.append(Order(desired, victims, action == "scale_up", action == "scale_down"))

    def look(self, seen: Seen) -> Order | None:
        """Let the core tick; return what it orders."""
        at = START + seen.at
        self._give(PulseHeard(at, at))
        self._give(Tick(at, WALL + at))
        return self._orders.pop(0) if self._orders else None

    def joined(self, at: float, agent: int) -> None:
        """Register an agent."""
        wanted = RegisterRequested(START + at, None, None, "worker", (CAPABILITY,), _id(agent))
        wanted.instance_id, wanted.heartbeat_interval, wanted.max_concurrency = f"i{agent}", BEAT, SLOTS
        self._give(wanted)

    def reported(self, at: float, agent: int, load: float, queued: float) -> None:
        """Take a beat."""
        metrics = {"queue_depth": queued}
        self._give(
            TelemetryReceived(
                START + at, None, None, _id(agent), load_factor=load, metrics=metrics, is_beat=True, ack=False
            )
        )

    def drained(self, at: float, agent: int) -> None:
        """Drain an agent, as an orchestrator does with those that an order names."""
        self._give(CommandRequested(START + at, None, None, Verb.DRAIN, _id(agent)))

    def left(self, at: float, agent: int) -> None:
        """Deregister an agent."""
        self._give(CommandRequested(START + at, None, None, Verb.DEREGISTER, _id(agent)))


def _id(agent: int) -> str:
    return f"a{agent}"


@dataclass(frozen=True, slots=True)
class Ours:
    """The registry's own rule, with a policy."""

    name: str = "ours"
    policy: Policy = field(default=POLICY)
    period: float = TICK

    def begin(self, trace: Trace, agents: int) -> Scaler:
        """Set to work."""
        return Replica(self.policy, f"{trace.seed} {trace.name}")
