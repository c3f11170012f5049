"""How a message of the contract is written down in a table: type, default and bounds of each field, in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from agents_sdk.protocol.fields import (
    AGENT_ID_PATTERN,
    CAPABILITY_PATTERN,
    HEALTH_SUBJECT_PATTERN,
    NAME_PATTERN,
    RULE_NAME_PATTERN,
    SUBJECT_PATTERN,
)

KINDS = {
    AGENT_ID_PATTERN: "agent id",
    NAME_PATTERN: "name",
    CAPABILITY_PATTERN: "capability",
    HEALTH_SUBJECT_PATTERN: "health subject",
    RULE_NAME_PATTERN: "rule name",
    SUBJECT_PATTERN: "topic",
}
"""The patterns, by the words that stand for them in the tables."""

OBJECTS = {
    "Adopted": "adopted",
    "AgentInfo": "agent",
    "CapabilityCount": "capability count",
    "CapabilityScaling": "capability scaling",
    "ConflictCounts": "conflict counts",
    "ConflictRule": "rule",
    "Connection": "connection",
    "DeclaredCanary": "canary",
    "EndedOrder": "ended order",
    "Evidence": "evidence",
    "FailingCanary": "failing canary",
    "Fault": "fault",
    "Judge": "judge",
    "ListedAssignment": "listed assignment",
    "NearMiss": "near miss",
    "Observed": "observed",
    "RuleViolation": "violation",
    "ScalingOrder": "order",
    "ScalingPolicy": "policy",
}
"""Messages inside of messages, by the words that stand for them in the tables."""

_PLURAL = {
    "agent id": "agent ids",
    "name": "names",
    "capability": "capabilities",
    "status": "statuses",
    "at most 256 characters": "texts of at most 256 characters",
}


@dataclass(frozen=True)
class Row:
    """One field as a table shows it. `default` and `bounds` are empty for fields of replies and events."""

    name: str
    type: str
    default: str = ""
    bounds: str = ""


def request_rows(model: Any) -> dict[str, Row]:
    """Return the fields of a request."""
    schema = TypeAdapter(model).json_schema()
    required, definitions = schema.get("required", ()), schema.get("$defs", {})
    rows = {}
    for name, field in schema.get("properties", {}).items():
        variant, _ = _without_null(_resolved(field, definitions))
        default = "required" if name in required else _default(field.get("default", {}))
        rows[name] = Row(name, _type(variant, definitions), default, _bounds(variant, definitions))
    return rows


def reply_rows(model: Any) -> dict[str, Row]:
    """Return the fields of an answer or an event."""
    schema = TypeAdapter(model).json_schema(mode="serialization", by_alias=True)
    definitions = schema.get("$defs", {})
    rows = {}
    for name, field in schema["properties"].items():
        variant, nullable = _without_null(_resolved(field, definitions))
        rows[name] = Row(name, _type(variant, definitions) + (" or null" if nullable else ""))
    return rows


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference to an enumeration; objects keep their names."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        target = definitions[name]
        if "enum" in target:
            return {**target, "default": field.get("default")}
        return {"object_name": OBJECTS[name]}
    return field


def _without_null(field: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    variants = field.get("anyOf")
    if variants is None:
        return field, False
    kept = [variant for variant in variants if variant.get("type") != "null"]
    nullable = len(kept) < len(variants)
    return (kept[0] if len(kept) == 1 else {"type": "string"}), nullable  # a capability: built-in or a deployment's own


def _type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    field = _resolved(field, definitions)
    if "object_name" in field:
        return str(field["object_name"])
    if field["type"] == "array":
        items, _ = _without_null(_resolved(field["items"], definitions))
        return f"array of {_type(items, definitions)}"
    values = field.get("additionalProperties", _of_named(field))
    if field["type"] == "object" and isinstance(values, dict):
        return f"object of {_type(values, definitions)}"
    return str(field["type"])


def _of_named(field: dict[str, Any]) -> Any:
    """Return what stands under each name of an object whose names have a pattern."""
    return next(iter(field.get("patternProperties", {}).values()), None)


def _default(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def _bounds(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    field = _resolved(field, definitions)
    if field.get("object_name"):
        return ""
    if "enum" in field:
        return ", ".join(field["enum"])
    if field["type"] == "array":
        return _array_bounds(field, definitions)
    if field["type"] == "object":
        return _object_bounds(field)
    if field["type"] == "string":
        return _kind(field)
    return _range(field.get("minimum"), field.get("maximum"))


def _kind(field: dict[str, Any]) -> str:
    if "pattern" in field:
        return KINDS[field["pattern"]]
    return f"at most {field['maxLength']} characters"


def _array_bounds(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    items = _resolved(field["items"], definitions)
    kind = _PLURAL["status" if "enum" in items else _kind(items)]
    # A validator before the bounds makes pydantic call them lengths.
    low = field.get("minItems", field.get("minLength", 0))
    high = field.get("maxItems", field.get("maxLength"))
    if high is None:
        return f"at least {low} of the statuses"
    return f"{low} to {high} {kind}" if low else f"at most {high} {kind}"


def _object_bounds(field: dict[str, Any]) -> str:
    if field.get("additionalProperties") is True:
        return "at most 16 KiB as JSON, 64 levels"  # `JsonObject`, the only free-form object; checked by a function
    if "patternProperties" in field:
        (pattern,) = field["patternProperties"]
        return f"at most {field['maxProperties']} {_PLURAL[KINDS[pattern]]}"
    names = field["propertyNames"]
    return f"at most {field['maxProperties']} names of {names['minLength']} to {names['maxLength']} characters"


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {_number(low)}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    if value == 2**53:
        return "2^53"
    assert value is not None
    return str(int(value)) if float(value).is_integer() else str(value)
