"""The scaler: how many agents a capability should have, and the order that says so.

Level-triggered: every look at a capability computes a desired number from its whole state, so a lost order costs
nothing. One order at a time for each capability. While it is open nothing is repeated, and what is less urgent waits;
what is more urgent takes its place. It ends when its effect is seen. When it expires it is issued again, if it still
has a reason.

Orders are durable before they are published: a look that opens or ends one has `Orders` written, guarded by the
revision that they were decided on, and the event follows the acknowledgement. Whoever leads next finds them in the
control bucket's log and goes on from there. What was seen is not durable: a new leader watches for the whole
stabilisation before it removes anybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from registry.core.agent import Agent
from registry.core.decision import Decision, History, decide_by_bounds, decide_by_health, decide_by_load
from registry.core.departures import AgentsOf, Departures, spares
from registry.core.effects import Effect, PublishOrder, PutOrders
from registry.core.observation import Sample, observe, to_wire
from registry.core.order import Order, Orders
from registry.core.ordering import Moment, Situation, closed, issue, new_order
from registry.core.policies import Policies
from registry.core.policy import Policy
from registry.core.status import Status
from registry.core.victims import Spare, is_replaceable, is_serving, replace_needed, victims


@dataclass(slots=True)
class Scaling:
    """What is known of a capability's scaling."""

    orders: Orders = field(default_factory=Orders)
    """As the bucket has them."""
    revision: int = 0
    writing: Orders | None = None
    """On their way to the bucket."""
    told: set[str] = field(default_factory=set)
    """Open orders that this leader has published."""
    history: History = field(default_factory=History)
    sample: Sample | None = None
    policy_revision: int = 0
    """Of the policy by which it was looked at last."""
    desired: int = 0
    reason: str = "not looked at yet"

    @property
    def pending(self) -> int:
        """Agents that were ordered and are not there yet."""
        order = self.orders.open
        if order is None or order.action != "scale_up" or self.sample is None:
            return 0
        return max(0, order.desired - self.sample.agents)


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
        self._departures = Departures()
        self._surplus: set[str] = set()
        """Capabilities whose load is for fewer agents than there are."""

    def look(self, capability: str, agents_of: AgentsOf, now: Moment) -> list[Effect]:
        """Observe a capability, decide, and have the orders written that follow."""
        scaling = self._scalings.setdefault(capability, Scaling())
        policy, agents = self.policies.of(capability), agents_of(capability)
        serving = [agent for agent in agents if is_serving(agent)]
        scaling.sample = observe(serving, policy, now.at, now.wall)
        situation = Situation(capability, policy, self.policies.revision(capability), agents, scaling.sample, now)
        decision = self._decide(scaling, situation, agents_of)
        scaling.desired, scaling.reason = decision.desired, decision.reason
        scaling.policy_revision = situation.policy_revision
        (self._surplus.add if decision.surplus else self._surplus.discard)(capability)
        if scaling.writing is not None:
            return []
        orders = closed(scaling.orders, situation, capability in self.policies.own)
        if orders.outcome == "fulfilled" and orders.ended is scaling.orders.open:
            scaling.history.changed()
        if not self.enabled or policy.dry_run:
            scaling.reason = f"{'dry run' if self.enabled else 'auto-scaling is off'}; would be: {decision.reason}"
        elif agents or capability in self.policies.own:
            if decision.action is not None:
                orders = self._ordered(scaling, orders, decision, situation, agents_of)
            orders = self._moving(scaling, orders, situation, agents_of)
        if orders.open is not None:
            scaling.desired = orders.open.desired
        if orders == scaling.orders:
            return self._tell(scaling, anew=False)
        scaling.writing = orders
        self._departures.note(capability, orders)
        return [PutOrders(capability, orders, scaling.revision)]

    def committed(self, capability: str, orders: Orders, revision: int) -> list[Effect]:
        """Take orders that the bucket acknowledged, and publish those that are new.

        What was written in an earlier term, or to another bucket of the name, is left to the log to tell.
        """
        scaling = self._scalings.get(capability)
        if scaling is None or scaling.writing is not orders:
            return []
        scaling.writing = None
        if revision < scaling.revision:
            self._departures.note(capability, scaling.orders)
            return []
        scaling.orders, scaling.revision = orders, revision
        return self._tell(scaling, anew=True)

    def failed(self, capability: str, orders: Orders) -> None:
        """Give up on a write that lost, or whose outcome is unknown: the log tells, and the next look decides anew."""
        scaling = self._scalings.get(capability)
        if scaling is not None and scaling.writing is orders:
            scaling.writing = None
            self._departures.note(capability, scaling.orders)

    def learn(self, capability: str, orders: Orders, revision: int) -> None:
        """Take what the bucket has at a revision, unless something newer is known."""
        scaling = self._scalings.setdefault(capability, Scaling())
        if revision > scaling.revision:
            scaling.orders, scaling.revision = orders, revision
            self._departures.note(capability, scaling.writing or orders)

    def begin_anew(self) -> None:
        """Know no orders: the bucket is another one."""
        for scaling in self._scalings.values():
            scaling.orders, scaling.revision, scaling.writing = Orders(), 0, None
        self._departures.clear()

    def begin(self) -> None:
        """Begin a leader's term: what was seen in an earlier one does not count, and who published what is unknown."""
        self._surplus.clear()
        for capability, scaling in self._scalings.items():
            self._scalings[capability] = Scaling(scaling.orders, scaling.revision)
            self._departures.note(capability, scaling.orders)

    def forget(self, known: Iterable[str]) -> None:
        """Forget what was seen of capabilities that neither an agent, a policy nor an order speaks of any more."""
        keep = set(known) | set(self.policies.own) | self.ordered()
        for capability, scaling in list(self._scalings.items()):
            if capability not in keep and scaling.writing is None:
                if scaling.revision:
                    self._scalings[capability] = Scaling(scaling.orders, scaling.revision)
                else:
                    del self._scalings[capability]

    def ordered(self) -> set[str]:
        """Return the capabilities that have open orders."""
        return {name for name, scaling in self._scalings.items() if scaling.orders.all_open()}

    def report(self, capability: str, agents: Iterable[Agent]) -> dict[str, Any]:
        """Return the wire's view of one capability.

        Args:
            capability: Which.
            agents: Those that have it; before the first look what is wanted is what is there, or was ordered.
        """
        scaling, policy, here = self._scalings.get(capability, Scaling()), self.policies.of(capability), list(agents)
        source = "policy" if capability in self.policies.own else "default"
        sample, desired, reason = scaling.sample, scaling.desired, scaling.reason
        open_orders = scaling.orders.all_open()
        if sample is None or scaling.policy_revision != self.policies.revision(capability):
            sample = observe(filter(is_serving, here), policy, math.inf, math.inf)
            open_orders = [each for each in open_orders if each.policy_revision == self.policies.revision(capability)]
            desired, reason = max([each.desired for each in open_orders], default=sample.agents), "not looked at yet"
            if not here and source == "default":
                reason = "not scaled: nobody has it, and it has no policy of its own"
        return {
            "capability": capability,
            "policy": {"capability": capability, **asdict(policy), "source": source},
            "observed": to_wire(sample, scaling.pending),
            "desired": desired,
            "orders": [order.to_wire() for order in open_orders],
            "last_order": scaling.orders.last(),
            "reason": reason,
        }

    def _decide(self, scaling: Scaling, situation: Situation, agents_of: AgentsOf) -> Decision:
        """Decide: first the bounds, then the load, then the unfit, of whom those go first when there are too many."""
        policy, sample = situation.policy, situation.sample
        fault = self.policies.fault(situation.capability)
        if fault is not None:
            return Decision(None, sample.agents, f"nothing done: {fault}")
        leaving = self._departures.named(but=situation.capability)
        gone = sum(agent.agent_id in leaving for agent in situation.serving)
        by_load = decide_by_load(policy, scaling.history, sample, gone)
        if not situation.now.settled and by_load.action is not None:
            early = "nothing done: loads count a few seconds after a start, or an outage of NATS"
            by_load = Decision(None, sample.agents, early)
        by_bounds = decide_by_bounds(policy, sample.agents)
        if by_bounds is not None:
            # Too few that are full at the same time: as many as the load asks for, in one order.
            is_more = by_load.action == by_bounds.action == "scale_up" and by_load.desired > by_bounds.desired
            return by_load if is_more else by_bounds
        if by_load.action is not None:
            return by_load
        known = [agent for agent in situation.agents if is_replaceable(agent) and agent.agent_id not in leaving]
        needed = replace_needed(situation.capability, self._spares(agents_of), self.policies)
        return decide_by_health(policy, sample.agents, known, needed) or by_load

    def _ordered(
        self, scaling: Scaling, orders: Orders, decision: Decision, situation: Situation, agents_of: AgentsOf
    ) -> Orders:
        """Return the orders with that of a decision, if it is due."""
        is_open = orders.open
        if is_open is not None and not is_open.gives_way(decision.action or "", decision.desired):
            again = f", attempt {is_open.attempt}: those before were not carried out" if is_open.attempt > 1 else ""
            scaling.reason = f"order {is_open.order_id} is open{again}; {decision.reason}"
            return orders
        if decision.action == "scale_down":
            leaving = self._departures.named(but=situation.capability)
            staying = [agent for agent in situation.serving if agent.agent_id not in leaving]
            surplus = len(staying) - decision.desired
            named = victims(staying, surplus, situation.policy, situation.capability, self._spares(agents_of))
            if not named:
                why = "other capabilities need each of them" if surplus > 0 else "enough of them are leaving already"
                scaling.reason = f"nothing done: {decision.reason}; but {why}"
                return orders
            decision = replace(decision, desired=len(staying) - len(named), agents=named)
        if is_open is not None:
            orders = orders.end("superseded", situation.now.wall)
        return issue(orders, scaling.orders, decision, situation, scaling.pending, self._new_id)

    def _moving(self, scaling: Scaling, orders: Orders, situation: Situation, agents_of: AgentsOf) -> Orders:
        """Return the orders with a proposal to move agents here, if some are missing here and superfluous elsewhere.

        Those may come who are well, and of a type that has this capability in other agents.
        """
        here, order = situation.capability, orders.open
        if orders.move is not None or order is None or order.action != "scale_up":
            return orders
        short, leaving = order.desired - situation.sample.agents, self._departures.named()
        types = {agent.record.agent_type for agent in situation.agents if agent.status is not Status.OFFLINE}
        for there in sorted(self._surplus - {here}) if short > 0 else ():
            spare, policy = self._spares(agents_of), self.policies.of(there)
            able = [
                agent
                for agent in agents_of(there)
                if is_serving(agent)
                and agent.health >= max(policy.health_degraded, situation.policy.health_degraded)
                and agent.record.agent_type in types
                and here not in agent.record.capabilities
                and agent.agent_id not in leaving
            ]
            surplus = spare(there).serving - spare(there).needed
            named = victims(able, min(short, surplus), policy, there, spare)
            if named:
                why = f"{there} has {surplus} too many that could take on {here}"
                move = Decision("rebalance", order.desired, why, named)
                proposal = new_order(move, situation, scaling.pending, orders.moves + 1, 1, self._new_id())
                return replace(orders, move=proposal, moves=orders.moves + 1)
        return orders

    def _spares(self, agents_of: AgentsOf) -> Callable[[str], Spare]:
        return spares(self._departures.named(), agents_of, self._sample_of, self.policies)

    def _sample_of(self, capability: str) -> Sample | None:
        scaling = self._scalings.get(capability)
        return None if scaling is None else scaling.sample

    def _tell(self, scaling: Scaling, anew: bool) -> list[Effect]:
        """Publish the open orders that this leader has not published; `anew`: that nobody can have."""
        untold: list[Order] = [order for order in scaling.orders.all_open() if order.order_id not in scaling.told]
        scaling.told = {order.order_id for order in scaling.orders.all_open()}
        return [PublishOrder(order.to_wire(), not anew) for order in untold]
