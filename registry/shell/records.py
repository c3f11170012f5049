"""Records as they stand in the bucket, where anybody may have written anything."""

from __future__ import annotations

import orjson

from registry.core.record import Record
from registry.shell.logs import get_logger
from registry.shell.store_nats import Entry

log = get_logger(__name__)


def record_in(entry: Entry) -> Record | None:
    """Return the record that an entry holds; None for a removal by hand, and for what is no record, which is logged."""
    if not entry.value:
        return None
    try:
        return Record.from_json(orjson.loads(entry.value))
    except (ValueError, KeyError) as error:
        log.error("record_unreadable", key=entry.key, revision=entry.revision, error=repr(error))  # noqa: TRY400
        return None
