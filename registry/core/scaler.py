"""The scaler: how many agents a capability should have, and the order that says so.

Level-triggered: every look at a capability computes a desired number from its whole state, so a lost order costs
nothing. One order at a time for each capability. While it is open nothing is repeated, and what is less urgent waits;
what is more urgent takes its place. When it expires it is issued again, if it still has a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from heapq import nsmallest
from typing import Any

from registry.core.agent import Agent
from registry.core.policies import Policies
from registry.core.policy import Policy
from registry.core.record import EVENT_VERSION
from registry.core.status import DISCOVERABLE, Status

FRESH = 3
"""A load report older than this many heartbeat intervals does not count."""

URGENCY = {"scale_down": 0, "replace": 1, "scale_up": 2}
"""An order gives way to a more urgent one: too many agents cost money, an unfit one serves badly, missing ones not."""

MAX_NAMED = 100
"""At most this many agents are named in one order."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of a capability. `mean_load` is None when too few loads are fresh."""

    agents: int
    pending: int
    mean_load: float | None
    mean_health: float | None
    sample_age: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What should be done: an action or None, how many agents there should be, why, and whom to replace."""

    action: str | None
    desired: int
    reason: str
    agents: tuple[str, ...] = ()


@dataclass(slots=True)
class Order:
    """An order that has been issued. Times are Unix seconds on the wire and instants here."""

    order_id: str
    action: str
    desired: int
    agents: tuple[str, ...]
    generation: int
    attempt: int
    expires: float
    wire: dict[str, Any] = field(default_factory=dict)

    def gives_way(self, decision: Decision) -> bool:
        """Return whether a decision cannot wait until this order is carried out or expires."""
        mine, other = URGENCY[self.action], URGENCY[decision.action or ""]
        # A replacement starts before the agent that it replaces leaves: then there are more, and more are not wanted.
        return other > mine or (other == mine and self.action != "replace" and decision.desired > self.desired)


@dataclass(slots=True)
class Scaling:
    """What the scaler remembers of a capability."""

    observation: Observation = Observation(0, 0, None, None, None)
    desired: int = 0
    reason: str = "not looked at yet"
    order: Order | None = None
    generation: int = 0
    low_since: float | None = None
    """Instant since which the load has been low."""


class Scaler:
    """Decides for each capability.

    Args:
        enabled: Whether orders are issued.
        default: The policy of capabilities that have none of their own.
        new_id: Returns a new unique id.
    """

    def __init__(self, enabled: bool, default: Policy, new_id: Callable[[], str]) -> None:
        self.enabled = enabled
        self.policies = Policies(default)
        self._new_id = new_id
        self._scalings: dict[str, Scaling] = {}

    def look(
        self, capability: str, agents: Iterable[Agent], at: float, wall: float, epoch: int, settled: bool = True
    ) -> dict[str, Any] | None:
        """Observe a capability, decide, and return the order to publish, if one is due.

        Args:
            capability: Its name.
            agents: Every agent that has it.
            at: The instant now.
            wall: Unix time now.
            epoch: Of the leader that decides.
            settled: Whether loads are believed: after a start or an outage agents say for a moment what is not so any
                more.
        """
        policy, agents = self.policies.of(capability), list(agents)
        scaling = self._scalings.setdefault(capability, Scaling())
        serving = [agent for agent in agents if agent.status in DISCOVERABLE]
        self._close(scaling, agents, len(serving))
        scaling.observation = observe(serving, scaling.order, at)
        fault = self.policies.fault(capability)
        if fault is None:
            decision = self._decide(scaling, policy, agents, serving, at, settled)
        else:
            decision = Decision(None, len(serving), f"nothing done: {fault}")
        scaling.desired, scaling.reason = decision.desired, decision.reason
        open_order = scaling.order if scaling.order is not None and at < scaling.order.expires else None
        if not self.enabled:
            scaling.reason = f"auto-scaling is off; would be: {decision.reason}"
        elif decision.action is not None and open_order is not None and not open_order.gives_way(decision):
            scaling.reason = f"order {open_order.order_id} is open; {decision.reason}"
        elif decision.action is not None:
            order = self._issue(scaling, decision, serving, at, policy.order_timeout)
            if decision.action == "scale_down":
                scaling.low_since = at  # the next step down waits its own time
            order.wire = {
                "v": EVENT_VERSION,
                "order_id": order.order_id,
                "capability": capability,
                "action": order.action,
                "observed": asdict(scaling.observation),
                "desired": order.desired,
                "delta": order.desired - scaling.observation.agents,
                "agents": order.agents,
                "reason": decision.reason,
                "generation": order.generation,
                "attempt": order.attempt,
                "issued_at": wall,
                "expires_at": round(wall + policy.order_timeout, 3),
                "epoch": epoch,
            }
            return order.wire
        if open_order is None and scaling.order is not None:  # nobody carried it out, and its reason has gone
            scaling.order = None
            scaling.observation = observe(serving, None, at)
        return None

    def _close(self, scaling: Scaling, agents: list[Agent], count: int) -> None:
        """Forget an order whose effect is there."""
        order = scaling.order
        if order is None:
            return
        present = {agent.agent_id for agent in agents if _replaceable(agent)}
        fulfilled = {
            "scale_up": count >= order.desired,
            "scale_down": count <= order.desired,
            "replace": present.isdisjoint(order.agents),
        }[order.action]
        if fulfilled:
            scaling.order = None

    def _decide(
        self, scaling: Scaling, policy: Policy, agents: list[Agent], serving: list[Agent], at: float, settled: bool
    ) -> Decision:
        """Decide: first the bounds, then the unfit, then the load."""
        count, load = len(serving), scaling.observation.mean_load
        if load is None or load >= policy.low_load:
            scaling.low_since = None
        elif scaling.low_since is None:
            scaling.low_since = at
        if count < policy.min_agents:
            why = f"{_agents(count)}, fewer than min_agents {policy.min_agents}"
            return Decision("scale_up", policy.min_agents, why)
        if count > policy.max_agents:
            why = f"{_agents(count)}, more than max_agents {policy.max_agents}"
            return Decision("scale_down", policy.max_agents, why)
        unfit = [agent for agent in agents if agent.health < policy.health_degraded and _replaceable(agent)]
        if unfit:
            worst = min(unfit, key=lambda agent: (agent.health, agent.agent_id))
            why = f"{worst.agent_id} has health {worst.health:g}, below {policy.health_degraded:g}"
            return Decision("replace", count, why, (worst.agent_id,))
        if load is None:
            return Decision(None, count, "nothing done: fewer than half of the agents have a fresh load report")
        if not settled:
            return Decision(None, count, "nothing done: loads count a few seconds after a start, or an outage of NATS")
        return self._decide_by_load(scaling, policy, serving, load, at)

    def _decide_by_load(
        self, scaling: Scaling, policy: Policy, serving: list[Agent], load: float, at: float
    ) -> Decision:
        count = len(serving)
        if load > policy.high_load:
            above = f"mean load {load:.2f} is above {policy.high_load:g}"
            # An agent that has not reported adds no load: else those that just came, because of the last order, would.
            carried = sum(agent.load for agent in reporting(serving, at))
            needed = math.ceil(round(carried / policy.target_load, 6))
            desired = min(policy.max_agents, max(count + 1, needed))
            if desired == count:
                return Decision(None, count, f"nothing done: {above}, but max_agents {policy.max_agents} is reached")
            return Decision("scale_up", desired, above)
        if scaling.low_since is not None and count > policy.min_agents:
            low_for = at - scaling.low_since
            below = f"mean load {load:.2f} is below {policy.low_load:g}"
            if low_for < policy.stabilisation:
                return Decision(None, count, f"nothing done: {below} for {low_for:.0f} s of {policy.stabilisation:g} s")
            why = f"{below} for {policy.stabilisation:g} s"
            return Decision("scale_down", count - 1, why)
        return Decision(None, count, f"nothing done: mean load {load:.2f} of {_agents(count)} is right")

    def _issue(self, scaling: Scaling, decision: Decision, serving: list[Agent], at: float, timeout: float) -> Order:
        """Open an order; the same decision after an expiry is its next attempt."""
        last, action, named = scaling.order, decision.action or "", decision.agents
        if action == "scale_down":
            named = victims(serving, len(serving) - decision.desired)
        attempt = 1
        is_same = last is not None and last.action == action and (action != "replace" or last.agents == named)
        if last is not None and is_same and at >= last.expires:
            attempt = last.attempt + 1
        else:
            scaling.generation += 1
        scaling.order = Order(
            self._new_id(), action, decision.desired, named, scaling.generation, attempt, at + timeout
        )
        return scaling.order

    def report(self, capability: str) -> dict[str, Any]:
        """Return the wire's view of one capability."""
        scaling = self._scalings.get(capability, Scaling())
        source = "policy" if capability in self.policies.own else "default"
        return {
            "capability": capability,
            "policy": {"capability": capability, **asdict(self.policies.of(capability)), "source": source},
            "observed": asdict(scaling.observation),
            "desired": scaling.desired,
            "orders": [] if scaling.order is None else [scaling.order.wire],
            "reason": scaling.reason,
        }

    def begin(self) -> None:
        """Begin a leader's term: what was seen and ordered in an earlier one does not count."""
        self._scalings.clear()

    def withdraw(self, capability: str) -> None:
        """Take back a capability's open order: it was decided by another policy."""
        if capability in self._scalings:
            self._scalings[capability].order = None

    def forget(self, known: Iterable[str]) -> None:
        """Forget capabilities that neither an agent nor a policy speaks of any more."""
        keep = set(known) | set(self.policies.own)
        for capability in [name for name in self._scalings if name not in keep]:
            del self._scalings[capability]


