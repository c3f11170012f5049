"""Keys of the control bucket: written by compare-and-set, and read again when it is not known how that ended."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from registry.shell.bus_nats import Bus
from registry.shell.entry import Entry
from registry.shell.jetstream_nats import StoreError
from registry.shell.logs import get_logger
from registry.shell.store import Store
from registry.shell.trouble import Trouble

log = get_logger(__name__)

READ_ATTEMPTS = 4
"""Refusals after which a read is given up."""

READ_WAIT = 0.25
"""Seconds before a read is repeated the first time, half as much more or less; doubled each time."""


class ControlKeys:
    """Writes and reads keys, and tells the log of trouble.

    Args:
        bus: The connection.
        store: Where the control bucket is.
    """

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store
        self._trouble = Trouble(log)

    async def put(self, key: str, value: Any, expected: int) -> int | None:
        """Return the revision of a write; None if it lost, or its outcome is unknown. A value of None removes."""
        try:
            return await self._store.put_control(key, value, expected)
        except StoreError as error:
            self._trouble.warning("control_uncertain", key=key, error=str(error))
            return None

    async def read(self, key: str) -> Entry | None:
        """Return what stands under a key; None if it never had anything.

        Raises:
            StoreError: If that cannot be learnt now.
        """
        wait = READ_WAIT
        for attempt in range(READ_ATTEMPTS):
            if attempt:
                await asyncio.sleep(random.uniform(0.5, 1.5) * wait)
                wait *= 2
            if not self._bus.connected:
                break
            try:
                entry = await self._store.read_control(key)
            except StoreError as error:
                self._trouble.warning("read_failed", key=key, error=str(error))
                continue
            self._trouble.over("read_failed")
            return entry
        raise StoreError("JetStream does not answer")
