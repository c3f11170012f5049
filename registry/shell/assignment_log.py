"""The log of assignments: followed to its end, and written by commits that are taken only if they know that end.

A commit goes one message after the other, each expecting the log to end with the one before, or as a batch, if that
should be quicker: how long each takes is measured. On nats-server 2.15 a message takes 0.3 ms where there is one copy;
a batch is synced to disk, which takes 3 to 20 ms, and hardly longer with more in it. Where there are three copies a
batch of ten takes as long as two messages. Servers before 2.12 have no batches.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import orjson

from registry.core.assignment import Assignment
from registry.core.assignment_events import (
    AssignmentChanged,
    AssignmentsCommitted,
    AssignmentsLearnt,
    AssignmentsListed,
    AssignmentsReplaced,
    AssignmentsUncertain,
)
from registry.core.effects import CommitAssignments, LearnAssignments
from registry.core.events import (
    Event,
)
from registry.shell.acks import Ack
from registry.shell.clock import monotonic
from registry.shell.entry import Entry
from registry.shell.jetstream_nats import StoreError, is_conflict
from registry.shell.log_reader import contents
from registry.shell.logs import get_logger
from registry.shell.progress import Progress
from registry.shell.store import AssignmentWrite, Store
from registry.shell.tail import Tail
from registry.shell.trouble import Trouble

if TYPE_CHECKING:
    from registry.shell.losses import Losses

log = get_logger(__name__)

ONE_TAKES = 0.0005
BATCH_TAKES = 0.003
"""Seconds that a message, and a batch, are taken to need before any was sent."""

FORGET = 0.99
"""Share of its time that a batch is taken to need less with each commit after it: what was slow is tried again."""

RELEASED_KEPT = 60
"""Seconds that the final form of a released assignment stays: twice as long as a log may go unheard. A thousand
assignments a second leave so many thousand of them."""

LOST_KEPT = 3600
"""The same of a lost one: longer than nobody leads, for the next leader publishes its event."""

AWAY = 30.0
"""Seconds for which the log may go unheard before the bucket is gone through."""

LEARN_PATIENCE = 10.0
"""Seconds for which the end of the log is asked for; JetStream chooses a new leader in 4 to 9."""

LOG_WAIT = 5.0
"""Seconds to wait for the log to show what it has."""

RETRY_WAIT = 0.25
"""Seconds before what failed is tried again, half as much more or less."""


class AssignmentLog:
    """Follows and writes the log of assignments.

    Args:
        store: Where the log is.
        dispatch: Takes facts.
        losses: Takes the entries of those that were lost.
    """

    def __init__(self, store: Store, dispatch: Callable[[Event], Awaitable[None]], losses: Losses) -> None:
        self._store = store
        self._dispatch = dispatch
        self._losses = losses
        self._trouble = Trouble(log)
        self._tail = Tail(store, store.assignments, self._heard, self._begin_anew, self._go_through, AWAY)
        self._progress = Progress()
        """Everything up to this revision was handed to the core."""
        self._one_takes, self._batch_takes = ONE_TAKES, BATCH_TAKES

    @property
    def resyncs(self) -> int:
        """Times that the log had fallen silent and was followed anew."""
        return self._tail.resyncs

    async def start(self) -> None:
        """Follow the log; return when all of it that exists now has been heard.

        Raises:
            StoreError: If JetStream does not answer.
        """
        await self._tail.start()

    async def stop(self) -> None:
        """Follow no longer."""
        await self._tail.stop()

    async def commit(self, order: CommitAssignments) -> None:
        """Write what is ordered, and tell the core how it ended."""
        writes = [write_of(assignment) for assignment in order.entries]
        self._batch_takes *= FORGET
        size = len(writes)
        if self._store.can_batch and size * self._one_takes > self._batch_takes:
            await self._put(order, writes, size, order.expected)
        else:
            await self._put(order, writes, 1, order.expected)

    async def _put(self, order: CommitAssignments, writes: Sequence[AssignmentWrite], size: int, expected: int) -> None:
        """Write so many entries at a time, the next when those before are there."""
        started = monotonic()

        async def ended(ack: Ack) -> None:
            if ack.seq != expected + size:
                await self._failed(order, ack)
                return
            self._note(size, monotonic() - started)
            if len(writes) > size:
                await self._put(order, writes[size:], size, ack.seq)
                return
            self._trouble.over("assignments_uncertain")
            self._tail.acknowledged(ack.seq)
            await self._dispatch(AssignmentsCommitted(monotonic(), order.number, ack.seq))

        await self._store.put_assignments(writes[:size], expected, ended)

    def _note(self, size: int, took: float) -> None:
        """Take note how long a message took, or a batch."""
        if size == 1:
            self._one_takes += (took - self._one_takes) / 8
        else:
            self._batch_takes = took

    async def _failed(self, order: CommitAssignments, ack: Ack) -> None:
        if not is_conflict(ack):
            code = ack.err_code
            self._trouble.warning("assignments_uncertain", of=code, entries=len(order.entries), err_code=code)
        await self._dispatch(failed(order))

    async def learn(self, order: LearnAssignments) -> None:
        """Hear the log up to where it ends now, and tell the core."""
        deadline, revision = monotonic() + LEARN_PATIENCE, None
        while revision is None and monotonic() < deadline:
            try:
                revision = await self._end()
            except StoreError as error:
                self._trouble.warning("assignments_unread", error=str(error))
                await asyncio.sleep(random.uniform(0.5, 1.5) * RETRY_WAIT)
        if revision is not None:
            self._trouble.over("assignments_unread")
        await self._dispatch(AssignmentsLearnt(monotonic(), order.number, revision))

    async def _end(self) -> int:
        """Return where the log ends, once all of it has been heard.

        Its last entries may have ended by their own time: then nothing is left to be heard up to its end.

        Raises:
            StoreError: If that cannot be learnt now, or the log does not show what it has.
        """
        await self._tail.go_through()
        last = (await self._store.extent(self._store.assignments)).last
        newest = await self._store.newest_revision(self._store.assignments)
        if not await self._progress.reached(newest, LOG_WAIT):
            raise StoreError(f"{self._store.assignments}: entry {newest} was not heard within {LOG_WAIT:g} s")
        return max(last, newest)

    async def _heard(self, entry: Entry) -> None:
        assignment = assignment_in(entry)
        if assignment is not None and assignment.is_lost:
            self._losses.take(entry.revision, assignment)
        await self._dispatch(AssignmentChanged(monotonic(), entry.key, assignment, entry.revision))
        self._progress.advance(entry.revision)

    async def _begin_anew(self) -> None:
        self._progress.begin_anew()
        self._losses.begin_anew()
        await self._dispatch(AssignmentsReplaced(monotonic()))

    async def _go_through(self, revision: int) -> None:
        """Forget what is not in the bucket, given that it reached to this revision before it is looked at."""
        keys = {entry.key async for entry in contents(self._store, self._store.assignments)}
        log.info("assignments_listed", revision=revision, entries=len(keys))
        await self._dispatch(AssignmentsListed(monotonic(), keys, revision))


def failed(order: CommitAssignments | LearnAssignments) -> Event:
    """Return how an order ended that could not be carried out."""
    if isinstance(order, CommitAssignments):
        return AssignmentsUncertain(monotonic(), order.number)
    return AssignmentsLearnt(monotonic(), order.number, None)


def write_of(assignment: Assignment) -> AssignmentWrite:
    """Return what is written of an assignment."""
    kept = None
    if assignment.ended is not None:
        kept = LOST_KEPT if assignment.is_lost else RELEASED_KEPT
    return AssignmentWrite(assignment.assignment_id, orjson.dumps(assignment.to_json()), kept)


def assignment_in(entry: Entry) -> Assignment | None:
    """Return the assignment that an entry holds; None for a removal by hand, and for what is none, which is logged."""
    if not entry.value:
        return None
    try:
        assignment = Assignment.from_json(orjson.loads(entry.value), entry.revision)
        if assignment.assignment_id != entry.key or (assignment.ended is None) is entry.removed:
            raise ValueError(f"{assignment.assignment_id!r:.80} does not fit its entry")
    except ValueError as error:
        log.error("assignment_unreadable", key=entry.key, revision=entry.revision, error=repr(error))  # noqa: TRY400
        return None
    return assignment
