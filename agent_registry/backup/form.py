"""The form of a backup: lines of JSON, of which the first says what it is and each other one is one entry of a bucket.

Pure: bytes in, checked values out, and the other way round. The records stand there as they stand in the bucket, also
those of a newer version of the registry; what a restored one becomes is decided where it is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agents_sdk.protocol.canary import Canaries
from agents_sdk.protocol.codec import adapter, check, check_nesting
from agents_sdk.protocol.conflicts import RuleChange
from agents_sdk.protocol.errors import InvalidRequestError
from agents_sdk.protocol.fields import (
    AgentId,
    Capabilities,
    Concurrency,
    Count,
    Flag,
    HealthSubject,
    HeartbeatInterval,
    HeartbeatTimeout,
    JsonObject,
    Name,
    Names,
    Number,
    Score,
    Text,
    Timestamp,
)
from agents_sdk.protocol.model import Command
from agents_sdk.protocol.registration import Connection
from agents_sdk.protocol.scaling import PolicyChange
from registry.core.errors import RefusedError
from registry.core.limits import MAX_COMMANDS, MAX_METRIC_NAME, MAX_METRICS
from registry.core.record import RECORD_VERSION, Record
from registry.shell.rules import rule_of

FORMAT: Final = "agent-registry-backup"

VERSION = 2
"""Version of the form; grows when an older reader would misunderstand it."""

MAX_LINE = 512 * 1024
"""Bytes of one line; a record of the registry is far smaller, and NATS takes 1 MiB."""

T = TypeVar("T")

Positive = Annotated[int, Field(strict=True, ge=1, le=2**53)]


class BackupError(Exception):
    """A backup is not one, or is damaged.

    Attributes:
        line: Number of the line that is wrong, from 1.
        message: The field, what is wrong with it, and what would be right.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


class Header(Command):
    """The first line: what it is, and how much."""

    format: Literal["agent-registry-backup"]
    version: Positive
    prefix: str
    """Of the registry."""
    bucket: str
    """Of its agents."""
    revision: Count
    """Of the bucket: the agents are as they were then, all of them."""
    at: Timestamp
    agents: Count
    policies: Count
    rules: Count = 0


class Line(Command):
    """Every other line: one entry of a bucket."""

    kind: Literal["agent", "policy", "rule"]
    key: AgentId
    """The agent's id; or the policy's capability, or the name of the rule, which are spelt alike."""
    revision: Count
    """Of the entry, in its bucket."""
    record: dict[str, Any]


class AgentRecord(BaseModel):
    """What a record must be to be put into the bucket: replicas check what they are told, not what they find there."""

    model_config = ConfigDict(extra="allow", frozen=True)

    v: Positive
    agent_id: AgentId
    agent_type: Name
    capabilities: Capabilities
    status: Literal["active", "degraded", "suspended", "deregistering", "offline"]
    status_reason: Text = ""
    status_note: Text | None = None
    status_since: Timestamp = 0.0
    registered_at: Timestamp = 0.0
    incarnation: Positive = 1
    instance_id: Name | None = None
    version: Name = "1.0.0"
    tags: Names = ()
    metadata: JsonObject = Field(default_factory=dict)
    heartbeat_interval: HeartbeatInterval = 30.0
    heartbeat_timeout: HeartbeatTimeout = 90.0
    health_subject: HealthSubject | None = None
    max_concurrency: Concurrency | None = None
    claims: Names = ()
    canaries: Canaries = Field(default_factory=dict)
    connection: Connection | None = None
    identity: Annotated[str, Field(strict=True)] | None = None
    health_score: Score = 1.0
    load_factor: Score = 0.0
    performance_metrics: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=MAX_METRIC_NAME)], Number], Field(max_length=MAX_METRICS)
    ] = Field(default_factory=dict)
    last_heartbeat: Timestamp = 0.0
    load_reported_at: Timestamp | None = None
    busy_until: Timestamp = 0.0
    held: Flag = False
    change_revision: Count = 0
    claims_since: dict[Annotated[str, Field(strict=True)], Count] = Field(default_factory=dict)
    commands: Annotated[tuple[Annotated[str, Field(strict=True)], ...], Field(max_length=MAX_COMMANDS)] = ()
    write_id: Annotated[str, Field(strict=True)] = ""


@dataclass(frozen=True, slots=True)
class SavedAgent:
    """An agent's record in a backup.

    Attributes:
        line: Number of its line.
        key: Its id.
        record: The record; None if it is of a newer version, in a form that is not known here.
        form: The record as it stands there.
    """

    kind: ClassVar = "agent"
    line: int
    key: str
    record: Record | None
    form: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    """A capability's scaling policy in a backup.

    Attributes:
        line: Number of its line.
        key: The capability.
        form: What the capability's own policy sets.
    """

    kind: ClassVar = "policy"
    line: int
    key: str
    form: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SavedRule:
    """A rule on conflicts in a backup.

    Attributes:
        line: Number of its line.
        key: Its name.
        form: The rule as it stands there.
    """

    kind: ClassVar = "rule"
    line: int
    key: str
    form: Mapping[str, Any]


Saved = SavedAgent | SavedPolicy | SavedRule

_HEADER = adapter(Header)
_LINE = adapter(Line)
_RECORD = adapter(AgentRecord)
_POLICY = adapter(PolicyChange)
_RULE = adapter(RuleChange)


