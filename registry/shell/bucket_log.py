"""The bucket's log, folded into memory: what others wrote, our own echo, and how far it has been applied."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from registry.core.events import BucketReplaced, RecordChanged
from registry.core.record import Record
from registry.shell.clock import monotonic
from registry.shell.entry import Entry
from registry.shell.records import record_in
from registry.shell.store_nats import Store
from registry.shell.tail import Tail

MAX_OWN = 10_000
"""Own records remembered until the log shows them; a forgotten one is only parsed again."""


class BucketLog:
    """Follows the log of agents.

    Args:
        store: Where the log is.
        apply: Takes each entry that is not known yet, and that another bucket has taken the place of the one before.
        advanced: Told each entry once, in the log's order, our own as soon as it is acknowledged.
        replaced: Told, before the first entry of it, that the log is another one.
    """

    def __init__(
        self,
        store: Store,
        apply: Callable[[RecordChanged | BucketReplaced], Awaitable[None]],
        advanced: Callable[[int, Record | None], Awaitable[None]],
        replaced: Callable[[], None],
    ) -> None:
        self.revision = 0
        """Everything up to this revision is applied."""
        self._tail = Tail(store, store.bucket, self._heard, self._begin_anew)
        self._apply = apply
        self._advanced = advanced
        self._replaced = replaced
        self._own: dict[int, Record] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._restored = False

    async def start(self) -> None:
        """Follow the log; return when all of it that exists now has been applied.

        Raises:
            StoreError: If JetStream does not answer.
        """
        await self._tail.start()
        self._restored = True

    @property
    def resyncs(self) -> int:
        """Times that the log had fallen silent and was followed anew."""
        return self._tail.resyncs

    async def stop(self) -> None:
        """Follow no longer."""
        await self._tail.stop()

    async def committed(self, record: Record, revision: int) -> None:
        """Note an own write that was acknowledged. If it is the next entry, there is no need to wait for its echo."""
        if revision == self.revision + 1 and self._restored:
            await self._advance(revision, record)
        elif revision > self.revision:
            self._own[revision] = record
            if len(self._own) > MAX_OWN:
                del self._own[next(iter(self._own))]

    async def reached(self, revision: int, within: float) -> bool:
        """Wait until a revision is applied; return whether it came within so many seconds."""
        if revision <= self.revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        try:
            await asyncio.wait_for(future, within)
        except TimeoutError:
            return False
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not future]
        return True

    async def _heard(self, entry: Entry) -> None:
        if entry.revision > self.revision:
            record = self._own.pop(entry.revision, None)
            if record is None:
                record = record_in(entry)
                if record is not None or entry.removed or not entry.value:
                    await self._apply(RecordChanged(monotonic(), entry.key, record, entry.revision, entry.swept))
            await self._advance(entry.revision, record)

    async def _begin_anew(self) -> None:
        self.revision = 0
        self._own.clear()
        self._replaced()
        await self._apply(BucketReplaced(monotonic()))

    async def _advance(self, revision: int, record: Record | None) -> None:
        self.revision = revision
        for wanted, future in self._waiting:
            if wanted <= revision and not future.done():
                future.set_result(None)
        await self._advanced(revision, record)
