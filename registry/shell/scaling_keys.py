"""Policies and orders on their way to the control bucket, and how each write and read ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from registry.core.effects import PutOrders, PutPolicy, ReadPolicy
from registry.core.events import (
    Event,
    OrdersCommitted,
    OrdersUncertain,
    PolicyCommitted,
    PolicyRead,
    PolicyReadFailed,
    PolicyUncertain,
)
from registry.shell.clock import monotonic
from registry.shell.control_keys import ControlKeys
from registry.shell.jetstream_nats import StoreError
from registry.shell.orders import key_of as orders_key
from registry.shell.policies import key_of as policy_key
from registry.shell.policies import policy_in


class ScalingKeys:
    """Performs the effects on policies and orders.

    Args:
        keys: The control bucket.
        dispatch: Takes the facts that come back.
    """

    def __init__(self, keys: ControlKeys, dispatch: Callable[[Event], Awaitable[None]]) -> None:
        self._keys = keys
        self._dispatch = dispatch

    async def put_orders(self, effect: PutOrders) -> None:
        """Write a capability's orders."""
        revision = await self._keys.put(orders_key(effect.capability), effect.orders.to_json(), effect.expected)
        if revision is None:
            await self._dispatch(unfinished(effect))
        else:
            await self._dispatch(OrdersCommitted(monotonic(), effect.capability, effect.orders, revision))

    async def put_policy(self, effect: PutPolicy) -> None:
        """Write a capability's policy, or remove it."""
        revision = await self._keys.put(policy_key(effect.capability), effect.policy, effect.expected)
        if revision is None:
            await self._dispatch(unfinished(effect))
        else:
            await self._dispatch(PolicyCommitted(monotonic(), effect.capability, revision))

    async def read_policy(self, effect: ReadPolicy) -> None:
        """Read a capability's policy."""
        try:
            entry = await self._keys.read(policy_key(effect.capability))
        except StoreError:
            await self._dispatch(unfinished(effect))
            return
        policy, readable = (None, True) if entry is None else policy_in(entry)
        revision = 0 if entry is None else entry.revision
        await self._dispatch(PolicyRead(monotonic(), effect.capability, policy, revision, readable))


def unfinished(effect: PutOrders | PutPolicy | ReadPolicy, why: str = "JetStream does not answer") -> Event:
    """Return the fact that an effect did not come to its end, or nobody knows whether it did."""
    at, capability = monotonic(), effect.capability
    if isinstance(effect, PutOrders):
        return OrdersUncertain(at, capability, effect.orders)
    if isinstance(effect, PutPolicy):
        return PolicyUncertain(at, capability)
    return PolicyReadFailed(at, capability, why)
