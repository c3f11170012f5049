"""How far events tell what happened, while more happens."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from agent_registry.doctor import projection as module
from agent_registry.doctor.facts import Gap, Projection
from agent_registry.doctor.inquiry import Entry, Inquiry
from agents_sdk.protocol.subjects import Subjects
from tests.cli.deployment import facts
from tests.core.make import make_record

SUBJECTS = Subjects("registry")


class Busy:
    """A registry to which changes come between any two questions; `events` are their newest, look by look."""

    def __init__(self, last: int, *events: int) -> None:
        self._last = last
        self._events = list(events)

    async def newest(self, _stream: str, _subject: str) -> Entry:
        revision = self._events.pop(0) if len(self._events) > 1 else self._events[0]
        return Entry(revision, 0.0, orjson.dumps({"revision": revision}))

    async def ask(self, _subject: str) -> dict[str, Any]:
        return {"state": {"last_seq": self._last}}

    async def entries(self, _stream: str, _subject: str, start: int) -> tuple[list[Entry], int]:
        change = {"from": "active", "reason": "operator", "at": 1.0, "previous_revision": 1}
        document = orjson.dumps({**make_record("a").to_json(), "change": change})
        return [Entry(revision, 0.0, document) for revision in range(start, self._last + 1)], 0


async def _look(busy: Busy) -> Any:
    known = facts()
    return await module.projection(cast("Inquiry", busy), SUBJECTS, known.agents, known.events, 100.0)


async def test_events_of_later_changes_do_not_make_the_bucket_one_that_was_made_anew() -> None:
    """Revision 12 was the newest when the bucket was asked; then there were events up to 20."""
    assert await _look(Busy(12, 9, 11, 20)) == Projection(9, 12)


async def test_a_change_without_an_event_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENT_TIMEOUT", 0.1)
    monkeypatch.setattr(module, "EVENT_INTERVAL", 0.01)
    found = await _look(Busy(12, 9, 10))
    assert (found.newest_event, found.last_revision, found.gap.revision) == (10, 12, 11)
    assert isinstance(found.gap, Gap)
