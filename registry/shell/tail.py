"""Following a bucket's log for good: what is there, then each entry as it comes, also after its consumer was lost.

An ordered consumer that loses its server or its messages is made again by nats-py, which misses the idle heartbeats.
Should it ever stay silent all the same, this compares what was heard with what the bucket holds, and goes on from
there. A bucket that was deleted and made anew, or went back to an older state of its own, is followed from its
beginning; nobody would hear of it otherwise, for its revisions have been heard before. One that is not there, as after
the loss of NATS' store, is made anew after a while.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from registry.shell.clock import uptime
from registry.shell.entry import Entry, OnEntry
from registry.shell.jetstream_nats import MissingError, StoreError
from registry.shell.logs import get_logger
from registry.shell.missing import Missing
from registry.shell.store import Store
from registry.shell.tasks import end
from registry.shell.trouble import Trouble

log = get_logger(__name__)

WATCH_INTERVAL = 2.0
"""Seconds between two looks at the bucket; twice this without an entry that is there is a stall."""

AWAY = 1800.0
"""Seconds for which a log may go unheard before its bucket is gone through; marks of removals live twice as long."""

STALLED = 10.0
"""Seconds without an entry after which a start gives up a log that should have more; by then it was followed anew."""


class Tail:
    """Hears the log of one bucket.

    Args:
        store: Where the bucket is.
        bucket: Its name.
        on_entry: Takes each entry; first the newest of each key.
        on_replaced: Told that all entries up to now were of a bucket that is gone.
        on_away: Told, with the newest revision that there is, that the log went unheard for so long that removals may
            have left no trace in it.
        away: Seconds after which that is so; `AWAY` when left out.
    """

    def __init__(
        self,
        store: Store,
        bucket: str,
        on_entry: OnEntry,
        on_replaced: Callable[[], Awaitable[None]],
        on_away: Callable[[int], Awaitable[None]] | None = None,
        away: float | None = None,
    ) -> None:
        self.resyncs = 0
        """Times that the log had to be followed anew because nothing came."""
        self._trouble = Trouble(log)
        self._store = store
        self._bucket = bucket
        self._on_entry = on_entry
        self._on_replaced = on_replaced
        self._on_away = on_away
        self._away = away
        self._made = ""
        """When the bucket that is followed was made."""
        self._heard = 0
        """Revision of the newest entry that came."""
        self._heard_before = -1
        """The same at the look before."""
        self._known = 0
        """Newest revision that the log is known to have had."""
        self._shorter = 0
        """Looks in a row that found a log that ends before what is known; where there are several copies, a new leader
        may still be about to take in what it has."""
        self._start = 0
        """Newest revision that there was when following began."""
        self._current = uptime()
        """Instant of the last look that found the log heard, or after which the bucket was gone through."""
        self._missing = Missing(store, bucket)
        self._caught_up = asyncio.Event()
        self._subscription: Any = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Follow the log; return when all of it that exists now has been heard.

        Raises:
            StoreError: If JetStream does not answer, or the log stops coming.
        """
        self._made = (await self._store.extent(self._bucket)).made
        self._start = await self._store.newest_revision(self._bucket)
        if not self._start:
            self._caught_up.set()
        self._subscription = await self._store.follow(self._hear, self._bucket)
        self._watcher = asyncio.ensure_future(self._watch())
        while not self._caught_up.is_set():
            await self._come_closer()

    @property
    def log_name(self) -> str:
        """What names the log that is followed, as `Store.log_name` does."""
        return f"{self._bucket}:{self._made}"

    async def stop(self) -> None:
        """Follow no longer."""
        await end(self._watcher)
        await self._unsubscribe()

    async def go_through(self) -> None:
        """Have the bucket gone through now, if the log has gone unheard for so long that this has to be done.

        Raises:
            StoreError: If that cannot be done now.
        """
        if self._on_away is not None and self._is_away(uptime()):
            await self._on_away((await self._store.extent(self._bucket)).last)

    def _is_away(self, now: float) -> bool:
        return now - self._current > (self._away or AWAY)

    def acknowledged(self, revision: int) -> None:
        """Take note that the log has a revision, which need not have been heard yet."""
        self._known = max(self._known, revision)

    async def _come_closer(self) -> None:
        """Wait until the log has been caught up with, or some more of it has come.

        Raises:
            StoreError: If none came for too long.
        """
        before = self._heard
        try:
            await asyncio.wait_for(self._caught_up.wait(), STALLED)
        except TimeoutError:
            if self._heard > before:
                return
            newest = await self._store.newest_revision(self._bucket)
            if self._heard < newest:
                message = f"{self._bucket}: no entry after {self._heard} came within {STALLED:g} s, {newest} is there"
                raise StoreError(message) from None
            self._caught_up.set()  # what was still to come has ended by its own time

    async def _hear(self, entry: Entry) -> None:
        self._heard = max(self._heard, entry.revision)
        try:
            await self._on_entry(entry)
        except Exception:  # a defect; the entries that follow are heard all the same
            log.exception("entry_failed", bucket=self._bucket, key=entry.key, revision=entry.revision)
        # A consumer may be served by a copy that lags, and knows of nothing more than that has.
        if entry.pending == 0 and self._heard >= self._start:
            self._caught_up.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL * random.uniform(0.8, 1.2))
            await self._watch_once()

    async def _watch_once(self) -> None:
        try:
            await self._look()
        except StoreError as error:
            self._missing.unknown()
            self._trouble.warning("log_unwatched", bucket=self._bucket, error=str(error))
        except Exception as error:
            self._trouble.defect("log_watch_failed", error=error, bucket=self._bucket)
        else:
            self._trouble.over("log_unwatched")

    async def _look(self) -> None:
        """Look whether the log is still the one that is followed, and is heard.

        Raises:
            StoreError: If that cannot be learnt, or nothing be done about it, now.
        """
        now, known = uptime(), max(self._known, self._heard)  # more may come while it is asked
        try:
            extent = await self._store.extent(self._bucket)
        except MissingError:
            # nats-py would go on at the old position in whatever is made in its place.
            await self._unsubscribe()
            await self._missing.missed()
            return
        self._missing.found()
        self._shorter = self._shorter + 1 if extent.last < known else 0
        heard = True
        if extent.made != self._made:
            log.warning("bucket_replaced", bucket=self._bucket, made=extent.made, before=self._made)
            await self._replaced(extent.made)
        elif self._shorter > 1:
            log.warning("bucket_went_back", bucket=self._bucket, known=known, newest=extent.last)
            await self._replaced(extent.made)
        elif await self._has_stalled(self._heard_before):
            heard = False
            await self._go_on()
        self._heard_before = self._heard
        away = self._is_away(now)
        if away and self._on_away is not None:
            await self._on_away(extent.last)
        if heard or away:  # not before that has succeeded, or else it would not be tried again
            self._current = now

    async def _has_stalled(self, before: int) -> bool:
        """Return whether there is more than was heard, and nothing was heard since the last look."""
        if self._subscription is None:
            return True
        newest = await self._store.newest_revision(self._bucket)
        if self._heard >= newest or self._heard != before:
            return False
        log.warning("log_stalled", bucket=self._bucket, heard=self._heard, newest=newest)
        return True

    async def _go_on(self) -> None:
        self.resyncs += 1
        await self._unsubscribe()
        self._subscription = await self._store.follow(self._hear, self._bucket, start=self._heard + 1)

    async def _replaced(self, made: str) -> None:
        await self._unsubscribe()
        self._made = made
        self._heard = self._known = self._shorter = 0
        await self._on_replaced()
        self._subscription = await self._store.follow(self._hear, self._bucket)

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._store.unfollow(subscription)
