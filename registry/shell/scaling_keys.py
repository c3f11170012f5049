"""Policies and orders on their way to the control bucket, and how each write and read ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

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
from registry.shell.bus_nats import Bus
from registry.shell.clock import monotonic
from registry.shell.jetstream_nats import StoreError
from registry.shell.logs import get_logger
from registry.shell.orders import key_of as orders_key
from registry.shell.policies import key_of as policy_key
from registry.shell.policies import policy_in
from registry.shell.store import Store
from registry.shell.trouble import Trouble

log = get_logger(__name__)

READ_ATTEMPTS = 4
"""Refusals after which a read is given up."""

READ_WAIT = 0.25
"""Seconds before a read is repeated the first time, half as much more or less; doubled each time."""


class ScalingKeys:
    """Performs the effects on policies and orders.

    Args:
        bus: The connection.
        store: Where the control bucket is.
        dispatch: Takes the facts that come back.
    """

    def __init__(self, bus: Bus, store: Store, dispatch: Callable[[Event], Awaitable[None]]) -> None:
        self._bus = bus
        self._store = store
        self._dispatch = dispatch
        self._trouble = Trouble(log)

    async def put_orders(self, effect: PutOrders) -> None:
        """Write a capability's orders."""
        revision = await self._put(orders_key(effect.capability), effect.orders.to_json(), effect.expected)
        if revision is None:
            await self._dispatch(unfinished(effect))
        else:
            await self._dispatch(OrdersCommitted(monotonic(), effect.capability, effect.orders, revision))

    async def put_policy(self, effect: PutPolicy) -> None:
        """Write a capability's policy, or remove it."""
        revision = await self._put(policy_key(effect.capability), effect.policy, effect.expected)
        if revision is None:
            await self._dispatch(unfinished(effect))
        else:
            await self._dispatch(PolicyCommitted(monotonic(), effect.capability, revision))

    async def read_policy(self, effect: ReadPolicy) -> None:
        """Read a capability's policy."""
        capability, wait = effect.capability, READ_WAIT
        for attempt in range(READ_ATTEMPTS):
            if attempt:
                await asyncio.sleep(random.uniform(0.5, 1.5) * wait)
                wait *= 2
            if not self._bus.connected:
                break
            try:
                entry = await self._store.read_control(policy_key(capability))
            except StoreError as error:
                self._trouble.warning("read_failed", capability=capability, error=str(error))
                continue
            self._trouble.over("read_failed")
            policy, readable = (None, True) if entry is None else policy_in(entry)
            revision = 0 if entry is None else entry.revision
            await self._dispatch(PolicyRead(monotonic(), capability, policy, revision, readable))
            return
        await self._dispatch(unfinished(effect))

    async def _put(self, key: str, value: Any, expected: int) -> int | None:
        """Return the revision of a write; None if it lost, or its outcome is unknown."""
        try:
            return await self._store.put_control(key, value, expected)
        except StoreError as error:
            self._trouble.warning("control_uncertain", key=key, error=str(error))
            return None


def unfinished(effect: PutOrders | PutPolicy | ReadPolicy, why: str = "JetStream does not answer") -> Event:
    """Return the fact that an effect did not come to its end, or nobody knows whether it did."""
    at, capability = monotonic(), effect.capability
    if isinstance(effect, PutOrders):
        return OrdersUncertain(at, capability, effect.orders)
    if isinstance(effect, PutPolicy):
        return PolicyUncertain(at, capability)
    return PolicyReadFailed(at, capability, why)
