"""Following a bucket's log for good: what is there, then each entry as it comes, also after its consumer was lost.

An ordered consumer that loses its server or its messages is made again by nats-py, which misses the idle heartbeats.
Should it ever stay silent all the same, this compares what was heard with what the bucket holds, and begins anew.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from registry.shell.logs import get_logger
from registry.shell.store_nats import Entry, OnEntry, Store, StoreError

log = get_logger(__name__)

WATCH_INTERVAL = 2.0
"""Seconds between two looks at the bucket; twice this without an entry that is there is a stall."""


class Tail:
    """Hears the log of one bucket.

    Args:
        store: Where the bucket is.
        bucket: Its name.
        on_entry: Takes each entry; first the newest of each key.
    """

    def __init__(self, store: Store, bucket: str, on_entry: OnEntry) -> None:
        self.resyncs = 0
        """Times that the log had to be followed anew because nothing came."""
        self._store = store
        self._bucket = bucket
        self._on_entry = on_entry
        self._heard = 0
        """Revision of the newest entry that came."""
        self._caught_up = asyncio.Event()
        self._subscription: Any = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Follow the log; return when all of it that exists now has been heard.

        Raises:
            StoreError: If JetStream does not answer.
        """
        if await self._store.newest_revision(self._bucket) == 0:
            self._caught_up.set()
        self._subscription = await self._store.follow(self._hear, self._bucket)
        self._watcher = asyncio.ensure_future(self._watch())
        await self._caught_up.wait()

    async def stop(self) -> None:
        """Follow no longer."""
        if self._watcher is not None:
            self._watcher.cancel()
        await self._unsubscribe()

    async def _hear(self, entry: Entry) -> None:
        self._heard = max(self._heard, entry.revision)
        await self._on_entry(entry)
        if entry.pending == 0:
            self._caught_up.set()

    async def _watch(self) -> None:
        before = -1
        while True:
            await asyncio.sleep(WATCH_INTERVAL * random.uniform(0.8, 1.2))
            try:
                newest = await self._store.newest_revision(self._bucket)
                if self._heard < newest and self._heard == before:
                    log.warning("log_stalled", bucket=self._bucket, heard=self._heard, newest=newest)
                    await self._begin_anew()
                before = self._heard
                if self._heard >= newest:
                    self._caught_up.set()  # what was waited for has ended by its own time
            except StoreError as error:
                log.warning("log_unwatched", bucket=self._bucket, error=str(error))

    async def _begin_anew(self) -> None:
        self.resyncs += 1
        await self._unsubscribe()
        self._subscription = await self._store.follow(self._hear, self._bucket, start=self._heard + 1)

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._store.unfollow(subscription)