def encode_header(prefix: str, bucket: str, revision: int, at: float, agents: int, policies: int, rules: int) -> bytes:
    """Return the first line."""
    header = Header(
        format=FORMAT, version=VERSION, prefix=prefix, bucket=bucket, revision=revision, at=at, agents=agents,
        policies=policies, rules=rules,
    )  # fmt: skip
    return orjson.dumps(header.model_dump()) + b"\n"


def encode_agent(agent_id: str, revision: int, value: bytes) -> bytes:
    """Return the line of an agent.

    Args:
        agent_id: Its key.
        revision: Of the entry.
        value: The record's JSON, as it stands in the bucket.

    Raises:
        BackupError: If it is no record that could be put back; its line number says nothing.
    """
    return _encoded("agent", agent_id, revision, value, _agent)


def encode_policy(capability: str, revision: int, value: bytes) -> bytes:
    """Return the line of a scaling policy.

    Raises:
        BackupError: If it is no policy that could be put back; its line number says nothing.
    """
    return _encoded("policy", capability, revision, value, _policy)


def encode_rule(name: str, revision: int, value: bytes) -> bytes:
    """Return the line of a rule.

    Raises:
        BackupError: If it is no rule that could be put back; its line number says nothing.
    """
    return _encoded("rule", name, revision, value, _rule)


def _encoded(
    kind: str, key: str, revision: int, value: bytes, parse: Callable[[int, str, dict[str, Any]], Saved]
) -> bytes:
    record = _object(0, value + b"\n")
    parse(0, key, record)
    return orjson.dumps({"kind": kind, "key": key, "revision": revision, "record": record}) + b"\n"


def read_header(payload: bytes) -> Header:
    """Return what the first line says.

    Raises:
        BackupError: If it is not that of a backup, or of one in a newer form.
    """
    fields = _object(1, payload)
    if fields.get("format") != FORMAT:
        raise BackupError(1, f"format: must be {FORMAT!r}; this is no backup of an agent registry")
    version = fields.get("version")
    if isinstance(version, int) and version > VERSION:
        raise BackupError(1, f"version: is {version}, and this agent-registry reads up to {VERSION}; use a newer one")
    return _checked(1, _HEADER, fields)


def read_line(number: int, payload: bytes) -> Saved:
    """Return what a line after the first one says.

    Raises:
        BackupError: If it is wrong.
    """
    if len(payload) > MAX_LINE:
        raise BackupError(number, f"has more than {MAX_LINE} bytes; no record of the registry has")
    line = _checked(number, _LINE, _object(number, payload))
    parsers: dict[str, Callable[[int, str, dict[str, Any]], Saved]]
    parsers = {"agent": _agent, "policy": _policy, "rule": _rule}
    return parsers[line.kind](number, line.key, line.record)


def _agent(number: int, key: str, form: dict[str, Any]) -> SavedAgent:
    try:
        checked = _record(number, _RECORD, form)
    except BackupError:
        version = form.get("v")
        if isinstance(version, int) and version > RECORD_VERSION:
            return SavedAgent(number, key, None, form)
        raise
    if checked.agent_id != key:
        raise BackupError(number, f"record.agent_id: must be the key, {key!r}; got {checked.agent_id!r}")
    sets = {"capabilities": checked.capabilities, "tags": checked.tags, "claims": checked.claims}
    # Which change it was does not matter any more: to be put back will be one of its own.
    return SavedAgent(number, key, Record.from_json({**form, **sets, "change": None}), form)


def _policy(number: int, key: str, form: dict[str, Any]) -> SavedPolicy:
    for name in ("capability", "reset"):
        if name in form:
            raise BackupError(number, f"record.{name}: is not a field of a policy")
    for name, value in form.items():
        if value is None:
            raise BackupError(number, f"record.{name}: must be a number, or left out; got null")
    capability = _record(number, _POLICY, {**form, "capability": key}).capability
    if capability != key:
        raise BackupError(number, f"key: must be in lower case; got {key!r}")
    return SavedPolicy(number, key, form)


def _rule(number: int, key: str, form: dict[str, Any]) -> SavedRule:
    for name in ("name", "revision", "remove"):
        if name in form:
            raise BackupError(number, f"record.{name}: is not a field of a rule")
    change = _record(number, _RULE, {**form, "name": key})
    try:
        rule = rule_of(change)
        if rule is not None:
            rule.check()
    except RefusedError as refused:
        raise BackupError(number, f"record.{refused.message}") from refused
    return SavedRule(number, key, form)


def _object(number: int, payload: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if not payload.strip():
            raise BackupError(number, "is empty") from error
        if not payload.endswith(b"\n"):
            raise BackupError(number, "ends in the middle: the backup is cut off") from error
        raise BackupError(number, f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BackupError(number, f"must be a JSON object; is {type(found).__name__}")
    return found


def _record(number: int, message: TypeAdapter[T], form: Mapping[str, Any]) -> T:
    """Check a record, in fields that nobody here knows only how deep they nest."""
    try:
        for name, value in form.items():
            check_nesting(name, value)
        return check(message, form)
    except InvalidRequestError as error:
        raise _wrong(number, error, "record.") from error


def _checked(number: int, message: TypeAdapter[T], fields: Mapping[str, Any]) -> T:
    try:
        return check(message, fields)
    except InvalidRequestError as error:
        raise _wrong(number, error, "") from error


def _wrong(number: int, error: InvalidRequestError, within: str) -> BackupError:
    return BackupError(number, "; ".join(f"{within}{fault.field}: {fault.message}" for fault in error.details))
