"""The JSON form of a record: which types its fields have. Anybody may have written what stands in the bucket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

MAX_NUMBER = 2**53
"""The largest count that every JSON reader takes as it is."""

MAX_CANARY_TIMEOUT = 60.0
"""Seconds, as on the wire: one that is under way takes a place."""

MAX_NESTING = 64
"""Deepest nesting of what is free-form: what was read as JSON can be too deep to be written as JSON again."""

_TEXT = frozenset((str,))
_TEXT_OR_NONE = frozenset((str, NoneType))
_COUNT = frozenset((int,))
_COUNT_OR_NONE = frozenset((int, NoneType))
_NUMBER = frozenset((int, float))
_NUMBER_OR_NONE = frozenset((int, float, NoneType))
_LIST = frozenset((list, tuple))
_OBJECT = frozenset((dict,))
_OBJECT_OR_NONE = frozenset((dict, NoneType))
_FLAG = frozenset((bool,))

RECORD_TYPES: dict[str, frozenset[Any]] = {
    "agent_id": _TEXT,
    "agent_type": _TEXT,
    "capabilities": _LIST,
    "status": _TEXT,
    "status_reason": _TEXT,
    "status_note": _TEXT_OR_NONE,
    "status_since": _NUMBER,
    "held": _FLAG,
    "registered_at": _NUMBER,
    "incarnation": _COUNT,
    "instance_id": _TEXT_OR_NONE,
    "version": _TEXT,
    "tags": _LIST,
    "metadata": _OBJECT,
    "heartbeat_interval": _NUMBER,
    "heartbeat_timeout": _NUMBER,
    "health_subject": _TEXT_OR_NONE,
    "max_concurrency": _COUNT_OR_NONE,
    "claims": _LIST,
    "canaries": _OBJECT,
    "connection": _OBJECT_OR_NONE,
    "adopted": _OBJECT_OR_NONE,
    "identity": _TEXT_OR_NONE,
    "health_score": _NUMBER,
    "load_factor": _NUMBER,
    "performance_metrics": _OBJECT,
    "last_heartbeat": _NUMBER,
    "load_reported_at": _NUMBER_OR_NONE,
    "busy_until": _NUMBER,
    "change_revision": _COUNT,
    "claims_since": _OBJECT,
    "write_id": _TEXT,
    "commands": _LIST,
    "flaps": _OBJECT_OR_NONE,
    "change": _OBJECT_OR_NONE,
}
"""The exact types of each field of a record; a number need not have a point, and `true` is none."""

CANARY_TYPES: dict[str, frozenset[Any]] = {
    "topic": _TEXT,
    "payload": _OBJECT,
    "expect": _OBJECT,
    "timeout": _NUMBER,
    "period": _NUMBER,
}
"""The same for a canary in a record."""

CHANGE_TYPES: dict[str, frozenset[Any]] = {
    "from": _TEXT,
    "reason": _TEXT,
    "at": _NUMBER,
    "previous_revision": _COUNT,
    "note": _TEXT_OR_NONE,
    "removed": _FLAG,
    "trace": _TEXT_OR_NONE,
    "epoch": _COUNT_OR_NONE,
}
"""The same for a record's change."""


def check_names(field: str, names: tuple[Any, ...]) -> None:
    """Check that every name is a text.

    Raises:
        ValueError: If one is not.
    """
    for name in names:
        if type(name) is not str:
            raise ValueError(f"{field} has {name!r:.80}")


def check_counts(field: str, counts: Mapping[str, Any]) -> None:
    """Check that every value is a count.

    Raises:
        ValueError: If one is not.
    """
    for name, value in counts.items():
        if type(value) is not int or not 0 <= value <= MAX_NUMBER:
            raise ValueError(f"{field} has {value!r:.80} for {name:.80}")


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Check that every metric is a number.

    Raises:
        ValueError: If one is not.
    """
    for name, value in metrics.items():
        if type(value) not in _NUMBER:
            raise ValueError(f"the metric {name:.80} is {value!r:.80}")


def check_canaries(canaries: Mapping[str, Any]) -> None:
    """Check that every canary is one that can be run.

    Raises:
        ValueError: If one is not.
    """
    for name, canary in canaries.items():
        if type(canary) is not dict or "topic" not in canary:
            raise ValueError(f"canaries has {canary!r:.80} for {name:.80}")
        for part, types in CANARY_TYPES.items():
            if part in canary and type(canary[part]) not in types:
                raise ValueError(f"canaries.{name:.80}.{part} is {canary[part]!r:.80}")
        if not (0 < canary.get("timeout", 1) <= MAX_CANARY_TIMEOUT and canary.get("period", 1) > 0):
            raise ValueError(f"canaries.{name:.80}: timeout or period is out of range")


def check_free(field: str, values: Iterable[Any]) -> None:
    """Check that free-form values can be written as JSON again.

    Raises:
        ValueError: If one nests too deep.
    """
    if _nests(values, MAX_NESTING):
        raise ValueError(f"{field} nests more than {MAX_NESTING} levels")


def _nests(values: Iterable[Any], levels: int) -> bool:
    """Return whether arrays and objects nest in any of these values by more than so many levels."""
    for value in values:
        kind = type(value)
        if (kind is dict or kind is list) and (
            levels == 0 or _nests(value.values() if kind is dict else value, levels - 1)
        ):
            return True
    return False
