"""When an order ends, and when the next one is issued. Pure functions on what is durable of a capability's orders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from registry.core.agent import Agent
from registry.core.decision import Decision
from registry.core.observation import Sample, to_wire
from registry.core.order import Order, Orders
from registry.core.policy import Policy
from registry.core.status import Status
from registry.core.victims import is_replaceable, is_serving


@dataclass(frozen=True, slots=True)
class Moment:
    """When a look takes place, and by whom: the instant, Unix time, and the leader's epoch.

    Attributes:
        settled: Whether loads are believed: after a start or an outage agents say for a moment what is not so any more.
    """

    at: float
    wall: float
    epoch: int
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Situation:
    """A capability at a moment.

    Attributes:
        agents: Every agent that has it.
        sample: What is seen of those that can take work.
        policy_revision: Of its own policy; 0 if it never had one.
    """

    capability: str
    policy: Policy
    policy_revision: int
    agents: list[Agent]
    sample: Sample
    now: Moment

    @property
    def serving(self) -> list[Agent]:
        """The agents that can take work."""
        return [agent for agent in self.agents if is_serving(agent)]


CLOCK_STEP = 10.0
"""Seconds that the clock may be behind an order's, before the order counts as one of a clock that was set back."""


def closed(orders: Orders, situation: Situation, has_policy: bool) -> Orders:
    """Return the orders without those that have ended by now.

    Args:
        orders: The orders.
        situation: Of the capability.
        has_policy: Whether it has a policy of its own; else it is wanted only while somebody has it.
    """
    wall, order = situation.now.wall, orders.open
    if order is not None:
        if order.policy_revision != situation.policy_revision or not (situation.agents or has_policy):
            orders = orders.end("withdrawn", wall)
        elif is_fulfilled(order, situation.agents, situation.sample.agents):
            orders = orders.end("fulfilled", wall)
        elif _has_expired(order, wall):
            orders = orders.end("expired", wall)
    move = orders.move
    if move is not None and (
        orders.open is None
        or _has_expired(move, wall)
        or {agent.agent_id for agent in situation.agents}.issuperset(move.agents)
    ):
        orders = replace(orders, move=None)
    return orders


def _has_expired(order: Order, wall: float) -> bool:
    return not order.issued_at - CLOCK_STEP <= wall < order.expires_at


def is_fulfilled(order: Order, agents: Iterable[Agent], serving: int) -> bool:
    """Return whether an order's effect is seen: enough agents serve, and whoever was to leave has finished and left."""
    if order.action == "scale_up":
        return serving >= order.desired
    named = [agent for agent in agents if agent.agent_id in order.agents]
    if any(agent.status is Status.DEREGISTERING for agent in named):
        return False
    if order.action == "scale_down":
        return serving <= order.desired
    return not any(is_replaceable(agent) for agent in named)


def issue(
    orders: Orders,
    before: Orders,
    decision: Decision,
    situation: Situation,
    pending: int,
    new_id: Callable[[], str],
) -> Orders:
    """Return the orders with one for a decision; the same decision again after an expiry is its next attempt.

    Args:
        orders: The orders now.
        before: As the look found them.
        decision: What is to be done; it has an action.
        situation: Of the capability.
        pending: Agents that were ordered and are not there yet.
        new_id: Returns a new unique id.
    """
    last, action = orders.ended, decision.action or ""
    is_again = (
        last is not None
        and last is before.open
        and orders.outcome == "expired"
        and last.action == action
        and (action != "replace" or last.agents == decision.agents)
    )
    generation = orders.generation if is_again else orders.generation + 1
    attempt = last.attempt + 1 if is_again and last is not None else 1
    order = new_order(decision, situation, pending, generation, attempt, new_id())
    return replace(orders, open=order, generation=generation)


def new_order(
    decision: Decision, situation: Situation, pending: int, generation: int, attempt: int, order_id: str
) -> Order:
    """Return the order that a decision leads to."""
    now, policy = situation.now, situation.policy
    return Order(
        order_id=order_id,
        capability=situation.capability,
        action=decision.action or "",
        observed=to_wire(situation.sample, pending),
        desired=decision.desired,
        agents=decision.agents,
        reason=decision.reason,
        generation=generation,
        attempt=attempt,
        issued_at=now.wall,
        expires_at=round(now.wall + policy.order_timeout, 3),
        epoch=now.epoch,
        policy_revision=situation.policy_revision,
    )
