"""Events as they are sent: subject, payload, CloudEvents headers; the same each time that one is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from agents_sdk.protocol.events import cloud_event_headers
from agents_sdk.protocol.fields import AGENT_ID_PATTERN
from registry.core.record import Record, event_of
from registry.shell.clock import wall
from registry.shell.logs import get_logger

if TYPE_CHECKING:
    from agents_sdk.protocol.subjects import Subjects
    from registry.shell.outbox import Message
    from registry.shell.store import Store

log = get_logger(__name__)

_TOKEN = re.compile(AGENT_ID_PATTERN)


class Messages:
    """Makes events. None is what cannot be told, or need not be any more.

    Args:
        store: Says how large they may be.
        subjects: Names.
        replica: Id of this replica.
    """

    def __init__(self, store: Store, subjects: Subjects, replica: str) -> None:
        self._store = store
        self._subjects = subjects
        self._replica = replica
        self._source = f"/{subjects.prefix}"

    def status(self, record: Record, revision: int, log_name: str) -> Message | None:
        """Return the event of a revision of a record, in the log of this name."""
        event = event_of(record, revision, log_name)
        if event is None or record.change is None:
            return None
        subject = self._subjects.status_event(event["to"], record.agent_id)
        message = self._message(subject, event["event_id"], "status", record.agent_id, event, event["at"])
        if message is not None and isinstance(record.change.trace, str):
            message[2]["traceparent"] = record.change.trace
        return message

    def order(self, order: Mapping[str, Any]) -> Message | None:
        """Return the event of a scaling order."""
        if wall() > order["expires_at"]:
            return None  # it waited for the stream that long; if it still matters, it has been issued again
        subject = self._subjects.scaling_event(order["action"], order["capability"])
        return self._message(subject, order["order_id"], "scaling", order["capability"], order, order["issued_at"])

    def loss(self, event: Mapping[str, Any]) -> Message | None:
        """Return the event of an assignment that was lost."""
        subject = self._subjects.loss_event(event["agent_id"])
        return self._message(subject, event["event_id"], "assignment", event["agent_id"], event, event["at"])

    def conflict(self, event: Mapping[str, Any]) -> Message | None:
        """Return the event of a conflict: about the agent that was refused, or the rule that is broken."""
        about = event["agents"][0] if event["refused"] else event["rule"]
        subject = self._subjects.conflict_event(event["kind"])
        return self._message(subject, event["event_id"], "conflict", about, event, event["at"])

    def state(self, body: Mapping[str, Any]) -> Message | None:
        """Return the event of what happened to the registry itself."""
        subject = self._subjects.registry_event(body["what"])
        return self._message(subject, body["event_id"], "registry", self._replica, body, body["at"])

    def _message(
        self, subject: str, event_id: str, kind: str, about: str, body: Mapping[str, Any], at: float
    ) -> Message | None:
        """Return what is sent; None, logged, for what cannot be: anything may stand in a record written by hand."""
        try:
            payload = orjson.dumps(body)
            if _TOKEN.fullmatch(about) is None or len(payload) > self._store.max_event:
                raise ValueError(f"{about!r} is no token, or {len(payload)} bytes are too many")
            return subject, payload, cloud_event_headers(event_id, kind, self._source, about, at)
        except (TypeError, ValueError, OverflowError, OSError):
            log.exception("event_unmakable", subject=subject, event_id=event_id)
            return None
