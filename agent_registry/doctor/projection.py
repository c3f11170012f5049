"""How far the stream of events tells what happened in the bucket of agents."""

from __future__ import annotations

import asyncio
import time

from agent_registry.doctor.facts import Gap, Projection, Stream, Unseen, Why
from agent_registry.doctor.inquiry import Entry, Inquiry
from agents_sdk.protocol.subjects import Subjects
from registry.core.record import Record, event_of

EVENT_TIMEOUT = 2.0
"""Seconds that an event may take to follow its change; it takes milliseconds."""

EVENT_INTERVAL = 0.2
"""Seconds between two looks for an event that is not there yet."""


async def projection(
    inquiry: Inquiry, subjects: Subjects, agents: Stream | Unseen, events: Stream | Unseen, now: float
) -> Projection | Unseen:
    """Return how far events have been published.

    Args:
        inquiry: Asks.
        subjects: Names of the registry.
        agents: The bucket.
        events: The stream of events.
        now: Unix time of the servers.
    """
    if isinstance(agents, Unseen) or isinstance(events, Unseen):
        return Unseen(Why.ABSENT)
    seen_at = time.monotonic()
    newest = await _newest_event(inquiry, subjects)
    if isinstance(newest, Unseen):
        return newest
    if newest is None and events.first_seq > 1:
        return Unseen(Why.ABSENT)  # it let them go, and with them how far they told
    # Asked after the event, so that no event can be of a later change.
    info = await inquiry.ask(f"$JS.API.STREAM.INFO.{agents.name}")
    if isinstance(info, Unseen):
        return info
    last, start = int(info["state"]["last_seq"]), 1 if newest is None else newest + 1
    if start > last:
        return Projection(newest, last)
    found = await inquiry.entries(agents.name, f"$KV.{subjects.agents_bucket}.>", start)
    if isinstance(found, Unseen):
        return found
    entries, more = found
    # Events come in the order of changes: when the last change has one, so have all.
    change = next((entry for entry in reversed(entries) if _is_change(entry)), None)
    if change is not None:
        # Meanwhile there may be events of changes that came after the bucket was asked; those are of no interest here.
        told = await _await_event(inquiry, subjects, change.sequence, newest)
        if told is None or told < change.sequence:
            oldest = _first_untold(entries, told or 0)
            age = now + time.monotonic() - seen_at - oldest.at
            return Projection(told, last, Gap(oldest.sequence, max(0.0, age)))
    return Projection(newest, last, searched_to=entries[-1].sequence if more and entries else None)


def _first_untold(entries: list[Entry], newest: int) -> Entry:
    return next(entry for entry in entries if entry.sequence > newest and _is_change(entry))


def _is_change(entry: Entry) -> bool:
    """Return whether the registry makes an event of an entry: not of saved vitals, nor of what somebody else wrote."""
    try:
        record = Record.from_json(entry.document)
    except (KeyError, ValueError):
        return False
    return event_of(record, entry.sequence, "") is not None


async def _await_event(inquiry: Inquiry, subjects: Subjects, revision: int, known: int | None) -> int | None:
    """Return the newest event's revision, when it has reached a revision or had the time to."""
    deadline = time.monotonic() + EVENT_TIMEOUT
    while time.monotonic() < deadline:
        newest = await _newest_event(inquiry, subjects)
        if isinstance(newest, int):
            known = newest
            if known >= revision:
                break
        await asyncio.sleep(EVENT_INTERVAL)
    return known


async def _newest_event(inquiry: Inquiry, subjects: Subjects) -> int | Unseen | None:
    """Return the revision of the newest status event; None if there is none."""
    event = await inquiry.newest(subjects.events_stream, subjects.events_of("status"))
    if isinstance(event, Unseen):
        return None if event.why is Why.ABSENT else event
    return int(event.document.get("revision", 0))
