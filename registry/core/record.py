"""What is durable of an agent: one record a key in the bucket, never changed in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from registry.core.status import Status

RECORD_VERSION = 1
"""Version of the record's form. A newer one is kept and served as far as it is understood."""

EVENT_VERSION = 1
"""Version of the form of events; grows when a field changes its meaning, not when one is added."""


@dataclass(slots=True)
class Change:
    """The change that a record's newest revision made; absent from revisions that only saved a checkpoint.

    Never changed after it was made, like the record; not `frozen`, which makes building one four times as slow.
    """

    previous: Status
    reason: str
    at: float
    """Unix time, s."""
    previous_revision: int
    """Revision of the change before; 0 for the first."""
    note: str | None = None
    removed: bool = False
    trace: str | None = None
    """W3C `traceparent` of the request that asked for it."""
    epoch: int | None = None
    """Of the leader that decided it by itself; None for a command's."""


@dataclass(slots=True)
class Record:
    """Everything of an agent that outlives the registry's processes. Times are Unix seconds, durations seconds.

    Never changed after it was made: a change makes another one.
    """

    agent_id: str
    agent_type: str
    capabilities: tuple[str, ...]
    status: Status = Status.REGISTERING
    status_reason: str = "registered"
    status_since: float = 0.0
    registered_at: float = 0.0
    incarnation: int = 1
    instance_id: str | None = None
    version: str = "1.0.0"
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    heartbeat_interval: float = 30.0
    heartbeat_timeout: float = 90.0
    health_subject: str | None = None
    max_concurrency: int | None = None
    claims: tuple[str, ...] = ()
    connection: Mapping[str, Any] | None = None
    identity: str | None = None
    """Who registered it, as the NATS server vouches; None where identities are not verified."""
    health_score: float = 1.0
    load_factor: float = 0.0
    performance_metrics: Mapping[str, float] = field(default_factory=dict)
    last_heartbeat: float = 0.0
    load_reported_at: float | None = None
    change_revision: int = 0
    """Revision of the last change when this revision only saves a checkpoint; 0 when it is a change itself."""
    write_id: str = ""
    """Names the write that made this revision, so that a write of unknown outcome can be recognised."""
    commands: tuple[str, ...] = ()
    """The last commands that changed it, oldest first, by the names that their senders gave them. One of these that
    comes again, however late and to whichever replica, has been carried out."""
    change: Change | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version, kept as they are."""

    @property
    def held(self) -> bool:
        """Whether an operator suspended it."""
        return self.status is Status.SUSPENDED and self.status_reason == "operator"

    @property
    def is_removal(self) -> bool:
        """Whether it is the last one of an agent that is gone."""
        return self.change is not None and self.change.removed

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, readable with `nats kv get`."""
        form: dict[str, Any] = {
            "v": RECORD_VERSION,
            "agent_id": self.agent_id,
            "agent_type": self.agent_type,
            "capabilities": self.capabilities,
            "status": self.status,
            "status_reason": self.status_reason,
            "status_since": self.status_since,
            "registered_at": self.registered_at,
            "incarnation": self.incarnation,
            "instance_id": self.instance_id,
            "version": self.version,
            "tags": self.tags,
            "metadata": self.metadata,
            "heartbeat_interval": self.heartbeat_interval,
            "heartbeat_timeout": self.heartbeat_timeout,
            "health_subject": self.health_subject,
            "max_concurrency": self.max_concurrency,
            "claims": self.claims,
            "connection": self.connection,
            "identity": self.identity,
            "health_score": self.health_score,
            "load_factor": self.load_factor,
            "performance_metrics": self.performance_metrics,
            "last_heartbeat": self.last_heartbeat,
            "load_reported_at": self.load_reported_at,
            "change_revision": self.change_revision,
            "write_id": self.write_id,
            "commands": self.commands,
        }
        if self.change is not None:
            change = self.change
            form["change"] = {
                "from": change.previous,
                "reason": change.reason,
                "at": change.at,
                "previous_revision": change.previous_revision,
                "note": change.note,
                "removed": change.removed,
                "trace": change.trace,
                "epoch": change.epoch,
            }
        if self.extra:
            form.update(self.extra)
        return form

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Record:
        """Build from the JSON form.

        Raises:
            KeyError, ValueError: If it is not a record.
        """
        try:
            return cls._parsed(form)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from error

    @classmethod
    def _parsed(cls, form: Mapping[str, Any]) -> Record:
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in form.items():
            if name in _PLAIN:
                known[name] = value
            elif name not in ("v", "change"):
                extra[name] = value
        if form["v"] > RECORD_VERSION:
            extra["v"] = form["v"]
        for name in ("capabilities", "tags", "claims", "commands"):
            known[name] = tuple(known.get(name, ()))
        known["status"] = _STATUS[known["status"]]
        change = form.get("change")
        if change is not None:
            known["change"] = Change(
                previous=_STATUS[change["from"]],
                reason=change["reason"],
                at=change["at"],
                previous_revision=change["previous_revision"],
                note=change.get("note"),
                removed=change.get("removed", False),
                trace=change.get("trace"),
                epoch=change.get("epoch"),
            )
        return cls(**known, extra=extra)


_PLAIN = frozenset(item.name for item in fields(Record)) - {"change", "extra"}
_STATUS = {str(status): status for status in Status}


def event_of(record: Record, revision: int, bucket: str) -> dict[str, Any] | None:
    """Return the status event that a revision of a record stands for, or None if it changed nothing to speak of.

    A pure function of one entry of the bucket's log, so that whoever publishes it publishes the same.
    """
    change = record.change
    if change is None:
        return None
    return {
        "v": EVENT_VERSION,
        "event_id": f"{bucket}:{revision}",
        "agent_id": record.agent_id,
        "agent_type": record.agent_type,
        "capabilities": record.capabilities,
        "from": change.previous,
        "to": record.status,
        "reason": change.reason,
        "note": change.note,
        "removed": change.removed,
        "incarnation": record.incarnation,
        "revision": revision,
        "previous_revision": change.previous_revision,
        "epoch": change.epoch,
        "at": change.at,
    }


def revision_of(event_id: str, bucket: str) -> int | None:
    """Return the revision whose status event has an id, or None if that is no such id."""
    name, _, number = event_id.rpartition(":")
    return int(number) if name == bucket and number.isascii() and number.isdecimal() and len(number) < 20 else None
