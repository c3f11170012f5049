"""Reading a bucket's log at one's own pace: all from some revision on, or what there is now and then no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from registry.shell.entry import Entry
from registry.shell.jetstream_nats import StoreError
from registry.shell.store import Store

MAX_WAITING = 1_000
"""Entries that wait for the reader; the server sends no more of them meanwhile."""

QUIET = 10.0
"""Seconds without the next entry, which is known to be there, until the reader gives up."""


@asynccontextmanager
async def reading(
    store: Store, bucket: str | None = None, start: int = 0
) -> AsyncIterator[Callable[[], Awaitable[Entry]]]:
    """Yield what returns the next entry, and raises `StoreError` when none comes; ask only while there is one.

    An entry whose `pending` is 0 is the last one that there was when it was sent.

    Args:
        store: Where the bucket is.
        bucket: Its name; that of the agents when left out.
        start: Revision to begin with; 0 for the newest entry of each key.

    Raises:
        StoreError: If the log cannot be followed.
    """
    entries: asyncio.Queue[Entry] = asyncio.Queue(MAX_WAITING)

    async def next_entry() -> Entry:
        if not entries.empty():
            return entries.get_nowait()
        try:
            return await asyncio.wait_for(entries.get(), QUIET)
        except TimeoutError:
            raise StoreError(f"{bucket or store.bucket}: its next entry did not come within {QUIET:g} s") from None

    subscription = await store.follow(entries.put, bucket, start)
    try:
        yield next_entry
    finally:
        await store.unfollow(subscription)


async def contents(store: Store, bucket: str) -> AsyncGenerator[Entry, None]:
    """Yield what a bucket holds: the newest entry of each key, and then what is written meanwhile, up to the log's end.

    A bucket that is not there holds nothing. Where it has several copies, one that lags is waited for.

    Of a key that comes again, the last entry counts. The last entry of all is then the revision that all of it is as
    of: what was evicted from a key's history before it came has a newer one behind it.

    Raises:
        StoreError: If it cannot be read.
    """
    if not await store.made(bucket):
        return
    newest = await store.newest_revision(bucket)
    if not newest:
        return
    async with reading(store, bucket) as next_entry:
        while True:
            entry = await next_entry()
            yield entry
            if not entry.pending and entry.revision >= newest:
                return