def observe(serving: list[Agent], order: Order | None, at: float) -> Observation:
    """Return what is seen of the agents that serve a capability. Loads count only while fresh, and only if most are."""
    fresh, count = reporting(serving, at), len(serving)
    enough = bool(fresh) and len(fresh) * 2 >= count
    pending = max(0, order.desired - count) if order is not None and order.action == "scale_up" else 0
    return Observation(
        agents=count,
        pending=pending,
        mean_load=round(sum(agent.load for agent in fresh) / len(fresh), 4) if enough else None,
        mean_health=round(sum(agent.health for agent in serving) / count, 4) if count else None,
        sample_age=round(max(at - (agent.load_at or 0.0) for agent in fresh), 3) if enough else None,
    )


def reporting(serving: list[Agent], at: float) -> list[Agent]:
    """Return the agents whose load report is fresh."""
    return [
        agent
        for agent in serving
        if agent.load_at is not None and at - agent.load_at <= FRESH * agent.record.heartbeat_interval
    ]


def victims(serving: list[Agent], count: int) -> tuple[str, ...]:
    """Name the agents to drain: the least healthy, then the least loaded, then the youngest."""
    ranked = nsmallest(
        min(count, MAX_NAMED),
        serving,
        key=lambda agent: (agent.health, agent.load, -agent.record.registered_at, agent.agent_id),
    )
    return tuple(agent.agent_id for agent in ranked)


def _agents(count: int) -> str:
    return f"{count} agent" if count == 1 else f"{count} agents"


def _replaceable(agent: Agent) -> bool:
    return agent.status in DISCOVERABLE or (agent.status is Status.SUSPENDED and not agent.record.held)
