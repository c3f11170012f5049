"""Records as they stand in the bucket, where anybody may have written anything."""

from __future__ import annotations

from dataclasses import replace

import orjson

from registry.core.record import RECORD_VERSION, Record
from registry.shell.entry import Entry
from registry.shell.logs import get_logger

log = get_logger(__name__)

ROOM = 2048
"""Bytes that a registration leaves free in what the server takes, for changes of status to come, and for headers."""

_OF_A_REGISTRATION = ("registered", "takeover", "updated")


def is_of_newer_form(entry: Entry) -> bool:
    """Return whether a newer version of the registry wrote an entry, in a form that is not known here."""
    try:
        form = orjson.loads(entry.value)
    except orjson.JSONDecodeError:
        return False
    return isinstance(form, dict) and isinstance(form.get("v"), int) and form["v"] > RECORD_VERSION


def record_in(entry: Entry) -> Record | None:
    """Return the record that an entry holds; None for a removal by hand, and for what is no record, which is logged."""
    if not entry.value:
        return None
    try:
        record = Record.from_json(orjson.loads(entry.value))
        if record.agent_id != entry.key:
            raise ValueError(f"agent_id is {record.agent_id!r:.80}")
        return record
    except (ValueError, KeyError) as error:
        log.error("record_unreadable", key=entry.key, revision=entry.revision, error=repr(error))  # noqa: TRY400
        return None


def encoded(record: Record, removed: bool, most: int) -> bytes:
    """Return what is written of a record.

    Args:
        record: The record.
        removed: Whether it is written as a removal. What nobody needs of an agent that is gone is left out if need be.
        most: Bytes that the server takes.
    """
    value = orjson.dumps(record.to_json())
    if removed and len(value) > most - ROOM:
        value = orjson.dumps(replace(record, metadata={}, performance_metrics={}, canaries={}, extra={}).to_json())
    return value


def leaves_no_room(record: Record, value: bytes, most: int) -> bool:
    """Return whether a registration is so large that the agent, once it is there, could not be changed any more.

    Args:
        record: The record.
        value: The same, encoded.
        most: Bytes that the server takes.
    """
    change = record.change
    return (
        len(value) > most - ROOM and change is not None and not change.removed and change.reason in _OF_A_REGISTRATION
    )
