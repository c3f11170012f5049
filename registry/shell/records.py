"""Records as they stand in the bucket, where anybody may have written anything."""

from __future__ import annotations

import orjson

from registry.core.record import RECORD_VERSION, Record
from registry.shell.entry import Entry
from registry.shell.logs import get_logger

log = get_logger(__name__)


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
