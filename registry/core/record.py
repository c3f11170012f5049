"""What is durable of an agent: one record a key in the bucket, never changed in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from registry.core.flapping import FLAPS
from registry.core.form import (
    CHANGE_TYPES,
    MAX_NUMBER,
    RECORD_TYPES,
    check_canaries,
    check_counts,
    check_free,
    check_metrics,
    check_names,
)
from registry.core.status import Status

RECORD_VERSION = 1
"""Version of the record's form. A newer one is kept and served as far as it is understood."""

EVENT_VERSION = 1
"""Version of the form of events; grows when a field changes its meaning, not when one is added."""


_NO_CLAIMS: Mapping[str, int] = {}
_NO_CANARIES: Mapping[str, Mapping[str, Any]] = {}


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
    status_note: str | None = None
    """What whoever asked for the status gave as the reason, in their own words."""
    status_since: float = 0.0
    held: bool = False
    """Whether an operator suspended it, which outlives its being offline: only an operator's resume lifts it."""
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
    canaries: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _NO_CANARIES)
    """Capability to the canary that was declared for it; see `canaries`."""
    connection: Mapping[str, Any] | None = None
    adopted: Mapping[str, Any] | None = None
    """What it was adopted from: `protocol`, `service`, `endpoints` as topic to subject; None if it registers itself."""
    identity: str | None = None
    """Who registered it, as the NATS server vouches; None where identities are not verified."""
    health_score: float = 1.0
    load_factor: float = 0.0
    performance_metrics: Mapping[str, float] = field(default_factory=dict)
    last_heartbeat: float = 0.0
    load_reported_at: float | None = None
    busy_until: float = 0.0
    """Until when it said that its silence means that it is busy."""
    change_revision: int = 0
    """Revision of the last change when this revision only saves a checkpoint; 0 when it is a change itself."""
    claims_since: Mapping[str, int] = field(default_factory=lambda: _NO_CLAIMS)
    """Revision of the write that made a claim, for those that this one did not make."""
    write_id: str = ""
    """Names the write that made this revision, so that a write of unknown outcome can be recognised."""
    commands: tuple[str, ...] = ()
    """The last commands that changed it, oldest first, by the names that their senders gave them. One of these that
    comes again, however late and to whichever replica, has been carried out."""
    flaps: Mapping[str, float] | None = None
    """How often it came back after it was gone, silent or hung, see `flapping`; None if it never did."""
    change: Change | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a newer version, kept as they are."""

    @property
    def is_removal(self) -> bool:
        """Whether it is the last one of an agent that is gone."""
        return self.change is not None and self.change.removed

    def since(self, revision: int) -> Mapping[str, int]:
        """Return the revision of the write that made each claim, given the revision that this record has itself."""
        return {claim: self.claims_since.get(claim, revision) for claim in self.claims} if self.claims else _NO_CLAIMS

    def held_on(self, known: Record, revision: int) -> Mapping[str, int]:
        """Return since when it has those of its claims that its agent holds already.

        Args:
            known: The record that this one follows.
            revision: The revision of that.
        """
        if known.status is Status.OFFLINE or not self.claims:
            return _NO_CLAIMS
        return {claim: since for claim, since in known.since(revision).items() if claim in self.claims}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, readable with `nats kv get`."""
        form: dict[str, Any] = {
            "v": RECORD_VERSION,
            "agent_id": self.agent_id,
            "agent_type": self.agent_type,
            "capabilities": self.capabilities,
            "status": self.status,
            "status_reason": self.status_reason,
            "status_note": self.status_note,
            "status_since": self.status_since,
            "held": self.held,
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
            "busy_until": self.busy_until,
            "change_revision": self.change_revision,
            "claims_since": self.claims_since,
            "write_id": self.write_id,
            "commands": self.commands,
        }
        if self.adopted is not None:
            form["adopted"] = self.adopted
        if self.canaries:
            form["canaries"] = self.canaries
        if self.flaps is not None:
            form["flaps"] = self.flaps
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
            KeyError, ValueError: If it is not a record, or holds what no record of the registry's own would.
        """
        try:
            record = cls._parsed(form)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from error
        _check(record)
        return record

    @classmethod
    def _parsed(cls, form: Mapping[str, Any]) -> Record:
        # One loop, and values by position instead of by name: a cold start spends much of its time here.
        values: list[Any] = []
        for name, types, default in _FORM:
            value = form.get(name, default)
            if type(value) not in types:
                raise KeyError(name) if value is MISSING else ValueError(f"{name} is {value!r:.80}")
            values.append(value)
        record = cls(*values)
        record.status = _STATUS[record.status]
        # What does not know of holds yet does not write them, or carries on one that it has lifted.
        if "held" not in form:
            record.held = record.status is Status.SUSPENDED and record.status_reason == "operator"
        elif record.held:
            record.held = record.status not in (Status.ACTIVE, Status.DEGRADED)
        record.capabilities, record.tags = tuple(record.capabilities), tuple(record.tags)
        record.claims, record.commands = tuple(record.claims), tuple(record.commands)
        if record.change is not None:
            record.change = _change(form["change"])
        if not form.keys() <= _NAMES:
            record.extra = {name: value for name, value in form.items() if name not in _NAMES}
        if form["v"] > RECORD_VERSION:
            record.extra = {**record.extra, "v": form["v"]}
        return record


_STATUS = {str(status): status for status in Status}
_NAMES = frozenset((*RECORD_TYPES, "v"))


def _default(item: Field[Any]) -> Any:
    """Return what stands for a field that the form does not have: of an older version, or nothing for a checkpoint."""
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return list(default) if isinstance(default, tuple) else default


_FORM = tuple((item.name, RECORD_TYPES[item.name], _default(item)) for item in fields(Record) if item.name != "extra")
"""Name, types and default of each field, in the order in which `Record` takes them."""


def _check(record: Record) -> None:
    """Check what the types leave open.

    Raises:
        ValueError: Naming what is wrong.
    """
    if not (0.0 <= record.health_score <= 1.0 and 0.0 <= record.load_factor <= 1.0):
        raise ValueError(f"health_score {record.health_score}, load_factor {record.load_factor}: not from 0 to 1")
    if record.heartbeat_interval <= 0 or record.heartbeat_timeout <= 0:
        raise ValueError(f"heartbeats: interval {record.heartbeat_interval}, timeout {record.heartbeat_timeout}")
    if not (1 <= record.incarnation <= MAX_NUMBER and 0 <= record.change_revision <= MAX_NUMBER):
        raise ValueError(f"incarnation {record.incarnation}, change_revision {record.change_revision}: out of range")
    check_names("capabilities", record.capabilities)
    check_names("tags", record.tags)
    check_names("claims", record.claims)
    check_names("commands", record.commands)
    check_counts("claims_since", record.claims_since)
    check_metrics(record.performance_metrics)
    if record.flaps is not None:
        check_metrics(record.flaps)
        if not record.flaps.keys() >= FLAPS:
            raise ValueError(f"flaps is {record.flaps!r:.80}, without {sorted(FLAPS - record.flaps.keys())}")
        if not all(0 <= number <= MAX_NUMBER for number in record.flaps.values()):
            raise ValueError(f"flaps is {record.flaps!r:.80}: out of range")
    if record.canaries:
        check_canaries(record.canaries)
    free = (record.metadata, record.canaries, record.connection, record.adopted)
    check_free("metadata, canaries, connection or adopted", free)
    check_free("what is not known", record.extra.values())


def _change(form: Mapping[str, Any]) -> Change:
    for name, value in form.items():
        if name in CHANGE_TYPES and type(value) not in CHANGE_TYPES[name]:
            raise ValueError(f"change.{name} is {value!r:.80}")
    return Change(
        _STATUS[form["from"]],
        form["reason"],
        form["at"],
        form["previous_revision"],
        form.get("note"),
        form.get("removed", False),
        form.get("trace"),
        form.get("epoch"),
    )


def event_of(record: Record, revision: int, log: str) -> dict[str, Any] | None:
    """Return the status event that a revision of a record stands for, or None if it changed nothing to speak of.

    A pure function of one entry of the bucket's log, so that whoever publishes it publishes the same. The log's name is
    that of the bucket and of when it was made: in a bucket that was made anew the same revision is another change.
    """
    change = record.change
    if change is None:
        return None
    return {
        "v": EVENT_VERSION,
        "event_id": f"{log}:{revision}",
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


def revision_of(event_id: str, log: str) -> int | None:
    """Return the revision whose status event has an id, or None if that is no such id, or one of another log.

    Before logs had a name, ids were made of the bucket's alone; such an event is taken for this log's.
    """
    name, _, number = event_id.rpartition(":")
    known = name in (log, log.partition(":")[0])
    return int(number) if known and number.isascii() and number.isdecimal() and len(number) < 20 else None
