"""Putting a backup back: writes to the buckets, each a compare-and-set, many on their way at once.

What the registry has of an agent is looked up only when it is likely to be there, or turns out to be: most of a backup
is put back where nothing is. Replicas learn what was written from the bucket's log, like all that others write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from agent_registry.backup.form import Saved, SavedAgent, SavedPolicy, SavedRule
from registry.core.restore import Found, Kept, Why, restore
from registry.core.status import Status
from registry.shell.acks import Ack
from registry.shell.clock import wall
from registry.shell.entry import Entry
from registry.shell.jetstream_nats import StoreError
from registry.shell.log_reader import contents
from registry.shell.policies import key_of
from registry.shell.records import is_of_newer_form, record_in
from registry.shell.rules import RULE
from registry.shell.store import Store

IN_FLIGHT = 256
"""Entries that are being put back at once."""

ATTEMPTS = 5
"""Times an entry is decided anew because somebody else changed it."""


class Outcome(Enum):
    """What became of an entry; the value is its word for a person."""

    RESTORED = "restored"
    REPLACED = "replaced"
    THERE = "there already"
    SAME = "the same already"
    NEWER = "there already, of a newer version"
    CLAIMED = "refused"


_KEPT = {Why.THERE: Outcome.THERE, Why.SAME: Outcome.SAME, Why.CLAIMED: Outcome.CLAIMED}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an entry, and what else there is to say."""

    outcome: Outcome
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Put:
    value: bytes
    expected: int
    outcome: Outcome


class Restorer:
    """Puts entries back.

    Args:
        store: Where to.
        name: Names this import: what it writes can be told from all else.
        claimed: Claims that agents of the registry hold, with who does.
        overwrite: Whether what is there is replaced.
        dry_run: Whether nothing is written, only looked up.
        has_agents: Whether the bucket of agents is there. A dry run makes none.
        has_settings: Whether the control bucket is there.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        claimed: Mapping[str, str],
        *,
        overwrite: bool,
        dry_run: bool,
        has_agents: bool = True,
        has_settings: bool = True,
    ) -> None:
        self._store = store
        self._name = name
        self._claimed = claimed
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._likely_there = dry_run or overwrite
        """Whether the next agent will be there, as the one before was; a wrong guess costs a request."""
        self._has_agents = has_agents
        self._has_settings = has_settings

    async def run(self, saved: Iterable[Saved], report: Callable[[Saved, Result], None]) -> None:
        """Put everything back; report on each entry in order.

        Raises:
            StoreError: If JetStream does not take or tell something; what was put back until then stays.
            BackupError: What `saved` raises.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                window: deque[tuple[Saved, asyncio.Task[Result]]] = deque()
                for each in saved:
                    window.append((each, tasks.create_task(self._restored(each))))
                    if len(window) >= IN_FLIGHT:
                        oldest, task = window.popleft()
                        report(oldest, await task)
                for oldest, task in window:
                    report(oldest, await task)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _restored(self, saved: Saved) -> Result:
        if isinstance(saved, SavedPolicy):
            return await self._setting(key_of(saved.key), saved.form)
        if isinstance(saved, SavedRule):
            return await self._setting(RULE + saved.key, saved.form)
        result = await self._agent(saved)
        self._likely_there = self._dry_run or result.outcome is not Outcome.RESTORED
        return result

    async def _agent(self, saved: SavedAgent) -> Result:
        write_id, now, tried = f"{self._name}-{saved.line}", round(wall(), 3), None
        entry = await self._look(saved.key) if self._likely_there else None
        for _ in range(ATTEMPTS):
            if tried is not None and entry is not None and entry.value == tried.value:
                return Result(tried.outcome)  # it took place, only nobody said so
            step = self._step(saved, entry, now, write_id)
            if isinstance(step, Result):
                return step
            if self._dry_run or (await self._put(saved.key, step)).seq:
                return Result(step.outcome)
            tried, entry = step, await self._look(saved.key)
        raise StoreError(f"{saved.key} cannot be written: it is being changed by others, or JetStream does not take it")

    def _step(self, saved: SavedAgent, entry: Entry | None, now: float, write_id: str) -> _Put | Result:
        """Decide what to do on what the bucket has."""
        record = None if entry is None else record_in(entry)
        revision = 0 if entry is None else entry.revision
        if entry is not None and record is None and is_of_newer_form(entry):
            return Result(Outcome.NEWER)
        if saved.record is None:  # in a form that is not known here: as it is, or not at all
            if record is not None:
                return Result(Outcome.THERE, "its record in the backup is of a newer version")
            return _Put(orjson.dumps(saved.form), revision, Outcome.RESTORED)
        found = Found(record, revision)
        order = restore(saved.record, found, self._claimed, self._overwrite, now, write_id)
        if isinstance(order, Kept):
            return Result(_KEPT[order.why], order.note)
        value = orjson.dumps(order.record.to_json())
        return _Put(value, order.expected, Outcome.REPLACED if found.is_there else Outcome.RESTORED)

    async def _look(self, agent_id: str) -> Entry | None:
        return await self._store.read(agent_id) if self._has_agents else None

    async def _put(self, agent_id: str, put: _Put) -> Ack:
        ended: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()

        async def on_ack(ack: Ack) -> None:
            if not ended.done():  # nobody waits any more when the import was given up
                ended.set_result(ack)

        await self._store.put(agent_id, put.value, put.expected, False, on_ack)
        return await ended

    async def _setting(self, key: str, form: Mapping[str, Any]) -> Result:
        for _ in range(ATTEMPTS):
            entry = await self._store.read_control(key) if self._has_settings else None
            is_there = entry is not None and not entry.removed
            if entry is not None and is_there:
                if entry.value == orjson.dumps(form):
                    return Result(Outcome.SAME)
                if not self._overwrite:
                    return Result(Outcome.THERE)
            outcome = Outcome.REPLACED if is_there else Outcome.RESTORED
            if self._dry_run:
                return Result(outcome)
            if await self._store.put_control(key, form, 0 if entry is None else entry.revision) is not None:
                return Result(outcome)
        raise StoreError(f"{key} cannot be written: it is being changed by others")


async def holders(store: Store, claims: set[str]) -> dict[str, str]:
    """Return which agents of the registry hold some of these claims.

    Raises:
        StoreError: If the log cannot be read.
    """
    held: dict[str, str] = {}
    async with aclosing(contents(store, store.bucket)) as entries:
        async for entry in entries:
            for claim in [claim for claim, holder in held.items() if holder == entry.key]:
                del held[claim]
            record = None if entry.removed else record_in(entry)
            if record is not None and record.status is not Status.OFFLINE:
                held.update({claim: entry.key for claim in record.claims if claim in claims})
    return held
