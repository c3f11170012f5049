"""The bucket's log, folded into memory: what others wrote, our own echo, and how far it has been applied.

The core learns an entry, `revision` says so, and the projector takes it, all in one step without an `await`: whoever
waited for a revision finds it in the state, and the projector hears each entry once, in the log's order. What follows
from an entry may have to wait until the connection takes it, and is done after that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from registry.core.effects import Effect
from registry.core.events import BucketListed, BucketReplaced, Event, RecordChanged, WriteCommitted
from registry.core.record import Record
from registry.shell.clock import monotonic
from registry.shell.entry import Entry
from registry.shell.log_reader import contents
from registry.shell.logs import get_logger
from registry.shell.progress import Progress
from registry.shell.records import record_in
from registry.shell.store import Store
from registry.shell.tail import Tail

if TYPE_CHECKING:
    from registry.shell.projector import Projector

log = get_logger(__name__)

MAX_OWN = 10_000
"""Own records remembered until the log shows them; a forgotten one is only parsed again."""


class BucketLog:
    """Follows the log of agents.

    Args:
        store: Where the log is.
        decide: The core: takes a fact at once, and returns what is to be done.
        perform: Does it.
        projector: Takes each entry once, in the log's order, our own as soon as it is acknowledged.
    """

    def __init__(
        self,
        store: Store,
        decide: Callable[[Event], list[Effect]],
        perform: Callable[[Iterable[Effect]], Awaitable[None]],
        projector: Projector,
    ) -> None:
        self._progress = Progress()
        self._tail = Tail(store, store.bucket, self._heard, self._begin_anew, self._go_through)
        self._store = store
        self._decide = decide
        self._perform = perform
        self._projector = projector
        self._own: dict[int, Record] = {}
        self._restored = False
        self._anew = False
        """Whether the bucket was made anew, and has not been caught up with."""

    async def start(self) -> None:
        """Follow the log; return when all of it that exists now has been applied.

        Raises:
            StoreError: If JetStream does not answer.
        """
        await self._tail.start()
        self._restored = True
        self._projector.restored(self.revision, self._tail.log_name)

    @property
    def resyncs(self) -> int:
        """Times that the log had fallen silent and was followed anew."""
        return self._tail.resyncs

    async def stop(self) -> None:
        """Follow no longer."""
        await self._tail.stop()

    async def committed(self, record: Record, fact: WriteCommitted) -> None:
        """Take an own write that was acknowledged. If it is the next entry, there is no need to wait for its echo."""
        effects = self._decide(fact)
        self._tail.acknowledged(fact.revision)
        if self._restored and fact.revision == self.revision + 1:
            self._advance(fact.revision, record)
        elif fact.revision > self.revision:
            self._own[fact.revision] = record
            if len(self._own) > MAX_OWN:
                del self._own[next(iter(self._own))]
        await self._follow_up(effects)

    @property
    def revision(self) -> int:
        """Everything up to this revision is applied."""
        return self._progress.revision

    async def reached(self, revision: int, within: float) -> bool:
        """Wait until a revision is applied; return whether it came within so many seconds."""
        return await self._progress.reached(revision, within)

    async def _heard(self, entry: Entry) -> None:
        if entry.revision <= self.revision:
            return
        while self._own and (passed := next(iter(self._own))) < entry.revision:
            # Its echo never comes: newer revisions of the agent have pushed it out of the bucket.
            self._advance(passed, self._own.pop(passed))
        record = self._own.pop(entry.revision, None)
        effects: list[Effect] = []
        if record is None:
            record = record_in(entry)
            if record is not None or entry.removed or not entry.value:
                effects = self._decide(RecordChanged(monotonic(), entry.key, record, entry.revision, entry.swept))
        self._advance(entry.revision, record)
        if self._anew and entry.pending == 0:
            self._anew, self._restored = False, True
            self._projector.restored(self.revision, self._tail.log_name)
        await self._follow_up(effects)

    async def _follow_up(self, effects: Iterable[Effect]) -> None:
        """Do what follows from an entry: somebody may wait for it, also when its event cannot be published."""
        try:
            await self._projector.pump()
        finally:
            await self._perform(effects)

    async def _begin_anew(self) -> None:
        self._progress.begin_anew()
        self._own.clear()
        self._restored = False
        self._anew = True
        await self._projector.begin_anew()
        await self._perform(self._decide(BucketReplaced(monotonic())))

    async def _go_through(self, revision: int) -> None:
        """Forget who is not in the bucket, given that it reached to this revision before it is looked at."""
        agent_ids = {entry.key async for entry in contents(self._store, self._store.bucket)}
        log.info("bucket_listed", revision=revision, agents=len(agent_ids))
        await self._perform(self._decide(BucketListed(monotonic(), agent_ids, revision)))

    def _advance(self, revision: int, record: Record | None) -> None:
        if revision <= self.revision:
            return
        self._progress.advance(revision)
        if self._restored:
            self._projector.take(revision, record)
