"""An order to whoever starts and stops agents, and what a capability's scaling keeps durable of its orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from registry.core.record import EVENT_VERSION

SCALING_VERSION = 1
"""Version of the form in which a capability's scaling stands in the bucket."""

URGENCY = {"scale_down": 0, "replace": 1, "scale_up": 2}
"""An order gives way to a more urgent one: too many agents cost money, an unfit one serves badly, missing ones not."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order that was issued. Times are Unix seconds.

    Attributes:
        agents: Whom to drain, to replace, or to move.
        generation: Grows with each decision for the capability.
        attempt: Grows when the same decision is issued again.
        policy_revision: Of the capability's policy that it was decided by; another policy withdraws it.
        epoch: Of the leader that issued it.
    """

    order_id: str
    capability: str
    action: str
    observed: Mapping[str, Any]
    desired: int
    agents: tuple[str, ...]
    reason: str
    generation: int
    attempt: int
    issued_at: float
    expires_at: float
    epoch: int
    policy_revision: int = 0

    def to_wire(self) -> dict[str, Any]:
        """Return the event's payload."""
        return {
            "v": EVENT_VERSION,
            "order_id": self.order_id,
            "capability": self.capability,
            "action": self.action,
            "observed": self.observed,
            "desired": self.desired,
            "delta": self.desired - self.observed["agents"],
            "agents": self.agents,
            "reason": self.reason,
            "generation": self.generation,
            "attempt": self.attempt,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
            "epoch": self.epoch,
        }

    def gives_way(self, action: str, desired: int) -> bool:
        """Return whether another decision cannot wait until this order is carried out or expires."""
        mine, other = URGENCY[self.action], URGENCY[action]
        # A replacement starts before the agent that it replaces leaves: then there are more, and more are not wanted.
        return other > mine or (other == mine and self.action != "replace" and desired > self.desired)


@dataclass(frozen=True, slots=True)
class Orders:
    """What is durable of a capability's scaling: the orders that are open, and the one that ended last.

    Attributes:
        generation: Of the newest order.
        open: The order that is open.
        move: The proposal to move agents here that is open.
        ended: The order that ended last.
        outcome: How it ended: `fulfilled`, `expired`, `withdrawn` or `superseded`.
        ended_at: Unix time, s.
        moves: Generation of the newest proposal to move agents.
    """

    generation: int = 0
    open: Order | None = None
    move: Order | None = None
    ended: Order | None = None
    outcome: str | None = None
    ended_at: float | None = None
    moves: int = 0

    def end(self, outcome: str, wall: float) -> Orders:
        """Return them with the open order ended."""
        return replace(self, open=None, ended=self.open, outcome=outcome, ended_at=wall)

    def all_open(self) -> list[Order]:
        """Return the open orders."""
        return [order for order in (self.open, self.move) if order is not None]

    def last(self) -> dict[str, Any] | None:
        """Return what the wire says of the order that ended last."""
        if self.ended is None:
            return None
        order = self.ended
        return {
            "order_id": order.order_id,
            "action": order.action,
            "desired": order.desired,
            "agents": order.agents,
            "outcome": self.outcome,
            "ended_at": self.ended_at,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the form in the bucket."""
        return {
            "v": SCALING_VERSION,
            "generation": self.generation,
            "open": _form(self.open),
            "move": _form(self.move),
            "ended": _form(self.ended),
            "outcome": self.outcome,
            "ended_at": self.ended_at,
            "moves": self.moves,
        }

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Orders:
        """Build from the form in the bucket.

        Raises:
            ValueError: If it is not one.
        """
        try:
            return cls(
                _number(form["generation"]),
                _order(form["open"]),
                _order(form["move"]),
                _order(form["ended"]),
                None if form["outcome"] is None else str(form["outcome"]),
                None if form["ended_at"] is None else float(form["ended_at"]),
                _number(form["moves"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the orders of a capability: {error!r}") from error


def _form(order: Order | None) -> dict[str, Any] | None:
    return None if order is None else {**order.to_wire(), "policy_revision": order.policy_revision}


def _order(form: Mapping[str, Any] | None) -> Order | None:
    if form is None:
        return None
    action, observed = str(form["action"]), form["observed"]
    if action != "rebalance" and action not in URGENCY:
        raise ValueError(f"action is {action!r:.80}")
    return Order(
        str(form["order_id"]),
        str(form["capability"]),
        action,
        {**observed, "agents": _number(observed["agents"])},
        _number(form["desired"]),
        tuple(str(agent_id) for agent_id in form["agents"]),
        str(form["reason"]),
        _number(form["generation"]),
        _number(form["attempt"]),
        float(form["issued_at"]),
        float(form["expires_at"]),
        _number(form["epoch"]),
        _number(form["policy_revision"]),
    )


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.80} is no number of things")
    return value
